"""ReadIndex (dissertation, 6.4): which round serves a read, from where, and when none does."""

import pytest

from raft_cluster import Cluster
from seafoam._core import limits
from seafoam._core.message import (
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_HEARTBEAT_ANSWER,
    MESSAGE_READ_INDEX,
    MESSAGE_READ_INDEX_ANSWER,
    Message,
)

HEARTBEAT_TICKS = limits.HEARTBEAT_MS // limits.TICK_MS
ELECTION_TICKS_MIN = limits.ELECTION_MS_MIN // limits.TICK_MS


def rounds(cluster: Cluster) -> list[int]:
    """The rounds that heartbeats on their way to node 2 confirm."""
    return [message.context for message in cluster.network
            if message.kind == MESSAGE_HEARTBEAT and message.to_id == 2]


def confirm(cluster: Cluster, number: int, *, by: int = 2) -> None:
    term = cluster[1].raft.term
    cluster[1].step(Message(MESSAGE_HEARTBEAT_ANSWER, by, 1, term, context=number))


def test_a_lone_voter_answers_at_once():
    """Its own word is the majority. Guard: `_finish_round` in `_begin_round`."""
    cluster = Cluster([1], learners=[2])
    cluster.tick(2)
    cluster[1].read(7)
    assert cluster[1].reads == [(7, 2)]
    cluster[2].read(8)
    cluster.settle()
    assert cluster[2].reads == [(8, 2)]


def test_a_round_confirms_the_leader_with_a_majority():
    """Guard: `vote_result` in `_finish_round`."""
    cluster = Cluster([1, 2, 3, 4, 5])
    leader = cluster.elect(1)
    leader.read(7)
    assert leader.reads == [] and rounds(cluster) == [1]
    confirm(cluster, 1, by=2)
    confirm(cluster, 1, by=2)
    assert leader.reads == []
    confirm(cluster, 1, by=3)
    assert leader.reads == [(7, 2)]


def test_one_round_serves_all_that_arrived_before_it_began_and_none_after():
    """I7. Guard: `_in_round` apart from `_waiting`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.read(1)
    for context in (2, 3, 4):
        leader.read(context)
    assert rounds(cluster) == [1], "the others wait"
    confirm(cluster, 1)
    assert leader.reads == [(1, 2)] and rounds(cluster) == [1, 2]
    confirm(cluster, 1, by=3)
    assert leader.reads == [(1, 2)], "an answer to the round before says nothing of this one"
    confirm(cluster, 2)
    assert leader.reads == [(1, 2), (2, 2), (3, 2), (4, 2)]
    leader.tick(HEARTBEAT_TICKS)
    assert rounds(cluster)[-1] == 0, "nobody waits any more"


def test_a_round_serves_what_was_committed_when_it_began():
    """D 6.4: the read index is the commit index at that time, or later: never before. Guard:
    `commit_index` in `begin`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.read(1)
    index = leader.propose(b"x")
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=index))
    leader.read(2)
    confirm(cluster, 1)
    confirm(cluster, 2)
    assert leader.reads == [(1, index - 1), (2, index)]


def test_no_read_is_served_before_an_entry_of_the_own_term_is_committed():
    """D 6.4: until then, the leader does not know what is committed. Guard: `read_floor_index` in
    `_begin_round`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster[1]
    leader.campaign()
    while not leader.is_leader:
        assert leader.sync() or cluster.deliver() or cluster[2].sync()
    cluster.drop()
    leader.read(7)
    assert cluster.network == []
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=2))
    assert rounds(cluster) == [1]
    confirm(cluster, 1)
    assert leader.reads == [(7, 2)]


def test_a_lost_round_goes_out_again_with_the_next_heartbeat():
    """Guard: `number` in `_send_heartbeats`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.read(7)
    cluster.drop()
    leader.tick(HEARTBEAT_TICKS)
    cluster.settle()
    assert leader.reads == [(7, 2)]


@pytest.mark.parametrize("node_id", [2, 4])
def test_a_follower_or_learner_asks_its_leader(node_id):
    """D 6.4: followers can offload the leader. Guard: MESSAGE_READ_INDEX in `read_index`."""
    cluster = Cluster([1, 2, 3], learners=[4])
    leader = cluster.elect(1)
    cluster[node_id].read(7)
    [asked] = cluster.network
    assert (asked.kind, asked.to_id, asked.context) == (MESSAGE_READ_INDEX, 1, 7)
    cluster.settle()
    assert cluster[node_id].reads == [(7, 2)] and leader.reads == []


def test_a_stale_leader_serves_no_read():
    """D 6.4: what the round is for. Guard: the terms in `step`."""
    cluster = Cluster([1, 2, 3])
    old = cluster.elect(1)
    cluster.cut(1)
    for _ in range(10):  # the others' time passes, the old leader's stands still
        for node_id in (2, 3):
            cluster[node_id].tick(10)
        cluster.settle()
    new = cluster.leader()
    assert new.node_id != 1 and new.raft.term > 2
    new.propose(b"x")
    cluster.settle()
    assert old.is_leader
    old.read(7)
    cluster.heal()
    cluster.settle()
    assert old.reads == [] and not old.is_leader


def test_reads_that_may_never_be_answered_are_counted():
    """Whoever waits asks again when `reads_lost` moves. Guard: `_lead_by`, `become_follower`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster[2].read(7)
    before = cluster[2].raft.reads_lost, leader.raft.reads_lost
    cluster.cut(1)
    cluster.settle()
    leader.tick(ELECTION_TICKS_MIN)
    assert leader.raft.reads_lost > before[1]
    while cluster[2].raft.reads_lost == before[0]:
        cluster[2].tick()
        cluster[3].tick()
        cluster.settle()
    assert cluster[2].raft.leader_id != 1


def test_a_read_without_a_leader_goes_nowhere():
    """It is asked again when there is one, for `reads_lost` moves then."""
    cluster = Cluster([1, 2, 3])
    before = cluster[2].raft.reads_lost
    cluster[2].read(7)
    assert cluster.network == [] and cluster[2].raft.reads_lost == before
    cluster.elect(1)
    assert cluster[2].raft.reads_lost > before


def test_rounds_of_one_leadership_say_nothing_of_the_next():
    """Guard: `forget` in `become_follower`; the numbers of rounds go on."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.read(7)
    cluster.cut(1)
    leader.tick(ELECTION_TICKS_MIN)
    cluster.drop()
    cluster.heal()
    cluster.elect(1)
    leader.read(8)
    assert rounds(cluster) == [2]
    cluster.settle()
    assert [context for context, _ in leader.reads] == [8]


@pytest.mark.parametrize(("confirming", "is_served"), [
    ([2], False), ([4, 5], False), ([2, 4], True),
])
def test_a_joint_round_takes_both_majorities(confirming, is_served):
    """D 4.3 with 6.4: a majority of each."""
    cluster = Cluster([1, 2, 3], strangers=[4, 5])
    leader = cluster.elect(1)
    leader.propose(b"joint r2 r3 v4 v5", 3)
    cluster.settle()
    leader.read(7)
    for node_id in confirming:
        confirm(cluster, 1, by=node_id)
    assert (leader.reads != []) == is_served


def test_a_round_that_waited_for_who_left_ends_with_the_change():
    """Guard: `_finish_round` in `configure`."""
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    index = leader.propose(b"simple r2", 3)
    leader.sync_all()
    leader.read(7)
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=index))
    assert leader.reads == []
    leader.sync_all()
    assert leader.reads == [(7, index - 1)]


def test_an_answer_comes_with_the_context_it_was_asked_with():
    """Also where two followers ask with the same one."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster[2].read(7)
    cluster[3].read(7)
    cluster.settle()
    assert cluster[2].reads == cluster[3].reads == [(7, 2)]
    cluster[2].step(Message(MESSAGE_READ_INDEX_ANSWER, 1, 2, 2, index=2, context=9))
    assert cluster[2].reads[-1] == (9, 2)
