"""What a leader sends and when: windows, back-off, sizes, entries that only the disk has."""

import pytest

from raft_cluster import Cluster
from seafoam._core import limits
from seafoam._core.message import (
    ENTRY_COMMAND,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_HEARTBEAT_ANSWER,
    Entry,
    HardState,
    Message,
)
from seafoam._core.progress import PROGRESS_PROBE, PROGRESS_REPLICATE, Progress
from seafoam.errors import InvariantBroken

HEARTBEAT_TICKS = limits.HEARTBEAT_MS // limits.TICK_MS


def appends(cluster: Cluster, to_id: int = 2) -> list[tuple[int, list[int]]]:
    """The appends on their way: what each follows, and the entries in it."""
    return [(message.index, [entry.index for entry in message.entries])
            for message in cluster.network
            if message.kind == MESSAGE_APPEND and message.to_id == to_id]


def acknowledge(cluster: Cluster, index: int, by: int = 2) -> None:
    term = cluster[1].raft.term
    cluster[1].step(Message(MESSAGE_APPEND_ANSWER, by, 1, term, index=index))


def led() -> Cluster:
    cluster = Cluster([1, 2, 3])
    cluster.elect(1)
    return cluster


# -- windows -------------------------------------------------------------------------------------

def test_appends_follow_each_other_without_waiting():
    """Dissertation, 10.2.2: pipelining. Guard: `next_index` in `sent`."""
    cluster = led()
    for number in range(3):
        cluster[1].propose(b"%d" % number)
    assert appends(cluster) == [(2, [3]), (3, [4]), (4, [5])]
    assert cluster[1].raft.progress_of(2).in_flight_count == 3


def test_proposals_of_one_turn_share_an_append():
    """Guard: appends are made when a Ready is asked for."""
    cluster = led()
    for number in range(100):
        cluster[1].raft.propose(ENTRY_COMMAND, b"%d" % number)
    cluster[1].pump()
    assert appends(cluster) == [(2, list(range(3, 103)))]


def test_the_window_is_bounded_by_count_and_reopens():
    """Guard: IN_FLIGHT_APPENDS_MAX in `may_send`."""
    cluster = led()
    count = limits.IN_FLIGHT_APPENDS_MAX
    for number in range(count + 5):
        cluster[1].propose(b"%d" % number)
    assert len(appends(cluster)) == count
    cluster.drop()
    acknowledge(cluster, 5)
    assert appends(cluster) == [(count + 2, list(range(count + 3, count + 8)))]
    progress = cluster[1].raft.progress_of(2)
    assert progress.in_flight_count == count - 2, "three were answered, one sent"


def test_the_window_is_bounded_by_bytes_and_passes_one_append_of_any_size():
    """Guard: IN_FLIGHT_APPEND_BYTES_MAX in `may_send`."""
    cluster = led()
    large = b"x" * (limits.IN_FLIGHT_APPEND_BYTES_MAX + 1)
    for _ in range(3):
        cluster[1].propose(large)
    assert appends(cluster) == [(2, [3])]
    cluster.drop()
    acknowledge(cluster, 3)
    assert appends(cluster) == [(3, [4])]


def test_the_ring_of_the_window_goes_round():
    """Guard: the remainders in `sent` and `acknowledged`."""
    cluster = led()
    last = 2
    for turn in range(5 * limits.IN_FLIGHT_APPENDS_MAX):
        last = cluster[1].propose(b"x")
        if turn % 3 == 2:
            acknowledge(cluster, last - 1)
    progress = cluster[1].raft.progress_of(2)
    acknowledge(cluster, last)
    assert progress.in_flight_count == progress.in_flight_bytes == 0
    assert progress.match_index == last and progress.next_index == last + 1


def test_an_append_is_cut_at_its_bound_and_takes_one_entry_whatever_its_size():
    """Guard: `slice_from`."""
    cluster = led()
    data = b"x" * (limits.APPEND_BYTES_MAX // 2 - limits.APPEND_ENTRY_BYTES)
    for size in (len(data), len(data), 1, limits.APPEND_BYTES_MAX, 1):
        cluster[1].raft.propose(ENTRY_COMMAND, b"x" * size)
    cluster[1].pump()
    assert appends(cluster) == [(2, [3, 4]), (4, [5]), (5, [6]), (6, [7])]


# -- probing -------------------------------------------------------------------------------------

def test_a_new_leader_asks_once_and_waits():
    """Guard: `is_waiting`."""
    cluster = Cluster([1, 2, 3])
    leader = cluster[1]
    leader.campaign()
    while not leader.is_leader:
        assert leader.sync() or cluster.deliver() or cluster[2].sync()
    assert appends(cluster) == [(1, [2])]
    leader.propose(b"x")
    assert appends(cluster) == [(1, [2])], "nothing more before an answer"
    acknowledge(cluster, 2)
    assert appends(cluster) == [(1, [2]), (2, [3])]
    leader.propose(b"y")
    assert appends(cluster) == [(1, [2]), (2, [3]), (3, [4])]


def test_a_lost_probe_is_sent_again_after_the_next_heartbeat():
    """Guard: `heard_at`."""
    cluster = led()
    cluster.cut(2)
    cluster[1].propose(b"x")
    progress = cluster[1].raft.progress_of(2)
    cluster[1].step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=3, is_rejected=True,
                            hint_index=2, hint_term=2))
    assert progress.state == PROGRESS_PROBE and progress.is_waiting
    cluster.settle()
    cluster.heal()
    cluster[1].tick(HEARTBEAT_TICKS)
    cluster.settle()
    assert progress.state == PROGRESS_REPLICATE and progress.match_index == 3


def test_entries_lost_on_the_way_are_found_out_by_the_next_heartbeat():
    """An append without entries shows the gap. Guard: `must_ask`."""
    cluster = led()
    for number in range(5):
        cluster[1].propose(b"%d" % number)
    cluster.drop()
    cluster.tick(HEARTBEAT_TICKS)
    assert cluster[2].applied == cluster[1].applied and len(cluster[1].applied) == 7


def test_a_full_window_that_was_lost_is_found_out_too():
    """Guard: `must_ask` is asked for whether or not the window has room."""
    cluster = led()
    for number in range(limits.IN_FLIGHT_APPENDS_MAX):
        cluster[1].propose(b"%d" % number)
    cluster.drop()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[2].applied == cluster[1].applied


@pytest.mark.parametrize(("answer", "match", "following"), [
    ({"index": 4}, 4, 8),                                                    # news
    ({"index": 2}, 2, 8),                                                    # known
    ({"index": 0}, 2, 8),
    ({"index": 2, "is_rejected": True, "hint_index": 1, "hint_term": 1}, 2, 8),  # came too late
    ({"index": 6, "is_rejected": True, "hint_index": 4, "hint_term": 2}, 2, 5),  # lost on the way
    ({"index": 6, "is_rejected": True, "hint_index": 1, "hint_term": 1}, 2, 3),  # not below match
    ({"index": 6, "is_rejected": True, "hint_index": 99, "hint_term": 2}, 2, 6),
])
def test_what_an_answer_moves(answer, match, following):
    """A position that was acknowledged never falls. Guard: `acknowledged` and `rejected`."""
    cluster = led()
    for number in range(5):
        cluster[1].propose(b"%d" % number)
    cluster[1].raft.ready(0)
    cluster[1].raft.step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, **answer))
    progress = cluster[1].raft.progress_of(2)
    assert (progress.match_index, progress.next_index) == (match, following)


def test_while_probing_only_the_append_that_is_out_can_be_refused():
    """Guard: the second return in `rejected`."""
    cluster = led()
    cluster[1].propose(b"x")
    refusal = Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=3, is_rejected=True)
    for _ in range(2):
        cluster[1].step(refusal)
        progress = cluster[1].raft.progress_of(2)
        assert (progress.state, progress.next_index) == (PROGRESS_PROBE, 3)


def test_while_probing_a_refusal_of_an_earlier_append_is_old_news():
    """Guard: the second return in `rejected`."""
    cluster = led()
    for number in range(5):
        cluster[1].propose(b"%d" % number)
    progress = cluster[1].raft.progress_of(2)
    for index, hint in ((6, 4), (3, 2)):
        cluster[1].step(Message(MESSAGE_APPEND_ANSWER, 2, 1, 2, index=index, is_rejected=True,
                                hint_index=hint, hint_term=2))
        assert (progress.state, progress.next_index) == (PROGRESS_PROBE, 5)


def test_an_acknowledgement_of_what_was_never_sent_is_no_mistake_of_the_network():
    """Guard: `ensure` in `answered`."""
    cluster = led()
    with pytest.raises(InvariantBroken, match="node 2 acknowledges entry 9, the leader's log"):
        acknowledge(cluster, 9)


def test_a_commit_index_in_a_heartbeat_stays_within_what_was_acknowledged():
    """Guard: `min` in `send_heartbeats`."""
    cluster = led()
    index = cluster[1].propose(b"x")
    cluster[1].sync_all()
    acknowledge(cluster, index, by=3)
    cluster.drop()
    cluster[1].tick(HEARTBEAT_TICKS)
    told = {message.to_id: message.commit_index for message in cluster.drop()
            if message.kind == MESSAGE_HEARTBEAT}
    assert told == {2: index - 1, 3: index}


def test_a_heartbeat_is_told_apart_from_an_append():
    """It claims nothing about the log; an answer to it acknowledges nothing."""
    cluster = led()
    index = cluster[1].propose(b"x")
    cluster[1].sync_all()
    cluster[1].step(Message(MESSAGE_HEARTBEAT_ANSWER, 2, 1, 2))
    assert cluster[1].raft.log.commit_index == index - 1


# -- entries that were let go --------------------------------------------------------------------

def lagging(kept_bytes_max: int) -> Cluster:
    """Node 3 missed 40 entries, of which a leader keeps few."""
    cluster = Cluster([1, 2, 3], kept_bytes_max=kept_bytes_max)
    cluster.elect(1)
    cluster.cut(3)
    for number in range(40):
        cluster[1].propose(b"%d" % number)
    cluster.settle()
    cluster.heal()
    return cluster


@pytest.mark.parametrize("kept_bytes_max", [0, 1000, 1 << 20])
def test_what_a_follower_missed_comes_from_memory_or_from_the_disk(kept_bytes_max):
    """Guard: `_fetch`, `fetched`."""
    cluster = lagging(kept_bytes_max)
    told = []
    cluster.tell = told.append
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[3].applied == cluster[1].applied and len(cluster[1].applied) == 42
    assert any("fetches" in line for line in told) == (kept_bytes_max < 1 << 20)


@pytest.mark.parametrize("kept_bytes_max", [0, 1000, 1 << 20])
def test_what_was_applied_is_kept_up_to_a_bound(kept_bytes_max):
    """Guard: `kept_bytes_max` in `applied_to`."""
    log = lagging(kept_bytes_max)[1].raft.log
    kept = log.last_index - log.first_index + 1
    assert kept == {0: 0, 1000: 1000 // (limits.KEPT_ENTRY_BYTES + 2), 1 << 20: 42}[kept_bytes_max]
    assert log.term_of(log.first_index - 1) in (0, 2)
    with pytest.raises(InvariantBroken, match="is not held"):
        log.term_of(log.last_index + 1)


def test_a_node_alone_keeps_nothing_for_others():
    """Guard: `kept_bytes_max` in `configure`."""
    cluster = Cluster([1])
    cluster.tick(2)
    cluster[1].propose(b"x")
    cluster.settle()
    assert cluster[1].raft.log.first_index == 4


def test_one_stretch_is_fetched_at_a_time_and_once_for_two():
    """Guard: `fetching_index`, and the look into `fetches`."""
    cluster = Cluster([1, 2, 3, 4, 5], kept_bytes_max=0)
    cluster.elect(1)
    cluster.cut(4, 5)
    for number in range(10):
        cluster[1].propose(b"%d" % number)
    cluster.settle()
    cluster.is_fetching_at_once = False
    cluster.heal()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].fetches == [(2, 2)], "first, the term of what they have"
    cluster[1].fetch()
    cluster[1].pump()
    cluster.tick(HEARTBEAT_TICKS)
    assert cluster[1].fetches == [(3, 12)]
    cluster[1].fetch()
    cluster[1].pump()
    assert [entries for _, entries in appends(cluster, 4)] == [[3, 4]] == [
        entries for _, entries in appends(cluster, 5)]


def test_what_was_fetched_too_late_is_passed_over():
    """The follower had it from elsewhere. Guard: the index in `fetched`."""
    cluster = lagging(0)
    cluster.is_fetching_at_once = False
    cluster.tick(2 * HEARTBEAT_TICKS)
    [(first, last)] = cluster[1].fetches
    cluster[1].fetch()
    cluster[1].pump()
    cluster.settle()
    assert cluster[1].fetches == [(first + 1, 42)], (first, last)
    cluster[1].step(Message(MESSAGE_APPEND_ANSWER, 3, 1, 2, index=42))
    cluster.drop()
    cluster[1].fetch()
    cluster[1].pump()
    assert all(entries == [] for _, entries in appends(cluster, 3))
    cluster[1].raft.fetched([Entry(1, 1, ENTRY_COMMAND, b"")])
    assert not cluster[1].raft.has_ready()


def test_who_no_longer_leads_passes_over_what_it_fetched():
    """Guard: the role in `fetched`."""
    cluster = lagging(0)
    cluster.is_fetching_at_once = False
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[1].fetches
    cluster[1].step(Message(MESSAGE_HEARTBEAT, 2, 1, 9))
    cluster[1].fetch()
    assert not cluster[1].raft.has_ready()
    with pytest.raises(InvariantBroken, match="answered by one entry at least"):
        cluster[1].raft.fetched([])


def test_the_term_of_an_entry_let_go_is_asked_of_the_disk():
    """A new leader whose log begins in the middle of what a follower has. Guard:
    `_knows_term_before`."""
    cluster = lagging(0)
    cluster[1].crash()
    cluster[3].tick(60)
    cluster.drop()
    cluster[2].tick(60)
    cluster[2].campaign()
    cluster.settle()
    assert cluster[2].is_leader
    cluster.tick(3 * HEARTBEAT_TICKS)
    assert cluster[3].applied == cluster[2].applied and len(cluster[2].applied) == 43


def test_a_newcomer_gets_the_log_from_its_first_entry():
    cluster = lagging(0)
    cluster.add(4, [], HardState(0, 0, 0))
    cluster[1].propose(b"simple l4", 3)
    cluster.settle()
    cluster.tick(2 * HEARTBEAT_TICKS)
    assert cluster[4].applied == cluster[1].applied
    assert str(cluster[4].raft.configuration) == "voters=(1 2 3) learners=(4)"


# -- reports of the disk -------------------------------------------------------------------------

def test_a_report_about_a_tail_that_was_cut_off_says_nothing_of_what_replaced_it():
    """Within one term, too: the old tail was handed to the disk in it. Guard: `log_term` in
    `durable_to`."""
    cluster = Cluster([1, 2, 3])
    follower = cluster[2]
    old = tuple(Entry(index, 1, ENTRY_COMMAND, b"old") for index in (2, 3))
    new = tuple(Entry(index, 2, ENTRY_COMMAND, b"new") for index in (2, 3))
    follower.raft.step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, entries=old))
    follower.raft.step(Message(MESSAGE_HEARTBEAT, 3, 2, 2))
    follower.pump()
    follower.step(Message(MESSAGE_APPEND, 3, 2, 2, index=1, log_term=1, entries=new))
    log = follower.raft.log
    assert (log.written_index, log.durable_index) == (3, 1)
    follower.sync()
    assert log.durable_index == 1, "the report was for old entries 2 and 3"
    follower.sync()
    assert log.durable_index == 3 and follower.disk.entries[1:] == list(new)


def test_a_shorter_tail_in_place_of_a_longer_one_lowers_what_is_durable():
    """Guard: `_cut_from`."""
    cluster = Cluster([1, 2, 3])
    follower = cluster[2]
    old = tuple(Entry(index, 1, ENTRY_COMMAND, b"old") for index in range(2, 9))
    follower.step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, entries=old))
    follower.sync_all()
    assert follower.raft.log.durable_index == 8
    new = Entry(3, 2, ENTRY_COMMAND, b"new")
    follower.step(Message(MESSAGE_APPEND, 3, 2, 2, index=2, log_term=1, entries=(new,)))
    log = follower.raft.log
    assert (log.last_index, log.written_index, log.durable_index) == (3, 3, 2)
    follower.sync_all()
    assert log.durable_index == 3


def test_what_was_to_be_answered_in_an_earlier_term_is_not_said():
    """Its entries may be gone before they are written. Guard: `_messages_after_durable` in
    `become_follower`."""
    cluster = Cluster([1, 2, 3])
    follower = cluster[2]
    entry = Entry(2, 1, ENTRY_COMMAND, b"old")
    follower.raft.step(Message(MESSAGE_APPEND, 1, 2, 1, index=1, log_term=1, entries=(entry,)))
    follower.raft.step(Message(MESSAGE_HEARTBEAT, 3, 2, 2))
    follower.pump()
    follower.sync_all()
    assert MESSAGE_APPEND_ANSWER not in [message.kind for message in cluster.network]


def test_a_progress_prints_where_it_stands():
    assert repr(Progress(0xA1, 5, 0)) == "Progress(node=a1 probe match=0 next=5 in_flight=0)"
    with pytest.raises(InvariantBroken, match="the first entry is number 1"):
        Progress(1, 0, 0)
