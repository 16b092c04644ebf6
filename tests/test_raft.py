"""The Raft machine of a lone voter: each invariant of raft.pxd by its number."""

import pytest

from seafoam._core.confchange import Configuration
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_EMPTY,
    ENTRY_FOUNDING,
    Durable,
    Entry,
    HardState,
)
from seafoam._core.raft import ROLE_CANDIDATE, ROLE_FOLLOWER, ROLE_LEADER, Raft
from seafoam.errors import InvariantBroken

NODE = 0xA1
ALONE = Configuration([NODE])
FOUNDING = Entry(1, 1, ENTRY_FOUNDING, b"founding")


def restored(entries=(FOUNDING,), term=1, vote=0, commit=1) -> Raft:
    return Raft(NODE, HardState(term, vote, commit), list(entries), seed=1)


def apply_all(raft: Raft) -> list[Entry]:
    """Apply what may be applied, as the pump does; the founding entry configures."""
    applied = []
    while (batch := raft.ready(100)).committed:
        for entry in batch.committed:
            if entry.kind == ENTRY_FOUNDING:
                raft.configure(entry.index, ALONE)
            applied.append(entry)
        raft.advance(applied[-1].index)
    return applied


def elected() -> Raft:
    raft = restored()
    apply_all(raft)
    raft.tick()
    raft.durable(raft.ready(0).durable)
    raft.durable(raft.ready(0).durable)
    apply_all(raft)
    return raft


def test_a_lone_voter_elects_itself_and_commits_its_first_entry():
    raft = restored()
    assert [entry.index for entry in apply_all(raft)] == [1]
    assert raft.role == ROLE_FOLLOWER and raft.leader_id == 0
    raft.tick()
    vote = raft.ready(0)
    assert vote.hard_state == HardState(2, NODE, 1) and vote.entries == []
    assert raft.role == ROLE_CANDIDATE
    raft.durable(vote.durable)
    assert raft.role == ROLE_LEADER and raft.leader_id == NODE
    first = raft.ready(0)
    assert first.entries == [Entry(2, 2, ENTRY_EMPTY, b"")]
    assert raft.read_floor_index == 2 and raft.log.commit_index == 1
    raft.durable(first.durable)
    assert raft.log.commit_index == 2
    assert [entry.index for entry in apply_all(raft)] == [2]


def test_i1_the_own_vote_does_not_count_before_it_is_durable():
    raft = restored()
    apply_all(raft)
    raft.tick()
    raft.ready(0)
    for _ in range(10):
        raft.tick()
    assert raft.role == ROLE_CANDIDATE and raft.term == 2 and not raft.has_ready()


def test_i2_an_entry_is_not_committed_before_it_is_durable():
    raft = elected()
    index = raft.propose(ENTRY_COMMAND, b"x")
    ready = raft.ready(100)
    assert [entry.index for entry in ready.entries] == [index] and ready.committed == []
    assert raft.log.commit_index == index - 1 and not raft.has_ready()
    raft.durable(ready.durable)
    assert raft.log.commit_index == index
    assert [entry.index for entry in raft.ready(100).committed] == [index]


def test_i3_entries_of_an_earlier_term_commit_only_with_one_of_this_term():
    tail = [FOUNDING, Entry(2, 1, ENTRY_COMMAND, b"a"), Entry(3, 1, ENTRY_COMMAND, b"b")]
    raft = restored(tail)
    assert [entry.index for entry in apply_all(raft)] == [1]
    raft.tick()
    raft.durable(raft.ready(0).durable)
    assert raft.role == ROLE_LEADER and raft.log.durable_index == 3
    assert raft.log.commit_index == 1, "2 and 3 are durable, but of term 1"
    first = raft.ready(100)
    assert first.committed == []
    raft.durable(first.durable)
    assert [entry.index for entry in apply_all(raft)] == [2, 3, 4]


def test_i4_a_report_of_an_earlier_term_changes_nothing():
    raft = restored([FOUNDING, Entry(2, 1, ENTRY_COMMAND, b"a")])
    apply_all(raft)
    raft.tick()
    report = raft.ready(0).durable
    raft.durable(Durable(report.number, report.term - 1, report.index, report.log_term, 0))
    assert raft.role == ROLE_CANDIDATE
    raft.durable(report)
    assert raft.role == ROLE_LEADER


def test_i5_nobody_campaigns_before_the_configuration_is_applied():
    raft = restored()
    raft.tick()
    assert raft.role == ROLE_FOLLOWER and raft.term == 1


def test_i5_nor_before_everything_known_committed_is_applied():
    raft = restored([FOUNDING, Entry(2, 1, ENTRY_COMMAND, b"a")], commit=2)
    ready = raft.ready(1)
    raft.configure(1, ALONE)
    raft.advance(ready.committed[-1].index)
    raft.tick()
    assert raft.role == ROLE_FOLLOWER
    raft.advance(raft.ready(1).committed[-1].index)
    raft.tick()
    assert raft.role == ROLE_CANDIDATE


def test_proposals_of_one_turn_go_out_together_and_commit_with_one_report():
    raft = elected()
    indexes = [raft.propose(ENTRY_COMMAND, b"%d" % number) for number in range(50)]
    ready = raft.ready(0)
    assert [entry.index for entry in ready.entries] == indexes
    assert ready.hard_state is not None and ready.hard_state.commit_index == indexes[0] - 1
    raft.durable(ready.durable)
    assert [entry.index for entry in raft.ready(20).committed] == indexes[:20]
    assert raft.has_ready()
    raft.advance(indexes[19])
    assert [entry.index for entry in raft.ready(100).committed] == indexes[20:]


def test_an_entry_is_encoded_once_the_same_bytes_go_to_disk_and_to_apply():
    raft = elected()
    data = b"the very bytes"
    raft.propose(ENTRY_COMMAND, data)
    ready = raft.ready(0)
    raft.durable(ready.durable)
    assert ready.entries[0].data is data
    assert raft.ready(1).committed[0].data is data


def test_a_moved_commit_index_alone_asks_for_no_sync():
    raft = elected()
    assert raft.log.commit_index == 2 and not raft.has_ready()


def test_applied_entries_are_let_go():
    raft = elected()
    for _ in range(1000):
        raft.propose(ENTRY_COMMAND, b"x")
    raft.durable(raft.ready(0).durable)
    apply_all(raft)
    assert raft.log.first_index == raft.log.last_index + 1
    assert raft.log.applied_index == raft.log.last_index


@pytest.mark.parametrize(
    ("entries", "hard_state", "words"),
    [
        ([FOUNDING, Entry(3, 1, 0, b"")], HardState(1, 0, 1), "jumps to index 3 where 2 is due"),
        ([Entry(2, 1, 0, b"")], HardState(1, 0, 1), "jumps to index 2 where 1 is due"),
        ([FOUNDING], HardState(1, 0, 2), "commit index 2 is past the log's end 1"),
        ([FOUNDING, Entry(2, 3, 0, b"")], HardState(2, 0, 1), "holds term 3"),
    ],
)
def test_a_recovered_state_that_cannot_be_is_refused(entries, hard_state, words):
    with pytest.raises(InvariantBroken, match=words):
        Raft(NODE, hard_state, entries, seed=1)


def test_illegal_steps_are_errors():
    raft = restored()
    with pytest.raises(InvariantBroken, match="a follower cannot propose"):
        raft.propose(ENTRY_COMMAND, b"")
    raft = elected()
    with pytest.raises(InvariantBroken, match="is not within"):
        raft.advance(99)
    raft.propose(ENTRY_COMMAND, b"x")
    with pytest.raises(InvariantBroken, match="the disk reports index 3, of which it was given 2"):
        raft.durable(Durable(1, raft.term, 3, raft.term, 0))
    with pytest.raises(InvariantBroken, match="was never handed out"):
        raft.durable(Durable(99, raft.term, 2, raft.term, 0))


def test_records_have_a_stable_one_line_repr():
    raft = elected()
    raft.propose(ENTRY_COMMAND, b"abc")
    assert repr(raft.ready(0)) == (
        "Ready(entries=[Entry(index=3 term=2 kind=1 bytes=3)] "
        "hard_state=HardState(term=2 vote=a1 commit=2) messages=[] messages_after_durable=[] "
        "committed=[] reads=[] fetches=[] snapshots=[] "
        "durable=Durable(number=3 term=2 index=3 log_term=2 commit=2))"
    )
