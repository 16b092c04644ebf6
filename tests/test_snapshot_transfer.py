"""A snapshot from a leader to a member: in pieces, one at a time, resumed, and never believed
before it is whole."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from doors import ManualClock, MemoryNetwork
from seafoam._core.progress import PROGRESS_PROBE, PROGRESS_SNAPSHOT
from seafoam._core.raft import ROLE_CANDIDATE, ROLE_FOLLOWER, ROLE_LEADER
from seafoam.calls import (
    STAGE_INSTALLED,
    STAGE_INSTALLING,
    STAGE_WANTED,
    BadCall,
    Elsewhere,
    Piece,
    Progress,
    decode_piece,
    decode_piece_answer,
    encode_elsewhere,
    encode_piece,
    encode_progress,
)
from seafoam.errors import DataDamaged
from seafoam.ports import CallFailed, SnapshotInfo
from seafoam.snapshot_transfer import (
    INSTALLING_SECONDS,
    PIECE_BYTES,
    RETRY_SECONDS,
    SnapshotReceiver,
    SnapshotSender,
)

LEADER, MEMBER, OTHER = 1, 2, 3
DATA = random.Random(1).randbytes(2 * PIECE_BYTES + 77)
INFO = SnapshotInfo(0xF1, 50, 3, len(DATA), Path())


class Machine:
    """What transfer asks of a Raft machine."""

    def __init__(self, role: int, *, applied_index: int = 0) -> None:
        self.role, self.term, self.leader_id = role, 4, LEADER
        self.log = SimpleNamespace(applied_index=applied_index)
        self.progress = {MEMBER: SimpleNamespace(state=PROGRESS_SNAPSHOT)}
        self.sent: list[tuple[int, int]] = []

    def progress_of(self, node_id):
        return self.progress.get(node_id)

    def snapshot_sent(self, node_id, index):
        self.sent.append((node_id, index))
        self.progress[node_id].state = PROGRESS_PROBE


class Files:
    """A disk with one snapshot to send, or with room to receive one."""

    def __init__(self, snapshot: SnapshotInfo | None = None, data: bytes = b"") -> None:
        self.snapshot, self.data = snapshot, data
        self.part, self.part_id = b"", 0
        self.checks: list[tuple[int, object]] = []

    def read_snapshot(self, file_id, offset, bytes_max):
        if self.snapshot is None or file_id != self.snapshot.file_id:
            return b""
        return self.data[offset:offset + bytes_max]

    def receive_snapshot(self, file_id, offset, data, size_bytes):
        if file_id != self.part_id:
            self.part, self.part_id = b"", file_id
        if offset == len(self.part):
            self.part += data
        return len(self.part)

    def finish_receiving(self, file_id, on_ready):
        self.checks.append((file_id, on_ready))


class Sending:
    """A leader, and a member that is played by the test."""

    def __init__(self) -> None:
        self.clock, self.network = ManualClock(), MemoryNetwork()
        self.raft, self.disk = Machine(ROLE_LEADER), Files(INFO, DATA)
        self.changes: list[None] = []
        self.sender = SnapshotSender(
            self.raft, self.disk, self.clock, self.network, lambda: self.changes.append(None))

    def begin(self):
        self.sender.begin(MEMBER)
        return self

    def piece(self) -> Piece:
        """The one that is under way."""
        [(node_id, payload, _)] = self.network.calls
        assert node_id == MEMBER
        return decode_piece(payload)

    def answer(self, said) -> None:
        [(_, _, on_answer)] = self.network.calls
        self.network.calls.clear()
        if isinstance(said, tuple) and not isinstance(said, CallFailed):
            said = encode_progress(Progress(*said))
        on_answer(said)


def test_a_file_goes_in_pieces_from_where_the_member_has_it():
    rig = Sending().begin()
    assert rig.piece() == Piece(4, 0xF1, 50, 3, len(DATA), 0, b"")
    rig.answer((STAGE_WANTED, 100))
    assert rig.piece() == Piece(4, 0xF1, 50, 3, len(DATA), 100, DATA[100:100 + PIECE_BYTES])
    rig.answer((STAGE_WANTED, 100 + PIECE_BYTES))
    rig.answer((STAGE_WANTED, 2 * PIECE_BYTES))
    assert rig.piece().data == DATA[2 * PIECE_BYTES:]
    rig.answer((STAGE_INSTALLING, 0))
    assert rig.network.calls == []
    rig.clock.advance(INSTALLING_SECONDS)
    assert rig.piece() == Piece(4, 0xF1, 50, 3, len(DATA), len(DATA), b"")
    assert rig.raft.sent == [] == rig.changes
    rig.answer((STAGE_INSTALLED, 50))
    assert rig.raft.sent == [(MEMBER, 50)] and rig.changes == [None]
    rig.clock.advance(10)
    assert rig.network.calls == []


@pytest.mark.parametrize("said", [
    CallFailed(True), CallFailed(False), encode_elsewhere(Elsewhere("")), b"", b"\x09nonsense",
])
def test_who_does_not_answer_is_asked_again_after_a_while(said):
    rig = Sending().begin()
    rig.answer((STAGE_WANTED, 5))
    rig.answer(said)
    assert rig.network.calls == []
    rig.clock.advance(RETRY_SECONDS)
    assert rig.piece().data == b""
    rig.answer((STAGE_WANTED, 9))
    assert rig.piece().offset == 9


def test_a_newer_snapshot_takes_the_place_of_one_that_is_gone():
    rig = Sending().begin()
    newer = SnapshotInfo(0xF2, 90, 4, 10, Path())
    rig.disk.snapshot, rig.disk.data = newer, b"0123456789"
    rig.answer((STAGE_WANTED, 100))
    assert rig.piece() == Piece(4, 0xF2, 90, 4, 10, 0, b"")
    rig.answer((STAGE_WANTED, 0))
    assert rig.piece().data == b"0123456789"


def test_a_member_that_asks_beyond_the_end_is_not_sent_anything_there():
    rig = Sending().begin()
    rig.answer((STAGE_WANTED, 2**64 - 1))
    assert (rig.piece().offset, rig.piece().data) == (len(DATA), b"")


def test_without_a_snapshot_it_waits_for_one():
    rig = Sending()
    rig.disk.snapshot = None
    rig.begin()
    assert rig.network.calls == []
    rig.disk.snapshot = INFO
    rig.clock.advance(RETRY_SECONDS)
    assert rig.piece().file_id == 0xF1


@pytest.mark.parametrize("change", [
    {"role": ROLE_FOLLOWER}, {"term": 5}, {"progress": {}},
    {"progress": {MEMBER: SimpleNamespace(state=PROGRESS_PROBE)}},
])
def test_it_ends_with_the_term_and_with_the_need(change):
    rig = Sending().begin()
    for name, value in change.items():
        setattr(rig.raft, name, value)
    rig.answer((STAGE_WANTED, 0))
    rig.clock.advance(10)
    assert rig.network.calls == [] and rig.raft.sent == []


def test_an_answer_of_an_earlier_term_installs_nothing():
    rig = Sending().begin()
    rig.raft.term = 5
    rig.answer((STAGE_INSTALLED, 50))
    assert rig.raft.sent == []


def test_a_member_is_sent_one_at_a_time_and_again_in_another_term():
    rig = Sending().begin()
    rig.begin()
    assert len(rig.network.calls) == 1
    rig.raft.term = 6
    rig.begin()
    assert len(rig.network.calls) == 2
    first, second = rig.network.calls
    rig.network.calls.clear()
    first[2](encode_progress(Progress(STAGE_WANTED, 0)))
    assert rig.network.calls == []
    second[2](encode_progress(Progress(STAGE_WANTED, 0)))
    assert rig.piece().term == 6


@pytest.mark.parametrize("said", [(STAGE_INSTALLED, 50), (STAGE_WANTED, 7), CallFailed(True)])
def test_one_that_needed_none_meanwhile_is_sent_one_when_it_needs_one_again(said):
    """Entries that were under way brought it further than the leader knew."""
    rig = Sending().begin()
    rig.raft.progress[MEMBER].state = PROGRESS_PROBE
    rig.answer(said)
    rig.clock.advance(RETRY_SECONDS)
    assert rig.network.calls == [] and rig.raft.sent == []
    rig.raft.progress[MEMBER].state = PROGRESS_SNAPSHOT
    rig.begin()
    assert rig.piece().offset == 0


def test_it_is_sent_one_again_when_it_needs_one_again():
    rig = Sending().begin()
    rig.answer((STAGE_INSTALLED, 50))
    rig.raft.progress[MEMBER].state = PROGRESS_SNAPSHOT
    rig.begin()
    assert rig.piece().offset == 0


class Receiving:
    """A member; the test is its leader."""

    def __init__(self, role: int = ROLE_FOLLOWER, *, applied_index: int = 10) -> None:
        self.raft, self.disk = Machine(role, applied_index=applied_index), Files()
        self.ready: list[SnapshotInfo] = []
        self.receiver = SnapshotReceiver(self.raft, self.disk, self.ready.append)

    def send(self, offset, data, *, from_id=LEADER, **changes):
        piece = replace(Piece(4, 0xF1, 50, 3, len(DATA), offset, data), **changes)
        return decode_piece_answer(self.receiver.handle(from_id, encode_piece(piece)))


def test_pieces_are_taken_in_order_and_the_whole_is_checked_once():
    rig = Receiving()
    assert rig.send(0, b"") == (STAGE_WANTED, 0)
    assert rig.send(0, DATA[:100]) == (STAGE_WANTED, 100)
    assert rig.send(50, DATA[50:200]) == (STAGE_WANTED, 100)
    assert rig.send(100, DATA[100:]) == (STAGE_INSTALLING, 0)
    assert rig.send(len(DATA), b"") == (STAGE_INSTALLING, 0)
    [(file_id, on_ready)] = rig.disk.checks
    assert (file_id, rig.disk.part, rig.ready) == (0xF1, DATA, [])
    on_ready(INFO)
    assert rig.ready == [INFO]
    assert rig.send(len(DATA), b"") == (STAGE_INSTALLING, 0)
    rig.raft.log.applied_index = 50
    rig.receiver.done()
    assert rig.send(len(DATA), b"") == (STAGE_INSTALLED, 50)


def test_what_turns_out_damaged_is_asked_for_anew():
    rig = Receiving()
    rig.send(0, DATA)
    [(_, on_ready)] = rig.disk.checks
    rig.disk.part = b""
    on_ready(DataDamaged("at offset 7"))
    assert rig.ready == []
    assert rig.send(len(DATA), b"") == (STAGE_WANTED, 0)


def test_who_has_applied_so_much_needs_none():
    assert Receiving(applied_index=50).send(0, DATA) == (STAGE_INSTALLED, 50)


@pytest.mark.parametrize(("role", "changes"), [
    (ROLE_LEADER, {}), (ROLE_CANDIDATE, {}), (ROLE_FOLLOWER, {"term": 3}),
    (ROLE_FOLLOWER, {"term": 5}), (ROLE_FOLLOWER, {"from_id": OTHER}),
])
def test_only_the_present_leader_is_listened_to(role, changes):
    rig = Receiving(role)
    assert rig.send(0, DATA, **changes) == Elsewhere("")
    assert rig.disk.part == b""


def test_a_piece_that_cannot_be_is_refused():
    with pytest.raises(BadCall):
        Receiving().receiver.handle(LEADER, b"\x04")
