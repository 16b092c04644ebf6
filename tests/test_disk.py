"""The disk on real files: what it calls durable is, and what fails, fills or tears is handled."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from disk_rig import SEGMENT_BYTES, Rig, reopened, run
from seafoam import disk as disk_module
from seafoam._core.message import ENTRY_FOUNDING
from seafoam._core.wal import next_segment, segment_name
from seafoam._core.wire import (
    RECORD_MARKER,
    SEGMENT_HEADER_BYTES,
    decode_meta,
    encode_founding,
    encode_meta,
)
from seafoam.errors import DataDamaged, DiskFailed, InvariantBroken
from wal_log import command, entry, hard, record_offsets

ROOT = Path(__file__).resolve().parent.parent
SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
KILLS_COUNT = 200 if SOAK else 6


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
        assert [e.data for e in recovery.entries] == [command(b"x" * 200)] * 5
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
    # Who is queued before the batch of the first, large one has ended shares that batch or the
    # next. How many are is luck, which another try may have; what follows for them is not.
    async def test(is_uvloop):
        for attempt in range(100):
            rig = Rig(tmp_path / f"{is_uvloop}-{attempt}", segment_bytes=1 << 25)
            rig.open()
            before, in_time_count = rig.disk.counters().batches_count, 0
            rig.append(b"1" * (1 << 20))
            for at in range(300):
                rig.append()
                if rig.disk.counters().batches_count == before:
                    in_time_count = at + 1
            await rig.settled()
            # One more for a marker, should the disk have been idle for a moment already.
            assert rig.disk.counters().batches_count - before <= 3 + 300 - in_time_count
            assert rig.durable == list(range(1, 302))
            rig.disk.close()
            if in_time_count >= 5:
                return
        pytest.fail("the disk was never busy")

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


# -- reading back -------------------------------------------------------------------------------


def test_entries_are_read_back_from_all_segments(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        for _ in range(800):
            rig.append()
        await rig.settled()
        many = [entry(index, 1, b"x" * 200) for index in range(1, 801)]
        assert rig.disk._writer.segment_number >= 3
        assert rig.disk.read_entries(1, 800, 1 << 30) == many
        assert rig.disk.read_entries(400, 900, 1064) == many[399:403]
        rig.disk.close()
        rig = Rig(path)
        rig.open()
        rig.append()
        assert rig.disk.read_entries(790, 801, 1 << 30) == many[789:]
        await rig.settled()
        assert len(rig.disk.read_entries(790, 801, 1 << 30)) == 12

    run(test)


def test_what_cannot_be_read_back_is_said_by_file_and_offset(tmp_path, monkeypatch):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        for _ in range(800):
            rig.append()
        await rig.settled()
        first = path / "wal" / segment_name(1)
        with first.open("r+b") as file:
            file.seek(150)
            file.write(b"spoiled")
        words = re.escape(f"{first} is damaged at offset 80: entry 1 is not there")
        with pytest.raises(DataDamaged, match=words):
            rig.disk.read_entries(1, 1, 1000)
        first.rename(tmp_path / "elsewhere")
        with pytest.raises(DataDamaged, match=re.escape(f"{first} is damaged at offset 80: ther")):
            rig.disk.read_entries(1, 1, 1000)
        with monkeypatch.context() as broken:
            broken.setattr(os, "pread", failing)
            with pytest.raises(DiskFailed, match=r"cannot be read: .*Input/output error"):
                rig.disk.read_entries(800, 800, 1000)
        assert len(rig.disk.read_entries(800, 800, 1000)) == 1

    def failing(*_):
        raise OSError(errno.EIO, "Input/output error")

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


def emptied(segment: Path) -> None:
    """As if no record of it had ever reached the disk."""
    with segment.open("r+b") as log:
        log.seek(SEGMENT_HEADER_BYTES)
        log.write(bytes(segment.stat().st_size - SEGMENT_HEADER_BYTES))


def test_a_founding_that_nobody_was_told_of_can_be_made_again(tmp_path, monkeypatch):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        founding = encode_founding(5, bytes(16), [(rig.disk.node_id, "127.0.0.1:3010")])
        with monkeypatch.context() as crash:
            crash.setattr(rig.disk._directory, "recover", crashing)
            with pytest.raises(ZeroDivisionError):
                rig.disk.found(founding)
        rig.disk.close()
        emptied(path / "wal" / segment_name(1))
        rig = Rig(path)
        assert rig.open().entries == []
        assert [entry.index for entry in rig.disk.found(founding).entries] == [1]
        rig.disk.close()

    def crashing(_):
        raise ZeroDivisionError

    run(test)


@pytest.mark.parametrize("what", ["founded", "entry", "vote"])
def test_a_log_that_has_begun_and_is_empty_is_damage(tmp_path, what):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        if what == "founded":
            rig.disk.found(encode_founding(5, bytes(16), [(1, "127.0.0.1:3010")]))
        elif what == "entry":
            rig.append()
            await rig.settled()
        else:
            voted = []
            rig.disk.append([], hard(1, 0, vote=3), lambda: voted.append(noted(path)))
            await rig.until(lambda: voted)
            assert voted == [True], "noted before anybody was told"
        assert noted(path)
        rig.disk.close()
        emptied(path / "wal" / segment_name(1))
        with pytest.raises(DataDamaged, match=segment_name(1) + " is damaged at offset 48: META"):
            Rig(path).open()

    def noted(path):
        return decode_meta((path / "META").read_bytes())[1]

    run(test)


def test_a_log_whose_beginning_was_not_noted_in_time_is_noted_at_the_next_start(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        rig.append()
        await rig.settled()
        rig.disk.close()
        noted = (path / "META").read_bytes()
        (path / "META").write_bytes(encode_meta(rig.disk.node_id, begun=False))
        assert len(reopen(path)) == 1
        assert (path / "META").read_bytes() == noted

    def reopen(path):
        rig = Rig(path)
        entries = rig.open().entries
        rig.disk.close()
        return entries

    run(test)


def test_a_beginning_that_cannot_be_noted_is_a_failure(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        (path / "META.new").mkdir()
        rig.append()
        await rig.until(lambda: rig.failures)
        assert "noting in META that the log has begun failed" in str(rig.failures[0])
        rig.disk.close()
        assert rig.durable == []
        assert len(rig.failures) == 1

    run(test)


def test_a_cut_or_lost_segment_is_damage_after_a_clean_stop(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        for _ in range(800):
            rig.append()
        await rig.settled()
        last = rig.disk._writer.segment_number
        rig.disk.close()
        assert last >= 3
        for number in range(1, last + 1):
            segment = path / "wal" / segment_name(number)
            whole = segment.read_bytes()
            for length in (None, 0, SEGMENT_HEADER_BYTES, 300, SEGMENT_BYTES - 1):
                if length is None:
                    segment.unlink()
                else:
                    os.truncate(segment, length)
                with pytest.raises(DataDamaged, match=segment_name(number) + " is damaged"):
                    Rig(path).open()
                segment.write_bytes(whole)
        rig = Rig(path)
        assert len(rig.open().entries) == 800
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
        await rig.until(lambda: 2 in rig.disk._fds)
        rig.disk.close()
        second = path / "wal" / segment_name(2)
        prepared = second.read_bytes()
        header = prepared[:SEGMENT_HEADER_BYTES]
        second.write_bytes((header + b"torn" * 100).ljust(SEGMENT_BYTES, b"\0"))
        for number in (3, 4):
            header = next_segment(header, SEGMENT_BYTES)
            (path / "wal" / segment_name(number)).write_bytes(header.ljust(SEGMENT_BYTES, b"\0"))
        rig = Rig(path)
        assert len(rig.open().entries) == 1
        names = sorted(p.name for p in (path / "wal").iterdir())
        assert names == [segment_name(1), segment_name(2)]
        assert second.read_bytes() == prepared

    run(test)


HALF_MADE = {
    "no byte": lambda whole: b"",
    "not its length": lambda whole: bytes(5000),
    "no header": lambda whole: bytes(SEGMENT_BYTES),
    "half a header": lambda whole: whole[:20].ljust(SEGMENT_BYTES, b"\0"),
}


@pytest.mark.parametrize("half", HALF_MADE)
def test_a_segment_that_was_only_half_made_is_made_whole(tmp_path, half):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        rig = Rig(path)
        rig.open()
        await rig.begun()
        rig.disk.close()
        second = path / "wal" / segment_name(2)
        prepared = second.read_bytes()
        second.write_bytes(HALF_MADE[half](prepared))
        rig = Rig(path)
        assert len(rig.open().entries) == 1
        assert second.read_bytes() == prepared
        for _ in range(300):
            rig.append()
        await rig.settled()
        assert rig.disk._writer.segment_number > 1
        rig.disk.close()
        assert len(Rig(path).open().entries) == 301

    run(test)


def test_a_node_started_with_other_segments_goes_on(tmp_path):
    async def test(is_uvloop):
        path = tmp_path / str(is_uvloop)
        count = 0
        for segment_bytes in (SEGMENT_BYTES, 2 * SEGMENT_BYTES, SEGMENT_BYTES // 2):
            rig = Rig(path, segment_bytes)
            assert len(rig.open().entries) == count
            await rig.until(lambda rig=rig: len(rig.disk._fds) == 2)
            for _ in range(1000):
                rig.append()
            await rig.settled()
            count += 1000
            rig.disk.close()
            assert rig.failures == []
        assert len(Rig(path).open().entries) == count

    run(test)


# -- kill -9 ------------------------------------------------------------------------------------

WRITER = """
import asyncio, os, sys
from pathlib import Path
import uvloop
from seafoam._core.message import ENTRY_COMMAND, Entry, HardState
from seafoam._core.wire import Operation, encode_command
from seafoam.disk import FileDisk

async def main():
    loop = asyncio.get_running_loop()
    disk = FileDisk(Path(sys.argv[1]), loop=loop, on_failure=print, segment_bytes=int(sys.argv[2]))
    index = len(disk.open().entries)
    while True:
        for _ in range(7):
            index += 1
            data = encode_command([Operation.set(b"k", b"%d" % index * 50)])
            disk.append([Entry(index, 1, ENTRY_COMMAND, data)], HardState(1, 9, 0),
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
        assert [e.data for e in recovered] == [command(b"%d" % e.index * 50) for e in recovered]
    assert len(list((path / "wal").iterdir())) > 2
