"""A node's way into its cluster: what is asked, of whom, and what is believed of the answers."""

from __future__ import annotations

import asyncio

import pytest

from seafoam._core.wire import decode_founding, encode_founding
from seafoam.calls import (
    CALL_FOUNDING,
    CALL_JOIN,
    BadCall,
    Elsewhere,
    Welcome,
    call_kind,
    decode_join,
    encode_elsewhere,
    encode_refused,
    encode_welcome,
)
from seafoam.errors import Refusal
from seafoam.founding import Facts, Founding
from seafoam.founding_store import FoundingStore
from seafoam.founding_wire import View, decode_view, encode_view
from seafoam.joining import ALONE_LOOKS, Joining
from seafoam.ports import CallFailed

NODE_ID, PEER_ID, CLUSTER_ID = 0xA1, 0xB2, 0xC3
PEER = "127.0.0.1:5010"
WELCOME = encode_founding(CLUSTER_ID, bytes(16), [(PEER_ID, PEER)])


class Contacts:
    """Keeps the calls; the test answers them."""

    def __init__(self):
        self.calls, self.kept, self.own, self.heard = [], [], set(), True

    def keep_also(self, addresses):
        self.kept = sorted(addresses)

    def call(self, address, payload, on_answer):
        self.calls.append((address, payload, on_answer))

    def is_self(self, address):
        return address in self.own

    def is_heard(self, address):
        return self.heard

    def trouble(self, address):
        return "does not answer"

    def tell_address(self, address):
        pass

    def answer(self, kind, answer):
        """Answer the oldest call of a kind; its address."""
        for at, (address, payload, on_answer) in enumerate(self.calls):
            if call_kind(payload) == kind:
                del self.calls[at]
                on_answer(answer)
                return address
        raise AssertionError("there is no such call")

    def asked(self, kind):
        return [address for address, payload, _ in self.calls if call_kind(payload) == kind]


class Node:
    """What joining asks of a node."""

    def __init__(self):
        self.settled, self.wishes, self.answer = False, [], Elsewhere("")
        self.removals, self.is_left_alone = [], False

    def handle_call(self, node_id, payload, on_answer):
        self.wishes.append((node_id, decode_join(payload)))
        on_answer(encode_elsewhere(self.answer))

    def is_settled(self, address):
        return self.settled

    def be_removed(self, sentence):
        self.removals.append(sentence)

    def peer_addresses(self):
        return [PEER, "127.0.0.1:6010"]


class Rig:
    def __init__(self, tmp_path, *peers):
        self.contacts, self.node, self.begun = Contacts(), Node(), []
        self.store = FoundingStore(tmp_path, NODE_ID)
        facts = Facts(NODE_ID, 1, "127.0.0.1:3010", str(tmp_path), peers)
        self.founding = Founding(facts, self.store.load(), lambda: (7, bytes(16)))
        self.joining = Joining(
            NODE_ID, self.founding, self.store, self.contacts, self.on_cluster
        )

    def on_cluster(self, founding, came_by):
        self.begun.append(founding)
        return self.node

    def found_a_cluster(self):
        """The PEER answers that it is in one; the wish to join it is asked for next."""
        view = View(PEER_ID, 2, 1, CLUSTER_ID, PEER, 0, None, (), ())
        assert self.contacts.answer(CALL_FOUNDING, encode_view(view)) == PEER
        self.joining._ask_to_join()


def in_a_loop(test):
    """Run a test in a loop of its own, where nothing happens by time."""
    async def run(tmp_path):
        test(tmp_path)

    def wrapped(tmp_path):
        asyncio.run(run(tmp_path))

    wrapped.__name__ = test.__name__
    return wrapped


@in_a_loop
def test_without_a_peer_it_founds_alone_and_at_once(tmp_path):
    rig = Rig(tmp_path)
    rig.joining.start(None)
    founding, = rig.begun
    assert decode_founding(founding).members == ((NODE_ID, "127.0.0.1:3010"),)
    assert rig.store.load().is_founded, "the decision is on disk"
    assert rig.joining.waiting_for() == ""


@in_a_loop
def test_it_says_for_whom_it_waits(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    assert rig.contacts.kept == [PEER]
    rig.contacts.answer(CALL_FOUNDING, CallFailed(False))
    assert PEER in rig.joining.waiting_for() and "does not answer" in rig.joining.waiting_for()


@in_a_loop
def test_who_is_being_dialled_for_the_first_time_is_not_taken_for_absent(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.contacts.heard = False
    rig.contacts.answer(CALL_FOUNDING, CallFailed(False))
    assert "does not answer" not in rig.joining.waiting_for()
    rig.contacts.heard = True
    rig.joining._send_view(PEER)
    rig.contacts.answer(CALL_FOUNDING, CallFailed(False))
    assert "does not answer" in rig.joining.waiting_for()


@in_a_loop
def test_it_joins_the_cluster_that_it_finds(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.found_a_cluster()
    (address, payload, _), = [call for call in rig.contacts.calls
                              if call_kind(call[1]) == CALL_JOIN]
    assert address == PEER
    assert decode_join(payload) == (NODE_ID, "127.0.0.1:3010")
    rig.contacts.answer(CALL_JOIN, encode_welcome(Welcome(WELCOME)))
    assert rig.begun == [WELCOME]
    assert rig.founding.view().cluster_id == CLUSTER_ID


@in_a_loop
def test_it_goes_where_the_leader_is(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.found_a_cluster()
    rig.contacts.answer(CALL_JOIN, encode_elsewhere(Elsewhere("127.0.0.1:6010")))
    rig.joining._ask_to_join()
    assert rig.contacts.asked(CALL_JOIN) == ["127.0.0.1:6010"]


@in_a_loop
def test_whoever_leads_is_kept_connected_while_others_are_asked(tmp_path):
    """It need not be a PEER, nor anybody that one names: it is dialled, then asked."""
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.found_a_cluster()
    rig.contacts.answer(CALL_JOIN, encode_elsewhere(Elsewhere("127.0.0.1:6010")))
    rig.joining._ask_to_join()
    rig.joining._ask(PEER)
    assert rig.contacts.kept == [PEER, "127.0.0.1:6010"]
    rig.contacts.answer(CALL_JOIN, CallFailed(False))
    rig.joining._ask_to_join()
    rig.contacts.answer(CALL_JOIN, encode_welcome(Welcome(WELCOME)))
    rig.node.settled = True
    rig.joining._ask_to_join()
    rig.joining._ask(PEER)
    assert rig.contacts.kept == [PEER], "it is a member like any other now"


@in_a_loop
def test_another_clusters_log_is_not_taken(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.found_a_cluster()
    other = encode_founding(CLUSTER_ID + 1, bytes(16), [(PEER_ID, PEER)])
    for answer in (encode_welcome(Welcome(other)), encode_welcome(Welcome(b"?")), b"?",
                   CallFailed(True), encode_refused(Refusal("forbidden", "it was removed"))):
        rig.contacts.answer(CALL_JOIN, answer)
        assert rig.begun == []
        rig.joining._ask_to_join()
    rig.contacts.answer(CALL_JOIN, encode_welcome(Welcome(WELCOME)))
    assert rig.begun == [WELCOME]


@in_a_loop
def test_a_member_asks_until_it_is_named_at_its_address(tmp_path):
    rig = Rig(tmp_path)
    rig.joining.start(None)
    for expected in ("127.0.0.1:6010", PEER):
        assert rig.contacts.asked(CALL_JOIN) == [expected]
        rig.contacts.answer(CALL_JOIN, CallFailed(True))
        rig.node.settled = expected == PEER
        rig.joining._ask_to_join()
    assert rig.contacts.asked(CALL_JOIN) == []


@in_a_loop
def test_a_member_that_was_removed_is_told_once_and_goes_on_asking(tmp_path):
    rig = Rig(tmp_path)
    rig.joining.start(rig.node)
    for _ in range(3):
        rig.contacts.answer(CALL_JOIN, encode_refused(Refusal("forbidden", "it was removed")))
        rig.joining._ask_to_join()
    assert rig.node.removals == ["it was removed"]
    assert rig.contacts.asked(CALL_JOIN)


@in_a_loop
def test_a_member_that_is_left_alone_asks_whether_it_still_is_one(tmp_path):
    rig = Rig(tmp_path)
    rig.node.settled = rig.node.is_left_alone = True
    rig.joining.start(rig.node)
    for _ in range(ALONE_LOOKS - 2):
        rig.joining._ask_to_join()
    assert rig.contacts.asked(CALL_JOIN) == []
    for _ in range(4):
        rig.joining._ask_to_join()
    assert rig.contacts.asked(CALL_JOIN) == ["127.0.0.1:6010", PEER]
    assert rig.node.wishes == [], "it knows its own answer"
    rig.contacts.answer(CALL_JOIN, encode_elsewhere(Elsewhere("127.0.0.1:7010")))
    rig.contacts.calls.clear()
    rig.joining._ask_to_join()
    rig.joining._ask_to_join()
    assert rig.contacts.asked(CALL_JOIN) == ["127.0.0.1:7010"]
    rig.contacts.answer(CALL_JOIN, encode_refused(Refusal("forbidden", "it was removed")))
    assert rig.node.removals == ["it was removed"]
    rig.node.is_left_alone = False
    for _ in range(2 * ALONE_LOOKS):
        rig.joining._ask_to_join()
    assert rig.contacts.asked(CALL_JOIN) == []


@in_a_loop
def test_who_has_to_wait_for_a_place_was_not_removed(tmp_path):
    rig = Rig(tmp_path)
    rig.joining.start(rig.node)
    rig.contacts.answer(CALL_JOIN, encode_refused(Refusal("overloaded", "too many wait")))
    rig.joining._ask_to_join()
    assert rig.node.removals == [] and rig.contacts.asked(CALL_JOIN)


@in_a_loop
def test_a_member_that_leads_grants_its_own_wish(tmp_path):
    rig = Rig(tmp_path)
    rig.joining.start(None)
    wish = (NODE_ID, (NODE_ID, "127.0.0.1:3010"))
    assert rig.node.wishes == [wish]
    rig.node.settled = True
    rig.joining._ask_to_join()
    assert rig.node.wishes == [wish]


@in_a_loop
def test_a_member_follows_to_the_leader_and_goes_on_asking_where_that_leads_nowhere(tmp_path):
    rig = Rig(tmp_path)
    rig.joining.start(None)
    rig.contacts.answer(CALL_JOIN, encode_elsewhere(Elsewhere("127.0.0.1:7010")))
    asked = []
    for _ in range(3):
        rig.joining._ask_to_join()
        asked.append(rig.contacts.answer(CALL_JOIN, CallFailed(False)))
    assert asked == ["127.0.0.1:7010", PEER, "127.0.0.1:6010"]


@in_a_loop
def test_views_are_answered_with_its_own_and_nonsense_is_no_call(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    said = []
    view = View(PEER_ID, 2, 1, 0, PEER, 0, None, (), ())
    rig.joining.handle_call(PEER_ID, bytes((CALL_FOUNDING,)) + encode_view(view), said.append)
    assert decode_view(said[0]).node_id == NODE_ID
    for garbage in (b"", b"?", encode_view(view)[:-1]):
        with pytest.raises(BadCall):
            rig.joining.handle_call(PEER_ID, bytes((CALL_FOUNDING,)) + garbage, said.append)
    with pytest.raises(BadCall, match="sent the view of node"):
        rig.joining.handle_call(0xEE, bytes((CALL_FOUNDING,)) + encode_view(view), said.append)
    assert len(said) == 1


@in_a_loop
def test_an_answer_that_is_no_view_is_no_answer(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.contacts.answer(CALL_FOUNDING, b"?")
    assert PEER in rig.joining.waiting_for()


@in_a_loop
def test_after_the_end_nobody_is_asked(tmp_path):
    rig = Rig(tmp_path, PEER)
    rig.joining.start(None)
    rig.found_a_cluster()
    rig.joining.stop()
    rig.contacts.answer(CALL_JOIN, encode_welcome(Welcome(WELCOME)))
    rig.joining._ask_to_join()
    assert rig.begun == [] and rig.contacts.asked(CALL_JOIN) == []
