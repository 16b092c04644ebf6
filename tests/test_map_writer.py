"""The map's writer: log entries' positions, growth, memory, and what is left when it runs out."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from map_support import SEED, new_writer, sized
from seafoam._core import limits
from seafoam._core.map import MapReader, MapWriter
from seafoam.errors import Detached, InvariantBroken


def test_what_a_writer_is_made_of() -> None:
    with pytest.raises(ValueError, match="hash_seed has 15 bytes"):
        MapWriter(bytes(15), max_logical_bytes=1, start_id=1)
    for size in (0, (1 << 40) + 1):
        with pytest.raises(ValueError, match="max_logical_bytes"):
            MapWriter(SEED, max_logical_bytes=size, start_id=1)
    writer = new_writer(segment_generation=5)
    with pytest.raises(TypeError, match="made once"):
        writer.__init__(SEED, max_logical_bytes=1, start_id=1)  # type: ignore[misc]
    reader = writer.reader()
    assert (reader.start_id, reader.segment_generation) == (1, 5)
    assert reader.segment is writer.segment and not reader.releases_gil
    assert writer.reader(release_gil=True).releases_gil


def test_the_address_space_follows_the_quota_and_the_memory_follows_the_need() -> None:
    """The page table, worst case of buckets and twice the quota are laid out, not reserved."""
    small, large = new_writer(1 << 20), new_writer(8 << 30)
    assert large.segment.size_bytes > 2 * (8 << 30)
    assert small.reserved_bytes == large.reserved_bytes <= 128 << 10
    large.set("a", b"b", 1)
    assert large.reserved_bytes <= 512 << 10


def test_a_map_beyond_what_units_of_sixteen_bytes_reach() -> None:
    """Units grow with the address space; entries are aligned to them."""
    writer = new_writer(120 << 30)
    reader = writer.reader()
    model = {b"%d" % number: b"x" * (number % 5000) for number in range(3000)}
    for key, value in model.items():
        writer.set(key, value, 1)
    for key in list(model)[::3]:
        writer.delete(key)
        del model[key]
    writer.verify()
    assert reader.get_many(list(model)) == list(model.values())


# --- log entries ---


def test_positions_of_log_entries() -> None:
    writer = new_writer()
    reader = writer.reader()
    writer.begin(7)
    assert (reader.applying_index, reader.applied_index) == (7, 0)
    writer.set("a", b"1", 7)
    assert reader.get("a") == b"1"
    assert (reader.applying_index, reader.applied_index) == (7, 0)
    writer.end()
    assert (reader.applying_index, reader.applied_index) == (7, 7)
    writer.set("a", b"2", 9)
    assert (reader.applying_index, reader.applied_index) == (9, 9)


def test_positions_never_go_back() -> None:
    writer = new_writer()
    writer.begin(7)
    with pytest.raises(InvariantBroken, match="apply entry 8 after 7"):
        writer.begin(8)
    writer.end()
    with pytest.raises(InvariantBroken, match="has not begun"):
        writer.end()
    with pytest.raises(InvariantBroken, match="apply entry 6 after 7"):
        writer.begin(6)
    with pytest.raises(InvariantBroken, match="apply entry 6 after 7"):
        writer.set("a", b"1", 6)
    assert writer.get("a") is None
    writer.begin(7)
    writer.end()


def test_what_readers_are_told_of_raft() -> None:
    writer = new_writer()
    descriptor = writer.reader_fd()
    reader = MapReader.attach(descriptor)
    os.close(descriptor)
    names = ("commit_index", "term", "role", "node_state")
    assert [getattr(reader, name) for name in names] == [0, 0, 0, 0]
    for value, name in enumerate(names, 1 << 33):
        getattr(writer, f"set_{name}")(value)
    assert [getattr(reader, name) for name in names] == list(range(1 << 33, (1 << 33) + 4))


def test_a_closed_writer() -> None:
    writer = new_writer()
    reader = writer.reader()
    writer.set("a", b"1", 1)
    assert reader.is_attached
    writer.close()
    writer.close()
    assert not reader.is_attached
    for use in (lambda: writer.set("a", b"2", 2), lambda: writer.delete("a"), writer.reader_fd,
                lambda: reader.get("a"), lambda: reader.get("none"), reader.scan,
                lambda: reader.get_many(["a"]), lambda: reader.get_versioned("a")):
        with pytest.raises(Detached):
            use()


# --- growth ---


def test_the_table_grows_by_one_bucket_at_a_time() -> None:
    writer = new_writer()
    count = writer.bucket_count
    for number in range(20_000):
        writer.set(b"%d" % number, b"", 1)
        assert writer.bucket_count - count in (0, 1)
        count = writer.bucket_count
        assert writer.keys <= 5 * count
    assert count >= 4000
    writer.verify()


def test_keys_survive_growth_and_shrinkage() -> None:
    luck = random.Random(7)
    writer = new_writer()
    reader = writer.reader()
    count = sized(60_000, 1_000_000)
    for number in range(count):
        writer.set(b"%d" % number, b"value %d" % number, number + 1)
        old = luck.randrange(number + 1)
        assert reader.get_versioned(b"%d" % old) == (b"value %d" % old, old + 1)
    writer.verify()
    for number in range(0, count, 2):
        assert writer.delete(b"%d" % number)
    writer.verify()
    for number in luck.sample(range(count), 10_000):
        assert (reader.get(b"%d" % number) is None) == (number % 2 == 0)


def test_memory_of_a_small_key() -> None:
    """At most 48 bytes beyond key and value, buckets and reservation included."""
    count = sized(200_000, 1_000_000)
    writer = new_writer(count * 100)
    for number in range(count):
        writer.set(b"%012d" % number, b"%08d" % number, 1)
    assert writer.reserved_bytes / count - 20 <= 48
    assert writer.logical_bytes == count * (20 + limits.ENTRY_OVERHEAD_BYTES)


# --- no memory ---


def fill_until_full(writer: MapWriter, model: dict[bytes, bytes], luck: random.Random) -> None:
    with pytest.raises(MemoryError, match="no memory for another entry"):
        for number in range(10**6):
            key, value = b"key %d" % number, luck.randbytes(luck.randrange(3000))
            writer.set(key, value, number + 1)
            model[key] = value


@pytest.mark.parametrize("reserve_limit", [600_000, 1 << 20, 5_000_000])
def test_a_reservation_limit_refuses_writes_and_harms_nothing(reserve_limit: int) -> None:
    luck = random.Random(reserve_limit)
    writer = new_writer(reserve_limit_bytes=reserve_limit, quarantine_entries=0)
    reader = writer.reader()
    model: dict[bytes, bytes] = {}
    fill_until_full(writer, model, luck)
    assert writer.reserved_bytes <= reserve_limit
    writer.verify()
    assert reader.get_many(list(model)) == list(model.values())
    # A write that is refused changes nothing, also where the key is there.
    some = next(iter(model))
    with pytest.raises(MemoryError):
        writer.set(some, bytes(limits.VALUE_BYTES_MAX), 10**7)
    assert reader.get(some) == model[some]
    # Deletes pass, and what they free can be used.
    for key in list(model)[::2]:
        assert writer.delete(key)
        del model[key]
    for number in range(20):
        model[b"late %d" % number] = b"x" * 100
        writer.set(b"late %d" % number, b"x" * 100, 10**7)
    writer.verify()
    assert reader.get_many(list(model)) == list(model.values())


def test_a_table_that_may_not_grow_gets_longer_chains() -> None:
    """Buckets and lines share the limit with entries; lookups stay right when splits wait."""
    writer = new_writer(reserve_limit_bytes=1 << 20, quarantine_entries=0)
    reader = writer.reader()
    number = 0
    with pytest.raises(MemoryError):
        while True:
            writer.set(b"%d" % number, b"", 1)
            number += 1
    writer.verify()
    assert number > 5000
    assert all(value == b"" for value in reader.get_many([b"%d" % at for at in range(5000)]))
    for at in range(number):
        assert writer.delete(b"%d" % at)
    writer.verify()
    assert writer.keys == 0


def test_a_limit_too_small_for_an_empty_map() -> None:
    with pytest.raises(MemoryError):
        new_writer(reserve_limit_bytes=60_000)


@pytest.mark.parametrize("options", [{"quarantine_entries": 0}, {"quarantine_entries": 3}, {}])
def test_overwriting_in_place_needs_no_more_memory(options: dict[str, Any]) -> None:
    writer = new_writer(**options)
    for version in range(1, 20_001):
        writer.set("key", b"%d" % version * 10, version)
    assert writer.arena_bytes <= 1 << 20
    writer.verify()
