"""Real processes for tests: a node, and the commands that talk to it.

Owns what it started: a node ends with its `with` block. Ports are picked by the node and read from
what it says, so that tests run side by side.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SERVES = re.compile(r" serves http://(\S+:[0-9]+)")
#: No test passes because of these; they end a test that has gone wrong.
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 30.0
CALL_SECONDS_MAX = 30.0


def environment(**more: str) -> dict[str, str]:
    """This process's, without settings that would reach the commands under test."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("SEAFOAM_") or name == "SEAFOAM_SOAK"}
    return {**kept, **more}


def seafoam(*arguments: str, stdin: bytes = b"", **variables: str) -> tuple[int, str, str]:
    """(exit status, standard output, standard error) of ``seafoam`` with `arguments`."""
    done = subprocess.run(
        [sys.executable, "-m", "seafoam", *arguments], input=stdin, capture_output=True,
        env=environment(**variables), timeout=120,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


class NodeProcess:
    """A node on `data_dir`, started at once and ready when the constructor returns."""

    #: What is started, and what its environment has beside this process's.
    module = "seafoam"
    variables: dict[str, str] = {}

    def __init__(self, data_dir: Path, *options: str, peer_port: int = 0) -> None:
        self.data_dir = data_dir
        self._options = options
        self._peer_port = peer_port
        self.said: list[str] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, "server", "0", str(self._peer_port),
             "--data-dir", str(self.data_dir), *self._options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            text=True, env=environment(**self.variables),
        )
        self.said = []
        serving = threading.Event()
        self.listener = threading.Thread(
            target=self._listen, args=(self.process, serving), daemon=True
        )
        self.listener.start()
        serving.wait(START_SECONDS_MAX)
        found = SERVES.search("".join(self.said))
        if found is None:
            self.kill()
            raise AssertionError(f"the node did not start: {''.join(self.said)}")
        self.address = found[1]

    def _listen(self, process: subprocess.Popen[str], serving: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                self.said.append(line)
                if SERVES.search(line):
                    serving.set()
        serving.set()  # it ended; whoever waits finds out

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=CALL_SECONDS_MAX)

    def call(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        connection = self.connect()
        try:
            return call(connection, path, body)
        finally:
            connection.close()

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """(HTTP status, answer) of a GET."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def get_many(self, keys: list[str]) -> list[Any]:
        """The values of `keys`, None where there is none."""
        values: list[Any] = []
        for first in range(0, len(keys), 5000):
            status, answer = self.call("/get", {"keys": keys[first:first + 5000]})
            assert status == 200, answer
            values += answer["values"]
        return values

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_SECONDS_MAX)

    def stop(self) -> int:
        """Ask the node to end; its exit status."""
        self.process.terminate()
        return self.process.wait(STOP_SECONDS_MAX)

    def __enter__(self) -> NodeProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


def call(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """(HTTP status, answer) of one call on a connection that stays open."""
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def server_refuses(
    data_dir: Path, *options: str, ports: tuple[str, str] = ("0", "0"), descriptors: int = 1024
) -> str:
    """What a node says that must not start: one sentence, no traceback; the last line."""
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors),
         sys.executable, "-m", "seafoam", "server", *ports, "--data-dir", str(data_dir), *options],
        capture_output=True, text=True, env=environment(), timeout=START_SECONDS_MAX,
    )
    assert done.returncode in (1, 2), (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 or len(lines) == 1, done.stderr
    return lines[-1]
