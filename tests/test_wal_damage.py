"""What recovery refuses: damage by file and offset, what a later version wrote, and garbage."""

from __future__ import annotations

import itertools
import os
import random
import struct

import pytest

from seafoam._core.wal import Damage, WalWriter, recover, segment_name
from seafoam._core.wire import (
    RECORD_ENTRY,
    RECORD_HARD_STATE,
    RECORD_MARKER,
    RECORD_ROTATION,
    SEGMENT_HEADER_BYTES,
    encode_founding,
)
from seafoam._core.wire_change import MemberChange, encode_changes
from seafoam.errors import DataDamaged, InvariantBroken, StartError
from wal_log import (
    GENERATION,
    NODE_ID,
    MemoryLog,
    command,
    command_of,
    entries,
    entry,
    marked_log,
    record,
    record_offsets,
    recover_from,
    segment_header,
    segments_of,
    torn_rotation,
)

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))

# -- damage -------------------------------------------------------------------------------------


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
    pieces = segments_of(*(bytes(log.segments[number]) for number in sorted(log.segments)),
                         segment_bytes=log.segment_bytes)
    assert recover(pieces, NODE_ID).entries
    for order, missing in (
        (pieces[1:], 1),
        ([pieces[0], *pieces[2:]], 2),
        ([pieces[0], pieces[0], *pieces[1:]], 2),
        ([pieces[1], pieces[0], *pieces[2:]], 1),
        (pieces[:-1], len(pieces)),
        (pieces[:1], 2),
        ([], 1),
    ):
        with pytest.raises(Damage, match="no such segment") as caught:
            recover(order, NODE_ID)
        assert (caught.value.segment_number, caught.value.offset) == (missing, 0)


def test_a_segment_shorter_than_it_was_made_is_damage():
    log = marked_log()
    last = log.writer.segment_number
    log.prepare(last + 1)
    for number in sorted(log.segments):
        header_and_a_little = {0, 1, 47, 48, 49, 100, 1023}
        for length in range(1024) if SOAK else sorted(header_and_a_little | {*range(7, 1024, 61)}):
            segments = log.copy()
            del segments[number][length:]
            if number > last and length == 0:
                assert recover_from(segments).entries, "a file in the making"
                continue
            if number > last and length < SEGMENT_HEADER_BYTES:
                continue  # half a header may be a file in the making too
            with pytest.raises(Damage) as caught:
                recover_from(segments)
            where = 0 if length < SEGMENT_HEADER_BYTES else length
            assert (caught.value.segment_number, caught.value.offset) == (number, where)
            assert segment_name(number) in str(caught.value)


def test_a_segment_that_a_rotation_names_is_never_taken_for_one_in_the_making():
    log = marked_log()
    last = log.writer.segment_number
    for data in (bytes(1024), b"", bytes(log.segments[last][:47]) + bytes(977)):
        segments = log.copy()
        segments[last] = bytearray(data)
        with pytest.raises(Damage, match="its header is not whole") as caught:
            recover_from(segments)
        assert (caught.value.segment_number, caught.value.offset) == (last, 0)


def test_records_behind_the_end_without_a_header_are_damage():
    log, offsets = torn_rotation()
    log.segments[1][offsets[-2] :] = bytes(512 - offsets[-2])
    for spoiled in (bytes(SEGMENT_HEADER_BYTES), bytes(log.segments[2][:40]) + bytes(8)):
        segments = log.copy()
        segments[2][:SEGMENT_HEADER_BYTES] = spoiled
        with pytest.raises(Damage, match="its header is not whole") as caught:
            recover_from(segments)
        assert (caught.value.segment_number, caught.value.offset) == (2, 0)


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


FOUNDING = encode_founding(5, bytes(16), [(NODE_ID, "127.0.0.1:3010")])
CHANGE = encode_changes([MemberChange(1, 2, "127.0.0.1:5010")])


def command_record(at: int, value: int) -> bytes:
    """A whole record of a command with another byte in one place."""
    data = bytearray(command(b"1"))
    data[at] = value
    return record(RECORD_ENTRY, 1, 1, bytes(data), kind=1)


def test_another_version_and_unknown_types_are_refused_by_name():
    header = segment_header(1)
    for data, words in (
        (segment_header(1, version=7), "version 7"),
        (header + record(9, 1, 1, b"?"), "type 9 and kind 0 at offset 48"),
        (header + record(0, 1, 1, b"?"), "type 0 and kind 0"),
        (header + record(RECORD_ENTRY, 1, 1, b"?", kind=8), "type 1 and kind 8"),
        (header + command_record(0, 2), "in entry 1 a version or an operation at offset 48"),
        (header + command_record(21, 5), "in entry 1 a version or an operation at offset 48"),
        (header + command_record(22, 8), "in entry 1 a version or an operation at offset 48"),
        (header + record(RECORD_ENTRY, 1, 1, b"\2" + FOUNDING[1:], kind=2), "in entry 1 a"),
        (header + record(RECORD_ENTRY, 1, 1, b"\2" + CHANGE[1:], kind=3), "in entry 1 a"),
    ):
        with pytest.raises(StartError, match=words) as caught:
            recover(segments_of(data + bytes(100)), NODE_ID)
        assert not isinstance(caught.value, DataDamaged)
        assert segment_name(1) in str(caught.value)
        assert "\n" not in str(caught.value)


ONE_ENTRY = record(RECORD_ENTRY, 1, 3)


def state(term, commit_index, vote=0):
    return record(RECORD_HARD_STATE, commit_index, term, struct.pack("<Q", vote))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (record(RECORD_ENTRY, 2, 1), "entry 2 cannot follow entry 0"),
        (record(RECORD_ENTRY, 0, 1), "entry 0 cannot follow"),
        (ONE_ENTRY + record(RECORD_ENTRY, 2, 2), "of term 2, the one before it of term 3"),
        (ONE_ENTRY + state(3, 1) + ONE_ENTRY, "entry 1 is committed"),
        (ONE_ENTRY + state(3, 2), "entry 2 is committed, but the log ends at entry 1"),
        (ONE_ENTRY + state(4, 1) + state(3, 1), "go back"),
        (ONE_ENTRY + state(4, 1) + state(4, 0), "go back"),
        (state(4, 0, vote=1) + state(4, 0, vote=2), "the vote of term 4 changes"),
        (record(RECORD_MARKER, 1, 49), "had not been written yet"),
        (record(RECORD_MARKER, 2, 48), "had not been written yet"),
        (record(RECORD_ENTRY, 1, 1, b"?"), "the data of entry 1 are not"),
        (command_record(1, 2), "the data of entry 1 are not"),
        (command_record(25, 0), "the data of entry 1 are not"),
        (record(RECORD_ENTRY, 1, 1, FOUNDING[:-1], kind=2), "the data of entry 1 are not"),
        (record(RECORD_ENTRY, 1, 1, CHANGE[:-1], kind=3), "the data of entry 1 are not"),
        (record(RECORD_ENTRY, 1, 1, FOUNDING[:-1] + b"\xff", kind=2), "the data of entry 1 are"),
        (record(RECORD_ROTATION, 3, 48), f"leads to {segment_name(3)} at offset 48"),
        (record(RECORD_ROTATION, 2, 49), f"leads to {segment_name(2)} at offset 49"),
        (record(RECORD_ENTRY, 1, 1, command_of(4096 - 48 - 63), kind=1), "leave no room"),
    ],
)
def test_whole_records_that_contradict_each_other_are_damage(records, words):
    with pytest.raises(Damage, match=words):
        recover(segments_of(segment_header(1) + records + bytes(64)), NODE_ID)


@pytest.mark.parametrize(
    "odd",
    [
        record(RECORD_HARD_STATE, 0, 1, b"vote"),
        record(RECORD_HARD_STATE, 0, 1, bytes(8), kind=1),
        record(RECORD_MARKER, 1, 48, b"?"),
        record(RECORD_MARKER, 1, 48, kind=1),
        record(RECORD_ROTATION, 2, 48, b"?"),
        record(RECORD_ROTATION, 2, 48, kind=1),
    ],
)
def test_a_record_of_another_shape_is_not_whole(odd):
    recovery = recover(segments_of(segment_header(1) + odd), NODE_ID)
    assert recovery.torn == (1, 48)


def test_a_record_that_ends_behind_its_segment_is_not_whole():
    # Python ends each bytes object with a zero: a decoder that looked there would find it whole.
    whole = record(RECORD_ENTRY, 1, 1, command(b"x\0"), kind=1)
    assert len(recover(segments_of(segment_header(1) + whole), NODE_ID).entries) == 1
    assert recover(segments_of(segment_header(1) + whole[:-1]), NODE_ID).entries == []


def test_an_older_generations_records_are_never_taken():
    older = record(RECORD_ENTRY, 1, 1, b"ghost", kind=1, generation=GENERATION - 1)
    recovery = recover(segments_of(segment_header(1) + older + older), NODE_ID)
    assert recovery.entries == []
    assert recovery.torn == (1, 48)
    # Nor are its markers, which would turn a torn tail into damage.
    ghost = record(RECORD_MARKER, 1, 60, generation=GENERATION - 1)
    assert recover(segments_of(segment_header(1) + b"\1" * 33 + ghost), NODE_ID).torn == (1, 48)
    marker = record(RECORD_MARKER, 1, 60)
    with pytest.raises(Damage):
        recover(segments_of(segment_header(1) + b"\1" * 33 + marker), NODE_ID)


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
            recover(segments_of(noise), NODE_ID)
        recovery = recover(segments_of(segment_header(1) + noise), NODE_ID)
        assert recovery.entries == []


def test_a_writer_goes_on_from_what_was_recovered_only():
    log = MemoryLog()
    log.append(entries(1, 3))
    with pytest.raises(InvariantBroken):
        WalWriter(log.recover(), 4096).append([entry(5)], None)
