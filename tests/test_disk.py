"""The disk on real files: what it calls durable is, and what fails, fills or tears is handled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from seafoam import disk as disk_module
from seafoam._core.message import ENTRY_FOUNDING, HardState
from seafoam._core.wal import Recovery, segment_name
from seafoam._core.wire import (
    RECORD_HEADER_BYTES,
    RECORD_MARKER,
    SEGMENT_HEADER_BYTES,
    encode_founding,
)
from seafoam.disk import FileDisk
from seafoam.errors import DataDamaged, DiskFailed, InvariantBroken, StartError
from wal_log import entry, hard, record_offsets

ROOT = Path(__file__).resolve().parent.parent
SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
KILLS_COUNT = 200 if SOAK else 6
SEGMENT_BYTES = 64 * 1024
PATIENCE_SECONDS = 30


class Rig:
    """One disk under test, its failures, and the reports of durability in their order."""

    made: list[Rig] = []

    def __init__(self, path: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        Rig.made.append(self)
        self.failures: list[DiskFailed] = []
        self.durable: list[int] = []
        self.loop = asyncio.get_running_loop()
        self.disk = FileDisk(path, loop=self.loop, on_failure=self.failures.append,
                             segment_bytes=segment_bytes)
        self.wal = path / "wal"

    def open(self) -> Recovery:
        self.recovery = self.disk.open()
        self.next_index = len(self.recovery.entries) + 1
        return self.recovery

    def append(self, data: bytes = b"x" * 200, hard_state: HardState | None = None) -> int:
        index = self.next_index
        self.next_index += 1
        self.disk.append([entry(index, 1, data)], hard_state, lambda: self.durable.append(index))
        return index

    async def until(self, condition) -> None:
        end = self.loop.time() + PATIENCE_SECONDS
        while not condition():
            assert self.loop.time() < end, "it never comes"
            await asyncio.sleep(0)

    async def settled(self) -> None:
        await self.until(lambda: self.durable and self.durable[-1] == self.next_index - 1)

    def spoil(self, device: str, number: int | None = None) -> None:
        """Put a device in the place of the segment that is written to."""
        number = number or self.disk._writer.segment_number
        target = os.open(device, os.O_RDWR)
        os.dup2(target, self.disk._fds[number])
        os.close(target)


def run(test) -> None:
    """Run a test on both event loops."""
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        loop = factory()
        try:
            loop.run_until_complete(test(factory is uvloop.new_event_loop))
        finally:
            while Rig.made:
                Rig.made.pop().disk.close()
            loop.close()


def reopened(path: Path, segment_bytes: int = SEGMENT_BYTES) -> Recovery:
    async def look() -> Recovery:
        rig = Rig(path, segment_bytes)
        recovery = rig.open()
        rig.disk.close()
        return recovery

    return asyncio.run(look())


# -- what is durable ----------------------------------------------------------------------------


def test_what_was_reported_durable_is_read_again(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        assert rig.open().entries == []
        for index in range(1, 6):
            rig.append(hard_state=hard(1, index - 1, vote=3))
            assert rig.durable == [], "never from within the call"
        await rig.settled()
        assert rig.durable == [1, 2, 3, 4, 5]
        assert [e.index for e in reopen_copy(path)] == [1, 2, 3, 4, 5]
        rig.disk.close()
        recovery = Rig(path).open()
        assert [e.data for e in recovery.entries] == [b"x" * 200] * 5
        assert recovery.hard_state == hard(1, 4, vote=3)
        assert rig.failures == []

    def reopen_copy(path):
        # As after kill -9: what is in the files while the disk is still open.
        copy = path.parent / f"{path.name}-copy"
        subprocess.run(["cp", "-r", path, copy], check=True)
        (copy / "LOCK").unlink()
        return Rig(copy).open().entries

    run(test)


def test_a_node_keeps_its_id_and_changes_its_start_id(tmp_path):
    async def test(_):
        first = Rig(tmp_path / "d")
        first.open()
        first.disk.close()
        second = Rig(tmp_path / "d")
        second.open()
        second.disk.close()
        assert first.disk.node_id == second.disk.node_id > 0
        assert first.disk.start_id != second.disk.start_id

    run(test)


def test_appends_share_a_sync(tmp_path):
    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop), segment_bytes=1 << 25)
        rig.open()
        rig.append(bytes(15 << 20))  # keeps the disk busy while the others queue up
        for _ in range(300):
            rig.append()
        await rig.settled()
        assert rig.durable == list(range(1, 302))
        assert rig.disk.counters().syncs_count < 100
        rig.disk.close()

    run(test)


def test_rotation_finds_the_next_segment_prepared(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        await rig.until(lambda: 2 in rig.disk._fds)
        for _ in range(40):
            for _ in range(50):
                rig.append()
            await rig.settled()
        used = rig.disk._writer.segment_number
        assert used >= 8
        await rig.until(lambda: used + 1 in rig.disk._fds)
        assert len(rig.disk._fds) <= 3
        names = sorted(p.name for p in (path / "wal").iterdir())
        assert names == [segment_name(number) for number in range(1, used + 2)]
        assert {p.stat().st_size for p in (path / "wal").iterdir()} == {SEGMENT_BYTES}
        rig.disk.close()
        assert len(Rig(path).open().entries) == 2000

    run(test)


def test_a_burst_waits_for_its_segments_and_keeps_its_order(tmp_path):
    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop))
        rig.open()
        for _ in range(3000):  # ten segments, in one turn of the loop
            rig.append()
        assert rig.disk.room_bytes() == 0
        assert rig.disk.full, "more was accepted than is prepared"
        await rig.settled()
        assert rig.durable == list(range(1, 3001))
        await rig.until(lambda: not rig.disk.full)
        rig.disk.close()
        assert len(Rig(tmp_path / str(is_uvloop)).open().entries) == 3000

    run(test)


def test_a_close_makes_durable_what_is_under_way(tmp_path):
    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop))
        rig.open()
        for _ in range(500):
            rig.append()
        rig.disk.close()
        assert rig.durable == list(range(1, 501))
        rig.disk.close()
        with pytest.raises(InvariantBroken, match="not open"):
            rig.append()
        assert len(Rig(tmp_path / str(is_uvloop)).open().entries) == 500

    run(test)


def markers(wal: Path) -> int:
    return sum(
        data[at + 8] == RECORD_MARKER
        for data in (path.read_bytes() for path in wal.iterdir())
        for at in (record_offsets(data)[:-1] if any(data) else [])
    )


def test_an_idle_disk_writes_one_marker(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_module, "IDLE_MARKER_SECONDS", 0)

    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop))
        rig.open()
        rig.append()
        await rig.settled()
        assert markers(rig.wal) >= 1
        await rig.until(lambda: markers(rig.wal) == 2)
        syncs_count = rig.disk.counters().syncs_count
        for _ in range(50):
            await asyncio.sleep(0)
        rig.disk.close()
        assert rig.disk.counters().syncs_count == max(syncs_count, 2)
        assert markers(rig.wal) == 2, "closing adds none, for the log says so already"

    run(test)


def test_closing_writes_the_marker_that_makes_the_last_batch_safe(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        rig.append()
        rig.disk.close()
        segment = path / "wal" / segment_name(1)
        data = bytearray(segment.read_bytes())
        data[150] ^= 1
        segment.write_bytes(data)
        with pytest.raises(DataDamaged, match=segment_name(1) + " is damaged at offset 80"):
            Rig(path).open()

    run(test)


def test_founding_writes_entry_one_committed(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        founding = encode_founding(5, bytes(16), [(rig.disk.node_id, "127.0.0.1:3010")])
        recovery = rig.disk.found(founding)
        assert [(e.index, e.term, e.kind, e.data) for e in recovery.entries] == [
            (1, 1, ENTRY_FOUNDING, founding)
        ]
        assert recovery.hard_state == hard(1, 1)
        with pytest.raises(InvariantBroken, match="only an empty log"):
            rig.disk.found(founding)
        rig.next_index = 2
        rig.append()
        await rig.settled()
        rig.disk.close()
        assert [e.index for e in Rig(path).open().entries] == [1, 2]

    run(test)


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "words"),
    [("/dev/full", "a write of .* failed: No space left"), ("/dev/null", "a sync of .* failed")],
)
def test_a_failure_is_said_once_and_nothing_is_durable_after_it(tmp_path, device, words):
    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop))
        rig.open()
        rig.append()
        await rig.settled()
        rig.spoil(device)
        for _ in range(3):
            rig.append()
        await rig.until(lambda: rig.failures)
        assert rig.durable == [1]
        (failure,) = rig.failures
        assert re.search(words, str(failure))
        assert segment_name(1) in str(failure)
        with pytest.raises(DiskFailed, match=words):
            rig.append()
        for _ in range(20):
            await asyncio.sleep(0)
        rig.disk.close()
        assert len(rig.failures) == 1
        assert rig.durable == [1]
        assert [e.index for e in Rig(tmp_path / str(is_uvloop)).open().entries] == [1]

    run(test)


def test_a_founding_that_was_torn_behind_its_marker_can_be_made_again(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        founding = encode_founding(5, bytes(16), [(rig.disk.node_id, "127.0.0.1:3010")])
        rig.disk.found(founding)
        rig.disk.close()
        with (path / "wal" / segment_name(1)).open("r+b") as log:
            behind_marker = SEGMENT_HEADER_BYTES + RECORD_HEADER_BYTES
            log.seek(behind_marker)
            log.write(bytes(4096 - behind_marker))
        rig = Rig(path)
        assert rig.open().entries == []
        assert [entry.index for entry in rig.disk.found(founding).entries] == [1]
        rig.disk.close()

    run(test)


def test_a_failure_found_while_closing_is_said(tmp_path):
    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop))
        rig.open()
        rig.spoil("/dev/full")
        rig.append()
        rig.disk.close()
        assert len(rig.failures) == 1
        assert rig.durable == []

    run(test)


def test_a_segment_that_cannot_be_prepared_is_a_failure_unless_room_is_lacking(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        await rig.until(lambda: 2 in rig.disk._fds)
        (path / "wal" / segment_name(3)).mkdir()
        for _ in range(400):
            rig.append()
        await rig.until(lambda: rig.failures)
        assert "preparing a segment of the log failed" in str(rig.failures[0])
        rig.disk.close()
        assert len(rig.failures) == 1

    run(test)


# -- a torn tail on disk ------------------------------------------------------------------------


def test_a_torn_tail_is_overwritten_and_said(tmp_path, caplog):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        for _ in range(3):
            rig.append()
        await rig.settled()
        rig.disk.close()
        segment = path / "wal" / segment_name(1)
        clean = segment.read_bytes()
        data = bytearray(clean)
        data[1000:3000] = random.Random(1).randbytes(2000)
        segment.write_bytes(data)
        with caplog.at_level(logging.WARNING):
            assert len(reopen(path)) == 3
        assert "cut what was being written" in caplog.text
        assert segment.read_bytes() == clean
        caplog.clear()
        assert len(reopen(path)) == 3
        assert caplog.text == ""

    def reopen(path):
        rig = Rig(path)
        recovered = rig.open().entries
        rig.disk.close()
        return recovered

    run(test)


def test_segments_behind_a_torn_one_are_emptied_or_removed(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        rig.append()
        rig.disk.close()
        for number in (3, 4):
            (path / "wal" / segment_name(number)).write_bytes(bytes(SEGMENT_BYTES))
        (path / "wal" / segment_name(2)).write_bytes(b"noise" * 100)
        rig = Rig(path)
        assert len(rig.open().entries) == 1
        names = sorted(p.name for p in (path / "wal").iterdir())
        assert names == [segment_name(1), segment_name(2)]
        second = (path / "wal" / segment_name(2)).read_bytes()
        assert len(second) == SEGMENT_BYTES
        assert not any(second)

    run(test)


# -- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MiB with nothing on it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", folder],
                             capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


SMALL_SEGMENT_BYTES = 256 * 1024


def fill(folder: Path) -> Path:
    """Take all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_is_foreseen_and_recovers_by_itself(small_disk):
    async def test(is_uvloop):
        path = small_disk / str(is_uvloop)
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        rig.open()
        await rig.until(lambda: 2 in rig.disk._fds)
        filler = fill(small_disk)
        while not rig.disk.full:
            rig.append(bytes(1000))
            await rig.settled()
        reserve = SMALL_SEGMENT_BYTES // 2
        assert reserve - 2000 < rig.disk.room_bytes() < reserve
        assert rig.disk.status()["full"] is True
        # What was accepted before, terms and votes still have room.
        for _ in range(20):
            rig.append(bytes(1000), hard(2, 1, vote=5))
        await rig.settled()
        rig.disk.retry_prepare()
        await rig.until(lambda: rig.disk._preparing is None)
        assert rig.disk.full, "there still is no room"
        filler.unlink()
        assert rig.disk.full, "nobody has looked yet"
        rig.disk.retry_prepare()
        await rig.until(lambda: not rig.disk.full)
        for _ in range(300):
            rig.append(bytes(1000))
        await rig.settled()
        assert rig.failures == []
        rig.disk.close()
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        assert len(rig.open().entries) == rig.next_index - 1 > 600
        rig.disk.close()
        subprocess.run(["rm", "-r", path], check=True)

    run(test)


def test_what_no_room_is_left_for_waits_for_it_in_order(small_disk):
    async def test(is_uvloop):
        path = small_disk / str(is_uvloop)
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        rig.open()
        await rig.until(lambda: 2 in rig.disk._fds)
        filler = fill(small_disk)
        for _ in range(700):
            rig.append(bytes(1000))
        await rig.until(lambda: rig.disk._preparing is None and not rig.disk._pending)
        assert rig.disk.full
        reported = list(rig.durable)
        assert 300 < len(reported) < 700
        assert rig.disk.room_bytes() == 0
        filler.unlink()
        rig.disk.retry_prepare()
        await rig.settled()
        assert rig.durable == list(range(1, 701))
        assert rig.failures == []
        rig.disk.close()
        subprocess.run(["rm", "-r", path], check=True)

    run(test)


def test_a_node_starts_and_reads_on_a_full_disk(small_disk):
    async def test(is_uvloop):
        path = small_disk / str(is_uvloop)
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        rig.open()
        await rig.until(lambda: 2 in rig.disk._fds)
        filler = fill(small_disk)
        while not rig.disk.full:
            rig.append(bytes(1000))
            await rig.settled()
        rig.disk.close()
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        assert len(rig.open().entries) > 100
        await rig.until(lambda: rig.disk.full)
        rig.append(b"a vote's worth")
        await rig.settled()
        rig.disk.close()
        filler.unlink()
        subprocess.run(["rm", "-r", path], check=True)

    run(test)


def test_a_disk_without_room_for_a_first_segment_is_one_sentence(small_disk):
    async def test(_):
        filler = fill(small_disk)
        with pytest.raises(StartError, match=r"cannot be used: .*No space left on device"):
            Rig(small_disk / "d", SMALL_SEGMENT_BYTES).open()
        filler.unlink()
        rig = Rig(small_disk / "d", SMALL_SEGMENT_BYTES)
        assert rig.open().entries == []
        rig.disk.close()
        subprocess.run(["rm", "-r", small_disk / "d"], check=True)

    run(test)


# -- kill -9 ------------------------------------------------------------------------------------

WRITER = """
import asyncio, os, sys
from pathlib import Path
import uvloop
from seafoam._core.message import ENTRY_COMMAND, Entry, HardState
from seafoam.disk import FileDisk

async def main():
    loop = asyncio.get_running_loop()
    disk = FileDisk(Path(sys.argv[1]), loop=loop, on_failure=print, segment_bytes=int(sys.argv[2]))
    index = len(disk.open().entries)
    while True:
        for _ in range(7):
            index += 1
            disk.append([Entry(index, 1, ENTRY_COMMAND, b"%d" % index * 50)], HardState(1, 9, 0),
                        lambda index=index: os.write(1, b"%d\\n" % index))
        await asyncio.sleep(0.0003)

uvloop.run(main())
"""


def test_kill_9_loses_nothing_that_was_reported_durable(tmp_path):
    generator = random.Random(9)
    path = tmp_path / "d"
    reported = 0
    for _ in range(KILLS_COUNT):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(SEGMENT_BYTES)],
                                 cwd=ROOT, stdout=subprocess.PIPE)
        with child:
            for _ in range(generator.randint(1, 600)):
                line = child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            lines = [line, *child.stdout.read().splitlines(keepends=True)]
        # A last line without its end was cut by the kill.
        reported = max(int(said) for said in lines if said.endswith(b"\n"))
        recovered = reopened(path).entries
        assert len(recovered) >= reported > 0
        assert [e.data for e in recovered] == [b"%d" % e.index * 50 for e in recovered]
    assert len(list((path / "wal").iterdir())) > 2
