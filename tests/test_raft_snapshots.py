"""Snapshots in place of a log: a machine that begins at one, sends one, is restored from one.

"§7" is that section of the Raft paper (extended version). Each test names the guard without which
it fails.
"""

import pytest

from raft_cluster import FOUNDING, Cluster, cluster_of, log_of
from raft_disk import Base
from seafoam._core import limits
from seafoam._core.confchange import Configuration
from seafoam._core.log import RaftLog
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    Entry,
    HardState,
    Message,
)
from seafoam._core.progress import PROGRESS_PROBE, PROGRESS_REPLICATE, PROGRESS_SNAPSHOT
from seafoam._core.raft import ROLE_FOLLOWER, ROLE_LEADER, Raft
from seafoam.errors import InvariantBroken

HEARTBEAT_TICKS = limits.HEARTBEAT_MS // limits.TICK_MS
THREE = Configuration([1, 2, 3])


def tail(first: int, *terms: int) -> list[Entry]:
    return [Entry(index, term, ENTRY_COMMAND, b"%d" % index)
            for index, term in enumerate(terms, first)]


def restored(entries=(), *, hard_state=None, base=(10, 3)) -> Raft:
    """A machine whose disk holds a snapshot of entry 10, of term 3."""
    return Raft(2, hard_state or HardState(4, 0, 10), list(entries), seed=1, base=base,
                configuration=THREE, configured_index=7)


def positions(log: RaftLog) -> tuple[int, ...]:
    return (log.first_index, log.applied_index, log.applying_index, log.commit_index,
            log.recorded_commit_index, log.durable_index, log.written_index, log.last_index)


# -- a log that begins behind a base -------------------------------------------------------------

def test_a_machine_begins_where_its_snapshot_ends():
    """§7: the snapshot replaces the entries up to its last. Guard: `base` in `RaftLog`."""
    raft = restored(tail(11, 3, 4))
    assert positions(raft.log) == (11, 10, 10, 10, 10, 12, 12, 12)
    assert (raft.configuration, raft.configured_index) == (THREE, 7)
    assert [raft.log.term_of(index) for index in (10, 11, 12)] == [3, 3, 4]
    assert not raft.has_ready(), "nothing of what the snapshot has is applied again"


def test_a_snapshot_is_committed_and_recorded_whatever_the_hard_state_says():
    """Guard: `max` in `RaftLog.__cinit__`."""
    log = restored(hard_state=HardState(3, 0, 4)).log
    assert (log.commit_index, log.recorded_commit_index) == (10, 10)


def test_a_commit_index_above_the_base_stands():
    log = restored(tail(11, 4, 4), hard_state=HardState(4, 0, 11)).log
    assert (log.commit_index, log.applied_index) == (11, 10)


@pytest.mark.parametrize(("entries", "base", "words"), [
    (tail(12, 4), (10, 3), "jumps to index 12 where 11 is due"),
    (tail(10, 3), (10, 3), "jumps to index 10 where 11 is due"),
    (tail(11, 2), (10, 3), "cannot follow a later term's"),
    ([], (10, 0), "there is no entry 10@0"),
    (tail(1, *[3] * 12), (0, 0), "has its configuration, no other has one"),
])
def test_a_recovered_state_that_cannot_be_is_refused(entries, base, words):
    with pytest.raises(InvariantBroken, match=words):
        restored(entries, base=base)


def test_what_configures_a_restored_machine_is_not_behind_its_base():
    """Guard: the range in `_put_in_force`."""
    with pytest.raises(InvariantBroken, match="entry 11 cannot configure between 0 and 10"):
        Raft(2, HardState(4, 0, 10), [], seed=1, base=(10, 3), configuration=THREE,
             configured_index=11)


def test_a_snapshot_may_be_durable_before_the_term_it_came_in():
    """What was voted in that term would have been synced. Guard: `base_term` in `__cinit__`."""
    raft = restored(hard_state=HardState(2, 3, 5))
    assert (raft.term, raft.vote) == (3, 0)
    assert raft.ready(0).hard_state == HardState(3, 0, 10)


@pytest.mark.parametrize(("index", "log_term", "is_granted"), [
    (10, 3, True), (9, 3, False), (99, 2, False), (1, 4, True),
])
def test_an_empty_log_votes_by_its_base(index, log_term, is_granted):
    """§5.4.1 with §7: the base stands for the last entry. Guard: `_before_term`."""
    raft = restored()
    raft.step(Message(MESSAGE_VOTE, 3, 2, 5, index=index, log_term=log_term))
    ready = raft.ready(0)
    [answer] = ready.messages_after_durable
    assert answer == Message(MESSAGE_VOTE_ANSWER, 2, 3, 5, is_rejected=not is_granted,
                             commit_index=10, log_term=3)


@pytest.mark.parametrize(("index", "log_term", "answer"), [
    (10, 3, {"index": 10}), (4, 1, {"index": 4}),
    (12, 4, {"index": 12, "is_rejected": True, "hint_index": 10, "hint_term": 3}),
])
def test_an_empty_log_agrees_with_its_base_and_with_what_is_before(index, log_term, answer):
    """§7: log matching needs the last included index and term. Guard: `agrees`."""
    raft = restored()
    raft.step(Message(MESSAGE_APPEND, 3, 2, 4, index=index, log_term=log_term))
    assert raft.ready(0).messages == [Message(MESSAGE_APPEND_ANSWER, 2, 3, 4, **answer)]


def test_a_leader_that_contradicts_the_base_is_not_believed():
    with pytest.raises(InvariantBroken, match="entry 10 is committed here with term 3"):
        restored().step(Message(MESSAGE_APPEND, 3, 2, 4, index=10, log_term=2))


def test_a_machine_alone_campaigns_from_its_snapshot():
    """I5: it was applied. Guard: `_start_commit_index`, `_put_in_force`."""
    raft = Raft(1, HardState(3, 0, 10), [], seed=1, base=(10, 3),
                configuration=Configuration([1]), configured_index=1)
    raft.tick()
    raft.durable(raft.ready(0).durable)
    assert raft.role == ROLE_LEADER
    ready = raft.ready(0)
    assert [(entry.index, entry.term) for entry in ready.entries] == [(11, 4)]
    raft.durable(ready.durable)
    assert [entry.index for entry in raft.ready(9).committed] == [11]


# -- who is sent a snapshot ----------------------------------------------------------------------

def beyond(dropped_index: int | None = None, kept_bytes_max: int = 0) -> Cluster:
    """Node 3 missed entries 3..22; the leader has a snapshot of 22, and dropped all before."""
    cluster = Cluster([1, 2, 3], kept_bytes_max=kept_bytes_max)
    leader = cluster.elect(1)
    cluster.cut(3)
    for number in range(20):
        leader.propose(b"%d" % number)
    cluster.settle()
    leader.begin_snapshot()
    leader.save_snapshot()
    leader.drop_log(21 if dropped_index is None else dropped_index)
    cluster.heal()
    return cluster


def state(cluster: Cluster, node_id: int = 3) -> tuple[int, int, int]:
    progress = cluster[1].raft.progress_of(node_id)
    return progress.state, progress.match_index, progress.next_index


def test_a_member_that_needs_what_was_dropped_is_sent_a_snapshot():
    """§7: the leader has discarded the next entry it needs to send. Guard: `_can_follow` in
    `_send_to`; `is_due` in `installed`."""
    cluster = beyond()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == [3] and state(cluster) == (PROGRESS_SNAPSHOT, 2, 3)
    cluster[1].propose(b"meanwhile")
    cluster.tick(4 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == [3], "it is listed once"
    assert cluster[3].raft.leader_id == 1 and cluster[3].raft.log.last_index == 2
    cluster.carry_snapshot(1)
    assert state(cluster) == (PROGRESS_PROBE, 22, 23)
    cluster.settle()
    assert state(cluster) == (PROGRESS_REPLICATE, 23, 24)
    assert cluster[3].applied == cluster[1].applied and len(cluster[1].applied) == 23


@pytest.mark.parametrize(("dropped_index", "wanted"), [(1, []), (2, [3])])
def test_what_was_not_dropped_comes_from_the_disk(dropped_index, wanted):
    """The entry before is needed too, for its term. Guard: `dropped_index` in `can_follow`."""
    cluster = beyond(dropped_index)
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == wanted
    assert (cluster[3].applied == cluster[1].applied) == (not wanted)


def test_the_term_of_the_base_is_remembered():
    """Memory let go of all, the disk's log begins there. Guard: `_dropped_term`."""
    cluster = beyond()
    cluster.tick(2 * HEARTBEAT_TICKS)
    cluster.carry_snapshot(1)
    cluster.settle()
    cluster.cut(3)
    cluster[1].restart()
    cluster.elect(1)
    for number in range(5):
        cluster[1].propose(b"%d" % number)
    cluster.settle()
    log = cluster[1].raft.log
    assert log.dropped_index == 22 == cluster[3].raft.log.last_index and log.first_index > 27
    cluster.heal()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == [] and cluster[3].applied == cluster[1].applied


def test_what_memory_holds_needs_no_snapshot():
    """Guard: `first_index` in `can_follow`."""
    cluster = beyond(kept_bytes_max=1 << 20)
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == [] and cluster[3].applied == cluster[1].applied


def test_a_newcomer_is_sent_a_snapshot():
    cluster = beyond()
    cluster.add(4, [], HardState(0, 0, 0))
    cluster[1].propose(b"simple l4", ENTRY_CONFIGURATION)
    cluster.settle()
    cluster.tick(HEARTBEAT_TICKS)
    assert 4 in cluster[1].snapshots
    while cluster[1].snapshots:
        cluster.carry_snapshot(1)
    cluster.settle()
    assert cluster[4].applied == cluster[3].applied == cluster[1].applied
    assert str(cluster[4].raft.configuration) == "voters=(1 2 3) learners=(4)"


def test_a_member_that_does_not_answer_is_sent_none():
    """Guard: `must_ask` and `may_send` where a log is lacking; `not_installed` asks first."""
    cluster = beyond()
    cluster.cut(3)
    cluster.tick(6 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == []
    cluster.heal()
    cluster.tick(2 * HEARTBEAT_TICKS)
    cluster.cut(3)
    cluster.carry_snapshot(1)
    assert state(cluster) == (PROGRESS_PROBE, 2, 23), "no more than a question, and no answer"
    cluster.tick(6 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == []
    cluster.heal()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].snapshots == [3]


def test_a_window_that_was_lost_ends_in_a_snapshot():
    """All in flight is gone, and so is what is to be sent again. Guard: `must_ask` in
    `_send_to`."""
    cluster = Cluster([1, 2, 3], kept_bytes_max=0)
    leader = cluster.elect(1)
    cluster.cut(3)
    for _ in range(limits.IN_FLIGHT_APPENDS_MAX + 5):
        leader.propose(b"x")
        cluster.settle()
    leader.begin_snapshot()
    leader.save_snapshot()
    leader.drop_log(leader.disk.snapshot.index - 1)
    assert not leader.raft.progress_of(3).in_flight_count < limits.IN_FLIGHT_APPENDS_MAX
    assert leader.snapshots == [], "nobody has asked"
    cluster.heal()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert leader.snapshots == [3]


def test_late_words_in_a_snapshots_time():
    """Guard: `answered`, `rejected` and `heartbeat_answered` in PROGRESS_SNAPSHOT."""
    cluster = beyond()
    cluster.tick(2 * HEARTBEAT_TICKS)
    leader = cluster[1]
    leader.step(Message(MESSAGE_APPEND_ANSWER, 3, 1, 2, index=9, is_rejected=True, hint_index=5,
                        hint_term=2))
    assert state(cluster) == (PROGRESS_SNAPSHOT, 2, 3) and leader.snapshots == [3]
    leader.step(Message(MESSAGE_APPEND_ANSWER, 3, 1, 2, index=7))
    assert state(cluster) == (PROGRESS_SNAPSHOT, 7, 8), "further, and not far enough"
    cluster.drop()
    leader.step(Message(MESSAGE_APPEND_ANSWER, 3, 1, 2, index=22))
    assert state(cluster) == (PROGRESS_PROBE, 22, 23)
    [append] = [message for message in cluster.network if message.to_id == 3]
    assert (append.kind, append.index, append.log_term) == (MESSAGE_APPEND, 22, 2)
    leader.raft.snapshot_sent(3, 10)
    leader.raft.snapshot_failed(3)
    assert state(cluster) == (PROGRESS_PROBE, 22, 23), "neither says anything new"


def test_an_installed_snapshot_acknowledges_what_it_has():
    """Guard: `_advance_commit` in `snapshot_sent`; the `ensure` in `installed`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster.elect(1)
    index = leader.propose(b"x")
    leader.sync_all()
    leader.raft.snapshot_sent(3, index)
    assert leader.raft.log.commit_index == index
    with pytest.raises(InvariantBroken, match="a snapshot of entry 99, the leader's log ends at"):
        leader.raft.snapshot_sent(3, 99)
    for told in (leader.raft, cluster[2].raft):
        told.snapshot_sent(9, 1)
        told.snapshot_failed(9)


def test_what_is_dropped_is_not_fetched_any_more():
    """An answer to the old question is none. Guard:
    `is_due` in `dropped_to`, `fetching_index` in `_become`."""
    cluster = beyond(0)
    leader = cluster[1]
    cluster.is_fetching_at_once = False
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert leader.fetches == [(3, 22)] or leader.fetches == [(2, 2)], leader.fetches
    fetched = leader.disk.read(*leader.fetches[0])
    leader.drop_log(21)
    leader.raft.fetched(fetched)
    leader.pump()
    assert leader.fetches == [] and leader.snapshots == [3]


def test_what_is_not_applied_cannot_be_dropped():
    """Guard: the `ensure` in `dropped_to`."""
    with pytest.raises(InvariantBroken, match="entry 99 cannot be dropped: 22 is the last one"):
        beyond()[1].raft.dropped_to(99)


# -- a machine that is restored ------------------------------------------------------------------

def follower(*terms: int, commit: int = 1):
    """Node 2 with entries of these terms from index 2 on, in term 5; entry 1 is applied."""
    cluster = cluster_of({1: [FOUNDING], 2: log_of(*terms), 3: [FOUNDING]}, term=5, commit=commit)
    return cluster[2]


def test_a_log_that_is_too_short_is_replaced():
    """§7: the follower discards its entire log. Guard: `_begin_behind` in `restore`."""
    server = follower(1, 2)
    assert server.raft.restore(9, 4, THREE, 1)
    assert positions(server.raft.log) == (10, 9, 9, 9, 9, 9, 9, 9)
    assert server.raft.log.term_of(9) == 4 and server.raft.log.dropped_index == 9
    assert not server.raft.has_ready()


def test_a_log_of_another_history_is_replaced():
    """§7, and I10. Guard: the term in `is_held`."""
    server = follower(1, 2, 2, 2, 2)
    assert server.raft.restore(4, 3, THREE, 1)
    assert positions(server.raft.log) == (5, 4, 4, 4, 4, 4, 4, 4)


def test_what_follows_the_snapshots_last_entry_stays():
    """§7: if the follower has that entry, those after it stay, and it was acknowledged that they
    do. Guard: `following` in `restore`."""
    server = follower(1, 2, 3, 4)
    log = server.raft.log
    assert not server.raft.restore(3, 2, THREE, 1), "a base would void 4 and 5"
    assert positions(log) == (4, 3, 3, 3, 3, 5, 5, 5) and log.dropped_index == 0
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=5, log_term=4, commit_index=5))
    assert [entry.index for entry in server.applied] == [1, 4, 5]


def test_a_tail_that_the_disk_was_not_given_follows_a_base():
    """Guard: `is_written` in `restore`."""
    server = follower(1)
    server.raft.step(Message(MESSAGE_APPEND, 3, 2, 5, index=2, log_term=1,
                             entries=tuple(tail(3, 5, 5, 5))))
    assert server.raft.restore(4, 5, THREE, 1)
    assert positions(server.raft.log) == (5, 4, 4, 4, 4, 4, 4, 5)
    ready = server.raft.ready(9)
    assert [entry.index for entry in ready.entries] == [5]
    [answer] = ready.messages_after_durable
    assert answer.index == 5
    server.raft.durable(ready.durable)
    assert server.raft.log.durable_index == 5


def test_a_tail_that_is_under_way_stays_and_is_not_durable_yet():
    """Guard: `durable_index` and `written_index` in `restore`."""
    server = follower(1)
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=2, log_term=1,
                        entries=tuple(tail(3, 5, 5, 5))))
    assert not server.raft.restore(4, 5, THREE, 1)
    assert positions(server.raft.log) == (5, 4, 4, 4, 4, 4, 5, 5)
    server.sync_all()
    assert server.raft.log.durable_index == 5


def test_a_report_under_way_says_nothing_of_what_replaced_its_entries():
    """I4. Guard: `durable_to`, with a log that begins later."""
    server = follower(1)
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=2, log_term=1,
                        entries=tuple(tail(3, 5, 5, 5, 5))))
    server.step(Message(MESSAGE_HEARTBEAT, 1, 2, 6))
    assert server.raft.restore(4, 6, THREE, 1)
    server.step(Message(MESSAGE_APPEND, 1, 2, 6, index=4, log_term=6,
                        entries=tuple(tail(5, 6, 6))))
    log = server.raft.log
    assert (log.durable_index, log.last_index) == (4, 6)
    server.disk.writes[1][0].insert(0, Base(4, 6))
    server.sync()
    assert log.durable_index == 4, "that was entry 6 of term 5"


def test_entries_handed_out_for_apply_before_are_void():
    """Guard: `applying_index` in `restore`."""
    server = follower(5, 5, 5, commit=1)
    server.cluster.is_holding_apply = True
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=4, log_term=5, commit_index=4))
    assert [entry.index for entry in server.to_apply] == [2, 3, 4]
    server.raft.restore(3, 5, THREE, 1)
    assert server.raft.log.applying_index == 3
    assert [entry.index for entry in server.raft.ready(9).committed] == [4]


def test_a_pending_change_that_the_snapshot_has_is_over():
    """Guard: `configuring` in `_begin_behind`, `_put_in_force` in `restore`."""
    server = follower()
    change = Entry(2, 5, ENTRY_CONFIGURATION, b"simple l4")
    later = Entry(3, 5, ENTRY_CONFIGURATION, b"simple l5")
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=1, log_term=1, entries=(change, later)))
    assert server.raft.log.configuring == [2, 3]
    changed = THREE.simple("l4")
    server.raft.restore(2, 5, changed, 2)
    assert server.raft.log.configuring == [3]
    assert (server.raft.configuration, server.raft.configured_index) == (changed, 2)
    server.raft.restore(9, 5, changed, 2)
    assert not server.raft.change_is_pending


def test_a_snapshot_of_a_later_term_is_followed_into_it():
    """It may come before any message of that term does. Guard: `become_follower` in `restore`."""
    server = follower(1)
    server.raft.restore(9, 7, THREE, 1)
    assert (server.raft.term, server.raft.vote, server.raft.role) == (7, 0, ROLE_FOLLOWER)
    assert server.raft.ready(0).hard_state == HardState(7, 0, 9)


def test_a_restore_that_cannot_be_is_an_error():
    server = follower(1, 2, 3)
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=3, log_term=2, commit_index=3))
    assert server.raft.log.applied_index == 3
    with pytest.raises(InvariantBroken, match="of entry 3 is behind entry 3, which is applied"):
        server.raft.restore(3, 2, THREE, 1)
    server.cluster.is_holding_apply = True
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=4, log_term=3, commit_index=4))
    with pytest.raises(InvariantBroken, match="entry 4 is committed here with term 3, and a "
                                              "snapshot has it with term 4"):
        server.raft.restore(4, 4, THREE, 1)
    leader = Cluster([1, 2, 3]).elect(1)
    with pytest.raises(InvariantBroken, match="a leader restores no snapshot"):
        leader.raft.restore(9, 2, THREE, 1)


def test_a_restored_member_acknowledges_the_snapshot_and_goes_on():
    """§7: an append that follows the snapshot's last entry fits. Guard: `_before_term`."""
    server = follower(1)
    server.raft.restore(9, 4, THREE, 1)
    server.step(Message(MESSAGE_APPEND, 3, 2, 5, index=9, log_term=4, commit_index=9))
    assert server.cluster.network[-1] == Message(MESSAGE_APPEND_ANSWER, 2, 3, 5, index=9)
    server.step(Message(MESSAGE_HEARTBEAT, 3, 2, 5, commit_index=9))
    assert server.raft.log.commit_index == 9


def test_a_crash_at_any_point_of_an_installation_leaves_old_or_new():
    """The base is written behind the snapshot; torn off, the snapshot alone says it."""
    for survivors in range(3):
        cluster = beyond()
        cluster.tick(2 * HEARTBEAT_TICKS)
        cluster.carry_snapshot(1)
        cluster[1].propose(b"x")
        for _ in range(6):
            cluster.deliver()
        assert len(cluster[3].disk.unsynced_records()) >= 2
        cluster[3].crash(survivors)
        cluster[3].restart()
        assert cluster[3].raft.log.applied_index == 22
        cluster.tick(3 * HEARTBEAT_TICKS)
        assert cluster[3].applied == cluster[1].applied
