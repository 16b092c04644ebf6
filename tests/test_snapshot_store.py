"""The folder of snapshots: whole under their names, or not there, whatever is interrupted."""

from __future__ import annotations

import errno
import os
import random
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from seafoam import data_directory, snapshot_store
from seafoam._core import limits
from seafoam.errors import DataDamaged, SnapshotLost, StartError
from seafoam.snapshot_store import OpenSnapshot, SnapshotStore, Stopped
from snapshot_rig import Source, put
from snapshot_support import payload_of

FAST = 1 << 40
SOAK = bool(os.environ.get("SEAFOAM_SOAK"))


def store_in(path: Path) -> SnapshotStore:
    store = SnapshotStore(path, bytes_per_second=FAST)
    for found in store.begin():
        store.adopt(store.check(found))
        break
    return store


def names(store: SnapshotStore) -> list[str]:
    return sorted(path.name for path in store.path.iterdir())


def name(index: int) -> str:
    return f"{index:016x}.snapshot"


@pytest.fixture
def happened(monkeypatch):
    """What is done to files and folders from here on, in its order, by their names."""
    calls = []

    def noting(call, function):
        def noted(file, *arguments, **options):
            path = Path(f"/proc/self/fd/{file}").resolve() if isinstance(file, int) else file
            calls.append((call, path.name.lstrip("0")))
            return function(file, *arguments, **options)

        return noted

    for module, function, call in (
        (data_directory, "sync_data", "sync"), (snapshot_store, "sync_data", "sync"),
        (snapshot_store, "write_all", "write"), (snapshot_store, "reserve", "reserve"),
        (os, "fsync", "sync"), (Path, "rename", "rename"), (Path, "unlink", "unlink"),
    ):
        monkeypatch.setattr(module, function, noting(call, getattr(module, function)))
    return calls


# -- written ------------------------------------------------------------------------------------


def test_a_snapshot_is_written_as_it_is_taken(tmp_path):
    store = store_in(tmp_path)
    assert store.newest is None
    source = Source()
    info = store.keep(source)
    assert info.path.read_bytes() == source.file()
    assert (info.file_id, info.index, info.term, info.size_bytes, info.path.name) == (
        0xF00, 10, 2, len(source.file()), name(10))
    assert store_in(tmp_path).newest == info
    opened = OpenSnapshot(info)
    assert opened.head == source.head
    assert list(opened) == [payload_of(items) for items in source.blocks]
    assert list(opened) == []


def test_an_empty_state_is_a_snapshot(tmp_path):
    store = store_in(tmp_path)
    info = store.keep(Source(blocks=0))
    assert list(OpenSnapshot(info)) == []


def test_the_writer_waits_for_what_is_not_saved_yet_and_takes_what_came_last(tmp_path):
    store = store_in(tmp_path)
    source = Source()
    source.allowed, source.is_walked = 1, False
    results = []
    thread = threading.Thread(target=lambda: results.append(store.keep(source)))
    thread.start()
    assert source.has_waited.wait(30)
    assert names(store) == [f"{10:016x}.snapshot.new"]
    source.allowed = 3
    source.has_waited.clear()
    assert source.has_waited.wait(30)
    # The last block and the end of the walk come together.
    source.allowed, source.is_walked = 4, True
    thread.join(30)
    assert results[0].path.read_bytes() == source.file()


def test_what_is_saved_between_the_two_questions_is_not_left_out(tmp_path):
    class Late(Source):
        def next_block(self, sequence, bytes_max):
            block = super().next_block(sequence, bytes_max)
            if not block:  # the walk ends just behind the last look
                self.allowed, self.is_walked = 4, True
            return block

    source = Late()
    source.allowed, source.is_walked = 2, False
    assert store_in(tmp_path).keep(source).path.read_bytes() == source.file()


def test_each_step_is_durable_before_the_next(tmp_path, happened):
    store = store_in(tmp_path)
    store.adopt(store.keep(Source(5)))
    happened.clear()
    store.adopt(store.keep(Source(10, blocks=1)))
    assert happened == [
        *[("write", "a.snapshot.new")] * 3, ("sync", "a.snapshot.new"),
        ("rename", "a.snapshot.new"), ("sync", "snapshots"),
        ("unlink", "5.snapshot"), ("sync", "snapshots"),
    ]


def test_a_large_one_is_synced_as_it_is_written_and_no_faster_than_it_may(tmp_path, happened):
    waits = []
    store = store_in(tmp_path)
    store._bytes_per_second = 1 << 20
    store._wait = waits.append
    blocks = 20
    info = store.keep(Source(blocks=blocks, value_bytes=500_000))
    syncs = [at for at, call in enumerate(happened) if call == ("sync", "a.snapshot.new")]
    assert len(syncs) == info.size_bytes // limits.SNAPSHOT_SYNC_BYTES + 1
    paced = [seconds for seconds in waits if seconds > 1]
    assert len(paced) == len(syncs) - 1
    assert all(limits.SNAPSHOT_SYNC_BYTES / (1 << 20) * at < seconds + 6
               for at, seconds in enumerate(paced, 1))


@pytest.mark.parametrize("step", ["write", "sync", "rename", "folder"])
def test_an_interrupted_one_leaves_the_one_before(tmp_path, monkeypatch, step):
    store = store_in(tmp_path)
    before = store.keep(Source(5))
    store.adopt(before)

    def failing(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    target = {"write": (snapshot_store, "write_all"), "sync": (os, "fsync"),
              "rename": (Path, "rename"), "folder": (snapshot_store, "sync_directory")}[step]
    monkeypatch.setattr(*target, failing)
    with pytest.raises(OSError, match="Input/output"):
        store.keep(Source(10))
    monkeypatch.undo()
    # Where the folder's sync failed both are there, and both are whole.
    assert names(store) == [name(5)] + [name(10)] * (step == "folder")
    assert store_in(tmp_path).newest.index in (5, 10)


def test_a_lost_source_and_a_stop_leave_nothing(tmp_path):
    store = store_in(tmp_path)
    source = Source()
    source.is_lost = True
    with pytest.raises(SnapshotLost):
        store.keep(source)
    source = Source()
    source.is_walked, source.allowed = False, 0
    stopper = threading.Thread(target=lambda: source.has_waited.wait(30) and store.close())
    stopper.start()
    with pytest.raises(Stopped):
        store.keep(source)
    stopper.join()
    assert names(store) == []


def test_a_start_clears_what_was_interrupted_and_refuses_strangers(tmp_path):
    store = store_in(tmp_path)
    info = store.keep(Source(5))
    for left in (f"{10:016x}.snapshot.new", f"{0xF00:016x}.part"):
        (store.path / left).write_bytes(b"half")
    assert store_in(tmp_path).newest == info
    assert names(store) == [name(5)]
    os.mkfifo(store.path / name(7))
    with pytest.raises(StartError, match="where a file belongs"):
        store_in(tmp_path)
    (store.path / name(7)).unlink()
    (store.path / "notes").touch()
    with pytest.raises(StartError, match="holds 'notes', which is no snapshot"):
        store_in(tmp_path)


def test_a_power_cut_at_any_moment_leaves_a_whole_one(tmp_path, monkeypatch):
    """The folder as it stands after every call, without what was not synced by then."""
    store = store_in(tmp_path / "live")
    store.adopt(store.keep(Source(5)))
    old, new = Source(5).file(), Source(10).file()
    # What is durable: names, and the bytes of each file; `seen` is what a crash may leave.
    durable = {name(5): old}
    synced: dict[int, bytes] = {}
    seen = []

    def look(call, function):
        def looking(file, *arguments, **options):
            result = function(file, *arguments, **options)
            if call == "file":
                synced[os.fstat(file).st_ino] = os.pread(file, 1 << 20, 0)
            elif call == "folder":
                durable.clear()
                durable.update({path.name: synced.get(path.stat().st_ino, b"")
                                if path.name != name(5) else old
                                for path in store.path.iterdir()})
            # The names of now or of the last sync, the synced bytes of each.
            names_now = {path.name: synced.get(path.stat().st_ino, b"")
                         if path.name != name(5) else old for path in store.path.iterdir()}
            seen.extend((dict(durable), names_now))
            return result

        return looking

    for module, function, call in (
        (os, "fsync", "file"), (snapshot_store, "sync_data", "file"),
        (snapshot_store, "sync_directory", "folder"), (snapshot_store, "write_all", ""),
        (Path, "rename", ""), (Path, "unlink", ""),
    ):
        original = getattr(module, function)
        if function == "fsync":
            def fsync(fd, original=original):
                if Path(f"/proc/self/fd/{fd}").is_file():
                    return look("file", original)(fd)
                return original(fd)

            monkeypatch.setattr(os, "fsync", fsync)
        else:
            monkeypatch.setattr(module, function, look(call, original))
    store.keep(Source(10))
    monkeypatch.undo()
    assert len(seen) > 10
    for at, state in enumerate(seen):
        folder = tmp_path / str(at)
        (folder / "snapshots").mkdir(parents=True)
        for file_name, data in state.items():
            (folder / "snapshots" / file_name).write_bytes(data)
        newest = store_in(folder).newest
        assert newest is not None and newest.path.read_bytes() in (old, new), (at, state.keys())


# -- damage -------------------------------------------------------------------------------------


def test_any_flip_and_any_cut_is_damage_by_file_and_offset(tmp_path):
    store = store_in(tmp_path)
    source = Source(blocks=2, value_bytes=5)
    whole = source.file()
    generator = random.Random(3)
    flips = [(at, bit) for at in range(len(whole)) for bit in range(8)]
    for at, bit in flips if SOAK else generator.sample(flips, 300):
        data = bytearray(whole)
        data[at] ^= 1 << bit
        path = put(store.path, source, bytes(data))
        # A flipped version is another version only where its checksum says so.
        with pytest.raises(DataDamaged, match=f"{name(10)}.* damaged at offset"):
            store.check(path)
    for length in range(len(whole)):
        with pytest.raises(DataDamaged, match="at offset"):
            store.check(put(store.path, source, whole[:length]))
    with pytest.raises(DataDamaged, match="at offset"):
        store.check(put(store.path, source, whole + b"\0"))
    with pytest.raises(DataDamaged, match="a copy of"):
        store.check(put(store.path, Source(11), whole))
    for odd in (Source(0, 2, blocks=0), Source(10, 0, blocks=0)):
        with pytest.raises(DataDamaged, match="of no log entry"):
            store.check(put(store.path, odd))


def test_damage_that_came_after_the_check_is_met_while_loading(tmp_path):
    store = store_in(tmp_path)
    info = store.keep(Source())
    data = bytearray(info.path.read_bytes())
    data[-30] ^= 1
    info.path.write_bytes(data)
    with pytest.raises(DataDamaged, match=name(10)):
        list(OpenSnapshot(info))
    info.path.write_bytes(data[:20])
    with pytest.raises(DataDamaged, match=name(10)):
        OpenSnapshot(info)


# -- sent and received --------------------------------------------------------------------------


def send(sender: SnapshotStore, receiver: SnapshotStore, piece_bytes: int = 97) -> Path:
    info = sender.newest
    offset = receiver.receive(info.file_id, 0, b"", info.size_bytes)
    while offset < info.size_bytes:
        data = sender.read(info.file_id, offset, piece_bytes)
        assert data
        offset = receiver.receive(info.file_id, offset, data, info.size_bytes)
    assert sender.read(info.file_id, offset, piece_bytes) == b""
    return receiver.take_part(info.file_id)


def two_stores(tmp_path) -> tuple[SnapshotStore, SnapshotStore]:
    sender, receiver = store_in(tmp_path / "a"), store_in(tmp_path / "b")
    sender.adopt(sender.keep(Source()))
    return sender, receiver


def test_a_snapshot_comes_whole_to_another_node(tmp_path):
    sender, receiver = two_stores(tmp_path)
    part = send(sender, receiver)
    info = receiver.finish(part)
    receiver.adopt(info)
    assert info == replace(sender.newest, path=receiver.path / name(10))
    assert info.path.read_bytes() == Source().file()
    assert names(receiver) == [name(10)]
    assert receiver.read(info.file_id, 3, 5) == Source().file()[3:8]


def test_each_step_of_receiving_is_durable_before_the_next(tmp_path, happened):
    sender, receiver = two_stores(tmp_path)
    receiver.adopt(receiver.keep(Source(5, file_id=5)))
    happened.clear()
    receiver.finish(send(sender, receiver, 1 << 20))
    assert happened == [
        ("reserve", "f00.part"), ("write", "f00.part"), ("sync", "f00.part"),
        ("rename", "f00.part"), ("sync", "snapshots"),
        ("unlink", "5.snapshot"), ("sync", "snapshots"),
    ]


def test_pieces_are_taken_in_order_only_and_a_transfer_goes_on_where_it_was(tmp_path):
    _, receiver = two_stores(tmp_path)
    whole = Source().file()
    size = len(whole)
    assert receiver.receive(0xF00, 0, b"", size) == 0
    assert receiver.receive(0xF00, 10, whole[10:20], size) == 0
    assert receiver.receive(0xF00, 0, whole[:10], size) == 10
    assert receiver.receive(0xF00, 0, whole[:10], size) == 10, "doubled"
    assert receiver.receive(0xF00, 10, whole[10:] + b"more", size) == 10
    assert receiver.take_part(0xF00) is None, "not whole"
    assert receiver.receive(0xF00, 0, b"", size) == 10, "so much is here"
    assert receiver.receive(0xF00, 10, whole[10:], size) == size
    assert receiver.take_part(7) is None
    part = receiver.take_part(0xF00)
    assert receiver.receive(0xF00, 0, b"", size) == size, "it is being checked"
    assert receiver.take_part(0xF00) is None
    assert receiver.finish(part).index == 10
    receiver.finished(0xF00)
    assert receiver.receive(0xF00, 0, b"", size) == 0


def test_another_snapshot_takes_the_place_of_what_was_received(tmp_path):
    _, receiver = two_stores(tmp_path)
    assert receiver.receive(1, 0, b"abc", 100) == 3
    assert receiver.receive(2, 0, b"ab", 100) == 2
    assert names(receiver) == [f"{2:016x}.part"]
    assert receiver.receive(2, 0, b"", 99) == 0, "of another length it is another"
    receiver.let_go()
    assert names(receiver) == []
    for size_bytes in (0, -1, 1 << 60):
        with pytest.raises(DataDamaged, match="there is none such"):
            receiver.receive(3, 0, b"", size_bytes)


def test_what_was_received_damaged_is_gone(tmp_path):
    _, receiver = two_stores(tmp_path)
    whole = Source().file()
    generator = random.Random(4)
    for _ in range(50):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        receiver.receive(0xF00, 0, bytes(data), len(data))
        with pytest.raises(DataDamaged, match="at offset"):
            receiver.finish(receiver.take_part(0xF00))
        receiver.finished(0xF00)
        assert names(receiver) == []
    receiver.receive(0xBAD, 0, whole, len(whole))
    with pytest.raises(DataDamaged, match="of another id"):
        receiver.finish(receiver.take_part(0xBAD))


def test_no_room_for_a_received_snapshot_leaves_nothing(tmp_path, monkeypatch):
    _, receiver = two_stores(tmp_path)

    def no_room(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    for function in ("reserve", "write_all"):
        monkeypatch.setattr(snapshot_store, function, no_room)
        with pytest.raises(OSError, match="No space left"):
            receiver.receive(0xF00, 0, b"a piece", 1000)
        monkeypatch.undo()
        assert names(receiver) == []


def test_a_newer_one_that_came_meanwhile_stays(tmp_path):
    sender, receiver = two_stores(tmp_path)
    part = send(sender, receiver)
    newer = receiver.keep(Source(20, file_id=20))
    assert receiver.finish(part) == newer, "index 10 is not needed"
    assert names(receiver) == [name(20)]
    receiver.adopt(newer)
    assert receiver.keep(Source(15, file_id=15)) == newer
    receiver.adopt(newer)
    assert receiver.newest == newer


def test_one_that_is_being_sent_can_be_read_to_its_end(tmp_path):
    sender, _ = two_stores(tmp_path)
    first = sender.newest
    whole = Source().file()
    assert sender.read(first.file_id, 0, 10) == whole[:10]
    sender.adopt(sender.keep(Source(20, file_id=20)))
    assert names(sender) == [name(20)]
    assert sender.read(first.file_id, 10, 1 << 20) == whole[10:]
    assert sender.read(first.file_id, 0, 10) == b"", "it has been read to its end"
    assert sender.read(20, 0, 4) == b"SEAF"
    sender.read(20, 0, 1 << 20)
    sender.adopt(sender.keep(Source(30, file_id=30)))
    assert sender.read(20, 0, 4) == b"", "nobody was in the middle of it"
    sender.let_go()
