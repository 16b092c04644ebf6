"""The arena, seen through the map's writer: classes, spans, evacuation, the bound on memory."""

from __future__ import annotations

import random

import pytest

from map_support import new_writer, sized, stamped
from seafoam._core import limits
from seafoam._core.map import MapReader, MapWriter

MIB = 1 << 20
#: From the smallest class to whole pages, on both sides of each kind's border.
SIZES = (
    0, 20, 100, 236, 237, 500, 2020, 2028, 2029, 9000, 40_000, 65_000, 65_520, 90_000, 300_000)


def bound(writer: MapWriter, peak_live_bytes: int) -> None:
    """The arena stays within twice the most that was ever live, and 64 MiB."""
    assert writer.arena_bytes <= 2 * peak_live_bytes + 64 * MIB


def whole(writer: MapWriter, reader: MapReader, lengths: dict[str, tuple[int, int]]) -> None:
    writer.verify()
    names = list(lengths)
    for first in range(0, len(names), 200):
        part = names[first:first + 200]
        values, versions = reader.get_many_versioned(part)
        for name, value, version in zip(part, values, versions, strict=True):
            length, written = lengths[name]
            assert version == written and value == stamped(name, written, length), name


def test_every_size_can_be_kept_and_given_back() -> None:
    writer = new_writer(256 * MIB, quarantine_entries=0)
    luck = random.Random(1)
    lengths: dict[str, tuple[int, int]] = {}
    for version in range(1, 3000):
        name = f"k{luck.randrange(300)}"
        length = luck.choice(SIZES) + luck.randrange(40)
        writer.set(name, stamped(name, version, length), version)
        lengths[name] = (length, version)
    whole(writer, writer.reader(), lengths)
    for name in lengths:
        writer.delete(name)
    writer.verify()
    assert writer.arena.live_bytes == 0


def test_slots_waste_at_most_an_eighth_and_sixteen_bytes() -> None:
    for length in [*range(1, 400, 7), *range(400, 60_000, 997)]:
        writer = new_writer()
        writer.set("k", bytes(length), 1)
        assert writer.arena.live_bytes <= (length + 21) * 9 / 8 + 16, length


def test_the_quarantine_holds_so_many_entries_and_no_more() -> None:
    for entries in (0, 1, 5, 100):
        writer = new_writer(quarantine_entries=entries)
        writer.set("k", b"", 1)
        one = writer.arena.live_bytes
        for version in range(2, 300):
            writer.set("k", b"", version)
        assert writer.arena.live_bytes == one * (entries + 1)
        writer.verify()


def test_the_quarantine_holds_so_many_bytes_and_no_more() -> None:
    writer = new_writer(256 * MIB, quarantine_entries=1000)
    for version in range(1, 60):
        writer.set("k", bytes(MIB), version)
    assert writer.arena.live_bytes <= 8 * MIB + 2 * (MIB + 16384)
    writer.verify()


def test_a_write_empties_the_quarantine_before_it_gives_up() -> None:
    writer = new_writer(reserve_limit_bytes=3 * MIB, quarantine_entries=1000)
    for version in range(1, 200):
        writer.set("k", bytes(MIB // 2), version)
    writer.verify()
    assert writer.reader().get_versioned("k") == (bytes(MIB // 2), 199)


@pytest.mark.parametrize("share_kept", [0.02, 0.1, 0.3])
def test_what_deletes_leave_behind_is_gathered(share_kept: float) -> None:
    """Sparse slabs of small values make room for large ones."""
    luck = random.Random(2)
    writer = new_writer(512 * MIB)
    reader = writer.reader()
    lengths: dict[str, tuple[int, int]] = {}
    for version in range(1, sized(60_000, 400_000)):
        name = f"small{version}"
        lengths[name] = (1000, version)
        writer.set(name, stamped(name, version, 1000), version)
    full, version = writer.arena_bytes, len(lengths)
    for name in list(lengths):
        if luck.random() > share_kept:
            writer.delete(name)
            del lengths[name]
    writer.verify()
    # Writes go on with another size, as much as was deleted, and fit into what there was.
    room = (full - 2 * writer.live_bytes) * 6 // 10 // 200_000
    for number in range(room):
        version += 1
        name = f"large{number}"
        lengths[name] = (200_000, version)
        writer.set(name, stamped(name, version, 200_000), version)
    assert writer.arena.evacuated_window_count > 0
    assert writer.arena_bytes <= full + 4 * MIB  # at most the window being filled
    whole(writer, reader, lengths)


def shifting_sizes(luck: random.Random, writer: MapWriter, phases: list[tuple[int, int]]) -> None:
    """Each phase replaces everything at random by values of another size."""
    reader = writer.reader()
    lengths: dict[str, tuple[int, int]] = {}
    version = peak = 0
    for length, total_bytes in phases:
        count = total_bytes // (length + 30)
        names = [f"{length}/{number}" for number in range(count)]
        old = list(lengths)
        luck.shuffle(old)
        share = len(old) / max(count, 1)
        removed = 0
        for number, name in enumerate(names):
            version += 1
            writer.set(name, stamped(name, version, length), version)
            lengths[name] = (length, version)
            while removed < min(len(old), int((number + 1) * share)):
                writer.delete(old[removed])
                del lengths[old[removed]]
                removed += 1
            peak = max(peak, writer.live_bytes)
        bound(writer, peak)
        writer.verify()
    whole(writer, reader, lengths)


def test_shifting_value_sizes_stay_within_the_bound() -> None:
    """Small to large and back: the worst for an allocator by size classes."""
    scale = sized(32 * MIB, 400 * MIB)
    sizes = [500, 9000, 2000, 900_000, 700, 70_000, 300, 200_000, 15_000, 1_000_000, 1000]
    writer = new_writer(4 * scale)
    shifting_sizes(random.Random(3), writer, [(size, scale) for size in sizes])
    assert writer.arena_bytes <= 2 * scale * 1.2 + 64 * MIB


def test_overwriting_with_random_sizes_stays_within_the_bound() -> None:
    luck = random.Random(4)
    writer = new_writer(1 << 30)
    peak = 0
    for version in range(1, sized(6000, 100_000)):
        name = f"k{luck.randrange(400)}"
        length = int(2 ** (luck.random() * 20))
        writer.set(name, bytes(length), version)
        peak = max(peak, writer.live_bytes)
    bound(writer, peak)
    writer.verify()


def test_evacuation_stops_where_there_is_no_memory_to_move_to() -> None:
    """With the limit reached, nothing is lost and writes that need nothing new go on."""
    luck = random.Random(5)
    writer = new_writer(256 * MIB, reserve_limit_bytes=60 * MIB, quarantine_entries=0)
    lengths: dict[str, tuple[int, int]] = {}
    version = 0
    with pytest.raises(MemoryError):
        while True:
            version += 1
            name = f"k{version}"
            writer.set(name, stamped(name, version, 3000), version)
            lengths[name] = (3000, version)
    for name in list(lengths):
        if luck.random() < 0.75:
            writer.delete(name)
            del lengths[name]
    for name in list(lengths)[:2000]:
        version += 1
        writer.set(name, stamped(name, version, 3000), version)
        lengths[name] = (3000, version)
    whole(writer, writer.reader(), lengths)
    assert writer.reserved_bytes <= 60 * MIB


def test_the_largest_entry_always_fits_an_empty_window() -> None:
    writer = new_writer(64 * MIB, quarantine_entries=0)
    name = "k" * limits.KEY_BYTES_MAX
    for version in range(1, 20):
        writer.set(name, bytes(limits.VALUE_BYTES_MAX), version)
        writer.set(f"small{version}", b"x" * 100, version)
    assert writer.arena_bytes <= 12 * MIB
    writer.verify()
