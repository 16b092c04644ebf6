"""The shared map: one reader, two threads, two processes, beside dict and py-lmdb; the writer.

Keys of a round are fresh strings drawn at random, made off the clock. The process is pinned where
one thread is measured; two threads or processes get a core each. What each row means stands in
README.md.
"""

from __future__ import annotations

import array
import importlib.util
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench_figures import (
    ROUNDS,
    SMOKE,
    Row,
    Table,
    alternate,
    bound_row,
    faster_row,
    per_second,
    rounds_of,
    sized,
)
from bench_keys import BATCH, batches, fresh_keys, get_all, get_many_all, key_of, value_of
from seafoam._core.map import MapReader, MapSnapshot, MapWriter

HERE = Path(__file__).parent
SEED = 4
HASH_SEED = bytes(range(16))
#: Name of a size -> keys in the map.
SIZES = {"100 k keys": sized(100_000, 2_000), "1 M keys": sized(1_000_000, 4_000)}
#: Lookups of one round.
LOOKUPS = sized(300_000, 2_000)
#: Updates a second that reads are measured beside.
UPDATES_PER_SECOND = 50_000


def new_writer(logical_bytes: int) -> MapWriter:
    """An empty map with room for so many logical bytes."""
    return MapWriter(HASH_SEED, max_logical_bytes=logical_bytes, start_id=1)


def fill(writer: MapWriter, count: int) -> None:
    """Put the first `count` keys."""
    for index in range(count):
        writer.begin(index + 1)
        writer.set(key_of(index), value_of(index), index + 1)
        writer.end()


@pytest.fixture(scope="module", params=list(SIZES))
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[str, int, MapWriter]]:
    """A size's name, its count of keys, and a map that holds them."""
    count = SIZES[request.param]
    writer = new_writer(max(count * 256, 64 << 20))
    fill(writer, count)
    yield request.param, count, writer
    writer.close()


def draw_keys(count: int, key_count: int, luck: random.Random) -> tuple[list[str]]:
    return (fresh_keys(luck, key_count, count),)


# ---- one reader ----


def test_get_beside_dict(benchmark: Any, table: Table, one_core: None, filled: Any) -> None:
    name, count, writer = filled
    reader, luck = writer.reader(), random.Random(SEED)
    plain = {key_of(index): value_of(index) for index in range(count)}
    measured = alternate(
        benchmark,
        lambda keys: get_all(reader.get, keys),
        lambda keys: get_all(plain.get, keys),
        prepare=lambda: draw_keys(LOOKUPS, count, luck),
    )
    texts = (
        per_second(LOOKUPS, measured.subject_seconds),
        f"dict.get {per_second(LOOKUPS, measured.reference_seconds)}",
    )
    ratio = (measured.speedup, measured.spread())
    table.add(faster_row(f"get, {name}", texts, ratio, 1.2), benchmark)


def test_get_beside_lmdb(
    benchmark: Any, table: Table, one_core: None, filled: Any, tmp_path: Path
) -> None:
    name, count, writer = filled
    if importlib.util.find_spec("lmdb") is None:
        table.missing(f"get, {name}", "lmdb", "is not installed")
        return
    import lmdb

    reader, luck = writer.reader(), random.Random(SEED)
    with lmdb.open(str(tmp_path / "lmdb"), map_size=1 << 30, sync=False) as environment:
        with environment.begin(write=True) as transaction:
            for index in range(count):
                transaction.put(key_of(index).encode(), value_of(index))
        with environment.begin(buffers=False) as transaction:
            measured = alternate(
                benchmark,
                lambda keys: get_all(reader.get, keys),
                lambda keys: get_all(transaction.get, keys),
                prepare=lambda: draw_keys(LOOKUPS, count, luck),
                # py-lmdb takes bytes only; encoding stays off its clock.
                prepare_reference=lambda: (
                    [key.encode() for key in fresh_keys(luck, count, LOOKUPS)],
                ),
            )
    texts = (
        per_second(LOOKUPS, measured.subject_seconds),
        f"py-lmdb get, one transaction {per_second(LOOKUPS, measured.reference_seconds)}",
    )
    ratio = (measured.speedup, measured.spread())
    table.add(faster_row(f"get, {name}", texts, ratio, 2.0), benchmark)


def test_get_many_per_key(benchmark: Any, table: Table, one_core: None, filled: Any) -> None:
    name, count, writer = filled
    reader, luck = writer.reader(), random.Random(SEED)
    measured = alternate(
        benchmark,
        lambda key_lists: get_many_all(reader.get_many, key_lists),
        lambda keys: get_all(reader.get, keys),
        prepare=lambda: (batches(fresh_keys(luck, count, LOOKUPS), BATCH),),
        prepare_reference=lambda: draw_keys(LOOKUPS, count, luck),
    )
    texts = (
        f"{per_second(LOOKUPS, measured.subject_seconds)} keys",
        f"single get {per_second(LOOKUPS, measured.reference_seconds)}",
    )
    ratio = (measured.speedup, measured.spread())
    at_least = 2.0 if count == SIZES["1 M keys"] else None
    table.add(faster_row(f"get_many({BATCH}) per key, {name}", texts, ratio, at_least), benchmark)


def test_scan(benchmark: Any, table: Table, one_core: None, filled: Any) -> None:
    name, count, writer = filled
    reader = writer.reader()

    def whole_scan() -> int:
        found, after = 0, ""
        while True:
            keys, _, following = reader.scan(after=after, limit=10_000)
            found += len(keys)
            if following is None:
                return found
            after = following

    assert whole_scan() == count
    benchmark.pedantic(whole_scan, rounds=ROUNDS)
    seconds = sorted(rounds_of(benchmark))[ROUNDS // 2]
    table.add(Row(f"scan in pages of 10,000, {name}", per_second(count, seconds)), benchmark)


# ---- two at once ----


def in_threads(reader: MapReader, cores: list[int], key_lists: list[list[list[str]]]) -> None:
    """Read each of `key_lists` on a thread of its own, each thread on a core."""

    def run(core: int, lists: list[list[str]]) -> None:
        os.sched_setaffinity(0, {core})
        get_many_all(reader.get_many, lists)

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(cores, key_lists, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("batch", [BATCH, 10_000])
def test_two_threads(benchmark: Any, table: Table, filled: Any, batch: int) -> None:
    name, count, writer = filled
    what = f"two threads, get_many({batch:,}), {name}"
    if not table.has_two_cores(what):
        return
    reader, luck = writer.reader(), random.Random(SEED)
    cores = sorted(os.sched_getaffinity(0))[:2]

    def one_at_a_time(*key_lists: list[list[str]]) -> None:
        for core, lists in zip(cores, key_lists, strict=True):
            in_threads(reader, [core], [lists])

    measured = alternate(
        benchmark,
        lambda *key_lists: in_threads(reader, cores, list(key_lists)),
        one_at_a_time,
        prepare=lambda: [batches(fresh_keys(luck, count, LOOKUPS), batch) for _ in cores],
    )
    texts = (
        f"{per_second(2 * LOOKUPS, measured.subject_seconds)} keys",
        f"one thread {per_second(2 * LOOKUPS, measured.reference_seconds)}",
    )
    ratio = (measured.speedup, measured.spread())
    table.add(faster_row(what, texts, ratio, 1.9), benchmark)


def python_path() -> dict[str, str]:
    """An environment in which another process finds the same modules."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class ReaderProcess:
    """A `map_reader.py`, told what to do through a pipe."""

    def __init__(self, writer: MapWriter, core: int, key_count: int) -> None:
        descriptor = writer.reader_fd()
        script = str(HERE / "map_reader.py")
        arguments = [descriptor, core, key_count, SEED + core]
        self.process = subprocess.Popen(
            [sys.executable, script, *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor], text=True,
            bufsize=1, env=python_path(),
        )
        os.close(descriptor)

    def start(self, command: str) -> None:
        """Send `command` without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")

    def answer(self) -> str:
        """Wait for the answer to the oldest command that has none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the reader process died; its message stands above"
        return line.strip()

    def prepare(self, method: str, count: int) -> None:
        self.start(f"prepare {method} {count}")
        assert self.answer() == "ready"

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=30)


@pytest.mark.parametrize("method", ["get", "get_many"])
def test_two_processes(benchmark: Any, table: Table, filled: Any, method: str) -> None:
    name, count, writer = filled
    what = f"two processes, {method}, {name}"
    if not table.has_two_cores(what):
        return
    cores = sorted(os.sched_getaffinity(0))[:2]
    readers = [ReaderProcess(writer, core, count) for core in cores]

    def prepare() -> tuple[()]:
        for reader in readers:
            reader.prepare(method, LOOKUPS)
        return ()

    def both() -> None:
        for reader in readers:
            reader.start("go")
        for reader in readers:
            reader.answer()

    def one_at_a_time() -> None:
        for reader in readers:
            reader.start("go")
            reader.answer()

    try:
        measured = alternate(benchmark, both, one_at_a_time, prepare=prepare)
    finally:
        for reader in readers:
            reader.close()
    texts = (
        per_second(2 * LOOKUPS, measured.subject_seconds),
        f"one process {per_second(2 * LOOKUPS, measured.reference_seconds)}",
    )
    ratio = (measured.speedup, measured.spread())
    table.add(faster_row(what, texts, ratio, 1.9), benchmark)


# ---- the writer ----


class PacedWriter:
    """Updates random keys at a given rate, in steps of a fraction of a millisecond."""

    def __init__(self, writer: MapWriter, key_count: int) -> None:
        self.writer, self.key_count = writer, key_count
        self.luck = random.Random(SEED)
        self.index = writer.reader().applied_index
        self.updates, self.seconds = 0, 0.0

    def run_until(self, finished: Any) -> None:
        """Keep the pace until `finished()`; falls behind rather than catching up in bursts."""
        start = time.perf_counter()
        done = 0
        while not finished():
            due = int((time.perf_counter() - start) * UPDATES_PER_SECOND)
            for _ in range(min(due - done, 50)):
                self.index += 1
                number = int(self.luck.random() * self.key_count)
                self.writer.begin(self.index)
                self.writer.set(key_of(number), value_of(self.index % 10**8), self.index)
                self.writer.end()
                done += 1
        self.updates += done
        self.seconds += time.perf_counter() - start


@pytest.mark.parametrize("method", ["get", "get_many"])
def test_reads_beside_a_writer(benchmark: Any, table: Table, filled: Any, method: str) -> None:
    name, count, writer = filled
    what = f"{method} beside {UPDATES_PER_SECOND:,} updates/s, {name}"
    if not table.has_two_cores(what):
        return
    cores = sorted(os.sched_getaffinity(0))
    reader = ReaderProcess(writer, cores[1], count)
    paced = PacedWriter(writer, count)
    os.sched_setaffinity(0, {cores[0]})
    lookups = sized(3 * LOOKUPS, LOOKUPS)

    def prepare() -> tuple[()]:
        reader.prepare(method, lookups)
        return ()

    def idle() -> None:
        reader.start("go")
        reader.answer()

    def written() -> None:
        reader.start("go")
        waiter = threading.Thread(target=reader.answer)
        waiter.start()
        paced.run_until(lambda: not waiter.is_alive())
        waiter.join()

    try:
        measured = alternate(benchmark, written, idle, prepare=prepare)
    finally:
        reader.close()
        os.sched_setaffinity(0, cores)
    rate = paced.updates / paced.seconds
    void = "" if SMOKE or rate > 0.9 * UPDATES_PER_SECOND else f"only {rate:,.0f} updates/s"
    texts = (
        per_second(lookups, measured.subject_seconds),
        f"idle {per_second(lookups, measured.reference_seconds)}",
    )
    ratio = (measured.speedup, measured.spread())
    benchmark.extra_info["updates_per_second"] = rate
    table.add(faster_row(what, texts, ratio, 0.8, void), benchmark)


class Pauses:
    """Durations by steps of 64 ns up to 64 ms, and the longest."""

    STEP_NS, STEPS = 64, 1 << 20

    def __init__(self) -> None:
        self.counts = array.array("Q", bytes(8 * self.STEPS))
        self.longest_ns = 0

    def percentile_ns(self, share: float) -> int:
        wanted, seen = share * sum(self.counts), 0
        for step, count in enumerate(self.counts):
            seen += count
            if seen > wanted:
                return (step + 1) * self.STEP_NS
        return self.longest_ns


def note(pauses: Pauses, took_ns: int) -> None:
    """Count one duration."""
    pauses.counts[min(took_ns // pauses.STEP_NS, pauses.STEPS - 1)] += 1
    if took_ns > pauses.longest_ns:
        pauses.longest_ns = took_ns


def grow(writer: MapWriter, numbers: range, pauses: Pauses) -> None:
    """Insert keys one entry each, noting how long each took."""
    clock = time.perf_counter_ns
    begin, put, end = writer.begin, writer.set, writer.end
    for number in numbers:
        key, value, index = key_of(number), value_of(number), number + 1
        start = clock()
        begin(index)
        put(key, value, index)
        end()
        note(pauses, clock() - start)


def spin(for_ns: int, pauses: Pauses) -> None:
    """Read the clock for as long, noting the gap between two readings."""
    clock = time.perf_counter_ns
    last = clock()
    until = last + for_ns
    while last < until:
        now = clock()
        note(pauses, now - last)
        last = clock()


def test_write_stall_while_growing(benchmark: Any, table: Table, one_core: None) -> None:
    """The control spins on the same core, in turn with the writer and for as long: what the
    machine takes away from a spinning loop is not the map's."""
    total, step = sized(10_000_000, 20_000), sized(50_000, 5_000)
    writer = new_writer(total * 128)
    stalls, control = Pauses(), Pauses()

    def run() -> None:
        for first in range(0, total, step):
            start = time.perf_counter_ns()
            grow(writer, range(first, first + step), stalls)
            spin(time.perf_counter_ns() - start, control)

    benchmark.pedantic(run, rounds=1)
    rounds_of(benchmark)
    assert writer.reader().get(key_of(total - 1)) == value_of(total - 1)
    writer.close()
    add_stalls(benchmark, table, f"write stall, growing to {total:,} keys", (stalls, control))


def add_stalls(benchmark: Any, table: Table, what: str, pauses: tuple[Pauses, Pauses]) -> None:
    """The rows of a writer's pauses and of the spinning loop's in turn with it."""
    stalls, control = pauses
    p999_us = max(0, stalls.percentile_ns(0.999) - control.percentile_ns(0.999)) / 1e3
    longest_us = max(0, stalls.longest_ns - control.longest_ns) / 1e3
    for name, figure_us, most_us, raw, spun in (
        ("p99.9", p999_us, 1_000, stalls.percentile_ns(0.999), control.percentile_ns(0.999)),
        ("longest", longest_us, 10_000, stalls.longest_ns, control.longest_ns),
    ):
        row = bound_row(
            f"{what}, {name}", f"{figure_us:,.1f} us", (figure_us, most_us), f"<= {most_us:,} us"
        )
        row.reference = f"writer {raw / 1e3:,.1f} us - spinning {spun / 1e3:,.1f} us"
        table.add(row, benchmark)


# ---- snapshots ----


def read_all(snapshot: MapSnapshot, blocks: list[bytes]) -> None:
    """The reading thread: every block until the walk is over."""
    while True:
        was_walked = snapshot.is_walked
        block = snapshot.next_block(len(blocks) + 1)
        if block:
            blocks.append(block)
        elif was_walked:
            return
        else:
            time.sleep(0.001)


def test_write_stall_during_a_snapshot(benchmark: Any, table: Table) -> None:
    """Random updates while the map is walked and another thread reads it, and some after that,
    when what was held goes back; the walk's own slices are not a write's."""
    total, slice_count = sized(1_000_000, 4_000), 64
    writer = new_writer(total * 256)
    fill(writer, total)
    luck = random.Random(SEED)
    stalls, control = Pauses(), Pauses()
    slices = Pauses()
    blocks: list[bytes] = []

    def update(count: int, index: int) -> None:
        grow_at = [luck.randrange(total) for _ in range(count)]
        for number in grow_at:
            key, value = key_of(number), value_of(number)
            start = time.perf_counter_ns()
            writer.begin(index)
            writer.set(key, value, index)
            writer.end()
            note(stalls, time.perf_counter_ns() - start)

    def run() -> None:
        snapshot = writer.begin_snapshot()
        thread = threading.Thread(target=read_all, args=(snapshot, blocks))
        thread.start()
        index, walked = total, False
        while not walked:
            index += 1
            start = time.perf_counter_ns()
            walked = snapshot.walk(slice_count)
            note(slices, time.perf_counter_ns() - start)
            update(100, index)
            spin(time.perf_counter_ns() - start, control)
        thread.join()
        snapshot.close()
        update(total // 10, index + 1)

    benchmark.pedantic(run, rounds=1)
    rounds_of(benchmark)
    writer.close()
    assert sum(map(len, blocks)) > total * 10
    add_stalls(benchmark, table, f"write stall, snapshot of {total:,} keys", (stalls, control))
    table.add(Row(f"walk, {slice_count} buckets, longest", f"{slices.longest_ns / 1e3:,.1f} us"),
              benchmark)


def test_snapshot_read_and_loaded(benchmark: Any, table: Table, one_core: None) -> None:
    """next_block alone, and load_block alone, each on one core."""
    total = sized(1_000_000, 4_000)
    writer = new_writer(total * 256)
    fill(writer, total)
    blocks: list[bytes] = []
    took: list[float] = []

    def run() -> None:
        snapshot = writer.begin_snapshot()
        start = time.perf_counter()
        snapshot.walk(1 << 40)
        took.append(time.perf_counter() - start)
        start = time.perf_counter()
        while block := snapshot.next_block(len(blocks) + 1):
            blocks.append(block)
        took.append(time.perf_counter() - start)
        snapshot.close()
        loaded = new_writer(total * 256)
        payloads = [block[16:] for block in blocks]
        start = time.perf_counter()
        for payload in payloads:
            loaded.load_block(payload)
        took.append(time.perf_counter() - start)
        assert loaded.keys == total
        loaded.close()

    benchmark.pedantic(run, rounds=1)
    rounds_of(benchmark)
    writer.close()
    megabytes = sum(map(len, blocks)) / 1e6
    for what, took_seconds in zip(("saved by walk", "read", "loaded"), took, strict=True):
        table.add(Row(f"snapshot of {total:,} keys, {megabytes:,.0f} MB, {what}",
                      f"{megabytes / took_seconds:,.0f} MB/s, "
                      f"{per_second(total, took_seconds, 'keys')}"), benchmark)


def test_memory_per_key(benchmark: Any, table: Table) -> None:
    """What the kernel counts for the map's file, and what the writer keeps for itself."""
    count = sized(1_000_000, 20_000)
    figures: list[int] = []

    def run() -> None:
        command = [sys.executable, str(HERE / "map_memory.py"), str(count)]
        done = subprocess.run(command, env=python_path(), check=True, capture_output=True)
        figures.extend(map(int, done.stdout.split()))

    benchmark.pedantic(run, rounds=1)
    rounds_of(benchmark)
    per_key = sum(figures) / count - 20
    row = bound_row(
        f"memory beyond key and value, {count:,} keys of 12 with values of 8",
        f"{per_key:.1f} bytes a key",
        (per_key, 48),
        "<= 48 bytes",
    )
    row.reference = "{:.1f} MiB shared, {:.1f} private".format(*(size / 2**20 for size in figures))
    table.add(row, benchmark)
