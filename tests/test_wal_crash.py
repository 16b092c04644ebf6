"""Crashes of the log against a model: what is left was there once, and no cut goes unseen."""

from __future__ import annotations

import os
import random

import pytest

from seafoam._core.message import HardState
from seafoam._core.wal import (
    Damage,
)
from wal_log import (
    MemoryLog,
    meaning,
    random_append,
    recover_from,
)

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))

# -- crashes against a model --------------------------------------------------------------------


class Model:
    """What the log means after each record that was written, and how many are synced.

    A moment is (base, entries behind it, hard state). The snapshot is durable once it is there.
    """

    def __init__(self) -> None:
        self.history = [((0, 0), [], HardState(0, 0, 0))]
        self.synced_count = 0
        self.snapshot: tuple[int, int] | None = None

    def write(self, new_entries, hard_state, base=None) -> None:
        own_base, log, state = self.history[-1]
        if base is not None:
            own_base, log = base, []
            state = HardState(state.term, state.vote, base[0])
            self.history.append((own_base, log, state))
        for e in new_entries:
            log = [*log[: e.index - 1 - own_base[0]], e]
            self.history.append((own_base, log, state))
        if hard_state is not None:
            self.history.append((own_base, log, hard_state))

    def view(self, moment: int):
        """What a recovery beside the snapshot must say of that moment."""
        base, log, state = self.history[moment]
        if self.snapshot is not None:
            index, term = self.snapshot
            terms = {base[0]: base[1]} | {e.index: e.term for e in log}
            log = [e for e in log if e.index > index] if terms.get(index) == term else []
            base = self.snapshot
        last_term = log[-1].term if log else base[1]
        term, vote = (state.term, state.vote) if last_term <= state.term else (last_term, 0)
        return base, log, HardState(term, vote, max(state.commit_index, base[0]))

    def accepts(self, recovery) -> bool:
        """Whether there was such a moment, not older than the last sync."""
        return any(meaning(recovery) == self.view(moment)
                   for moment in range(len(self.history) - 1, self.synced_count - 1, -1))


def random_snapshot(generator, log, model):
    """A snapshot of the node's own, of what it has applied: durable and committed entries."""
    base, durable, state = model.history[model.synced_count]
    if state.commit_index > base[0]:
        index = generator.randint(base[0] + 1, state.commit_index)
        if model.snapshot is None or index > model.snapshot[0]:
            model.snapshot = log.snapshot = index, durable[index - base[0] - 1].term
    if model.snapshot is not None:
        log.drop(model.snapshot[0], generator.choice((None, 0, 1)))


def random_base(generator, log, model):
    """Another's snapshot, received: beyond this log, or of another term than it has there."""
    base, entries, state = model.history[-1]
    last = base[0] + len(entries)
    if state.commit_index < last and generator.random() < 0.5:
        index = generator.randint(state.commit_index + 1, last)
        term = entries[index - base[0] - 1].term + 1
    else:
        index, term = last + generator.randint(1, 3), state.term + generator.randint(1, 2)
    term = max(term, entries[-1].term if entries else base[1])
    if model.snapshot is not None and index <= model.snapshot[0]:
        return None
    model.snapshot = log.snapshot = index, term
    return model.snapshot


def crash(generator, log, unsynced, block_bytes):
    """Undo any subset of the blocks that were written since the last sync."""
    mode = generator.choice(("subset", "prefix", "nothing", "everything"))
    kept = True
    for number, offset, data in unsynced:
        at = offset
        while at < offset + len(data):
            end = min((at // block_bytes + 1) * block_bytes, offset + len(data))
            kept = {"subset": generator.random() < 0.6, "nothing": False, "everything": True,
                    "prefix": kept and generator.random() < 0.9}[mode]
            if not kept:
                log.segments[number][at:end] = bytes(end - at)
            at = end


def crash_in_the_making(generator, log):
    """The segment behind all others as a crash may leave it while it was being made."""
    number = max(log.segments) + 1
    log.prepare(number)
    whole = bytes(log.segments[number])
    log.segments[number] = bytearray(generator.choice((
        whole, bytes(len(whole)), bytes(generator.randrange(len(whole))),
        whole[:generator.randrange(48)].ljust(len(whole), b"\0"),
        bytes(16) + whole[16:],
    )))


def no_cut_goes_unnoticed(generator, log, recovery):
    """What a node may have acknowledged is missed when it is cut or lost, if it was needed."""
    number = generator.randint(min(log.segments), recovery.segment_number)
    lost = log.copy()
    del lost[number]
    cut = log.copy()
    del cut[number][generator.randrange(len(cut[number])):]
    blank = log.copy()
    blank[number] = bytearray(generator.choice((0, 100, len(blank[number]))))
    for segments in (lost, cut, blank):
        try:
            mended = recover_from(segments, snapshot=log.snapshot)
        except Damage as damage:
            # Without the first, the one behind it is where the log does not begin.
            assert damage.segment_number == number or number == min(log.segments)
        else:
            assert log.snapshot is not None and number < recovery.segment_number
            assert meaning(mended) == meaning(recovery)


def is_rebased(log, generator, model):
    """Sometimes another's snapshot comes; what the log must write then, and what it means."""
    base = random_base(generator, log, model) if generator.random() < 0.04 else None
    if base is None:
        return random_append(generator, *model.history[-1]), None
    # Raft goes on from what the snapshot left it with.
    term = max(model.history[-1][2].term, base[1])
    return ([], HardState(term, 0, base[0])
            if term > model.history[-1][2].term else None), base


@pytest.mark.parametrize("has_snapshots", [False, True])
@pytest.mark.parametrize("seed", range(5000 if SOAK else 150))
def test_any_crash_leaves_a_moment_not_older_than_the_last_sync(seed, has_snapshots):
    generator = random.Random(seed)
    log = MemoryLog(generator.choice((512, 1024, 4096)))
    model = Model()
    for _ in range(6):  # lives of the same log
        unsynced, ends = [], []
        for _ in range(generator.randint(1, 25)):
            (new, state), base = (
                is_rebased(log, generator, model) if has_snapshots
                else (random_append(generator, *model.history[-1]), None))
            batch = log.append(new, state, base, synced=False)
            model.write(new, state, base)
            unsynced += batch.writes
            ends.append((batch.end, len(model.history) - 1))
            if generator.random() < 0.3:
                end, moment = ends[-1]
                log.writer.synced_to(end)
                model.synced_count = moment
                unsynced, ends = [], []
                if generator.random() < 0.3 and (marker := log.writer.idle_marker()):
                    log.write(marker, synced=False)
                    unsynced += marker.writes
            if has_snapshots and generator.random() < 0.1:
                random_snapshot(generator, log, model)
        crash(generator, log, unsynced, generator.choice((16, 64, 512)))
        if generator.random() < 0.5:
            crash_in_the_making(generator, log)
        recovery = log.restart()
        assert model.accepts(recovery), (recovery, model.synced_count, len(model.history))
        no_cut_goes_unnoticed(generator, log, recovery)
        model.history = [meaning(recovery)]
        model.synced_count = 0
