"""Whom a node stays connected to, and what it remembers of who does not answer."""

from __future__ import annotations

from types import SimpleNamespace

from seafoam.contacts import CALLERS_MAX, Contacts


class Peers:
    def __init__(self):
        self.kept, self.addresses, self.calls = [], [], []
        self.identity = SimpleNamespace(peer_address="a:1")

    def keep(self, addresses):
        self.kept.append([*addresses])

    def call(self, to, payload, on_answer):
        self.calls.append((to, payload))

    def set_peer_address(self, address):
        self.addresses.append(address)


def test_members_and_those_who_are_asked_are_kept_together():
    peers = Peers()
    contacts = Contacts(peers)
    contacts.keep(["b:1", "c:1"])
    contacts.keep_also(["d:1", "b:1"])
    contacts.keep_also(["d:1", "b:1"])
    assert peers.kept == [["b:1", "c:1"], ["b:1", "c:1", "d:1"]]
    contacts.keep([])
    assert peers.kept[-1] == ["b:1", "d:1"]


def test_who_calls_is_called_back_whether_or_not_it_is_a_known_member():
    peers = Peers()
    contacts = Contacts(peers)
    contacts.keep(["b:1"])
    contacts.on_called("d:1")
    contacts.on_called("d:1")
    assert peers.kept == [["b:1"], ["b:1", "d:1"]]
    contacts.keep(["b:1", "d:1"])
    assert peers.kept[-1] == ["b:1", "d:1"]


def test_callers_are_bounded_and_the_latest_stay():
    peers = Peers()
    contacts = Contacts(peers)
    for number in range(CALLERS_MAX):
        contacts.on_called(f"a:{number}")
    contacts.on_called("a:0")
    contacts.on_called("b:1")
    assert len(peers.kept[-1]) == CALLERS_MAX
    assert "a:0" in peers.kept[-1] and "b:1" in peers.kept[-1] and "a:1" not in peers.kept[-1]


def test_trouble_is_told_until_the_address_answers_or_is_let_go():
    contacts = Contacts(Peers())
    contacts.keep(["b:1"])
    assert contacts.trouble("b:1") == "does not answer"
    contacts.on_trouble("b:1", "b:1 speaks HTTP")
    assert contacts.trouble("b:1") == "speaks HTTP", "it goes behind the address"
    contacts.on_hello("b:1", False)
    assert contacts.trouble("b:1") == "does not answer"
    contacts.on_trouble("b:1", "b:1 speaks HTTP")
    contacts.keep([])
    assert contacts.trouble("b:1") == "does not answer"


def test_its_own_address_is_known_as_long_as_it_answers_there():
    contacts = Contacts(Peers())
    contacts.keep(["b:1"])
    contacts.on_hello("b:1", True)
    assert contacts.is_self("b:1") and not contacts.is_self("c:1")
    contacts.on_trouble("b:1", "")
    assert not contacts.is_self("b:1")
    contacts.on_hello("b:1", True)
    contacts.on_hello("b:1", False)
    assert not contacts.is_self("b:1")


def test_the_others_are_told_an_address_that_is_new():
    peers = Peers()
    contacts = Contacts(peers)
    contacts.tell_address("a:1")
    assert peers.addresses == []
    contacts.tell_address("b:1")
    assert peers.addresses == ["b:1"]


def test_what_a_caller_calls_itself_is_not_kept_in_mind():
    contacts = Contacts(Peers())
    contacts.keep(["b:1"])
    contacts.on_hello("b:1", True)
    for number in range(1000):
        contacts.on_trouble(f"made-up:{number}", "it is refused")
    assert contacts.trouble("made-up:5") == "does not answer"
    assert contacts._troubles == {}


def test_an_address_is_heard_of_once_an_attempt_has_ended():
    contacts = Contacts(Peers())
    contacts.keep(["b:1", "c:1"])
    assert not contacts.is_heard("b:1")
    contacts.on_hello("b:1", False)
    contacts.on_trouble("c:1", "c:1 cannot be reached")
    assert contacts.is_heard("b:1") and contacts.is_heard("c:1")
    contacts.keep(["c:1"])
    contacts.keep(["b:1", "c:1"])
    assert not contacts.is_heard("b:1") and contacts.is_heard("c:1")


def test_calls_go_by_id_or_address():
    peers = Peers()
    contacts = Contacts(peers)
    contacts.call(5, b"x", print)
    contacts.call("b:1", b"y", print)
    assert peers.calls == [(5, b"x"), ("b:1", b"y")]
