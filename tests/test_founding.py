"""Founding and joining, a sentence at a time; test_founding_simulation.py has it all at once."""

from __future__ import annotations

import pytest

from founding_support import ME, SEED, Desk, held, members, place, view
from seafoam._core.wire import encode_founding
from seafoam.errors import InvariantBroken, StartError
from seafoam.founding import Adopt, Facts, Found, Founding, Join, Persist, Refuse
from seafoam.founding_wire import Held, Named, Record

# -- founding alone ------------------------------------------------------------------------------


def test_who_names_nobody_founds_a_cluster_of_one_at_once():
    desk = Desk()
    proposal = desk.persisted()
    assert members(proposal.held) == {ME: place(ME)}
    assert desk.machine.cluster_id == 0
    assert desk.persisted() == Record(1, proposal.held, is_founded=True)
    assert desk.only(Found).founding == encode_founding(0xD1, SEED, [(ME, place(ME))])
    assert desk.machine.cluster_id == 0xD1
    assert desk.asked == []


def test_who_names_only_itself_waits_two_seconds_for_callers():
    desk = Desk(ME)
    desk.answer_as_self(place(ME))
    desk.wait(1900)
    desk.none()
    assert members(desk.propose()) == {ME: place(ME)}
    assert desk.persisted().is_founded


# -- the view, and the founder -------------------------------------------------------------------


def test_nobody_founds_before_each_peer_answered_and_the_sentence_names_who_is_missing():
    desk = Desk(6, 7)
    desk.answer(view(6, ME))
    desk.fail("n7:1")
    desk.wait(10_000)
    desk.none()
    assert desk.waits == "waiting for n7:1 (connection refused)"


def test_the_lists_of_others_are_followed_and_the_sentence_says_whose_they_are():
    desk = Desk(6)
    desk.answer(view(6, ME, 7, named=(Named(place(ME), ME, place(ME)), Named("n8:1"))))
    desk.wait(10_000)
    assert desk.waits == "waiting for n8:1, which n6:1 names"
    desk.answer(view(6, ME, 8))
    assert desk.waits == "waiting for n8:1, which n6:1 names"
    desk.answer(view(8, 8))
    desk.answer(view(6, ME, 8))
    assert set(members(desk.propose())) == {ME, 6, 8}


def test_the_sentence_names_three_and_counts_the_others():
    desk = Desk(6, 7, 8, 9)
    for at in (6, 7, 8, 9):
        desk.fail(place(at), "does not resolve")
    assert desk.waits == ("waiting for n6:1 (does not resolve); n7:1 (does not resolve); "
                          "n8:1 (does not resolve); and 1 more")


def test_the_view_must_stand_still_for_two_seconds():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.wait(1900)
    desk.called_by(view(9, ME))
    desk.wait(1900)
    desk.none()
    desk.wait(150)
    assert set(members(desk.persisted().held)) == {ME, 6, 9}


def test_the_founder_is_the_smallest_that_is_named_whoever_else_calls():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.called_by(view(1, ME, 6))
    assert set(members(desk.propose())) == {1, ME, 6}


def test_a_smaller_one_that_is_named_is_waited_for():
    desk = Desk(3, 6)
    desk.answer(view(3, 3), view(6, 3))
    desk.wait(10_000)
    desk.none()
    assert desk.waits == "waiting for n3:1 (node 0000000000000003) to found the cluster"


def test_whom_a_caller_names_is_named():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.called_by(view(2, 2, ME))
    desk.wait(5000)
    desk.none()
    assert desk.waits == "waiting for n2:1 (node 0000000000000002) to found the cluster"


def test_a_node_that_nobody_names_does_not_found():
    desk = Desk(6)
    desk.answer(view(6, 6))
    desk.wait(10_000)
    desk.none()
    assert desk.waits == "waiting for n6:1 (node 0000000000000006) to found the cluster"


def test_who_called_somebody_else_in_the_view_is_in_the_set():
    desk = Desk(6)
    desk.answer(view(6, ME, callers=((9, place(9)),)))
    desk.answer(view(9, 6))
    assert set(members(desk.propose())) == {ME, 6, 9}


def test_a_caller_that_does_not_answer_or_lacks_its_own_peers_holds_nobody_up():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.call(view(9, ME))
    desk.fail("n9:1")
    desk.called_by(view(10, ME, named=(Named("typo:1"),)))
    assert set(members(desk.propose())) == {ME, 6}


# -- proposing -----------------------------------------------------------------------------------


def test_a_proposal_is_told_once_it_is_on_disk_and_then_to_everybody_at_once():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.wait(2100)
    desk.answer(view(6, ME))
    assert isinstance(desk.said[-1], Persist)
    assert desk.machine.view().held is None and desk.machine.view().proposal_number == 0
    proposal = desk.persisted().held
    assert desk.machine.view().held == proposal and desk.machine.view().proposal_number == 1
    assert desk.others_asked == ["n6:1"]


def test_it_is_founded_once_all_have_promised_and_that_is_on_disk():
    desk = Desk(6, 7)
    desk.answer(view(6, ME), view(7, ME))
    proposal = desk.propose()
    desk.answer(view(6, ME, held=proposal))
    desk.wait(5000)
    desk.none(Persist, Found)
    assert desk.waits == "waiting for the promise of n7:1 (node 0000000000000007)"
    desk.answer(view(7, ME, held=proposal))
    desk.none(Found)
    assert desk.machine.view().cluster_id == 0
    assert desk.persisted() == Record(1, proposal, is_founded=True)
    assert desk.only(Found).founding == proposal.founding
    assert desk.machine.view().cluster_id == 0xD1
    assert desk.waits == ""


def test_a_promise_to_an_earlier_proposal_is_none():
    desk = Desk(6)
    desk.answer(view(6, ME))
    proposal = desk.propose()
    desk.answer(view(6, ME, held=Held(ME, 9, proposal.founding)))
    desk.none(Persist)


def test_a_promise_counts_though_its_node_is_away():
    desk = Desk(6, 7)
    desk.answer(view(6, ME), view(7, ME))
    proposal = desk.propose()
    desk.answer(view(6, ME, held=proposal))
    desk.fail("n6:1")
    desk.answer(view(7, ME, held=proposal))
    assert desk.persisted().is_founded


# -- aborting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("met", [
    view(6, ME, held=held(3, 6)),
    view(3, 6, held=held(3, 6)),
])
def test_meeting_a_promise_to_a_smaller_founder_it_aborts(met):
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.propose()
    desk.called_by(met)
    assert desk.persisted() == Record(1, None)
    assert desk.machine.view().held is None and desk.machine.view().proposal_number == 1
    desk.wait(10_000)
    desk.none()
    assert desk.waits.startswith("waiting for node 0000000000000003, to which n")


def test_a_promise_to_a_larger_founder_is_waited_out():
    desk = Desk(6)
    desk.answer(view(6, ME))
    proposal = desk.propose()
    desk.answer(view(6, ME, held=held(8, 6)))
    desk.wait(5000)
    desk.none()
    desk.answer(view(6, ME, held=proposal))
    assert desk.persisted().is_founded


def test_it_proposes_nothing_while_a_member_is_bound_elsewhere():
    desk = Desk(6)
    desk.answer(view(6, ME, held=held(8, 6)))
    desk.wait(10_000)
    desk.none()
    assert desk.waits == ("waiting for node 0000000000000008, to which n6:1 (node "
                          "0000000000000006) has promised itself")
    desk.answer(view(6, ME))
    assert desk.propose().number == 1


def test_who_only_called_and_went_is_left_out_by_another_proposal():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.called_by(view(9, ME))
    desk.propose()
    desk.fail("n9:1")
    assert desk.persisted() == Record(1, None)
    again = desk.propose()
    assert set(members(again)) == {ME, 6} and again.number == 2
    assert again.contents.cluster_id == 0xD2


def test_a_larger_one_makes_way_for_a_smaller_wherever_it_meets_it():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.called_by(view(9, ME, named=(Named("typo:1"),), held=held(3, 9)))
    desk.wait(5000)
    desk.none()
    assert desk.waits == ("waiting for node 0000000000000003, to which a node (node "
                          "0000000000000009) has promised itself")
    desk.fail("n9:1")
    assert set(members(desk.persisted().held)) == {ME, 6}


def test_who_is_named_and_went_is_waited_for():
    desk = Desk(6)
    desk.answer(view(6, ME))
    proposal = desk.propose()
    desk.fail("n6:1")
    desk.wait(10_000)
    desk.none()
    desk.answer(view(6, ME, start_id=601, held=proposal))
    assert desk.persisted().is_founded


@pytest.mark.parametrize("now", [
    (view(9, ME),),                                     # emptied: another node at the address
    (view(6, ME, 9), view(9, 9)),                       # it names one more since its restart
    (view(6, ME, address="other:1"),),                  # it is reached elsewhere
])
def test_a_proposal_that_is_not_what_it_would_propose_now_is_aborted(now):
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.propose()
    desk.answer(now[0], at="n6:1")
    for told in now:
        desk.answer(told)
    desk.answer(now[0], at="n6:1")
    assert desk.persisted() == Record(1, None)


def test_meeting_a_cluster_it_aborts_and_joins():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.propose()
    desk.answer(view(6, ME, cluster_id=0xAA))
    assert desk.persisted() == Record(1, None)
    assert desk.only(Join) == Join("n6:1", 0xAA)


# -- promising -----------------------------------------------------------------------------------


def promised(**fields) -> Desk:
    """A desk that has promised itself to node 3."""
    desk = Desk(3, **fields)
    desk.answer(view(3, ME, held=held(3, ME, number=4)))
    assert desk.persisted() == Record(0, held(3, ME, number=4))
    return desk


def test_a_promise_is_told_once_it_is_on_disk():
    desk = Desk(3)
    desk.answer(view(3, ME, held=held(3, ME)))
    assert desk.machine.view().held is None
    desk.persisted()
    assert desk.machine.view().held == held(3, ME)
    assert desk.others_asked == ["n3:1"]


def test_there_is_one_promise_whoever_else_proposes():
    desk = promised()
    desk.called_by(view(2, ME, held=held(2, ME, 3)))
    desk.wait(5000)
    desk.none()
    assert desk.machine.view().held == held(3, ME, number=4)
    assert desk.waits == (
        "waiting for n3:1 (node 0000000000000003), to which this node has promised itself: it "
        "alone can say whether cluster 00000000000000c3 was founded")


def test_a_promise_whose_founder_does_not_answer_comes_with_the_way_out():
    desk = promised()
    said = desk.waits
    assert "gone" not in said, "nobody is told to empty anything while a founding goes its way"
    desk.fail("n3:1")
    assert desk.waits == (
        f"{said}; if it is gone for good, stop this node and empty /data/5")
    assert desk.machine.view().held == held(3, ME, number=4), "however long it is gone"
    desk.answer(view(3, ME, held=held(3, ME, number=4)))
    assert desk.waits == said


@pytest.mark.parametrize("proposal", [
    held(3, 7, 6),                                                    # this node is not in it
    held(3, ME),                                                      # node 6, named, is not
    Held(3, 1, encode_founding(9, SEED, [(3, "n3:1"), (ME, "x:1"), (6, "n6:1")])),
])
def test_it_promises_only_to_a_set_with_itself_and_all_it_names(proposal):
    desk = Desk(3, 6)
    desk.answer(view(6, ME), view(3, ME, held=proposal))
    desk.wait(1000)
    desk.none()
    desk.answer(view(3, ME, held=held(3, ME, 6, number=2)))
    assert desk.persisted().held == held(3, ME, 6, number=2)


def test_it_does_not_promise_while_it_does_not_know_whom_it_names():
    desk = Desk(3, 6)
    desk.answer(view(3, ME, held=held(3, ME, 6)))
    desk.none()
    desk.answer(view(6, ME))
    assert desk.persisted().held == held(3, ME, 6)


def test_a_proposal_heard_of_through_others_is_not_promised():
    desk = Desk(6)
    desk.answer(view(6, ME, held=held(3, ME, 6)))
    desk.wait(1000)
    desk.none()


# -- being released ------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [
    view(3, ME, proposal_number=4),
    view(3, ME, proposal_number=5),
    view(3, ME, held=held(3, ME, 9, number=5)),
    view(3, ME, proposal_number=4, held=held(2, 3)),
    view(3, ME, proposal_number=4, start_id=301),
])
def test_the_founder_releases_by_what_it_counts_and_holds(word):
    desk = promised()
    desk.answer(word)
    assert desk.persisted() == Record(0, None)


@pytest.mark.parametrize("word", [
    view(3, ME, proposal_number=3),
    view(3, ME, proposal_number=0),
    view(3, ME, held=held(3, ME, number=2), start_id=299),
    view(6, ME, 3, proposal_number=9),
])
def test_an_older_word_or_another_nodes_releases_nobody(word):
    desk = promised()
    desk.call(word)
    desk.wait(5000)
    desk.none()


def test_an_older_word_of_the_same_run_that_comes_late_releases_nobody():
    desk = promised()
    desk.answer(view(3, ME, sequence=50, held=held(3, ME, number=4)))
    desk.call(view(3, ME, sequence=40))
    desk.wait(1000)
    desk.none()


def test_a_founder_that_is_gone_releases_nobody():
    desk = promised()
    desk.fail("n3:1")
    desk.wait(60_000)
    desk.none()
    assert "waiting for n3:1 (node 0000000000000003)" in desk.waits


def test_another_cluster_releases_nobody():
    desk = promised()
    desk.called_by(view(9, ME, cluster_id=0xAA))
    desk.wait(5000)
    desk.none()


def test_a_released_node_promises_the_next_proposal():
    desk = promised()
    desk.answer(view(3, ME, held=held(3, ME, number=5, cluster_id=0xE0)))
    assert desk.persisted() == Record(0, None)
    assert desk.persisted() == Record(0, held(3, ME, number=5, cluster_id=0xE0))


def test_one_that_has_aborted_counts_on_and_promises_others():
    desk = Desk(3, record=Record(7, None))
    desk.answer(view(3, ME, held=held(3, ME)))
    assert desk.persisted() == Record(7, held(3, ME))
    assert desk.machine.view().proposal_number == 7


@pytest.mark.parametrize("node_id", [3, 9])
def test_anybody_in_the_proposed_cluster_proves_that_it_was_founded(node_id):
    desk = promised()
    desk.called_by(view(node_id, cluster_id=0xC3, proposal_number=4))
    desk.none(Adopt)
    assert desk.persisted() == Record(0, held(3, ME, number=4), is_founded=True)
    assert desk.only(Adopt).founding == held(3, ME, number=4).founding
    assert desk.machine.view().cluster_id == 0xC3


# -- starting again ------------------------------------------------------------------------------


def test_a_founder_goes_on_with_the_proposal_on_its_disk():
    desk = Desk(6, record=Record(4, held(ME, 6, number=4)))
    desk.answer(view(6, ME))
    desk.wait(5000)
    desk.none()
    desk.answer(view(6, ME, held=held(ME, 6, number=4)))
    assert desk.persisted() == Record(4, held(ME, 6, number=4), is_founded=True)
    assert desk.drawn == 0


def test_a_founder_that_now_names_others_looks_before_it_decides():
    desk = Desk(6, 7, record=Record(4, held(ME, 6, number=4)))
    desk.answer(view(6, ME, held=held(ME, 6, number=4)))
    desk.fail("n7:1")
    desk.wait(5000)
    desk.none()
    assert desk.waits == "waiting for n7:1 (connection refused)"
    desk.answer(view(7, 7))
    assert desk.persisted() == Record(4, None)


def test_a_promise_outlives_its_maker_and_a_command_without_peers():
    for names in ((3,), ()):
        desk = Desk(*names, record=Record(0, held(3, ME, 6)))
        assert {"n3:1", "n6:1"} <= set(desk.asked)
        desk.wait(5000)
        desk.none()
        desk.answer(view(6, cluster_id=0xC3))
        assert desk.persisted().is_founded


def test_a_founder_whose_command_lost_its_peers_aborts_and_founds_alone():
    desk = Desk(record=Record(4, held(ME, 6, number=4)))
    desk.called_by(view(9, ME))
    assert desk.persisted() == Record(4, None)
    assert members(desk.persisted().held) == {ME: place(ME)}
    assert desk.persisted().is_founded


@pytest.mark.parametrize(("bound", "kind"), [(held(ME, 6), Found), (held(3, ME), Adopt)])
def test_what_was_founded_is_said_again_until_the_log_has_it(bound, kind):
    record = Record(1, bound, is_founded=True)
    desk = Desk(6, record=record)
    assert desk.only(kind).founding == bound.founding
    assert desk.machine.view().cluster_id == bound.contents.cluster_id
    desk = Desk(6, record=record, cluster_id=bound.contents.cluster_id)
    desk.none(Found, Adopt)


@pytest.mark.parametrize("record", [
    Record(1, held(ME, 6), is_founded=True), Record(0, held(3, ME)),
])
def test_a_log_of_another_cluster_is_refused(record):
    with pytest.raises(StartError, match="/data/5 is put together from two: its log is of "
                                         "cluster 00000000000000aa, its founding of"):
        Desk(6, record=record, cluster_id=0xAA)


# -- joining -------------------------------------------------------------------------------------


def test_a_peer_in_a_cluster_is_joined():
    desk = Desk(6)
    desk.answer(view(6, cluster_id=0xAA))
    assert desk.only(Join) == Join("n6:1", 0xAA)
    assert desk.waits == "waiting to be taken into cluster 00000000000000aa through n6:1"
    desk.wait(5000)
    desk.answer(view(6, cluster_id=0xAA))
    desk.none()
    desk.take(desk.machine.on_joined(0xAA))
    assert desk.machine.view().cluster_id == 0xAA
    assert desk.waits == ""


def test_a_caller_in_a_cluster_is_joined_once_it_answers_where_it_says():
    desk = Desk(6)
    desk.call(view(9, cluster_id=0xAA))
    desk.none()
    desk.answer(view(6, ME))
    desk.answer(view(9, cluster_id=0xAA))
    assert desk.only(Join) == Join("n9:1", 0xAA)


def test_nobody_joins_before_each_peer_was_tried():
    desk = Desk(6, 7)
    desk.answer(view(6, cluster_id=0xAA))
    desk.none()
    assert desk.machine.waiting_for == (
        "waiting for n7:1 to answer or fail, before joining cluster 00000000000000aa through n6:1")
    desk.fail("n7:1")
    assert desk.only(Join) == Join("n6:1", 0xAA)


def test_two_clusters_among_the_peers_are_refused_in_one_sentence():
    desk = Desk(6, 7)
    desk.answer(view(6, cluster_id=0xAA), view(7, cluster_id=0xBB))
    assert desk.only(Refuse).sentence == desk.machine.waiting_for == (
        "n6:1 is in cluster 00000000000000aa and n7:1 in cluster 00000000000000bb: this node can "
        "join only one; leave the other out of its PEERs")
    desk.wait(5000)
    desk.answer(view(6, cluster_id=0xAA), view(7, cluster_id=0xBB))
    desk.none()
    desk.fail("n7:1")
    assert desk.only(Join) == Join("n6:1", 0xAA)


def test_the_cluster_of_the_peers_counts_before_a_callers():
    desk = Desk(6)
    desk.called_by(view(9, cluster_id=0xBB))
    desk.answer(view(6, cluster_id=0xAA))
    assert desk.only(Join) == Join("n6:1", 0xAA)


def test_a_joining_node_neither_promises_nor_founds_and_goes_on_through_others():
    desk = Desk(6, 7)
    desk.answer(view(6, cluster_id=0xAA), view(7, ME))
    desk.only(Join)
    desk.fail("n6:1")
    assert desk.waits == ("waiting for a node of cluster 00000000000000aa, which this node is "
                          "joining, to answer")
    desk.answer(view(9, ME), at="n6:1")
    desk.answer(view(7, ME, held=held(7, ME, 9)))
    desk.wait(10_000)
    desk.none()
    desk.answer(view(7, ME, cluster_id=0xAA))
    assert desk.only(Join) == Join("n7:1", 0xAA)


def test_only_the_cluster_that_was_asked_takes_a_node_in():
    desk = Desk(6)
    with pytest.raises(InvariantBroken):
        desk.machine.on_joined(0xAA)
    desk.answer(view(6, cluster_id=0xAA))
    assert desk.machine.joining_id == 0xAA
    with pytest.raises(InvariantBroken):
        desk.machine.on_joined(0xBB)


# -- in a cluster --------------------------------------------------------------------------------


def founded(*names: int) -> Desk:
    return Desk(*names, cluster_id=0xAA)


@pytest.mark.parametrize("how", [Desk.answer, Desk.call])
def test_a_founded_node_refuses_another_cluster_once_and_goes_on(how):
    desk = founded(6)
    how(desk, view(6, cluster_id=0xBB))
    assert desk.only(Refuse).sentence == (
        "n6:1 is in cluster 00000000000000bb and this node in cluster 00000000000000aa: two "
        "clusters are never made one; to give this node to the other, move /data/5 away and "
        "start it again")
    how(desk, view(6, cluster_id=0xBB))
    desk.none()
    assert desk.machine.cluster_id == 0xAA


def test_a_founded_node_asks_its_peers_each_second_and_nobody_else():
    desk = founded(6)
    assert desk.asked == ["n6:1"]
    desk.answer(view(6, 7))
    desk.call(view(9, ME))
    desk.wait(900)
    assert desk.asked == []
    desk.wait(100)
    assert desk.asked == ["n6:1"]
    desk.none()


def test_a_founded_node_says_so_to_whoever_waits_for_it():
    desk = Desk(6, record=Record(3, held(ME, 6, number=3), is_founded=True), cluster_id=0xC5)
    told = desk.machine.view()
    assert (told.cluster_id, told.proposal_number, told.held) == (0xC5, 3, None)


# -- asking --------------------------------------------------------------------------------------


def test_each_address_is_asked_again_and_again_one_ask_at_a_time():
    desk = Desk(6, 7)
    assert desk.asked == ["n6:1", "n7:1"]
    desk.wait(5000)  # the desk asserts that none is asked twice
    desk.answer(view(6, ME))
    assert desk.others_asked == ["n7:1", "n6:1"]


def test_a_slow_peer_holds_up_no_other():
    desk = Desk(6, 7)
    for _ in range(5):
        desk.answer(view(7, ME))
    assert "n6:1" in desk.asked


def test_news_is_sent_once_an_ask_under_way_has_ended():
    desk = Desk(3)
    desk.answer(view(3, ME, held=held(3, ME)))
    desk.wait(250)
    assert desk.others_asked == ["n3:1"]
    desk.persisted()
    desk.take(desk.machine.tick(desk.now_ms))
    assert desk.others_asked == ["n3:1"]
    desk.answer(view(3, ME, held=held(3, ME)))
    assert desk.others_asked == ["n3:1"]


def test_an_answer_that_was_not_asked_for_is_a_broken_contract():
    desk = Desk(6)
    with pytest.raises(InvariantBroken):
        desk.machine.on_contact("n9:1", view(9))
    with pytest.raises(InvariantBroken):
        desk.machine.on_unreachable("n9:1", "connection refused")
    with pytest.raises(InvariantBroken):
        desk.machine.on_persisted()


def test_too_many_peers_are_refused():
    facts = Facts(ME, 1, "n5:1", "/data/5", tuple(f"n{at}:1" for at in range(65)))
    with pytest.raises(StartError, match="65 PEERs are named; there may be 64"):
        Founding(facts, Record(), lambda: (1, SEED))


def test_a_view_counts_its_changes_and_only_those():
    desk = Desk(6)
    first = desk.machine.view()
    desk.wait(1000)
    assert desk.machine.view() == first and first.sequence == 1
    desk.answer(view(6, ME))
    assert desk.machine.view().sequence == 2
    assert desk.machine.view().named == (Named("n6:1", 6, "n6:1"),)
    desk.answer(view(6, 6))
    assert desk.machine.view().sequence == 2
