"""When a snapshot is taken, what of the log is dropped behind it, and how one becomes a map."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from seafoam._core.map import MapWriter
from seafoam._core.wire import decode_founding, encode_founding
from seafoam._core.wire_snapshot import SnapshotHead
from seafoam.errors import DataDamaged, SnapshotLost
from seafoam.membership import Membership
from seafoam.ports import SnapshotInfo
from seafoam.snapshots import MapMaking, Snapshots

FOUNDING = encode_founding(9, bytes(16), [(1, "host:1"), (2, "host:2"), (3, "host:3")])
LOG_BYTES = 1_000


def new_writer():
    return MapWriter(bytes(16), max_logical_bytes=1 << 26, start_id=1)


class Machine:
    node_id = 1

    def __init__(self):
        self.log = SimpleNamespace(applied_index=50, term_of=lambda index: 4)
        self.match = {2: 60, 3: 60}
        self.dropped = []

    def progress_of(self, node_id):
        if node_id not in self.match:
            return None
        return SimpleNamespace(match_index=self.match[node_id])

    def dropped_to(self, index):
        self.dropped.append(index)


class Files:
    """A disk that writes a snapshot when the test says so."""

    start_id = 7

    def __init__(self):
        self.snapshot, self.log_bytes, self.first_index = None, 0, 1
        self.saving = None
        self.dropped = []

    def save_snapshot(self, source, on_saved):
        assert self.saving is None
        self.saving = source, on_saved

    def drop_log(self, index):
        self.dropped.append(index)
        self.first_index = index

    def saved(self, size_bytes=100):
        """The snapshot that is being written is durable."""
        (source, on_saved), self.saving = self.saving, None
        head = source.head
        self.snapshot = SnapshotInfo(head.file_id, head.index, head.term, size_bytes, Path())
        self.log_bytes = 0
        on_saved(self.snapshot)

    def failed(self):
        (_, on_saved), self.saving = self.saving, None
        on_saved(None)


class Rig:
    def __init__(self):
        self.raft, self.disk, self.writer = Machine(), Files(), new_writer()
        self.membership = Membership(decode_founding(FOUNDING))
        self.snapshots = Snapshots(
            self.disk, self.raft, self.membership, FOUNDING, LOG_BYTES)

    def consider(self, log_bytes=None):
        if log_bytes is not None:
            self.disk.log_bytes = log_bytes
        return self.snapshots.consider(self.writer)

    def take(self, index, **saved):
        self.raft.log.applied_index = index
        self.consider(10 * LOG_BYTES)
        self.disk.saved(**saved)


@pytest.fixture
def rig():
    return Rig()


def test_one_is_due_when_the_log_is_long_and_longer_than_the_last_one(rig):
    assert not rig.consider(LOG_BYTES - 1) and rig.disk.saving is None
    rig.consider(LOG_BYTES)
    assert rig.disk.saving is not None
    rig.disk.saved(size_bytes=5 * LOG_BYTES)
    rig.raft.log.applied_index = 60
    rig.consider(5 * LOG_BYTES - 1)
    assert rig.disk.saving is None
    rig.consider(5 * LOG_BYTES)
    assert rig.disk.saving is not None


def test_its_head_says_where_it_stands(rig):
    rig.consider(LOG_BYTES)
    head = rig.disk.saving[0].head
    assert (head.index, head.term, head.founding) == (50, 4, FOUNDING)
    assert head.membership == rig.membership.encode()
    assert head.file_id == 57


def test_it_is_walked_in_steps_and_holds_what_was_there_when_it_began(rig):
    for number in range(30_000):
        rig.writer.set(f"k{number}", b"1", 50)
    assert rig.consider(LOG_BYTES), "there is more to walk"
    source = rig.disk.saving[0]
    assert not source.is_walked
    for number in range(30_000):
        rig.writer.set(f"k{number}", b"2", 51)
        rig.writer.set(f"n{number}", b"2", 51)
    while rig.consider():
        pass
    assert source.is_walked
    blocks = []
    while block := source.next_block(1, 1 << 20):
        blocks.append(block)
    assert source.key_count == 30_000
    assert b"n1" not in b"".join(blocks)


def test_another_is_not_begun_beside_one(rig):
    rig.consider(LOG_BYTES)
    rig.consider(9 * LOG_BYTES)
    assert rig.disk.dropped == []


def test_none_is_taken_where_the_newest_is_as_new(rig):
    rig.take(50)
    rig.consider(10 * LOG_BYTES)
    assert rig.disk.saving is None


def test_the_log_goes_as_far_as_all_members_have_it(rig):
    rig.take(50)
    assert (rig.disk.dropped, rig.raft.dropped) == ([50], [49])


@pytest.mark.parametrize("match", [{2: 60, 3: 49}, {2: 60}, {}])
def test_where_somebody_lags_it_goes_as_far_as_the_snapshot_before(rig, match):
    rig.raft.match = match
    rig.take(50)
    assert rig.disk.dropped == [0]
    rig.take(80)
    assert rig.disk.dropped == [0, 50]


def test_one_that_could_not_be_written_is_tried_again_later_and_pins_nothing(rig):
    rig.consider(LOG_BYTES)
    source = rig.disk.saving[0]
    rig.disk.failed()
    with pytest.raises(SnapshotLost):
        source.next_block(1, 1_000)
    rig.consider(LOG_BYTES + LOG_BYTES // 8 - 1)
    assert rig.disk.saving is None
    rig.consider(LOG_BYTES + LOG_BYTES // 8)
    rig.disk.saved()
    assert rig.snapshots.status() == {
        "index": 50, "size_bytes": 100, "is_being_taken": False, "taken": 1, "log_bytes": 0}


def test_a_map_that_is_given_up_lets_its_snapshot_go(rig):
    rig.consider(LOG_BYTES)
    source = rig.disk.saving[0]
    rig.snapshots.forget()
    with pytest.raises(SnapshotLost):
        source.next_block(1, 1_000)
    assert not rig.consider(10 * LOG_BYTES), "the disk has not heard of it yet"
    rig.disk.failed()
    assert not rig.snapshots.status()["is_being_taken"]
    rig.consider(100 * LOG_BYTES)
    rig.disk.saved()
    assert rig.snapshots.status()["taken"] == 1


class Handle:
    def __init__(self, payloads):
        self.head = SnapshotHead(1, 50, 4, FOUNDING, b"")
        self._payloads = payloads
        self.is_closed = False

    def __iter__(self):
        for payload in self._payloads:
            if isinstance(payload, Exception):
                raise payload
            yield payload

    def close(self):
        self.is_closed = True


def payloads_of(writer):
    """What a snapshot of the map holds, in blocks of some entries."""
    with contextlib.closing(writer.begin_snapshot()) as snapshot:
        snapshot.walk(1 << 40)
        found = []
        while block := snapshot.next_block(len(found) + 1, 100):
            found.append(block[16:])
        return found


def test_a_snapshot_becomes_a_map_block_by_block():
    source = new_writer()
    for number in range(20):
        source.set(f"k{number}", b"%d" % number, 10 + number)
    handle = Handle(payloads_of(source))
    making = MapMaking(handle, new_writer)
    steps = 1
    while not making.step():
        steps += 1
    reader = making.writer.reader()
    assert steps > 3 and handle.is_closed
    assert (reader.applied_index, reader.applying_index) == (50, 50)
    assert [reader.get_versioned(f"k{number}") for number in range(20)] == [
        (b"%d" % number, 10 + number) for number in range(20)]


def test_a_map_that_is_not_whole_is_given_up():
    handle = Handle([DataDamaged("at offset 7")])
    making = MapMaking(handle, new_writer)
    with pytest.raises(DataDamaged):
        making.step()
    making.close()
    assert handle.is_closed
