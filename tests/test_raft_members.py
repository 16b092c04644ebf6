"""Configurations: when they take effect, who may campaign in them, what a change does to roles.

"D" is a section of the dissertation. Where the machine departs from it (raft.pxd, I6 and I9), the
test says so.
"""

import pytest

from raft_cluster import Cluster, founding
from seafoam._core import limits
from seafoam._core.confchange import Configuration
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_PRE_VOTE_ANSWER,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    Entry,
    HardState,
    Message,
)
from seafoam._core.raft import ROLE_CANDIDATE, ROLE_FOLLOWER, ROLE_PRE_CANDIDATE, Raft
from seafoam.errors import ConfigurationRefused, DiskWentBack, InvariantBroken

ELECTION_TICKS_MAX = limits.ELECTION_MS_MAX // limits.TICK_MS


def change(cluster: Cluster, text: str) -> int:
    index = cluster.leader().propose(text.encode(), ENTRY_CONFIGURATION)
    cluster.settle()
    return index


def configurations(cluster: Cluster) -> dict[int, str]:
    return {node_id: str(server.raft.configuration)
            for node_id, server in cluster.servers.items()}


def test_a_change_is_in_force_on_all_once_applied():
    """D 4.1, but on apply, not on append (I6)."""
    cluster = Cluster([1, 2, 3], strangers=[4])
    leader = cluster.elect(1)
    index = change(cluster, "simple v4")
    assert set(configurations(cluster).values()) == {"voters=(1 2 3 4)"}
    assert {server.raft.configured_index for server in cluster.servers.values()} == {index}
    assert cluster[4].applied == leader.applied


def test_a_configuration_is_applied_only_with_a_synced_record_that_it_is_committed():
    """I6: after a crash the node must know again that it is in force. Guard: `_applicable_index`
    and `_hard_state_is_due`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    index = leader.propose(b"simple l9", ENTRY_CONFIGURATION)
    later = leader.propose(b"x")
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=later))
    assert leader.raft.log.commit_index == later and leader.raft.log.durable_index == later
    assert leader.applied[-1].index == index - 1, "nor is what follows"
    [(entries, hard_state, _, _)] = leader.disk.writes
    assert entries == [] and hard_state == HardState(2, 1, later)
    leader.sync()
    assert leader.applied[-1].index == later
    assert leader.raft.configured_index == index


def test_a_record_counts_in_whatever_term_it_was_written():
    """I4: that an entry is committed stays so. Guard: `recorded_to` before the terms are compared
    in `durable`."""
    cluster = Cluster([1, 2, 3])
    follower = cluster[2]
    change_entry = Entry(2, 1, ENTRY_CONFIGURATION, b"simple l8")
    follower.step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, entries=(change_entry,)))
    follower.sync()
    follower.step(Message(MESSAGE_HEARTBEAT, 1, 2, 1, commit_index=2))
    follower.step(Message(MESSAGE_HEARTBEAT, 3, 2, 2))
    assert follower.raft.configured_index == 1 and len(follower.disk.writes) == 2
    follower.sync()
    assert follower.raft.configured_index == 2


def test_a_moved_commit_index_is_written_for_nothing_else():
    """Guard: as above; a sync costs milliseconds."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.propose(b"x")
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=3))
    assert leader.raft.log.commit_index == 3 and leader.disk.writes == []


def test_a_pump_that_applies_a_configuration_too_early_or_not_at_all_is_stopped():
    """I6. Guard: the `ensure`s in `configure` and `advance`."""
    entries = [founding([1]), Entry(2, 1, ENTRY_COMMAND, b""),
               Entry(3, 1, ENTRY_CONFIGURATION, b"")]
    raft = Raft(1, HardState(1, 0, 2), entries, seed=1)
    alone = Configuration([1])
    with pytest.raises(InvariantBroken, match="entry 1 cannot configure between 0 and 0"):
        raft.configure(1, alone)
    assert [entry.index for entry in raft.ready(9).committed] == [1, 2]
    with pytest.raises(InvariantBroken, match="nobody said what it configures"):
        raft.advance(2)
    with pytest.raises(InvariantBroken, match="entry 2 configures nothing"):
        raft.configure(2, alone)
    raft.configure(1, alone)
    raft.advance(2)
    with pytest.raises(InvariantBroken, match="entry 1 configures nothing, or did before"):
        raft.configure(1, alone)
    with pytest.raises(InvariantBroken, match="entry 3 cannot configure"):
        raft.configure(3, alone)


def test_one_change_is_pending_at_a_time():
    """D 4.1: a change is only begun when the one before it is over. Guard: `configuring` in
    `propose`. Nothing is put in its place without a word."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    assert not leader.raft.change_is_pending
    index = leader.propose(b"simple l8", ENTRY_CONFIGURATION)
    assert leader.raft.change_is_pending
    with pytest.raises(ConfigurationRefused, match=f"the change of entry {index} is not applied"):
        leader.propose(b"simple l9", ENTRY_CONFIGURATION)
    assert leader.raft.log.last_index == index
    cluster.settle()
    assert not leader.raft.change_is_pending
    change(cluster, "simple l9")


def test_no_change_before_an_entry_of_the_own_term_is_committed():
    """The bug in single-server changes (Ongaro, raft-dev, 2015). Guard: `read_floor_index` in
    `propose`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster[1]
    leader.campaign()
    while not leader.is_leader:
        assert leader.sync() or cluster.deliver() or cluster[2].sync()
    with pytest.raises(ConfigurationRefused, match="not committed an entry of its term"):
        leader.propose(b"simple l8", ENTRY_CONFIGURATION)
    cluster.settle()
    change(cluster, "simple l8")


def test_a_change_of_an_earlier_leader_is_pending_for_the_next_one():
    """Guard: `configuring` holds what is in the log, whoever proposed it."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.propose(b"simple l8", ENTRY_CONFIGURATION)
    while len(cluster[2].disk.entries) < 3:
        assert leader.sync() or cluster[2].sync() or cluster.deliver()
    cluster.drop()
    leader.crash()
    cluster[3].tick(ELECTION_TICKS_MAX)
    cluster.drop()
    cluster[2].campaign()
    while not cluster[2].is_leader:
        assert cluster[2].sync() or cluster[3].sync() or cluster.deliver()
    assert cluster[2].raft.change_is_pending
    cluster.settle()
    assert configurations(cluster)[2] == "voters=(1 2 3) learners=(8)"


# -- who campaigns -------------------------------------------------------------------------------

def test_nobody_campaigns_with_a_committed_configuration_it_has_not_applied():
    """I5. Guard: `configuring` in `_may_campaign`."""
    cluster = Cluster([1, 2, 3])
    change_entry = Entry(2, 1, ENTRY_CONFIGURATION, b"simple l8")
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, commit_index=2,
                            entries=(change_entry,)))
    cluster[2].tick(3 * ELECTION_TICKS_MAX)
    assert cluster[2].raft.role == ROLE_FOLLOWER
    cluster[2].step(Message(MESSAGE_TIMEOUT_NOW, 1, 2, 1))
    assert cluster[2].raft.role == ROLE_FOLLOWER
    cluster[2].sync_all()
    cluster[2].tick()
    assert cluster[2].raft.role == ROLE_PRE_CANDIDATE


def test_a_candidate_that_learns_of_a_configuration_gives_up_until_it_is_applied():
    """I5 with I9. Guard: `_may_campaign` in `_take_vote`."""
    cluster = Cluster([1, 2, 3])
    change_entry = Entry(2, 1, ENTRY_CONFIGURATION, b"simple l8")
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, entries=(change_entry,)))
    cluster[2].campaign()
    cluster[2].step(Message(MESSAGE_PRE_VOTE_ANSWER, 3, 2, 2, commit_index=2, log_term=1))
    assert cluster[2].raft.log.commit_index == 2
    assert (cluster[2].raft.role, cluster[2].raft.term) == (ROLE_FOLLOWER, 1)


@pytest.mark.parametrize("commit_index", [1, 4])
def test_a_starting_node_applies_what_it_knows_committed_before_it_campaigns(commit_index):
    """I5. Guard: `_start_commit_index`."""
    entries = [founding([1, 2, 3]), *(Entry(index, 1, ENTRY_COMMAND, b"") for index in (2, 3, 4))]
    raft = Raft(1, HardState(1, 0, commit_index), entries, seed=1)
    for _ in range(commit_index - 1):
        ready = raft.ready(1)
        if raft.configured_index == 0:
            raft.configure(1, Configuration([1, 2, 3]))
        raft.advance(ready.committed[0].index)
        for _ in range(2 * ELECTION_TICKS_MAX):
            raft.tick()
        assert raft.role == ROLE_FOLLOWER
    last = raft.ready(1).committed[0]
    if raft.configured_index == 0:
        raft.configure(1, Configuration([1, 2, 3]))
    raft.advance(last.index)
    raft.tick()
    for _ in range(ELECTION_TICKS_MAX):
        raft.tick()
    assert raft.role == ROLE_PRE_CANDIDATE


@pytest.mark.parametrize("who", [4, 5])
def test_learners_and_strangers_never_campaign_and_do_vote(who):
    """I5, D 4.2.2: a server grants its vote without asking whether the candidate, or itself, is in
    its latest configuration. Guard: `is_voter` in `_may_campaign`, and none in `_on_vote`."""
    cluster = Cluster([1, 2, 3], learners=[4], strangers=[5])
    server = cluster[who]
    server.tick(5 * ELECTION_TICKS_MAX)
    server.step(Message(MESSAGE_TIMEOUT_NOW, 1, who, 1))
    assert server.raft.role == ROLE_FOLLOWER and cluster.network == []
    server.step(Message(MESSAGE_VOTE, 9, who, 7, index=5, log_term=5))
    server.sync_all()
    [answer] = cluster.drop()
    assert answer.kind == MESSAGE_VOTE_ANSWER and not answer.is_rejected


def test_a_learner_holds_everything_and_counts_for_nothing():
    """D 4.2.1: a non-voting member receives entries and is not counted for majorities."""
    cluster = Cluster([1, 2, 3], learners=[4])
    leader = cluster.elect(1)
    index = leader.propose(b"x")
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 4, 1, 2, index=index))
    assert leader.raft.log.commit_index == index - 1
    cluster.settle()
    assert cluster[4].applied == leader.applied
    cluster.cut(2, 3)
    leader.tick(1)
    cluster.settle()
    cluster.tick(ELECTION_TICKS_MAX)
    assert not leader.is_leader, "a learner's contact does not keep a leader"


# -- what a change does --------------------------------------------------------------------------

@pytest.mark.parametrize("text", ["simple r1", "simple l1"])
def test_a_leader_that_is_removed_or_demoted_steps_down_once_that_is_applied(text):
    """D 4.2.2: once the change is committed. Guard: `become_follower` in `configure`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    change(cluster, text)
    assert leader.raft.role == ROLE_FOLLOWER and leader.raft.configured_index == 3
    assert len(leader.applied) == 3
    cluster.tick(3 * ELECTION_TICKS_MAX)
    assert cluster.leader().node_id in (2, 3) and cluster.leader().raft.term > 2
    assert leader.raft.role == ROLE_FOLLOWER


def test_a_leader_manages_a_cluster_it_leaves_until_the_joint_change_is_over():
    """D 4.3: it is a voter of the old side. Guard: `is_voter` looks at both."""
    cluster = Cluster([1, 2, 3], strangers=[4])
    leader = cluster.elect(1)
    change(cluster, "joint r1 v4")
    assert str(leader.raft.configuration) == "voters=(2 3 4)&&(1 2 3)" and leader.is_leader
    change(cluster, "leave")
    assert leader.raft.role == ROLE_FOLLOWER
    cluster.tick(3 * ELECTION_TICKS_MAX)
    assert configurations(cluster)[cluster.leader().node_id] == "voters=(2 3 4)"


@pytest.mark.parametrize(("answering", "is_committed"), [
    ([2], False), ([4], False), ([2, 3], False), ([4, 5], False), ([2, 4], True), ([3, 5], True),
])
def test_joint_consensus_commits_by_both_majorities(answering, is_committed):
    """D 4.3: agreement requires separate majorities from the old and the new configuration."""
    cluster = Cluster([1, 2, 3], strangers=[4, 5])
    leader = cluster.elect(1)
    change(cluster, "joint r2 r3 v4 v5")
    assert str(leader.raft.configuration) == "voters=(1 4 5)&&(1 2 3)"
    index = leader.propose(b"x")
    leader.sync_all()
    for node_id in answering:
        leader.step(Message(MESSAGE_APPEND_ANSWER, node_id, 1, 2, index=index))
    assert (leader.raft.log.commit_index == index) == is_committed


@pytest.mark.parametrize(("granting", "wins"), [([2], False), ([4, 5], False), ([2, 4], True)])
def test_joint_consensus_elects_by_both_majorities(granting, wins):
    """D 4.3, for elections."""
    cluster = Cluster([1, 2, 3], strangers=[4, 5])
    cluster.elect(1)
    change(cluster, "joint r2 r3 v4 v5")
    cluster[1].crash()
    cluster[1].restart()
    cluster[1].campaign()
    for node_id in (2, 4, 5):
        cluster[1].step(Message(MESSAGE_PRE_VOTE_ANSWER, node_id, 1, 3))
    cluster[1].sync_all()
    assert cluster[1].raft.role == ROLE_CANDIDATE
    for node_id in granting:
        cluster[1].step(Message(MESSAGE_VOTE_ANSWER, node_id, 1, 3))
    assert cluster[1].is_leader == wins


def test_a_smaller_configuration_may_commit_what_waited():
    """Guard: `_advance_commit` in `configure`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.propose(b"simple r3", ENTRY_CONFIGURATION)
    waiting = leader.propose(b"x")
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=waiting - 1))
    leader.sync_all()
    assert str(leader.raft.configuration) == "voters=(1 2)"
    assert leader.raft.log.commit_index == waiting - 1
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=waiting))
    assert leader.raft.log.commit_index == waiting
    leader.propose(b"simple r2", ENTRY_CONFIGURATION)
    alone = leader.propose(b"y")
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=alone - 1))
    leader.sync_all()
    assert leader.raft.log.commit_index == alone, "alone now, and its disk had it already"


def test_who_left_is_sent_nothing_more_and_who_joined_is_asked():
    """Guard: `track` in `configure`."""
    cluster = Cluster([1, 2, 3], strangers=[4])
    leader = cluster.elect(1)
    change(cluster, "joint r3 v4")
    leader.propose(b"leave", ENTRY_CONFIGURATION)
    while leader.raft.change_is_pending:
        assert cluster.deliver() or [server.sync() for server in cluster.servers.values()]
    assert leader.raft.progress_of(2).match_index == leader.raft.log.last_index, "still known"
    cluster.settle()
    leader.tick(6)
    assert {message.to_id for message in cluster.drop()} == {2, 4}
    assert leader.raft.progress_of(3) is None and leader.raft.progress_of(4) is not None
    assert cluster[4].applied == leader.applied


def test_a_transfer_to_one_who_is_no_voter_any_more_is_given_up():
    """Guard: `_transfer_id` in `configure`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    index = leader.propose(b"simple r3", ENTRY_CONFIGURATION)
    cluster.cut(3)
    leader.raft.transfer_to(3)
    assert leader.raft.is_transferring
    cluster.settle()
    assert leader.raft.configured_index == index and not leader.raft.is_transferring


def test_a_removed_node_that_was_not_told_disturbs_nobody():
    """D 4.2.3: servers that are not in the new configuration can disrupt it. Guard: I8."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster.cut(3)
    change(cluster, "simple r3")
    cluster.heal()
    cluster.tick(5 * ELECTION_TICKS_MAX)
    assert leader.is_leader and leader.raft.term == 2
    assert str(cluster[3].raft.configuration) == "voters=(1 2 3)"


def test_the_last_word_of_a_leader_that_removed_itself_is_found_by_who_is_left():
    """I9: node 1 left with an entry more than node 2 has, and without telling it that the change
    is committed; by the old configuration, 2 needs the vote of 1, whose log is longer. Guard:
    `commit_to` in `_take_vote`."""
    cluster = Cluster([1, 2])
    leader = cluster.elect(1)
    leader.propose(b"simple r1", ENTRY_CONFIGURATION)
    cluster.deliver()
    cluster[2].sync_all()
    leader.propose(b"x")
    leader.sync_all()
    [answer] = cluster.drop(lambda message: message.kind == MESSAGE_APPEND_ANSWER)
    cluster.drop()
    leader.step(answer)
    leader.sync_all()
    cluster.drop()
    assert leader.raft.role == ROLE_FOLLOWER and leader.raft.configured_index == 3
    assert len(leader.disk.entries) == 4 and len(cluster[2].disk.entries) == 3
    assert cluster[2].raft.log.commit_index == 2
    cluster.tick(3 * ELECTION_TICKS_MAX)
    assert cluster[2].is_leader and str(cluster[2].raft.configuration) == "voters=(2)"


@pytest.mark.parametrize(("commit_index", "log_term", "learnt"), [
    (2, 1, 2), (2, 2, 1), (3, 1, 1), (1, 1, 1),
])
def test_what_an_answer_says_is_committed_is_believed_only_of_the_same_entry(
        commit_index, log_term, learnt):
    """I9. Guard: `term_of` in `_take_vote`."""
    cluster = Cluster([1, 2, 3])
    entry = Entry(2, 1, ENTRY_COMMAND, b"")
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, entries=(entry,)))
    cluster[2].campaign()
    cluster[2].step(Message(MESSAGE_PRE_VOTE_ANSWER, 3, 2, 2, commit_index=commit_index,
                            log_term=log_term))
    assert cluster[2].raft.log.commit_index == learnt


def test_a_disk_that_went_back_in_time_is_noticed():
    """A leader tells a commit index only up to what was acknowledged. Guard: the first
    condition of `_on_heartbeat`."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster[2].crash()
    del cluster[2].disk.entries[1:]
    cluster[2].restart()
    words = ("node 0000000000000002 once acknowledged entry 2, says the leader "
             "0000000000000001 of term 2, and its log ends at entry 1; empty its data directory")
    with pytest.raises(DiskWentBack, match=words):
        cluster[2].step(Message(MESSAGE_HEARTBEAT, 1, 2, 2, commit_index=2))


def test_a_lone_voter_with_a_learner_leads_by_itself():
    """Guard: `voter_ids` in `tick`: what makes it lone is who votes."""
    cluster = Cluster([1], learners=[2])
    cluster.tick(2)
    assert cluster[1].is_leader
    cluster[1].propose(b"x")
    cluster.settle()
    assert cluster[2].applied == cluster[1].applied
    cluster.cut(2)
    cluster.tick(3 * ELECTION_TICKS_MAX)
    assert cluster[1].is_leader and cluster[1].raft.term == 2
