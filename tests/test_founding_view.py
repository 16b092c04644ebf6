"""What a node knows of others: aliases, addresses, copies, age, bounds."""

from __future__ import annotations

import pytest

from founding_support import ME, Desk, held, members, place, view
from seafoam.founding import Persist, Refuse
from seafoam.founding_view import ADDRESSES_MAX
from seafoam.founding_wire import NEIGHBOURS_MAX, Named

# -- names and addresses -------------------------------------------------------------------------


def test_aliases_are_one_node_and_one_entry_a_name():
    desk = Desk(peers=("localhost:6", "n6:1", "localhost:6"))
    desk.answer(view(6, ME), at="localhost:6")
    desk.answer(view(6, ME))
    assert desk.machine.view().named == (Named("localhost:6", 6, "n6:1"), Named("n6:1", 6, "n6:1"))
    assert members(desk.propose()) == {ME: "n5:1", 6: "n6:1"}


def test_the_peer_that_is_itself_is_its_address_and_is_not_asked_again():
    desk = Desk(peers=("n6:1", "host5:1", "localhost:5"))
    assert desk.machine.view().address == "n5:1"
    desk.answer_as_self("localhost:5")
    assert desk.machine.view().address == "localhost:5"
    desk.answer_as_self("host5:1")
    assert desk.machine.view().address == "host5:1"
    desk.wait(5000)
    assert desk.others_asked == ["n6:1"]
    desk.answer(view(6, 6, named=(Named("x:1", ME, "host5:1"),)))
    assert members(desk.propose()) == {ME: "host5:1", 6: "n6:1"}


def test_an_address_on_another_machine_is_followed_by_id():
    """What node 6 calls 127.0.0.1:9 is node 9 there, wherever it leads from here."""
    desk = Desk(6)
    desk.answer(view(6, named=(Named("127.0.0.1:9", 9, "n9:1"), Named("x:1", ME, "n5:1"))))
    assert "127.0.0.1:9" not in desk.asked
    desk.answer(view(9, 9))
    assert members(desk.propose()) == {ME: "n5:1", 6: "n6:1", 9: "n9:1"}


def test_a_node_must_answer_where_it_says_that_others_reach_it():
    desk = Desk(6)
    desk.answer(view(6, ME, address="127.0.0.1:6"), at="n6:1")
    desk.fail("127.0.0.1:6")
    assert desk.waits == ("waiting for 127.0.0.1:6, which the node at n6:1 calls its own address "
                          "(connection refused)")
    desk.answer_as_self("127.0.0.1:6")
    desk.wait(5000)
    desk.none()
    assert desk.waits == ("waiting for 127.0.0.1:6, which the node at n6:1 calls its own address "
                          "(another node answers)")


def test_somebody_told_of_that_does_not_answer_is_waited_for_by_address():
    desk = Desk(6)
    desk.answer(view(6, ME, 9))
    desk.fail("n9:1")
    assert desk.waits == "waiting for n9:1, which n6:1 names"


def test_a_caller_that_stops_answering_is_told_of_no_more_until_it_calls_again():
    desk = Desk(6)
    desk.call(view(9, ME))
    assert desk.machine.view().callers == ()
    desk.answer(view(9, ME))
    assert desk.machine.view().callers == ((9, "n9:1"),)
    desk.fail("n9:1")
    desk.wait(5000)
    assert desk.machine.view().callers == () and "n9:1" not in desk.asked
    desk.called_by(view(9, ME))
    assert desk.machine.view().callers == ((9, "n9:1"),)


def test_an_address_that_is_not_asked_any_more_proves_nobody_present():
    desk = Desk(6)
    desk.answer(view(6, ME), view(6, ME, callers=((9, "n9:1"),)), view(9, ME))
    desk.answer(view(9, ME, address="m9:1"), at="n9:1")
    bound = view(9, ME, address="m9:1", held=held(3, 9))
    desk.answer(view(6, ME, callers=((9, "m9:1"),)), bound)
    desk.wait(1000)
    assert "n9:1" not in desk.asked and "m9:1" in desk.asked
    desk.fail("m9:1")
    assert set(members(desk.propose())) == {ME, 6}


# -- copies --------------------------------------------------------------------------------------


def test_a_copy_of_itself_is_refused_and_nothing_is_founded():
    desk = Desk(6, 7)
    desk.answer(view(7, ME), view(6, ME))
    desk.answer(view(ME, 7, start_id=999, address="n6:1"), at="n6:1")
    assert desk.only(Refuse).sentence == (
        "n5:1 and n6:1 run with the same node id 0000000000000005: the data directory of one is "
        "a copy; give that one an empty directory")
    desk.wait(5000)
    desk.none()
    desk.answer(view(6, ME))
    assert set(members(desk.propose())) == {ME, 6, 7}


def test_a_copy_that_calls_is_asked_back_and_found_out():
    desk = Desk(6)
    desk.answer(view(6, ME))
    desk.call(view(ME, 6, start_id=999, address="n9:1"))
    desk.none()
    desk.answer(view(ME, 6, start_id=999, address="n9:1"))
    assert "n5:1 and n9:1 run with the same node id" in desk.only(Refuse).sentence


def test_a_call_of_its_own_is_no_copy():
    desk = Desk(ME)
    desk.call(desk.machine.view())
    desk.answer_as_self("n5:1")
    desk.none(Refuse)
    assert desk.machine.view().callers == ()


def test_two_that_run_with_one_id_are_named_and_nothing_is_founded():
    desk = Desk(6, 7)
    desk.answer(view(6, ME, start_id=1))
    desk.answer(view(6, ME, start_id=2), at="n7:1")  # perhaps from before a restart
    assert "n7:1" in desk.asked
    desk.answer(view(6, ME, start_id=2), at="n7:1")  # perhaps a restart
    desk.none()
    desk.answer(view(6, ME, start_id=1))
    desk.wait(5000)
    desk.none()
    assert desk.waits == (
        "waiting for n6:1 and n7:1 run with the same node id 0000000000000006: the data directory "
        "of one is a copy; give that one an empty directory")
    desk.fail("n6:1")
    desk.answer(view(6, ME, start_id=2, address="n7:1"), at="n7:1")
    desk.fail("n6:1")
    assert desk.waits == "waiting for n6:1 (connection refused)"
    desk.answer(view(9, ME, address="n6:1"), at="n6:1")
    assert set(members(desk.propose())) == {ME, 6, 9}


def test_a_restart_seen_through_one_name_before_the_other_is_no_copy():
    desk = Desk(6, peers=("n6:1", "alias:6"))
    desk.answer(view(6, ME, start_id=1))
    desk.answer(view(6, ME, start_id=1), at="alias:6")
    desk.ask("n6:1")
    desk.ask("alias:6")
    desk.answer(view(6, ME, start_id=2), at="alias:6")
    desk.answer(view(6, ME, start_id=1))  # it was asked before the restart was known
    desk.answer(view(6, ME, start_id=2))
    assert "same node id" not in desk.waits
    assert set(members(desk.propose())) == {ME, 6}


# -- age and bounds ------------------------------------------------------------------------------


def test_what_was_said_earlier_does_not_replace_what_was_said_later():
    desk = Desk(6)
    desk.answer(view(6, ME, sequence=9))
    desk.call(view(6, ME, sequence=8, named=(Named("typo:1"),)))
    assert set(members(desk.propose())) == {ME, 6}


@pytest.mark.parametrize("before", [{"proposal_number": 4}, {"cluster_id": 0xAA}])
def test_what_an_earlier_run_said_does_not_replace_what_is_durable_since(before):
    desk = Desk(6)
    desk.answer(view(6, ME, start_id=2, **before))
    known = dict(desk.machine._known.views)
    desk.call(view(6, ME, start_id=1))
    assert desk.machine._known.views == known


def test_callers_and_nodes_are_kept_within_bounds():
    desk = Desk(6)
    for node_id in range(100, 100 + 2 * ADDRESSES_MAX):
        desk.call(view(node_id, ME))
    assert len(desk.machine._known.views) == ADDRESSES_MAX
    assert len(desk.asked) == 1 + NEIGHBOURS_MAX
    for node_id in range(100, 100 + NEIGHBOURS_MAX):
        told = range(node_id * 1000, node_id * 1000 + NEIGHBOURS_MAX)
        desk.answer(view(node_id, ME, callers=tuple((at, place(at)) for at in told)))
    assert len(desk.machine.view().callers) == NEIGHBOURS_MAX
    assert len(desk.machine._wanted) == ADDRESSES_MAX


def test_more_nodes_than_a_set_may_have_are_not_founded_and_the_sentence_says_so():
    desk = Desk(6)
    desk.answer(view(6, ME))
    for node_id in range(100, 100 + NEIGHBOURS_MAX):
        desk.called_by(view(node_id, ME))
    desk.wait(5000)
    desk.none(Persist)
    assert desk.waits == (
        "66 nodes would found a cluster, and there may be 64: start the others later")
