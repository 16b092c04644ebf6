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
    entry,
    recover_from,
)

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))

# -- crashes against a model --------------------------------------------------------------------


class Model:
    """What the log means after each record that was written, and how many are synced."""

    def __init__(self) -> None:
        self.history = [([], HardState(0, 0, 0))]
        self.synced_count = 0

    def write(self, new_entries, hard_state) -> None:
        log, state = self.history[-1]
        for e in new_entries:
            log = [*log[: e.index - 1], e]
            self.history.append((log, state))
        if hard_state is not None:
            self.history.append((log, hard_state))

    def accepts(self, recovery) -> int | None:
        """Which moment this is, the latest if several; None where there was no such moment."""
        for moment in range(len(self.history) - 1, self.synced_count - 1, -1):
            log, state = self.history[moment]
            if log and log[-1].term > state.term:
                state = HardState(log[-1].term, 0, state.commit_index)
            if recovery.entries == log and recovery.hard_state == state:
                return moment
        return None


def random_append(generator, log, state):
    """Entries and a hard state as Raft would write them: conflicts only above the commit index."""
    term = state.term + (generator.random() < 0.3)
    # A follower's log may end in a term that its own has not been written for.
    term = max(term, log[-1].term if log else 0)
    first = len(log) + 1
    if term > state.term and generator.random() < 0.5:
        first = generator.randint(state.commit_index + 1, len(log) + 1)
    count = generator.choice((0, 1, 1, 2, 5))
    new = [entry(first + i, term, generator.randbytes(generator.choice((0, 8, 90))))
           for i in range(count)]
    last = first + count - 1 if new else len(log)
    if new and generator.random() < 0.4:
        return new, None
    commit_index = generator.randint(state.commit_index, max(last, state.commit_index))
    vote = state.vote if term == state.term and state.vote else generator.randint(0, 3)
    return new, HardState(term, vote, commit_index)


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
    """Whatever holds something a node may have acknowledged is missed when it is cut or lost."""
    number = generator.randint(1, recovery.segment_number)
    lost = log.copy()
    del lost[number]
    cut = log.copy()
    del cut[number][generator.randrange(len(cut[number])):]
    blank = log.copy()
    blank[number] = bytearray(generator.choice((0, 100, len(blank[number]))))
    for segments in (lost, cut, blank):
        with pytest.raises(Damage) as caught:
            recover_from(segments)
        assert caught.value.segment_number == number


@pytest.mark.parametrize("seed", range(5000 if SOAK else 150))
def test_any_crash_leaves_a_moment_not_older_than_the_last_sync(seed):
    generator = random.Random(seed)
    log = MemoryLog(generator.choice((512, 1024, 4096)))
    model = Model()
    for _ in range(6):  # lives of the same log
        unsynced, ends = [], []
        for _ in range(generator.randint(1, 25)):
            new, state = random_append(generator, *model.history[-1])
            batch = log.append(new, state, synced=False)
            model.write(new, state)
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
        crash(generator, log, unsynced, generator.choice((16, 64, 512)))
        if generator.random() < 0.5:
            crash_in_the_making(generator, log)
        recovery = log.restart()
        moment = model.accepts(recovery)
        assert moment is not None, (recovery, model.synced_count, len(model.history))
        no_cut_goes_unnoticed(generator, log, recovery)
        model.history = [(recovery.entries[:], recovery.hard_state)]
        model.synced_count = 0
