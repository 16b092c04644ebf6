"""A log beside a snapshot: where it goes on, what of it may be dropped, what can be mended."""

from __future__ import annotations

import os
import random
import struct

import pytest

from seafoam._core.message import HardState
from seafoam._core.wal import Damage, WalWriter, next_segment, recover, segment_name
from seafoam._core.wire import (
    RECORD_BASE,
    RECORD_ENTRY,
    RECORD_FRONT,
    RECORD_HARD_STATE,
    RECORD_ROTATION,
    SEGMENT_HEADER_BYTES,
)
from seafoam.errors import InvariantBroken
from wal_log import (
    GENERATION,
    NODE_ID,
    MemoryLog,
    entries,
    entry,
    front,
    hard,
    meaning,
    record,
    record_offsets,
    recover_from,
    segment_header,
    segments_of,
)

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
GENERATION_2 = struct.unpack_from("<I", next_segment(segment_header(1), 4096), 32)[0]


def long_log(last: int = 39) -> MemoryLog:
    """Some segments of three entries a batch, all committed, synced and marked."""
    log = MemoryLog(1024)
    for first in range(1, last + 1, 3):
        log.append(entries(first, first + 2, term=1 + first // 9),
                   hard(1 + first // 9, first + 2, vote=3))
    log.write(log.writer.idle_marker())
    assert log.writer.segment_number >= 5
    return log


def term_of(log: MemoryLog, index: int) -> int:
    return recover_from(log.segments).entries[index - 1].term


# -- where it goes on ---------------------------------------------------------------------------


def test_a_log_without_a_snapshot_begins_at_entry_one():
    recovery = long_log().recover()
    assert (recovery.base, recovery.must_rebase, recovery.unneeded) == ((0, 0), False, [])
    assert [e.index for e in recovery.entries] == list(range(1, 40))


@pytest.mark.parametrize("index", range(1, 40))
def test_what_is_in_a_snapshot_is_in_no_entry_and_what_follows_it_stays(index):
    log = long_log()
    whole = log.recover()
    log.snapshot = index, term_of(log, index)
    recovery = log.restart()
    assert (recovery.base, recovery.must_rebase) == (log.snapshot, False)
    assert recovery.entries == whole.entries[index:]
    assert recovery.hard_state == whole.hard_state
    log.append([entry(40, 6)])
    assert log.recover().entries[-1] == entry(40, 6)


def test_a_commit_index_is_at_least_the_snapshots():
    log = MemoryLog()
    log.append(entries(1, 5), hard(1, 2))
    log.snapshot = 4, 1
    assert log.recover().hard_state == hard(1, 4)


@pytest.mark.parametrize(("snapshot", "term"), [((9, 4), 4), ((6, 1), 2), ((4, 5), 5)],
                         ids=["beyond the end", "just behind it", "of another term"])
def test_a_log_that_does_not_reach_its_snapshot_goes_on_behind_it(snapshot, term):
    log = MemoryLog()
    log.append(entries(1, 5), hard(2, 3, vote=8))
    log.snapshot = snapshot
    for _ in range(2):  # until the base is written, each start finds the same
        recovery = log.restart()
        assert (recovery.base, recovery.entries, recovery.must_rebase) == (snapshot, [], True)
        assert recovery.hard_state == HardState(term, 8 if term == 2 else 0, snapshot[0])
        if marker := log.writer.idle_marker():
            log.write(marker)
        assert log.writer.droppable(snapshot[0]) == []
    index = snapshot[0]
    log.append(entries(index + 1, index + 2, term))
    recovery = log.restart()
    assert (recovery.base, recovery.must_rebase) == (snapshot, False)
    assert recovery.entries == entries(index + 1, index + 2, term)
    assert log.writer.read(index + 1, index + 2, 1 << 20, lambda number, offset, size: bytes(
        log.segments[number][offset:offset + size])) == recovery.entries


def test_what_a_snapshot_replaced_does_not_come_back():
    # Entries 4 to 9 are of a leader that lost; a snapshot of the winner's came before they were
    # overwritten. Without a base the next entry would join on to 4.
    log = MemoryLog()
    log.append(entries(1, 9), hard(1, 3))
    log.snapshot = 4, 2
    log.append([], hard(2, 4), base=(4, 2))
    log.append([entry(5, 2)])
    assert meaning(log.restart()) == ((4, 2), [entry(5, 2)], hard(2, 4))
    with pytest.raises(InvariantBroken, match="not among"):
        log.writer.read(4, 5, 100, None)


def test_a_base_goes_before_the_entries_of_its_batch():
    log = MemoryLog()
    log.append(entries(1, 3), hard(1, 2))
    log.snapshot = 20, 4
    log.append(entries(21, 22, term=5), hard(5, 21, vote=1), base=(20, 4))
    assert meaning(log.recover()) == ((20, 4), entries(21, 22, term=5), hard(5, 21, vote=1))


def test_a_base_is_refused_where_it_would_replace_what_is_committed():
    log = MemoryLog()
    log.append(entries(1, 9), hard(1, 5))
    for base in ((4, 1), (0, 0), (9, 0)):
        with pytest.raises(InvariantBroken, match="no log can go on behind"):
            log.writer.append([], None, base)
    with pytest.raises(InvariantBroken, match="cannot follow"):
        MemoryLog().writer.append([entry(4)], None, (4, 1))


def test_a_torn_base_is_as_if_it_were_not_written():
    log = MemoryLog()
    log.append(entries(1, 3), hard(1, 2))
    log.snapshot = 20, 4
    before = log.recover()
    batch = log.append([entry(21, 4)], hard(4, 20), base=(20, 4), synced=False)
    ((_, offset, data),) = batch.writes
    for length in range(len(data)):
        segments = log.copy()
        segments[1][offset + length:] = bytes(4096 - offset - length)
        recovery = recover_from(segments, snapshot=log.snapshot)
        assert recovery.base == (20, 4)
        # Behind a marker; that its last bytes are zeros does not tear it.
        is_torn = data[:length].ljust(64, b"\0")[:64] != data[:64]
        assert recovery.must_rebase == is_torn
        assert len(recovery.entries) == (length >= len(data) - 40)
        if is_torn:
            assert meaning(recovery) == meaning(before)


# -- dropping -----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(1, 40))
def test_dropped_segments_change_nothing_of_what_a_log_means(index):
    log = long_log()
    log.snapshot = index, term_of(log, index)
    whole = log.recover()
    numbers = log.writer.droppable(index)
    assert numbers == list(range(1, len(numbers) + 1))
    assert all(record(RECORD_ENTRY, index, log.snapshot[1], entry(index, log.snapshot[1]).data,
                      kind=1)[16:] not in log.segments[number] for number in numbers)
    for number in numbers:  # a crash may come between any two
        log.writer.dropped(number)
        del log.segments[number]
        assert meaning(log.recover()) == meaning(whole)
    assert log.writer.droppable(index) == []
    assert log.writer.read(index, 39, 1 << 20, lambda number, offset, size: bytes(
        log.segments[number][offset:offset + size]))[1:] == whole.entries
    log.restart()
    log.append([entry(40, 7)], hard(7, 40))
    assert log.restart().hard_state == hard(7, 40)
    if numbers:
        with pytest.raises(InvariantBroken, match="not among"):
            log.writer.read(1, 3, 100, None)


def test_a_log_all_of_which_is_in_a_snapshot_keeps_the_segment_it_writes_to():
    log = long_log()
    log.snapshot = 39, term_of(log, 39)
    last = log.writer.segment_number
    assert log.drop(39) == list(range(1, last))
    with pytest.raises(InvariantBroken, match="that is written to stays"):
        log.writer.dropped(last)
    assert meaning(log.recover()) == ((39, 5), [], hard(5, 39, vote=3))


def test_nothing_is_dropped_that_leads_to_what_is_not_synced():
    log = long_log()
    numbers = log.writer.droppable(39)
    assert numbers
    last = log.writer.segment_number
    while log.writer.segment_number < last + 2:
        batch = log.append([entry(40, 6)], synced=False)
    assert log.writer.droppable(39) == numbers, "the entry that is to stay is in the next"
    assert log.writer.droppable(40) == []
    log.writer.synced_to(batch.end)
    assert log.writer.droppable(40) == list(range(1, last + 2))


def test_nothing_is_dropped_before_a_base_is_synced():
    # The front of the last segment names entries that the snapshot replaces: without those before
    # it the log would seem to begin behind what the snapshot holds.
    log = MemoryLog(1024)
    log.append(entries(1, 3), hard(1, 3))
    for index in range(4, 40):
        log.append([entry(index)])
    log.snapshot = 5, 2
    recovery = log.restart()
    assert (recovery.base, recovery.must_rebase) == ((5, 2), True)
    assert log.writer.droppable(5) == []
    batch = log.append([], hard(2, 5), synced=False)
    assert log.writer.droppable(5) == []
    log.writer.synced_to(batch.end)
    assert log.drop(5) == list(range(1, log.writer.segment_number))
    assert meaning(log.recover()) == ((5, 2), [], hard(2, 5))
    # And where the writer is told of the base.
    log.append(entries(6, 40, term=2))
    log.append(entries(41, 42, term=2))
    log.snapshot = 7, 3
    batch = log.append([], None, (7, 3), synced=False)
    assert log.writer.droppable(7) == []
    log.writer.synced_to(batch.end)
    assert log.drop(7)
    assert meaning(log.recover()) == ((7, 3), [], hard(3, 7))


def test_a_segment_that_a_crash_left_without_its_front_gets_one():
    log = long_log()
    log.snapshot = 39, term_of(log, 39)
    last = log.writer.segment_number
    while log.writer.segment_number == last:
        state = hard(5, 39, vote=3)
        log.append([], state)
    log.segments[last + 1][SEGMENT_HEADER_BYTES:] = bytes(1024 - SEGMENT_HEADER_BYTES)
    recovery = log.restart()
    assert (recovery.segment_number, recovery.offset) == (last + 1, SEGMENT_HEADER_BYTES)
    assert log.drop(39) == list(range(1, last)), "the one before must lead to it"
    log.append([entry(40, 6)], hard(6, 40))
    assert log.segments[last + 1][SEGMENT_HEADER_BYTES + 8] == RECORD_FRONT
    log.snapshot = 40, 6
    assert log.drop(40) == [last]
    assert meaning(log.recover()) == ((40, 6), [], hard(6, 40))


def test_a_log_without_entries_is_not_left_with_a_segment_that_has_no_front():
    log = MemoryLog(1024)
    log.snapshot = 5, 2
    log.append([], hard(2, 5), (5, 2))
    while log.writer.segment_number == 1:
        log.append([], hard(2, 5))
    log.segments[2][SEGMENT_HEADER_BYTES:] = bytes(1024 - SEGMENT_HEADER_BYTES)
    log.restart()
    assert log.drop(5) == []
    log.append([], hard(3, 5))
    assert log.drop(5) == [1]
    assert meaning(log.recover()) == ((5, 2), [], hard(3, 5))


def test_segments_of_an_earlier_version_go_with_the_last_of_them():
    generation_3 = struct.unpack_from(
        "<I", next_segment(segment_header(2, generation=GENERATION_2), 4096), 32)[0]
    log = MemoryLog()
    log.segments = {
        1: bytearray(segment_header(1) + record(RECORD_ENTRY, 1, 1)
                     + record(RECORD_ROTATION, 2, 48)),
        2: bytearray(segment_header(2, generation=GENERATION_2)
                     + record(RECORD_ENTRY, 2, 1, generation=GENERATION_2)
                     + record(RECORD_ROTATION, 3, 48, generation=GENERATION_2)),
        3: bytearray(segment_header(3, generation=generation_3)
                     + front(2, 1, hard(0), generation=generation_3)
                     + record(RECORD_ENTRY, 3, 1, generation=generation_3)),
    }
    for data in log.segments.values():
        data.extend(bytes(4096 - len(data)))
    log.writer = WalWriter(log.recover(), 4096)
    assert log.writer.droppable(2) == [], "number 2 cannot be the first"
    assert log.writer.droppable(3) == [1, 2]


def test_entries_that_were_replaced_across_segments_do_not_keep_the_log_from_beginning():
    # The front of the second segment names entry 9, which entry 5 replaced later.
    log = MemoryLog(1024)
    log.append(entries(1, 4), hard(1, 4))
    log.append(entries(5, 9))
    while log.writer.segment_number == 1:
        log.append([], hard(1, 4))
    log.append(entries(5, 7, term=2), hard(2, 6))
    log.snapshot = 6, 2
    whole = log.recover()
    assert log.drop(6) == [1]
    assert meaning(log.recover()) == meaning(whole) == ((6, 2), [entry(7, 2)], hard(2, 6))
    log.restart()
    assert log.writer.read(5, 7, 1 << 20, lambda number, offset, size: bytes(
        log.segments[number][offset:offset + size])) == entries(5, 7, term=2)


def test_how_much_log_is_behind_a_snapshot():
    log = long_log()
    whole = log.writer.bytes_behind(0)
    assert 4 * 1024 < whole < 1024 * log.writer.segment_number
    behind = [log.writer.bytes_behind(index) for index in range(40)]
    assert behind == sorted(behind, reverse=True)
    assert (behind[38] > 0, behind[39], log.writer.bytes_behind(50)) == (True, 0, 0)
    log.snapshot = 20, term_of(log, 20)
    assert log.drop(20)
    assert [log.writer.bytes_behind(index) for index in range(20, 40)] == behind[20:]
    assert log.writer.bytes_behind(0) < whole


# -- damage -------------------------------------------------------------------------------------


def test_a_gap_between_snapshot_and_log_is_damage():
    log = long_log()
    log.snapshot = 30, term_of(log, 30)
    dropped = log.drop(30)
    for snapshot in ((3, 1), None):
        with pytest.raises(Damage, match="no such segment") as caught:
            recover_from(log.segments, snapshot=snapshot)
        assert caught.value.segment_number in (1, dropped[-1])
        assert "\n" not in str(caught.value)
    log = MemoryLog()
    log.append(entries(1, 3), hard(1, 2))
    place = log.writer.offset + 32
    log.append([], hard(4, 20), base=(20, 4))
    for snapshot in ((3, 1), (19, 4), None):
        with pytest.raises(Damage, match="goes on behind entry 20, and no snapshot") as caught:
            recover_from(log.segments, snapshot=snapshot)
        assert (caught.value.segment_number, caught.value.offset) == (1, place)


def test_a_snapshot_that_contradicts_a_committed_entry_is_damage():
    log = MemoryLog()
    log.append(entries(1, 5), hard(1, 4))
    place = record_offsets(bytes(log.segments[1]))[4]
    with pytest.raises(Damage, match="entry 4 is committed in term 1, and a snapshot") as caught:
        recover_from(log.segments, snapshot=(4, 2))
    assert (caught.value.segment_number, caught.value.offset) == (1, place)
    assert recover_from(log.segments, snapshot=(5, 2)).must_rebase


def test_any_flip_is_mended_by_a_later_front_or_said_by_its_place():
    log = long_log()
    index = 25
    log.snapshot = index, term_of(log, index)
    whole = log.recover()
    needed = log.writer.droppable(index)[-1] + 1
    last_marker = record_offsets(bytes(log.segments[log.writer.segment_number]))[-2]
    places = [(number, at) for number, data in sorted(log.segments.items())
              for at in range(record_offsets(bytes(data))[-1])
              if (number, at) < (log.writer.segment_number, last_marker)]
    mended = 0
    for number, at in places if SOAK else random.Random(5).sample(places, 1500):
        segments = log.copy()
        segments[number][at] ^= 1 << at % 8
        if number >= needed:
            with pytest.raises(Damage) as caught:
                recover_from(segments, snapshot=log.snapshot)
            assert caught.value.segment_number == number
            continue
        recovery = recover_from(segments, snapshot=log.snapshot)
        assert meaning(recovery) == meaning(whole)
        assert recovery.unneeded == list(range(1, number + 1))
        mended += 1
    assert mended > 100
    with pytest.raises(Damage):
        segments = log.copy()
        segments[1][100] ^= 1
        recover_from(segments, snapshot=(1, 1))


def test_of_two_damages_one_that_cannot_be_mended_is_enough():
    log = long_log()
    log.snapshot = 25, term_of(log, 25)
    log.segments[1][100] ^= 1
    assert log.recover().unneeded == [1]
    log.segments[2][100] ^= 1
    assert log.recover().unneeded == [1, 2]
    log.segments[log.writer.segment_number - 1][100] ^= 1
    with pytest.raises(Damage) as caught:
        log.recover()
    assert caught.value.segment_number == 1, "the first is told"


def test_a_first_segment_without_its_front_is_damage():
    log = long_log()
    log.snapshot = 30, term_of(log, 30)
    log.drop(30)
    first = min(log.segments)
    log.segments = {number: data for number, data in log.segments.items() if number == first}
    log.segments[first][SEGMENT_HEADER_BYTES:] = bytes(1024 - SEGMENT_HEADER_BYTES)
    with pytest.raises(Damage, match="does not say what was before it") as caught:
        log.recover()
    assert (caught.value.segment_number, caught.value.offset) == (first, SEGMENT_HEADER_BYTES)


def record_2(*arguments, **options) -> bytes:
    return record(*arguments, generation=GENERATION_2, **options)


ONE_ENTRY = record(RECORD_ENTRY, 1, 3) + record(RECORD_HARD_STATE, 1, 3, bytes(8))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (ONE_ENTRY + record(RECORD_BASE, 0, 3), "entry 1 is committed, and the log goes on"),
        (record(RECORD_BASE, 0, 3), "the log goes on behind entry 0 of term 3"),
        (record(RECORD_BASE, 4, 0), "the log goes on behind entry 4 of term 0"),
        (record(RECORD_BASE, 4, 2) + record(RECORD_ENTRY, 4, 2), "entry 4 is committed"),
        (record(RECORD_BASE, 4, 2) + record(RECORD_ENTRY, 6, 2), "entry 6 cannot follow entry 4"),
        (record(RECORD_BASE, 4, 2) + record(RECORD_ENTRY, 5, 1), "the one before it of term 2"),
        (record(RECORD_BASE, 4, 2) + record(RECORD_HARD_STATE, 3, 2, bytes(8)), "go back"),
        (front(1, 3, hard(3, 1), generation=GENERATION), "a segment's front is where none can be"),
        (ONE_ENTRY + front(1, 3, hard(3, 1), generation=GENERATION), "front is where none can be"),
    ],
)
def test_bases_and_fronts_that_contradict_the_log_are_damage(records, words):
    with pytest.raises(Damage, match=words):
        recover(segments_of(segment_header(1) + records + bytes(64)), NODE_ID, (4, 2))


@pytest.mark.parametrize("state", [(1, hard(3, 1)), (2, hard(3, 1)), (1, hard(4, 1)),
                                   (1, hard(3, 0)), (1, hard(3, 1, vote=1)), (0, hard(3, 1))])
def test_a_front_says_what_the_segment_before_it_ended_with(state):
    index, said = state
    second = segment_header(2, generation=GENERATION_2)
    segments = segments_of(
        segment_header(1) + ONE_ENTRY + record(RECORD_ROTATION, 2, 48),
        second + front(index, 3, said, generation=GENERATION_2) + record_2(RECORD_ENTRY, 2, 3))
    if (index, said) == (1, hard(3, 1)):
        assert len(recover(segments, NODE_ID).entries) == 2
        return
    with pytest.raises(Damage, match=r"does not go on where|where none can be") as caught:
        recover(segments, NODE_ID)
    assert str(caught.value).startswith(f"{segment_name(2)} is damaged at offset 48")
