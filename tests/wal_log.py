"""A log in memory for tests of the WAL: what a disk would hold, and ways to spoil it."""

from __future__ import annotations

import struct

from seafoam._core.message import ENTRY_COMMAND, Entry, HardState
from seafoam._core.pack import crc32c_portable
from seafoam._core.wal import Recovery, WalBatch, WalWriter, first_segment, recover
from seafoam._core.wire import RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES

NODE_ID = 0xA1B2
GENERATION = 0x5EAF0A3


class MemoryLog:
    """Segments as they would be on disk, and the writer that goes on behind them."""

    def __init__(self, segment_bytes: int = 4096) -> None:
        self.segment_bytes = segment_bytes
        self.segments = {1: bytearray(segment_bytes)}
        header = first_segment(NODE_ID, GENERATION)
        self.segments[1][: len(header)] = header
        self.writer = WalWriter(self.recover(), segment_bytes)

    def copy(self) -> dict[int, bytearray]:
        return {number: bytearray(data) for number, data in self.segments.items()}

    def write(self, batch: WalBatch, *, synced: bool = True) -> WalBatch:
        for number, offset, data in batch.writes:
            segment = self.segments.setdefault(number, bytearray(self.segment_bytes))
            assert not any(segment[offset : offset + len(data)]), "a write over what is there"
            assert offset + len(data) <= self.segment_bytes
            segment[offset : offset + len(data)] = data
        if synced:
            self.writer.synced_to(batch.end)
        return batch

    def append(self, entries, hard_state=None, *, synced: bool = True) -> WalBatch:
        return self.write(self.writer.append(entries, hard_state), synced=synced)

    def recover(self) -> Recovery:
        return recover_from(self.segments)

    def restart(self) -> Recovery:
        """Recover, cut as a disk would, and go on behind what is left."""
        recovery = self.recover()
        for number, begin, end in recovery.stale:
            self.segments[number][begin:end] = bytes(end - begin)
        assert self.recover().torn is None
        self.writer = WalWriter(recovery, self.segment_bytes)
        return recovery


def recover_from(segments: dict[int, bytearray], node_id: int = NODE_ID) -> Recovery:
    return recover([(number, bytes(segments[number])) for number in sorted(segments)], node_id)


def entry(index: int, term: int = 1, data: bytes | None = None) -> Entry:
    return Entry(index, term, ENTRY_COMMAND, b"entry %d of %d" % (index, term)
                 if data is None else data)


def entries(first: int, last: int, term: int = 1) -> list[Entry]:
    return [entry(index, term) for index in range(first, last + 1)]


def hard(term: int, commit_index: int = 0, vote: int = 0) -> HardState:
    return HardState(term, vote, commit_index)


def record(
    type_: int, index: int, term: int, payload: bytes = b"", *, kind: int = 0,
    generation: int = GENERATION,
) -> bytes:
    """A whole record, packed by the picture and not by the code under test."""
    covered = struct.pack("<IHHIQQ", len(payload), type_, kind, generation, index, term) + payload
    return struct.pack("<I", crc32c_portable(covered)) + covered


def segment_header(
    number: int, *, generation: int = GENERATION, end: int = 0, version: int = 1,
    node_id: int = NODE_ID,
) -> bytes:
    """A segment's header, likewise."""
    preamble = b"SEAFOAML" + struct.pack("<I", version)
    body = struct.pack("<QQIQ", number, node_id, generation, end)
    return (preamble + struct.pack("<I", crc32c_portable(preamble))
            + body + struct.pack("<I", crc32c_portable(body)))


def record_offsets(data: bytes) -> list[int]:
    """Where the records of a segment begin, and where they end."""
    offsets = [SEGMENT_HEADER_BYTES]
    while any(data[offsets[-1] : offsets[-1] + RECORD_HEADER_BYTES]):
        payload_bytes = struct.unpack_from("<I", data, offsets[-1] + 4)[0]
        offsets.append(offsets[-1] + RECORD_HEADER_BYTES + payload_bytes)
    return offsets
