"""Snapshots for tests of the disk: their bytes, and what would take them from a map."""

from __future__ import annotations

import threading
from pathlib import Path

from seafoam._core.wire_snapshot import SnapshotHead, encode_head, encode_tail
from seafoam.errors import SnapshotLost
from snapshot_support import Item, data_block


def items_of_block(number: int, value_bytes: int) -> list[Item]:
    return [(b"key %d of %d" % (at, number), b"%d" % number * value_bytes, 1 + at)
            for at in range(3)]


class Source:
    """A snapshot that is being taken: as many blocks as have been allowed."""

    def __init__(
        self, index: int = 10, term: int = 2, *, file_id: int = 0xF00, blocks: int = 4,
        value_bytes: int = 100,
    ) -> None:
        self.head = SnapshotHead(file_id, index, term, b"founding", b"members")
        self.blocks = [items_of_block(number, value_bytes) for number in range(blocks)]
        self.allowed = blocks
        self.is_walked = True
        self.is_lost = False
        self.key_count = 0
        #: Set when there was nothing to hand out.
        self.has_waited = threading.Event()

    def next_block(self, sequence: int, bytes_max: int) -> bytes:
        if self.is_lost:
            raise SnapshotLost("the memory was needed")
        assert bytes_max > 0
        if sequence > self.allowed:
            self.has_waited.set()
            return b""
        self.key_count += len(self.blocks[sequence - 1])
        return data_block(sequence, self.blocks[sequence - 1])

    def file(self) -> bytes:
        """What the file must be."""
        return (encode_head(self.head)
                + b"".join(data_block(at, items) for at, items in enumerate(self.blocks, 1))
                + encode_tail(len(self.blocks) + 1, sum(map(len, self.blocks)),
                              self.head.file_id))


def put(folder: Path, source: Source, data: bytes | None = None) -> Path:
    """A snapshot's file under its name, with these bytes in the place of its own."""
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{source.head.index:016x}.snapshot"
    path.write_bytes(source.file() if data is None else data)
    return path
