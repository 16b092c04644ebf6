"""One address of another node: dialled, greeted, kept, and dialled again when it is lost.

Owns the two connections to whoever answers there, and what was last said of it in the log. Must
never keep a second pair of connections to one node, nor any to itself: such an address is an
alias, looked at again now and then, for a name may come to mean another.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import random
import socket
from collections.abc import Coroutine
from typing import Any, Protocol, TypeVar

from seafoam._core.wire_peer import CONNECTION_CALLS, CONNECTION_RAFT, REFUSED_BYTES, Hello
from seafoam.addresses import is_address, shown, split_address
from seafoam.errors import AddressRefused, PeerRefused
from seafoam.peer_connection import ConnectionEnded, Owner, PeerConnection, Timings

__all__ = ["Contact", "Home", "within"]

#: An alias is looked at again after so many of the longest waits between two attempts.
ALIAS_WAITS_COUNT = 5

log = logging.getLogger("seafoam")
T = TypeVar("T")


class Home(Owner, Protocol):
    """What a contact asks of the node it belongs to, and what it tells it."""

    timings: Timings
    luck: random.Random

    def own_hello(self, kind: int, dialled_address: str) -> Hello: ...

    async def admit(self, connection: PeerConnection) -> None:
        """Whether who answered may be who it says; else PeerRefused."""

    def alias_of(self, contact: Contact, hello: Hello) -> str | None:
        """In words, whom an answer comes from that is known already."""

    def on_reached(self, contact: Contact) -> None: ...

    def on_alias(self, contact: Contact) -> None: ...

    def on_unreached(self, contact: Contact, sentence: str, refused: PeerRefused | None) -> None:
        """An attempt failed, or, where it had been reached, it is lost."""


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which may take so long; asyncio.TimeoutError after that.

    Before Python 3.12, asyncio.wait_for forgets that it was cancelled where the work is done in
    the same turn. Whoever is cancelled here ends.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait((task,), timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.exception()  # where nobody asks for the result, it is no loss
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


class Contact:
    """Whoever answers at one address."""

    def __init__(self, home: Home, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self.address = address
        # What stands in the log was written by whoever led: it may be no address at all.
        self._shown = address if is_address(address) else shown(address)
        #: What the node there said last; None before it ever answered.
        self.hello: Hello | None = None
        self.raft: PeerConnection | None = None
        self.calls: PeerConnection | None = None
        self._home = home
        self._loop = loop
        self._wanted = asyncio.Event()
        self._said = ""
        self._wait_seconds = home.timings.redial_seconds_min

    @property
    def is_reached(self) -> bool:
        """Both connections are there."""
        return self.calls is not None

    def wake(self) -> None:
        """There is a reason to dial soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Dial, keep, dial again; until cancelled."""
        try:
            while True:
                await self._rest(await self._visit())
        finally:
            for connection in (self.raft, self.calls):
                if connection is not None:
                    connection.close("is not wanted any more")

    async def _visit(self) -> float:
        """One attempt, for as long as it lasts; how long to rest behind it, in seconds."""
        timings = self._home.timings
        try:
            if not await self._reach():
                self._wait_seconds = timings.redial_seconds_min
                return timings.redial_seconds_max * ALIAS_WAITS_COUNT
            self._wait_seconds = timings.redial_seconds_min
            await self._last()
        except PeerRefused as refused:
            self._fail(f"{self._shown} {refused}", refused)
        except asyncio.TimeoutError:
            self._fail(f"{self.address} does not answer", None)
        except OSError as error:
            self._fail(f"{self.address} {_reason(error)}", None)
        seconds = self._wait_seconds * self._home.luck.uniform(0.5, 1.0)
        self._wait_seconds = min(2 * self._wait_seconds, timings.redial_seconds_max)
        return seconds

    async def _rest(self, seconds: float) -> None:
        """Wait; a reason to dial ends all but the shortest wait."""
        shortest_seconds = min(seconds, self._home.timings.redial_seconds_min)
        self._wanted.clear()
        await asyncio.sleep(shortest_seconds)
        try:
            await within(seconds - shortest_seconds, self._wanted.wait())
        except asyncio.TimeoutError:
            return

    async def _reach(self) -> bool:
        """Connect both connections; False where it is an alias. Raises OSError, PeerRefused."""
        raft = await self._greet(CONNECTION_RAFT)
        calls = None
        try:
            if not self._is_alias(raft):
                calls = await self._greet(CONNECTION_CALLS)
                self._check_pair(raft, calls)
                if not self._is_alias(calls):
                    self.raft, self.calls = raft, calls
                    self._say(logging.INFO, f"{self.address} is node {self._name}: connected")
                    self._home.on_reached(self)
                    return True
            return False
        finally:
            if not self.is_reached:
                for connection in (raft, calls):
                    if connection is not None:
                        connection.close("is not needed")

    def _is_alias(self, connection: PeerConnection) -> bool:
        self.hello = connection.hello
        known = self._home.alias_of(self, connection.hello) if connection.hello else None
        if known is None:
            return False
        self._say(logging.INFO, f"{self.address} is {known}")
        self._home.on_alias(self)
        return True

    def _check_pair(self, raft: PeerConnection, calls: PeerConnection) -> None:
        first, second = raft.hello, calls.hello
        if first is None or second is None or raft.end or calls.end:
            raise ConnectionEnded(raft.end or calls.end)
        if (first.node_id, first.start_id) != (second.node_id, second.start_id):
            raise PeerRefused(REFUSED_BYTES, "is another node from one moment to the next")

    async def _greet(self, kind: int) -> PeerConnection:
        """A connection on which both sides have said hello and admitted each other."""
        try:
            place = split_address(self.address)
        except AddressRefused as error:
            raise PeerRefused(REFUSED_BYTES, str(error)) from None
        connection = PeerConnection(
            self._home, self._loop, self._home.own_hello(kind, self.address)
        )
        try:
            await within(self._home.timings.greeting_seconds, self._connect(connection, place))
        except PeerRefused as refused:
            connection.refuse(refused)
            raise
        except BaseException:
            connection.abort("is not waited for any longer")
            raise
        return connection

    async def _connect(self, connection: PeerConnection, place: tuple[str, int]) -> None:
        opened = await self._open_socket(*place)
        made = self._loop.create_task(
            self._loop.create_connection(lambda: connection, sock=opened)
        )
        try:
            await asyncio.shield(made)
        except asyncio.CancelledError:
            # It takes a turn or two. Cut off in between, the loop would not tell the protocol of
            # the end, or not close the socket.
            await made
            raise
        await connection.heard
        await self._home.admit(connection)

    async def _open_socket(self, host: str, port: int) -> socket.socket:
        """A connected socket to the first of the host's addresses that takes one."""
        error: OSError = OSError(errno.EADDRNOTAVAIL, "")
        try:
            places = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except ValueError as failure:
            # The codec of names raises UnicodeError for some that look like names.
            raise PeerRefused(REFUSED_BYTES, f"does not resolve: {failure}") from None
        for family, kind, protocol, _, place in places:
            opened = socket.socket(family, kind, protocol)
            try:
                opened.setblocking(False)
                await self._loop.sock_connect(opened, place)
            except BaseException as failure:
                opened.close()
                if not isinstance(failure, OSError):
                    raise
                error = failure
            else:
                return opened
        raise error

    async def _last(self) -> None:
        """Until one of the two connections ends; ends the other, and says why as an exception."""
        raft, calls = self.raft, self.calls
        if raft is None or calls is None:
            return
        await asyncio.wait((raft.ending, calls.ending), return_when=asyncio.FIRST_COMPLETED)
        ended = [connection for connection in (raft, calls) if connection.end]
        first = next((connection for connection in ended if connection.refused), ended[0])
        self.raft = self.calls = None
        for connection in (raft, calls):
            connection.close("has lost its other connection")
        if first.refused is not None:
            raise first.refused
        raise ConnectionEnded(f"(node {self._name}) {first.end}")

    def _fail(self, sentence: str, refused: PeerRefused | None) -> None:
        self._say(logging.WARNING, sentence)
        self._home.on_unreached(self, sentence, refused)

    def _say(self, level: int, sentence: str) -> None:
        """Log what has changed, once."""
        if sentence != self._said:
            self._said = sentence
            log.log(level, "peer %s", sentence)

    @property
    def _name(self) -> str:
        return f"{self.hello.node_id:016x}" if self.hello is not None else "?"


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"does not resolve: {error.strerror}"
    if isinstance(error, ConnectionEnded):
        return str(error)
    return f"cannot be reached: {os.strerror(error.errno) if error.errno else error}"
