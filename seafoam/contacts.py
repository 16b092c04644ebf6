"""Whom this node is in contact with: its members, whoever it asks on its way into a cluster, and
whoever of the cluster has called.

Owns the union of these, to which it stays connected, and the last trouble with each address, for
sentences. Carries nothing itself: that is `peers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from seafoam._core.message import Message
from seafoam.peers import Peers
from seafoam.ports import CallFailed

__all__ = ["Contacts"]

#: Callers that are called back, the latest: more than a cluster has members is of no use.
CALLERS_MAX = 16


class Contacts:
    """The network as a node sees it (`ports.Network`), and as its joining does."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._members: frozenset[str] = frozenset()
        self._asked: frozenset[str] = frozenset()
        # Whoever of this cluster has called, the latest last.
        self._callers: dict[str, None] = {}
        self._wanted: list[str] = []
        self._troubles: dict[str, str] = {}
        self._own: set[str] = set()
        # Whom an attempt to reach has ended, in whatever way, since they are wanted.
        self._heard: set[str] = set()

    def keep(self, addresses: Iterable[str]) -> None:
        """Stay connected to the other members."""
        self._members = frozenset(addresses)
        self._keep()

    def keep_also(self, addresses: Iterable[str]) -> None:
        """Stay connected to whom the way into the cluster leads."""
        asked = frozenset(addresses)
        if asked != self._asked:
            self._asked = asked
            self._keep()

    def on_called(self, address: str) -> None:
        """Somebody of this cluster has called, and can be called there.

        A leader may be a member that this node has not heard of: one that came while this was
        away, or before it joined. It learns of that by the log, which the leader sends only to
        who answers.
        """
        is_new = address not in self._callers
        self._callers.pop(address, None)
        self._callers[address] = None
        while len(self._callers) > CALLERS_MAX:
            del self._callers[next(iter(self._callers))]
        if is_new:
            self._keep()

    def _keep(self) -> None:
        self._wanted = wanted = sorted(self._members | self._asked | self._callers.keys())
        self._troubles = {
            address: trouble for address, trouble in self._troubles.items() if address in wanted
        }
        self._heard.intersection_update(wanted)
        self._peers.keep(wanted)

    def send(self, node_id: int, message: Message) -> None:
        """A message of Raft for a member."""
        self._peers.send(node_id, message)

    def call(
        self, to: int | str, payload: bytes, on_answer: Callable[[bytes | CallFailed], None]
    ) -> None:
        """Ask a node, by its id or at an address."""
        self._peers.call(to, payload, on_answer)

    def http_address(self, node_id: int) -> str:
        """Where clients reach a member, as it says."""
        return self._peers.http_address(node_id)

    def on_hello(self, address: str, is_self: bool) -> None:
        """An address has answered; it may turn out to be this node's own."""
        self._troubles.pop(address, None)
        self._heard.add(address)
        if is_self:
            self._own.add(address)
        else:
            self._own.discard(address)

    def on_trouble(self, address: str, sentence: str) -> None:
        """An address is not reached; the sentence says why, where that is known."""
        if address not in self._wanted:
            return  # the name that some caller gives itself
        self._own.discard(address)
        self._heard.add(address)
        self._troubles[address] = sentence.removeprefix(f"{address} ")

    def is_self(self, address: str) -> bool:
        """Whether this node itself has answered at an address."""
        return address in self._own

    def is_heard(self, address: str) -> bool:
        """Whether a first attempt to reach an address has ended, in whatever way."""
        return address in self._heard

    def trouble(self, address: str) -> str:
        """Why an address is not reached, as far as known."""
        return self._troubles.get(address, "") or "does not answer"

    def tell_address(self, peer_address: str) -> None:
        """Tell the others where they reach this node."""
        if peer_address != self._peers.identity.peer_address:
            self._peers.set_peer_address(peer_address)
