"""What can be kept of a damaged data directory, and the moving aside of what cannot.

Looks at a directory as a node does at its start, and where that would refuse for damage says what
is damaged, what would be done and what is lost (`examine`, which changes nothing); then does it
(`carry_out`). Owns the folders `damaged-*` in a data directory. Must never delete or overwrite a
byte that it has not put there before, durably, and never leave a moment in which a node would
start on less than what the repair is going to leave it.

A node alone has acknowledged nothing but to itself: its log is cut before the damage, and it goes
on behind what is whole. A member of a larger cluster may have forgotten a vote or an
acknowledgement, with which others reckon: everything is moved aside, and it comes back as a new
node. So a node is taken for alone only where something whole says so and nothing that can still
be read, also behind the damage, names another.

Who does it again after a crash goes on from what there is. Moving everything aside begins with
META, without which no node starts on the rest.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from seafoam._core import limits
from seafoam._core.message import ENTRY_CONFIGURATION, ENTRY_FOUNDING
from seafoam._core.pack import crc32c
from seafoam._core.wal import Damage, Recovery, first_segment, next_segment, recover, segment_name
from seafoam._core.wire import (
    RECORD_ENTRY,
    RECORD_HARD_STATE,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    decode_founding,
    decode_meta,
    encode_meta,
)
from seafoam._core.wire_change import decode_changes
from seafoam._core.wire_snapshot import SnapshotCheck, SnapshotHead
from seafoam.data_directory import (
    DAMAGED_PATTERN,
    META,
    META_NEW,
    WAL,
    DataDirectory,
    make_directories,
    open_for_reading,
    reserve,
    sync_directory,
    write_durably,
)
from seafoam.errors import DataDamaged, StartError
from seafoam.founding_store import FOUNDING, FOUNDING_NEW, FoundingStore
from seafoam.membership_wire import decode_membership
from seafoam.ports import SnapshotInfo
from seafoam.snapshot_store import FOLDER, READ_BYTES, SNAPSHOT_PATTERN, SnapshotStore

__all__ = ["Plan", "carry_out", "examine", "held"]

#: What is moved when everything is, in this order.
ALL_NAMES = (META, META_NEW, FOUNDING, FOUNDING_NEW, WAL, FOLDER)
#: type, kind, generation, index, term of a record, behind its checksum and length.
RECORD_HEAD = struct.Struct("<IIHHIQQ")
GENERATION_OFFSET = 12
HEADER_BODY = struct.Struct("<QQIQ")
HEADER_BODY_OFFSET = 16
#: Where a log is cut so that a segment with nothing but a header is its last: before any record.
RENEWED = SEGMENT_HEADER_BYTES - 1
#: The same in every segment of this version.
PREAMBLE = first_segment(1, 1, SEGMENT_HEADER_BYTES)[:HEADER_BODY_OFFSET]

#: Number, bytes and length of each of these files, as `DataDirectory.read_segments`.
Read = Callable[[list[int]], Iterator[tuple[int, bytes, int]]]


class Cut(NamedTuple):
    """What of a log is kept: the segments from `begin` on, to `offset` in segment `number`.

    `header` is that of `number` where the file must be made anew, with nothing behind it.
    """

    begin: int
    number: int
    offset: int
    header: bytes
    last_index: int
    #: Of segments whose records are whole, those that have lost theirs.
    mended: dict[int, bytes]


@dataclass
class Traces:
    """What the readable records and files say, wherever they stand."""

    #: Who is in the cluster, as far as somebody says; the node itself is left out.
    others: set[int] = field(default_factory=set)
    #: Whether something whole says with whom the cluster was founded.
    is_known: bool = False
    #: Something that may name others cannot be read.
    is_obscure: bool = False
    #: The highest entry seen.
    last_index: int = 0


@dataclass(frozen=True)
class Plan:
    """What is damaged, one sentence each, and what is to be done about it.

    Nothing is where there is no damage. `cut` is what is kept of the log, None where that is only
    a snapshot; `broken` are files to be moved aside as they are.
    """

    path: Path
    damages: tuple[str, ...] = ()
    moves_all: bool = False
    #: Where an earlier moving of everything was interrupted.
    unfinished: Path | None = None
    node_id: int = 0
    renews_meta: bool = False
    cut: Cut | None = None
    #: The log as it is can be kept.
    keeps_log: bool = False
    broken: tuple[Path, ...] = ()
    #: What would be done, and what is lost.
    words: tuple[str, ...] = ()

    @property
    def is_needed(self) -> bool:
        return bool(self.damages)


# -- what there is -----------------------------------------------------------------------------


@contextlib.contextmanager
def held(path: Path, segment_bytes: int = limits.WAL_SEGMENT_BYTES) -> Iterator[DataDirectory]:
    """A data directory that no other process uses meanwhile; StartError where there is none."""
    path = path.absolute()
    if not (path / META).exists() and not _moved_before(path):
        raise StartError(f"{path} is no Seafoam data directory: there is no META in it")
    directory = DataDirectory(path, segment_bytes)
    directory.hold()
    try:
        yield directory
    finally:
        directory.unlock()


def _unfinished(path: Path) -> Path | None:
    """Where an interrupted moving of everything had begun to put it."""
    for aside in _moved_before(path):
        # What is here and there was made since, by a node that was started.
        if any((path / name).exists() and not (aside / name).exists() for name in ALL_NAMES):
            return aside
    return None


def _moved_before(path: Path) -> list[Path]:
    """Where everything was moved last, or its moving was begun; nothing where META is here."""
    if not path.is_dir() or (path / META).exists():
        return []
    return sorted(found for found in path.iterdir()
                  if DAMAGED_PATTERN.fullmatch(found.name) and (found / META).exists())[-1:]


def examine(directory: DataDirectory) -> Plan:
    """What a node would meet at its start here, and what is to be done; changes nothing.

    StartError where something else than damage is in the way.
    """
    path = directory.path
    unfinished = _unfinished(path)
    if unfinished is not None:
        return Plan(path, (f"an earlier repair was interrupted while it moved everything to "
                           f"{unfinished}",), True, unfinished,
                    words=("the rest is moved there too",))
    if not (path / META).exists():
        return Plan(path)
    numbers = directory.segment_numbers() if (path / WAL).is_dir() else []
    seen = _Seen(directory, numbers)
    seen.look()
    return seen.plan()


class _Seen:
    """A directory as it is found. Everything of it is only read."""

    def __init__(self, directory: DataDirectory, numbers: list[int]) -> None:
        self._path = directory.path
        self._read_raw: Read = directory.read_segments
        self._segment_bytes = directory.segment_bytes
        self._numbers = numbers
        self._damages: list[str] = []
        self._node_id = 0
        self._has_begun = True
        self._is_meta_whole = True
        self._headers: dict[int, bytes] = {}
        self._mended: dict[int, bytes] = {}
        self._snapshot: SnapshotInfo | None = None
        self._broken: list[tuple[Path, DataDamaged]] = []
        self._heads: list[SnapshotHead] = []
        self._is_founding_whole = True
        self._founding: bytes = b""
        self._recovery: Recovery | None = None
        self._log_damage: Damage | None = None

    def look(self) -> None:
        """Find out what is damaged, in the order in which a node meets it."""
        for number, data, _ in self._read_raw(self._numbers):
            self._headers[number] = data[:SEGMENT_HEADER_BYTES]
        self._look_at_meta()
        self._mend_headers()
        self._look_at_snapshots()
        self._look_at_log()
        self._look_at_founding()

    def _look_at_meta(self) -> None:
        try:
            self._node_id, self._has_begun = decode_meta((self._path / META).read_bytes())
        except DataDamaged as error:
            self._is_meta_whole = False
            self._damages.append(f"{self._path}/{error}")
            ids = {_header_of(header)[1] for header in self._headers.values()
                   if _is_whole(header)}
            if len(ids) == 1:
                self._node_id = ids.pop()
        except StartError as error:
            raise StartError(f"{self._path}/{error}") from None

    def _mend_headers(self) -> None:
        """Headers that are not whole, where what they said stands elsewhere too."""
        for number, data, file_bytes in self._read_raw(self._numbers):
            if _is_whole(data) or not any(data[SEGMENT_HEADER_BYTES:]):
                continue
            segment_bytes = max(file_bytes, self._segment_bytes)
            before = self._headers.get(number - 1, b"")
            generation = _generation(data)
            if _is_whole(before):
                self._mended[number] = next_segment(before, segment_bytes)
            elif generation is not None and self._node_id:
                body = HEADER_BODY.pack(number, self._node_id, generation, segment_bytes)
                self._mended[number] = PREAMBLE + body + crc32c(body).to_bytes(4, "little")
            self._headers[number] = self._mended.get(number, b"")

    def _read(self, numbers: list[int]) -> Iterator[tuple[int, bytes, int]]:
        for number, data, file_bytes in self._read_raw(numbers):
            if number in self._mended:
                data = self._mended[number] + data[SEGMENT_HEADER_BYTES:]
            yield number, data, file_bytes

    def _look_at_snapshots(self) -> None:
        folder = self._path / FOLDER
        store = SnapshotStore(self._path)
        paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
        for path in paths:
            if not SNAPSHOT_PATTERN.fullmatch(path.name):
                continue
            head = _head_of(path)
            self._heads += [head] if head is not None else []
            try:
                self._snapshot = store.check(path)
                return
            except DataDamaged as error:
                self._broken.append((path, error))

    def _look_at_log(self) -> None:
        beside = self._beside()
        try:
            recovery = recover(_Segments(self._read_raw, self._numbers), self._node_id, beside)
            if self._has_begun and recovery.data_end == (0, 0):
                raise Damage(min(self._numbers), SEGMENT_HEADER_BYTES,
                             "META says that the log has begun, and there is nothing in it")
            self._recovery = recovery
        except DataDamaged as error:
            self._log_damage = error if isinstance(error, Damage) else None
            self._damages += [str(broken) for _, broken in self._broken]
            self._damages.append(f"{self._path / WAL}/{error}")
            return
        except StartError as error:
            if self._node_id:
                raise StartError(f"{self._path / WAL}/{error}") from None
            return
        # As a node has it: only a log that knows them committed has a snapshot's entries.
        self._damages += [str(error) for path, error in self._broken
                          if recovery.hard_state.commit_index < _index_of(path)]

    def _look_at_founding(self) -> None:
        try:
            record = FoundingStore(self._path, self._node_id).load()
        except DataDamaged as error:
            self._is_founding_whole = False
            self._damages.append(str(error))
            return
        except StartError:
            if self._node_id:
                raise
            return
        if record.held is not None:
            self._founding = record.held.founding

    def _beside(self) -> tuple[int, int] | None:
        return None if self._snapshot is None else (self._snapshot.index, self._snapshot.term)

    # -- what to do ------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What is to be done about it."""
        if not self._damages:
            return Plan(self._path)
        traces = self._traces()
        cut, keeps_log = None, self._recovery is not None
        if self._recovery is not None:
            last_index = _last_of(self._recovery)
        else:
            cut = self._best_cut()
            last_index = cut.last_index if cut else self._snapshot.index if self._snapshot else 0
        why = _why_all(traces, self._node_id, last_index)
        if why:
            return Plan(self._path, tuple(self._damages), True, words=(
                f"{why}: everything is moved aside, and the node starts empty, under a new id",
                *_LONE_WORDS[not traces.others]))
        broken = [path for path, _ in self._broken]
        if not self._is_founding_whole:
            broken.append(self._path / FOUNDING)
        return Plan(
            self._path, tuple(self._damages), node_id=self._node_id,
            renews_meta=not self._is_meta_whole, cut=cut, keeps_log=keeps_log,
            broken=tuple(broken), words=self._cut_words(cut, keeps_log, last_index, traces))

    def _cut_words(self, cut: Cut | None, keeps_log: bool, last_index: int, traces: Traces
                   ) -> tuple[str, ...]:
        words = [f"node {self._node_id:016x} is a cluster of its own, as far as can be read, "
                 f"and keeps what is whole"]
        if not self._is_meta_whole:
            words.append("META is written anew")
        for number in sorted(cut.mended) if cut else ():
            words.append(f"the header of {segment_name(number)} is written anew")
        if cut is not None:
            words.append(f"the log is cut at offset {max(cut.offset, SEGMENT_HEADER_BYTES)} of "
                         f"{segment_name(cut.number)}; what follows there is moved aside")
        elif not keeps_log:
            words.append("all of the log is moved aside, and begins anew behind the snapshot")
        words += [f"{path} is moved aside" for path, _ in self._broken]
        if not self._is_founding_whole:
            words.append("FOUNDING is moved aside; the log says what was founded")
        beside = f", behind snapshot {self._snapshot.path}" if self._snapshot else ""
        words.append(f"the last entry that is kept is {last_index}{beside}")
        lost_index = max([traces.last_index, *(_index_of(path) for path, _ in self._broken)])
        words.append(f"entries from {last_index + 1} to {lost_index}, and any later ones, are lost"
                     if lost_index > last_index else "no entry is known that would be lost")
        return tuple(words)

    def _best_cut(self) -> Cut | None:
        """What leaves the node the most; None where nothing of the log does."""
        begins = self._numbers[:1]
        if self._snapshot is not None and self._log_damage is not None:
            begins += [number for number in self._numbers[1:]
                       if number > self._log_damage.segment_number]
        cuts = [self._cut_from(begin) for begin in begins]
        found = [cut for cut in cuts if cut is not None]
        return max(found, key=lambda cut: (cut.last_index, -cut.begin), default=None)

    def _cut_from(self, begin: int) -> Cut | None:
        numbers = [number for number in self._numbers if number >= begin]
        end = (numbers[-1] + 1, 0)
        while True:
            header = self._header_of_new(end[0], numbers) if end[1] == RENEWED else b""
            segments = _Segments(self._read, numbers, end, header)
            try:
                recovery = recover(segments, self._node_id, self._beside())
                break
            except Damage as damage:
                offset = damage.offset if damage.offset >= SEGMENT_HEADER_BYTES else RENEWED
                if (damage.segment_number, offset) >= end:
                    return None
                end = (damage.segment_number, offset)
                if offset == RENEWED and not self._header_of_new(end[0], numbers):
                    return None
            except StartError:
                return None  # another node's, say; none of it is to be kept
        if recovery.data_end == (0, 0) or (recovery.base[0] == 0 and not recovery.entries):
            return None
        begin = max([begin, *(number + 1 for number in recovery.unneeded)])
        if recovery.segment_number != end[0]:
            header = b""
        last = recovery.segment_number
        mended = {number: whole for number, whole in self._mended.items()
                  if begin <= number <= last and not (header and number == last)}
        return Cut(begin, last, recovery.offset, header, _last_of(recovery), mended)

    def _header_of_new(self, number: int, numbers: list[int]) -> bytes:
        """What a segment must begin with, from the one before it; nothing where that is gone."""
        before = self._headers.get(number - 1, b"") if number - 1 in numbers else b""
        return next_segment(before, self._segment_bytes) if _is_whole(before) else b""

    # -- whose it is -----------------------------------------------------------------------------

    def _traces(self) -> Traces:
        traces = Traces()
        for founding in (self._founding, *(head.founding for head in self._heads)):
            if founding:
                _take_founding(traces, founding)
        for head in self._heads:
            with _obscuring(traces):
                record = decode_membership(head.membership)
                traces.others.update(member for member, _, _ in record.members)
                traces.others.update(record.removed_ids)
        for _, data, _ in self._read(self._numbers):
            generation = _generation(data)
            if generation is not None:
                _take_records(traces, data, generation)
            elif any(data[SEGMENT_HEADER_BYTES:]):
                traces.is_obscure = True
        traces.others -= {self._node_id, 0}
        return traces


class _Segments:
    """Segments up to an end, as if what is behind it were not there; read anew each time."""

    def __init__(self, read: Read, numbers: list[int], end: tuple[int, int] | None = None,
                 header: bytes = b"") -> None:
        self._read = read
        self._numbers = numbers
        self._end = end
        self._header = header

    def __iter__(self) -> Iterator[tuple[int, bytes, int]]:
        if self._end is None:
            yield from self._read(self._numbers)
            return
        last, offset = self._end
        yield from self._read([number for number in self._numbers if number < last])
        if self._header:
            yield last, self._header, _header_of(self._header)[3]
        elif last in self._numbers and offset >= SEGMENT_HEADER_BYTES:
            for number, data, file_bytes in self._read([last]):
                segment_bytes = _header_of(data)[3] if _is_whole(data) else 0
                yield number, data[:offset], max(file_bytes, segment_bytes)


_LONE_WORDS = (
    ("the cluster brings the new node up to date, and has lost nothing",),
    ("a node that was a cluster of its own has lost its data then, unless what is moved aside is "
     "put back",),
)


def _why_all(traces: Traces, node_id: int, last_index: int) -> str:
    """Why everything must be moved aside; nothing where it need not."""
    if traces.others:
        return (f"the node is or was in a cluster with others (node {min(traces.others):016x}), "
                f"and may have forgotten what it said to them")
    if node_id == 0 or not traces.is_known or traces.is_obscure:
        return "nothing whole says whether the node was in a cluster with others"
    return "" if last_index else "nothing is whole that a node could start on"


def _last_of(recovery: Recovery) -> int:
    return recovery.entries[-1].index if recovery.entries else recovery.base[0]


def _index_of(snapshot: Path) -> int:
    return int(snapshot.name[:16], 16)


def _head_of(path: Path) -> SnapshotHead | None:
    """What a snapshot's first block says, also where a later one is damaged."""
    check = SnapshotCheck()
    with path.open("rb") as file, contextlib.suppress(DataDamaged):
        while check.head is None and (data := file.read(READ_BYTES)):
            check.feed(data)
    return check.head


def _header_of(data: bytes) -> tuple[int, int, int, int]:
    """Number, node id, generation and length that a segment's header names."""
    number, node_id, generation, segment_bytes = HEADER_BODY.unpack_from(data, HEADER_BODY_OFFSET)
    return number, node_id, generation, segment_bytes


def _is_whole(data: bytes) -> bool:
    if len(data) < SEGMENT_HEADER_BYTES or not data.startswith(PREAMBLE):
        return False
    body = data[HEADER_BODY_OFFSET:SEGMENT_HEADER_BYTES]
    return crc32c(body[:-4]) == int.from_bytes(body[-4:], "little")


def _generation(data: bytes) -> int | None:
    """The generation of a segment's records, as far as anything whole tells."""
    if _is_whole(data):
        return _header_of(data)[2]
    # The first record stands where nobody but the node itself can have written.
    begin = SEGMENT_HEADER_BYTES
    if len(data) >= begin + RECORD_HEADER_BYTES and _record_end(data, begin):
        generation: int = RECORD_HEAD.unpack_from(data, begin)[4]
        return generation
    return None


def _record_end(data: bytes, begin: int) -> int:
    """Where a record that is whole by its checksum ends; 0 where it is not."""
    checksum, payload_bytes = struct.unpack_from("<II", data, begin)
    end: int = begin + RECORD_HEADER_BYTES + payload_bytes
    if end > len(data) or crc32c(memoryview(data)[begin + 4:end]) != checksum:
        return 0
    return end


def _take_records(traces: Traces, data: bytes, generation: int) -> None:
    """Take in what any record in a segment says, found by the generation that it has."""
    mark = generation.to_bytes(4, "little")
    at = SEGMENT_HEADER_BYTES
    while (found := data.find(mark, at + GENERATION_OFFSET)) >= 0:
        at = found - GENERATION_OFFSET
        if len(data) < at + RECORD_HEADER_BYTES:
            return
        end = _record_end(data, at)
        _take_record(traces, data, at, end)
        at = end or at + 1


def _take_record(traces: Traces, data: bytes, at: int, end: int) -> None:
    _, _, type_, kind, _, index, _ = RECORD_HEAD.unpack_from(data, at)
    payload = data[at + RECORD_HEADER_BYTES:end] if end else b""
    if type_ == RECORD_ENTRY and end:
        traces.last_index = max(traces.last_index, index)
    if type_ == RECORD_ENTRY and kind == ENTRY_CONFIGURATION:
        # Also where it is damaged: it may have named another.
        with _obscuring(traces):
            traces.others.update(change.node_id for change in decode_changes(payload))
    elif type_ == RECORD_ENTRY and kind == ENTRY_FOUNDING and end:
        _take_founding(traces, payload)
    elif type_ == RECORD_HARD_STATE and end:
        traces.others.add(int.from_bytes(payload[:8], "little"))


def _take_founding(traces: Traces, founding: bytes) -> None:
    with _obscuring(traces):
        traces.others.update(member for member, _ in decode_founding(founding).members)
        traces.is_known = True


@contextlib.contextmanager
def _obscuring(traces: Traces) -> Iterator[None]:
    try:
        yield
    except StartError:
        traces.is_obscure = True


# -- doing it ----------------------------------------------------------------------------------


def carry_out(directory: DataDirectory, plan: Plan) -> Path:
    """Do what was planned, durably; the folder to which things were moved."""
    aside = plan.unfinished or _make_aside(plan.path)
    if plan.moves_all:
        for name in ALL_NAMES:
            _move(plan.path / name, aside / name)
        return aside
    if plan.cut is not None:
        _cut(directory, plan.cut, aside)
    elif not plan.keeps_log:
        _move_segments(directory, directory.segment_numbers()[::-1], aside)
    for path in plan.broken:
        _move(path, aside / path.relative_to(plan.path))
    if plan.renews_meta:
        _keep(aside / META, (plan.path / META).read_bytes())
    begins_anew = plan.cut is None and not plan.keeps_log
    if plan.renews_meta or begins_anew:
        # Without a log it has not begun: else the node would miss one.
        directory.write_meta(encode_meta(plan.node_id, begun=not begins_anew))
    if begins_anew:
        generation = int.from_bytes(os.urandom(4), "little")
        header = first_segment(plan.node_id, generation, directory.segment_bytes)
        os.close(directory.create_segment(1, header))
    return aside


def _make_aside(path: Path) -> Path:
    name = time.strftime("damaged-%Y%m%dT%H%M%SZ", time.gmtime())
    for suffix in ("", *(f"-{count}" for count in range(2, 1000))):
        aside = path / f"{name}{suffix}"
        with contextlib.suppress(FileExistsError):
            aside.mkdir()
            sync_directory(path)
            return aside
    raise StartError(f"{path} holds too many folders that begin with {name}")


def _cut(directory: DataDirectory, cut: Cut, aside: Path) -> None:
    numbers = directory.segment_numbers()
    for number, data, _ in directory.read_segments(sorted(cut.mended)):
        name = segment_name(number)
        make_directories(aside / WAL)
        _keep(aside / WAL / f"{name}.header", data[:SEGMENT_HEADER_BYTES])
        _overwrite(directory.path / WAL / name, cut.mended[number])
    if not cut.header:
        for _, data, _ in directory.read_segments([cut.number]):
            _cut_file(directory, cut, data, aside)
    # What is behind goes from its end on, what is before from its beginning: no gap is left by
    # an interruption, which would be damage of another kind.
    behind = [number for number in reversed(numbers)
              if number > cut.number or (number == cut.number and cut.header)]
    _move_segments(directory, behind, aside)
    _move_segments(directory, [number for number in numbers if number < cut.begin], aside)
    if cut.header:
        os.close(directory.create_segment(cut.number, cut.header))


def _cut_file(directory: DataDirectory, cut: Cut, data: bytes, aside: Path) -> None:
    rest = data[cut.offset:].rstrip(b"\0")
    name = segment_name(cut.number)
    if rest:
        make_directories(aside / WAL)
        _keep(aside / WAL / f"{name}.from-{cut.offset}", rest)
    fd = open_for_reading(directory.path / WAL / name)
    try:
        reserve(fd, _header_of(data)[3])
        os.fsync(fd)
    finally:
        os.close(fd)
    if rest:
        directory.blank(cut.number, cut.offset, cut.offset + len(rest))


def _overwrite(path: Path, data: bytes) -> None:
    fd = open_for_reading(path)
    try:
        write_durably(fd, data, 0)
    finally:
        os.close(fd)


def _keep(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_durably(fd, data, 0)
    finally:
        os.close(fd)
    sync_directory(path.parent)


def _move_segments(directory: DataDirectory, numbers: Iterable[int], aside: Path) -> None:
    for number in numbers:
        name = segment_name(number)
        _move(directory.path / WAL / name, aside / WAL / name)


def _move(path: Path, target: Path) -> None:
    """Move what is there, durably at both ends; nothing where it is not."""
    if path.exists():
        make_directories(target.parent)
        path.rename(target)
        sync_directory(target.parent)
        sync_directory(path.parent)
