"""A client that sees every byte, and an HTTP server in this process whose writes can be held up.

`Client` writes what it is told and parses answers strictly. `Bench` runs the real HTTP server on a
real socket, in a thread with a loop of its own, in front of `HeldNode`: the real map and state
machine without a log, so that a test decides when a write has its outcome.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import uvloop

from seafoam._core.http import Hosts
from seafoam._core.map import MapWriter
from seafoam._core.message import ENTRY_COMMAND, Entry
from seafoam._core.store import CommandResult, Store
from seafoam.errors import Refusal
from seafoam.http_server import HttpServer

#: No test passes because of this; it ends one that has gone wrong.
PATIENCE_SECONDS = 30.0
CLUSTER_ID = "00000000000000c1"


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    raw_head: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code; "" where it is none."""
        return self.json["error"]["code"] if self.status >= 400 else ""

    @property
    def index(self) -> int:
        return int(self.headers["seafoam-index"])


class Client:
    """One connection to `address` (host, port)."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.held = bytearray()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _fill(self) -> None:
        more = self.socket.recv(1 << 20)
        if not more:
            raise EOFError(bytes(self.held))
        self.held += more

    def receive(self, *, head_only: bool = False) -> Response:
        """The next answer; raises EOFError where the connection ended before it."""
        while (head_bytes := self.held.find(b"\r\n\r\n", 0, 20_000)) < 0:
            self._fill()
        head = bytes(self.held[:head_bytes])
        del self.held[:head_bytes + 4]
        lines = head.split(b"\r\n")
        version, status, _ = lines[0].split(b" ", 2)
        assert version == b"HTTP/1.1", lines[0]
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(b": ")
            assert name.lower().decode() not in headers, line
            headers[name.lower().decode()] = value.decode()
        if status == b"100":
            return Response(100, headers, b"", head)
        length = 0 if head_only else int(headers["content-length"])
        while len(self.held) < length:
            self._fill()
        body = bytes(self.held[:length])
        del self.held[:length]
        return Response(int(status), headers, body, head)

    def at_end(self) -> bool:
        """Whether the server ends the connection now, without another byte."""
        try:
            self._fill()
        except (EOFError, ConnectionResetError):
            return not self.held
        return False

    def call(self, name: str, body: bytes | dict[str, Any], **headers: str) -> Response:
        """POST a call, plainly valid unless headers make it otherwise."""
        self.send(post(name, body, **headers))
        return self.receive()

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        self.send(request(method, target, body, **headers))
        return self.receive(head_only=method == "HEAD")


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """One request's bytes; an underscore in a header's name stands for a dash."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {headers.pop('host', 'localhost')}"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def post(name: str, body: bytes | dict[str, Any], **headers: str) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", f"/{name}", text, **headers)


class HeldNode:
    """A node without a log: what is submitted is applied at once, or when `release` is called."""

    def __init__(self) -> None:
        self.writer = MapWriter(bytes(16), max_logical_bytes=1 << 30, start_id=1)
        self.reader = self.writer.reader()
        self.store = Store(self.writer)
        self.node_id = "00000000000000a1"
        self.cluster_id = CLUSTER_ID
        self.holds = False
        self.refusal: Refusal | None = None
        self.index = 0
        self.held: deque[tuple[bytes, Callable[[CommandResult | Refusal], None]]] = deque()
        self.timeouts_ms: list[int] = []

    def submit(
        self, command: bytes, timeout_ms: int,
        on_outcome: Callable[[CommandResult | Refusal], None],
    ) -> None:
        self.timeouts_ms.append(timeout_ms)
        if self.refusal is not None and self.refusal.applied is not None:
            on_outcome(self.refusal)
            return
        self.held.append((command, on_outcome))
        if not self.holds:
            self.release(len(self.held))

    def release(self, count: int) -> None:
        """Apply the oldest `count` writes and tell their outcome."""
        for _ in range(count):
            command, on_outcome = self.held.popleft()
            self.index += 1
            on_outcome(self.store.apply(Entry(self.index, 1, ENTRY_COMMAND, command)))

    def refuse_reads(self) -> Refusal | None:
        return self.refusal

    def readiness(self) -> Refusal | None:
        return self.refusal and Refusal("not_ready", self.refusal.message)

    def members(self) -> list[dict[str, str]]:
        return [{"node_id": self.node_id, "peer": "127.0.0.1:1", "http": "127.0.0.1:2",
                 "role": "voter"}]

    def status(self) -> dict[str, object]:
        place = {"node_id": self.node_id, "peer": "127.0.0.1:1"}
        return {
            "node_id": self.node_id, "cluster_id": self.cluster_id, "role": "leader", "term": 1,
            "leader": place, "commit_index": self.index, "applied_index": self.index,
            "keys": self.writer.keys, "memory_bytes": self.writer.logical_bytes,
            "members": [{**place, "role": "voter"}],
        }


class Bench:
    """The HTTP server before a `HeldNode`, in a thread; everything else runs through `call`."""

    def __init__(
        self, *, hosts: tuple[str, ...] = (), loop: Any = uvloop, **settings: int
    ) -> None:
        self.node = HeldNode()
        self.fatal: list[BaseException] = []
        self._settings = settings
        self._hosts = Hosts(hosts)
        self._new_loop = loop.new_event_loop
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(PATIENCE_SECONDS)

    def _run(self, started: threading.Event) -> None:
        self.loop = self._new_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._start())
        started.set()
        self.loop.run_forever()
        self.loop.close()

    async def _start(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        listener.setblocking(False)
        self.address = listener.getsockname()
        self.http = HttpServer(
            self.node, self._hosts, on_fatal=self._end, **self._settings
        )
        await self.http.start(listener)

    def _end(self, error: BaseException) -> None:
        # A process would end here; its clients would notice.
        self.fatal.append(error)
        self.loop.call_soon(self.http._cut)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run `function` in the server's thread; its result."""
        done: list[Any] = []
        ready = threading.Event()

        def run() -> None:
            done.append(function(*arguments))
            ready.set()

        self.loop.call_soon_threadsafe(run)
        assert ready.wait(PATIENCE_SECONDS)
        return done[0]

    def client(self) -> Client:
        return Client(self.address)

    def stop(self, grace_seconds: float) -> Any:
        """Begin to stop; a future that is done when it has."""
        return asyncio.run_coroutine_threadsafe(self.http.stop(grace_seconds), self.loop)

    def when(self, condition: Callable[[], bool]) -> None:
        """Turn the server's loop until `condition` holds there."""
        reached = threading.Event()

        def look() -> None:
            if condition():
                reached.set()
            else:
                self.loop.call_later(0.001, look)

        self.loop.call_soon_threadsafe(look)
        assert reached.wait(PATIENCE_SECONDS), "it never came to be"

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(0).result(PATIENCE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        assert not self.fatal, self.fatal
        assert self.http.stats()["connections"] == 0
        assert self.http.stats()["in_flight_bytes"] == 0, "bytes that were charged are not back"
