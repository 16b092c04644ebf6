"""The disk: a node's log in its data directory, one sync for all that waits.

Implements `seafoam.ports.Disk` on a `DataDirectory`, a `WalWriter`, the disk thread and a
`SnapshotStore`. Owns the segments' descriptors and the callbacks of what is not durable yet. Must
never call one before its bytes and all bytes before them are synced, never write past what is
reserved, and never go on after a write or sync that failed.

The next segment is always prepared while the current one is written, by a thread of its own, so
that a rotation waits for nothing and room is known ahead: what fits into the current and the
prepared segment cannot meet a full disk. The disk is `full` from the moment that falls below a
reserve, which only happens where the next segment cannot be prepared for want of room or of
descriptors, or is asked for faster than it can be prepared.

Snapshots are written by one more thread, and those received checked by another: neither a large
file's syncs nor its checksums may wait for a segment, or a segment for them.

    append -> WalWriter -> queued in the disk thread ------------------> synced -> on_durable
                    \\--> waiting, only while its segment is prepared --/
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from seafoam._core import limits
from seafoam._core.disk_loop import DiskCounters, DiskLoop
from seafoam._core.message import ENTRY_FOUNDING, Entry, HardState
from seafoam._core.wal import Recovery, WalBatch, WalWriter, next_segment, segment_name
from seafoam._core.wire import FRONT_BYTES, RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES
from seafoam.data_directory import WAL, DataDirectory, naming, sync_data, write_durably
from seafoam.errors import DataDamaged, DiskFailed, Refusal, SnapshotLost, StartError, ensure
from seafoam.ports import SnapshotInfo, SnapshotSource
from seafoam.snapshot_store import OpenSnapshot, SnapshotStore

__all__ = ["FileDisk"]

#: How long nothing was written before the marker that says so: long enough not to sync twice for
#: each write of a slow client, short against how long a disk needs to go bad.
IDLE_MARKER_SECONDS = 0.25
#: The part of a segment that only what was accepted before, terms and votes may use. Half of one
#: holds the largest record and as much again.
RESERVE_DIVISOR = 2

#: What a system answers that has no room, or no descriptor to spare: not now. Everything else is a
#: failure.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
NOT_NOW = NO_ROOM | {errno.EMFILE, errno.ENFILE}

logger = logging.getLogger("seafoam.disk")

ensure(limits.WAL_SEGMENT_BYTES // RESERVE_DIVISOR >= 2 * limits.WAL_RECORD_BYTES_MAX,
       "the reserve must hold the largest record and as much again")


class FileDisk:
    """A node's disk, from `open` to `close`, on one event loop.

    `on_failure` is called once, with a DiskFailed, when a write or sync has failed.
    """

    def __init__(
        self,
        path: Path,
        *,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[DiskFailed], None],
        segment_bytes: int = limits.WAL_SEGMENT_BYTES,
    ) -> None:
        self.path = path.absolute()
        self.node_id = 0
        self.start_id = _random_id()
        self._loop = loop
        self._on_failure = on_failure
        self._directory = DataDirectory(self.path, segment_bytes)
        self._store = SnapshotStore(self.path)
        self._segment_bytes = segment_bytes
        self._reserve_bytes = segment_bytes // RESERVE_DIVISOR
        self._failure: DiskFailed | None = None
        self._is_open = False
        self._is_unfounded = False
        # What is queued in the disk thread, by ticket, and what waits for its segment.
        self._pending: deque[tuple[int, WalBatch, Callable[[], None] | None]] = deque()
        self._waiting: deque[tuple[WalBatch, Callable[[], None] | None]] = deque()
        # Segments that may be written to: the current one, a prepared one, and those before the
        # current whose last bytes are not synced yet.
        self._fds: dict[int, int] = {}
        # Of the newest of them.
        self._header = b""
        self._preparing: Future[int] | None = None
        self._preparer = ThreadPoolExecutor(1, thread_name_prefix="seafoam-prepare")
        self._lacks_next = False
        self._marker_timer: asyncio.TimerHandle | None = None
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="seafoam-snapshot")
        self._receiver = ThreadPoolExecutor(1, thread_name_prefix="seafoam-receive")
        self._is_saving = False
        self._lacks_snapshot = False

    # -- opening and closing -------------------------------------------------------------------

    def open(self) -> Recovery:
        """Take the directory, making it where there is none; what its log holds, all durable.

        StartError or DataDamaged, in one sentence, where it cannot be used; nothing is left open.
        """
        try:
            self._directory.lock()
            self.node_id = self._directory.node_id(_random_id())
            return self._begin()
        except OSError as error:
            self._let_go()
            where = error.filename or self.path
            raise StartError(
                f"the data directory {self.path} cannot be used: {where}: {error.strerror}"
            ) from None
        except DiskFailed as error:
            self._let_go()
            raise StartError(f"the disk thread cannot be started: {error}") from None
        except BaseException:
            self._let_go()
            raise

    def _begin(self) -> Recovery:
        recovery = self._recover()
        if recovery.torn is not None:
            logger.warning(
                "cut what was being written when the node last ended: %d bytes behind offset %d "
                "of %s", sum(end - begin for _, begin, end in recovery.stale), recovery.offset,
                segment_name(recovery.segment_number),
            )
        # Empty or not by its entries: an earlier founding may have left its first marker.
        self._is_unfounded = not recovery.entries and self.snapshot is None
        current = recovery.segment_number
        self._header = recovery.header
        self._fds[current] = self._directory.open_segment(
            current, self._header, recovery.segment_bytes
        )
        if self._directory.has_segment(current + 1):
            self._reopen_prepared(current + 1)
        self._writer = WalWriter(recovery, self._segment_bytes)
        self._thread = DiskLoop()
        self._loop.add_reader(self._thread.wake_fd, self._on_wake)
        self._is_open = True
        self._prepare()
        self._await_idleness()
        return recovery

    def _recover(self) -> Recovery:
        """What the newest whole snapshot and the log beside it hold."""
        broken: list[tuple[Path, DataDamaged]] = []
        info = None
        for path in self._store.begin():
            try:
                info = self._store.check(path)
                break
            except DataDamaged as error:
                broken.append((path, error))
        beside = None if info is None else (info.index, info.term)
        try:
            recovery = self._directory.recover(self.node_id, beside)
        except DataDamaged:
            if broken:  # the log is only as short as the snapshot allowed it to be
                raise broken[0][1] from None
            raise
        for path, damage in broken:
            # Of a snapshot that was received, this node may have acknowledged the entries: only a
            # log that knows them committed has them without it.
            if recovery.hard_state.commit_index < int(path.name[:16], 16):
                raise damage
        for path, damage in broken:
            logger.warning("the log holds what this did, and it is removed: %s", damage)
            self._store.remove(path)
        if recovery.unneeded:
            logger.warning("segments to %s of the log were damaged, and are removed: snapshot %s "
                           "holds what they did", segment_name(recovery.unneeded[-1]), info)
        if info is not None:
            self._store.adopt(info)
        return recovery

    def _reopen_prepared(self, number: int) -> None:
        header = self._next_header()
        try:
            self._fds[number] = self._directory.open_segment(number, header, self._segment_bytes)
            self._header = header
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # The node ended while it was being prepared, and now there is no room for the rest.
            self._directory.remove_segment(number)

    def _next_header(self) -> bytes:
        return next_segment(self._header, self._segment_bytes)

    def found(self, founding: bytes) -> Recovery:
        """Write entry 1 of an empty log, committed; what the log holds then, all durable.

        Blocks; StartError where it cannot be written.
        """
        ensure(self._is_open and not self._pending and not self._waiting and self._is_unfounded,
               "only an empty log is founded")
        self._is_unfounded = False
        # Waits for the segment that is being prepared: it must not come and go while they are
        # listed.
        self._adopt_prepared()
        batch = self._writer.append([Entry(1, 1, ENTRY_FOUNDING, founding)], HardState(1, 0, 1))
        try:
            self._write_now(batch)
            return self._directory.recover(self.node_id)
        except OSError as error:
            raise StartError(
                f"the data directory {self.path} cannot be written: "
                f"{error.filename or self.path}: {error.strerror}"
            ) from None

    def close(self) -> None:
        """Make durable what was appended, say in the log that it is, and let the directory go.

        The callbacks of what becomes durable are called from within. What waits for room that
        there is not stays unwritten.
        """
        if self._is_open:
            self._is_open = False
            self._cancel_marker()
            self._store.close()
            self._saver.shutdown()
            self._receiver.shutdown()
            self._preparer.shutdown()
            self._adopt_prepared()
            while self._waiting and self._take_segment(
                partial(self._directory.create_segment, max(self._fds) + 1, self._next_header())
            ):
                pass
            self._thread.stop()
            self._report()
            self._loop.remove_reader(self._thread.wake_fd)
            if self._failure is None and not self._waiting:
                self._write_last_marker()
        self._let_go()

    def _write_last_marker(self) -> None:
        batch = self._writer.idle_marker()
        if batch is None or not self._has_segments(batch):
            return
        try:
            self._write_now(batch)
        except OSError as error:
            # Everything is durable; the log merely ends without its marker.
            logger.warning("the log's last marker was not written: %s", error)

    def _write_now(self, batch: WalBatch) -> None:
        for number, offset, data in batch.writes:
            with naming(self.path / WAL / segment_name(number)):
                write_durably(self._fds[number], data, offset)
        self._writer.synced_to(batch.end)

    def _let_go(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._store.let_go()
        self._preparer.shutdown()
        self._directory.unlock()

    # -- appending -----------------------------------------------------------------------------

    def append(
        self,
        entries: list[Entry],
        hard_state: HardState | None,
        on_durable: Callable[[], None],
        base: tuple[int, int] | None = None,
    ) -> None:
        """As `seafoam.ports.Disk.append`."""
        if self._failure is not None:
            raise self._failure
        ensure(self._is_open, "an append to a disk that is not open")
        ensure(entries or hard_state is not None or base is not None, "an append of nothing")
        ensure(base is None or (self.snapshot is not None and base[0] <= self.snapshot.index),
               f"a log cannot go on behind {base}, which no snapshot holds")
        self._cancel_marker()
        self._waiting.append((self._writer.append(entries, hard_state, base), on_durable))
        self._submit_waiting()

    def _has_segments(self, batch: WalBatch) -> bool:
        return all(number in self._fds for number, _, _ in batch.writes)

    def _submit_waiting(self) -> None:
        """Queue in order what has its segments; the rest waits for `_prepare`."""
        while self._waiting and self._has_segments(self._waiting[0][0]):
            batch, on_durable = self._waiting.popleft()
            try:
                ticket = self._thread.submit(
                    [(self._fds[number], offset, data) for number, offset, data in batch.writes]
                )
            except DiskFailed:
                return  # what wakes the loop to say so is under way
            self._pending.append((ticket, batch, on_durable))
        self._prepare()

    def _on_wake(self) -> None:
        self._report()
        if self._failure is None and not self._pending and not self._waiting:
            self._await_idleness()

    def _report(self) -> None:
        """Call back for what is durable; then, where the thread has failed, say so once."""
        ticket = self._thread.completed()
        failure = self._thread.failure()
        if self._pending and self._pending[0][0] <= ticket and not self._note_begun():
            return
        while self._pending and self._pending[0][0] <= ticket:
            _, batch, on_durable = self._pending.popleft()
            self._writer.synced_to(batch.end)
            self._close_before(batch.end[0])
            if on_durable is not None:
                on_durable()
        if failure is not None:
            number = next((n for n, fd in self._fds.items() if fd == failure.fd), 0)
            self._fail(f"a {failure.call} of {segment_name(number)} failed: {failure.reason}")

    def _note_begun(self) -> bool:
        """Before anybody is told of the first thing in the log: META says that there is one."""
        try:
            self._directory.note_begun()
        except OSError as error:
            self._fail(f"noting in META that the log has begun failed: {error}")
            return False
        return True

    def _fail(self, what: str) -> None:
        if self._failure is None:
            self._failure = DiskFailed(
                f"{what}; it is not tried again, because nobody knows what is on the disk now"
            )
            self._cancel_marker()
            self._on_failure(self._failure)

    def _await_idleness(self) -> None:
        if self._marker_timer is None:
            self._marker_timer = self._loop.call_later(
                IDLE_MARKER_SECONDS, self._append_idle_marker
            )

    def _append_idle_marker(self) -> None:
        self._marker_timer = None
        if self._pending or self._waiting:
            return
        batch = self._writer.idle_marker()
        if batch is not None:
            self._waiting.append((batch, None))
            self._submit_waiting()

    def _cancel_marker(self) -> None:
        if self._marker_timer is not None:
            self._marker_timer.cancel()
            self._marker_timer = None

    # -- reading back --------------------------------------------------------------------------

    def read_entries(self, first_index: int, last_index: int, bytes_max: int) -> list[Entry]:
        """As `seafoam.ports.Disk.read_entries`."""
        try:
            return self._writer.read(
                first_index, last_index, bytes_max, self._directory.read_segment
            )
        except DataDamaged as error:
            raise DataDamaged(f"{self.path}/wal/{error}") from None
        except OSError as error:
            raise DiskFailed(f"the log in {self.path} cannot be read: {error}") from None

    # -- snapshots -----------------------------------------------------------------------------

    @property
    def snapshot(self) -> SnapshotInfo | None:
        """As `seafoam.ports.Disk.snapshot`."""
        return self._store.newest

    def save_snapshot(
        self, source: SnapshotSource, on_saved: Callable[[SnapshotInfo | None], None]
    ) -> None:
        """Write a snapshot while it is taken; returns at once, one at a time.

        `on_saved` gets the newest, durable and named: this one, or a newer that was received
        meanwhile. None where there was no room, or where the source was lost: it can be tried
        again. Not called after a failure, or once the disk is closed.
        """
        ensure(self._is_open and not self._is_saving, "one snapshot is written at a time")
        self._is_saving = True
        self._in_thread(self._saver, partial(self._on_saved, on_saved), self._store.keep, source)

    def _on_saved(
        self, on_saved: Callable[[SnapshotInfo | None], None], saved: Future[SnapshotInfo]
    ) -> None:
        self._is_saving = False
        try:
            info: SnapshotInfo | None = saved.result()
        except SnapshotLost:
            info = None
        except OSError as error:
            if error.errno not in NOT_NOW:
                self._fail(f"writing a snapshot failed: {error}")
                return
            if not self._lacks_snapshot:
                logger.warning("a snapshot cannot be written in %s: %s; the log grows until it "
                               "can", self._store.path, error.strerror)
            self._lacks_snapshot = True
            info = None
        if info is not None:
            self._lacks_snapshot = False
            self._store.adopt(info)
        on_saved(info)

    def read_snapshot(self, file_id: int, offset: int, bytes_max: int) -> bytes:
        """So many bytes of a snapshot, fewer at its end; none where there is none of this id."""
        try:
            return self._store.read(file_id, offset, bytes_max)
        except OSError as error:
            raise DiskFailed(f"snapshots in {self.path} cannot be read: {error}") from None

    def receive_snapshot(self, file_id: int, offset: int, data: bytes, size_bytes: int) -> int:
        """Take a piece of another node's snapshot; the offset of the one that is wanted next.

        With no data it tells how much is here. A piece that is not the one wanted is left alone;
        another id, or length, gives up what was received. DataDamaged for a length that no
        snapshot has; Refusal `disk_full` where there is no room for it, or no file to be had;
        DiskFailed, which `on_failure` has heard of as well.
        """
        ensure(self._is_open, "a snapshot received by a disk that is not open")
        if self._failure is not None:
            raise self._failure
        try:
            wanted = self._store.receive(file_id, offset, data, size_bytes)
            fd = self._store.part_to_sync()
        except OSError as error:
            if error.errno in NOT_NOW:
                raise Refusal("disk_full", "there is no room for a snapshot") from None
            self._fail(f"writing a received snapshot failed: {error}")
            raise self._failure or DiskFailed(str(error)) from None
        if fd >= 0:
            self._in_thread(self._receiver, self._on_synced, _sync_and_close, fd)
        return wanted

    def _on_synced(self, synced: Future[None]) -> None:
        error = synced.exception()
        if error is not None:
            self._fail(f"a sync of a received snapshot failed: {error}")

    def finish_receiving(
        self, file_id: int, on_ready: Callable[[SnapshotInfo | StartError], None]
    ) -> None:
        """Check what was received and make it this node's snapshot; returns at once.

        `on_ready` gets the newest, durable and named: this one, or a newer that was written
        meanwhile; or what is wrong with it, after which it is gone and may be asked for again.
        """
        ensure(self._is_open, "a snapshot received by a disk that is not open")
        part = self._store.take_part(file_id)
        if part is None:
            missing = DataDamaged(f"snapshot {file_id:016x} has not been received whole")
            self._loop.call_soon(on_ready, missing)
            return
        def on_received(received: Future[SnapshotInfo]) -> None:
            self._store.finished(file_id)
            self._on_received(on_ready, received)

        self._in_thread(self._receiver, on_received, self._store.finish, part)

    def _on_received(
        self, on_ready: Callable[[SnapshotInfo | StartError], None],
        received: Future[SnapshotInfo],
    ) -> None:
        try:
            info = received.result()
        except StartError as error:
            on_ready(error)
        except OSError as error:
            if error.errno in NOT_NOW:
                on_ready(StartError(f"a snapshot cannot be kept now: {error.strerror}"))
            else:
                self._fail(f"keeping a received snapshot failed: {error}")
        else:
            self._store.adopt(info)
            on_ready(info)

    def open_snapshot(self, info: SnapshotInfo) -> OpenSnapshot:
        """A snapshot from its beginning, for loading it: its head, then its data by blocks."""
        try:
            return OpenSnapshot(info)
        except OSError as error:
            raise DiskFailed(f"{info.path} cannot be read: {error.strerror}") from None

    def drop_log(self, index: int) -> None:
        """The log's segments whose entries are all below `index` may go; returns at once.

        A snapshot must hold the entry at `index` and all before it.
        """
        ensure(self.snapshot is not None and index <= self.snapshot.index,
               f"entries below {index} are dropped, and no snapshot holds them")
        numbers = self._writer.droppable(index)
        if numbers and self._is_open and self._failure is None:
            self._writer.dropped(numbers[-1])
            self._in_thread(self._preparer, self._on_dropped, self._remove_segments, numbers)

    def _remove_segments(self, numbers: list[int]) -> None:
        for number in numbers:
            self._directory.remove_segment(number)

    def _on_dropped(self, dropped: Future[None]) -> None:
        error = dropped.exception()
        if error is not None:
            self._fail(f"removing segments of the log failed: {error}")

    @property
    def first_index(self) -> int:
        """As `seafoam.ports.Disk.first_index`."""
        return self._writer.first_index

    @property
    def log_bytes(self) -> int:
        """How much log a restart would read behind the snapshot."""
        return self._writer.bytes_behind(self.snapshot.index if self.snapshot else 0)

    def _in_thread(
        self, thread: ThreadPoolExecutor, on_done: Callable[[Future[Any]], None],
        function: Callable[..., object], *arguments: object,
    ) -> None:
        """Call a function in a thread; then, back on the loop, `on_done`, if the disk still is."""
        def come_back(done: Future[Any]) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._if_open, on_done, done)

        thread.submit(function, *arguments).add_done_callback(come_back)

    def _if_open(self, on_done: Callable[[Future[Any]], None], done: Future[Any]) -> None:
        if self._is_open and self._failure is None:
            on_done(done)

    # -- segments ------------------------------------------------------------------------------

    def _close_before(self, number: int) -> None:
        for done in [n for n in self._fds if n < number]:
            os.close(self._fds.pop(done))

    def _prepare(self, *, once_more: bool = False) -> None:
        """See to it that the segment behind the one in use is being prepared, if it is not.

        Where that was not possible before, only `once_more`: every append would ask in vain.
        """
        if self._preparing is not None or not self._is_open:
            return
        has_next = max(self._fds) > self._writer.segment_number
        if has_next or (self._lacks_next and not once_more):
            return
        self._preparing = self._preparer.submit(
            self._directory.create_segment, max(self._fds) + 1, self._next_header()
        )
        self._preparing.add_done_callback(self._wake_for_prepared)

    def _wake_for_prepared(self, _: Future[int]) -> None:
        # On the preparing thread; the loop may be gone where a program ends without `close`.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._on_prepared)

    def _on_prepared(self) -> None:
        if self._is_open and self._failure is None:
            self._adopt_prepared()

    def _adopt_prepared(self) -> None:
        """Take over the segment that was being prepared, waiting for it where it still is."""
        prepared, self._preparing = self._preparing, None
        if prepared is not None:
            self._take_segment(prepared.result)

    def _take_segment(self, create: Callable[[], int]) -> bool:
        """Write on in one more segment; or remember that there can be none now."""
        header = self._next_header()
        try:
            self._fds[max(self._fds) + 1] = create()
            self._header = header
        except OSError as error:
            if error.errno not in NOT_NOW:
                self._fail(f"preparing a segment of the log failed: {error}")
                return False
            if not self._lacks_next:
                logger.warning(
                    "the log's next %d bytes cannot be reserved in %s: %s; of what is reserved "
                    "%d bytes are left, and writes are refused below %d", self._segment_bytes,
                    self.path, error.strerror, self.room_bytes(), self._reserve_bytes,
                )
            self._lacks_next = True
            return False
        if self._lacks_next:
            logger.info("the log's next %d bytes are reserved in %s", self._segment_bytes,
                        self.path)
        self._lacks_next = False
        self._submit_waiting()
        return True

    def room_bytes(self) -> int:
        """What can still be written whatever happens to the disk's room."""
        written = self._writer.segment_number
        fresh_bytes = (self._segment_bytes - SEGMENT_HEADER_BYTES - FRONT_BYTES
                       - RECORD_HEADER_BYTES)
        room_bytes = sum(fresh_bytes for number in self._fds if number > written)
        if written in self._fds:
            room_bytes += self._writer.room_bytes
        return room_bytes

    @property
    def full(self) -> bool:
        """As `seafoam.ports.Disk.full`."""
        # Also while the next segment is only being prepared: to refuse a write for some
        # milliseconds is better than to accept one that then finds no room.
        return self.room_bytes() < self._reserve_bytes

    def has_room(self, more_bytes: int) -> bool:
        """As `seafoam.ports.Disk.has_room`."""
        if self.full:
            return False
        # Where the last one could be made, the next will be there in time.
        return not self._lacks_next or self.room_bytes() - more_bytes >= self._reserve_bytes

    def retry_prepare(self) -> None:
        """As `seafoam.ports.Disk.retry_prepare`."""
        if self._lacks_next and self._failure is None:
            self._prepare(once_more=True)

    # -- looking -------------------------------------------------------------------------------

    def counters(self) -> DiskCounters:
        """What the disk thread has done since `open`."""
        return self._thread.counters()

    def status(self) -> dict[str, object]:
        """What `/status` says of the disk."""
        counters = self._thread.counters()
        return {
            "full": self.full,
            "room_bytes": self.room_bytes(),
            "written_bytes": counters.written_bytes,
            "syncs": counters.syncs_count,
            "last_sync_us": counters.last_sync_ns // 1000,
            "longest_sync_us": counters.longest_sync_ns // 1000,
        }


def _sync_and_close(fd: int) -> None:
    try:
        sync_data(fd)
    finally:
        os.close(fd)


def _random_id() -> int:
    """A number that is nobody else's; never 0, which stands for none."""
    return int.from_bytes(os.urandom(8), "little") or 1
