"""Disks in memory: the log's real bytes, what of them is synced, and what a crash leaves.

`DiskImage` is the disk itself, which outlives the process: what was written is in the cache, what
was synced on the platter; a loss of power keeps any part of what was not synced, down to a sector.
`SimDisk` is the door of one process to it, with one thread's worth of group commit as the real one
has: all that waits is written and synced together, while the loop goes on. Must never report what
is not on the platter.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random

from seafoam._core.message import ENTRY_FOUNDING, Entry, HardState
from seafoam._core.wal import (
    Recovery,
    WalBatch,
    WalWriter,
    first_segment,
    next_segment,
    recover,
)
from seafoam._core.wire import SEGMENT_HEADER_BYTES
from sim.clock import MICROSECOND, MILLISECOND, Event, NodeClock, Owner, Timeline
from sim.invariants import Violation

__all__ = ["DiskImage", "SimDisk", "found"]

SECTOR_BYTES, PAGE_BYTES = 512, 4096
IDLE_MARKER_SECONDS = 0.25
#: Of the syncs, some take long; of the long ones some take very long.
LONG_CHANCE, VERY_LONG_CHANCE = 0.05, 0.1

_Append = tuple[WalBatch, list[Entry], HardState | None, Callable[[], None]]


class DiskImage:
    """One node's disk, from its making to its wiping."""

    def __init__(self, node_id: int, generation: int, segment_bytes: int) -> None:
        self.node_id = node_id
        self.segment_bytes = segment_bytes
        header = first_segment(node_id, generation, segment_bytes)
        self._cached = {1: bytearray(header.ljust(segment_bytes, b"\0"))}
        self._synced = {1: bytearray(self._cached[1])}
        self._dirty: dict[tuple[int, int], None] = {}
        #: Terms of the entries on the platter, from entry 1 on, and the state beside them; as told
        #: by whoever synced them, not as read.
        self.terms: list[int] = []
        self.state = HardState(0, 0, 0)
        #: The highest entry that ever was.
        self.index_max = 0
        # Of what was appended and not synced: the lowest entry that it may replace.
        self._replaced_from = 0
        #: There is no room on it.
        self.is_full = False
        #: A sync takes so many times as long.
        self.slowness = 1

    # -- bytes ---------------------------------------------------------------------------------

    def write(self, number: int, offset: int, data: bytes) -> None:
        """Into the cache."""
        self._prepare(number)
        segment = self._cached[number]
        end = offset + len(data)
        if any(segment[offset:end]) or end > len(segment):
            raise Violation(f"a write over what is there, or past its segment: {number}:{offset}")
        segment[offset:end] = data
        for sector in range(offset // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
            self._dirty[number, sector] = None

    def _prepare(self, number: int) -> None:
        """Make a segment and all before it, durably, as a disk does ahead of the writing."""
        if number in self._cached:
            return
        self._prepare(number - 1)
        before = bytes(self._cached[number - 1][:SEGMENT_HEADER_BYTES])
        header = next_segment(before, self.segment_bytes)
        self._cached[number] = bytearray(header.ljust(self.segment_bytes, b"\0"))
        self._synced[number] = bytearray(self._cached[number])

    def read(self, number: int, offset: int, size: int) -> bytes:
        """Out of the cache."""
        return bytes(self._cached[number][offset:offset + size])

    def sync(self) -> None:
        """The cache onto the platter."""
        self._keep(list(self._dirty))

    def _keep(self, sectors: list[tuple[int, int]]) -> None:
        for number, sector in sectors:
            begin = sector * SECTOR_BYTES
            end = begin + SECTOR_BYTES
            self._synced[number][begin:end] = self._cached[number][begin:end]
        self._dirty.clear()

    def lose_power(self, rng: Random) -> int:
        """Keep of what was not synced any part; how many sectors were lost."""
        dirty = list(self._dirty)
        way = rng.randrange(5)
        if way == 0:
            kept = []
        elif way == 1:
            kept = dirty
        elif way == 2:
            kept = dirty[:rng.randint(0, len(dirty))]
        else:
            # By sector or by page, each with the same chance, which is anything.
            unit = SECTOR_BYTES if way == 3 else PAGE_BYTES
            chance = rng.random()
            units: dict[tuple[int, int], bool] = {}
            for number, sector in dirty:
                units.setdefault((number, sector * SECTOR_BYTES // unit), rng.random() < chance)
            kept = [
                (number, sector) for number, sector in dirty
                if units[number, sector * SECTOR_BYTES // unit]
            ]
        self._keep(kept)
        self._cached = {number: bytearray(data) for number, data in self._synced.items()}
        return len(dirty) - len(kept)

    # -- logs ----------------------------------------------------------------------------------

    def told_synced(self, entries: list[Entry], state: HardState | None) -> None:
        """A batch is on the platter."""
        if entries:
            del self.terms[entries[0].index - 1:]
            self.terms += [entry.term for entry in entries]
            self.index_max = max(self.index_max, len(self.terms))
        if state is not None:
            self.state = state

    def told_waiting(self, firsts: list[int]) -> None:
        """Appended and not synced are only entries from these on."""
        self._replaced_from = min(firsts, default=0)

    @property
    def is_dirty(self) -> bool:
        """Whether a loss of power would take something."""
        return bool(self._dirty)

    def holds(self, index: int, term: int) -> bool:
        """Whether that entry is on the platter."""
        return 0 < index <= len(self.terms) and self.terms[index - 1] == term

    def recover(self) -> Recovery:
        """What the log holds, durable, as a starting node finds it; nothing synced is missing."""
        self.sync()
        recovery = recover(
            [(number, bytes(data), len(data)) for number, data in sorted(self._synced.items())],
            self.node_id,
        )
        for number, begin, end in recovery.stale:
            self._cached[number][begin:end] = bytes(end - begin)
            self._synced[number][begin:end] = bytes(end - begin)
        for number in [n for n in self._synced if n > recovery.segment_number + 1]:
            del self._cached[number], self._synced[number]
        terms = [entry.term for entry in recovery.entries]
        sure = self._replaced_from - 1 if self._replaced_from else len(self.terms)
        state = recovery.hard_state
        if terms[:sure] != self.terms[:sure]:
            raise Violation(f"synced entries are gone: {terms[:sure]}, were {self.terms[:sure]}")
        if (state.term, state.commit_index) < (self.state.term, self.state.commit_index):
            raise Violation(f"a synced {self.state} is gone: {state}")
        if state.term == self.state.term and self.state.vote not in (0, state.vote):
            raise Violation(f"a synced vote is gone: {state}, was {self.state}")
        self.terms, self.state, self._replaced_from = terms, state, 0
        self.index_max = max(self.index_max, len(terms))
        return recovery


class SimDisk:
    """`seafoam.ports.Disk` of one process."""

    def __init__(
        self, image: DiskImage, recovery: Recovery, timeline: Timeline, rng: Random, start_id: int
    ) -> None:
        self.image = image
        self.node_id = image.node_id
        self.start_id = start_id
        self.full = image.is_full
        self.seen: Counter[str] = Counter()
        self.on_append: Callable[[list[Entry]], None] = lambda entries: None
        #: Told how long the sync that has begun will take.
        self.on_busy: Callable[[int], None] = lambda sync_ns: None
        self._timeline = timeline
        self._rng = rng
        self._writer = WalWriter(recovery, image.segment_bytes)
        #: Everything appended, as the log has it.
        self.entries: list[Entry] = list(recovery.entries)
        # What the thread has not begun with, and what it is busy with.
        self._queued: deque[_Append] = deque()
        self._taken: list[_Append] = []
        self._is_busy = False
        self._is_gone = False
        self._reports = 0
        self._marker: Event | None = None

    def open(self, owner: Owner, clock: NodeClock) -> None:
        """Belong to this process from here on."""
        self._owner = owner
        self._clock = clock
        self._await_idleness()

    # -- the door ------------------------------------------------------------------------------

    def has_room(self, more_bytes: int) -> bool:
        return not self.full

    def retry_prepare(self) -> None:
        self.full = self.image.is_full

    def status(self) -> dict[str, object]:
        return {}

    def append(
        self, entries: list[Entry], hard_state: HardState | None, on_durable: Callable[[], None]
    ) -> None:
        if not entries and hard_state is None:
            raise Violation("an append of nothing")
        self._cancel_marker()
        self.on_append(entries)
        if entries:
            if entries[0].index <= len(self.entries):
                self.seen["conflicting entries cut off"] += 1
            del self.entries[entries[0].index - 1:]
            self.entries += entries
        batch = self._writer.append(entries, hard_state)
        self._queued.append((batch, list(entries), hard_state, on_durable))
        self._tell_waiting()
        self._begin()

    def read_entries(self, first_index: int, last_index: int, bytes_max: int) -> list[Entry]:
        self.seen["entries read back from disk"] += 1
        found = self._writer.read(first_index, last_index, bytes_max, self.image.read)
        if [repr(e) for e in found] != [
                repr(e) for e in self.entries[first_index - 1:first_index - 1 + len(found)]]:
            raise Violation(f"entries {first_index} to {last_index} are read as {found}")
        return found

    # -- the thread ----------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._is_busy and self._queued:
            self._is_busy = True
            delay_ns = self._rng.randrange(1 * MICROSECOND, 20 * MICROSECOND)
            self._timeline.after(delay_ns, None, "disk writes", self._write)

    def _write(self) -> None:
        if self._is_gone:
            return
        taken = self._taken = list(self._queued)
        self._queued.clear()
        self._put(taken)
        sync_ns = self._sync_ns()
        self._timeline.after(sync_ns, None, "disk synced", lambda: self._synced(taken))
        self.on_busy(sync_ns)

    def _tell_waiting(self) -> None:
        self.image.told_waiting([
            entries[0].index for _, entries, _, _ in [*self._taken, *self._queued] if entries
        ])

    def _put(self, taken: list[_Append]) -> None:
        for batch, _, _, _ in taken:
            for number, offset, data in batch.writes:
                self.image.write(number, offset, data)

    def _sync_ns(self) -> int:
        rng = self._rng
        sync_ns = rng.randrange(50 * MICROSECOND, 3 * MILLISECOND)
        if rng.random() < LONG_CHANCE:
            sync_ns *= 100 if rng.random() < VERY_LONG_CHANCE else 10
        return sync_ns * self.image.slowness

    def _synced(self, taken: list[_Append]) -> None:
        if self._is_gone:
            return
        self.image.sync()
        for _, entries, state, _ in taken:
            self.image.told_synced(entries, state)
        self._taken = []
        self._tell_waiting()
        self.seen["syncs"] += 1
        if len(taken) > 1:
            self.seen["syncs shared by several appends"] += 1
        self._is_busy = False
        self._begin()
        self._reports += 1
        delay_ns = self._rng.randrange(1 * MICROSECOND, 50 * MICROSECOND)
        self._timeline.after(delay_ns, self._owner, "durable", lambda: self._report(taken))

    def _report(self, taken: list[_Append]) -> None:
        self._reports -= 1
        for batch, _, _, on_durable in taken:
            self._writer.synced_to(batch.end)
            on_durable()
        if not self._is_busy and not self._reports:
            self._await_idleness()

    def _await_idleness(self) -> None:
        if self._marker is None:
            self._marker = self._clock.call_later(IDLE_MARKER_SECONDS, self._mark_idleness)

    def _mark_idleness(self) -> None:
        self._marker = None
        if self._is_busy or self._reports:
            return
        batch = self._writer.idle_marker()
        if batch is not None:
            self._queued.append((batch, [], None, lambda: None))
            self._begin()

    def _cancel_marker(self) -> None:
        if self._marker is not None:
            self._marker.cancel()
            self._marker = None

    # -- ends ----------------------------------------------------------------------------------

    def kill(self) -> None:
        """The process is no more: of what still waited, a part was written before."""
        if self._queued or self._taken:
            self.seen["crashes with unsynced data"] += 1
        self._is_gone = True
        waiting = list(self._queued)
        self._put(waiting[:self._rng.randint(0, len(waiting))])
        self._queued.clear()


def found(image: DiskImage, founding: Entry) -> Recovery:
    """Write entry 1 of an empty log, committed; what the log holds then."""
    if founding.index != 1 or founding.kind != ENTRY_FOUNDING:
        raise Violation(f"no founding: {founding}")
    writer = WalWriter(image.recover(), image.segment_bytes)
    state = HardState(founding.term, 0, 1)
    for number, offset, data in writer.append([founding], state).writes:
        image.write(number, offset, data)
    image.sync()
    image.told_synced([founding], state)
    return image.recover()
