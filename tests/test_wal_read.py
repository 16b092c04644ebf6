"""Entries read back from a log: the very ones, as many as fit, and never what is not on disk."""

from __future__ import annotations

import os
import random

import pytest

from seafoam._core import limits
from seafoam._core.message import ENTRY_COMMAND, Entry
from seafoam._core.wal import Damage, WalWriter, segment_name
from seafoam._core.wire import RECORD_ENTRY, RECORD_HEADER_BYTES
from seafoam.errors import InvariantBroken
from wal_log import MemoryLog, command_of, entries, entry, hard, record, record_offsets

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
MUCH = 1 << 30


class Reads:
    """Reads a log's segments, and remembers what was asked for."""

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.asked: list[tuple[int, int, int]] = []

    def __call__(self, number: int, offset: int, size: int) -> bytes:
        assert size > 0
        self.asked.append((number, offset, size))
        return bytes(self.log.segments[number][offset : offset + size])


def read(log: MemoryLog, first: int, last: int, bytes_max: int = MUCH) -> list[Entry]:
    return log.writer.read(first, last, bytes_max, Reads(log))


def size_of(e: Entry) -> int:
    return RECORD_HEADER_BYTES + len(e.data)


def test_entries_are_read_back_by_their_indexes():
    log = MemoryLog()
    log.append(entries(1, 9), hard(1, 4))
    log.append(entries(10, 12))
    assert read(log, 1, 12) == entries(1, 12)
    assert read(log, 3, 3) == entries(3, 3)
    assert read(log, 5, 11) == entries(5, 11)
    log.restart()
    assert read(log, 1, 12) == entries(1, 12)
    log.append(entries(13, 14))
    assert read(log, 10, 14) == entries(10, 14)


def test_what_is_read_is_bounded_but_for_the_first_entry():
    log = MemoryLog(1024)
    many = [entry(index, 1, b"x" * (50 + index)) for index in range(1, 30)]
    for e in many:
        log.append([e])
    for bytes_max in (0, 1, 200, 1000, 2500):
        found = read(log, 5, 29, bytes_max)
        assert found == many[4 : 4 + len(found)] and found
        assert len(found) == 1 or sum(map(size_of, found)) <= bytes_max
        assert sum(map(size_of, many[4 : 4 + len(found) + 1])) > bytes_max
    exactly = sum(map(size_of, many[4:8]))
    assert read(log, 5, 29, exactly) == many[4:8]
    assert read(log, 5, 29, exactly - 1) == many[4:7]


def test_many_entries_take_few_reads_and_small_ones_no_large():
    log = MemoryLog(1 << 20)
    many = [entry(index, 1, b"x" * 200) for index in range(1, 4001)]
    for first in range(0, 4000, 10):
        log.append(many[first : first + 10])
    reads = Reads(log)
    assert log.writer.read(1, 4000, MUCH, reads) == many
    assert len(reads.asked) < 10
    reads = Reads(log)
    assert log.writer.read(2000, 4000, 1064, reads) == many[1999:2003]
    assert [size for _, _, size in reads.asked] == [4096]


def test_the_largest_entry_is_read_whole():
    log = MemoryLog(limits.WAL_RECORD_BYTES_MAX + 400)
    room = limits.WAL_RECORD_BYTES_MAX - RECORD_HEADER_BYTES
    largest = Entry(2, 1, ENTRY_COMMAND, command_of(room))
    log.append([entry(1), largest, entry(3)])
    assert read(log, 1, 3) == [entry(1), largest, entry(3)]
    assert read(log, 2, 3, 1000) == [largest]
    assert read(log, 1, 3, 1000) == [entry(1)]


def test_what_is_not_on_disk_is_not_read():
    log = MemoryLog()
    log.append(entries(1, 5))
    batch = log.append(entries(6, 9), synced=False)
    assert read(log, 4, 9) == entries(4, 5)
    with pytest.raises(InvariantBroken, match="not on disk"):
        read(log, 6, 9)
    log.writer.synced_to(batch.end)
    assert read(log, 4, 9) == entries(4, 9)
    for first, last in ((10, 11), (0, 3), (3, 2)):
        with pytest.raises(InvariantBroken):
            read(log, first, last)


def test_a_replaced_tail_is_gone_at_once_and_its_successor_there_once_synced():
    log = MemoryLog()
    log.append(entries(1, 9))
    batch = log.append(entries(6, 7, term=2), synced=False)
    assert read(log, 4, 9) == entries(4, 5)
    with pytest.raises(InvariantBroken, match="not on disk"):
        read(log, 6, 6)
    log.writer.synced_to(batch.end)
    assert read(log, 4, 9) == [*entries(4, 5), *entries(6, 7, term=2)]
    log.restart()
    assert read(log, 4, 9) == [*entries(4, 5), *entries(6, 7, term=2)]


@pytest.mark.parametrize("seed", range(1000 if SOAK else 40))
def test_what_is_read_is_what_recovery_finds(seed):
    generator = random.Random(seed)
    log = MemoryLog(generator.choice((512, 1024, 4096)))
    length, term = 0, 1
    for _ in range(60):
        first = length + 1
        if length and generator.random() < 0.2:
            term += 1
            first = generator.randint(max(1, length - 8), length)
        length = first + generator.randint(0, 6)
        log.append([entry(index, term, generator.randbytes(generator.choice((0, 5, 120))))
                    for index in range(first, length + 1)])
        if generator.random() < 0.1:
            log.restart()
        recovered = log.recover().entries
        a = generator.randint(1, length)
        b = generator.randint(a, length + 3)
        found = read(log, a, b, generator.choice((MUCH, 300, 1500)))
        assert found == recovered[a - 1 : a - 1 + len(found)] and found
        assert read(log, a, b) == recovered[a - 1 : b]


def test_any_flip_in_a_record_is_damage_and_says_where():
    log = MemoryLog(1024)
    many = [entry(index, 1, b"%d of 30" % index * 8) for index in range(1, 30)]
    for e in many:
        log.append([e])
    number = 2
    whole = bytes(log.segments[number])
    places = [at for at in record_offsets(whole)[:-1] if whole[at + 8] == RECORD_ENTRY]
    index = next(e.index for e in many if e.data in whole)
    for place in places:
        for at in range(place, place + size_of(many[index - 1])):
            log.segments[number][at] ^= 0x20
            with pytest.raises(Damage) as caught:
                read(log, index, index)
            assert (caught.value.segment_number, caught.value.offset) == (number, place)
            assert f"entry {index} is not there" in str(caught.value)
            log.segments[number][at] ^= 0x20
        index += 1
    assert read(log, 1, 29) == many


def test_another_whole_record_in_the_place_is_damage():
    log = MemoryLog()
    log.append([entry(1), entry(2)])
    place = record_offsets(bytes(log.segments[1]))[1]
    for stranger in (
        record(RECORD_ENTRY, 2, 1, entry(1).data, kind=1),
        record(RECORD_ENTRY, 1, 1, entry(1).data, kind=1, generation=5),
        record(2, 1, 1, bytes(8)),
    ):
        log.segments[1][place : place + len(stranger)] = stranger
        with pytest.raises(Damage, match=f"{segment_name(1)} is damaged at offset {place}"):
            read(log, 1, 1)


def test_a_file_that_ends_early_is_damage():
    log = MemoryLog()
    log.append([entry(1), entry(2)])
    last = record_offsets(bytes(log.segments[1]))[2]
    for length in (last + 40, last + 10, last, last - 10):
        del log.segments[1][length:]
        with pytest.raises(Damage, match=f"at offset {last}: entry 2"):
            read(log, 2, 2)


def test_one_writer_goes_on_from_a_recovery():
    recovery = MemoryLog().recover()
    WalWriter(recovery, 4096)
    with pytest.raises(InvariantBroken, match="already"):
        WalWriter(recovery, 4096)
