"""The network between nodes: whom this one reaches, who calls it, and who is refused.

Owns the connections of both directions, which nodes are known to be there, and the rules of who
may speak to whom. Knows of Raft only what a message is, from whom and to whom. Must never let
what another sends do more than end its connection, and never keep more than its bounds.

A node dials every other for what it has to say itself: a connection for Raft and one for calls, so
that a large call is in no heartbeat's way. What the others say comes on the connections that they
dialled. The rules, for both directions:

  N1  Two that belong to two clusters do not speak; one in no cluster speaks with anyone, but says
      and hears nothing of Raft.
  N2  Of two that have one node id and different start ids, the one that came first stays while it
      answers: when another comes, it is asked. The other is a copy of its data. A refusal says
      for how long, at least, the first has been running; who dialled and hears that it has been
      running for less is told that it is the copy. So of two that refuse each other that is the
      later one, and never both.
  N3  An answer from oneself (both ids are one's own) marks an alias. So does an answer from a node
      that is reached under another address.
  N4  A message's `from_id` is who said hello, its `to_id` is this node.
  N5  When what this node says of itself changes, it says so on every connection, and whoever must
      be refused because of it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, NamedTuple, Protocol

from seafoam._core.limits import PEER_CONNECTIONS_MAX
from seafoam._core.message import Message
from seafoam._core.wire_peer import (
    CONNECTION_CALLS,
    REFUSED_BYTES,
    REFUSED_CLUSTER,
    REFUSED_COPY,
    REFUSED_FULL,
    Hello,
)
from seafoam.errors import PeerRefused
from seafoam.peer_connection import ConnectionEnded, OnAnswer, PeerConnection, Timings
from seafoam.peer_contact import Contact, within
from seafoam.peer_log import PeerLog
from seafoam.ports import CallFailed

__all__ = ["Handler", "Identity", "Peers"]

#: What stopping waits for sockets to take what is left.
STOP_SECONDS = 1.0


class Identity(NamedTuple):
    """What a node says of itself; addresses are HOST:PORT, a cluster id of 0 is none."""

    node_id: int
    start_id: int
    cluster_id: int
    peer_address: str
    http_address: str


class Handler(Protocol):
    """What the network tells its node; never from within a call of the node's."""

    def on_hello(self, address: str, hello: Hello) -> None:
        """A kept address has answered, or what it says of itself has changed.

        Calls to it can be made, unless it is this node itself (its ids say so). Where it is an
        alias of another kept address, calls to both go the same way.
        """

    def on_called(self, hello: Hello) -> None:
        """A node has called this one, or what a caller says of itself has changed."""

    def on_message(self, from_id: int, message: Message) -> None:
        """A message of Raft to this node, from one of its cluster; PeerRefused if it cannot be."""

    def on_call(self, hello: Hello, payload: bytes, answer: Callable[[bytes], None]) -> None:
        """A caller asks; `answer` may be called once, now or later, also when it is gone."""

    def on_lost(self, address: str) -> None:
        """An address that had answered does not any more."""

    def on_unreachable(self, address: str, sentence: str) -> None:
        """An attempt to reach an address has failed; the sentence names it."""

    def on_refused(self, address: str, code: int, sentence: str) -> None:
        """One side refuses the other, for one of the REFUSED_ reasons; the sentence says which.

        `address` is the kept one, or, where it called this node, the one it says is its own.
        """

    def on_copy(self, address: str, sentence: str) -> None:
        """A kept address has refused this node as a copy of one that has been running for longer.

        Said behind `on_refused`.
        """


class Peers:
    """The other nodes, through `handler`; implements `seafoam.ports.Network`.

    `luck` draws the waits between attempts and the connections' nonces; at most `callers_max`
    connections of others are kept.
    """

    def __init__(
        self,
        identity: Identity,
        handler: Handler,
        loop: asyncio.AbstractEventLoop,
        *,
        luck: random.Random,
        timings: Timings | None = None,
        callers_max: int = PEER_CONNECTIONS_MAX,
    ) -> None:
        self.identity = identity
        self.timings = timings or Timings()
        self.luck = luck
        self._handler = handler
        self._loop = loop
        self._callers_max = callers_max
        self._began_seconds = loop.time()
        self._server: asyncio.Server | None = None
        self._is_stopping = False
        # Outgoing: by address, who is reached by node id, and whose connection is whose.
        self._contacts: dict[str, Contact] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reached: dict[int, Contact] = {}
        self._contact_of: dict[PeerConnection, Contact] = {}
        # Both directions: all that are open, oldest first, and those of each node admitted, with
        # the moment of that.
        self._connections: dict[PeerConnection, None] = {}
        self._roster: dict[int, dict[PeerConnection, float]] = {}
        self._welcomes: set[asyncio.Task[None]] = set()
        self._all_ended = asyncio.Event()
        self._log = PeerLog()

    # -- the node's side -------------------------------------------------------------------------

    async def start(self, listener: socket.socket) -> None:
        """Take calls on a listening socket."""
        self._server = await self._loop.create_server(self._accept, sock=listener)

    async def stop(self) -> None:
        """End all connections, sending what waits where that is quick."""
        self._is_stopping = True
        if self._server is not None:
            self._server.close()
        tasks = [*self._tasks.values(), *self._welcomes]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.close("is left: this node stops")
        if self._connections:
            try:
                await within(STOP_SECONDS, self._all_ended.wait())
            except asyncio.TimeoutError:
                for connection in list(self._connections):
                    connection.abort("is left: this node stops")
                await self._all_ended.wait()

    def keep(self, addresses: Iterable[str]) -> None:
        """Stay connected to these peer addresses, and to no others."""
        wanted = dict.fromkeys(addresses)
        for address in [address for address in self._contacts if address not in wanted]:
            self._forget(address)
        for address in wanted:
            if address not in self._contacts and not self._is_stopping:
                contact = Contact(self, self._loop, address)
                self._contacts[address] = contact
                self._tasks[address] = self._spawn(contact.run())

    def send(self, node_id: int, message: Message) -> None:
        """A message of Raft; dropped where the node is not reached or its queue is full."""
        contact = self._reached.get(node_id)
        if contact is None or contact.raft is None or contact.hello is None:
            return
        if contact.hello.cluster_id == self.identity.cluster_id != 0:
            contact.raft.send(message)

    def call(self, to: int | str, payload: bytes, on_answer: OnAnswer) -> None:
        """Ask a node, by its id or a kept address.

        Calls to one node arrive in order, if at all, each once. `on_answer` is called once, never
        from within, with the answer or a CallFailed.
        """
        contact = self._reached.get(to) if isinstance(to, int) else self._contacts.get(to)
        if contact is not None and contact.calls is None and contact.hello is not None:
            contact = self._reached.get(contact.hello.node_id)  # an alias
        if contact is None or contact.calls is None:
            self._loop.call_soon(on_answer, CallFailed(was_sent=False))
        else:
            contact.calls.call(payload, on_answer)

    def http_address(self, node_id: int) -> str:
        """HOST:PORT where clients reach that node; empty where it has not been heard of."""
        for connection in self._roster.get(node_id, ()):
            if connection.hello is not None and connection.hello.http_address:
                return connection.hello.http_address
        for contact in self._contacts.values():
            if contact.hello is not None and contact.hello.node_id == node_id:
                return contact.hello.http_address
        return ""

    def set_cluster(self, cluster_id: int) -> None:
        """This node is in a cluster: all are told, and those of another are refused (N5)."""
        self._become(self.identity._replace(cluster_id=cluster_id))

    def set_peer_address(self, peer_address: str) -> None:
        """This node has found out where others reach it: all are told."""
        self._become(self.identity._replace(peer_address=peer_address))

    def _become(self, identity: Identity) -> None:
        self.identity = identity
        # What is answered in this turn still goes out before anybody is refused.
        self._loop.call_soon(self._tell_all)

    def _tell_all(self) -> None:
        for connection in [one for known in self._roster.values() for one in known]:
            try:
                self._check(connection.hello)
            except PeerRefused as refused:
                connection.refuse(refused)
            else:
                self._tell(connection)

    def _tell(self, connection: PeerConnection) -> None:
        """Say hello again where it would be another than what was said."""
        said = connection.own_hello
        if said is not None:
            hello = self._make_hello(said.kind, said.dialled_address, said.nonce)
            if hello != said:
                connection.say_hello(hello)

    # -- who may speak ---------------------------------------------------------------------------

    def own_hello(self, kind: int, dialled_address: str) -> Hello:
        """What this node says on a new connection."""
        return self._make_hello(kind, dialled_address, self.luck.getrandbits(64))

    def _make_hello(self, kind: int, dialled_address: str, nonce: int) -> Hello:
        node_id, start_id, cluster_id, peer_address, http_address = self.identity
        return Hello(kind, node_id, start_id, cluster_id=cluster_id, nonce=nonce,
                     peer_address=peer_address, http_address=http_address,
                     dialled_address=dialled_address)

    def _is_self(self, hello: Hello) -> bool:
        return (hello.node_id, hello.start_id) == (self.identity.node_id, self.identity.start_id)

    def _check(self, hello: Hello | None) -> None:
        """Refuse by what it says alone (N1, N2)."""
        if hello is None or self._is_self(hello):
            return
        ours = self.identity.cluster_id
        if hello.cluster_id not in (0, ours) and ours != 0:
            raise PeerRefused(
                REFUSED_CLUSTER, f"belongs to cluster {hello.cluster_id:016x}, and not to cluster "
                                 f"{ours:016x} as {self.identity.peer_address} does")
        if hello.node_id == self.identity.node_id:
            raise self._copy(hello, self.identity.peer_address, ours, self._began_seconds)

    def _copy(
        self, hello: Hello, place: str, cluster_id: int, since_seconds: float
    ) -> PeerRefused:
        """The refusal of a copy of a node that runs at `place`, at least since then.

        One that is in no cluster yet has nothing to keep: no other ends for it.
        """
        running_ms = int((self._loop.time() - since_seconds) * 1000) if cluster_id else 0
        return PeerRefused(
            REFUSED_COPY, f"runs on a copy of the data of node {hello.node_id:016x}, which is "
                          f"running as {place}", running_ms=running_ms)

    async def admit(self, connection: PeerConnection) -> None:
        """Take a connection whose other side has said hello, or raise PeerRefused."""
        hello = connection.hello
        self._check(hello)
        if hello is None or self._is_self(hello):
            return
        while rivals := self._rivals(hello):
            await self._settle(rivals, hello)
            self._check(hello)
        if connection.end:
            raise ConnectionEnded(connection.end)
        self._roster.setdefault(hello.node_id, {})[connection] = self._loop.time()
        if connection.has_dialled:
            self._tell(connection)

    def _rivals(self, hello: Hello) -> list[PeerConnection]:
        """Connections of the same node under another start id (N2)."""
        return [known for known in self._roster.get(hello.node_id, ())
                if known.hello is not None and known.hello.start_id != hello.start_id
                and not known.end]

    async def _settle(self, rivals: list[PeerConnection], hello: Hello) -> None:
        """Ask those who came first whether they still are there; cut them where they are not."""
        waiting = {rival.probe() for rival in rivals}
        until_seconds = self._loop.time() + self.timings.probe_seconds
        while waiting:
            left_seconds = max(0.0, until_seconds - self._loop.time())
            done, waiting = await asyncio.wait(
                waiting, timeout=left_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if any(probe.result() for probe in done):
                raise self._copy_of_rival(hello, rivals)
            if not done:
                break
        for rival in rivals:
            rival.abort("does not answer, and was started anew")

    def _copy_of_rival(self, hello: Hello, rivals: list[PeerConnection]) -> PeerRefused:
        # Of the one that answers it is known only since when it is connected.
        first = rivals[0].hello
        since_seconds = self._roster.get(hello.node_id, {}).get(rivals[0], self._loop.time())
        if first is None:
            return self._copy(hello, "another", 0, since_seconds)
        return self._copy(hello, first.peer_address, first.cluster_id, since_seconds)

    # -- outgoing --------------------------------------------------------------------------------

    def alias_of(self, contact: Contact, hello: Hello) -> str | None:
        """Whom an answer comes from, where that needs no further connection (N3)."""
        if self._is_self(hello):
            return "this node itself"
        known = self._reached.get(hello.node_id)
        if known is None or known is contact:
            return None
        return f"node {hello.node_id:016x}, which is reached as {known.address}"

    def on_alias(self, contact: Contact) -> None:
        """A kept address has answered, and needs no connection of its own."""
        self._tell_hello(contact)

    def on_reached(self, contact: Contact) -> None:
        """A kept address has both its connections."""
        if contact.hello is None or contact.raft is None or contact.calls is None:
            return
        self._reached[contact.hello.node_id] = contact
        self._contact_of[contact.raft] = self._contact_of[contact.calls] = contact
        self._tell_hello(contact)

    def _tell_hello(self, contact: Contact) -> None:
        if contact.hello is not None:
            self._handler.on_hello(contact.address, contact.hello)

    def on_unreached(self, contact: Contact, sentence: str, refused: PeerRefused | None) -> None:
        """A kept address did not answer, was refused, or is lost."""
        was_reached = self._unreach(contact)
        if was_reached:
            self._handler.on_lost(contact.address)
        if refused is not None:
            self._handler.on_refused(contact.address, refused.code, sentence)
            # One's own age is taken after the other's was said, so it is never too small; nor is
            # it ever below what this node itself says of others in a refusal.
            own_ms = (self._loop.time() - self._began_seconds) * 1000
            if refused.code == REFUSED_COPY and own_ms < refused.running_ms:
                self._handler.on_copy(contact.address, sentence)
        elif not was_reached:
            self._handler.on_unreachable(contact.address, sentence)

    def _unreach(self, contact: Contact) -> bool:
        """Whether it was reached. Its aliases have reason to look again."""
        node_id = contact.hello.node_id if contact.hello is not None else 0
        if self._reached.get(node_id) is not contact:
            return False
        del self._reached[node_id]
        for other in self._contacts.values():
            if other.hello is not None and other.hello.node_id == node_id:
                other.wake()
        return True

    def _forget(self, address: str) -> None:
        contact = self._contacts.pop(address)
        self._tasks.pop(address).cancel()
        self._unreach(contact)

    # -- incoming --------------------------------------------------------------------------------

    def _accept(self) -> PeerConnection:
        return PeerConnection(self, self._loop)

    def on_opened(self, connection: PeerConnection) -> None:
        """A socket is there."""
        self._connections[connection] = None
        self._all_ended.clear()
        if connection.has_dialled:
            return  # its contact sees to it
        if self._is_stopping:
            connection.abort("is left: this node stops")
        else:
            self._make_room()
            accepted_count = sum(not known.has_dialled for known in self._connections)
            if accepted_count > self._callers_max:
                connection.refuse(PeerRefused(
                    REFUSED_FULL, f"is one caller too many; {self._callers_max} are here"))
            else:
                task = self._spawn(self._welcome(connection))
                self._welcomes.add(task)
                task.add_done_callback(self._welcomes.discard)

    def _make_room(self) -> None:
        """Where all places are taken, cut the oldest caller that is the least loss.

        That is one of no cluster or another, then one that has not said who it is; never one of
        this node's own cluster.
        """
        accepted = [known for known in self._connections if not known.has_dialled]
        if len(accepted) <= self._callers_max:
            return
        for known in (*filter(self._is_stranger, accepted[:-1]),
                      *(known for known in accepted[:-1] if known.hello is None)):
            known.abort("is no member of this cluster, and its place is needed" if known.hello
                        else "has not said who it is, and its place is needed")
            self._connections.pop(known, None)
            return

    def _is_stranger(self, connection: PeerConnection) -> bool:
        hello = connection.hello
        return hello is not None and hello.cluster_id != self.identity.cluster_id != 0

    async def _welcome(self, connection: PeerConnection) -> None:
        """Hear who calls, and admit or refuse it."""
        try:
            await within(self.timings.greeting_seconds, self._greet(connection))
        except PeerRefused as refused:
            connection.refuse(refused)
        except asyncio.TimeoutError:
            connection.abort("has not said who it is in time")
        except ConnectionEnded:
            return  # `on_ended` tells
        except asyncio.CancelledError:
            connection.abort("is left: this node stops")
            raise

    async def _greet(self, connection: PeerConnection) -> None:
        hello = await connection.heard
        await self.admit(connection)
        connection.say_hello(self.own_hello(hello.kind, ""))
        # Who only plays back what another once said cannot answer this: nobody is told of it.
        if not await connection.probe():
            return
        # What the same caller opened before for the same purpose, it has given up.
        for known in list(self._roster.get(hello.node_id, ())):
            said = known.hello
            if (known is not connection and not known.has_dialled and said is not None
                    and said.kind == hello.kind
                    and said.dialled_address == hello.dialled_address):
                known.abort("has called again")
        if hello.kind == CONNECTION_CALLS and not self._is_self(hello):
            self._on_caller(connection, hello)

    def _on_caller(self, connection: PeerConnection, hello: Hello) -> None:
        contact = self._contacts.get(hello.peer_address)
        if contact is None:
            self._say(connection, hello.peer_address, logging.INFO,
                      f"is node {hello.node_id:016x}, and has called")
        elif not contact.is_reached:
            contact.wake()  # who calls can be called
        self._handler.on_called(hello)

    # -- what connections tell -------------------------------------------------------------------

    def on_message(self, connection: PeerConnection, message: Message) -> None:
        """N1 and N4."""
        hello = connection.hello
        if hello is None or message.from_id != hello.node_id:
            raise PeerRefused(
                REFUSED_BYTES, f"sent a message in the name of node {message.from_id:016x}")
        if message.to_id != self.identity.node_id:
            raise PeerRefused(
                REFUSED_BYTES, f"sent a message for node {message.to_id:016x}, which "
                               f"{self.identity.peer_address} is not")
        if hello.cluster_id == 0:
            raise PeerRefused(REFUSED_BYTES, "sent a message of Raft, and is in no cluster")
        if self.identity.cluster_id != 0:
            self._handler.on_message(hello.node_id, message)

    def on_call(
        self, connection: PeerConnection, payload: bytes, answer: Callable[[bytes], None]
    ) -> None:
        """A caller asks."""
        if connection.hello is not None:
            self._handler.on_call(connection.hello, payload, answer)

    def on_changed(self, connection: PeerConnection) -> None:
        """The other side says something new of itself."""
        hello = connection.hello
        self._check(hello)
        contact = self._contact_of.get(connection)
        if contact is not None:
            contact.hello = hello
        if hello is not None and hello.kind == CONNECTION_CALLS:
            if contact is not None:
                self._tell_hello(contact)
            elif not connection.has_dialled:
                self._handler.on_called(hello)

    def on_ended(self, connection: PeerConnection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)
        if not self._connections:
            self._all_ended.set()
        hello = connection.hello
        if hello is not None:
            known = self._roster.get(hello.node_id, {})
            known.pop(connection, None)
            if not known:
                self._roster.pop(hello.node_id, None)
        self._contact_of.pop(connection, None)
        if not (connection.has_dialled or self._is_stopping):
            self._on_caller_ended(connection)

    def _on_caller_ended(self, connection: PeerConnection) -> None:
        hello, refused = connection.hello, connection.refused
        if hello is None:
            host = connection.peer.rpartition(":")[0]
            self._say(connection, host, logging.WARNING,
                      f"has called on the peer port and {connection.end}")
        elif refused is not None:
            self._say(connection, hello.peer_address, logging.WARNING, str(refused))
            self._handler.on_refused(
                hello.peer_address, refused.code, f"{hello.peer_address} {refused}")
        elif hello.node_id not in self._roster and hello.peer_address not in self._contacts \
                and not self._is_self(hello):
            self._say(connection, hello.peer_address, logging.INFO,
                      f"(node {hello.node_id:016x}) {connection.end}")

    def _say(self, connection: PeerConnection, who: str, level: int, sentence: str) -> None:
        """Log what is said of a caller, for the first time and not too often."""
        host = connection.peer.rpartition(":")[0]
        self._log.say(self._loop.time(), host, who, level, sentence)

    # -- tasks -----------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """What a task did not foresee goes where the loop's other failures go."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._loop.call_exception_handler({
                "message": "the network between nodes failed", "exception": error, "task": task,
            })
