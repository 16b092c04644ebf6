"""The programs the HTTP bench runs: the two written in C, the servers, and how they are told.

Every server stands on one core and the load generator on another. All of them die with the bench.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench_keys import key_of, value_of

HERE = Path(__file__).parent
CONNECTIONS = 32
#: Operations of a /batch, and commands of one write to Redis, while the data is loaded.
LOAD_BATCH = 1_000


def compiler() -> str | None:
    """The C compiler, None where there is none."""
    names = (os.environ.get("CC", "cc"), "gcc", "clang")
    return next(filter(None, map(shutil.which, names)), None)


def compiled(name: str, folder: Path) -> Path:
    """Compile ``name.c`` of this folder into `folder`, once."""
    program = folder / name
    if not program.exists():
        found = compiler()
        assert found is not None
        source = str(HERE / f"{name}.c")
        subprocess.run([found, "-O2", "-std=c11", "-o", str(program), source], check=True)
    return program


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_on(core: int, command: list[str], **options: object) -> subprocess.Popen[str]:
    """Start `command` pinned to `core`, which it inherits from this thread."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        return subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload]
    finally:
        os.sched_setaffinity(0, cores)


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    process: subprocess.Popen[str]
    protocol: str = "http"


def wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Until `port` accepts connections."""
    for _ in range(300):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(
            ("127.0.0.1", port), timeout=5
        ):
            return
        assert process.poll() is None, f"the server ended with status {process.returncode}"
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


@contextlib.contextmanager
def seafoam(core: int, folder: Path, key_count: int) -> Iterator[Server]:
    """A node with the first `key_count` keys in it."""
    port = free_port()
    start = "from seafoam.cli import server_main; server_main()"
    command = [sys.executable, "-c", start, str(port), "0", "--data-dir", str(folder / "node")]
    with (folder / "node.log").open("w") as log:
        process = start_on(core, command, stdout=log, stderr=log)
    try:
        wait_for(port, process)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        wait_until_ready(connection)
        for first in range(0, key_count, LOAD_BATCH):
            operations = [
                {"op": "set", "key": key_of(index), "value": json.loads(value_of(index))}
                for index in range(first, min(first + LOAD_BATCH, key_count))
            ]
            connection.request("POST", "/batch", json.dumps({"ops": operations}))
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text[:400]
        connection.close()
        yield Server("Seafoam", port, process)
    finally:
        stop(process)


def wait_until_ready(connection: http.client.HTTPConnection) -> None:
    """Until /readyz says so."""
    for _ in range(300):
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        answer.read()
        if answer.status == 200:
            return
        time.sleep(0.05)
    raise AssertionError("the node does not become ready")


def one_answer(server: Server, key: str) -> bytes:
    """The whole answer to one ``POST /get``, head and body, as it came."""
    body = b'{"key":"%s"}' % key.encode()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(
            b"POST /get HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: %d\r\n\r\n%s"
            % (server.port, len(body), body)
        )
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < whole_bytes(answer):
            received = client.recv(65536)
            assert received, answer
            answer += received
    return answer


def whole_bytes(answer: bytes) -> int:
    """Length of an answer whose head is complete."""
    head, _, _ = answer.partition(b"\r\n\r\n")
    lengths = [
        int(line.partition(b":")[2])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return len(head) + 4 + lengths[0]


@contextlib.contextmanager
def bare_loop(core: int, folder: Path, answer: bytes) -> Iterator[Server]:
    """The bare epoll loop, answering `answer` to everything."""
    (folder / "answer").write_bytes(answer)
    command = [str(compiled("bare_epoll", folder)), str(folder / "answer")]
    process = start_on(core, command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Server("bare epoll loop", int(process.stdout.readline()), process)
    finally:
        stop(process)


@contextlib.contextmanager
def redis(core: int, folder: Path, key_count: int) -> Iterator[Server]:
    """A Redis without persistence, with the same keys and values."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    command += ["--appendonly", "no", "--dir", str(folder)]
    process = start_on(core, command, stdout=subprocess.DEVNULL)
    try:
        wait_for(port, process)
        with socket.create_connection(("127.0.0.1", port)) as client:
            for first in range(0, key_count, LOAD_BATCH):
                numbers = range(first, min(first + LOAD_BATCH, key_count))
                client.sendall(b"".join(redis_set(numbers)))
                left = len(numbers) * len(b"+OK\r\n")
                while left:
                    left -= len(client.recv(left))
        yield Server("Redis GET", port, process, "redis")
    finally:
        stop(process)


def redis_set(numbers: Iterable[int]) -> Iterator[bytes]:
    """SET commands in Redis's protocol."""
    for number in numbers:
        key, value = key_of(number).encode(), value_of(number)
        yield b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, len(value), value)


class Load:
    """The load generator on a core, connected to one server."""

    def __init__(self, core: int, folder: Path, server: Server, depth: int, body: range) -> None:
        self.figures: list[dict[str, float]] = []
        self.process = start_on(
            core,
            [
                str(compiled("load", folder)), f"port={server.port}", f"keys={folder / 'keys'}",
                f"protocol={server.protocol}", f"connections={CONNECTIONS}", f"depth={depth}",
                f"cpu={core}", f"server={server.process.pid}",
                f"body_min={body.start}", f"body_max={body.stop}",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "the load generator stopped; its message stands above"
        return line

    def run(self, request_count: int) -> None:
        """Send so many requests, await their answers, keep the figures."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{request_count}\n")
        self.process.stdin.flush()
        self.figures.append(json.loads(self._answer()))

    def close(self) -> None:
        stop(self.process)
