"""The library between a program and its files: it sees every call, and changes only its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import builds
from faults.shim import Event, Fault, environment_for, read_trace, why_not_here

pytestmark = pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())

PROGRAM = """
    import os, sys
    from faults.shim import mark
    root = sys.argv[1]
    os.mkdir("folder")
    os.chdir("folder")
    fd = os.open("a", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(fd, 0, 100)
    mark("half way")
    os.pwrite(fd, b"at four", 4)
    os.ftruncate(fd, 50)
    os.lseek(fd, 8, 0)
    os.write(fd, b"at eight")
    os.fdatasync(fd)
    os.rename("a", f"{root}/folder/b")
    directory = os.open(".", os.O_RDONLY)
    os.fsync(directory)
    os.open("b", os.O_WRONLY | os.O_TRUNC)
    os.unlink("b", dir_fd=directory)
    os.rmdir("../folder")
"""


def work(program: str, root: Path, **how) -> tuple[subprocess.CompletedProcess[str], list[Event]]:
    """How a program ended that ran in `root`, and what of it was recorded."""
    trace = root.parent / "trace"
    path = os.pathsep.join([str(builds.ROOT), str(builds.ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(root)], cwd=root, text=True,
        capture_output=True, timeout=60,
        env={**os.environ, "PYTHONPATH": path, **environment_for(root, trace=trace, **how)})
    return done, list(read_trace(trace))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_every_call_is_recorded_in_order_with_its_arguments(root: Path) -> None:
    done, events = work(PROGRAM, root)
    assert done.returncode == 0, done.stderr
    said = [(event.kind.name, event.path, event.new_path, event.offset, event.data)
            for event in events if event.is_begin]
    assert said == [
        ("MKDIR", "folder", "", 0, b""),
        ("CREATE", "folder/a", "", 0, b""),
        ("RESERVE", "folder/a", "", 100, b""),
        ("MARK", "", "", 0, b"half way"),
        ("WRITE", "folder/a", "", 4, b"at four"),
        ("TRUNCATE", "folder/a", "", 50, b""),
        ("WRITE", "folder/a", "", 8, b"at eight"),
        ("SYNC", "folder/a", "", 0, b""),
        ("RENAME", "folder/a", "folder/b", 0, b""),
        ("LOOK", "folder", "", 0, b""),
        ("SYNC", "folder", "", 0, b""),
        ("CREATE", "folder/b", "", 0, b""),
        ("UNLINK", "folder/b", "", 0, b""),
        ("RMDIR", "folder", "", 0, b""),
    ]
    ends = [event for event in events if not event.is_begin]
    assert len(ends) == len(said) - 1 and all(event.result >= 0 for event in ends)
    assert [event.is_new for event in ends if event.kind.name == "CREATE"] == [1, 2]
    assert list(root.iterdir()) == []


def test_calls_elsewhere_are_not_touched(root: Path) -> None:
    fault = Fault("fail", 1, error=errno.EIO, count=1000)
    done, events = work(f"open({str(root.parent / 'other')!r}, 'w').write('text')", root,
                        fault=fault)
    assert (done.returncode, events) == (0, [])
    assert (root.parent / "other").read_text() == "text"


@pytest.mark.parametrize(("fault", "status", "content"), [
    (Fault("fail", 2, error=errno.ENOSPC, kinds="write"), 28, b"123"),
    (Fault("fail", 1, error=errno.EIO, count=2), 5, None),
    (Fault("short", 2, kinds="write"), 2, b"12345"),
    (Fault("kill-before", 2, kinds="write"), -9, b"123"),
    (Fault("kill-after", 2, kinds="write"), -9, b"1234567"),
], ids=["fail", "fail at once", "short", "kill before", "kill after"])
def test_the_call_of_a_number_meets_its_fault(
    root: Path, fault: Fault, status: int, content: bytes | None
) -> None:
    done, _ = work("""
        import os, sys
        try:
            fd = os.open("a", os.O_WRONLY | os.O_CREAT)
            os.write(fd, b"123")
            sys.exit(os.write(fd, b"4567"))
        except OSError as error:
            sys.exit(error.errno)
    """, root, fault=fault)
    assert done.returncode == status, done.stderr
    assert ((root / "a").read_bytes() if (root / "a").exists() else None) == content


@pytest.mark.parametrize("call", [
    "os.link('a', 'b')", "os.symlink('a', 'b')", "os.truncate('a', 5)",
    "os.writev(fd, [b'x'])", "os.pwritev(fd, [b'x'], 0)", "os.rename('a', '../a')",
    "os.posix_fallocate(fd, 0, 9); import mmap; mmap.mmap(fd, 9)",
    "os.copy_file_range(fd, fd, 1, 0, 1)", "os.sendfile(fd, fd, 0, 1)",
])
def test_what_cannot_be_recorded_ends_the_program(root: Path, call: str) -> None:
    done, _ = work(f"import os; fd = os.open('a', os.O_RDWR | os.O_CREAT); {call}", root)
    assert done.returncode == -6 and "is not understood here" in done.stderr, done


def test_a_trace_that_was_cut_off_ends_before_the_cut(root: Path) -> None:
    _, events = work(PROGRAM, root)
    trace = root.parent / "trace"
    data = trace.read_bytes()
    for cut in range(len(data) - 200, len(data)):
        trace.write_bytes(data[:cut])
        left = list(read_trace(trace))
        assert len(left) < len(events) and left == events[:len(left)]
