"""The disk thread: order, one sync for all that waits, and no second try after a failure."""

from __future__ import annotations

import gc
import os
import resource
import select
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from seafoam._core.disk_loop import DiskLoop
from seafoam.errors import DiskFailed

ROOT = Path(__file__).resolve().parent.parent
#: What waits longer than this in a test waits for ever.
PATIENCE_SECONDS = 30
TRIES_COUNT = 100


@pytest.fixture
def loop():
    made = DiskLoop()
    yield made
    made.stop()


@pytest.fixture
def files(tmp_path):
    fds = [os.open(tmp_path / f"{n}", os.O_RDWR | os.O_CREAT) for n in range(8)]
    yield fds
    for fd in fds:
        os.close(fd)


def listed(folder: str) -> int:
    return len(list(Path(folder).iterdir()))


def wait_for(loop: DiskLoop, ticket: int) -> None:
    while loop.completed() < ticket and loop.failure() is None:
        readable, _, _ = select.select([loop.wake_fd], [], [], PATIENCE_SECONDS)
        assert readable, "the disk thread does not answer"


def wait_for_failure(loop: DiskLoop):
    wait_for(loop, 2**63)
    return loop.failure()


def test_writes_are_there_and_in_order_when_their_ticket_completes(loop, files):
    tickets = [loop.submit([(files[0], 0, b"%04d" % n), (files[0], 4 + 4 * n, b"%04d" % n)])
               for n in range(500)]
    assert tickets == list(range(1, 501))
    wait_for(loop, 500)
    assert loop.completed() == 500
    data = os.pread(files[0], 10_000, 0)
    assert data == b"0499" + b"".join(b"%04d" % n for n in range(500))


def test_looking_while_it_writes(loop, files):
    # Every public look meets the thread at work: what a race detector wants to see.
    seen = 0
    for n in range(1000):
        ticket = loop.submit([(files[n % 2], n, b"x")])
        for _ in range(3):
            now = loop.completed()
            assert seen <= now <= ticket
            seen = now
            assert loop.counters().writes_count >= seen
            assert loop.failure() is None
    wait_for(loop, 1000)


def test_everything_queued_while_it_writes_shares_one_sync(files):
    # How many find the first write still under way is luck, so it is tried again where they are
    # few. What follows for those is not: who was queued before the first batch ended is in that
    # one or the second, whenever the thread came to look.
    for _ in range(TRIES_COUNT):
        loop, in_time_count = DiskLoop(), 0
        loop.submit([(files[0], 0, bytes(16 << 20))])
        for n in range(200):
            loop.submit([(files[1], 10 * n, b"0123456789")])
            if loop.counters().batches_count == 0:
                in_time_count = n + 1
        wait_for(loop, 201)
        loop.stop()
        counters = loop.counters()
        assert counters.writes_count == 201
        assert counters.written_bytes == (16 << 20) + 2000
        assert counters.batches_count <= 2 + 200 - in_time_count
        assert counters.syncs_count <= counters.batches_count + 1
        assert counters.total_sync_ns >= counters.longest_sync_ns >= counters.last_sync_ns > 0
        if in_time_count >= 10:
            return
    pytest.fail("the disk was never busy")


def test_each_file_of_a_batch_is_synced_once(loop, files):
    loop.submit([(fd, offset, b"x") for offset in range(3) for fd in files[:3]])
    wait_for(loop, 1)
    assert loop.counters().syncs_count == 3


def test_a_batch_may_touch_more_files_than_it_remembers(loop, files):
    loop.submit([(fd, 0, b"x") for fd in files])
    wait_for(loop, 1)
    assert loop.counters().syncs_count == len(files)
    assert all(os.pread(fd, 2, 0) == b"x" for fd in files)


def test_what_was_submitted_lives_until_it_is_written(loop, files):
    for n in range(50):
        writes = [(files[0], 100_000 * n, bytes([n]) * 100_000)]
        loop.submit(writes)
        writes.clear()
        del writes
        gc.collect(0)
    wait_for(loop, 50)
    for n in range(50):
        assert os.pread(files[0], 100_000, 100_000 * n) == bytes([n]) * 100_000


def test_the_descriptor_is_readable_only_when_there_is_news(loop, files):
    assert select.select([loop.wake_fd], [], [], 0)[0] == []
    wait_for(loop, loop.submit([(files[0], 0, b"x")]))
    assert select.select([loop.wake_fd], [], [], 0)[0] == []


def test_an_empty_submission_completes_in_its_turn(loop, files):
    loop.submit([(files[0], 0, b"x")])
    wait_for(loop, loop.submit([]))
    assert os.pread(files[0], 2, 0) == b"x"


def test_a_stop_writes_and_syncs_what_is_queued(files):
    loop = DiskLoop()
    for n in range(300):
        loop.submit([(files[0], n, b"x")])
    loop.stop()
    assert loop.completed() == 300
    assert os.pread(files[0], 400, 0) == b"x" * 300
    with pytest.raises(DiskFailed, match="stopped"):
        loop.submit([(files[0], 0, b"y")])
    loop.stop()


def test_a_loop_that_is_dropped_ends_its_thread(files):
    before = listed("/proc/self/task") if sys.platform == "linux" else 0
    for _ in range(20):
        loop = DiskLoop()
        loop.submit([(files[0], 0, b"x")])
        del loop
    if sys.platform == "linux":
        assert listed("/proc/self/task") == before


def test_nonsense_is_refused_and_queues_nothing(loop, files):
    for writes in ([(files[0], 0, "text")], [(files[0], 0)], [("fd", 0, b"")], [(0, 2**70, b"")]):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            loop.submit(writes)
    ticket = loop.submit([(files[0], 0, b"x")])
    assert ticket == 1
    wait_for(loop, ticket)  # the files are closed before the loop is


# -- failures --------------------------------------------------------------------------------


def check_that_nothing_follows(loop: DiskLoop, file: int, completed: int) -> None:
    with pytest.raises(DiskFailed, match="failed before"):
        loop.submit([(file, 0, b"late")])
    assert loop.completed() == completed
    assert os.pread(file, 10, 0) == b""
    loop.stop()
    assert os.pread(file, 10, 0) == b""


def test_a_write_that_fails_is_the_last(loop, files):
    full = os.open("/dev/full", os.O_RDWR)
    wait_for(loop, loop.submit([(files[0], 0, b"good")]))
    loop.submit([(full, 0, b"bad"), (files[1], 0, b"behind it")])
    failure = wait_for_failure(loop)
    assert (failure.call, failure.fd) == ("write", full)
    assert failure.reason == "No space left on device"
    check_that_nothing_follows(loop, files[1], completed=1)
    os.close(full)


def test_a_sync_that_fails_is_the_last(loop, files):
    unsyncable = os.open("/dev/null", os.O_RDWR)
    loop.submit([(unsyncable, 0, b"bad")])
    failure = wait_for_failure(loop)
    assert (failure.call, failure.fd, failure.reason) == ("sync", unsyncable, "Invalid argument")
    check_that_nothing_follows(loop, files[1], completed=0)
    os.close(unsyncable)


def test_one_failed_sync_of_two_fails_both_files_tickets(loop, files):
    unsyncable = os.open("/dev/null", os.O_RDWR)
    loop.submit([(files[0], 0, b"fine by itself"), (unsyncable, 0, b"bad")])
    assert wait_for_failure(loop).call == "sync"
    assert loop.completed() == 0
    os.close(unsyncable)


def test_a_closed_descriptor_is_a_failed_write(loop, files):
    closed = os.dup(files[0])
    os.close(closed)
    loop.submit([(closed, 0, b"bad")])
    failure = wait_for_failure(loop)
    assert (failure.call, failure.reason) == ("write", "Bad file descriptor")
    check_that_nothing_follows(loop, files[1], completed=0)


@pytest.mark.parametrize(
    ("offset", "call", "reason"),
    [(90, "short write", "the disk took only a part"), (100, "write", "File too large")],
)
def test_a_short_write_is_a_failure(tmp_path, offset, call, reason):
    # In a process of its own: the limit is a process's, and other tests write files.
    script = textwrap.dedent(f"""
        import os, resource, select
        from seafoam._core.disk_loop import DiskLoop
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        fd = os.open({str(tmp_path / "limited")!r}, os.O_RDWR | os.O_CREAT)
        loop = DiskLoop()
        loop.submit([(fd, {offset}, bytes(20))])
        select.select([loop.wake_fd], [], [], {PATIENCE_SECONDS})
        print(loop.completed(), loop.failure().call, loop.failure().reason, sep="|")
    """)
    said = subprocess.run([sys.executable, "-c", script], cwd=ROOT, text=True, check=True,
                          capture_output=True, timeout=60).stdout.strip()
    assert said == f"0|{call}|{reason}"


def test_no_descriptor_is_left(files):
    before = listed("/dev/fd")
    loops = [DiskLoop() for _ in range(5)]
    assert listed("/dev/fd") > before
    loops.clear()
    assert listed("/dev/fd") == before


def test_a_system_without_descriptors_is_said_so():
    soft, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard_limit))
    try:
        with pytest.raises(DiskFailed, match="cannot wake the event loop: Too many open files"):
            DiskLoop()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard_limit))
