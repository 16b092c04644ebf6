"""The snapshots of a data directory: written, received, checked, read.

    snapshots/%016x.snapshot       the state at this index, whole from the moment it is there
    snapshots/%016x.snapshot.new   one that is being written
    snapshots/%016x.part           one that is being received; its name is the file's id

Owns the names in the folder and every call that makes, renames or removes a file there. Must never
give a file its name before all of it is durable, never remove one before a newer one has its name
durably, and never believe one that was not checked from the first byte to the last. A whole
snapshot has one name only; what has another is work that was interrupted, and is removed.

Blocks. `keep` and `finish` run in threads of their own, all else on the event loop's.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from seafoam._core import limits
from seafoam._core.wire_snapshot import SnapshotCheck, SnapshotHead, encode_head, encode_tail
from seafoam.data_directory import (
    make_directories,
    open_for_reading,
    refuse_other_than_file,
    reserve,
    sync_data,
    sync_directory,
    write_all,
)
from seafoam.errors import DataDamaged, InvariantBroken, StartError
from seafoam.ports import SnapshotInfo, SnapshotSource

__all__ = ["OpenSnapshot", "SnapshotStore", "Stopped"]

FOLDER = "snapshots"
SNAPSHOT, NEW, PART = ".snapshot", ".snapshot.new", ".part"
SNAPSHOT_PATTERN = re.compile(r"[0-9a-f]{16}\.snapshot")
UNFINISHED_PATTERN = re.compile(r"[0-9a-f]{16}\.(?:snapshot\.new|part)")
LOST_AND_FOUND = "lost+found"
#: What is read at once of a snapshot that is checked or loaded.
READ_BYTES = limits.SNAPSHOT_BLOCK_BYTES
#: How long the writing thread waits where the loop has saved nothing more: a few of its turns.
WAIT_SECONDS = 0.002
#: More than any disk has, and no file system's limit: whoever announces more is mistaken.
SIZE_BYTES_MAX = 1 << 50

OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC


class Stopped(Exception):
    """The node ends, and what is being written is given up."""


class OpenSnapshot:
    """A snapshot being read from its beginning: its head, then its data, each payload once.

    Everything is checked again on the way: DataDamaged names the file and the offset. It ends only
    where the file has been seen to its last byte.
    """

    def __init__(self, info: SnapshotInfo) -> None:
        self._info = info
        self._payloads: list[bytes] = []
        self._check = SnapshotCheck(self._payloads.append)
        self._fd = os.open(info.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while self._check.head is None:
                self._feed()
        except BaseException:
            self.close()
            raise
        self.head: SnapshotHead = self._check.head

    def __iter__(self) -> Iterator[bytes]:
        while self._fd >= 0:
            is_more = self._feed()
            yield from self._payloads
            self._payloads.clear()
            if not is_more:
                self.close()

    def close(self) -> None:
        """Read no further; may be said again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _feed(self) -> bool:
        """Take the next piece of the file; False where that was all of it."""
        data = os.read(self._fd, READ_BYTES)
        with _named(self._info.path):
            if data:
                self._check.feed(data)
            else:
                self._check.finish()
        return bool(data)


class SnapshotStore:
    """The folder of snapshots, and the newest of them.

    OSErrors are the caller's to turn into words; StartError and DataDamaged are sentences.
    """

    def __init__(
        self, directory: Path, *, bytes_per_second: int = limits.SNAPSHOT_BYTES_PER_SECOND
    ) -> None:
        self.path = directory / FOLDER
        #: The newest whole one; None where there is none.
        self.newest: SnapshotInfo | None = None
        self._bytes_per_second = bytes_per_second
        self._must_stop = threading.Event()
        # One thread at a time gives files their names and removes what is older.
        self._naming = threading.Lock()
        self._latest: SnapshotInfo | None = None
        # Open for sending: the newest, and one before it that had not been sent to its end.
        self._fds: dict[int, int] = {}
        self._is_sending = False
        # What is being received: its id, its length, how much of it is here.
        self._part_id = 0
        self._part_fd = -1
        self._part_bytes = 0
        self._part_end = 0
        self._unsynced_bytes = 0
        # What was received whole and is being checked.
        self._finishing: set[int] = set()

    # -- at the start --------------------------------------------------------------------------

    def begin(self) -> list[Path]:
        """Make the folder, clear it of what was interrupted; the snapshots in it, newest first."""
        make_directories(self.path)
        names = sorted(entry.name for entry in os.scandir(self.path))
        snapshots = []
        for name in names:
            if SNAPSHOT_PATTERN.fullmatch(name):
                refuse_other_than_file(self.path / name)
                snapshots.append(self.path / name)
            elif UNFINISHED_PATTERN.fullmatch(name):
                (self.path / name).unlink()
            elif name != LOST_AND_FOUND:
                raise StartError(f"{self.path} holds {name!r}, which is no snapshot")
        sync_directory(self.path)
        return snapshots[::-1]

    def check(self, path: Path) -> SnapshotInfo:
        """A snapshot that is durable and whole; DataDamaged says where it is not.

        StartError where a later version wrote it.
        """
        check = SnapshotCheck()
        fd = open_for_reading(path)
        try:
            size_bytes = 0
            with _named(path):
                while data := os.read(fd, READ_BYTES):
                    if self._must_stop.is_set():
                        raise Stopped
                    check.feed(data)
                    size_bytes += len(data)
                check.finish()
        finally:
            os.close(fd)
        head = check.head
        if head is None:
            raise InvariantBroken("a whole snapshot has a head")
        if path.name.endswith(SNAPSHOT) and path.name != _name(head.index):
            raise DataDamaged(
                f"{path} is damaged at offset 0: it is a copy of {_name(head.index)}"
            )
        if head.index == 0 or head.term == 0:
            raise DataDamaged(f"{path} is damaged at offset 0: it is of no log entry")
        return SnapshotInfo(head.file_id, head.index, head.term, size_bytes, path)

    def adopt(self, info: SnapshotInfo) -> None:
        """This one is the newest from now on, as far as those are told who ask."""
        before = self.newest
        if before is not None and before.index > info.index:
            return
        self.newest = info
        if self._latest is None:
            self._latest = info
        if before is None or before.file_id == info.file_id:
            return
        for file_id in list(self._fds):
            # Who is in the middle of the last one may read it to its end.
            if file_id != before.file_id or not self._is_sending:
                os.close(self._fds.pop(file_id))
        self._is_sending = False

    def remove(self, path: Path) -> None:
        """Remove a file, durably."""
        path.unlink()
        sync_directory(self.path)

    def close(self) -> None:
        """Give up what is under way; threads that write or check end soon, with `Stopped`."""
        self._must_stop.set()

    def let_go(self) -> None:
        """Close what is open; nothing of it is used any more. May be said again."""
        while self._fds:
            os.close(self._fds.popitem()[1])
        self._drop_part()

    # -- writing: the snapshot thread ----------------------------------------------------------

    def keep(self, source: SnapshotSource) -> SnapshotInfo:
        """Write a snapshot as it is taken; the newest, whole, named and durable.

        That is this one, unless a newer came while it was written. SnapshotLost from the source,
        Stopped by `close`; nothing of it stays then.
        """
        head = source.head
        new = self.path / f"{head.index:016x}{NEW}"
        fd = os.open(new, OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            try:
                size_bytes = self._write(fd, source)
                os.fsync(fd)
            finally:
                os.close(fd)
            info = SnapshotInfo(head.file_id, head.index, head.term, size_bytes,
                                self.path / _name(head.index))
            return self._name(new, info)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            raise

    def _write(self, fd: int, source: SnapshotSource) -> int:
        begun = time.monotonic()
        unsynced_bytes = 0
        offset = 0
        for data in self._pieces(source):
            write_all(fd, data, offset)
            offset += len(data)
            unsynced_bytes += len(data)
            if unsynced_bytes >= limits.SNAPSHOT_SYNC_BYTES:
                sync_data(fd)
                unsynced_bytes = 0
                self._wait(begun + offset / self._bytes_per_second - time.monotonic())
        return offset

    def _pieces(self, source: SnapshotSource) -> Iterator[bytes]:
        yield encode_head(source.head)
        sequence = 1
        while True:
            # Asked before: what is saved between the two would else be left out.
            was_walked = source.is_walked
            block = source.next_block(sequence, limits.SNAPSHOT_BLOCK_BYTES)
            if block:
                yield block
                sequence += 1
            elif was_walked:
                break
            self._wait(0 if block else WAIT_SECONDS)
        yield encode_tail(sequence, source.key_count, source.head.file_id)

    def _wait(self, seconds: float) -> None:
        if self._must_stop.wait(max(0, seconds)):
            raise Stopped

    def _name(self, path: Path, info: SnapshotInfo) -> SnapshotInfo:
        """Name a durable file, then remove what is older; the newest, should that be another."""
        with self._naming:
            if self._latest is not None and self._latest.index > info.index:
                self.remove(path)
                return self._latest
            path.rename(info.path)
            sync_directory(self.path)
            self._latest = info
            for other in sorted(self.path.iterdir()):
                if SNAPSHOT_PATTERN.fullmatch(other.name) and other.name < info.path.name:
                    self.remove(other)
            return info

    # -- sending -------------------------------------------------------------------------------

    def read(self, file_id: int, offset: int, bytes_max: int) -> bytes:
        """Bytes of a snapshot from `offset` on; none behind its end, or where it is gone."""
        is_newest = self.newest is not None and self.newest.file_id == file_id
        fd = self._fds.get(file_id, -1)
        if fd < 0:
            if self.newest is None or not is_newest:
                return b""
            fd = self._fds[file_id] = os.open(self.newest.path, os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(fd, bytes_max, offset)
        is_at_end = offset + len(data) >= os.fstat(fd).st_size
        if is_newest:
            self._is_sending = not is_at_end
        elif is_at_end:
            os.close(self._fds.pop(file_id))
        return data

    # -- receiving -----------------------------------------------------------------------------

    def receive(self, file_id: int, offset: int, data: bytes, size_bytes: int) -> int:
        """Take a piece of another node's snapshot; the offset of the one wanted next.

        Only one is received at a time: another id gives up what is here of the last.
        """
        if not 0 < size_bytes <= SIZE_BYTES_MAX:
            raise DataDamaged(f"snapshot {file_id:016x} of {size_bytes} bytes: there is none such")
        if file_id in self._finishing:
            return size_bytes
        if file_id != self._part_id or size_bytes != self._part_end:
            self._drop_part()
            fd = os.open(self._part(file_id), OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
            self._part_id, self._part_fd, self._part_end = file_id, fd, size_bytes
            # Room for all of it is known before the first byte of it has come.
            try:
                reserve(fd, size_bytes)
            except OSError:
                self._drop_part()
                raise
        if data and offset == self._part_bytes and len(data) <= size_bytes - offset:
            try:
                write_all(self._part_fd, data, offset)
            except OSError:
                self._drop_part()
                raise
            self._part_bytes += len(data)
            self._unsynced_bytes += len(data)
        return self._part_bytes

    def _part(self, file_id: int) -> Path:
        return self.path / f"{file_id:016x}{PART}"

    def _drop_part(self) -> None:
        if self._part_fd >= 0:
            os.close(self._part_fd)
            with contextlib.suppress(OSError):
                self._part(self._part_id).unlink(missing_ok=True)
        self._part_id, self._part_fd, self._part_bytes, self._part_end = 0, -1, 0, 0
        self._unsynced_bytes = 0

    def part_to_sync(self) -> int:
        """A descriptor to sync and close, where so much has come that it should be; else -1."""
        if self._unsynced_bytes < limits.SNAPSHOT_SYNC_BYTES:
            return -1
        self._unsynced_bytes = 0
        return os.dup(self._part_fd)

    def take_part(self, file_id: int) -> Path | None:
        """The file of what was received whole, for `finish`; None where it was not."""
        if (file_id != self._part_id or self._part_fd < 0
                or self._part_bytes != self._part_end):
            return None
        os.close(self._part_fd)
        self._part_id, self._part_fd, self._part_bytes, self._part_end = 0, -1, 0, 0
        self._unsynced_bytes = 0
        self._finishing.add(file_id)
        return self._part(file_id)

    def finished(self, file_id: int) -> None:
        """`finish` has ended, one way or the other: the same may be received again."""
        self._finishing.discard(file_id)

    def finish(self, part: Path) -> SnapshotInfo:
        """Check what was received and name it; the newest, as of `keep`.

        DataDamaged, or StartError where a later version wrote it; nothing of it stays then.
        """
        try:
            info = self.check(part)
            if part.name != f"{info.file_id:016x}{PART}":
                raise DataDamaged(f"{part} is damaged at offset 0: it is of another id")
            return self._name(part, replace(info, path=self.path / _name(info.index)))
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file before what is said of it."""
    try:
        yield
    except DataDamaged as error:
        raise DataDamaged(f"{path}: {error}") from None
    except StartError as error:
        raise StartError(f"{path}: {error}") from None


def _name(index: int) -> str:
    return f"{index:016x}{SNAPSHOT}"
