"""A disk without room: foreseen, said, waited for, and gone on from."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import pytest

from disk_rig import Rig, run
from seafoam.errors import StartError
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
