"""A node's way into its cluster, and what keeps it there.

Owns the founding machine, its record on disk, and the asking: views are sent to whom it names,
records made durable before anything that rests on them is said, the wish to join repeated until
it is granted. Must never decide any of that by itself, nor say what is not on disk yet.

It goes on once the node is in a cluster: others still ask for its view, and a member that is not
(or no longer) named at its present address asks the leader to change that. One that has started
and hears of no leader asks too: its log may end before the entry that removed it, and then nobody
but the leader, if it is asked, will ever tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from seafoam._core.wire import decode_founding
from seafoam.calls import (
    CALL_FOUNDING,
    BadCall,
    Elsewhere,
    Welcome,
    decode_join_answer,
    encode_join,
)
from seafoam.calls import (
    Join as JoinCall,
)
from seafoam.contacts import Contacts
from seafoam.errors import Refusal, StartError, ViewRefused
from seafoam.founding import Action, Adopt, Ask, Found, Founding, Join, Persist, Refuse, WaitFor
from seafoam.founding_store import FoundingStore
from seafoam.founding_wire import decode_view, encode_view
from seafoam.node import Node
from seafoam.ports import CallFailed

__all__ = ["Joining"]

#: How often the machine is told the time.
TICK_SECONDS = 0.05
#: How often a node asks to be taken in, and then whether it is.
JOIN_SECONDS = 0.5
#: Of those looks, in so many a starting node must have known no leader before it asks whether it
#: still is a member: some election timeouts. From then on it asks at every second one.
ALONE_LOOKS = 4
#: An address that was not asked for so long is not kept connected any more.
ASKED_MS_MAX = 10_000

logger = logging.getLogger("seafoam.joining")


class Joining:
    """Takes one node into its cluster.

    `on_cluster` is called once, with what entry 1 of the log is to be, and how the node came to it
    ("founded", "joined"); it makes that durable before it returns, starts the node and gives it
    back.
    """

    def __init__(
        self,
        node_id: int,
        founding: Founding,
        store: FoundingStore,
        contacts: Contacts,
        on_cluster: Callable[[bytes, str], Node],
    ) -> None:
        self._node_id = node_id
        self._founding = founding
        self._store = store
        self._contacts = contacts
        self._on_cluster = on_cluster
        self._loop = asyncio.get_running_loop()
        self._node: Node | None = None
        self._asked_ms: dict[str, int] = {}
        self._join_address = ""
        # Whom it asks to be taken in, which need not be anybody that the founding asks.
        self._door_address = ""
        self._joins_count = 0
        self._alone_count = 0
        self._refusal = ""
        self._is_over = False

    @property
    def address(self) -> str:
        """The peer address of this node, as far as it is known."""
        return self._founding.view().address

    def waiting_for(self) -> str:
        """What the node waits for, in a sentence; empty where for nothing."""
        return self._founding.waiting_for

    def start(self, node: Node | None) -> None:
        """Begin; `node` is there already where the disk holds a log."""
        self._node = node
        self._carry_out(self._founding.start(self._now_ms()))
        self._tick()
        self._ask_to_join()

    def stop(self) -> None:
        """End: nobody is asked any more."""
        self._is_over = True

    def handle_call(
        self, node_id: int, payload: bytes, on_answer: Callable[[bytes], None]
    ) -> None:
        """Another node has sent its view; raises BadCall where it is none of its own."""
        try:
            view = decode_view(payload[1:])
        except ViewRefused as error:
            raise BadCall(str(error)) from None
        if view.node_id != node_id:
            # Promises count as their node's own, and one cannot be taken back by another.
            raise BadCall(f"node {node_id:016x} sent the view of node {view.node_id:016x}")
        self._carry_out(self._founding.on_called(view))
        on_answer(encode_view(self._founding.view()))

    # -- the machine ---------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return int(self._loop.time() * 1000)

    def _tick(self) -> None:
        if self._is_over:
            return
        self._carry_out(self._founding.tick(self._now_ms()))
        self._contacts.tell_address(self.address)
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Ask):
                self._ask(action.address)
            elif isinstance(action, Persist):
                self._store.save(action.record)
                self._carry_out(self._founding.on_persisted())
            elif isinstance(action, Found | Adopt):
                self._node = self._on_cluster(action.founding, "founded")
            elif isinstance(action, Join):
                self._join_address = action.address
            elif isinstance(action, Refuse):
                logger.error("%s", action.sentence)
            elif isinstance(action, WaitFor):
                logger.info("%s", action.sentence)

    def _ask(self, address: str) -> None:
        now_ms = self._now_ms()
        self._asked_ms = {
            asked: at_ms for asked, at_ms in self._asked_ms.items()
            if now_ms - at_ms < ASKED_MS_MAX
        }
        self._asked_ms[address] = now_ms
        self._keep()
        self._send_view(address)

    def _keep(self) -> None:
        door = (self._door_address,) if self._door_address else ()
        self._contacts.keep_also((*self._asked_ms, *door))

    def _send_view(self, address: str) -> None:
        if self._contacts.is_self(address):
            # Said in a turn of its own, as every answer is.
            self._loop.call_soon(self._on_view, address, encode_view(self._founding.view()))
            return
        payload = bytes((CALL_FOUNDING,)) + encode_view(self._founding.view())
        self._contacts.call(address, payload, partial(self._on_view, address))

    def _on_view(self, address: str, answer: bytes | CallFailed) -> None:
        if self._is_over:
            return
        if isinstance(answer, CallFailed):
            if not (answer.was_sent or self._contacts.is_heard(address)):
                # It is being dialled for the first time; that ends soon, one way or the other.
                self._loop.call_later(TICK_SECONDS, self._send_view, address)
                return
            reason = self._contacts.trouble(address)
            self._carry_out(self._founding.on_unreachable(address, reason))
            return
        try:
            view = decode_view(answer)
        except ViewRefused as error:
            self._carry_out(self._founding.on_unreachable(address, str(error)))
        else:
            self._carry_out(self._founding.on_contact(address, view))

    # -- joining -------------------------------------------------------------------------------

    def _ask_to_join(self) -> None:
        """Ask whoever may lead to take this node in, until its configuration says that it is."""
        if self._is_over:
            return
        node = self._node
        self._alone_count = self._alone_count + 1 if node and node.is_left_alone else 0
        address = self._whom_to_ask()
        wish = encode_join(JoinCall(self._node_id, self.address))
        self._door_address = address
        if address:
            self._keep()
            self._contacts.call(address, wish, self._on_join_answer)
        if node is not None and not node.is_settled(self.address):
            # It may lead itself: then nobody else can move it.
            node.handle_call(self._node_id, wish, self._on_join_answer)
        self._loop.call_later(JOIN_SECONDS, self._ask_to_join)

    def _whom_to_ask(self) -> str:
        node = self._node
        if node is None:
            return self._join_address
        if node.is_settled(self.address) and not self._is_alone():
            return ""
        if self._join_address:
            # Where the leader is said to be; asked once, for it may have been told wrongly.
            address, self._join_address = self._join_address, ""
            return address
        others = node.peer_addresses()
        self._joins_count += 1
        return others[self._joins_count % len(others)] if others else ""

    def _is_alone(self) -> bool:
        return self._alone_count >= ALONE_LOOKS and self._alone_count % 2 == 0

    def _on_join_answer(self, answer: bytes | CallFailed) -> None:
        if self._is_over or isinstance(answer, CallFailed):
            return
        try:
            said = decode_join_answer(answer)
        except BadCall as error:
            logger.warning("the answer to the wish to join makes no sense: %s", error)
            return
        if isinstance(said, Elsewhere):
            if said.address:
                self._join_address = said.address
        elif isinstance(said, Refusal):
            self._on_join_refused(said)
        elif self._node is None:
            self._begin_log(said)

    def _on_join_refused(self, refusal: Refusal) -> None:
        """It goes on asking, for it may be let in after all; said once."""
        sentence = refusal.message
        if sentence != self._refusal:
            self._refusal = sentence
            logger.error("this node is not taken in: %s", sentence)
            if self._node is not None and refusal.code == "forbidden":
                self._node.be_removed(sentence)

    def _begin_log(self, welcome: Welcome) -> None:
        try:
            cluster_id = decode_founding(welcome.founding).cluster_id
        except StartError as error:
            logger.error("what the cluster's log begins with cannot be read: %s", error)
            return
        if cluster_id != self._founding.joining_id:
            logger.error("cluster %016x has answered instead of cluster %016x",
                         cluster_id, self._founding.joining_id)
            return
        self._node = self._on_cluster(welcome.founding, "joined")
        self._join_address = ""
        self._carry_out(self._founding.on_joined(cluster_id))
