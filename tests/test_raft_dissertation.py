"""The dissertation's claims beyond the paper's: pre-vote, check-quorum, leadership transfer.

"D" is a section of Consensus: Bridging Theory and Practice (Ongaro 2014). Each test names the
guard without which it fails. Members are in test_raft_members.py, reads in test_raft_reads.py.
"""

import pytest

from raft_cluster import FOUNDING, Cluster, cluster_of, kinds, log_of
from seafoam._core import limits
from seafoam._core.message import (
    MESSAGE_PRE_VOTE,
    MESSAGE_PRE_VOTE_ANSWER,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_VOTE,
    Message,
)
from seafoam._core.raft import ROLE_FOLLOWER, ROLE_PRE_CANDIDATE
from seafoam.errors import InvariantBroken

HEARTBEAT_TICKS = limits.HEARTBEAT_MS // limits.TICK_MS
ELECTION_TICKS_MIN = limits.ELECTION_MS_MIN // limits.TICK_MS
ELECTION_TICKS_MAX = limits.ELECTION_MS_MAX // limits.TICK_MS


# -- D 9.6: pre-vote -----------------------------------------------------------------------------

def test_a_pre_vote_changes_nothing_at_either_end():
    """D 9.6: a candidate first learns whether a majority would vote for it; its term stays.
    Guard: `become_pre_candidate`, `_adopt_term`."""
    cluster = Cluster([1, 2, 3])
    cluster[1].campaign()
    assert (cluster[1].raft.role, cluster[1].raft.term) == (ROLE_PRE_CANDIDATE, 1)
    asked = list(cluster.network)
    assert kinds(asked) == [MESSAGE_PRE_VOTE] * 2 and {message.term for message in asked} == {2}
    cluster.deliver()
    assert (cluster[2].raft.term, cluster[2].raft.vote) == (1, 0)
    assert cluster[1].disk.writes == cluster[2].disk.writes == []


def test_a_node_that_was_cut_off_disturbs_nobody_when_it_comes_back():
    """D 9.6: a partitioned server does not increase its term. Guard: the pre-vote in
    `_campaign`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.cut(3)
    cluster.tick(10 * ELECTION_TICKS_MAX)
    assert cluster[3].raft.term == 2
    cluster.heal()
    cluster.tick(ELECTION_TICKS_MAX)
    assert leader.is_leader and leader.raft.term == 2 and cluster[3].raft.leader_id == 1


def test_a_pre_vote_that_is_lost_leads_back_to_following():
    """D 9.6: only if a majority would vote. Guard: "lost" in `_count_votes`."""
    cluster = cluster_of({1: [FOUNDING], 2: log_of(1), 3: log_of(1)}, term=1)
    cluster[1].campaign()
    cluster.settle()
    assert (cluster[1].raft.role, cluster[1].raft.term) == (ROLE_FOLLOWER, 1)


def test_a_grant_for_another_term_does_not_count():
    """D 9.6: an answer is about the term that was asked for. Guard: the comparison in
    `_on_pre_vote_answer`."""
    cluster = Cluster([1, 2, 3])
    cluster[1].campaign()
    cluster[1].step(Message(MESSAGE_PRE_VOTE_ANSWER, 2, 1, 3))
    assert cluster[1].raft.role == ROLE_PRE_CANDIDATE


# -- D 6.2 and 4.2.3: check-quorum, and who hears a leader ---------------------------------------

def test_a_leader_without_a_majority_steps_down():
    """D 6.2: a leader steps down if an election timeout elapses without a majority's contact.
    Guard: `heard_within` in `_tick_leader`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.cut(1)
    leader.tick(ELECTION_TICKS_MIN - 1)
    assert leader.is_leader
    leader.tick()
    assert (leader.raft.role, leader.raft.term, leader.raft.leader_id) == (ROLE_FOLLOWER, 2, 0)


def test_a_leader_with_a_majority_stays():
    """D 6.2. Guard: `heard_at`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.cut(3)
    cluster.tick(5 * ELECTION_TICKS_MAX)
    assert leader.is_leader and leader.raft.term == 2


@pytest.mark.parametrize("kind", [MESSAGE_PRE_VOTE, MESSAGE_VOTE])
def test_who_hears_a_leader_ignores_candidates(kind):
    """D 4.2.3: a server that receives a RequestVote within the minimum election timeout of hearing
    from a current leader neither updates its term nor grants its vote. Guard: I8."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    asked = Message(kind, 3, 2, 9, index=9, log_term=2)
    cluster[2].step(asked)
    cluster[1].step(Message(kind, 3, 1, 9, index=9, log_term=2))
    assert cluster.drop() == [] and cluster[2].raft.term == cluster[1].raft.term == 2
    cluster[2].tick(ELECTION_TICKS_MIN - 1)
    cluster[2].step(asked)
    assert cluster.drop() == []
    cluster[2].tick()
    cluster.drop()
    cluster[2].step(asked)
    cluster[2].sync_all()
    [answer] = cluster.drop()
    assert not answer.is_rejected


# -- D 3.10: leadership transfer -----------------------------------------------------------------

def test_a_transfer_brings_the_target_up_to_date_and_has_it_campaign_at_once():
    """D 3.10: the prior leader stops accepting requests, updates the target's log, and sends
    TimeoutNow. Guard: `match_index == last_index` in `_hand_over`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.cut(2)
    leader.propose(b"x")
    cluster.settle()
    cluster.heal()
    leader.raft.transfer_to(2)
    leader.pump()
    assert leader.raft.is_transferring
    with pytest.raises(InvariantBroken, match="hands over takes no proposals"):
        leader.propose(b"y")
    assert MESSAGE_TIMEOUT_NOW not in kinds(cluster.network), "entry 3 is missing there"
    cluster.tick(HEARTBEAT_TICKS)
    assert cluster[2].is_leader and cluster[2].raft.term == 3
    assert leader.raft.role == ROLE_FOLLOWER and not leader.raft.is_transferring
    assert cluster[2].applied[2].data == b"x"


def test_a_transfer_overrides_hearing_a_leader_and_skips_the_pre_vote():
    """D 3.10 and 4.2.3: the RequestVote carries a flag. Guard: VOTE_FORCED."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    lines = []
    cluster.tell = lines.append
    leader.raft.transfer_to(3)
    leader.pump()
    cluster.settle()
    assert cluster[3].is_leader
    assert not any("pre_vote" in line for line in lines)


def test_a_transfer_that_does_not_finish_is_given_up():
    """D 3.10: if it does not complete after about an election timeout, the prior leader resumes.
    Guard: `_transfer_tick`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.cut(3)
    leader.raft.transfer_to(3)
    leader.pump()
    cluster.tick(ELECTION_TICKS_MIN - 1)
    assert leader.raft.is_transferring
    cluster.tick()
    assert leader.is_leader and not leader.raft.is_transferring
    leader.propose(b"x")


@pytest.mark.parametrize("target", [1, 4, 9])
def test_only_another_voter_can_take_over(target):
    """D 3.10: to another server of the cluster; a learner or the leader itself cannot."""
    cluster = Cluster([1, 2, 3], learners=[4])
    leader = cluster.elect(1)
    with pytest.raises(InvariantBroken, match="cannot take over"):
        leader.raft.transfer_to(target)
