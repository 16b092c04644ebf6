"""The disk's snapshots beside its log: kept, received, begun from, and what goes for them."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from disk_rig import Rig, run
from seafoam import data_directory, snapshot_store
from seafoam._core.pack import crc32c
from seafoam._core.wal import segment_name
from seafoam.errors import DataDamaged, DiskFailed, InvariantBroken, Refusal, StartError
from snapshot_rig import Source, put
from snapshot_support import payload_of
from wal_log import entries, hard

SEGMENT_BYTES = 16 * 1024


async def written(path: Path, count: int = 300) -> Rig:
    """A disk with so many entries, all committed, in several segments."""
    rig = Rig(path, SEGMENT_BYTES)
    rig.open()
    for index in range(1, count + 1):
        rig.append(hard_state=hard(1, index))
        if index % 40 == 0:
            await rig.settled()
    await rig.settled()
    # What fails from here on is not the making of the next segment.
    await rig.until(lambda: rig.disk._preparing is None)
    return rig


async def saved(rig: Rig, source: Source):
    results = []
    rig.disk.save_snapshot(source, results.append)
    assert results == [], "never from within the call"
    await rig.until(lambda: results or rig.failures)
    return results[0] if results else None


def segments(path: Path) -> list[str]:
    return sorted(file.name for file in (path / "wal").iterdir())


def test_a_log_begins_behind_its_snapshot_and_drops_what_it_holds(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path)
        disk = rig.disk
        whole_bytes = disk.log_bytes
        assert (disk.snapshot, whole_bytes > 4 * SEGMENT_BYTES) == (None, True)
        info = await saved(rig, Source(200, 1))
        assert disk.snapshot == info
        assert 0 < disk.log_bytes < whole_bytes
        with pytest.raises(InvariantBroken, match="no snapshot holds"):
            disk.drop_log(201)
        before = segments(path)
        disk.drop_log(200)
        behind = disk.log_bytes
        await rig.until(lambda: len(segments(path)) < len(before))
        rig.append(hard_state=hard(1, 301))
        await rig.settled()
        assert [e.index for e in disk.read_entries(200, 301, 1 << 30)] == list(range(200, 302))
        disk.close()
        assert rig.failures == []
        assert segments(path) == before[-len(segments(path)):], "the first go, and no other"
        rig = Rig(path, SEGMENT_BYTES)
        recovery = rig.open()
        assert (recovery.base, recovery.must_rebase) == ((200, 1), False)
        assert [e.index for e in recovery.entries] == list(range(201, 302))
        assert rig.disk.snapshot == info
        assert rig.disk.log_bytes >= behind
        opened = rig.disk.open_snapshot(info)
        assert opened.head.index == 200
        assert list(opened) == [payload_of(items) for items in Source().blocks]
        # And on, with all of the log in a snapshot.
        rig.next_index = 302
        await saved(rig, Source(301, 1, file_id=2))
        rig.disk.drop_log(301)
        rig.append(hard_state=hard(2, 302))
        await rig.settled()
        rig.disk.close()
        recovery = Rig(path, SEGMENT_BYTES).open()
        assert (recovery.base, len(recovery.entries)) == ((301, 1), 1)
        assert recovery.hard_state == hard(2, 302)

    run(test)


def test_a_received_snapshot_takes_the_place_of_the_log(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path, 100)
        disk, source = rig.disk, Source(500, 4, blocks=30, value_bytes=300_000)
        whole = source.file()
        assert disk.receive_snapshot(0xF00, 0, b"", len(whole)) == 0
        ready = []
        disk.finish_receiving(0xF00, ready.append)
        assert ready == [], "never from within the call"
        await rig.until(lambda: ready)
        assert isinstance(ready.pop(), DataDamaged)
        offset = 0
        while offset < len(whole):
            offset = disk.receive_snapshot(0xF00, offset, whole[offset:offset + 262144],
                                           len(whole))
        disk.finish_receiving(0xF00, ready.append)
        await rig.until(lambda: ready)
        info = ready[0]
        assert disk.snapshot == info
        assert info.path.read_bytes() == whole
        assert disk.read_snapshot(0xF00, 5, 100) == whole[5:105]
        assert disk.read_snapshot(0xBAD, 5, 100) == b""
        # A crash before the base is written: the log is empty all the same.
        copy = path.parent / f"{path.name}-copy"
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("LOCK"))
        crashed = Rig(copy, SEGMENT_BYTES)
        recovery = crashed.open()
        assert (recovery.base, recovery.entries, recovery.must_rebase) == ((500, 4), [], True)
        assert recovery.hard_state == hard(4, 500)
        crashed.disk.append(entries(501, 502, term=4), None, lambda: crashed.durable.append(502))
        await crashed.until(lambda: crashed.durable)
        crashed.disk.close()
        recovery = Rig(copy, SEGMENT_BYTES).open()
        assert (recovery.entries, recovery.must_rebase) == (entries(501, 502, term=4), False)
        # And as it is meant.
        with pytest.raises(InvariantBroken, match="which no snapshot holds"):
            disk.append([], None, lambda: None, (501, 4))
        done = []
        disk.append([], hard(4, 500), lambda: done.append(1), (500, 4))
        disk.append(entries(501, 503, term=4), None, lambda: done.append(2))
        await rig.until(lambda: len(done) == 2)
        assert disk.read_entries(501, 503, 1 << 20) == entries(501, 503, term=4)
        disk.drop_log(500)
        disk.close()
        recovery = Rig(path, SEGMENT_BYTES).open()
        assert (recovery.base, recovery.entries) == ((500, 4), entries(501, 503, term=4))
        assert segments(path)[0] != segment_name(1)

    run(test)


def test_a_new_node_begins_with_anothers_snapshot(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path, SEGMENT_BYTES)
        rig.open()
        whole = Source(50, 3).file()
        ready = []
        assert rig.disk.receive_snapshot(0xF00, 0, whole, len(whole)) == len(whole)
        rig.disk.finish_receiving(0xF00, ready.append)
        await rig.until(lambda: ready)
        rig.disk.close()
        rig = Rig(path, SEGMENT_BYTES)
        recovery = rig.open()
        assert (recovery.base, recovery.must_rebase) == ((50, 3), True)
        with pytest.raises(InvariantBroken, match="only an empty log is founded"):
            rig.disk.found(b"")

    run(test)


# -- what is damaged ----------------------------------------------------------------------------


def spoil(path: Path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_damaged_snapshot_is_done_without_where_the_log_has_all_of_it(tmp_path, caplog):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path)
        await saved(rig, Source(100, 1))
        rig.disk.close()
        newer = put(path / "snapshots", Source(200, 1, file_id=2))
        spoil(newer)
        rig = Rig(path, SEGMENT_BYTES)
        assert (rig.open().base, rig.disk.snapshot.index) == ((100, 1), 100)
        assert f"{newer}: the snapshot is damaged at offset" in caplog.text
        assert not newer.exists()
        rig.disk.close()
        spoil(rig.disk.snapshot.path)
        rig = Rig(path, SEGMENT_BYTES)
        assert (rig.open().base, rig.disk.snapshot) == ((0, 0), None), "the log begins at 1"
        rig.disk.close()

    run(test)


def test_a_damaged_snapshot_that_the_log_needs_is_damage(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path)
        await saved(rig, Source(200, 1))
        rig.disk.drop_log(200)
        rig.disk.close()
        put(path / "snapshots", Source(100, 1, file_id=2))
        newest = rig.disk.snapshot.path
        spoil(newest)
        with pytest.raises(DataDamaged, match=f"{newest}: the snapshot is damaged at offset"):
            Rig(path, SEGMENT_BYTES).open()
        spoil(newest)
        assert Rig(path, SEGMENT_BYTES).open().base == (200, 1)
        Rig.made.pop().disk.close()
        newest.unlink()
        with pytest.raises(DataDamaged, match="no such segment, and no snapshot has what was"):
            Rig(path, SEGMENT_BYTES).open()

    run(test)


def test_a_damaged_snapshot_beyond_what_the_log_knows_committed_is_damage(tmp_path):
    # It was received, and perhaps acknowledged, before the log had its base.
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path, 50)
        rig.disk.close()
        received = put(path / "snapshots", Source(51, 1))
        spoil(received)
        with pytest.raises(DataDamaged, match=f"{received}: the snapshot is damaged"):
            Rig(path, SEGMENT_BYTES).open()

    run(test)


def test_a_snapshot_of_a_later_version_is_refused_and_not_damage(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path, 50)
        await saved(rig, Source(40, 1))
        rig.disk.close()
        snapshot = rig.disk.snapshot.path
        preamble = b"SEAFOAMS\2\0\0\0"
        snapshot.write_bytes(preamble + crc32c(preamble).to_bytes(4, "little")
                             + snapshot.read_bytes()[16:])
        with pytest.raises(StartError, match="version 2") as caught:
            Rig(path, SEGMENT_BYTES).open()
        assert not isinstance(caught.value, DataDamaged)

    run(test)


def test_damage_in_what_a_snapshot_holds_is_mended_and_said(tmp_path, caplog):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path)
        await saved(rig, Source(200, 1))
        rig.disk.close()
        spoil(path / "wal" / segment_name(2), 1000)
        recovery = Rig(path, SEGMENT_BYTES).open()
        assert (recovery.base, len(recovery.entries)) == ((200, 1), 100)
        assert f"segments to {segment_name(2)} of the log were damaged" in caplog.text
        assert segments(path)[0] == segment_name(3)
        Rig.made.pop().disk.close()
        spoil(path / "wal" / segments(path)[-2], 1000)
        with pytest.raises(DataDamaged, match="is damaged at offset"):
            Rig(path, SEGMENT_BYTES).open()

    run(test)


# -- what fails ---------------------------------------------------------------------------------


def failing(number: int):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    return fail


def test_no_room_for_a_snapshot_is_said_once_and_tried_again(tmp_path, monkeypatch, caplog):
    async def test(is_uvloop):
        caplog.clear()
        rig = await written(tmp_path / str(is_uvloop), 50)
        with monkeypatch.context() as patched:
            patched.setattr(snapshot_store, "write_all", failing(errno.ENOSPC))
            assert await saved(rig, Source(40, 1)) is None
            assert await saved(rig, Source(40, 1)) is None
            with pytest.raises(Refusal, match="no room for a snapshot") as caught:
                rig.disk.receive_snapshot(7, 0, b"piece", 1000)
            assert caught.value.code == "disk_full"
        assert caplog.text.count("a snapshot cannot be written") == 1
        assert (await saved(rig, Source(40, 1))).index == 40
        assert rig.failures == []
        rig.append()
        await rig.settled()

    run(test)


def test_a_lost_snapshot_is_none_and_no_failure(tmp_path):
    async def test(is_uvloop):
        rig = await written(tmp_path / str(is_uvloop), 50)
        source = Source(40, 1)
        source.is_lost = True
        assert await saved(rig, source) is None
        assert rig.failures == [] and rig.disk.snapshot is None

    run(test)


@pytest.mark.parametrize("step", ["write_all", "sync_directory", "fsync"])
def test_a_snapshot_that_cannot_be_written_is_a_failure(tmp_path, monkeypatch, step):
    async def test(is_uvloop):
        rig = await written(tmp_path / str(is_uvloop), 50)
        with monkeypatch.context() as patched:
            target = os if step == "fsync" else snapshot_store
            patched.setattr(target, step, failing(errno.EIO))
            assert await saved(rig, Source(40, 1)) is None
        assert len(rig.failures) == 1
        assert "writing a snapshot failed" in str(rig.failures[0])
        with pytest.raises(DiskFailed):
            rig.append()

    run(test)


@pytest.mark.parametrize("step", ["write_all", "sync_directory", "sync_data"])
def test_a_received_snapshot_that_cannot_be_kept_is_a_failure(tmp_path, monkeypatch, step):
    async def test(is_uvloop):
        rig = await written(tmp_path / str(is_uvloop), 50)
        whole = Source(60, 1).file()
        ready = []
        with monkeypatch.context() as patched:
            target = data_directory if step == "sync_data" else snapshot_store
            patched.setattr(target, step, failing(errno.EIO))
            try:
                rig.disk.receive_snapshot(0xF00, 0, whole, len(whole))
                rig.disk.finish_receiving(0xF00, ready.append)
                await rig.until(lambda: rig.failures)
            except DiskFailed:
                assert step == "write_all"
        assert len(rig.failures) == 1 and ready == []
        assert "received snapshot failed" in str(rig.failures[0])
        with pytest.raises(DiskFailed):
            rig.disk.receive_snapshot(0xF00, 0, whole, len(whole))

    run(test)


def test_a_segment_that_cannot_be_removed_is_a_failure_and_the_next_start_goes_on(
    tmp_path, monkeypatch
):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path)
        await saved(rig, Source(200, 1))
        with monkeypatch.context() as patched:
            patched.setattr(Path, "unlink", failing(errno.EIO))
            rig.disk.drop_log(200)
            await rig.until(lambda: rig.failures)
        assert "removing segments of the log failed" in str(rig.failures[0])
        rig.disk.close()
        assert Rig(path, SEGMENT_BYTES).open().base == (200, 1)

    run(test)


def test_a_close_gives_up_a_snapshot_under_way(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = await written(path, 50)
        source = Source(40, 1)
        source.is_walked, source.allowed = False, 0
        called = []
        rig.disk.save_snapshot(source, called.append)
        with pytest.raises(InvariantBroken, match="one snapshot is written at a time"):
            rig.disk.save_snapshot(source, called.append)
        assert source.has_waited.wait(30)
        threads = threading.active_count()
        rig.disk.close()
        assert threading.active_count() < threads
        assert called == [] and list((path / "snapshots").iterdir()) == []
        assert rig.failures == []

    run(test)
