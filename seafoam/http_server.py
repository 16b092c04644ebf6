"""The HTTP door of a node: it listens, counts connections, tells the time and ends in order.

Owns the listening sockets, the set of open connections, the order in which they became idle, and
what all of them share (the service, the budget, the Date header), and ends those that keep it from
the others. What a connection does is in `http_connection`, what a request means in
`http_service`. Must never end the process by itself: what cannot be gone on from is handed to
`on_fatal`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable
from email.utils import formatdate

from seafoam._core import limits
from seafoam._core.http import Hosts
from seafoam.descriptors import REFUSED_COUNT_MAX
from seafoam.http_budget import Budget
from seafoam.http_connection import Connection
from seafoam.http_service import NodeDoor, Service
from seafoam.http_turns import Turns
from seafoam.openapi import document
from seafoam.version import VERSION

__all__ = ["HttpServer"]

log = logging.getLogger("seafoam.http")

#: Connections that wait in the kernel until the loop accepts them.
BACKLOG_COUNT = 1024
#: A connection whose socket has taken nothing of its answers for so long is cut.
SEND_TIMEOUT_MS = 30_000
#: The budget may be spent for so many looks at it; from then on each cuts the connection that
#: holds most of it, whoever is to blame: else a few that read slowly would shut out all others.
SPENT_LOOKS_MAX = 3


class HttpServer:
    """Serves one node over HTTP.

    `hosts` are the names it is known by. `on_fatal` is called with an exception that means a
    broken invariant; the process must end then. `request_timeout_ms` is how long an incomplete
    request may take from its first byte, `refused_max` how many connections past the limit are
    told so and given a moment to read it (more are just cut; those closed to make room count with
    them until they are gone), `in_flight_bytes_max` what requests and answers may hold together,
    `send_timeout_ms` how long a connection may leave its answers unread.
    """

    def __init__(
        self,
        node: NodeDoor,
        hosts: Hosts,
        *,
        on_fatal: Callable[[BaseException], None],
        request_timeout_ms: int = limits.REQUEST_TIMEOUT_MS,
        connections_max: int = limits.CONNECTIONS_MAX,
        refused_max: int = REFUSED_COUNT_MAX,
        in_flight_bytes_max: int = limits.IN_FLIGHT_BYTES_MAX,
        send_timeout_ms: int = SEND_TIMEOUT_MS,
    ) -> None:
        self.on_fatal = on_fatal
        self.request_timeout_seconds = request_timeout_ms / 1000
        self.is_draining = False
        self.turns = Turns(self._call_soon)
        #: Connections whose sockets take no more at the moment.
        self.unsent: set[Connection] = set()
        self._send_timeout_seconds = send_timeout_ms / 1000
        self._spent_looks = 0
        self._budget = Budget(in_flight_bytes_max)
        self._hosts = hosts
        self.service = self._service_of(node)
        self.loop: asyncio.AbstractEventLoop
        self._connections_max = connections_max
        self._refused_max = refused_max
        self._connections: set[Connection] = set()
        # Those of them with nothing to do, the one that is so longest first.
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        #: To be called with a connection that was idle before and is so from now on.
        self.still_idle = self._idle.move_to_end
        self._leaving: set[Connection] = set()
        self._refused_count = 0
        self._cut_count = 0
        self._closed_idle_count = 0
        self._listener: asyncio.Server | None = None
        self._clock_timer: asyncio.TimerHandle | None = None
        self._all_closed: asyncio.Event | None = None

    def _call_soon(self, callback: Callable[[], None]) -> None:
        self.loop.call_soon(callback)

    def _service_of(self, node: NodeDoor) -> Service:
        return Service(node, self._hosts, self._budget, self._status_of, document())

    def change_node(self, node: NodeDoor) -> None:
        """Serve this node from here on; the one before it had nothing under way."""
        self.service = self._service_of(node)
        self.service.responder.set_date(formatdate(usegmt=True).encode())
        for connection in self._open():
            connection.renew()

    # -- start and stop --------------------------------------------------------------------------

    async def start(self, listener: socket.socket) -> None:
        """Serve what comes to `listener`, a listening socket that does not block."""
        self.loop = asyncio.get_running_loop()
        self._each_second()
        self._listener = await self.loop.create_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG_COUNT
        )

    async def stop(self, grace_seconds: float) -> None:
        """Accept nothing more, answer what is in flight within the grace, then cut the rest."""
        self.is_draining = True
        if self._listener is not None:
            self._listener.close()
        self._all_closed = asyncio.Event()
        for connection in self._open():
            connection.drain()
        if self._open():
            cut = self.loop.call_later(grace_seconds, self._cut)
            await self._all_closed.wait()
            cut.cancel()
        self._stop_clock()

    def _cut(self) -> None:
        log.warning("%d connections did not end in time and are cut", len(self._open()))
        for connection in self._open():
            connection.abort()

    def relieve(self) -> None:
        """Cut connections that take nothing, and one that holds too much where others wait."""
        for connection in [*self.unsent]:
            if connection.stalled_seconds() >= self._send_timeout_seconds:
                self._cut_one(connection, "takes none of its answers")
        self._spent_looks = self._spent_looks + 1 if self._budget.is_spent else 0
        if self._spent_looks > SPENT_LOOKS_MAX:
            largest = max(self._open(), key=lambda each: each.charged_bytes, default=None)
            if largest is not None and largest.charged_bytes:
                self._cut_one(largest, "holds most of what all connections may hold together")

    def _cut_one(self, connection: Connection, reason: str) -> None:
        self._cut_count += 1
        log.warning("a connection is cut: %s %s (%d bytes)",
                    connection.peer, reason, connection.charged_bytes)
        connection.abort()

    def _open(self) -> list[Connection]:
        return [*self._connections, *self._leaving]

    # -- what connections ask --------------------------------------------------------------------

    def opened(self, connection: Connection) -> bool:
        """Count a connection in; False where it is one too many and only to be told so."""
        if not self.is_draining and (len(self._connections) < self._connections_max
                                     or self._make_room()):
            self._connections.add(connection)
            self._idle[connection] = None
            return True
        self._refused_count += 1
        self._leaving.add(connection)
        if len(self._leaving) > self._refused_max:
            connection.abort()
        return False

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest; whether there is one."""
        while self._idle:
            connection, _ = self._idle.popitem(last=False)
            if connection.end_idle():
                self._connections.discard(connection)
                self._leaving.add(connection)
                self._closed_idle_count += 1
                return True
        return False

    def idle(self, connection: Connection) -> None:
        """It has nothing held and nothing unanswered, from now on."""
        self._idle[connection] = None
        self._idle.move_to_end(connection)

    def busy(self, connection: Connection) -> None:
        """It is not idle."""
        self._idle.pop(connection, None)

    def closed(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        self._leaving.discard(connection)
        self._idle.pop(connection, None)
        if self._all_closed is not None and not self._open():
            self._all_closed.set()

    # -- what it tells ---------------------------------------------------------------------------

    def stats(self) -> dict[str, object]:
        """Its part of `/status`."""
        return {
            "connections": len(self._connections),
            "connections_max": self._connections_max,
            "connections_refused": self._refused_count,
            "connections_cut": self._cut_count,
            "connections_closed_idle": self._closed_idle_count,
            "in_flight_bytes": self._budget.used_bytes,
            "plain_reads": self.service.read_path.answered_count,
        }

    def _status_of(self, status: dict[str, object]) -> dict[str, object]:
        """`/status`: the node's own words, and this door's figures."""
        return {**status, "version": VERSION, "http": self.stats()}

    def _each_second(self) -> None:
        """Set the Date header, which is as exact as that, and look after what all share."""
        self.service.responder.set_date(formatdate(usegmt=True).encode())
        self.relieve()
        self._clock_timer = self.loop.call_later(1.0, self._each_second)

    def _stop_clock(self) -> None:
        if self._clock_timer is not None:
            self._clock_timer.cancel()
