"""The log: encoding, recovery, and durable commits beside the disk's own fdatasync.

Records are 256 bytes as the design's figure has them: header, command and checksum together.
Durable rows need a real disk: on a memory file system they are NOT MEASURED.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bench_figures import (
    ROUNDS,
    Row,
    Table,
    alternate,
    faster_row,
    floor_row,
    per_second,
    rounds_of,
    sized,
)
from bench_keys import key_of
from seafoam._core import limits
from seafoam._core.map import MapWriter
from seafoam._core.message import ENTRY_COMMAND, Entry, HardState
from seafoam._core.store import Store
from seafoam._core.wal import WalWriter, first_segment, next_segment, recover
from seafoam._core.wire import RECORD_HEADER_BYTES, Operation, encode_command
from seafoam.disk import FileDisk

SEED = 5
NODE_ID = 7
RECORD_BYTES = 256
#: Records of a recovered log, about 100 MB of them.
RECORDS = sized(400_000, 2_000)
#: Entries of one append while that log is written.
GROUP = 16
KEYS = sized(100_000, 500)
MEGABYTE = 1e6


def filled_entry(index: int, number: int) -> Entry:
    """An entry whose record is RECORD_BYTES long: a set of key `number`."""
    key = key_of(number).encode()
    bare_bytes = len(encode_command([Operation.set(key, b'""')]))
    text_bytes = RECORD_BYTES - RECORD_HEADER_BYTES - bare_bytes
    value = b'"%s"' % (b"%08d" % index).ljust(text_bytes, b".")
    return Entry(index, 1, ENTRY_COMMAND, encode_command([Operation.set(key, value)]))


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    """The entries of the log, on random keys."""
    luck = random.Random(SEED)
    return [filled_entry(index + 1, luck.randrange(KEYS)) for index in range(RECORDS)]


def written_segments(entries: list[Entry]) -> list[tuple[int, bytes, int]]:
    """The log's segments as a disk would hold them."""
    header = first_segment(NODE_ID, 1, limits.WAL_SEGMENT_BYTES)
    writer = empty_writer()
    segments = {1: bytearray(header)}
    for start in range(0, len(entries), GROUP):
        group = entries[start : start + GROUP]
        batch = writer.append(group, HardState(1, NODE_ID, group[-1].index))
        writer.synced_to(batch.end)
        for number, offset, data in batch.writes:
            if number not in segments:
                header = next_segment(header, limits.WAL_SEGMENT_BYTES)
                segments[number] = bytearray(header)
            segments[number][offset : offset + len(data)] = data
    return [
        (number, bytes(segment), limits.WAL_SEGMENT_BYTES)
        for number, segment in sorted(segments.items())
    ]


def empty_writer() -> WalWriter:
    """A writer at the beginning of a log."""
    header = first_segment(NODE_ID, 1, limits.WAL_SEGMENT_BYTES)
    return WalWriter(recover([(1, header, limits.WAL_SEGMENT_BYTES)], NODE_ID))


@pytest.mark.parametrize("group", [1, GROUP])
def test_encode(
    benchmark: Any, table: Table, one_core: None, entries: list[Entry], group: int
) -> None:
    few = entries[: sized(50_000, 1_000)]

    def prepare() -> tuple[tuple[WalWriter], dict[str, object]]:
        return (empty_writer(),), {}

    def encode(writer: WalWriter) -> None:
        for start in range(0, len(few), group):
            batch = writer.append(few[start : start + group], None)
            writer.synced_to(batch.end)

    benchmark.pedantic(encode, setup=prepare, rounds=ROUNDS, warmup_rounds=1)
    took = sorted(rounds_of(benchmark))[ROUNDS // 2]
    what = f"WAL encode, {RECORD_BYTES}-byte records, {group} a batch"
    rates = f"{per_second(len(few) * RECORD_BYTES, took, 'B')}, {per_second(len(few), took)}"
    table.add(Row(what, rates), benchmark)


@pytest.mark.parametrize("applied", [False, True], ids=["decoded", "applied"])
def test_recover(
    benchmark: Any, table: Table, one_core: None, entries: list[Entry], applied: bool
) -> None:
    segments = written_segments(entries)
    assert {len(entry.data) for entry in entries} == {RECORD_BYTES - RECORD_HEADER_BYTES}

    def recover_all() -> None:
        recovery = recover(segments, NODE_ID)
        assert len(recovery.entries) == len(entries)
        if applied:
            apply_all(recovery.entries)

    benchmark.pedantic(recover_all, rounds=ROUNDS, warmup_rounds=1)
    took = sorted(rounds_of(benchmark))[ROUNDS // 2]
    rate = len(entries) * RECORD_BYTES / took / MEGABYTE
    what = f"WAL recovery, {RECORD_BYTES}-byte records, decoded and checked"
    if applied:
        what += ", and applied"
    row = floor_row(what, f"{rate:,.0f} MB/s", (rate, 200), ">= 200 MB/s")
    table.add(row, benchmark)


def apply_all(entries: list[Entry]) -> None:
    """Bring a new map to the state after these."""
    writer = MapWriter(bytes(16), max_logical_bytes=KEYS * 1024, start_id=1)
    store = Store(writer)
    for entry in entries:
        store.apply(entry)
    writer.close()


# ---- durable ----


def file_system(folder: Path) -> str:
    """The kind of file system that holds `folder`; empty where the system does not tell."""
    found = ("", "")
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    for line in mounts:
        _, mount, kind, *_ = line.split()
        if folder.resolve().is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1]


@pytest.fixture
def folder(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Path]:
    """A folder for durable data, removed in the end: segments are preallocated and large."""
    wanted = pytestconfig.getoption("--bench-folder")
    path = Path(wanted, f"seafoam-bench-{os.getpid()}") if wanted else tmp_path / "durable"
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


class Clients:
    """So many writers on one disk, each with one entry under way."""

    def __init__(self, disk: FileDisk, loop: asyncio.AbstractEventLoop, entry_data: bytes) -> None:
        self.disk, self.loop, self.data = disk, loop, entry_data
        self.index = 0
        self.unsent = self.unreported = 0

    def append(self) -> None:
        """One entry, unless this round has had its share."""
        if self.unsent:
            self.unsent -= 1
            self.index += 1
            entry = Entry(self.index, 1, ENTRY_COMMAND, self.data)
            self.disk.append([entry], None, self.durable)

    def durable(self) -> None:
        """What the disk calls."""
        self.unreported -= 1
        self.append()
        if self.unreported == 0:
            self.loop.stop()

    def run(self, client_count: int, commit_count: int) -> None:
        """Until so many entries are durable."""
        self.unsent = self.unreported = commit_count
        for _ in range(client_count):
            self.append()
        self.loop.run_forever()


class RawDisk:
    """Nothing but pwrite and fdatasync, on a preallocated file."""

    FILE_BYTES = 64 << 20

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        os.posix_fallocate(self.file, 0, self.FILE_BYTES)
        os.fsync(self.file)
        self.offset = 0
        self.sync_seconds: list[float] = []

    def run(self, group_bytes: int, group_count: int) -> None:
        """Write and sync so many groups."""
        data = b"\x5a" * group_bytes
        for _ in range(group_count):
            os.pwrite(self.file, data, self.offset)
            self.offset = (self.offset + group_bytes) % (self.FILE_BYTES - group_bytes)
            start = time.perf_counter()
            os.fdatasync(self.file)
            self.sync_seconds.append(time.perf_counter() - start)


def fail_bench(error: BaseException) -> None:
    """A disk that fails ends the bench."""
    raise error


@pytest.mark.parametrize("clients", [1, 16, 64, 256])
def test_durable_commits(benchmark: Any, table: Table, folder: Path, clients: int) -> None:
    what = f"durable commits, {RECORD_BYTES}-byte records, {clients} at once"
    kind = file_system(folder)
    if kind in ("tmpfs", "ramfs", ""):
        table.missing(what, "disk", f"{folder} is on {kind or 'an unknown file system'}")
        return
    groups = sized(100, 3)
    loop = uvloop.new_event_loop()
    disk = FileDisk(folder / "node", loop=loop, on_failure=fail_bench)
    disk.open()
    raw = RawDisk(folder / "raw")
    many = Clients(disk, loop, filled_entry(1, 1).data)
    try:
        measured = alternate(
            benchmark,
            lambda: many.run(clients, groups * clients),
            lambda: raw.run(clients * RECORD_BYTES, groups),
        )
        syncs = disk.counters().syncs_count
    finally:
        disk.close()
        loop.close()
        os.close(raw.file)
    commits = groups * clients
    sync_us = statistics.median(raw.sync_seconds) * 1e6
    benchmark.extra_info.update(fdatasync_us=sync_us, commits_per_sync=many.index / syncs)
    texts = (
        f"{per_second(commits, measured.subject_seconds)}, {many.index / syncs:.1f} a sync",
        f"pwrite + fdatasync {per_second(commits, measured.reference_seconds)}, "
        f"fdatasync {sync_us:,.0f} us on {kind}",
    )
    row = faster_row(what, texts, (measured.speedup, measured.spread()), None)
    table.add(row, benchmark)
