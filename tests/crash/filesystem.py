"""A file system as far as POSIX binds it: what was done, and what of it a power cut may leave.

Owns inodes, names and what of both is synced. Follows a trace; knows nothing of what the files are
for. Must never keep less open than a real file system may: a sync of a file covers its bytes and
its length, not its name; a sync of a directory covers its names, nothing behind them; whatever is
not covered survives or not, each name and each block by itself. A rename is one change of names.

A call that began and did not end may have had any part of its effect. A sync covers what had ended
when it began, and has done so only when it ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from faults.shim import Event, Kind

__all__ = ["Change", "Directory", "File", "FileSystem", "Image", "Survival", "all_of", "drawn",
           "materialise", "none_of", "up_to"]

#: Path -> bytes of a file, or None for a directory.
Image = dict[str, bytes | None]
TORN_SECTOR_BYTES = 512


@dataclass
class Change:
    """What one call did to one inode, until it is synced."""

    order: int
    #: A write: the bytes and where. A new length: None, and the length.
    data: bytes | None = None
    offset: int = 0
    #: A file is cut to the length, where else it is at least so long afterwards.
    cuts: bool = False
    #: Of a directory: what the names lead to afterwards, None where to nothing.
    names: dict[str, File | Directory | None] = field(default_factory=dict)
    is_over: bool = False

    def put(self, content: bytearray) -> None:
        """Carry it out on a file's bytes."""
        if self.data is not None:
            missing = self.offset - len(content)
            if missing > 0:
                content += bytes(missing)
            content[self.offset:self.offset + len(self.data)] = self.data
        elif self.cuts:
            del content[self.offset:]
            content += bytes(self.offset - len(content))
        else:
            content += bytes(max(0, self.offset - len(content)))


@dataclass
class File:
    """A file: what is synced, and the changes behind it."""

    synced: bytearray = field(default_factory=bytearray)
    changes: list[Change] = field(default_factory=list)

    def cover(self, changes: list[Change]) -> None:
        for change in changes:
            change.put(self.synced)


@dataclass
class Directory:
    """Names: those that are synced, the changes behind them, and how they are at present."""

    synced: dict[str, File | Directory] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    present: dict[str, File | Directory] = field(default_factory=dict)

    def cover(self, changes: list[Change]) -> None:
        for change in changes:
            _rename(self.synced, change)


def _rename(names: dict[str, File | Directory], change: Change) -> None:
    for name, node in change.names.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


@dataclass(frozen=True)
class Survival:
    """Which changes of names a power cut leaves, and what it leaves of a file."""

    keeps: Callable[[Change], bool]
    content: Callable[[File], bytes]


class FileSystem:
    """What is below one directory; begins with what is there, all of it synced."""

    def __init__(self, root: Path) -> None:
        self._inodes: dict[int, File | Directory] = {}
        self.root = self._found(root)
        self._open: dict[int, tuple[File | Directory, list[Change]]] = {}
        self._order = 0

    def _found(self, path: Path) -> Directory:
        directory = Directory()
        self._inodes[path.stat().st_ino] = directory
        for below in path.iterdir():
            if below.is_dir():
                directory.synced[below.name] = self._found(below)
            else:
                file = File(bytearray(below.read_bytes()))
                self._inodes[below.stat().st_ino] = directory.synced[below.name] = file
        directory.present = dict(directory.synced)
        return directory

    # -- following -----------------------------------------------------------------------------

    def follow(self, event: Event) -> None:
        """One more event of the trace."""
        if event.kind in (Kind.MARK, Kind.LOOK):
            return
        if event.is_begin:
            self._begin(event)
        else:
            self._end(event)

    def _begin(self, event: Event) -> None:
        if event.kind == Kind.SYNC:
            node = self._inodes[event.inode]
            self._open[event.call_id] = node, [c for c in node.changes if c.is_over]
        elif event.kind == Kind.WRITE:
            self._change(event, self._inodes[event.inode], Change(
                self._order, data=event.data, offset=event.offset))
        elif event.kind in (Kind.RESERVE, Kind.TRUNCATE):
            self._change(event, self._inodes[event.inode], Change(
                self._order, offset=event.offset, cuts=event.kind == Kind.TRUNCATE))
        elif event.kind in (Kind.UNLINK, Kind.RMDIR):
            directory, name = self._place(event.path)
            self._change(event, directory, Change(self._order, names={name: None}))
        elif event.kind == Kind.RENAME:
            directory, name = self._place(event.path)
            target, new_name = self._place(event.new_path)
            if target is not directory:
                raise ValueError("a rename into another directory is two changes: not modelled")
            self._change(event, directory, Change(
                self._order, names={name: None, new_name: directory.present.get(name)}))

    def _change(self, event: Event, node: File | Directory, change: Change) -> None:
        self._order += 1
        node.changes.append(change)
        self._open[event.call_id] = node, [change]

    def _end(self, event: Event) -> None:
        if event.kind in (Kind.CREATE, Kind.MKDIR):
            if event.result >= 0:
                self._made(event)
            return
        node, changes = self._open.pop(event.call_id)
        if event.kind == Kind.SYNC:
            if event.result == 0:
                covered = [c for c in node.changes if any(c is d for d in changes)]
                node.cover(covered)
                node.changes = [c for c in node.changes if not any(c is d for d in covered)]
            return
        (change,) = changes
        change.is_over = True
        if event.result < 0:
            node.changes.remove(change)
        elif change.data is not None:
            change.data = change.data[:event.result]
        elif isinstance(node, Directory):
            _rename(node.present, change)

    def _made(self, event: Event) -> None:
        """A new name of a new inode, whose number may be that of one that is gone."""
        if event.kind == Kind.CREATE and event.is_new == 0:
            return
        self._order += 1
        if event.is_new == 2:
            self._inodes[event.inode].changes.append(Change(self._order, cuts=True, is_over=True))
            return
        node = File() if event.kind == Kind.CREATE else Directory()
        self._inodes[event.inode] = node
        directory, name = self._place(event.path)
        change = Change(self._order, names={name: node}, is_over=True)
        directory.changes.append(change)
        _rename(directory.present, change)

    def _place(self, path: str) -> tuple[Directory, str]:
        directory = self.root
        *folders, name = path.split("/")
        for folder in folders:
            below = directory.present[folder]
            assert isinstance(below, Directory)
            directory = below
        return directory, name

    # -- what may be left ----------------------------------------------------------------------

    def pending(self) -> list[tuple[File | Directory, Change]]:
        """What is not synced, in the order in which it was done."""
        found: list[tuple[File | Directory, Change]] = []
        seen: set[int] = set()
        waiting: list[File | Directory] = [self.root]
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            found += [(node, change) for change in node.changes]
            if isinstance(node, Directory):
                waiting += node.synced.values()
                for change in node.changes:
                    waiting += [below for below in change.names.values() if below is not None]
        return sorted(found, key=lambda pair: pair[1].order)

    def image(self, survival: Survival) -> Image:
        """What is on the disk after a power cut at this moment that left so much."""
        image: Image = {}
        self._gather(self.root, "", survival, image)
        return image

    def _gather(
        self, directory: Directory, prefix: str, survival: Survival, image: Image
    ) -> None:
        names = dict(directory.synced)
        for change in directory.changes:
            if survival.keeps(change):
                _rename(names, change)
        for name, node in sorted(names.items()):
            if isinstance(node, Directory):
                image[prefix + name] = None
                self._gather(node, f"{prefix}{name}/", survival, image)
            else:
                image[prefix + name] = survival.content(node)


def all_of() -> Survival:
    """As after a kill that is no power cut."""
    return up_to(1 << 62)


def none_of() -> Survival:
    """What is not synced is gone."""
    return up_to(-1)


def up_to(order: int, *, names: Callable[[Change], bool] | None = None,
          torn_bytes: int | None = None) -> Survival:
    """What was done before the change of this order; of that one, if it writes, so many bytes.

    `names` decides for names by itself, where it is given.
    """
    def content(file: File) -> bytes:
        data = bytearray(file.synced)
        for change in file.changes:
            if change.order < order:
                change.put(data)
            elif change.order == order and torn_bytes is not None and change.data is not None:
                Change(order, data=change.data[:torn_bytes], offset=change.offset).put(data)
        return bytes(data)

    return Survival(names or (lambda change: change.order < order), content)


def drawn(luck: Random, block_bytes: int) -> Survival:
    """Any subset of names; of every block one of the states it had since the sync; any length."""
    bias = luck.choice((0.2, 0.5, 0.8))
    return Survival(lambda _: luck.random() < bias,
                    lambda file: _blocks(file, luck, block_bytes, bias))


def _blocks(file: File, luck: Random, block_bytes: int, bias: float) -> bytes:
    data = bytearray(file.synced)
    lengths = [len(data)]
    whole = bytearray(file.synced)
    for change in file.changes:
        change.put(whole)
        lengths.append(len(whole))
    kept: dict[int, int] = {}
    touched: dict[int, list[Change]] = {}
    for change in file.changes:
        end = change.offset + len(change.data) if change.data is not None else max(lengths)
        begin = 0 if change.data is None and not change.cuts else change.offset
        if change.data is None and not change.cuts:
            continue  # reserves: of lengths
        for block in range(begin // block_bytes, -(-end // block_bytes)):
            touched.setdefault(block, []).append(change)
    data += bytes(max(lengths) - len(data))
    for block, changes in touched.items():
        draw = luck.random()
        kept[block] = (len(changes) if draw < bias * 0.8 else 0 if draw < 0.8
                       else luck.randint(0, len(changes)))
        begin, end = block * block_bytes, (block + 1) * block_bytes
        for change in changes[:kept[block]]:
            if change.data is None:
                cut = max(begin, change.offset)
                data[cut:end] = bytes(len(data[cut:end]))
                continue
            first, last = max(begin, change.offset), min(end, change.offset + len(change.data))
            data[first:last] = change.data[first - change.offset:last - change.offset]
    length = lengths[-1] if luck.random() < bias else luck.choice(lengths)
    return bytes(data[:length]) + bytes(max(0, length - len(data)))


def materialise(image: Image, root: Path) -> None:
    """Put an image on a real file system, in an empty directory."""
    for path, data in image.items():
        if data is None:
            (root / path).mkdir()
            continue
        fd = os.open(root / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(fd, data.rstrip(b"\0"))
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)
