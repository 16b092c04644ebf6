"""Nodes that are nothing but their network, and strangers that write what they like.

`Station` is a `Peers` on a real socket with a handler that keeps what it is told; `until` waits
for that without sleeping. `Stranger` is a bare socket at either end of which a test stands.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from seafoam._core.message import MESSAGE_HEARTBEAT, Message
from seafoam._core.wire_peer import (
    CONNECTION_CALLS,
    CONNECTION_RAFT,
    FRAME_CALL,
    FRAME_CALL_ANSWER,
    FRAME_PART,
    FRAME_PROBE,
    FRAME_PROBE_ANSWER,
    FRAME_RAFT,
    Frame,
    FrameReader,
    FrameWriter,
    Hello,
)
from seafoam.peer_connection import Timings
from seafoam.peers import Identity, Peers

#: No test passes because of this; it ends one that has gone wrong.
PATIENCE_SECONDS = 30.0
#: Attempts follow each other at once, and patience is only tried where a test shortens it.
TIMINGS = Timings(PATIENCE_SECONDS, PATIENCE_SECONDS, PATIENCE_SECONDS, 0.001, 0.01)
CLUSTER = 0xC1
ALL_TYPES = (FRAME_RAFT, FRAME_PART, FRAME_CALL, FRAME_CALL_ANSWER, FRAME_PROBE,
             FRAME_PROBE_ANSWER)


def run(test: Callable[[], Awaitable[None]], new_loop: Any = uvloop.new_event_loop) -> None:
    """Run a test's coroutine on a loop of its own; what nobody caught in that loop fails it."""
    loop = new_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        loop.run_until_complete(asyncio.wait_for(test(), PATIENCE_SECONDS))
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
    assert not failures, failures


def listen(host: str = "127.0.0.1") -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unused_address() -> str:
    """Where nobody listens."""
    with listen() as listener:
        return address_of(listener)


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    """What was logged with these words in it."""
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


async def turn(condition: Callable[[], Any]) -> None:
    """Turn the loop until something is so that nobody tells of."""
    while not condition():
        await asyncio.sleep(0)


class Station:
    """A node's network, and what it has been told."""

    def __init__(
        self, node_id: int, *, start_id: int = 1, cluster_id: int = CLUSTER,
        timings: Timings = TIMINGS, host: str = "127.0.0.1",
    ) -> None:
        self.node_id = node_id
        self.listener = listen(host)
        self.address = address_of(self.listener)
        identity = Identity(node_id, start_id, cluster_id, self.address, f"web:{node_id}")
        self.peers = Peers(identity, self, asyncio.get_running_loop(),
                           luck=random.Random(node_id << 8 | start_id), timings=timings)
        self.told: list[tuple[Any, ...]] = []
        self.answers: Callable[[bytes, Callable[[bytes], None]], None] = lambda payload, answer: (
            answer(b"re:" + payload))
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Station:
        await self.peers.start(self.listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peers.stop()
        assert not self.peers._connections and not self.peers._roster
        assert not self.peers._contact_of and not self.peers._welcomes

    # What the network tells.

    def _tell(self, *what: Any) -> None:
        self.told.append(what)
        self._changed.set()

    def on_hello(self, address: str, hello: Hello) -> None:
        self._tell("hello", address, hello.node_id, hello.cluster_id)

    def on_called(self, hello: Hello) -> None:
        self._tell("called", hello.node_id, hello.peer_address, hello.cluster_id)

    def on_message(self, from_id: int, message: Message) -> None:
        self._tell("message", from_id, message)

    def on_call(self, hello: Hello, payload: bytes, answer: Callable[[bytes], None]) -> None:
        self._tell("call", hello.node_id, payload)
        self.answers(payload, answer)

    def on_lost(self, address: str) -> None:
        self._tell("lost", address)

    def on_unreachable(self, address: str, sentence: str) -> None:
        self._tell("unreachable", address, sentence)

    def on_refused(self, address: str, code: int, sentence: str) -> None:
        self._tell("refused", address, code, sentence)

    def on_copy(self, address: str, sentence: str) -> None:
        self._tell("copy", address, sentence)

    # What a test waits for.

    async def until(self, condition: Callable[[], Any]) -> Any:
        while not (found := condition()):
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), PATIENCE_SECONDS)
        return found

    def all(self, kind: str) -> list[tuple[Any, ...]]:
        return [what for what in self.told if what[0] == kind]

    async def first(self, kind: str, *begin: Any) -> tuple[Any, ...]:
        """The first thing told of this kind, which begins so."""
        def look() -> tuple[Any, ...] | None:
            for what in self.all(kind):
                if what[1:1 + len(begin)] == begin:
                    return what
            return None

        return await self.until(look)

    async def reach(self, *others: Station) -> None:
        """Keep the others and wait until all are reached."""
        self.peers.keep([other.address for other in others])
        for other in others:
            await self.first("hello", other.address)

    async def ask(self, to: int | str, payload: bytes) -> Any:
        answered = asyncio.get_running_loop().create_future()
        self.peers.call(to, payload, answered.set_result)
        assert not answered.done(), "never from within"
        return await answered

    def beat(self, to: int, context: int = 0) -> Message:
        """Send a heartbeat."""
        message = Message(MESSAGE_HEARTBEAT, self.node_id, to, 1, context=context)
        self.peers.send(to, message)
        return message


class Stranger:
    """One end of a connection, in a test's hands."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams = reader, writer
        self.reader, self.writer = FrameReader(), FrameWriter()

    @staticmethod
    async def dial(station: Station) -> Stranger:
        host, _, port = station.address.rpartition(":")
        return Stranger(*await asyncio.open_connection(host.strip("[]"), int(port)))

    async def greet(self, station: Station, kind: int = CONNECTION_RAFT, *, node_id: int = 0xEE,
                    proves: bool = True, **changes: Any) -> Stranger:
        """Say hello as a node of the cluster would, and hear the answer."""
        said = {"cluster_id": CLUSTER, "nonce": 77, "peer_address": "stranger:1",
                "dialled_address": station.address, **changes}
        self.hello = Hello(kind, node_id, said.pop("start_id", 1), **said)
        self.send(self.writer.hello(self.hello))
        heard = await self.next()
        if isinstance(heard.body, Hello):
            self.open(heard.body.nonce)
        if proves:
            assert (await self.next()).type == FRAME_PROBE
            self.send(self.writer.probe_answer())
        return self

    def open(self, nonce: int) -> None:
        self.writer.open(self.hello.nonce, nonce)
        self.reader.open(nonce, self.hello.nonce, ALL_TYPES)

    def send(self, data: bytes) -> None:
        self.streams[1].write(data)

    async def next(self) -> Frame | None:
        """The next frame; None where the connection has ended."""
        while (frame := self.reader.next()) is None:
            try:
                data = await self.streams[0].read(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self.reader.feed(data)
        return frame

    async def refusal(self) -> str:
        """The sentence with which the other side ends the connection."""
        frame = await self.next()
        assert frame is not None
        assert await self.next() is None
        self.close()
        return str(frame.body)

    def close(self) -> None:
        self.streams[1].close()


async def pair(station: Station, **changes: Any) -> tuple[Stranger, Stranger]:
    """A stranger that has called a station, with both connections."""
    raft = await (await Stranger.dial(station)).greet(station, CONNECTION_RAFT, **changes)
    calls = await (await Stranger.dial(station)).greet(station, CONNECTION_CALLS, **changes)
    return raft, calls
