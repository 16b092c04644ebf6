"""FOUNDING on disk: at every point of a crash, the record before or the one after is found."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from seafoam import founding_store
from seafoam._core.wire import encode_founding
from seafoam.errors import DataDamaged, DiskFailed, InvariantBroken, StartError
from seafoam.founding_store import FOUNDING, FoundingStore
from seafoam.founding_wire import Held, Record

NODE_ID = 2
DATA = encode_founding(0xC1, bytes(16), [(1, "a:1"), (2, "b:2")])
OLD = Record(1, Held(2, 1, DATA))
NEW = Record(1, Held(2, 1, DATA), is_founded=True)
STEPS = ["make FOUNDING.new", "write", "sync file", "rename", "sync directory"]


class Stopped(Exception):
    """The process ends here."""


class Recorder:
    """Notes what the store does to the disk, and ends the process before a step."""

    def __init__(self, monkeypatch, stop_before: int = -1, failure: OSError | None = None) -> None:
        self.steps: list[str] = []
        self._stop_before = stop_before
        self._failure = failure
        real_open, real_write, real_fsync = os.open, os.write, os.fsync
        real_sync, real_rename = founding_store.sync_data, Path.rename

        def opened(path, flags, *mode):
            if flags & os.O_CREAT:
                self._step(f"make {Path(path).name}")
            return real_open(path, flags, *mode)

        def note(step, real):
            def call(*arguments):
                self._step(step)
                return real(*arguments)
            return call

        monkeypatch.setattr(os, "open", opened)
        monkeypatch.setattr(os, "write", note("write", real_write))
        monkeypatch.setattr(os, "fsync", note("sync directory", real_fsync))
        monkeypatch.setattr(founding_store, "sync_data", note("sync file", real_sync))
        monkeypatch.setattr(Path, "rename", note("rename", real_rename))

    def _step(self, step: str) -> None:
        if len(self.steps) == self._stop_before:
            raise self._failure or Stopped
        self.steps.append(step)


def test_there_is_no_record_before_the_first(tmp_path):
    assert FoundingStore(tmp_path, NODE_ID).load() == Record()


def test_the_last_record_kept_is_found(tmp_path):
    store = FoundingStore(tmp_path, NODE_ID)
    for record in (OLD, NEW, Record(7), OLD):
        store.save(record)
        assert FoundingStore(tmp_path, NODE_ID).load() == record
    assert [path.name for path in tmp_path.iterdir()] == [FOUNDING]


def test_a_record_is_synced_then_renamed_then_the_directory_is_synced(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        recorder = Recorder(patch)
        FoundingStore(tmp_path, NODE_ID).save(OLD)
    assert recorder.steps == STEPS


def test_what_a_killed_process_left_is_synced_before_it_is_believed(tmp_path, monkeypatch):
    FoundingStore(tmp_path, NODE_ID).save(OLD)
    with monkeypatch.context() as patch:
        recorder = Recorder(patch)
        assert FoundingStore(tmp_path, NODE_ID).load() == OLD
    assert recorder.steps == ["sync file", "sync directory"]


@pytest.mark.parametrize("before", [None, OLD])
@pytest.mark.parametrize("stop_before", range(len(STEPS)))
def test_a_kill_before_each_step_leaves_the_old_or_the_new(
        tmp_path, monkeypatch, before, stop_before):
    store = FoundingStore(tmp_path, NODE_ID)
    if before is not None:
        store.save(before)
    with monkeypatch.context() as patch:
        Recorder(patch, stop_before)
        with pytest.raises(Stopped):
            store.save(NEW)
    is_new = stop_before > STEPS.index("rename")
    again = FoundingStore(tmp_path, NODE_ID)
    assert again.load() == (NEW if is_new else before or Record())
    again.save(NEW)  # whatever was left lying there is in nobody's way
    assert again.load() == NEW


@pytest.mark.parametrize("before", [None, OLD])
@pytest.mark.parametrize(("cut", "is_renamed"), [
    ("nothing", False), ("half", False), ("all", False), ("all", True)])
def test_a_power_cut_leaves_the_old_or_the_new(tmp_path, before, cut, is_renamed):
    """The images that a disk can hold: the rename reaches it only after the file's sync."""
    store = FoundingStore(tmp_path, NODE_ID)
    store.save(NEW)
    data = store.path.read_bytes()
    left = data[:{"nothing": 0, "half": len(data) // 2, "all": len(data)}[cut]]
    store.path.unlink()
    if before is not None:
        store.save(before)
    (tmp_path / "FOUNDING.new").write_bytes(left)
    if is_renamed:
        shutil.move(tmp_path / "FOUNDING.new", store.path)
    assert FoundingStore(tmp_path, NODE_ID).load() == (NEW if is_renamed else before or Record())


@pytest.mark.parametrize("failing", range(len(STEPS)))
def test_a_failure_at_any_step_is_told_and_never_tried_again(tmp_path, monkeypatch, failing):
    store = FoundingStore(tmp_path, NODE_ID)
    with monkeypatch.context() as patch:
        Recorder(patch, failing, OSError(errno.EIO, "Input/output error"))
        with pytest.raises(DiskFailed, match="FOUNDING cannot be written: Input/output error"):
            store.save(OLD)
    with pytest.raises(InvariantBroken):
        store.save(OLD)


def test_a_short_write_is_a_failure(tmp_path, monkeypatch):
    store = FoundingStore(tmp_path, NODE_ID)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: len(data) - 1)
        with pytest.raises(DiskFailed, match=r"FOUNDING\.new took"):
            store.save(OLD)
    assert FoundingStore(tmp_path, NODE_ID).load() == Record()


def test_damage_and_later_versions_are_refused_by_the_files_name(tmp_path):
    store = FoundingStore(tmp_path, NODE_ID)
    store.save(OLD)
    data = store.path.read_bytes()
    store.path.write_bytes(data[:-1])
    with pytest.raises(DataDamaged, match=f"^{tmp_path}/FOUNDING is damaged"):
        store.load()
    store.path.write_bytes(b"")
    with pytest.raises(DataDamaged, match=f"^{tmp_path}/FOUNDING is damaged"):
        store.load()
    store.path.write_bytes(data)
    with pytest.raises(StartError, match=f"^{tmp_path}/FOUNDING belongs to node"):
        FoundingStore(tmp_path, 3).load()


@pytest.mark.parametrize(("make", "what"), [(Path.mkdir, "directory"), (os.mkfifo, "pipe")])
def test_what_is_no_file_is_a_sentence(tmp_path, make, what):
    store = FoundingStore(tmp_path, NODE_ID)
    make(store.path)
    with pytest.raises(StartError, match=f"FOUNDING is a {what} where a file belongs"):
        store.load()


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path):
    store = FoundingStore(tmp_path, NODE_ID)
    store.path.symlink_to(store.path)
    with pytest.raises(StartError, match="FOUNDING cannot be read: Too many levels"):
        store.load()
