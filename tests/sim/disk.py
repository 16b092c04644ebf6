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
from pathlib import Path
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
from seafoam.errors import DataDamaged, StartError
from seafoam.ports import SnapshotInfo, SnapshotSource
from sim.clock import MICROSECOND, MILLISECOND, Event, NodeClock, Owner, Timeline
from sim.invariants import Violation
from sim.snapshots import Handle, SnapshotFiles, check

__all__ = ["PIECE_BYTES", "DiskImage", "SimDisk", "found"]

SECTOR_BYTES, PAGE_BYTES = 512, 4096
PIECE_BYTES = 3_000
IDLE_MARKER_SECONDS = 0.25
#: Of the syncs, some take long; of the long ones some take very long.
LONG_CHANCE, VERY_LONG_CHANCE = 0.05, 0.1

Base = tuple[int, int]
_Append = tuple[WalBatch, list[Entry], HardState | None, Base | None, Callable[[], None]]


class DiskImage:
    """One node's disk, from its making to its wiping."""

    def __init__(self, node_id: int, generation: int, segment_bytes: int) -> None:
        self.node_id = node_id
        self.segment_bytes = segment_bytes
        header = first_segment(node_id, generation, segment_bytes)
        self._cached = {1: bytearray(header.ljust(segment_bytes, b"\0"))}
        self._synced = {1: bytearray(self._cached[1])}
        self._dirty: dict[tuple[int, int], None] = {}
        # Segments of which a part is missing, as they were.
        self._missing: dict[int, bytearray] = {}
        #: Terms of the entries on the platter, from behind `base` on, and the state beside them;
        #: as told by whoever synced them, not as read.
        self.base = (0, 0)
        self.terms: list[int] = []
        self.state = HardState(0, 0, 0)
        #: The highest entry that ever was.
        self.index_max = 0
        # Of what was appended and not synced: the lowest entry that it may replace.
        self._replaced_from = 0
        #: The newest snapshot and its file; files only appear whole, as they do by renaming.
        self.snapshot: SnapshotInfo | None = None
        self.snapshot_data = b""
        #: What was received of another node's snapshot: its id and how much of the file.
        self.part: tuple[int, bytearray] = (0, bytearray())
        #: There is no room on it.
        self.is_full = False
        #: What is sent of a snapshot at once, at most.
        self.piece_bytes = PIECE_BYTES
        #: So much longer takes it to check the next snapshot that was received.
        self.check_ns = 0
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
        if number < min(self._cached):
            raise Violation(f"segment {number} was given up, and is written to")
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
        if rng.random() < 0.5:
            self._spoil_part(rng)
        self._cached = {number: bytearray(data) for number, data in self._synced.items()}
        return len(dirty) - len(kept)

    def _spoil_part(self, rng: Random) -> None:
        """Nobody syncs what is being received: any of it may be other than it was."""
        _, data = self.part
        if data:
            del data[rng.randint(0, len(data)):]
            for _ in range(rng.randrange(3)):
                if data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)

    def drop(self, number: int) -> None:
        """Give a segment up, the first."""
        if number != min(self._cached):
            raise Violation(f"segment {number} is given up before those in front of it")
        del self._cached[number], self._synced[number]
        for place in [place for place in self._dirty if place[0] == number]:
            del self._dirty[place]

    # -- damage --------------------------------------------------------------------------------

    def used(self) -> list[tuple[int, int]]:
        """The segments, each with where its bytes that are not zero end."""
        return [(number, len(data.rstrip(b"\0"))) for number, data in self._synced.items()]

    def byte(self, number: int, offset: int) -> int:
        """One byte of the platter."""
        return self._synced[number][offset]

    def change(self, number: int, offset: int, data: bytes) -> None:
        """The platter holds something else than was written to it."""
        for segment in (self._cached[number], self._synced[number]):
            segment[offset:offset + len(data)] = data

    def miss(self, number: int, length: int) -> None:
        """Of a segment there is only so much, or nothing at all, until it is put back."""
        self._missing[number] = self._synced.pop(number)
        if length:
            self._synced[number] = self._missing[number][:length]

    def put_back_missing(self) -> None:
        """What was missing is there again."""
        self._synced.update(self._missing)
        self._missing.clear()

    def platter(self) -> tuple[dict[int, bytes], bytes]:
        """What a disk that nobody uses holds."""
        return {number: bytes(data) for number, data in self._synced.items()}, self.snapshot_data

    def put_back(self, platter: tuple[dict[int, bytes], bytes]) -> None:
        """Hold what was held then."""
        segments, self.snapshot_data = platter
        self._cached = {number: bytearray(data) for number, data in segments.items()}
        self._synced = {number: bytearray(data) for number, data in segments.items()}

    # -- snapshots -----------------------------------------------------------------------------

    def keep_snapshot(self, data: bytes) -> SnapshotInfo:
        """A whole file is on the platter, and takes the place of the one there was."""
        head, _ = check(data)
        info = SnapshotInfo(head.file_id, head.index, head.term, len(data), Path())
        if self.snapshot is not None and self.snapshot.index >= info.index:
            raise Violation(f"{info} takes the place of {self.snapshot}")
        self.snapshot, self.snapshot_data = info, data
        self.index_max = max(self.index_max, info.index)
        return info

    # -- logs ----------------------------------------------------------------------------------

    def told_synced(
        self, entries: list[Entry], state: HardState | None, base: Base | None = None
    ) -> None:
        """A batch is on the platter."""
        if base is not None:
            self.base, self.terms = base, []
        if entries:
            del self.terms[entries[0].index - 1 - self.base[0]:]
            self.terms += [entry.term for entry in entries]
            self.index_max = max(self.index_max, self.base[0] + len(self.terms))
        if state is not None:
            self.state = state

    def told_waiting(self, firsts: list[int]) -> None:
        """Appended and not synced are only entries from these on."""
        self._replaced_from = min(firsts, default=0)

    @property
    def last_index(self) -> int:
        """The last entry on the platter, or in a snapshot."""
        reached = self.snapshot.index if self.snapshot is not None else 0
        return max(reached, self.base[0] + len(self.terms))

    @property
    def is_receiving(self) -> bool:
        """Whether a part of another node's snapshot is on it."""
        return bool(self.part[1])

    @property
    def is_founded(self) -> bool:
        """Whether a log has begun on it."""
        return bool(self.terms) or self.base != (0, 0)

    @property
    def is_dirty(self) -> bool:
        """Whether a loss of power would take something."""
        return bool(self._dirty)

    def holds(self, index: int, term: int) -> bool:
        """Whether that entry is on the platter, or a snapshot that reaches it."""
        if self.snapshot is not None and index <= self.snapshot.index:
            return True
        place = index - self.base[0] - 1
        return 0 <= place < len(self.terms) and self.terms[place] == term

    def find(self) -> tuple[Recovery, SnapshotInfo | None]:
        """What the platter holds: the log, and the snapshot if it is whole.

        DataDamaged where a node must not start from it.
        """
        newest, damage = self.snapshot, None
        try:
            if newest is not None:
                check(self.snapshot_data)
        except DataDamaged as error:
            newest, damage = None, error
        recovery = recover(
            [(number, bytes(data), len(data)) for number, data in sorted(self._synced.items())],
            self.node_id, None if newest is None else (newest.index, newest.term),
        )
        if damage is not None and self.snapshot is not None \
                and recovery.hard_state.commit_index < self.snapshot.index:
            raise damage
        return recovery, newest

    def recover(self) -> Recovery:
        """What the log holds, durable, as a starting node finds it; nothing synced is missing."""
        self.sync()
        recovery, newest = self.find()
        if newest is None:
            self.snapshot, self.snapshot_data = None, b""
        for number in recovery.unneeded:
            self.drop(number)
        for number, begin, end in recovery.stale:
            self._cached[number][begin:end] = bytes(end - begin)
            self._synced[number][begin:end] = bytes(end - begin)
        for number in [n for n in self._synced if n > recovery.segment_number + 1]:
            del self._cached[number], self._synced[number]
        prepared = recovery.segment_number + 1
        if prepared in self._synced:
            self.change(prepared, 0, next_segment(recovery.header, self.segment_bytes))
        terms = [entry.term for entry in recovery.entries]
        state = recovery.hard_state
        self._compare(recovery.base[0], terms)
        if (state.term, state.commit_index) < (self.state.term, self.state.commit_index):
            raise Violation(f"a synced {self.state} is gone: {state}")
        if state.term == self.state.term and self.state.vote not in (0, state.vote):
            raise Violation(f"a synced vote is gone: {state}, was {self.state}")
        self.base, self.terms, self.state, self._replaced_from = recovery.base, terms, state, 0
        self.index_max = max(self.index_max, self.base[0] + len(terms))
        return recovery

    def _compare(self, base_index: int, terms: list[int]) -> None:
        """What was synced is there, or a snapshot that reaches it."""
        end = self._replaced_from or self.base[0] + len(self.terms) + 1
        begin = self.base[0] + 1
        if self.snapshot is not None:
            begin = max(begin, self.snapshot.index + 1)
        for index in range(begin, end):
            place = index - base_index - 1
            found = terms[place] if 0 <= place < len(terms) else 0
            if found != self.terms[index - self.base[0] - 1]:
                raise Violation(f"synced entry {index} is gone: {self.base} {self.terms}, found "
                                f"{base_index} {terms}")


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
        self.files = SnapshotFiles(image, timeline, rng)
        self.on_append: Callable[[list[Entry]], None] = lambda entries: None
        #: Told that segments were dropped.
        self.on_dropped: Callable[[], None] = lambda: None
        #: Told how long the sync that has begun will take.
        self.on_busy: Callable[[int], None] = lambda sync_ns: None
        self._timeline = timeline
        self._rng = rng
        self._writer = WalWriter(recovery, image.segment_bytes)
        #: Everything appended behind the base, as the log has it, and what of it is behind the
        #: newest snapshot.
        self.base = recovery.base
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
        self._owner = self.files.owner = owner
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
        self,
        entries: list[Entry],
        hard_state: HardState | None,
        on_durable: Callable[[], None],
        base: Base | None = None,
    ) -> None:
        if not entries and hard_state is None and base is None:
            raise Violation("an append of nothing")
        self._cancel_marker()
        if base is not None:
            self._rebase(base)
        self.on_append(entries)
        if entries:
            if entries[0].index <= self.base[0] + len(self.entries):
                self.seen["conflicting entries cut off"] += 1
            del self.entries[entries[0].index - 1 - self.base[0]:]
            self.entries += entries
        batch = self._writer.append(entries, hard_state, base)
        self._queued.append((batch, list(entries), hard_state, base, on_durable))
        self._tell_waiting()
        self._begin()

    def _rebase(self, base: Base) -> None:
        newest = self.image.snapshot
        if newest is None or (newest.index, newest.term) < base:
            raise Violation(f"the log begins anew at {base}, the newest snapshot is {newest}")
        self.seen["logs begun anew"] += 1
        self.base, self.entries = base, []

    def read_entries(self, first_index: int, last_index: int, bytes_max: int) -> list[Entry]:
        self.seen["entries read back from disk"] += 1
        found = self._writer.read(first_index, last_index, bytes_max, self.image.read)
        begin = first_index - 1 - self.base[0]
        if begin < 0 or [repr(e) for e in found] != [
                repr(e) for e in self.entries[begin:begin + len(found)]]:
            raise Violation(f"entries {first_index} to {last_index} are read as {found}")
        return found

    # -- snapshots -----------------------------------------------------------------------------

    @property
    def snapshot(self) -> SnapshotInfo | None:
        return self.image.snapshot

    @property
    def log_bytes(self) -> int:
        newest = self.image.snapshot
        return self._writer.bytes_behind(newest.index if newest is not None else 0)

    @property
    def first_index(self) -> int:
        return self._writer.first_index

    def drop_log(self, index: int) -> None:
        for number in self._writer.droppable(index):
            self._writer.dropped(number)
            self.image.drop(number)
            self.seen["segments dropped"] += 1
            self.on_dropped()

    def save_snapshot(
        self, source: SnapshotSource, on_saved: Callable[[SnapshotInfo | None], None]
    ) -> None:
        self.files.save(source, on_saved)

    def open_snapshot(self, info: SnapshotInfo) -> Handle:
        if info != self.image.snapshot:
            raise Violation(f"{info} is opened, and there is {self.image.snapshot}")
        return Handle(self.image.snapshot_data)

    def read_snapshot(self, file_id: int, offset: int, bytes_max: int) -> bytes:
        return self.files.read(file_id, offset, bytes_max)

    def receive_snapshot(self, file_id: int, offset: int, data: bytes, size_bytes: int) -> int:
        return self.files.receive(file_id, offset, data)

    def finish_receiving(
        self, file_id: int, on_ready: Callable[[SnapshotInfo | StartError], None]
    ) -> None:
        self.files.finish(file_id, on_ready)

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
            base[0] + 1 if base is not None else entries[0].index
            for _, entries, _, base, _ in [*self._taken, *self._queued]
            if entries or base is not None
        ])

    def _put(self, taken: list[_Append]) -> None:
        for batch, *_ in taken:
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
        for _, entries, state, base, _ in taken:
            self.image.told_synced(entries, state, base)
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
        for batch, _, _, _, on_durable in taken:
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
            self._queued.append((batch, [], None, None, lambda: None))
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
        self._is_gone = self.files.is_gone = True
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
