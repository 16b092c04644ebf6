"""A snapshot of the map: exactly the state when it began, whatever is written meanwhile."""

from __future__ import annotations

import random
import threading
from contextlib import closing

import pytest

from gil import ran_inside
from map_support import SEED, new_writer, sized, stamped
from seafoam._core import limits
from seafoam._core.map import MapSnapshot, MapWriter
from seafoam._core.map_layout import hash_of
from seafoam._core.wire_snapshot import (
    SnapshotCheck,
    SnapshotHead,
    encode_head,
    encode_tail,
)
from seafoam.errors import DataDamaged, Detached, InvariantBroken, SnapshotLost
from snapshot_support import Item, block, data_block, items_of, payload_of

MIB = 1 << 20
#: Of the highest version that a test's values have.
INDEX = 1 << 40
#: key -> (value, version)
State = dict[bytes, tuple[bytes, int]]


class Reading:
    """What comes out of a snapshot, block by block, as the file it will be."""

    def __init__(self, snapshot: MapSnapshot) -> None:
        self.snapshot = snapshot
        self.items: list[Item] = []
        self.payloads: list[bytes] = []
        self._sequence = 1
        self._check = SnapshotCheck(self._take)
        self._check.feed(encode_head(SnapshotHead(1, INDEX, 1, b"", b"")))

    def _take(self, payload: bytes) -> None:
        self.payloads.append(payload)
        self.items += items_of(payload)

    def read(self, bytes_max: int = limits.SNAPSHOT_BLOCK_BYTES) -> bool:
        """Whether there was a block; checks it."""
        data = self.snapshot.next_block(self._sequence, bytes_max)
        self._sequence += data != b""
        self._check.feed(data)
        assert self.snapshot.key_count == len(self.items)
        return data != b""

    def finish(self) -> State:
        while not self.snapshot.walk(1000):
            pass
        assert self.snapshot.is_walked
        while self.read():
            pass
        self._check.feed(encode_tail(self._sequence, self.snapshot.key_count, 1))
        self._check.finish()
        state = {key: (value, version) for key, value, version in self.items}
        assert len(state) == len(self.items), "a key came twice"
        return state


def state_of(writer: MapWriter, names: list[str]) -> State:
    state = {}
    for name in names:
        value, version = writer.get(name), writer.version(name)
        if value is not None and version is not None:
            state[name.encode()] = (value, version)
    return state


def write_anything(writer: MapWriter, luck: random.Random, names: list[str], version: int) -> None:
    name = luck.choice(names)
    if luck.random() < 0.3:
        writer.delete(name)
    else:
        length = int(2 ** (luck.random() * (20 if luck.random() < 0.02 else 9)))
        writer.set(name, stamped(name, version, length), version)


def give_back(writer: MapWriter, version: int) -> None:
    """Enough writes that nothing is left of what was held."""
    for _ in range(writer.arena.held_count):
        writer.set("give back", b"", version)
    assert writer.arena.held_count == 0
    writer.delete("give back")


def test_a_small_map() -> None:
    writer = new_writer()
    for number in range(100):
        writer.set(f"k{number}", b"%d" % number, number)
    snapshot = writer.begin_snapshot()
    assert not snapshot.is_walked and not snapshot.is_lost and snapshot.key_count == 0
    assert snapshot.next_block(1, 1) == b""
    state = Reading(snapshot).finish()
    assert state == {b"k%d" % number: (b"%d" % number, number) for number in range(100)}
    snapshot.close()


def test_an_empty_map() -> None:
    writer = new_writer()
    reading = Reading(writer.begin_snapshot())
    writer.set("later", b"1", 1)
    assert reading.finish() == {}
    reading.snapshot.close()
    writer.verify()


def test_blocks_are_as_large_as_asked_and_numbered_as_told() -> None:
    writer = new_writer()
    for number in range(3000):
        writer.set(f"k{number}", b"x" * 1000, 1)
    snapshot = writer.begin_snapshot()
    assert snapshot.walk(1 << 40) is True
    entry_bytes = 14 + len("k1234") + 1000
    one = snapshot.next_block(5, 1)
    assert one == data_block(5, items_of(one[16:])) and len(items_of(one[16:])) == 1
    some = items_of(snapshot.next_block(6, 3 * entry_bytes)[16:])
    assert len(some) in (3, 4)
    most = snapshot.next_block(7)
    assert len(most) - 16 >= limits.SNAPSHOT_BLOCK_BYTES
    assert len(most) - 16 < limits.SNAPSHOT_BLOCK_BYTES + entry_bytes
    for sequence, bytes_max in ((0, 1), (1, 0), (1, limits.SNAPSHOT_BLOCK_BYTES + 1)):
        with pytest.raises(ValueError, match="a data block has"):
            snapshot.next_block(sequence, bytes_max)


@pytest.mark.parametrize("seed", range(sized(24, 1000)))
def test_any_writes_during_the_walk_leave_it_what_it_was(seed: int) -> None:
    """Random writes, steps of the walk and blocks, in any order; several snapshots in a row."""
    luck = random.Random(seed)
    writer = new_writer(256 * MIB, quarantine_entries=luck.choice([0, 0, 3, 1024]))
    names = [f"k{number}" for number in range(luck.choice([3, 100, 2000]))]
    version = 0
    for _ in range(4):
        for _ in range(luck.randrange(3000)):
            version += 1
            write_anything(writer, luck, names, version)
        before = state_of(writer, names)
        # Some keys are new afterwards, so that the table grows.
        names += [f"n{version}.{number}" for number in range(luck.choice([0, 3000]))]
        reading = Reading(writer.begin_snapshot())
        for _ in range(luck.randrange(3000)):
            step = luck.random()
            if step < 0.9:
                version += 1
                write_anything(writer, luck, names, version)
            elif step < 0.95:
                reading.snapshot.walk(luck.randrange(1, 20))
            else:
                reading.read(int(2 ** (luck.random() * 20)))
        state = reading.finish()
        assert state == before
        if luck.random() < 0.5:
            writer.verify()
        reading.snapshot.close()
        writer.verify()
    give_back(writer, version)
    writer.verify()
    assert not reading.snapshot.is_lost and writer.arena.pin_generation == 0


def test_growth_before_the_walk_loses_and_repeats_nothing() -> None:
    """Every bucket there was is split, some more than once, and its children too."""
    writer = new_writer()
    names = [f"k{number}" for number in range(300)]
    for name in names:
        writer.set(name, name.encode(), 1)
    before, bucket_count = state_of(writer, names), writer.bucket_count
    reading = Reading(writer.begin_snapshot())
    for number in range(20_000):
        writer.set(f"later{number}", b"x", 2)
    assert writer.bucket_count > 8 * bucket_count
    assert reading.finish() == before
    reading.snapshot.close()
    writer.verify()


def names_of_one_bucket(count: int) -> list[str]:
    """Keys that stay together until the table has 2048 buckets."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        number += 1
        if hash_of(SEED, b"c%d" % number) & 2047 == 7:
            names.append(f"c{number}")
    return names


def test_a_bucket_with_overflow_lines_is_saved_whole() -> None:
    names = names_of_one_bucket(45)
    writer = new_writer()
    for name in names:
        writer.set(name, name.encode(), 1)
    for change in ("overwrite", "remove", "insert"):
        before = state_of(writer, names)
        reading = Reading(writer.begin_snapshot())
        if change == "overwrite":
            writer.set(names[30], b"new", 2)
        elif change == "remove":
            for name in names[5:40]:
                writer.delete(name)
        else:
            for name in names[5:40]:
                writer.set(name, b"again", 3)
        assert reading.finish() == before, change
        reading.snapshot.close()
        writer.verify()


def test_many_chunks_of_places_go_as_they_are_read() -> None:
    """More keys than a chunk has places, read in step with the walk, and all at the end."""
    writer = new_writer()
    names = [f"k{number}" for number in range(70_000)]
    for name in names:
        writer.set(name, name.encode(), 1)
    before = state_of(writer, names)
    for in_step in (True, False):
        reading = Reading(writer.begin_snapshot())
        if in_step:
            while not reading.snapshot.walk(777):
                reading.read(50_000)
        assert reading.finish() == before
        reading.snapshot.close()


def test_values_of_all_sizes_that_are_all_overwritten() -> None:
    writer = new_writer(256 * MIB, quarantine_entries=0)
    lengths = [0, 1, 200, 2028, 2029, 65_000, 70_000, 300_000, limits.VALUE_BYTES_MAX]
    names = [f"k{length}.{number}" for length in lengths for number in range(5)]
    for name in names:
        length = int(name[1:].split(".")[0])
        writer.set(name, stamped(name, 1, length), 1)
    before, live_bytes = state_of(writer, names), writer.arena.live_bytes
    reading = Reading(writer.begin_snapshot())
    for version in range(2, 6):
        for name in names:
            writer.set(name, stamped(name, version, len(before[name.encode()][0])), version)
    # Only what was there at the beginning is held, not what has come and gone since.
    assert writer.arena.held_count == len(names)
    assert writer.arena.live_bytes == 2 * live_bytes
    assert reading.finish() == before
    writer.verify()
    reading.snapshot.close()
    writer.verify()
    assert writer.arena.held_count == len(names)
    give_back(writer, 6)
    assert writer.arena.live_bytes == live_bytes
    writer.verify()


def test_what_the_last_snapshot_held_goes_while_the_next_is_open() -> None:
    writer = new_writer(quarantine_entries=0)
    names = [f"k{number}" for number in range(2000)]
    for version in range(1, 6):
        before = state_of(writer, names)
        reading = Reading(writer.begin_snapshot())
        for name in names:
            writer.set(name, stamped(name, version, 100), version)
        assert writer.arena.held_count == len(before)
        assert reading.finish() == before
        reading.snapshot.close()
        writer.verify()
    give_back(writer, 6)
    assert writer.arena.live_bytes == 2000 * 128


def test_close_in_the_middle_gives_everything_back() -> None:
    writer = new_writer(quarantine_entries=0)
    names = [f"k{number}" for number in range(5000)]
    for name in names:
        writer.set(name, stamped(name, 1, 50), 1)
    live_bytes = writer.arena.live_bytes
    snapshot = writer.begin_snapshot()
    snapshot.walk(100)
    assert snapshot.next_block(1) != b""
    for name in names[:3000]:
        writer.set(name, stamped(name, 2, 50), 2)
    snapshot.walk(100)
    snapshot.close()
    snapshot.close()
    assert snapshot.walk(1) is True and not snapshot.is_walked and not snapshot.is_lost
    with pytest.raises(SnapshotLost, match="closed"):
        snapshot.next_block(2)
    give_back(writer, 3)
    assert writer.arena.live_bytes == live_bytes
    writer.verify()


def test_one_at_a_time_and_between_log_entries() -> None:
    with pytest.raises(TypeError, match="begin_snapshot"):
        MapSnapshot()
    writer = new_writer()
    writer.begin(1)
    with pytest.raises(InvariantBroken, match="inside of a log entry"):
        writer.begin_snapshot()
    writer.end()
    snapshot = writer.begin_snapshot()
    with pytest.raises(InvariantBroken, match="beside an open one"):
        writer.begin_snapshot()
    snapshot.close()
    writer.begin_snapshot().close()
    writer.close()
    with pytest.raises(Detached):
        writer.begin_snapshot()


def test_a_snapshot_outlives_its_writer() -> None:
    writer = new_writer()
    for number in range(1000):
        writer.set(f"k{number}", b"x", 1)
    reading = Reading(writer.begin_snapshot())
    writer.close()
    del writer
    assert len(reading.finish()) == 1000
    reading.snapshot.close()


# --- evacuation ---


def to_be_scattered() -> tuple[MapWriter, list[str]]:
    """A map that is worth evacuating once most of these keys are gone."""
    writer = new_writer(512 * MIB, quarantine_entries=0)
    names = [f"k{number}" for number in range(40_000)]
    for name in names:
        writer.set(name, stamped(name, 1, 1000), 1)
    return writer, names


def test_nothing_is_evacuated_while_a_snapshot_is_open_and_then_it_is() -> None:
    writer, names = to_be_scattered()
    snapshot = writer.begin_snapshot()
    for name in names:
        if not name.endswith("0"):
            writer.delete(name)
    assert writer.arena.evacuated_window_count == 0
    snapshot.close()
    for number in range(20_000):
        writer.set("work", b"x" * (number % 2000), 2)
    assert writer.arena.evacuated_window_count > 0
    writer.verify()


def test_an_evacuation_under_way_ends_where_a_snapshot_begins() -> None:
    """At whatever moment: what is read is whole, and a later one goes on."""
    writer, names = to_be_scattered()
    random.Random(2).shuffle(names)
    for name in names[::10]:
        names.remove(name)
    for moment in range(10):
        for name in names[moment * 3000:(moment + 1) * 3000 + moment]:
            writer.delete(name)
        before = state_of(writer, [f"k{number}" for number in range(40_000)])
        reading = Reading(writer.begin_snapshot())
        evacuated_count = writer.arena.evacuated_window_count
        for number in range(200):
            writer.set("work", b"x" * 100 * number, 2)
        assert writer.arena.evacuated_window_count == evacuated_count
        assert reading.finish() == before
        reading.snapshot.close()
        writer.delete("work")
        writer.verify()
    assert writer.arena.evacuated_window_count > 2


# --- where memory runs out ---


def overwrite_until_lost(writer: MapWriter, snapshot: MapSnapshot, names: list[str],
                         length: int) -> int:
    """The version of the write that it gave way to."""
    version = 1
    while not snapshot.is_lost:
        version += 1
        assert version < 100 * len(names), "there was memory enough"
        name = names[version % len(names)]
        writer.set(name, stamped(name, version, length), version)
    return version


@pytest.mark.parametrize("length", [900, 60_000, 300_000])
def test_a_snapshot_gives_way_to_a_write_that_needs_its_memory(length: int) -> None:
    writer = new_writer(256 * MIB, reserve_limit_bytes=64 * MIB, quarantine_entries=0)
    names = [f"k{number}" for number in range(40 * MIB // length)]
    for name in names:
        writer.set(name, stamped(name, 1, length), 1)
    snapshot = writer.begin_snapshot()
    snapshot.walk(50)
    assert snapshot.next_block(1, 1000) != b""
    last = overwrite_until_lost(writer, snapshot, names, length)
    assert writer.get(names[last % len(names)]) is not None
    with pytest.raises(SnapshotLost, match="gave its memory back"):
        snapshot.next_block(2)
    assert snapshot.walk(10) is True and not snapshot.is_walked
    snapshot.close()
    writer.verify()
    for version in range(last + 1, last + 2 * len(names)):
        name = names[version % len(names)]
        writer.set(name, stamped(name, version, length), version)
    for name in names:
        value, version = writer.get(name), writer.version(name)
        assert version is not None and value == stamped(name, version, length)
    writer.verify()
    small = writer.begin_snapshot()
    assert len(Reading(small).finish()) == len(names)
    small.close()


def test_what_a_snapshot_leaves_is_there_for_new_keys() -> None:
    """It gives way before the last of the memory: buckets and other sizes must find some."""
    writer = new_writer(256 * MIB, reserve_limit_bytes=64 * MIB, quarantine_entries=0)
    names = [f"k{number}" for number in range(32_000)]
    for name in names:
        writer.set(name, stamped(name, 1, 1000), 1)
    snapshot = writer.begin_snapshot()
    overwrite_until_lost(writer, snapshot, names, 1000)
    assert writer.reserved_bytes <= 61 * MIB
    for number in range(20_000):
        writer.set(f"new{number}", b"x", 1 << 30)
    writer.verify()


def test_the_size_of_values_may_change_while_a_snapshot_is_open() -> None:
    """Up to the quota, with the address space for a limit: no write may fail for a snapshot."""
    quota = 16 * MIB
    writer = new_writer(quota, quarantine_entries=0)
    version = 0
    for length in (100, 5000, 300, 70_000, 1000, 300_000, 100):
        snapshot = writer.begin_snapshot()
        names = [f"k{number}" for number in range(quota // (length + 60))]
        for name in [f"k{number}" for number in range(len(names), quota // 160)]:
            writer.delete(name)
        for name in names:
            version += 1
            if writer.logical_bytes + length + 60 > quota:
                break
            writer.set(name, stamped(name, version, length), version)
        snapshot.close()
        writer.verify()


# --- loading ---


def test_what_was_read_can_be_loaded() -> None:
    luck = random.Random(9)
    writer = new_writer()
    names = [f"k{number}" for number in range(5000)]
    for version in range(1, 8000):
        write_anything(writer, luck, names, version)
    reading = Reading(writer.begin_snapshot())
    reading.snapshot.walk(1 << 30)
    while reading.read(20_000):
        pass
    loaded = new_writer()
    counts = [loaded.load_block(payload) for payload in reading.payloads]
    assert len(counts) > 5 and sum(counts) == loaded.keys == writer.keys
    assert state_of(loaded, names) == state_of(writer, names)
    assert loaded.logical_bytes == writer.logical_bytes
    loaded.begin(8000)
    loaded.end()
    assert loaded.reader().applied_index == 8000
    loaded.verify()


@pytest.mark.parametrize("payload", [
    payload_of([(b"a", b"1", 1), (b"a", b"1", 1)]), payload_of([(b"there", b"1", 1)]),
    payload_of([(b"a", b"1", 1)])[:-1], payload_of([(b"", b"1", 1)]), b"\0",
])
def test_a_payload_that_cannot_be_is_refused(payload: bytes) -> None:
    writer = new_writer()
    assert writer.load_block(payload_of([(b"there", b"0", 1)])) == 1
    with pytest.raises(DataDamaged):
        writer.load_block(payload)
    writer.verify()


def test_only_a_map_that_nothing_was_applied_to_is_loaded() -> None:
    writer = new_writer()
    writer.begin(1)
    writer.end()
    with pytest.raises(InvariantBroken, match="in use"):
        writer.load_block(payload_of([(b"a", b"1", 1)]))
    writer = new_writer()
    writer.close()
    with pytest.raises(Detached):
        writer.load_block(payload_of([(b"a", b"1", 1)]))
    full = new_writer(4 * MIB, reserve_limit_bytes=2 * MIB)
    with pytest.raises(MemoryError):
        for number in range(10):
            full.load_block(payload_of([(b"k%d" % number, bytes(MIB), 1)]))
    full.verify()


def test_other_threads_run_meanwhile() -> None:
    writer = new_writer(256 * MIB)
    for number in range(200_000):
        writer.set(f"k{number}", b"x" * 100, 1)
    blocks: list[bytes] = []

    def ran_in(snapshot: MapSnapshot) -> tuple[bool, bool]:
        blocks.clear()
        return (ran_inside(lambda: snapshot.walk(10_000), 7),
                ran_inside(lambda: blocks.append(snapshot.next_block(1)), 23))

    walking = reading = False
    for _ in range(20):
        with closing(writer.begin_snapshot()) as snapshot:
            ran = ran_in(snapshot)
        walking, reading = walking or ran[0], reading or ran[1]
        if walking and reading:
            break
    assert walking and reading
    payloads = [block[16:] for block in blocks if block]

    def loads() -> bool:
        loaded, left = new_writer(256 * MIB), iter(payloads)
        return ran_inside(lambda: loaded.load_block(next(left)), len(payloads))

    assert any(loads() for _ in range(20))


# --- two threads ---


def read_aside(snapshot: MapSnapshot, out: list[Item], failed: list[BaseException]) -> None:
    """The reading thread: blocks until there are no more, or it is lost."""
    try:
        sequence = 1
        check = SnapshotCheck(lambda payload: out.extend(items_of(payload)))
        check.feed(encode_head(SnapshotHead(1, INDEX, 1, b"", b"")))
        while True:
            was_walked = snapshot.is_walked
            data = snapshot.next_block(sequence)
            if data == b"" and was_walked:
                return
            sequence += data != b""
            check.feed(data)
    except SnapshotLost:
        out.append((b"", b"lost", 0))
    except BaseException as error:
        failed.append(error)


@pytest.mark.parametrize("ending", ["whole", "closed", "lost"])
def test_a_thread_reads_while_the_writer_writes_at_full_speed(ending: str) -> None:
    limit = 14 * MIB if ending == "lost" else 200 * MIB
    writer = new_writer(256 * MIB, reserve_limit_bytes=limit, quarantine_entries=0)
    luck = random.Random(1)
    names = [f"k{number}" for number in range(6000)]
    version = 0
    for name in names:
        version += 1
        writer.set(name, stamped(name, version, luck.randrange(2000)), version)
    rounds = sized(6, 200)
    for _ in range(rounds):
        before = state_of(writer, names)
        snapshot = writer.begin_snapshot()
        out: list[Item] = []
        failed: list[BaseException] = []
        thread = threading.Thread(target=read_aside, args=(snapshot, out, failed))
        thread.start()
        steps = 0
        while not snapshot.is_lost and (ending == "lost" or not snapshot.walk(3)):
            steps += 1
            assert steps < 100_000, "there was memory enough"
            for _ in range(30):
                version += 1
                name = luck.choice(names)
                writer.set(name, stamped(name, version, luck.randrange(2000)), version)
            if ending == "closed" and steps == 20:
                break
        if ending == "whole":
            thread.join()
        snapshot.close()
        thread.join()
        assert failed == [] and snapshot.is_lost == (ending == "lost")
        was_lost = bool(out) and out[-1][0] == b""
        found = {key: (value, written) for key, value, written in out if key}
        assert was_lost == (ending != "whole")
        assert found == before if ending == "whole" else found.items() <= before.items()
        writer.verify()


def test_a_block_is_nothing_but_its_entries() -> None:
    """What memory held before does not get into a file."""
    writer = new_writer()
    writer.set("a", b"1", 7)
    snapshot = writer.begin_snapshot()
    snapshot.walk(1 << 30)
    assert snapshot.next_block(3) == block(2, 3, payload_of([(b"a", b"1", 7)]))
    assert snapshot.key_count == 1
