"""What only a leader does: judging writes before they are proposed, and keeping their order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from seafoam._core import limits
from seafoam._core.confchange import CHANGE_LEARNER
from seafoam._core.message import ENTRY_COMMAND, ENTRY_CONFIGURATION, Entry
from seafoam._core.raft import ROLE_FOLLOWER, ROLE_LEADER
from seafoam._core.wire import (
    Operation,
    decode_founding,
    encode_command,
    encode_founding,
    stamp_command,
)
from seafoam._core.wire_change import MemberChange, decode_changes, encode_changes
from seafoam.calls import (
    BadCall,
    Elsewhere,
    Forward,
    Join,
    Placed,
    Welcome,
    decode_forward_answer,
    decode_join_answer,
    encode_forward,
    encode_join,
    encode_report,
)
from seafoam.errors import Refusal
from seafoam.leadership import CARE_TICKS, Leadership
from seafoam.membership import NEWCOMERS_MAX, Membership
from seafoam.reports import Report

FOUNDING = encode_founding(9, bytes(16), [(1, "host:1"), (2, "host:2"), (3, "host:3")])
COMMAND = encode_command([Operation.set(b"k", b"1")])
QUOTA_BYTES = 1 << 20


class Raft:
    """A leader's machine as far as leadership looks at it."""

    node_id, leader_id, term, role = 1, 1, 5, ROLE_LEADER
    is_transferring = change_is_pending = False
    read_floor_index, now_ticks = 2, 0

    def __init__(self):
        self.log = SimpleNamespace(applied_index=2, commit_index=2)
        self.proposed, self.transfers = [], []
        self.match = {2: 2, 3: 2}

    def propose(self, kind, data):
        self.proposed.append((kind, data))
        return 2 + len(self.proposed)

    def progress_of(self, node_id):
        if node_id not in self.match:
            return None
        return SimpleNamespace(contact_tick=self.now_ticks, match_index=self.match[node_id])

    def transfer_to(self, node_id):
        self.transfers.append(node_id)


class Rig:
    def __init__(self):
        self.raft = Raft()
        self.disk = SimpleNamespace(has_room=lambda more_bytes: True, full=False)
        self.writer = SimpleNamespace(logical_bytes=0)
        self.membership = Membership(decode_founding(FOUNDING))
        self.leadership = Leadership(
            self.raft, self.membership, self.disk, self.writer, QUOTA_BYTES, FOUNDING
        )

    def forward(self, number, *, origin_id=7, term=5, command=COMMAND, node_id=2):
        payload = encode_forward(Forward(term, stamp_command(command, origin_id, number)))
        return decode_forward_answer(self.leadership.forwarded(node_id, payload))

    def join(self, node_id, address):
        answer = self.leadership.asked_to_join(node_id, encode_join(Join(node_id, address)))
        return decode_join_answer(answer)

    def report(self, node_id, quota_bytes=QUOTA_BYTES, has_room=True):
        self.leadership.reported(node_id, encode_report(Report(quota_bytes, has_room)))

    def tick(self, count=CARE_TICKS):
        for _ in range(count):
            self.raft.now_ticks += 1
            self.leadership.tick()


@pytest.fixture
def rig():
    return Rig()


def test_it_takes_no_writes_before_it_knows_what_is_in_the_log(rig):
    rig.raft.read_floor_index = 3
    assert not rig.leadership.takes_writes
    assert isinstance(rig.leadership.propose(COMMAND), Elsewhere)
    assert isinstance(rig.forward(1), Elsewhere) and rig.raft.proposed == []
    rig.raft.log.applied_index = 3
    assert rig.leadership.propose(COMMAND) == Placed(3, 5)


def test_it_takes_none_while_it_hands_over_or_does_not_lead(rig):
    rig.raft.is_transferring = True
    assert isinstance(rig.leadership.propose(COMMAND), Elsewhere)
    rig.raft.is_transferring = False
    rig.raft.role, rig.raft.leader_id = ROLE_FOLLOWER, 3
    assert rig.forward(1) == Elsewhere("host:3")


def test_a_forward_for_another_term_is_sent_back(rig):
    assert isinstance(rig.forward(1, term=4), Elsewhere)
    assert isinstance(rig.forward(1, term=6), Elsewhere)
    assert rig.forward(1) == Placed(3, 5)


def test_what_was_overtaken_on_the_way_is_refused(rig):
    assert isinstance(rig.forward(2), Placed)
    for number in (1, 2):
        refusal = rig.forward(number)
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.applied) == ("no_leader", "no")
    assert isinstance(rig.forward(1, origin_id=8), Placed)
    assert len(rig.raft.proposed) == 2
    rig.leadership.on_change()
    assert isinstance(rig.forward(1), Placed), "another term begins anew"


def test_a_forward_that_cannot_be_read_is_no_call(rig):
    for command in (b"?", COMMAND[:-1], b"\x02" + COMMAND[1:],
                    encode_command([Operation.set(b"k", b"{not json")]),
                    encode_command([Operation.cas(b"k", b"1", old_value=b"{x")])):
        with pytest.raises(BadCall, match="cannot be read"):
            rig.leadership.forwarded(2, encode_forward(Forward(5, command)))
    assert rig.raft.proposed == []


@pytest.mark.parametrize("node_id", [4, 0])
def test_who_is_no_member_forwards_nothing(rig, node_id):
    with pytest.raises(BadCall, match="no member"):
        rig.forward(1, node_id=node_id)
    assert rig.raft.proposed == []


def test_a_learner_forwards_as_a_voter_does(rig):
    rig.membership.apply(2, encode_changes([MemberChange(CHANGE_LEARNER, 4, "host:4")]))
    assert isinstance(rig.forward(1, node_id=4), Placed)


def test_the_quota_counts_what_is_under_way_until_it_is_applied(rig):
    large = encode_command([Operation.set(b"k", b"1" * 600_000)])
    assert rig.leadership.propose(large) == Placed(3, 5)
    refusal = rig.forward(1, command=large)
    assert isinstance(refusal, Refusal) and refusal.code == "quota_exceeded"
    delete = encode_command([Operation.delete(b"k")])
    assert isinstance(rig.leadership.propose(delete), Placed), "a delete passes"
    rig.leadership.on_applied(Entry(3, 5, ENTRY_COMMAND, large))
    assert isinstance(rig.forward(2, command=large), Placed)


def test_what_was_proposed_in_a_term_that_is_over_counts_no_more(rig):
    large = encode_command([Operation.set(b"k", b"1" * 600_000)])
    rig.leadership.propose(large)
    rig.raft.role = ROLE_FOLLOWER
    rig.leadership.on_change()
    rig.raft.role = ROLE_LEADER
    assert isinstance(rig.leadership.propose(large), Placed)


def test_a_disk_without_room_refuses(rig):
    rig.disk.has_room = lambda more_bytes: more_bytes < 100
    assert isinstance(rig.leadership.propose(COMMAND), Placed)
    refusals = [rig.leadership.propose(COMMAND) for _ in range(10)]
    assert refusals[-1].code == "disk_full" and refusals[-1].applied == "no"


def test_too_many_bytes_under_way_are_refused(rig):
    rig.leadership._quota_bytes = 1 << 40
    large = encode_command([Operation.set(b"k", b"1" * limits.VALUE_BYTES_MAX)] * 8)
    outcomes = [rig.leadership.propose(large) for _ in range(10)]
    assert [type(outcome) for outcome in outcomes] == [Placed] * 7 + [Refusal] * 3
    assert outcomes[-1].code == "overloaded"


def test_who_asks_to_join_gets_the_first_entry_and_a_seat(rig):
    assert rig.join(4, "host:4") == Welcome(FOUNDING)
    rig.tick()
    (kind, data), = rig.raft.proposed
    assert kind == ENTRY_CONFIGURATION
    assert [(change.node_id, change.address) for change in decode_changes(data)] == [(4, "host:4")]


@pytest.mark.parametrize("address", ["a..b:1", "a" * 300 + ":1", "x\n:1", "nowhere", "h:0"])
def test_who_asks_from_what_is_no_address_is_refused(rig, address):
    with pytest.raises(BadCall, match="a wish to join comes from") as caught:
        rig.join(4, address)
    assert str(caught.value).isprintable()
    rig.tick()
    assert rig.raft.proposed == []


def test_strangers_that_ask_without_end_do_not_fill_the_cluster(rig):
    for node_id in range(100, 200):
        answer = rig.join(node_id, f"host:{node_id}")
        rig.tick()
        for _, data in rig.raft.proposed:
            rig.membership.apply(2, data)
        rig.raft.proposed.clear()
    assert isinstance(answer, Refusal) and answer.code == "overloaded"
    assert len(rig.membership.configuration.learners) == NEWCOMERS_MAX
    assert rig.membership.configuration.is_voter(3)


def test_no_change_is_proposed_while_one_is_pending(rig):
    rig.raft.change_is_pending = True
    rig.join(4, "host:4")
    rig.tick(100)
    assert rig.raft.proposed == []


def test_who_asks_for_another_is_refused(rig):
    with pytest.raises(BadCall, match="asks to join for"):
        rig.leadership.asked_to_join(5, encode_join(Join(4, "host:4")))


def test_who_asks_one_that_follows_is_sent_to_the_leader(rig):
    rig.raft.role, rig.raft.leader_id = ROLE_FOLLOWER, 2
    assert rig.join(4, "host:4") == Elsewhere("host:2")


def test_it_hands_over_to_whoever_is_furthest(rig):
    rig.raft.match = {2: 5, 3: 9}
    rig.leadership.hand_over()
    assert rig.raft.transfers == [3]


def test_it_hands_over_to_nobody_who_does_not_answer(rig):
    rig.raft.match = {}
    rig.leadership.hand_over()
    assert rig.raft.transfers == []


# What members report


def test_the_quota_is_the_least_that_a_voter_reports(rig):
    rig.report(2, quota_bytes=1000)
    rig.report(9, quota_bytes=10)  # no voter
    rig.writer.logical_bytes = 900
    refused = rig.leadership.propose(COMMAND)
    assert isinstance(refused, Placed)
    rig.writer.logical_bytes = 990
    refused = rig.leadership.propose(COMMAND)
    assert (refused.code, refused.applied) == ("quota_exceeded", "no")
    assert "1000 bytes" in refused.message
    delete = encode_command([Operation.delete(b"k")])
    assert isinstance(rig.leadership.propose(delete), Placed)
    rig.report(2)
    assert isinstance(rig.leadership.propose(COMMAND), Placed)


def test_writes_are_refused_while_most_disks_are_full(rig):
    rig.report(2, has_room=False)
    assert isinstance(rig.leadership.propose(COMMAND), Placed)
    rig.report(3, has_room=False)
    refused = rig.leadership.propose(COMMAND)
    assert (refused.code, refused.applied) == ("disk_full", "no")
    rig.report(3)
    assert isinstance(rig.leadership.propose(COMMAND), Placed)


def test_a_leader_whose_disk_is_full_leaves_to_one_that_said_to_have_room(rig):
    rig.disk.full = True
    rig.tick()
    assert rig.raft.transfers == [], "nobody has said anything yet"
    rig.report(2)
    rig.report(3, has_room=False)
    rig.tick()
    assert rig.raft.transfers == [], "no majority has room"
    rig.report(3)
    rig.raft.match = {2: 2, 3: 5}
    rig.tick()
    assert rig.raft.transfers == [3]


def test_who_stops_leaves_to_one_with_room_before_one_that_is_further(rig):
    rig.raft.match = {2: 2, 3: 5}
    rig.report(3, has_room=False)
    rig.leadership.hand_over()
    assert rig.raft.transfers == [2]


def test_reports_are_forgotten_when_the_leader_changes(rig):
    rig.report(2, quota_bytes=1)
    rig.leadership.on_change()
    assert isinstance(rig.leadership.propose(COMMAND), Placed)


def test_a_report_that_is_none_is_refused(rig):
    for payload in (b"\x05", encode_report(Report(1, True)) + b"\0",
                    encode_report(Report(1, True))[:-1] + b"\2"):
        with pytest.raises(BadCall):
            rig.leadership.reported(2, payload)
