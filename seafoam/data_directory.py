"""The data directory: whose it is, what is in it, and that it is durable.

    LOCK   held by flock while a process uses the directory; holds its pid
    META   the node's id, made once, and whether its log has begun; a directory is whole from the
           moment it is there
    wal/   the log's segments, %016x.wal, each of a fixed size reserved before its first byte;
           numbered without a gap, from 1 on or from where a snapshot makes those before needless
    snapshots/   see snapshot_store.py
    damaged-*/   what a repair has moved aside (repair.py); a node never looks into it

Owns the names in the directory and every call that makes, renames, reserves, cuts or removes a
file. Must never return what was read before it is durable, and never touch a directory that is
not known to be Seafoam's own. Blocks; called before a node serves, after it has stopped, and from
the thread that prepares segments.

What is read is first synced, then dropped from the page cache, then read: what a killed process
left there is made durable, and what an earlier failed write left there as if it were written is
not believed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from seafoam._core import limits
from seafoam._core.wal import Damage, Recovery, first_segment, recover, segment_name
from seafoam._core.wire import SEGMENT_HEADER_BYTES, decode_meta, encode_meta, is_blank
from seafoam.errors import DataDamaged, StartError

__all__ = ["DataDirectory"]

LOCK, META, META_NEW, WAL = "LOCK", "META", "META.new", "wal"
#: Found in the root of a file system of its own; means nothing.
LOST_AND_FOUND = "lost+found"
#: What a directory may hold whose making was interrupted before META was there.
UNFINISHED = {LOCK, META_NEW, WAL, LOST_AND_FOUND}
DAMAGED_PATTERN = re.compile(r"damaged-[0-9]{8}T[0-9]{6}Z(?:-[0-9]+)?")
SEGMENT_PATTERN = re.compile(r"[0-9a-f]{16}\.wal")
FIRST_SEGMENT_NUMBER = 1

#: What may stand where a file belongs.
KINDS = {
    stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device", stat.S_IFCHR: "a device",
}

#: Zeros that a record can end with: those of a key, and of the numbers before it.
ZEROS_BYTES_MAX = 4 * limits.KEY_BYTES_MAX

OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC


class DataDirectory:
    """A node's directory, from `lock` to `unlock`.

    OSErrors are the caller's to turn into words; StartError and DataDamaged are sentences.
    """

    def __init__(self, path: Path, segment_bytes: int) -> None:
        self.path = path
        self.segment_bytes = segment_bytes
        self._wal = path / WAL
        self._lock_fds: list[int] = []
        self._node_id = 0
        self._has_begun = False

    # -- whose it is ---------------------------------------------------------------------------

    def lock(self) -> None:
        """Make the directory where there is none, and keep every other process out of it."""
        make_directories(self.path)
        self._refuse_foreign()
        self.hold()

    def hold(self) -> None:
        """Keep every other process out of a directory that is there, whatever it holds."""
        fd = os.open(self.path / LOCK, OPEN_FLAGS | os.O_CREAT, 0o600)
        self._lock_fds = [fd, os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            # The directory too: whoever removes the file to get past it is kept out all the same.
            for held in self._lock_fds:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            self.unlock()
            holder = f"process {pid}" if pid.isdecimal() else "another process"
            raise StartError(f"the data directory {self.path} is in use by {holder}") from None
        with contextlib.suppress(OSError):  # a courtesy, and the disk may be full
            os.pwrite(fd, f"{os.getpid():<20}\n".encode(), 0)

    def unlock(self) -> None:
        """Let others in; may be called again."""
        while self._lock_fds:
            os.close(self._lock_fds.pop())

    def _refuse_foreign(self) -> None:
        names = {entry.name for entry in os.scandir(self.path)
                 if not DAMAGED_PATTERN.fullmatch(entry.name)}
        if META not in names and not names <= UNFINISHED:
            stranger = min(names - UNFINISHED)
            raise StartError(
                f"{self.path} is no Seafoam data directory: it holds {stranger!r} but no META; "
                f"name an empty or new directory"
            )
        for name in sorted(names & {LOCK, META, META_NEW}):
            refuse_other_than_file(self.path / name)

    def node_id(self, candidate: int) -> int:
        """The id in META; `candidate` where the directory is new, once it is made whole."""
        try:
            meta = (self.path / META).read_bytes()
        except FileNotFoundError:
            self._make(candidate)
            meta = encode_meta(candidate, begun=False)
        try:
            self._node_id, self._has_begun = decode_meta(meta)
        except DataDamaged as error:
            raise DataDamaged(f"{self.path}/{error}") from None
        except StartError as error:
            raise StartError(f"{self.path}/{error}") from None
        return self._node_id

    def _make(self, node_id: int) -> None:
        self._discard_unfinished()
        make_directories(self._wal)
        # Drawn apart from the id, which everybody may know: a client that knew it could put what
        # looks like a record into a key.
        generation = int.from_bytes(os.urandom(4), "little")
        header = first_segment(node_id, generation, self.segment_bytes)
        os.close(self.create_segment(FIRST_SEGMENT_NUMBER, header))
        self.write_meta(encode_meta(node_id, begun=False))

    def write_meta(self, meta: bytes) -> None:
        """Put these bytes in the place of META, durably."""
        new = self.path / META_NEW
        fd = os.open(new, OPEN_FLAGS | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with naming(new):
                write_all(fd, meta, 0)
                _sync_all(fd)
        finally:
            os.close(fd)
        new.rename(self.path / META)
        sync_directory(self.path)

    def note_begun(self) -> None:
        """Write down that the log holds something, which must be durable; once in its life."""
        if not self._has_begun:
            self.write_meta(encode_meta(self._node_id, begun=True))
            self._has_begun = True

    def _discard_unfinished(self) -> None:
        """Make room for a making that begins again, but never by a log that somebody wrote."""
        paths = sorted(self._wal.iterdir()) if self._wal.exists() else []
        for path in paths:
            refuse_other_than_file(path)
            is_first = path.name == segment_name(FIRST_SEGMENT_NUMBER)
            if not is_first or not is_blank(path.read_bytes(), SEGMENT_HEADER_BYTES):
                raise StartError(
                    f"{self.path} holds a log but no META, which says whose it is; put META back, "
                    f"or name an empty or new directory"
                )
        for path in paths:
            path.unlink()

    # -- what is in it -------------------------------------------------------------------------

    def recover(self, node_id: int, snapshot: tuple[int, int] | None = None) -> Recovery:
        """Everything the log holds, durable, with what is torn at its end cut off.

        `snapshot` is (index, term) of one that is durable: damage in what it makes needless is
        mended, which is to say removed.
        """
        numbers = self.segment_numbers()
        try:
            recovery = recover(_Again(self, numbers), node_id, snapshot)
            self._check_begun(recovery)
        except DataDamaged as error:
            raise DataDamaged(f"{self._wal}/{error}") from None
        except StartError as error:
            raise StartError(f"{self._wal}/{error}") from None
        sync_directory(self._wal)
        sync_directory(self.path)
        for number, begin, end in reversed(recovery.stale):
            self.blank(number, begin, end)
        if recovery.data_end != (0, 0):
            self.note_begun()
        for number in recovery.unneeded:
            self.remove_segment(number)
        # One is kept, prepared; the last goes first, so that a crash leaves no gap.
        for number in sorted(numbers, reverse=True):
            if number > recovery.segment_number + 1:
                self.remove_segment(number)
        return recovery

    def _check_begun(self, recovery: Recovery) -> None:
        # Else a node that had voted or founded would start as one that never had.
        if self._has_begun and recovery.data_end == (0, 0):
            raise Damage(FIRST_SEGMENT_NUMBER, SEGMENT_HEADER_BYTES,
                         "META says that the log has begun, and there is nothing in it")

    def segment_numbers(self) -> list[int]:
        """The numbers of the segments there are, ascending; StartError where something else is."""
        names = sorted(entry.name for entry in os.scandir(self._wal))
        for name in names:
            if not SEGMENT_PATTERN.fullmatch(name) and name != LOST_AND_FOUND:
                raise StartError(f"{self._wal} holds {name!r}, which is no segment of a log")
        segments = [name for name in names if name != LOST_AND_FOUND]
        for name in segments:
            refuse_other_than_file(self._wal / name)
        return [int(name[:16], 16) for name in segments]

    def read_segments(self, numbers: list[int]) -> Iterator[tuple[int, bytes, int]]:
        """Number, bytes and length of each of these files, durable."""
        for number in numbers:
            fd = open_for_reading(self._path(number))
            try:
                with naming(self._path(number)):
                    data = _read_written(fd)
                    file_bytes = os.fstat(fd).st_size
            finally:
                os.close(fd)
            yield number, data, file_bytes

    def read_segment(self, number: int, offset: int, size: int) -> bytes:
        """So many bytes of a segment, fewer where the file ends; they need not be durable."""
        try:
            fd = os.open(self._path(number), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Damage(number, offset, "there is no such segment any more") from None
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def blank(self, number: int, begin: int, end: int) -> None:
        """Overwrite these bytes of a segment with zeros, durably."""
        # In place: truncating would give back room that another process may take.
        fd = os.open(self._path(number), OPEN_FLAGS)
        try:
            with naming(self._path(number)):
                write_all(fd, bytes(end - begin), begin)
                sync_data(fd)
        finally:
            os.close(fd)

    # -- segments ------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._wal / segment_name(number)

    def open_segment(self, number: int, header: bytes, size: int) -> int:
        """A descriptor of a segment that is there, made ready as `create_segment` does."""
        fd = os.open(self._path(number), OPEN_FLAGS)
        try:
            with naming(self._path(number)):
                # A copied directory has holes where zeros were.
                reserve(fd, size)
                _sync_all(fd)
                # None where the node ended while it was being prepared.
                if os.pread(fd, SEGMENT_HEADER_BYTES, 0) != header:
                    write_durably(fd, header, 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def has_segment(self, number: int) -> bool:
        """Whether there is a file of this number."""
        return self._path(number).exists()

    def remove_segment(self, number: int) -> None:
        """Give back a segment that holds nothing, or nothing that is needed; durably."""
        self._path(number).unlink()
        sync_directory(self._wal)

    def create_segment(self, number: int, header: bytes) -> int:
        """A descriptor of a new segment: its room, then its header, and its name are durable.

        Where there is no room for it, nothing of it stays.
        """
        path = self._path(number)
        fd = os.open(path, OPEN_FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with naming(path):
                reserve(fd, self.segment_bytes)
                _sync_all(fd)
                write_durably(fd, header, 0)
            sync_directory(self._wal)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return fd


def refuse_other_than_file(path: Path) -> None:
    """StartError where something else is there: to open a pipe is to wait for its other end."""
    kind = KINDS.get(stat.S_IFMT(path.stat().st_mode))
    if kind is not None:
        raise StartError(f"{path} is {kind} where a file belongs")


class _Again:
    """Segments that can be read more than once, as mending needs it."""

    def __init__(self, directory: DataDirectory, numbers: list[int]) -> None:
        self._directory = directory
        self._numbers = numbers

    def __iter__(self) -> Iterator[tuple[int, bytes, int]]:
        return self._directory.read_segments(self._numbers)


def open_for_reading(path: Path) -> int:
    """A descriptor of a file whose bytes are durable, and are read from the disk itself."""
    fd = os.open(path, OPEN_FLAGS)
    try:
        with naming(path):
            sync_data(fd)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError from within say of which file it is: of a descriptor's it does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(error.filename or path)) from None


@contextlib.contextmanager
def _calling(call: str) -> Iterator[None]:
    """Let an OSError from within say what failed."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{call} failed: {error.strerror}") from None


def write_durably(fd: int, data: bytes, offset: int) -> None:
    """Write and sync, on the caller's thread; OSError where either failed."""
    write_all(fd, data, offset)
    sync_data(fd)


def sync_data(fd: int) -> None:
    """Make a file's bytes durable, and of its metadata what is needed to read them."""
    with _calling("a sync"):
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(fd)


def _sync_all(fd: int) -> None:
    """Make a file's bytes and all its metadata durable; of a directory, its names."""
    with _calling("a sync"):
        os.fsync(fd)


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write at an offset; OSError where the disk did not take all of it."""
    with _calling("a write"):
        written_bytes = os.pwrite(fd, data, offset)
    if written_bytes != len(data):
        raise OSError(errno.EIO, f"the disk took {written_bytes} of {len(data)} bytes")


def _read_written(fd: int) -> bytes:
    """A file's bytes, without what is reserved behind the last that was ever written.

    A copy may have holes where zeros were, and a record may end with zeros: as many as one can end
    with are there, too.
    """
    end = 0
    try:
        while True:
            end = os.lseek(fd, os.lseek(fd, end, os.SEEK_DATA), os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.ENXIO:  # there is no data behind `end`
            raise
    wanted_bytes = min(end + ZEROS_BYTES_MAX, os.fstat(fd).st_size)
    with open(fd, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        data = file.read(wanted_bytes)
    if len(data) != wanted_bytes:
        raise OSError(errno.EIO, f"only {len(data)} of {wanted_bytes} bytes could be read")
    return data


def reserve(fd: int, size: int) -> None:
    """Make a file so long, with room on the disk for all of it."""
    if sys.platform == "darwin":
        # There is no call that reserves without writing: what is not there yet is written.
        length = os.fstat(fd).st_size
        if length < size:
            write_all(fd, bytes(size - length), length)
    else:
        with _calling("a reservation"):
            os.posix_fallocate(fd, 0, size)


def sync_directory(path: Path) -> None:
    """Make durable which names a directory holds."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(path):
            _sync_all(fd)
    finally:
        os.close(fd)


def make_directories(path: Path) -> None:
    """Make a directory, and those above it that are not there, durably."""
    if path.is_dir():
        return
    make_directories(path.absolute().parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.absolute().parent)
