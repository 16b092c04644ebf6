"""Stub of a snapshot's bytes."""

from collections.abc import Callable

SNAPSHOT_VERSION: int
SNAPSHOT_PREAMBLE_BYTES: int
SNAPSHOT_BLOCK_HEADER_BYTES: int
SNAPSHOT_ENTRY_HEADER_BYTES: int
SNAPSHOT_PAYLOAD_BYTES_MAX: int
SNAPSHOT_BLOCK_HEAD: int
SNAPSHOT_BLOCK_DATA: int
SNAPSHOT_BLOCK_TAIL: int

class SnapshotHead:
    file_id: int
    index: int
    term: int
    founding: bytes
    membership: bytes
    def __init__(
        self, file_id: int, index: int, term: int, founding: bytes, membership: bytes
    ) -> None: ...

class SnapshotCheck:
    head: SnapshotHead | None
    key_count: int
    def __init__(self, on_block: Callable[[bytes], object] | None = None) -> None: ...
    def feed(self, data: bytes) -> None: ...
    def finish(self) -> None: ...

def encode_head(head: SnapshotHead) -> bytes: ...
def encode_tail(sequence: int, key_count: int, file_id: int) -> bytes: ...
