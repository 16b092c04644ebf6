"""A disk without room: foreseen, said, waited for, and gone on from."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from disk_rig import Rig, run
from doors import MemoryNetwork
from seafoam import data_directory
from seafoam import disk as disk_module
from seafoam import node as node_module
from seafoam._core import limits
from seafoam._core.store import CommandResult
from seafoam._core.wal import segment_name
from seafoam._core.wire import Operation, encode_command, encode_founding
from seafoam.clock import LoopClock
from seafoam.errors import DiskFailed, Refusal, StartError
from seafoam.node import Node
from wal_log import hard

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
        await rig.begun()
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
        await rig.begun()
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
        assert rig.durable == list(range(1, 702))
        assert rig.failures == []
        rig.disk.close()
        subprocess.run(["rm", "-r", path], check=True)

    run(test)


def test_a_node_starts_and_reads_on_a_full_disk(small_disk):
    async def test(is_uvloop):
        path = small_disk / str(is_uvloop)
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        rig.open()
        await rig.begun()
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


# -- no room and no descriptors, as the system would say it ---------------------------------------


class Shortage:
    """What the system answers to a file that is to be reserved; None where it does it."""

    answer: int | None = None


@pytest.fixture
def shortage(monkeypatch):
    kept = data_directory.reserve
    short = Shortage()

    def reserve(fd: int, size: int) -> None:
        if short.answer is not None:
            raise OSError(short.answer, os.strerror(short.answer))
        kept(fd, size)

    monkeypatch.setattr(data_directory, "reserve", reserve)
    return short


SHORTAGES = [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE]


@pytest.mark.parametrize("answer", SHORTAGES, ids=errno.errorcode.get)
def test_what_cannot_be_prepared_now_is_prepared_later(tmp_path, shortage, caplog, answer):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path, SMALL_SEGMENT_BYTES)
        rig.open()
        await rig.begun()
        shortage.answer = answer
        while rig.disk._writer.segment_number == 1:
            rig.append(bytes(1000))
            await rig.settled()
        await rig.until(lambda: rig.disk._preparing is None)
        assert os.strerror(answer) in caplog.text and rig.failures == []
        assert not (path / "wal" / segment_name(3)).exists(), "nothing of it stays"
        assert not rig.disk.full
        assert rig.disk.has_room(1000) and not rig.disk.has_room(SMALL_SEGMENT_BYTES // 2)
        rig.disk.retry_prepare()
        await rig.until(lambda: rig.disk._preparing is None)
        assert 3 not in rig.disk._fds
        shortage.answer = None
        rig.disk.retry_prepare()
        await rig.until(lambda: 3 in rig.disk._fds)
        assert rig.disk.has_room(SMALL_SEGMENT_BYTES // 2)
        assert caplog.text.count("cannot be reserved") == 1 + is_uvloop, "said once"

    run(test)


def test_a_retry_where_nothing_lacks_does_nothing(tmp_path):
    async def test(is_uvloop):
        rig = Rig(tmp_path / str(is_uvloop))
        rig.open()
        await rig.begun()
        for _ in range(3):
            rig.disk.retry_prepare()
            assert rig.disk._preparing is None

    run(test)


def test_a_start_without_descriptors_is_one_sentence(tmp_path, shortage, monkeypatch):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        shortage.answer = errno.EMFILE
        with pytest.raises(StartError, match=r"cannot be used: .*Too many open files"):
            Rig(path).open()
        shortage.answer = None
        with monkeypatch.context() as broken:
            broken.setattr(disk_module, "DiskLoop", no_descriptor)
            with pytest.raises(StartError, match="disk thread cannot be started: cannot wake"):
                Rig(path).open()
        assert Rig(path).open().entries == []

    def no_descriptor():
        raise DiskFailed("cannot wake the event loop: Too many open files")

    run(test)


class NodeRig(Rig):
    """A whole node on such a disk."""

    def start(self) -> None:
        self.fatal: list[BaseException] = []
        self.disk.open()
        founding = encode_founding(5, bytes(16), [(self.disk.node_id, "127.0.0.1:1")])
        recovery = self.disk.found(founding)
        self.node = Node(
            self.disk, LoopClock(self.loop), MemoryNetwork(), recovery, 1 << 30,
            self.fatal.append, seed=1,
        )
        self.node.start(lambda: None)

    def set(self, key: str) -> asyncio.Future[CommandResult]:
        """What comes of it; a refusal is its exception."""
        command = encode_command([Operation.set(key.encode(), b"1" * 1000)])
        future: asyncio.Future[CommandResult] = self.loop.create_future()

        def on_outcome(outcome: CommandResult | Refusal) -> None:
            if isinstance(outcome, Refusal):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.node.submit(command, limits.TIMEOUT_MS_MAX, on_outcome)
        return future

    async def fill(self) -> None:
        """Write until the next segment is missed."""
        count = 0
        while not self.disk._lacks_next:
            count += 1
            await self.set(f"filler/{count}")


def test_writes_are_refused_on_a_full_disk_and_resume_by_themselves(
    tmp_path, shortage, monkeypatch
):
    monkeypatch.setattr(node_module, "ROOM_RETRY_SECONDS", 0.001)

    async def test(is_uvloop):
        rig = NodeRig(tmp_path / str(is_uvloop), SMALL_SEGMENT_BYTES)
        rig.start()
        await rig.set("first")
        await rig.until(lambda: 2 in rig.disk._fds)
        shortage.answer = errno.ENOSPC
        await rig.fill()
        while True:
            try:
                await rig.set("second")
            except Refusal as refusal:
                assert (refusal.code, refusal.applied) == ("disk_full", "no")
                break
        assert rig.disk.room_bytes() >= SMALL_SEGMENT_BYTES // 2 - 3000, "the reserve is there"
        assert rig.node.reader.get("first") is not None and rig.node.refuse_reads() is None
        shortage.answer = None
        await rig.until(lambda: rig.disk.has_room(2000))
        assert (await rig.set("third")).index > 100
        assert (rig.failures, rig.fatal) == ([], [])
        rig.node.close()

    run(test)


def test_a_burst_on_a_full_disk_takes_no_more_than_there_is_room_for(tmp_path, shortage):
    async def test(is_uvloop):
        rig = NodeRig(tmp_path / str(is_uvloop), SMALL_SEGMENT_BYTES)
        rig.start()
        await rig.set("first")
        await rig.until(lambda: 2 in rig.disk._fds)
        shortage.answer = errno.ENOSPC
        await rig.fill()
        writes = [rig.set(f"k{number}") for number in range(1000)]  # in one turn of the loop
        refused = [write for write in writes if write.done()]
        assert {write.exception().code for write in refused} == {"disk_full"}
        taken = [write for write in writes if not write.done()]
        assert 10 < len(taken) < 300
        for write in taken:
            await write
        assert not rig.disk._waiting, "the rest of the room is for terms and votes"
        assert rig.disk.room_bytes() >= SMALL_SEGMENT_BYTES // 2 - len(taken) * 100
        shortage.answer = None
        assert (rig.failures, rig.fatal) == ([], [])
        rig.node.close()

    run(test)
