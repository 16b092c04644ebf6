"""The write-ahead log: its bytes, and what recovery says of a whole, torn or damaged one."""

from __future__ import annotations

import itertools
import os
import random
import struct

import pytest

from seafoam._core import limits
from seafoam._core.message import ENTRY_COMMAND, ENTRY_EMPTY, Entry, HardState
from seafoam._core.wal import (
    Damage,
    WalWriter,
    first_segment,
    next_segment,
    recover,
    segment_name,
)
from seafoam._core.wire import (
    FRONT_BYTES,
    RECORD_BASE,
    RECORD_ENTRY,
    RECORD_HARD_STATE,
    RECORD_HEADER_BYTES,
    RECORD_MARKER,
    RECORD_ROTATION,
    SEGMENT_HEADER_BYTES,
)
from seafoam.errors import InvariantBroken
from wal_log import (
    COMMAND_BYTES,
    GENERATION,
    NODE_ID,
    MemoryLog,
    command,
    command_of,
    entries,
    entry,
    front,
    hard,
    record,
    record_offsets,
    recover_from,
    segment_header,
    segments_of,
    torn_rotation,
)

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))

#: What version 1 wrote, and every later one must read.
HEADER_1 = bytes.fromhex(
    "534541464f414d4c 01000000 3b535eef"  # magic, version, crc
    "0100000000000000 b2a1000000000000 a3f0ea05 2001000000000000 8e274c2e"
)
BATCH_1 = bytes.fromhex(
    "b5e75772 00000000 0300 0000 a3f0ea05 0100000000000000 3000000000000000"  # marker 1:48
    "30e7b798 1f000000 0100 0100 a3f0ea05 0100000000000000 0100000000000000"
    "01 01000000 0000000000000000 0000000000000000 02 00 0100 01000000 6b 31"
    "a16596d0 00000000 0100 0000 a3f0ea05 0200000000000000 0100000000000000"  # an empty entry
    "5ad5d18c 08000000 0200 0000 a3f0ea05 0100000000000000 0100000000000000 b2a1000000000000"
)
BATCH_2 = bytes.fromhex(
    "7eda0fab 00000000 0300 0000 a3f0ea05 0100000000000000 d700000000000000"  # marker 1:215
    "ff517448 00000000 0400 0000 a3f0ea05 0200000000000000 3000000000000000"  # goes on at 2:48
)
HEADER_2 = bytes.fromhex(
    "534541464f414d4c 01000000 3b535eef"
    "0200000000000000 b2a1000000000000 087b29c5 2001000000000000 a602c274"
)
FRONT_2 = bytes.fromhex(
    "7038b0d7 18000000 0600 0000 087b29c5 0200000000000000 0100000000000000"
    "0100000000000000 b2a1000000000000 0100000000000000"  # behind entry 2; term, vote, commit
)
ENTRY_3 = bytes.fromhex(
    "b61a2a6c 46000000 0100 0100 087b29c5 0300000000000000 0100000000000000"
    "01 01000000 0000000000000000 0000000000000000 02 00 0100 28000000 6b" + "78" * 40
)
BASE_7 = bytes.fromhex("07a43ddd 00000000 0500 0000 a3f0ea05 0700000000000000 0200000000000000")


# -- bytes --------------------------------------------------------------------------------------


def test_golden_bytes():
    log = MemoryLog(288)
    first = [entry(1, 1, b"1"), Entry(2, 1, ENTRY_EMPTY, b"")]
    assert first_segment(NODE_ID, GENERATION, 288) == HEADER_1
    assert next_segment(HEADER_1, 288) == HEADER_2
    assert log.append(first, hard(1, 1, vote=NODE_ID)).writes == [(1, 48, BATCH_1)]
    assert log.append([entry(3, 1, b"x" * 40)]).writes == [(1, 215, BATCH_2),
                                                              (2, 48, FRONT_2 + ENTRY_3)]
    # What versions without fronts wrote is read as well.
    for front_2, end in ((FRONT_2, 206), (b"", 150)):
        recovery = recover(segments_of(HEADER_1 + BATCH_1 + BATCH_2, HEADER_2 + front_2 + ENTRY_3,
                                       segment_bytes=288), NODE_ID)
        assert recovery.entries == [*first, entry(3, 1, b"x" * 40)]
        assert recovery.hard_state == HardState(1, NODE_ID, 1)
        assert (recovery.segment_number, recovery.offset, recovery.torn) == (2, end, None)
        assert (recovery.header, recovery.segment_bytes) == (HEADER_2, 288)
    assert MemoryLog().append([], None, (7, 2)).writes[0][2][32:] == BASE_7


def test_the_bytes_are_the_picture():
    assert segment_header(1, segment_bytes=288) == HEADER_1
    assert (
        record(RECORD_MARKER, 1, 48)
        + record(RECORD_ENTRY, 1, 1, command(b"1"), kind=1)
        + record(RECORD_ENTRY, 2, 1, kind=0)
        + record(RECORD_HARD_STATE, 1, 1, struct.pack("<Q", NODE_ID))
    ) == BATCH_1
    assert record(RECORD_MARKER, 1, 215) + record(RECORD_ROTATION, 2, 48) == BATCH_2
    generation = 0xc5297b08
    assert front(2, 1, HardState(1, NODE_ID, 1), generation=generation) == FRONT_2
    assert record(RECORD_BASE, 7, 2) == BASE_7


def test_names_sort_as_numbers_do():
    assert segment_name(1) == "0000000000000001.wal"
    assert segment_name(255) == "00000000000000ff.wal"
    assert sorted([segment_name(16), segment_name(9)]) == [segment_name(9), segment_name(16)]


def test_an_empty_log():
    recovery = recover(segments_of(HEADER_1 + bytes(4096)), NODE_ID)
    assert recovery.entries == []
    assert recovery.hard_state == HardState(0, 0, 0)
    assert (recovery.node_id, recovery.generation) == (NODE_ID, GENERATION)
    assert (recovery.segment_number, recovery.offset, recovery.torn) == (1, 48, None)


# -- writing ------------------------------------------------------------------------------------


def test_each_batch_begins_with_the_position_known_to_be_synced():
    log = MemoryLog()
    ends = [(1, 48)]
    for index in range(1, 5):
        ends.append(log.append([entry(index)], synced=index != 2).end)
    data = bytes(log.segments[1])
    markers = [
        struct.unpack_from("<QQ", data, offset + 16)
        for offset in record_offsets(data)[:-1]
        if data[offset + 8] == RECORD_MARKER
    ]
    # The second batch was not reported, so the third says no more than the second did.
    assert markers == [ends[0], ends[1], ends[1], ends[3]]


def test_an_idle_log_writes_one_marker_and_no_more():
    log = MemoryLog()
    assert log.writer.idle_marker() is None
    batch = log.append(entries(1, 3), synced=False)
    assert log.writer.idle_marker() is None, "nothing is known to be synced yet"
    log.writer.synced_to(batch.end)
    marker = log.write(log.writer.idle_marker())
    assert len(marker.writes) == 1
    assert log.writer.idle_marker() is None
    with pytest.raises(Damage):
        log.segments[1][100] ^= 1
        log.recover()
    log.segments[1][100] ^= 1
    log.append([entry(4)])
    assert log.write(log.writer.idle_marker()) is not None
    log.restart()
    assert log.writer.idle_marker() is None, "the log says so already"


def test_an_idle_log_marks_what_a_restart_made_durable():
    log = MemoryLog()
    log.append(entries(1, 3), synced=False)
    log.restart()
    assert log.write(log.writer.idle_marker()) is not None
    log.segments[1][100] ^= 1
    with pytest.raises(Damage):
        log.recover()


def test_a_restarted_log_marks_what_it_read():
    log = MemoryLog()
    log.append(entries(1, 3))
    log.restart()
    log.append([entry(4)], synced=False)
    log.segments[1][100] ^= 1
    with pytest.raises(Damage):
        log.recover()


def test_records_fill_segments_to_the_rotation_and_never_span_two():
    log = MemoryLog(512)
    room = 512 - SEGMENT_HEADER_BYTES - 2 * RECORD_HEADER_BYTES  # behind the marker
    text = room - RECORD_HEADER_BYTES - COMMAND_BYTES
    log.append([entry(1, 1, b"x" * text)])
    rest = text - FRONT_BYTES
    assert (log.writer.segment_number, log.writer.offset) == (1, 512 - RECORD_HEADER_BYTES)
    assert log.writer.room_bytes == 0
    assert log.recover().entries == [entry(1, 1, b"x" * text)]
    batch = log.append([entry(2, 1, b"y" * rest), entry(3)])
    assert [(number, offset) for number, offset, _ in batch.writes] == [(1, 480), (2, 48), (3, 48)]
    assert [len(data) for _, _, data in batch.writes][:2] == [32, 512 - SEGMENT_HEADER_BYTES]
    assert [e.index for e in log.recover().entries] == [1, 2, 3]


@pytest.mark.parametrize("length", [300, 900])
def test_a_log_goes_on_in_segments_of_another_length(length):
    log = MemoryLog(512)
    log.append([entry(1)])
    log.segment_bytes = length
    log.writer = WalWriter(log.recover(), length)
    many = [entry(index, 1, b"x" * 100) for index in range(2, 40)]
    for e in many:
        log.append([e])
    assert {len(data) for data in log.segments.values()} == {512, length}
    assert (log.recover().segment_bytes, log.recover().entries) == (length, [entry(1), *many])


def test_a_batch_may_span_many_segments():
    log = MemoryLog(300)
    many = [entry(index, 1, b"z" * 100) for index in range(1, 40)]
    batch = log.append(many, hard(1, 39))
    assert len(batch.writes) == 40, "and one for the hard state"
    assert log.recover().entries == many
    log.restart()
    log.append([entry(40)])
    assert log.recover().entries == [*many, entry(40)]


def test_the_largest_record_fits_and_one_byte_more_does_not():
    room = limits.WAL_RECORD_BYTES_MAX - RECORD_HEADER_BYTES
    log = MemoryLog(limits.WAL_RECORD_BYTES_MAX + 200)
    largest = Entry(1, 1, ENTRY_COMMAND, command_of(room))
    log.append([largest])
    assert log.recover().entries == [largest]
    with pytest.raises(InvariantBroken, match="does not fit"):
        log.writer.append([Entry(2, 1, ENTRY_COMMAND, bytes(room + 1))], None)
    with pytest.raises(InvariantBroken, match="does not fit"):
        MemoryLog(256).writer.append([Entry(1, 1, ENTRY_COMMAND, bytes(256 - 48 - 64 + 1))], None)


def test_the_writer_refuses_what_recovery_would_call_damage():
    log = MemoryLog()
    log.append(entries(1, 3))
    for index in (0, 5):
        with pytest.raises(InvariantBroken, match="cannot follow"):
            log.writer.append([entry(index)], None)
    with pytest.raises(InvariantBroken, match="was synced"):
        log.writer.synced_to((1, 60))
    with pytest.raises(InvariantBroken, match="the log ends at"):
        log.writer.synced_to((2, 48))


# -- what is recovered --------------------------------------------------------------------------


def test_a_later_entry_replaces_the_log_from_its_index_on():
    log = MemoryLog()
    log.append(entries(1, 5, term=1), hard(1, 2))
    log.append([entry(4, 2)], hard(2, 2))
    assert log.recover().entries == [*entries(1, 3, term=1), entry(4, 2)]
    log.append(entries(3, 4, term=3), hard(3, 3))
    assert log.recover().entries == [*entries(1, 2, term=1), *entries(3, 4, term=3)]
    assert log.recover().hard_state == hard(3, 3)


def test_the_whole_log_may_be_replaced():
    log = MemoryLog()
    log.append(entries(1, 3, term=1))
    log.append([entry(1, 2)])
    assert log.recover().entries == [entry(1, 2)]


def test_the_term_is_at_least_the_last_entrys():
    log = MemoryLog()
    log.append(entries(1, 2), hard(1, 2, vote=7))
    batch = log.append([entry(3, 4)], hard(4, 3, vote=9), synced=False)
    assert log.recover().hard_state == hard(4, 3, vote=9)
    log.segments[1][batch.end[1] - 1] ^= 1  # tears the hard state, the last record of its batch
    recovery = log.restart()
    assert recovery.entries[-1] == entry(3, 4)
    assert recovery.hard_state == hard(4, 2, vote=0)


# -- torn tails ---------------------------------------------------------------------------------


def whole_entries(log, segments, begin):
    """How many entries behind `begin`, one after the other, are as they were written."""
    written, found = bytes(log.segments[1]), bytes(segments[1])
    offsets = [offset for offset in record_offsets(written) if offset >= begin]
    count = 0
    for at, end in itertools.pairwise(offsets):
        if found[at:end] != written[at:end]:
            break
        count += written[at + 8] == RECORD_ENTRY
    return count


FILLERS = {
    "zeros": lambda length: bytes(length),
    "noise": lambda length: random.Random(length).randbytes(length),
    "an older file's records": lambda length: (
        record(RECORD_ENTRY, 5, 1, b"ghost", kind=1, generation=77) * 40)[:length],
}


@pytest.mark.parametrize("filler", FILLERS)
def test_a_tail_torn_at_any_byte_is_cut_to_whole_records(filler):
    log = MemoryLog(1024)
    log.append(entries(1, 3), hard(1, 2))
    batch = log.append([*entries(4, 6), Entry(7, 1, ENTRY_EMPTY, b"")], synced=False)
    ((_, offset, data),) = batch.writes
    for length in range(len(data)):
        segments = log.copy()
        rest = 1024 - offset - length
        segments[1][offset + length :] = FILLERS[filler](rest).ljust(rest, b"\0")
        recovery = recover_from(segments)
        count = whole_entries(log, segments, offset)
        assert [e.index for e in recovery.entries] == list(range(1, 4 + count)), length
        assert recovery.hard_state == hard(1, 2)
        assert (recovery.torn is None) == (not any(segments[1][recovery.offset :]))


def test_what_was_cut_can_not_join_on_to_what_comes_after():
    # The second of three records is torn, the third is whole; a new record of just the second's
    # length would stand before the third.
    log = MemoryLog(1024)
    log.append(entries(1, 2))
    log.append([entry(3, 1, b"a" * 50), entry(4, 1, b"b" * 50), entry(5, 1, b"c" * 50)],
               synced=False)
    offsets = record_offsets(bytes(log.segments[1]))
    log.segments[1][offsets[-3] + 40] ^= 1
    recovery = log.restart()
    assert [e.index for e in recovery.entries] == [1, 2, 3]
    assert recovery.stale == [(1, offsets[-3], offsets[-1])]
    log.append([entry(4, 2, b"")])  # with its marker 64 bytes, and 82 were cut
    log.append([entry(5, 2, b"")])
    assert [e.term for e in log.recover().entries] == [1, 1, 1, 2, 2]


def test_a_torn_rotation_is_cut_in_all_its_segments():
    log, offsets = torn_rotation()
    for spoil in (offsets[-3] + 20, offsets[-3] + 120):
        segments = log.copy()
        segments[1][spoil] ^= 0x10
        recovery = recover_from(segments)
        assert [e.index for e in recovery.entries] == [1, 2]
        assert recovery.torn == (1, offsets[-3])
        assert [number for number, _, _ in recovery.stale] == [1, 2, 3, 4]
    headers = {number: data[:SEGMENT_HEADER_BYTES] for number, data in log.segments.items()}
    log.segments[1][offsets[-2] + 20] ^= 0x10  # the rotation record itself
    recovery = log.restart()
    assert [e.index for e in recovery.entries] == [1, 2, 3]
    assert recovery.torn == (1, offsets[-2])
    for number in (2, 3, 4):
        assert log.segments[number][:SEGMENT_HEADER_BYTES] == headers[number], "headers stay"
        assert not any(log.segments[number][SEGMENT_HEADER_BYTES:])
    log.append([entry(4, 2, b"y" * 300), entry(5, 2)])
    assert [e.term for e in log.recover().entries] == [1, 1, 1, 2, 2]


def test_a_rotation_into_a_segment_without_records_is_where_the_log_ends():
    log, _ = torn_rotation()
    log.segments[2][SEGMENT_HEADER_BYTES:] = bytes(512 - SEGMENT_HEADER_BYTES)
    recovery = log.restart()
    assert [e.index for e in recovery.entries] == [1, 2, 3]
    assert (recovery.segment_number, recovery.offset) == (2, SEGMENT_HEADER_BYTES)
    assert [number for number, _, _ in recovery.stale] == [3, 4]
    log.append([entry(4, 2)])
    assert log.recover().entries[-1] == entry(4, 2)


def test_a_segment_in_the_making_is_no_torn_tail_and_no_damage():
    log = MemoryLog(512)
    log.append(entries(1, 2))
    header = next_segment(bytes(log.segments[1][:48]), 512)
    for data, stale in (
        (b"", []),
        (bytes(100), []),
        (bytes(512), []),
        (header + bytes(464), []),
        (header[:26] + bytes(486), [(2, 0, 26)]),
    ):
        recovery = recover_from({**log.segments, 2: bytearray(data)})
        assert [e.index for e in recovery.entries] == [1, 2]
        assert (recovery.segment_number, recovery.stale) == (1, stale)


def test_the_last_segment_exchanged_with_a_prepared_one_is_no_torn_tail():
    log = MemoryLog(512)
    log.append([entry(i, 1, b"x" * 100) for i in range(1, 12)])
    log.write(log.writer.idle_marker())
    last = log.writer.segment_number
    log.prepare(last + 1)
    segments = log.copy()
    segments[last + 1], segments[last] = segments[last], segments[last + 1]
    with pytest.raises(Damage, match=f"a copy of {segment_name(last + 1)}"):
        recover_from(segments)
    # Behind the end too, where nothing reads on.
    segments = log.copy()
    segments[last + 1] = segments[last - 1]
    with pytest.raises(Damage, match=f"a copy of {segment_name(last - 1)}"):
        recover_from(segments)
