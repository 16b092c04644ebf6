"""The data directory: whose it is, what may be in it, and that it is durable before its use."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from seafoam import data_directory
from seafoam._core.message import HardState
from seafoam._core.wal import WalWriter, first_segment, next_segment, recover, segment_name
from seafoam._core.wire import META_BYTES, RECORD_ENTRY, SEGMENT_HEADER_BYTES, encode_meta
from seafoam.data_directory import DataDirectory
from seafoam.errors import DataDamaged, StartError
from wal_log import command, entry, record, segment_header

ROOT = Path(__file__).resolve().parent.parent
SEGMENT_BYTES = 16 * 1024
NODE_ID = 0xA1B2


def use(path: Path, candidate: int = NODE_ID):
    """Lock, make where needed and recover; what the log holds."""
    directory = DataDirectory(path, SEGMENT_BYTES)
    directory.lock()
    try:
        return directory.recover(directory.node_id(candidate))
    finally:
        directory.unlock()


def names(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


def test_a_new_directory_is_made_whole(tmp_path):
    path = tmp_path / "seafoam-data" / "3010"
    recovery = use(path)
    assert recovery.entries == []
    assert recovery.node_id == NODE_ID
    assert names(path) == ["LOCK", "META", f"wal/{segment_name(1)}"]
    assert (path / "META").read_bytes() == encode_meta(NODE_ID, begun=False)
    segment = path / "wal" / segment_name(1)
    assert segment.stat().st_size == SEGMENT_BYTES
    assert segment.stat().st_blocks * 512 >= SEGMENT_BYTES, "room is reserved, not promised"
    assert segment.stat().st_mode & 0o077 == 0, "others have no business in it"


def test_the_id_is_made_once(tmp_path):
    use(tmp_path / "d")
    assert use(tmp_path / "d", candidate=5).node_id == NODE_ID


def test_two_directories_draw_different_generations(tmp_path):
    first, second = use(tmp_path / "a"), use(tmp_path / "b")
    assert first.generation != second.generation


@pytest.mark.parametrize(
    "left",
    [
        ["LOCK"],
        ["LOCK", "wal/"],
        ["LOCK", f"wal/{segment_name(1)}"],
        ["LOCK", f"wal/{segment_name(1)}", "META.new"],
        ["LOCK", "lost+found/", f"wal/{segment_name(1)}", "META.new"],
    ],
)
def test_an_interrupted_making_is_begun_again(tmp_path, left):
    path = tmp_path / "d"
    for name in left:
        target = path / name
        (target if name.endswith("/") else target.parent).mkdir(parents=True, exist_ok=True)
        if name.endswith(".wal"):
            target.write_bytes(segment_header(1) + bytes(100))
        elif not name.endswith("/"):
            target.write_bytes(b"half")
    assert use(path).entries == []
    assert use(path).node_id == NODE_ID
    assert not (path / "META.new").exists()


# -- refusals ----------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    before = names(path) if path.is_dir() else None
    with pytest.raises(StartError) as caught:
        use(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    assert before is None or set(names(path)) - {"LOCK"} == set(before) - {"LOCK"}
    return sentence


def test_a_foreign_directory_is_left_alone(tmp_path):
    path = tmp_path / "d"
    path.mkdir()
    (path / "thesis.tex").write_text("do not touch")
    assert "is no Seafoam data directory: it holds 'thesis.tex' but no META" in refusal(path)
    assert names(path) == ["thesis.tex"], "not even a LOCK"


def test_a_log_without_meta_is_never_written_over(tmp_path):
    path = tmp_path / "d"
    use(path)
    segment = path / "wal" / segment_name(1)
    data = bytearray(segment.read_bytes())
    data[100] = 1
    segment.write_bytes(data)
    (path / "META").unlink()
    assert "holds a log but no META" in refusal(path)
    assert segment.read_bytes() == data
    data[100] = 0
    segment.write_bytes(data)
    (path / "wal" / segment_name(2)).touch()
    assert "holds a log but no META" in refusal(path)


def test_a_directory_in_use_is_refused_with_the_pid(tmp_path):
    path = tmp_path / "d"
    holder = DataDirectory(path, SEGMENT_BYTES)
    holder.lock()
    assert f"is in use by process {os.getpid()}" in refusal(path)
    holder.unlock()
    holder.unlock()
    assert use(path).entries == []


def test_whoever_removes_the_lock_file_is_kept_out_all_the_same(tmp_path):
    path = tmp_path / "d"
    held = DataDirectory(path, SEGMENT_BYTES)
    held.lock()
    (path / "LOCK").unlink()
    assert "is in use by another process" in refusal(path)
    held.unlock()


def test_a_directory_in_use_by_another_process(tmp_path):
    path = tmp_path / "d"
    script = (
        "import sys; from pathlib import Path; from seafoam.data_directory import DataDirectory\n"
        f"d = DataDirectory(Path({str(path)!r}), {SEGMENT_BYTES}); d.lock(); d.node_id(7)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == "ready\n"
        assert f"is in use by process {child.pid}" in refusal(path)
        child.kill()
    assert use(path).node_id == 7, "the kernel lets go of a dead process's lock"


def test_a_lock_without_a_pid_is_refused_all_the_same(tmp_path):
    path = tmp_path / "d"
    holder = DataDirectory(path, SEGMENT_BYTES)
    holder.lock()
    (path / "LOCK").write_bytes(b"")
    assert "is in use by another process" in refusal(path)
    holder.unlock()


def test_damaged_meta_is_damage(tmp_path):
    path = tmp_path / "d"
    use(path)
    meta = path / "META"
    whole = meta.read_bytes()
    for spoiled in (b"", whole[:-1], whole[: META_BYTES // 2], bytes(META_BYTES), b"\xff" * 28):
        meta.write_bytes(spoiled)
        with pytest.raises(DataDamaged, match="META"):
            use(path)
    meta.write_bytes(whole)
    assert use(path).node_id == NODE_ID


@pytest.mark.parametrize("stranger", ["0000000000000001 (copy).wal", "1.wal", "notes.txt"])
def test_a_stranger_in_the_log_is_refused_by_name(tmp_path, stranger):
    path = tmp_path / "d"
    use(path)
    (path / "wal" / stranger).touch()
    assert f"holds {stranger!r}, which is no segment" in refusal(path)


def make_socket(path: Path) -> None:
    place = os.open(path.parent, os.O_RDONLY)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{place}/{path.name}")
    os.close(place)


@pytest.mark.parametrize("name", ["LOCK", "META", f"wal/{segment_name(1)}",
                                  f"wal/{segment_name(2)}"])
@pytest.mark.parametrize(("make", "what"), [
    (os.mkfifo, "a pipe"), (Path.mkdir, "a directory"), (make_socket, "a socket"),
], ids=["pipe", "directory", "socket"])
def test_what_is_no_file_is_refused_by_name(tmp_path, name, make, what):
    path = tmp_path / "d"
    use(path)
    (path / name).unlink(missing_ok=True)
    make(path / name)
    assert refusal(path) == f"{path / name} is {what} where a file belongs"
    if name == f"wal/{segment_name(1)}":
        (path / "META").unlink()  # half made, or so it seems
        assert refusal(path) == f"{path / name} is {what} where a file belongs"


def test_lost_and_found_means_nothing(tmp_path):
    path = tmp_path / "d"
    use(path)
    (path / "wal" / "lost+found").mkdir()
    assert use(path).entries == []


def test_a_missing_segment_is_damage(tmp_path):
    path = tmp_path / "d"
    use(path)
    segment = path / "wal" / segment_name(1)
    segment.rename(path / "wal" / segment_name(2))
    assert f"{segment_name(1)} is damaged at offset 0: there is no such segment" in refusal(path)
    (path / "wal" / segment_name(2)).unlink()
    assert "there is no such segment" in refusal(path)


def test_another_nodes_log_is_refused(tmp_path):
    path = tmp_path / "d"
    use(path)
    (path / "META").write_bytes(encode_meta(9, begun=False))
    assert f"belongs to node {NODE_ID:016x}, this is node 0000000000000009" in refusal(path)


def test_another_version_is_refused_by_its_number(tmp_path):
    path = tmp_path / "d"
    use(path)
    segment = path / "wal" / segment_name(1)
    segment.write_bytes(segment_header(1, version=2) + bytes(100))
    sentence = refusal(path)
    assert f"{segment_name(1)} is of version 2, which this Seafoam does not know" in sentence


def test_a_command_of_a_later_version_is_refused_at_the_start(tmp_path):
    path = tmp_path / "d"
    generation = use(path).generation
    later = b"\2" + command(b"1")[1:]
    with (path / "wal" / segment_name(1)).open("r+b") as segment:
        segment.seek(SEGMENT_HEADER_BYTES)
        segment.write(record(RECORD_ENTRY, 1, 1, later, kind=1, generation=generation))
    sentence = refusal(path)
    assert f"{segment_name(1)} holds in entry 1 a version or an operation at offset 48" in sentence
    assert "a later one wrote it" in sentence


def test_system_errors_are_left_to_the_caller(tmp_path):
    occupied = tmp_path / "file"
    occupied.touch()
    for path in (occupied, occupied / "below"):
        with pytest.raises(OSError, match=r"File exists|Not a directory"):
            use(path)


# -- durable before it is believed -------------------------------------------------------------


@pytest.fixture
def happened(monkeypatch):
    """What is done to files and folders from here on, in its order, by their names."""
    calls = []

    def name_of(file) -> str:
        path = Path(f"/proc/self/fd/{file}").resolve() if isinstance(file, int) else file
        return path.name.removeprefix("0" * 15)

    def noting(call, function):
        def noted(file, *arguments):
            calls.append((call, name_of(file)))
            return function(file, *arguments)

        return noted

    for module, function, call in (
        (data_directory, "sync_data", "sync"), (os, "fsync", "sync"),
        (os, "posix_fadvise", "drop"), (data_directory, "_read_written", "read"),
        (data_directory, "reserve", "reserve"), (data_directory, "write_all", "write"),
        (Path, "rename", "rename"), (Path, "unlink", "unlink"),
    ):
        monkeypatch.setattr(module, function, noting(call, getattr(module, function)))
    return calls


def read(number: int) -> list[tuple[str, str]]:
    return [(call, f"{number}.wal") for call in ("sync", "drop", "read")]


MADE = [(call, "1.wal") for call in ("reserve", "sync", "write", "sync")] + [("sync", "wal")]
META_WRITTEN = [("write", "META.new"), ("sync", "META.new"), ("rename", "META.new"), ("sync", "d")]


def test_each_step_of_making_a_directory_is_durable_before_the_next(tmp_path, happened):
    path = tmp_path / "d"
    directory = DataDirectory(path, SEGMENT_BYTES)
    directory.lock()
    directory.node_id(NODE_ID)
    assert happened == [("sync", tmp_path.name), ("sync", "d"), *MADE, *META_WRITTEN]
    happened.clear()
    directory.note_begun()
    directory.note_begun()
    assert happened == META_WRITTEN, "once"
    directory.unlock()


def test_each_step_of_making_a_segment_is_durable_before_the_next(tmp_path, happened):
    path = tmp_path / "d"
    header = next_segment(use(path).header, SEGMENT_BYTES)
    happened.clear()
    directory = DataDirectory(path, SEGMENT_BYTES)
    os.close(directory.create_segment(2, header))
    made = [(call, name.replace("1.wal", "2.wal")) for call, name in MADE]
    assert happened == made
    happened.clear()
    os.close(directory.open_segment(2, header, SEGMENT_BYTES))
    assert happened == made[:2], "its header is there"
    os.truncate(path / "wal" / segment_name(2), 0)
    happened.clear()
    os.close(directory.open_segment(2, header, SEGMENT_BYTES))
    assert happened == made[:-1], "its name is"
    happened.clear()
    directory.remove_segment(2)
    assert happened == [("unlink", "2.wal"), ("sync", "wal")]


def test_what_is_read_is_synced_and_dropped_from_the_cache_first(tmp_path, happened):
    path = tmp_path / "d"
    use(path)
    (path / "wal" / segment_name(2)).write_bytes(bytes(SEGMENT_BYTES))
    happened.clear()
    use(path)
    assert happened == [*read(1), *read(2), ("sync", "wal"), ("sync", "d")]


def test_a_torn_tail_is_durably_blank_before_the_log_is_given_out(tmp_path, happened):
    path = tmp_path / "d"
    header = use(path).header
    for number in (1, 2, 3):
        (path / "wal" / segment_name(number)).write_bytes(
            (header + b"torn").ljust(SEGMENT_BYTES, b"\0"))
        header = next_segment(header, SEGMENT_BYTES)
    happened.clear()
    assert use(path).torn
    blanked = [(call, f"{number}.wal") for number in (3, 2, 1) for call in ("write", "sync")]
    removed = [("unlink", "3.wal"), ("sync", "wal")]
    assert happened == [
        *read(1), *read(2), *read(3), ("sync", "wal"), ("sync", "d"), *blanked, *removed
    ], "the last first: what is torn is still seen as torn if this is cut short"


def test_a_sync_that_fails_while_reading_is_not_overlooked(tmp_path, monkeypatch):
    path = tmp_path / "d"
    use(path)

    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(data_directory, "sync_data", failing)
    with pytest.raises(OSError, match="Input/output error"):
        use(path)


def test_only_what_was_ever_written_is_read(tmp_path):
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    fd = os.open(path, os.O_RDWR)
    try:
        assert data_directory._read_written(fd) == bytes(data_directory.ZEROS_BYTES_MAX)
        os.pwrite(fd, b"written", 1 << 20)
        data = data_directory._read_written(fd)
        assert data.rstrip(b"\0") == bytes(1 << 20) + b"written"
        assert len(data) < 1 << 22
    finally:
        os.close(fd)


def test_a_segment_without_room_leaves_nothing(tmp_path, monkeypatch):
    path = tmp_path / "d"
    use(path)

    def no_room(fd: int, size: int) -> None:
        os.pwrite(fd, b"a part", 0)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(data_directory, "reserve", no_room)
    directory = DataDirectory(path, SEGMENT_BYTES)
    with pytest.raises(OSError, match="No space left"):
        directory.create_segment(2, b"header")
    assert not directory.has_segment(2)


def test_a_segment_is_never_made_over_another(tmp_path):
    path = tmp_path / "d"
    use(path)
    before = (path / "wal" / segment_name(1)).read_bytes()
    with pytest.raises(FileExistsError):
        DataDirectory(path, SEGMENT_BYTES).create_segment(1, b"header")
    assert (path / "wal" / segment_name(1)).read_bytes() == before


def test_a_record_that_ends_in_a_hole_is_whole(tmp_path):
    """A copy has holes where zeros were, and a record may end with zeros."""
    ends = []
    for value_bytes in range(3_800, 4_000):
        header = first_segment(1, 7, SEGMENT_BYTES).ljust(SEGMENT_BYTES, b"\0")
        writer = WalWriter(recover([(1, header, SEGMENT_BYTES)], 1), SEGMENT_BYTES)
        batch = writer.append([entry(1, 1, bytes(value_bytes))], HardState(1, 0, 1))
        if not 0 < batch.end[1] - 4096 < 8:
            continue  # all of it that is beyond the page is a vote for nobody
        ends.append(batch.end)
        folder = tmp_path / str(value_bytes)
        (folder / "wal").mkdir(parents=True)
        data = bytearray(header)
        for _, offset, written in batch.writes:
            data[offset:offset + len(written)] = written
        with (folder / "wal" / segment_name(1)).open("wb") as file:
            file.write(data[:4096])
            file.truncate(SEGMENT_BYTES)
        directory = DataDirectory(folder, SEGMENT_BYTES)
        found = recover(list(directory.read_segments([1])), 1)
        assert (found.torn, found.hard_state) == (None, HardState(1, 0, 1)), batch.end
    assert len(ends) >= 5
