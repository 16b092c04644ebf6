"""The shared segment: what can be done with its descriptors, how its owner's death is seen."""

from __future__ import annotations

import fcntl
import mmap
import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from seafoam._core.segment import Segment, machine_memory_bytes
from seafoam.errors import Detached

SEALS_ONLY_LINUX_HAS = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")


@pytest.fixture
def segment() -> Iterator[Segment]:
    made = Segment.create(1 << 20, 1 << 16)
    yield made
    made.close()


@pytest.fixture
def reader_fd(segment: Segment) -> Iterator[int]:
    descriptor = segment.reader_fd()
    yield descriptor
    os.close(descriptor)


def test_a_new_segment_reserves_its_first_page_only(segment: Segment) -> None:
    assert (segment.size_bytes, segment.reserved_bytes) == (1 << 20, 4096)
    assert segment.reserve_limit_bytes == 1 << 16
    assert segment.is_alive and segment.is_writable
    assert segment.address % mmap.PAGESIZE == 0
    assert os.fstat(segment.fd).st_blocks * 512 == 4096


@pytest.mark.parametrize("size", [0, 4095, 4097])
def test_a_size_is_whole_pages(size: int) -> None:
    with pytest.raises(ValueError, match="positive multiple of 4096"):
        Segment.create(size, 1 << 20)


def test_a_limit_below_one_page_is_refused() -> None:
    with pytest.raises(MemoryError, match="first page"):
        Segment.create(1 << 20, 4095)


def test_segments_are_made_by_their_factories() -> None:
    with pytest.raises(TypeError, match=r"Segment\.create or Segment\.attach"):
        Segment()


def test_the_machine_has_memory() -> None:
    assert machine_memory_bytes() > 1 << 20


# --- descriptors ---


def test_a_readers_descriptor_can_only_read(reader_fd: int) -> None:
    assert fcntl.fcntl(reader_fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert fcntl.fcntl(reader_fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with pytest.raises(OSError):
        os.pwrite(reader_fd, b"x", 0)
    with pytest.raises(OSError):
        mmap.mmap(reader_fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)


def test_the_file_is_for_reading_by_everyone_who_has_it(segment: Segment) -> None:
    assert stat.S_IMODE(os.fstat(segment.fd).st_mode) == 0o444


@SEALS_ONLY_LINUX_HAS
def test_nobody_can_write_or_resize_what_is_sealed(segment: Segment) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 4096)
    with pytest.raises(PermissionError):
        os.ftruncate(segment.fd, 1 << 21)
    with pytest.raises(PermissionError):
        os.pwrite(segment.fd, b"x", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(segment.fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(PermissionError):
        fcntl.fcntl(segment.fd, 1033, 0x0010)  # F_ADD_SEALS, after F_SEAL_SEAL


def test_an_attached_segment_is_the_same_memory(segment: Segment, reader_fd: int) -> None:
    attached = Segment.attach(reader_fd)
    assert (attached.size_bytes, attached.is_writable) == (1 << 20, False)
    assert attached.is_alive and attached.address != segment.address
    with pytest.raises(Detached):
        attached.reader_fd()


def test_a_closed_segment_gives_no_descriptors(segment: Segment) -> None:
    segment.close()
    segment.close()
    with pytest.raises(Detached):
        segment.reader_fd()


def test_a_closed_descriptor_is_an_error() -> None:
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.close(descriptor)
    with pytest.raises(OSError, match="cannot be read"):
        Segment.attach(descriptor)


def test_a_pipe_is_no_shared_memory() -> None:
    read_end, write_end = os.pipe()
    with (os.fdopen(read_end), os.fdopen(write_end, "w"),
          pytest.raises(ValueError, match="no shared memory")):
        Segment.attach(read_end)


def memory_file(size: int, seal: bool) -> int:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    if seal:
        fcntl.fcntl(descriptor, 1033, 0x0002)  # F_SEAL_SHRINK
    return descriptor


@SEALS_ONLY_LINUX_HAS
@pytest.mark.parametrize(
    ("size", "seal", "why"),
    [(0, True, "holds 0 bytes"), (100, True, "holds 100 bytes"), (4096, False, "not sealed")],
)
def test_what_cannot_be_a_segment_is_refused(size: int, seal: bool, why: str) -> None:
    descriptor = memory_file(size, seal)
    try:
        with pytest.raises(ValueError, match=why):
            Segment.attach(descriptor)
    finally:
        os.close(descriptor)


# --- the owner's death ---


def test_closing_is_seen_by_readers(segment: Segment, reader_fd: int) -> None:
    attached = Segment.attach(reader_fd)
    segment.close()
    assert not attached.is_alive and not segment.is_alive


def test_letting_go_is_seen_by_readers() -> None:
    segment = Segment.create(1 << 20, 1 << 16)
    descriptor = segment.reader_fd()
    attached = Segment.attach(descriptor)
    os.close(descriptor)
    del segment
    assert not attached.is_alive


def fork_owner() -> tuple[int, int]:
    """A process that owns a segment and sleeps: its id, and a reader's descriptor."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        segment = Segment.create(1 << 20, 1 << 16)
        os.write(write_end, b"%d" % segment.fd)
        while True:
            signal.pause()
    number = int(os.read(read_end, 20))
    os.close(read_end)
    os.close(write_end)
    return child, os.open(f"/proc/{child}/fd/{number}", os.O_RDONLY)


@SEALS_ONLY_LINUX_HAS
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_owner_is_seen_by_readers(how: signal.Signals) -> None:
    child, descriptor = fork_owner()
    attached = Segment.attach(descriptor)
    os.close(descriptor)
    assert attached.is_alive
    os.kill(child, how)
    os.waitpid(child, 0)
    assert not attached.is_alive


@SEALS_ONLY_LINUX_HAS
def test_the_owner_is_the_creating_thread() -> None:
    made: list[Segment] = []
    leave = threading.Event()

    def own() -> None:
        made.append(Segment.create(1 << 20, 1 << 16))
        leave.wait()

    thread = threading.Thread(target=own)
    thread.start()
    while not made:
        pass
    assert made[0].is_alive
    leave.set()
    thread.join()
    # join returns before the kernel has cleaned up behind the thread.
    while made[0].is_alive:
        pass
    made[0].close()


def test_a_forked_child_that_lets_go_leaves_the_parents_readers_alone(segment: Segment) -> None:
    child = os.fork()
    if child == 0:
        segment.close()
        del segment
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert segment.is_alive


def test_a_closed_segment_stays_mapped_while_it_is_referenced(segment: Segment) -> None:
    segment.close()
    assert not segment.is_alive and segment.address != 0


def test_making_and_dropping_many_leaves_nothing_open() -> None:
    def open_count() -> int:
        return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0

    before = open_count()
    for _ in range(200):
        segment = Segment.create(1 << 20, 1 << 16)
        descriptor = segment.reader_fd()
        Segment.attach(descriptor)
        os.close(descriptor)
        del segment
    assert open_count() == before
