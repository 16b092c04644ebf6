"""The claims of the Raft paper, a test for each, on machines in memory.

"§" is a section of the paper (In Search of an Understandable Consensus Algorithm, extended
version), "D" one of the dissertation (Consensus: Bridging Theory and Practice), whose other claims
are in test_raft_dissertation.py. Each test names the guard without which it fails.
"""

import pytest

from raft_cluster import FOUNDING, Cluster, cluster_of, kinds, log_of, places
from seafoam._core import limits
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_EMPTY,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_HEARTBEAT_ANSWER,
    MESSAGE_PRE_VOTE,
    MESSAGE_PRE_VOTE_ANSWER,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    Entry,
    HardState,
    Message,
)
from seafoam._core.raft import (
    ROLE_CANDIDATE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    ROLE_PRE_CANDIDATE,
    Raft,
)
from seafoam.errors import InvariantBroken

HEARTBEAT_TICKS = limits.HEARTBEAT_MS // limits.TICK_MS
ELECTION_TICKS_MIN = limits.ELECTION_MS_MIN // limits.TICK_MS
ELECTION_TICKS_MAX = limits.ELECTION_MS_MAX // limits.TICK_MS


# -- §5.1: terms ---------------------------------------------------------------------------------

@pytest.mark.parametrize("role", [ROLE_FOLLOWER, ROLE_CANDIDATE, ROLE_LEADER])
def test_whoever_sees_a_later_term_becomes_a_follower_in_it(role):
    """§5.1: a server whose term is out of date adopts the larger one; a leader or candidate
    reverts to follower. Guard: `become_follower` in `_adopt_term`."""
    cluster = Cluster([1, 2, 3])
    server = cluster[1]
    if role == ROLE_CANDIDATE:
        server.campaign()
        cluster.deliver()
        cluster.deliver()
        cluster.deliver()
    elif role == ROLE_LEADER:
        cluster.elect(1)
    assert server.raft.role == role
    server.step(Message(MESSAGE_APPEND, 2, 1, 9, index=1, log_term=1))
    assert (server.raft.role, server.raft.term) == (ROLE_FOLLOWER, 9)
    assert server.raft.leader_id == 2 and server.raft.vote == 0


@pytest.mark.parametrize("kind", range(11))
def test_a_message_of_an_earlier_term_changes_nothing(kind):
    """§5.1: a request with a stale term is rejected. Guard: the third branch of `step`."""
    for node_id in (1, 2):
        cluster = Cluster([1, 2, 3])
        cluster.elect(1)
        raft = cluster[node_id].raft
        before = repr(raft), raft.leader_id, raft.is_transferring
        cluster[node_id].step(Message(kind, 3, node_id, 1, index=1, log_term=1, context=7))
        assert (repr(raft), raft.leader_id, raft.is_transferring) == before
        assert cluster[node_id].reads == []


@pytest.mark.parametrize(("kind", "answer"), [
    (MESSAGE_APPEND, MESSAGE_APPEND_ANSWER), (MESSAGE_HEARTBEAT, MESSAGE_HEARTBEAT_ANSWER),
    (MESSAGE_VOTE, MESSAGE_VOTE_ANSWER), (MESSAGE_PRE_VOTE, MESSAGE_PRE_VOTE_ANSWER),
])
def test_who_leads_or_campaigns_in_an_earlier_term_is_told_the_later_one(kind, answer):
    """§5.1: the answer carries the current term, for the sender to update itself. Guard:
    `_correct`."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster[2].step(Message(kind, 3, 2, 1, index=1, log_term=1))
    [told] = cluster.drop()
    assert (told.kind, told.to_id, told.term) == (answer, 3, 2)


def test_terms_never_go_back_across_a_restart():
    """§5.1, figure 2: current term and vote are on disk before anything is answered. Guard:
    `_messages_after_durable` in `_on_vote`."""
    cluster = Cluster([1, 2, 3])
    vote = Message(MESSAGE_VOTE, 1, 2, 5, index=1, log_term=1)
    cluster[2].step(vote)
    assert cluster.drop() == [], "not before it is on disk"
    cluster[2].sync()
    [answer] = cluster.drop()
    assert (answer.kind, answer.term, answer.is_rejected) == (MESSAGE_VOTE_ANSWER, 5, False)
    cluster[2].crash()
    cluster[2].restart()
    assert (cluster[2].raft.term, cluster[2].raft.vote) == (5, 1)


# -- §5.2: elections -----------------------------------------------------------------------------

def test_all_start_as_followers():
    """§5.2: when servers start up, they begin as followers."""
    cluster = Cluster([1, 2, 3])
    assert {server.raft.role for server in cluster.servers.values()} == {ROLE_FOLLOWER}


def test_a_leader_sends_heartbeats_to_all():
    """§5.2: to keep its authority. Guard: `_send_heartbeats` in `_tick_leader`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.tick(HEARTBEAT_TICKS - 1)
    assert [message for message in cluster.drop() if message.kind == MESSAGE_HEARTBEAT] == []
    leader.tick()
    heartbeats = [message for message in cluster.drop() if message.kind == MESSAGE_HEARTBEAT]
    assert [message.to_id for message in heartbeats] == [2, 3]


@pytest.mark.parametrize("seed", range(20))
def test_a_follower_that_hears_nobody_campaigns_within_the_timeout(seed):
    """§5.2: if a follower receives no communication over an election timeout. Guard: the
    comparison in `tick`."""
    cluster = Cluster([1, 2, 3], seed=seed)
    server = cluster[2]
    server.tick(ELECTION_TICKS_MIN - 1)
    assert server.raft.role == ROLE_FOLLOWER
    server.tick(ELECTION_TICKS_MAX - ELECTION_TICKS_MIN + 1)
    assert server.raft.role == ROLE_PRE_CANDIDATE


def test_a_follower_that_hears_its_leader_does_not_campaign():
    """§5.2: a server remains a follower as long as it receives valid messages from a leader.
    Guard: the timer in `_follow`."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    cluster.tick(10 * ELECTION_TICKS_MAX)
    assert cluster[1].is_leader and cluster[1].raft.term == 2


def test_a_candidate_raises_its_term_votes_for_itself_and_asks_all():
    """§5.2: increments its current term, votes for itself and issues RequestVote to each of the
    others. Here it asks after its own sync. Guard: `become_candidate`, the list `_stand` uses."""
    cluster = Cluster([1, 2, 3])
    server = cluster[1]
    server.campaign()
    cluster.deliver()
    cluster.deliver()
    cluster.deliver()
    assert (server.raft.role, server.raft.term, server.raft.vote) == (ROLE_CANDIDATE, 2, 1)
    cluster.drop()
    server.sync()
    asked = cluster.drop()
    assert kinds(asked) == [MESSAGE_VOTE] * 2 and [message.to_id for message in asked] == [2, 3]
    assert {(message.term, message.index, message.log_term) for message in asked} == {(2, 1, 1)}


@pytest.mark.parametrize(("size", "granting", "refusing", "role"), [
    (3, [2], [], ROLE_LEADER), (3, [], [2, 3], ROLE_FOLLOWER), (3, [], [2], ROLE_CANDIDATE),
    (5, [2, 3], [], ROLE_LEADER), (5, [2], [3, 4], ROLE_CANDIDATE),
    (5, [2], [3, 4, 5], ROLE_FOLLOWER), (5, [2, 2, 2], [], ROLE_CANDIDATE),
    (4, [2], [3], ROLE_CANDIDATE), (4, [2, 3], [4], ROLE_LEADER),
])
def test_a_candidate_wins_with_a_majority_of_the_whole_cluster(size, granting, refusing, role):
    """§5.2: it wins with votes from a majority for the same term, each counted once. Guard:
    `vote_result` in `_count_votes`, by node and not by message."""
    cluster = Cluster(range(1, size + 1))
    server = cluster[1]
    server.campaign()
    for other in range(2, size + 1):
        server.step(Message(MESSAGE_PRE_VOTE_ANSWER, other, 1, 2))
    server.sync_all()
    for answers, is_rejected in ((granting, False), (refusing, True)):
        for other in answers:
            server.step(Message(MESSAGE_VOTE_ANSWER, other, 1, 2, is_rejected=is_rejected))
    assert server.raft.role == role


def test_a_vote_of_an_earlier_campaign_does_not_count():
    """§5.2: votes for the same term. Guard: `step`'s comparison of terms."""
    cluster = Cluster([1, 2, 3])
    server = cluster[1]
    for _ in range(2):
        server.campaign()
        server.step(Message(MESSAGE_PRE_VOTE_ANSWER, 2, 1, server.raft.term + 1))
        server.sync_all()
    assert (server.raft.role, server.raft.term) == (ROLE_CANDIDATE, 3)
    server.step(Message(MESSAGE_VOTE_ANSWER, 2, 1, 2))
    assert server.raft.role == ROLE_CANDIDATE


def test_a_server_votes_once_a_term_first_come_first_served():
    """§5.2: at most one candidate in a given term, and again for the same one. Guard: `is_free` in
    `_on_vote`."""
    cluster = Cluster([1, 2, 3])
    answers = []
    for candidate in (1, 3, 1):
        cluster[2].step(Message(MESSAGE_VOTE, candidate, 2, 2, index=1, log_term=1))
        cluster[2].sync_all()
        answers += [(message.to_id, message.is_rejected) for message in cluster.drop()]
    assert answers == [(1, False), (3, True), (1, False)]


def test_a_vote_given_again_still_waits_for_the_first_sync():
    """§5.2 with figure 2: a repeated request finds the vote in memory, and it may yet be lost.
    Guard: `_issued_number == _reported_number` in `ready`."""
    cluster = Cluster([1, 2, 3])
    for _ in range(2):
        cluster[2].step(Message(MESSAGE_VOTE, 1, 2, 2, index=1, log_term=1))
    assert cluster.drop() == []
    cluster[2].sync()
    assert kinds(cluster.drop()) == [MESSAGE_VOTE_ANSWER] * 2


@pytest.mark.parametrize("kind", [MESSAGE_APPEND, MESSAGE_HEARTBEAT])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_candidate_that_hears_a_leader_of_its_term_follows_it(kind, steps):
    """§5.2: if the leader's term is at least as large as its own, it is legitimate. Guard:
    `_follow`."""
    cluster = Cluster([1, 2, 3])
    server = cluster[1]
    server.campaign()
    for _ in range(steps):
        cluster.deliver()
    assert server.raft.role in (ROLE_PRE_CANDIDATE, ROLE_CANDIDATE)
    term = server.raft.term
    server.step(Message(kind, 3, 1, term))
    assert (server.raft.role, server.raft.leader_id, server.raft.term) == (ROLE_FOLLOWER, 3, term)


def test_split_votes_are_resolved_by_random_timeouts():
    """§5.2: timeouts are drawn from a fixed interval, so that split votes are rare and resolved
    quickly. Guard: the luck in `_restart_timer`."""
    timeouts = set()
    for seed in range(50):
        cluster = Cluster([1, 2, 3, 4, 5], seed=seed)
        waited = 0
        while cluster[1].raft.role == ROLE_FOLLOWER:
            cluster[1].tick()
            waited += 1
        timeouts.add(waited)
        cluster = Cluster([1, 2, 3, 4, 5], seed=seed)
        cluster.tick(3 * ELECTION_TICKS_MAX)
        assert cluster.leader()
    assert len(timeouts) > 15 and min(timeouts) >= ELECTION_TICKS_MIN
    assert max(timeouts) <= ELECTION_TICKS_MAX


def test_a_candidate_that_crashes_never_asks_twice_in_one_term():
    """§5.2 with figure 2: had it asked before its term was on disk, it could ask again with the
    shorter log that survived, and be elected by answers about the longer one. Guard: I1."""
    cluster = cluster_of({1: [FOUNDING], 2: log_of(1, 1), 3: log_of(1, 1)}, term=1)
    server = cluster[1]
    server.step(Message(MESSAGE_APPEND, 2, 1, 1, index=1, log_term=1, entries=(log_of(1)[1],)))
    server.campaign()
    server.step(Message(MESSAGE_PRE_VOTE_ANSWER, 3, 1, 2))
    cluster.drop(lambda message: message.kind == MESSAGE_PRE_VOTE)
    assert (server.raft.role, server.raft.term) == (ROLE_CANDIDATE, 2)
    assert cluster.network == [] and len(server.disk.entries) == 1
    for voter in (2, 3):
        server.step(Message(MESSAGE_VOTE_ANSWER, voter, 1, 2))
    assert server.raft.role == ROLE_CANDIDATE, "nor is it elected before"
    server.sync_all()
    assert server.is_leader and places(server.disk.entries[:2]) == places(log_of(1))
    assert kinds(cluster.drop(lambda message: message.kind == MESSAGE_VOTE)) == [MESSAGE_VOTE] * 2


def test_a_slow_disk_leads_to_one_campaign_not_to_many():
    """§5.2: a candidate starts over when the timeout passes, but not before its own vote could
    count. Guard: the second return in `tick`."""
    cluster = Cluster([1, 2, 3])
    server = cluster[1]
    server.campaign()
    server.step(Message(MESSAGE_PRE_VOTE_ANSWER, 2, 1, 2))
    server.tick(5 * ELECTION_TICKS_MAX)
    assert (server.raft.role, server.raft.term) == (ROLE_CANDIDATE, 2)
    server.sync_all()
    server.tick()
    assert server.raft.role == ROLE_PRE_CANDIDATE


# -- §5.3: log replication -----------------------------------------------------------------------

def test_a_leader_appends_and_sends_in_parallel_with_its_own_disk():
    """§5.3 and D 10.2.1: the leader appends the command and issues AppendEntries; it may write in
    parallel. Guard: `messages`, not `messages_after_durable`, for appends."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.propose(b"x")
    assert kinds(cluster.network) == [MESSAGE_APPEND] * 2 and len(leader.disk.writes) == 1


def test_an_append_names_the_entry_before_and_the_commit_index():
    """§5.3: index and term of the entry that precedes the new ones, and the highest index known to
    be committed."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    leader.propose(b"x")
    message = cluster.network[0]
    assert (message.index, message.log_term, message.commit_index) == (2, 2, 2)
    assert message.entries == (Entry(3, 2, ENTRY_COMMAND, b"x"),)


@pytest.mark.parametrize(("size", "holding", "is_committed"), [
    (3, 1, True), (3, 0, False), (5, 1, False), (5, 2, True), (4, 1, False), (4, 2, True),
])
def test_an_entry_is_committed_once_a_majority_has_it(size, holding, is_committed):
    """§5.3: a log entry is committed once the leader that created it has replicated it on a
    majority of the servers. Guard: `committed_index` in `_advance_commit`."""
    cluster = Cluster(range(1, size + 1))
    leader = cluster.elect(1)
    index = leader.propose(b"x")
    leader.sync_all()
    for other in range(2, 2 + holding):
        leader.step(Message(MESSAGE_APPEND_ANSWER, other, 1, leader.raft.term, index=index))
    assert (leader.raft.log.commit_index == index) == is_committed
    assert (leader.applied[-1].index == index) == is_committed


def test_the_leader_counts_itself_only_when_its_disk_has_it():
    """D 10.2.1: it may commit without itself, and may not count itself before. Guard: I2, the
    durable index in `acknowledged`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    index = leader.propose(b"x")
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=index))
    assert leader.raft.log.commit_index == index - 1
    leader.step(Message(MESSAGE_APPEND_ANSWER, 3, 1, 2, index=index))
    assert leader.raft.log.commit_index == index
    assert leader.applied[-1].index == index - 1, "committed, but not on this disk"
    leader.sync()
    assert leader.applied[-1].index == index


def test_a_follower_acknowledges_only_what_its_disk_has():
    """§5.3, figure 2: stable storage before responding. Guard: I2, `_messages_after_durable` in
    `_on_append`."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1).propose(b"x")
    cluster.drop(lambda message: message.to_id == 3)
    cluster.deliver()
    assert cluster.network == []
    cluster[2].sync()
    [answer] = cluster.network
    assert (answer.kind, answer.index, answer.is_rejected) == (MESSAGE_APPEND_ANSWER, 3, False)


def test_followers_apply_what_the_leader_has_committed_in_log_order():
    """§5.3: once a follower learns that an entry is committed, it applies it, in log order.
    Guard: `commit_to` in `_on_append`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    for number in range(10):
        leader.propose(b"%d" % number)
    cluster.settle()
    for server in cluster.servers.values():
        assert [entry.data for entry in server.applied[2:]] == [b"%d" % n for n in range(10)]


def test_each_advance_of_the_commit_index_is_sent_at_once():
    """§5.3: future AppendEntries carry the commit index, so that the others find out; here it does
    not wait for one. Guard: `told_commit_index` in `_send_to`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    index = leader.propose(b"x")
    cluster.settle()
    assert [server.applied[-1].index for server in cluster.servers.values()] == [index] * 3


def test_a_commit_index_reaches_no_further_than_what_was_verified():
    """§5.3, figure 2: commitIndex is the lesser of leaderCommit and the index of the last new
    entry. Guard: `min` in `_on_append`."""
    logs = {1: log_of(1, 1, 1), 2: log_of(1, 1, 1), 3: log_of(1, 1, 1)}
    cluster = cluster_of(logs, term=2)
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 2, index=2, log_term=1, commit_index=4))
    assert cluster[2].raft.log.commit_index == 2


@pytest.mark.parametrize(("index", "log_term", "is_rejected"), [
    (1, 1, False), (2, 1, False), (3, 2, False), (3, 1, True), (3, 3, True), (4, 2, True),
    (9, 3, True),
])
def test_an_append_is_refused_unless_the_entry_before_it_is_there(index, log_term, is_rejected):
    """§5.3: if the follower does not find an entry with that index and term, it refuses the new
    ones (the consistency check). Guard: `agrees` in `_on_append`."""
    cluster = cluster_of({1: [FOUNDING], 2: log_of(1, 2), 3: [FOUNDING]}, term=3)
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 3, index=index, log_term=log_term))
    cluster[2].sync_all()
    [answer] = cluster.drop()
    assert answer.is_rejected == is_rejected and answer.index == index


@pytest.mark.parametrize(("index", "log_term", "terms", "after"), [
    (3, 2, [(4, 3)], [1, 2, 3]),               # behind what there is
    (2, 1, [(3, 3)], [1, 3]),                  # in place of it
    (1, 1, [(2, 3), (3, 3)], [3, 3]),          # and of all of it
    (1, 1, [(2, 1)], [1, 2]),                  # nothing new: what follows stays
    (1, 1, [(2, 1), (3, 2), (4, 3)], [1, 2, 3]),
    (1, 1, [(2, 1), (3, 3)], [1, 3]),
    (1, 1, [], [1, 2]),
])
def test_conflicting_entries_are_replaced_and_others_stay(index, log_term, terms, after):
    """§5.3, figure 2: if an existing entry conflicts with a new one, delete it and all that follow
    it; append those not already in the log. Guard: the comparison in `RaftLog.accept`."""
    cluster = cluster_of({1: [FOUNDING], 2: log_of(1, 2), 3: [FOUNDING]}, term=3)
    entries = tuple(Entry(at, term, ENTRY_COMMAND, b"%d" % at) for at, term in terms)
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 3, index=index, log_term=log_term,
                            entries=entries))
    cluster[2].sync_all()
    assert places(cluster[2].disk.entries) == places(log_of(*after))
    assert cluster.drop()[-1].index == index + len(entries)


#: Figure 7: the logs of possible followers when the leader of term 8 comes to power; terms from
#: index 2 on, one more than in the figure.
FIGURE_7 = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}
LEADER_OF_FIGURE_7 = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]


@pytest.mark.parametrize("name", sorted(FIGURE_7))
def test_a_leader_brings_every_log_of_figure_7_in_line_with_its_own(name):
    """§5.3: it forces followers' logs to duplicate its own. Guard: `rejected` in
    `Replication.answered`."""
    cluster = cluster_of({1: log_of(*LEADER_OF_FIGURE_7), 2: log_of(*FIGURE_7[name]),
                          3: [FOUNDING]}, term=7)
    cluster.elect(1)
    assert cluster[1].raft.term == 8
    assert cluster[2].disk.entries == cluster[1].disk.entries
    assert cluster[3].disk.entries == cluster[1].disk.entries
    assert cluster[2].applied == cluster[1].applied and len(cluster[1].applied) == 12


def test_back_off_takes_a_round_a_term_not_an_entry():
    """§5.3: the protocol can be optimized to bypass all conflicting entries of a term. Guard:
    `hint_index`, by `agreeing_index` on both sides."""
    cluster = cluster_of({1: log_of(1, *[4] * 500), 2: log_of(1, *[2] * 300, *[3] * 100),
                          3: [FOUNDING]}, term=5)
    refused = []
    cluster.tell = lambda line: refused.append(line) if "rejected hint" in line else None
    cluster.cut(3)
    cluster.tick(2 * ELECTION_TICKS_MAX)
    while not cluster[1].is_leader:  # 2 cannot win
        cluster.tick()
    cluster.settle()
    assert cluster[2].disk.entries == cluster[1].disk.entries
    assert 1 <= len(refused) <= 3


def test_a_leader_never_overwrites_its_own_log():
    """§5.3: Leader Append-Only. A second leader of a term is no sequence of messages but a broken
    promise. Guard: `_on_append_of_another`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    with pytest.raises(InvariantBroken, match="term 2 has two leaders, 1 and 3"):
        leader.step(Message(MESSAGE_APPEND, 3, 1, 2, index=1, log_term=1,
                            entries=(Entry(2, 2, ENTRY_COMMAND, b"other"),)))


def test_a_follower_sees_two_leaders_of_one_term():
    """§5.2: at most one leader in a given term. Guard: `ensure` in `_follow`."""
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    with pytest.raises(InvariantBroken, match="term 2 has two leaders, 1 and 3"):
        cluster[2].step(Message(MESSAGE_HEARTBEAT, 3, 2, 2))


# -- §5.4: safety --------------------------------------------------------------------------------

@pytest.mark.parametrize(("own", "asked", "is_rejected"), [
    ([1], (2, 1), False), ([1], (3, 1), False), ([1, 1], (2, 1), True),
    ([1], (2, 2), False), ([1, 1], (2, 2), False), ([2], (3, 1), True), ([2], (9, 1), True),
])
def test_a_vote_goes_to_a_log_that_is_at_least_as_up_to_date(own, asked, is_rejected):
    """§5.4.1: later last terms, then longer logs, are more up to date. Guard: `_is_up_to_date`,
    for votes and before them."""
    index, log_term = asked
    cluster = cluster_of({1: [FOUNDING], 2: log_of(*own), 3: [FOUNDING]}, term=3)
    for kind in (MESSAGE_PRE_VOTE, MESSAGE_VOTE):
        cluster[2].step(Message(kind, 1, 2, 4, index=index, log_term=log_term))
        cluster[2].sync_all()
        [answer] = cluster.drop()
        assert answer.is_rejected == is_rejected


def test_entries_of_an_earlier_term_are_not_committed_by_counting():
    """§5.4.2, figure 8: only entries of the leader's own term are. Guard: I3."""
    cluster = cluster_of({1: log_of(2), 2: log_of(2), 3: [FOUNDING]}, term=3)
    leader = cluster[1]
    leader.campaign()
    cluster.cut(3)
    while not leader.is_leader:
        leader.sync_all()
        cluster[2].sync_all()
        assert cluster.deliver()
    cluster.drop()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 4, index=2))
    leader.step(Message(MESSAGE_APPEND_ANSWER, 3, 1, 4, index=2))
    assert leader.raft.log.commit_index == 1, "all three have entry 2, of term 2"
    leader.sync_all()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 4, index=3))
    assert leader.raft.log.commit_index == 3 and leader.raft.log.term_of(2) == 2


def test_a_committed_entry_is_never_replaced():
    """§5.4.3, Leader Completeness and State Machine Safety: no leader lacks it, so whoever says so
    is not to be believed. Guard: `commit_index` in `RaftLog.accept` and in `_on_append`."""
    cluster = cluster_of({1: [FOUNDING], 2: log_of(1, 1), 3: [FOUNDING]}, term=3, commit=1)
    cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 3, index=3, log_term=1, commit_index=3))
    other = Entry(3, 3, ENTRY_COMMAND, b"other")
    with pytest.raises(InvariantBroken, match="entry 3 is committed here with term 1, and the "
                                              "leader has it with term 3"):
        cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 3, index=2, log_term=1, entries=(other,)))
    with pytest.raises(InvariantBroken, match="entry 3 is committed here with term 1, and the "
                                              "leader 1 of term 3 has it with term 2"):
        cluster[2].step(Message(MESSAGE_APPEND, 1, 2, 3, index=3, log_term=2))


# -- §5.5, §5.6: crashes and time ----------------------------------------------------------------

def test_messages_that_come_twice_do_no_harm():
    """§5.5: Raft RPCs are idempotent."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    twice = []
    cluster.send = lambda message: twice.extend([message, message])
    cluster.network = twice
    for number in range(5):
        leader.propose(b"%d" % number)
    cluster.settle()
    logs = [server.disk.entries for server in cluster.servers.values()]
    assert logs[0] == logs[1] == logs[2] and len(logs[0]) == 7


def test_a_crashed_follower_is_sent_what_it_missed():
    """§5.5: if a follower crashes, AppendEntries is retried until it restarts. Guard:
    `must_ask`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    cluster[3].crash()
    for number in range(20):
        leader.propose(b"%d" % number)
    cluster.tick(HEARTBEAT_TICKS)
    cluster[3].restart()
    cluster.tick(3 * HEARTBEAT_TICKS)
    assert cluster[3].applied == leader.applied and leader.raft.term == 2


# -- §8: clients ---------------------------------------------------------------------------------

def test_a_leader_begins_its_term_with_an_empty_entry():
    """§8: to know which entries are committed. Guard: `append` in `become_leader`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    assert leader.disk.entries[-1] == Entry(2, 2, ENTRY_EMPTY, b"")
    assert leader.raft.read_floor_index == 2


def test_a_stranger_counts_for_nothing():
    """§5.2 and §6: a majority is one of the configuration's servers. Guard: `vote_result` and
    `committed_index` look at voters only, `progress_of` knows members only."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    index = leader.propose(b"x")
    leader.sync_all()
    for kind in (MESSAGE_APPEND_ANSWER, MESSAGE_HEARTBEAT_ANSWER):
        leader.step(Message(kind, 9, 1, 2, index=index))
    assert leader.raft.log.commit_index == index - 1


def test_a_machine_is_restored_from_its_disk_alone():
    """Figure 2: what is persistent, and nothing else. Guard: `Raft.__cinit__`."""
    raft = Raft(2, HardState(5, 3, 1), log_of(2, 4), seed=1)
    assert (raft.term, raft.vote, raft.role, raft.leader_id) == (5, 3, ROLE_FOLLOWER, 0)
    assert raft.log.last_index == raft.log.durable_index == 3 and raft.log.commit_index == 1
