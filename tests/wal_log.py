"""A log in memory for tests of the WAL: what a disk would hold, and ways to spoil it."""

from __future__ import annotations

import struct

from seafoam._core import limits
from seafoam._core.message import ENTRY_COMMAND, ENTRY_EMPTY, Entry, HardState
from seafoam._core.pack import crc32c_portable
from seafoam._core.wal import (
    Recovery,
    WalBatch,
    WalWriter,
    first_segment,
    next_segment,
    recover,
)
from seafoam._core.wire import (
    RECORD_FRONT,
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Operation,
    encode_command,
)

NODE_ID = 0xA1B2
GENERATION = 0x5EAF0A3
#: Version and count of a command's operations.
COMMAND_HEAD_BYTES = 21
#: What `command` adds to its text.
COMMAND_BYTES = len(encode_command([Operation.set(b"k", b"1")])) - 1


class MemoryLog:
    """Segments as they would be on disk, and the writer that goes on behind them."""

    def __init__(self, segment_bytes: int = 4096) -> None:
        self.segment_bytes = segment_bytes
        #: Index and term of a snapshot beside the log.
        self.snapshot: tuple[int, int] | None = None
        header = first_segment(NODE_ID, GENERATION, segment_bytes)
        self.segments = {1: bytearray(header.ljust(segment_bytes, b"\0"))}
        self.writer = WalWriter(self.recover(), segment_bytes)

    def prepare(self, number: int) -> None:
        """Make a segment ready, as a disk does before it writes into it."""
        if any(self.segments.get(number, b"")[:SEGMENT_HEADER_BYTES]):
            return
        self.prepare(number - 1)
        before = bytes(self.segments[number - 1][:SEGMENT_HEADER_BYTES])
        header = next_segment(before, self.segment_bytes)
        self.segments[number] = bytearray(header.ljust(self.segment_bytes, b"\0"))

    def copy(self) -> dict[int, bytearray]:
        return {number: bytearray(data) for number, data in self.segments.items()}

    def write(self, batch: WalBatch, *, synced: bool = True) -> WalBatch:
        for number, offset, data in batch.writes:
            self.prepare(number)
            segment = self.segments[number]
            assert not any(segment[offset : offset + len(data)]), "a write over what is there"
            assert offset + len(data) <= len(segment)
            segment[offset : offset + len(data)] = data
        if synced:
            self.writer.synced_to(batch.end)
        return batch

    def append(self, entries, hard_state=None, base=None, *, synced: bool = True) -> WalBatch:
        return self.write(self.writer.append(entries, hard_state, base), synced=synced)

    def drop(self, index: int, count: int | None = None) -> list[int]:
        """Remove what a snapshot at `index` makes unnecessary, or so many segments of it."""
        numbers = self.writer.droppable(index)[:count]
        for number in numbers:
            self.writer.dropped(number)
            del self.segments[number]
        return numbers

    def recover(self) -> Recovery:
        return recover_from(self.segments, snapshot=self.snapshot)

    def restart(self) -> Recovery:
        """Recover, cut as a disk would, and go on behind what is left."""
        recovery = self.recover()
        for number, begin, end in recovery.stale:
            self.segments[number][begin:end] = bytes(end - begin)
        for number in recovery.unneeded:
            del self.segments[number]
        assert self.recover().torn is None
        self.writer = WalWriter(recovery, self.segment_bytes)
        return recovery


def recover_from(
    segments: dict[int, bytearray], node_id: int = NODE_ID,
    snapshot: tuple[int, int] | None = None,
) -> Recovery:
    """What a disk would find in these; the files are as long as they are here."""
    return recover([(number, bytes(data), len(data)) for number, data in sorted(segments.items())],
                   node_id, snapshot)


def meaning(recovery: Recovery):
    """What a recovery says of the node's state."""
    return recovery.base, recovery.entries, recovery.hard_state


def command(text: bytes) -> bytes:
    """A command that says nothing but `text`; COMMAND_BYTES longer."""
    return encode_command([Operation.set(b"k", text)])


def command_of(length: int) -> bytes:
    """A command of so many bytes, in as many operations as its values need."""
    head_bytes = len(encode_command([Operation.set(b"k", b"1")])) - 1
    each_bytes = head_bytes - COMMAND_HEAD_BYTES
    operations = []
    length -= COMMAND_HEAD_BYTES
    while length > 0:
        value_bytes = min(length - each_bytes, limits.VALUE_BYTES_MAX)
        if 0 < length - each_bytes - value_bytes <= each_bytes:
            value_bytes -= each_bytes  # the rest must hold an operation
        operations.append(Operation.set(b"k", b"1" * value_bytes))
        length -= each_bytes + value_bytes
    return encode_command(operations)


def entry(index: int, term: int = 1, text: bytes | None = None) -> Entry:
    """A command that says `text`; without one (b""), a leader's empty entry."""
    if text == b"":
        return Entry(index, term, ENTRY_EMPTY, b"")
    text = b"entry %d of %d" % (index, term) if text is None else text
    return Entry(index, term, ENTRY_COMMAND, command(text))


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
    number: int, *, generation: int = GENERATION, segment_bytes: int = 4096, version: int = 1,
    node_id: int = NODE_ID,
) -> bytes:
    """A segment's header, likewise."""
    preamble = b"SEAFOAML" + struct.pack("<I", version)
    body = struct.pack("<QQIQ", number, node_id, generation, segment_bytes)
    return (preamble + struct.pack("<I", crc32c_portable(preamble))
            + body + struct.pack("<I", crc32c_portable(body)))


def segments_of(*segments: bytes, segment_bytes: int = 4096) -> list[tuple[int, bytes, int]]:
    """What `recover` takes: these from number 1 on, each in a file of its whole length."""
    return [(number, data, segment_bytes) for number, data in enumerate(segments, 1)]


def record_offsets(data: bytes) -> list[int]:
    """Where the records of a segment begin, and where they end."""
    offsets = [SEGMENT_HEADER_BYTES]
    while any(data[offsets[-1] : offsets[-1] + RECORD_HEADER_BYTES]):
        payload_bytes = struct.unpack_from("<I", data, offsets[-1] + 4)[0]
        offsets.append(offsets[-1] + RECORD_HEADER_BYTES + payload_bytes)
    return offsets


def front(index: int, term: int, state: HardState, *, generation: int) -> bytes:
    """The first record of a segment behind the first."""
    payload = struct.pack("<QQQ", state.term, state.vote, state.commit_index)
    return record(RECORD_FRONT, index, term, payload, generation=generation)


def random_append(generator, base, log, state, sizes=(0, 8, 90)):
    """Entries and a hard state as Raft would write them: conflicts only above the commit index.

    `log` is what there is behind `base`, an (index, term).
    """
    last = base[0] + len(log)
    term = state.term + (generator.random() < 0.3)
    # A follower's log may end in a term that its own has not been written for.
    term = max(1, term, log[-1].term if log else base[1])
    first = last + 1
    if term > state.term and generator.random() < 0.5:
        first = generator.randint(state.commit_index + 1, last + 1)
    count = generator.choice((0, 1, 1, 2, 5))
    new = [entry(first + i, term, generator.randbytes(generator.choice(sizes)))
           for i in range(count)]
    last = first + count - 1 if new else last
    if new and generator.random() < 0.4:
        return new, None
    commit_index = generator.randint(state.commit_index, max(last, state.commit_index))
    vote = state.vote if term == state.term and state.vote else generator.randint(0, 3)
    return new, HardState(term, vote, commit_index)


def torn_rotation():
    """Entries 1 and 2, synced, and a batch over segments 1 to 4 that is not."""
    log = MemoryLog(512)
    log.append(entries(1, 2))
    batch = log.append([entry(i, 1, b"x" * 70) for i in range(3, 10)], synced=False)
    assert [number for number, _, _ in batch.writes] == [1, 2, 3, 4]
    return log, record_offsets(bytes(log.segments[1]))


def marked_log() -> MemoryLog:
    """Some segments of batches, all of them synced and marked."""
    log = MemoryLog(1024)
    for first in range(1, 40, 3):
        log.append(entries(first, first + 2), hard(1 + first // 9, first))
    log.write(log.writer.idle_marker())
    assert log.writer.segment_number >= 3
    return log
