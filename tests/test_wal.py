"""The write-ahead log: its bytes, and what recovery says of a whole, torn or damaged one."""

from __future__ import annotations

import itertools
import os
import random
import struct

import pytest

from seafoam._core import limits
from seafoam._core.message import ENTRY_EMPTY, ENTRY_FOUNDING, Entry, HardState
from seafoam._core.wal import Damage, WalWriter, first_segment, recover, segment_name
from seafoam._core.wire import RECORD_ENTRY, RECORD_HARD_STATE, RECORD_MARKER, SEGMENT_HEADER_BYTES
from seafoam.errors import DataDamaged, InvariantBroken, StartError
from wal_log import (
    GENERATION,
    NODE_ID,
    MemoryLog,
    entries,
    entry,
    hard,
    record,
    record_offsets,
    recover_from,
    segment_header,
)

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))

#: What version 1 wrote, and every later one must read.
HEADER_1 = bytes.fromhex(
    "534541464f414d4c 01000000 3b535eef"  # magic, version, crc
    "0100000000000000 b2a1000000000000 a3f0ea05 0000000000000000 df6e4f4b"
)
BATCH_1 = bytes.fromhex(
    "b5e75772 00000000 0300 0000 a3f0ea05 0100000000000000 3000000000000000"  # marker 1:48
    "4722e2f2 08000000 0100 0100 a3f0ea05 0100000000000000 0100000000000000 666f756e64696e67"
    "a16596d0 00000000 0100 0000 a3f0ea05 0200000000000000 0100000000000000"  # an empty entry
    "5ad5d18c 08000000 0200 0000 a3f0ea05 0100000000000000 0100000000000000 b2a1000000000000"
)
BATCH_2 = bytes.fromhex("ced620d5 00000000 0300 0000 a3f0ea05 0100000000000000 c000000000000000")
HEADER_2 = bytes.fromhex(
    "534541464f414d4c 01000000 3b535eef"
    "0200000000000000 b2a1000000000000 087b29c5 e000000000000000 3873c032"
)
ENTRY_3 = bytes.fromhex(
    "b1278c42 28000000 0100 0100 087b29c5 0300000000000000 0100000000000000" + "78" * 40
)


# -- bytes --------------------------------------------------------------------------------------


def test_golden_bytes():
    log = MemoryLog(256)
    first = [entry(1, 1, b"founding"), Entry(2, 1, ENTRY_EMPTY, b"")]
    assert first_segment(NODE_ID, GENERATION) == HEADER_1
    assert log.append(first, hard(1, 1, vote=NODE_ID)).writes == [(1, 48, BATCH_1)]
    assert log.append([entry(3, 1, b"x" * 40)]).writes == [
        (1, 192, BATCH_2), (2, 0, HEADER_2 + ENTRY_3)
    ]
    recovery = recover([(1, HEADER_1 + BATCH_1 + BATCH_2), (2, HEADER_2 + ENTRY_3)], NODE_ID)
    assert recovery.entries == [*first, entry(3, 1, b"x" * 40)]
    assert recovery.hard_state == HardState(1, NODE_ID, 1)
    assert (recovery.segment_number, recovery.offset, recovery.torn) == (2, 120, None)


def test_the_bytes_are_the_picture():
    assert segment_header(1) == HEADER_1
    assert (
        record(RECORD_MARKER, 1, 48)
        + record(RECORD_ENTRY, 1, 1, b"founding", kind=1)
        + record(RECORD_ENTRY, 2, 1, kind=0)
        + record(RECORD_HARD_STATE, 1, 1, struct.pack("<Q", NODE_ID))
    ) == BATCH_1


def test_names_sort_as_numbers_do():
    assert segment_name(1) == "0000000000000001.wal"
    assert segment_name(255) == "00000000000000ff.wal"
    assert sorted([segment_name(16), segment_name(9)]) == [segment_name(9), segment_name(16)]


def test_an_empty_log():
    recovery = recover([(1, HEADER_1 + bytes(4096))], NODE_ID)
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


def test_records_fill_segments_to_their_last_byte_and_never_span_two():
    log = MemoryLog(512)
    room = 512 - SEGMENT_HEADER_BYTES - 32  # behind the marker
    log.append([entry(1, 1, b"x" * (room - 32))])
    assert (log.writer.segment_number, log.writer.offset) == (1, 512)
    assert log.recover().entries == [entry(1, 1, b"x" * (room - 32))]
    batch = log.append([entry(2, 1, b"y" * (room - 32)), entry(3)])
    assert [(number, offset) for number, offset, _ in batch.writes] == [(2, 0), (3, 0)]
    assert len(batch.writes[0][2]) == 512
    assert [e.index for e in log.recover().entries] == [1, 2, 3]


def test_a_batch_may_span_many_segments():
    log = MemoryLog(300)
    many = [entry(index, 1, b"z" * 100) for index in range(1, 40)]
    batch = log.append(many, hard(1, 39))
    assert len(batch.writes) == 39
    assert log.recover().entries == many
    log.restart()
    log.append([entry(40)])
    assert log.recover().entries == [*many, entry(40)]


def test_the_largest_record_fits_and_one_byte_more_does_not():
    room = limits.WAL_RECORD_BYTES_MAX - 32
    log = MemoryLog(limits.WAL_RECORD_BYTES_MAX + 200)
    log.append([entry(1, 1, bytes(room))])
    assert log.recover().entries == [entry(1, 1, bytes(room))]
    with pytest.raises(InvariantBroken, match="does not fit"):
        log.writer.append([entry(2, 1, bytes(room + 1))], None)
    with pytest.raises(InvariantBroken, match="does not fit"):
        MemoryLog(256).writer.append([entry(1, 1, bytes(177))], None)


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
    batch = log.append([*entries(4, 6), Entry(7, 1, ENTRY_FOUNDING, b"")], synced=False)
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
    log = MemoryLog(512)
    log.append(entries(1, 2))
    batch = log.append([entry(i, 1, b"x" * 100) for i in range(3, 12)], synced=False)
    assert [number for number, _, _ in batch.writes] == [1, 2, 3, 4]
    first_cut = record_offsets(bytes(log.segments[1]))[-2]
    for spoil in (first_cut + 20, first_cut + 120):
        segments = log.copy()
        segments[1][spoil] ^= 0x10
        recovery = recover_from(segments)
        assert [e.index for e in recovery.entries] == [1, 2, 3]
        assert recovery.torn == (1, first_cut)
        assert [number for number, _, _ in recovery.stale] == [1, 2, 3, 4]
    log.segments[2][:SEGMENT_HEADER_BYTES] = bytes(SEGMENT_HEADER_BYTES)
    recovery = log.restart()
    assert [e.index for e in recovery.entries] == [1, 2, 3, 4]
    assert recovery.torn == (1, record_offsets(bytes(log.segments[1]))[-1])
    assert not any(log.segments[2]) and not any(log.segments[4])
    log.append([entry(5, 2, b"y" * 400), entry(6, 2)])
    assert [e.term for e in log.recover().entries] == [1, 1, 1, 1, 2, 2]


def test_the_last_segment_exchanged_with_a_prepared_one_is_no_torn_tail():
    log = MemoryLog(512)
    log.append([entry(i, 1, b"x" * 100) for i in range(1, 12)])
    log.write(log.writer.idle_marker())
    last = log.writer.segment_number
    segments = log.copy()
    segments[last + 1], segments[last] = segments[last], bytearray(512)
    with pytest.raises(Damage, match="behind the log's end"):
        recover_from(segments)


def test_a_segment_that_the_one_before_does_not_reach_is_torn():
    log = MemoryLog(512)
    log.append(entries(1, 2))
    log.append([entry(i, 1, b"x" * 100) for i in range(3, 6)], synced=False)
    offsets = record_offsets(bytes(log.segments[1]))
    log.segments[1][offsets[-2] :] = bytes(512 - offsets[-2])  # a record's page never arrived
    recovery = log.recover()
    assert [e.index for e in recovery.entries] == [1, 2, 3]
    assert recovery.stale[0][:2] == (2, 0)


# -- damage -------------------------------------------------------------------------------------


def marked_log() -> MemoryLog:
    log = MemoryLog(1024)
    for first in range(1, 40, 3):
        log.append(entries(first, first + 2), hard(1 + first // 9, first))
    log.write(log.writer.idle_marker())
    assert log.writer.segment_number >= 3
    return log


def test_any_flip_below_the_marker_is_damage_and_says_where():
    log = marked_log()
    last = record_offsets(bytes(log.segments[log.writer.segment_number]))[-2]
    places = []
    for number in sorted(log.segments):
        offsets = record_offsets(bytes(log.segments[number]))
        if number == log.writer.segment_number:
            offsets = offsets[:-1]  # the last marker marks all before it, not itself
        bounds = [0, *offsets]
        places += [
            (number, begin, at) for begin, end in itertools.pairwise(bounds)
            for at in range(begin, end)
        ]
    assert places[-1][2] < last
    bits = [(place, bit) for place in places for bit in range(8)]
    for (number, begin, at), bit in bits if SOAK else random.Random(4).sample(bits, 2000):
        segments = log.copy()
        segments[number][at] ^= 1 << bit
        with pytest.raises(Damage) as caught:
            recover_from(segments)
        assert (caught.value.segment_number, caught.value.offset) == (number, begin)
        assert segment_name(number) in str(caught.value)
        assert f"offset {begin}:" in str(caught.value)


def test_zeros_below_the_marker_are_damage():
    log = marked_log()
    for number in sorted(log.segments):
        offsets = record_offsets(bytes(log.segments[number]))
        for begin in offsets[: -2 if number == log.writer.segment_number else -1]:
            segments = log.copy()
            segments[number][begin:] = bytes(1024 - begin)
            if number < log.writer.segment_number:
                with pytest.raises(Damage):
                    recover_from(segments)
            segments = log.copy()
            segments[number][begin : begin + 32] = bytes(32)
            with pytest.raises(Damage) as caught:
                recover_from(segments)
            assert (caught.value.segment_number, caught.value.offset) == (number, begin)


def test_a_flip_above_the_marker_cuts_what_was_never_reported():
    log = MemoryLog(2048)
    log.append(entries(1, 5))
    batch = log.append(entries(6, 9), synced=False)
    ((_, offset, data),) = batch.writes
    for at in range(offset, offset + len(data)):
        segments = log.copy()
        segments[1][at] ^= 4
        assert [e.index for e in recover_from(segments).entries][:5] == [1, 2, 3, 4, 5]
        assert recover_from(segments).torn is not None


def test_flips_in_what_was_never_written_do_no_harm_between_segments():
    log = MemoryLog(512)
    log.append([entry(1, 1, b"x" * 200), entry(2, 1, b"y" * 300)])
    log.write(log.writer.idle_marker())
    end = record_offsets(bytes(log.segments[1]))[-1]
    log.segments[1][end + 5] ^= 1
    assert len(log.recover().entries) == 2
    assert log.recover().torn is None


def test_a_segment_that_is_missing_doubled_or_out_of_order_is_damage():
    log = marked_log()
    pieces = [(number, bytes(log.segments[number])) for number in sorted(log.segments)]
    assert recover(pieces, NODE_ID).entries
    for order, missing in (
        (pieces[1:], 1),
        ([pieces[0], *pieces[2:]], 2),
        ([pieces[0], pieces[0], *pieces[1:]], 2),
        ([pieces[1], pieces[0], *pieces[2:]], 1),
        ([], 1),
    ):
        with pytest.raises(Damage, match="no such segment") as caught:
            recover(order, NODE_ID)
        assert (caught.value.segment_number, caught.value.offset) == (missing, 0)


def test_a_copied_or_foreign_segment_is_refused():
    log = marked_log()
    segments = log.copy()
    segments[2] = log.segments[3]
    with pytest.raises(Damage, match=f"a copy of {segment_name(3)}"):
        recover_from(segments)
    with pytest.raises(StartError, match="belongs to node"):
        recover_from(log.segments, node_id=NODE_ID + 1)
    segments = log.copy()
    segments[2][:SEGMENT_HEADER_BYTES] = segment_header(2, generation=1)
    with pytest.raises(Damage, match="not the continuation"):
        recover_from(segments)


# -- what a later version may write -------------------------------------------------------------


def test_another_version_and_unknown_types_are_refused_by_name():
    header = segment_header(1)
    for data, words in (
        (segment_header(1, version=7), "version 7"),
        (header + record(9, 1, 1, b"?"), "type 9 and kind 0 at offset 48"),
        (header + record(0, 1, 1, b"?"), "type 0 and kind 0"),
        (header + record(RECORD_ENTRY, 1, 1, b"?", kind=8), "type 1 and kind 8"),
    ):
        with pytest.raises(StartError, match=words) as caught:
            recover([(1, data + bytes(100))], NODE_ID)
        assert not isinstance(caught.value, DataDamaged)
        assert segment_name(1) in str(caught.value)


ONE_ENTRY = record(RECORD_ENTRY, 1, 3, b"", kind=1)


def state(term, commit_index, vote=0):
    return record(RECORD_HARD_STATE, commit_index, term, struct.pack("<Q", vote))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (record(RECORD_ENTRY, 2, 1, kind=1), "entry 2 cannot follow entry 0"),
        (record(RECORD_ENTRY, 0, 1, kind=1), "entry 0 cannot follow"),
        (ONE_ENTRY + record(RECORD_ENTRY, 2, 2, kind=1), "of term 2, the one before it of term 3"),
        (ONE_ENTRY + state(3, 1) + ONE_ENTRY, "entry 1 is committed"),
        (ONE_ENTRY + state(3, 2), "entry 2 is committed, but the log ends at entry 1"),
        (ONE_ENTRY + state(4, 1) + state(3, 1), "go back"),
        (ONE_ENTRY + state(4, 1) + state(4, 0), "go back"),
        (state(4, 0, vote=1) + state(4, 0, vote=2), "the vote of term 4 changes"),
        (record(RECORD_MARKER, 1, 49), "had not been written yet"),
        (record(RECORD_MARKER, 2, 48), "had not been written yet"),
    ],
)
def test_whole_records_that_contradict_each_other_are_damage(records, words):
    with pytest.raises(Damage, match=words):
        recover([(1, segment_header(1) + records + bytes(64))], NODE_ID)


@pytest.mark.parametrize(
    "odd",
    [
        record(RECORD_HARD_STATE, 0, 1, b"vote"),
        record(RECORD_HARD_STATE, 0, 1, bytes(8), kind=1),
        record(RECORD_MARKER, 1, 48, b"?"),
        record(RECORD_MARKER, 1, 48, kind=1),
    ],
)
def test_a_record_of_another_shape_is_not_whole(odd):
    recovery = recover([(1, segment_header(1) + odd)], NODE_ID)
    assert recovery.torn == (1, 48)


def test_a_record_that_ends_behind_its_segment_is_not_whole():
    # Python ends each bytes object with a zero: a decoder that looked there would find it whole.
    whole = record(RECORD_ENTRY, 1, 1, b"x\0", kind=1)
    assert len(recover([(1, segment_header(1) + whole)], NODE_ID).entries) == 1
    assert recover([(1, segment_header(1) + whole[:-1])], NODE_ID).entries == []


def test_an_older_generations_records_are_never_taken():
    older = record(RECORD_ENTRY, 1, 1, b"ghost", kind=1, generation=GENERATION - 1)
    recovery = recover([(1, segment_header(1) + older + older)], NODE_ID)
    assert recovery.entries == []
    assert recovery.torn == (1, 48)
    # Nor are its markers, which would turn a torn tail into damage.
    ghost = record(RECORD_MARKER, 1, 60, generation=GENERATION - 1)
    assert recover([(1, segment_header(1) + b"\1" * 33 + ghost)], NODE_ID).torn == (1, 48)
    marker = record(RECORD_MARKER, 1, 60)
    with pytest.raises(Damage):
        recover([(1, segment_header(1) + b"\1" * 33 + marker)], NODE_ID)


# -- crashes against a model --------------------------------------------------------------------


class Model:
    """What the log means after each record that was written, and how many are synced."""

    def __init__(self) -> None:
        self.history = [([], HardState(0, 0, 0))]
        self.synced_count = 0

    def write(self, new_entries, hard_state) -> None:
        log, state = self.history[-1]
        for e in new_entries:
            log = [*log[: e.index - 1], e]
            self.history.append((log, state))
        if hard_state is not None:
            self.history.append((log, hard_state))

    def accepts(self, recovery) -> int | None:
        """Which moment this is, the latest if several; None where there was no such moment."""
        for moment in range(len(self.history) - 1, self.synced_count - 1, -1):
            log, state = self.history[moment]
            if log and log[-1].term > state.term:
                state = HardState(log[-1].term, 0, state.commit_index)
            if recovery.entries == log and recovery.hard_state == state:
                return moment
        return None


def random_append(generator, log, state):
    """Entries and a hard state as Raft would write them: conflicts only above the commit index."""
    term = state.term + (generator.random() < 0.3)
    # A follower's log may end in a term that its own has not been written for.
    term = max(term, log[-1].term if log else 0)
    first = len(log) + 1
    if term > state.term and generator.random() < 0.5:
        first = generator.randint(state.commit_index + 1, len(log) + 1)
    count = generator.choice((0, 1, 1, 2, 5))
    new = [entry(first + i, term, generator.randbytes(generator.choice((0, 8, 90))))
           for i in range(count)]
    last = first + count - 1 if new else len(log)
    if new and generator.random() < 0.4:
        return new, None
    commit_index = generator.randint(state.commit_index, max(last, state.commit_index))
    vote = state.vote if term == state.term and state.vote else generator.randint(0, 3)
    return new, HardState(term, vote, commit_index)


def crash(generator, log, unsynced, block_bytes):
    """Undo any subset of the blocks that were written since the last sync."""
    mode = generator.choice(("subset", "prefix", "nothing", "everything"))
    kept = True
    for number, offset, data in unsynced:
        at = offset
        while at < offset + len(data):
            end = min((at // block_bytes + 1) * block_bytes, offset + len(data))
            kept = {"subset": generator.random() < 0.6, "nothing": False, "everything": True,
                    "prefix": kept and generator.random() < 0.9}[mode]
            if not kept:
                log.segments[number][at:end] = bytes(end - at)
            at = end


@pytest.mark.parametrize("seed", range(5000 if SOAK else 150))
def test_any_crash_leaves_a_moment_not_older_than_the_last_sync(seed):
    generator = random.Random(seed)
    log = MemoryLog(generator.choice((512, 1024, 4096)))
    model = Model()
    for _ in range(6):  # lives of the same log
        unsynced, ends = [], []
        for _ in range(generator.randint(1, 25)):
            new, state = random_append(generator, *model.history[-1])
            batch = log.append(new, state, synced=False)
            model.write(new, state)
            unsynced += batch.writes
            ends.append((batch.end, len(model.history) - 1))
            if generator.random() < 0.3:
                end, moment = ends[-1]
                log.writer.synced_to(end)
                model.synced_count = moment
                unsynced, ends = [], []
                if generator.random() < 0.3 and (marker := log.writer.idle_marker()):
                    log.write(marker, synced=False)
                    unsynced += marker.writes
        crash(generator, log, unsynced, generator.choice((16, 64, 512)))
        recovery = log.restart()
        moment = model.accepts(recovery)
        assert moment is not None, (recovery, model.synced_count, len(model.history))
        model.history = [(recovery.entries[:], recovery.hard_state)]
        model.synced_count = 0


# -- garbage ------------------------------------------------------------------------------------


def test_a_spoiled_log_is_recovered_or_refused():
    generator = random.Random(6)
    log = marked_log()
    outcomes = {"recovered": 0, "refused": 0}
    for _ in range(20_000 if SOAK else 2_000):
        segments = log.copy()
        for _ in range(generator.randint(1, 6)):
            data = segments[generator.choice(sorted(segments))]
            at = generator.randrange(len(data) + 1)
            kind = generator.randrange(4)
            if kind == 0:
                data[at : at + 1] = bytes(byte ^ 1 << generator.randrange(8)
                                          for byte in data[at : at + 1])
            elif kind == 1:
                data[at : at + 4] = generator.choice((b"\xff" * 4, bytes(4), b"\0\0\0\1"))
            elif kind == 2:
                del data[at:]
            else:
                data[at : at + 40] = generator.randbytes(40)
        try:
            recover_from(segments)
            outcomes["recovered"] += 1
        except StartError:
            outcomes["refused"] += 1
    assert all(outcomes.values()), outcomes


def test_noise_is_no_log():
    generator = random.Random(7)
    for _ in range(300):
        noise = generator.randbytes(generator.randrange(300))
        with pytest.raises(Damage, match="header"):
            recover([(1, noise)], NODE_ID)
        recovery = recover([(1, segment_header(1) + noise)], NODE_ID)
        assert recovery.entries == []


def test_a_writer_goes_on_from_what_was_recovered_only():
    log = MemoryLog()
    log.append(entries(1, 3))
    with pytest.raises(InvariantBroken):
        WalWriter(log.recover(), 4096).append([entry(5)], None)
