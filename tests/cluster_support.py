"""Clusters of real processes for tests: nodes that are started, killed, wiped and asked.

Owns what it started: all nodes end with the cluster's `with` block; what they said stays in
the folder, a file a node. Ports lie below those that the system gives to whoever dials: a port of
a node that is down can then be taken by nobody's outgoing connection.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from processes import CALL_SECONDS_MAX, STOP_SECONDS_MAX, NodeProcess, environment

#: No test passes because of this; it ends one that has gone wrong.
PATIENCE_SECONDS = 20.0
LOOK_SECONDS = 0.02
PORT_MIN = 10_000


def _ports() -> Iterator[int]:
    """Ports that nobody listens on, each given once by this process."""
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        port_end = min(int(text.split()[0]), 32768)
    except OSError:
        port_end = 32768
    span = port_end - PORT_MIN
    for number in itertools.count(os.getpid() * 61):
        port = PORT_MIN + number % span
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


_PORTS = _ports()


def free_port() -> int:
    """A port for a node."""
    return next(_PORTS)


class ClusterNode(NodeProcess):
    """A node whose ports are known before it runs; `launch` does not wait for it to serve."""

    def __init__(self, folder: Path, *peers: str, host: str = "127.0.0.1",
                 ports: tuple[int, int] | None = None, options: tuple[str, ...] = ()) -> None:
        self.http_port, self.peer_port = ports or (free_port(), free_port())
        bracketed = f"[{host}]" if ":" in host else host
        self.address = f"{bracketed}:{self.http_port}"
        self.peer = f"{bracketed}:{self.peer_port}"
        self.peers = peers
        self.data_dir = folder / str(self.peer_port)
        self.said: list[str] = []
        self._more = options if host == "127.0.0.1" else ("--host", host, *options)
        self._log = folder / f"{self.peer_port}.log"
        self._heard = threading.Condition()
        self._has_ended = True

    def move_to(self, host: str, name: str) -> None:
        """Listen at a host's address, and be reached by a name."""
        self.address = f"{name}:{self.http_port}"
        self.peer = f"{name}:{self.peer_port}"
        self._more = ("--host", host, "--insecure", "--advertise", name)

    def launch(self) -> ClusterNode:
        """Start the process."""
        command = [sys.executable, "-m", "seafoam", "server", str(self.http_port),
                   str(self.peer_port), *self.peers, "--data-dir", str(self.data_dir), *self._more]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=environment(),
        )
        self.said, self._has_ended = [], False
        threading.Thread(
            target=self._follow, args=(self.process, self.said), daemon=True).start()
        return self

    def start(self) -> None:
        """Start it, and wait until it is in a cluster and serves."""
        self.launch()
        self.wait_until_ready()

    def _follow(self, process: subprocess.Popen[str], said: list[str]) -> None:
        assert process.stderr is not None
        with process.stderr as stream, self._log.open("a") as log:
            for line in stream:
                log.write(line)
                log.flush()
                with self._heard:
                    said.append(line)
                    self._heard.notify_all()
        with self._heard:
            self._has_ended = self._has_ended or said is self.said
            self._heard.notify_all()

    @property
    def is_running(self) -> bool:
        return hasattr(self, "process") and self.process.poll() is None

    def wait_until_it_says(self, pattern: str, first_line: int = 0) -> str:
        """The first line from `first_line` on that matches, as soon as there is one."""
        def found() -> str:
            return next((line for line in self.said[first_line:] if re.search(pattern, line)), "")

        with self._heard:
            self._heard.wait_for(lambda: found() or self._has_ended, PATIENCE_SECONDS)
            line = found()
        assert line, f"{self.peer} does not say {pattern!r}:\n{''.join(self.said[-40:])}"
        return line

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            assert self.is_running, f"{self.peer} has ended:\n{''.join(self.said[-40:])}"
            return self.try_ask("/readyz")[0] == 200

        wait_until(ready, lambda: f"{self.peer} is not ready:\n{''.join(self.said[-40:])}")

    def try_ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """As `ask`, and (0, {}) where nobody answers."""
        try:
            return self.ask(path)
        except (OSError, http.client.HTTPException):
            return 0, {}

    def members(self) -> list[dict[str, str]]:
        """As it has applied them, without where clients reach them, which is only heard of."""
        members = self.try_ask("/members")[1].get("members", [])
        return [{name: member[name] for name in ("node_id", "peer", "role")}
                for member in members]

    @property
    def status(self) -> dict[str, Any]:
        return self.ask("/status")[1]

    def set(self, key: str, value: object, **more: object) -> int:
        """Write, which must succeed; the index."""
        status, answer = self.call("/set", {"key": key, "value": value, **more})
        assert status == 200, answer
        index: int = answer["index"]
        return index

    def get(self, key: str) -> object:
        return self.get_many([key])[0]

    def contents(self) -> dict[str, Any]:
        """Every key and value."""
        held: dict[str, Any] = {}
        page: dict[str, Any] = {"next": ""}
        connection = self.connect()
        while "next" in page:
            connection.request("POST", "/scan", json.dumps(
                {"limit": 10000, "values": True, "after": page["next"]}))
            response = connection.getresponse()
            page = json.loads(response.read())
            assert response.status == 200, page
            held.update(zip(page["keys"], page["values"], strict=True))
        connection.close()
        return held

    def wipe(self) -> None:
        shutil.rmtree(self.data_dir)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It stands still, as a process that the machine gives no time."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(STOP_SECONDS_MAX)


class Cluster:
    """Nodes that were started with the command lines of the three-instance example."""

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        ports = [(free_port(), free_port()) for _ in range(3)]
        bracketed = f"[{host}]" if ":" in host else host
        peers = tuple(f"{bracketed}:{peer_port}" for _, peer_port in ports[1:])
        self.nodes = [ClusterNode(folder, *peers, host=host, ports=pair) for pair in ports]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            if node.is_running:
                node.process.send_signal(signal.SIGCONT)
                node.kill()

    def add(self, *peers: str) -> ClusterNode:
        """One more node, not running yet."""
        node = ClusterNode(self.folder, *peers)
        self.nodes.append(node)
        return node

    def start(self) -> Cluster:
        """All of them run and serve."""
        for node in self.nodes:
            if not node.is_running:
                node.launch()
        for node in self.nodes:
            node.wait_until_ready()
        return self

    def kill(self) -> None:
        """All of them, as one power cut would."""
        for node in self.nodes:
            if node.is_running:
                node.process.send_signal(signal.SIGKILL)
        for node in self.nodes:
            node.process.wait(STOP_SECONDS_MAX)

    @property
    def running(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.is_running]

    def leader(self) -> ClusterNode:
        """Whom all that run take for their leader, in one term."""
        found: list[ClusterNode] = []

        def is_agreed() -> bool:
            statuses = [node.try_ask("/status")[1] for node in self.running]
            if not all(status.get("leader") for status in statuses):
                return False
            if len({(status["term"], status["leader"]["node_id"]) for status in statuses}) > 1:
                return False
            found[:] = [node for node, status in zip(self.running, statuses, strict=True)
                        if status["role"] == "leader"]
            return len(found) == 1

        wait_until(is_agreed, lambda: f"no leader is agreed on:\n{self.tail()}")
        return found[0]

    def followers(self) -> list[ClusterNode]:
        leader = self.leader()
        return [node for node in self.running if node is not leader]

    def wait_until_members(self, voters_count: int, learners_count: int = 0) -> list[str]:
        """Until each running node tells of so many members; their ids."""
        seen: list[dict[str, str]] = []

        def are_there() -> bool:
            answers = [node.members() for node in self.running]
            seen[:] = answers[0]
            roles = [member["role"] for member in seen]
            return all(answer == answers[0] for answer in answers) and (
                roles.count("voter"), roles.count("learner")) == (voters_count, learners_count)

        wait_until(are_there, lambda: f"the members are {seen}:\n{self.tail()}")
        return [member["node_id"] for member in seen]

    def wait_until_equal(self, nodes: Iterable[ClusterNode] = ()) -> dict[str, Any]:
        """Until all have applied the same; what they hold, which must be equal too."""
        chosen = list(nodes) or self.running

        def stand_equal() -> bool:
            answers = [node.try_ask("/status") for node in chosen]
            return all(status == 200 for status, _ in answers) and len(
                {(found["applied_index"], found["commit_index"]) for _, found in answers}) == 1

        wait_until(stand_equal, lambda: f"the nodes do not catch up:\n{self.tail()}")
        first, *others = [node.contents() for node in chosen]
        for other in others:
            assert other == first
        return first

    def tail(self) -> str:
        """What each said last."""
        return "\n".join(
            f"-- {node.peer}\n{''.join(node.said[-12:])}" for node in self.nodes)


def wait_until(is_so: Callable[[], bool], words: Callable[[], str]) -> None:
    """Look until it is so; fail with `words`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        if time.monotonic() > end:
            raise AssertionError(words())
        time.sleep(LOOK_SECONDS)


def talk(address: tuple[str, int], data: bytes) -> bytes:
    """Send bytes to a port and read whatever comes until the other side ends."""
    with socket.create_connection(address, timeout=CALL_SECONDS_MAX) as stream:
        stream.sendall(data)
        stream.shutdown(socket.SHUT_WR)
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while more := stream.recv(65536):
                heard += more
        return heard
