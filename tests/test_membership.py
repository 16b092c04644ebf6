"""Who is taken in, promoted and replaced by the leader itself, and what it leaves alone."""

from __future__ import annotations

from collections import defaultdict

import pytest

from seafoam._core.confchange import (
    CHANGE_LEARNER,
    CHANGE_REMOVE,
    CHANGE_UPDATE,
    CHANGE_VOTER,
)
from seafoam._core.wire import decode_founding, encode_founding
from seafoam._core.wire_change import MemberChange, encode_changes
from seafoam.membership import NEWCOMERS_MAX, Member, Membership

WELL, SILENT, BEHIND = Member(True, True), Member(False, True), Member(True, False)
UNHEARD = Member(False, False, False)


def founded(*node_ids):
    members = [(node_id, f"host:{node_id}") for node_id in node_ids]
    return Membership(decode_founding(encode_founding(1, bytes(16), members)))


def ask(membership, node_id, address, look=lambda node_id: WELL):
    return membership.wish(node_id, address, look)


def carry_on(membership, looks=None):
    """Apply what the leader, node 1, wants until it wants nothing more; the changes."""
    looks = looks or defaultdict(lambda: WELL)
    made = []
    while (changes := membership.next_change(1, looks.__getitem__)) is not None:
        membership.apply(len(made) + 2, encode_changes(changes))
        made += [(change.kind, change.node_id) for change in changes]
        assert len(made) < 20, "it never ends"
    return made


def test_a_founded_cluster_that_is_well_is_left_alone():
    assert carry_on(founded(1, 2, 3)) == []


def test_who_asks_becomes_a_learner_and_then_a_voter_up_to_the_target():
    membership = founded(1, 2)
    for node_id in (3, 4):
        assert ask(membership, node_id, f"host:{node_id}") is None
    assert carry_on(membership) == [
        (CHANGE_LEARNER, 3), (CHANGE_LEARNER, 4), (CHANGE_VOTER, 3)]
    assert str(membership.configuration) == "voters=(1 2 3) learners=(4)"
    assert membership.addresses[4] == "host:4"


def test_a_larger_founding_set_is_the_target():
    membership = founded(1, 2, 3, 4, 5)
    ask(membership, 6, "host:6")
    assert carry_on(membership) == [(CHANGE_LEARNER, 6)]


def test_a_lone_voter_takes_no_second_one_before_there_is_a_third():
    membership = founded(1)
    ask(membership, 2, "host:2")
    assert carry_on(membership) == [(CHANGE_LEARNER, 2)]
    ask(membership, 3, "host:3")
    assert carry_on(membership) == [(CHANGE_LEARNER, 3), (CHANGE_VOTER, 2), (CHANGE_VOTER, 3)]


def test_who_is_not_caught_up_or_silent_is_not_promoted():
    for look in (BEHIND, SILENT):
        membership = founded(1, 2)
        ask(membership, 3, "host:3")
        assert carry_on(membership, {2: WELL, 3: look}) == [(CHANGE_LEARNER, 3)]


def test_a_newcomer_at_a_silent_voters_address_takes_its_seat():
    membership = founded(1, 2, 3)
    ask(membership, 4, "host:3")
    looks = {2: WELL, 3: SILENT, 4: WELL}
    assert carry_on(membership, looks) == [
        (CHANGE_LEARNER, 4), (CHANGE_REMOVE, 3), (CHANGE_VOTER, 4)]
    assert str(membership.configuration) == "voters=(1 2 4)"


def test_a_newcomer_at_an_answering_voters_address_stays_a_learner():
    membership = founded(1, 2, 3)
    ask(membership, 4, "host:3")
    assert carry_on(membership) == [(CHANGE_LEARNER, 4)]


def test_a_seat_is_kept_until_the_newcomer_is_caught_up():
    membership = founded(1, 2, 3)
    ask(membership, 4, "host:3")
    assert carry_on(membership, {2: WELL, 3: SILENT, 4: BEHIND}) == [(CHANGE_LEARNER, 4)]


def test_no_change_is_made_without_a_majority_that_holds_the_log():
    for silent in (SILENT, BEHIND):
        membership = founded(1, 2, 3)
        ask(membership, 4, "host:4")
        assert carry_on(membership, {2: silent, 3: silent, 4: WELL}) == []
    # Of the two that would remain, one is silent.
    membership = founded(1, 2, 3)
    ask(membership, 4, "host:3")
    carry_on(membership, {2: WELL, 3: SILENT, 4: BEHIND})
    assert carry_on(membership, {2: SILENT, 3: SILENT, 4: WELL}) == []


def test_a_member_that_has_moved_is_found_at_its_new_address():
    membership = founded(1, 2, 3)
    ask(membership, 3, "elsewhere:3")
    assert carry_on(membership) == [(CHANGE_UPDATE, 3)]
    assert membership.addresses[3] == "elsewhere:3"
    ask(membership, 3, "elsewhere:3")
    assert carry_on(membership) == []


def test_who_was_removed_does_not_come_back_by_asking():
    membership = founded(1, 2, 3)
    membership.apply(2, encode_changes([MemberChange(CHANGE_REMOVE, 3, "")]))
    assert 3 not in membership.addresses
    refusal = ask(membership, 3, "host:3")
    assert refusal.code == "forbidden" and "removed" in refusal.message
    assert carry_on(membership) == []


def test_a_new_leader_forgets_who_asked_another():
    membership = founded(1, 2)
    ask(membership, 3, "host:3")
    membership.forget_wishes()
    assert carry_on(membership) == []


def test_of_those_who_ask_from_one_address_the_latest_is_taken_in():
    membership = founded(1, 2, 3)
    for node_id in range(10, 40):
        assert ask(membership, node_id, "host:4") is None
    assert carry_on(membership) == [(CHANGE_LEARNER, 39)]


def test_a_learner_that_never_answered_makes_way_for_who_asks_at_its_address():
    membership = founded(1, 2, 3)
    ask(membership, 4, "host:4")
    looks = defaultdict(lambda: WELL, {4: UNHEARD, 5: UNHEARD})
    assert carry_on(membership, looks) == [(CHANGE_LEARNER, 4)]
    ask(membership, 5, "host:4", looks.__getitem__)
    assert carry_on(membership, looks) == [(CHANGE_REMOVE, 4), (CHANGE_LEARNER, 5)]


@pytest.mark.parametrize("look", [SILENT, BEHIND])
def test_a_learner_that_has_answered_keeps_its_seat_until_the_next_is_caught_up(look):
    membership = founded(1, 2, 3)
    ask(membership, 4, "host:4")
    looks = defaultdict(lambda: WELL, {4: look, 5: UNHEARD})
    carry_on(membership, looks)
    ask(membership, 5, "host:4", looks.__getitem__)
    assert carry_on(membership, looks) == [(CHANGE_LEARNER, 5)]


def test_few_wait_at_a_time_and_the_next_is_told_so():
    membership = founded(1, 2, 3)
    looks = defaultdict(lambda: UNHEARD, {1: WELL, 2: WELL, 3: WELL})

    def wish(node_id, address=None):
        return ask(membership, node_id, address or f"host:{node_id}", looks.__getitem__)

    for node_id in range(10, 10 + NEWCOMERS_MAX // 2):
        assert wish(node_id) is None
    carry_on(membership, looks)
    for node_id in range(50, 50 + NEWCOMERS_MAX // 2):
        assert wish(node_id) is None
    refusal = wish(99)
    assert refusal.code == "overloaded" and "takes no more" in refusal.message
    assert wish(50) is None, "who waits may ask again"
    assert wish(3, "elsewhere:3") is None, "a member may move"
    assert (CHANGE_LEARNER, 99) not in carry_on(membership, looks)
    assert wish(99).code == "overloaded"
    looks[10] = WELL
    assert wish(99) is None
    assert carry_on(membership, looks) == [(CHANGE_LEARNER, 99)]


def test_a_snapshot_of_it_is_the_same_membership():
    membership = founded(1, 2, 3)
    membership.apply(9, encode_changes([MemberChange(CHANGE_LEARNER, 4, "d:1")]))
    membership.apply(12, encode_changes([MemberChange(CHANGE_REMOVE, 2, "")]))
    other = founded(8)
    ask(other, 9, "n:1")
    other.restore(membership.encode())
    assert other.encode() == membership.encode()
    assert other.configuration == membership.configuration
    assert other.addresses == {1: "host:1", 3: "host:3", 4: "d:1"}
    assert (other.configured_index, other.target_voters, other.removed_ids) == (12, 3, {2})
    assert ask(other, 2, "host:2").code == "forbidden"
    assert carry_on(other) == carry_on(membership)
