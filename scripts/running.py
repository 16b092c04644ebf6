"""Nodes for `make run` and `make cluster`: started, waited for, asked and stopped.

Owns no node: who starts one stops it. What goes wrong is a `Failed`, in a sentence.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parent.parent
#: A start that takes longer than this has gone wrong; a full log of some GB takes less.
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0
CALL_SECONDS_MAX = 20.0


class Failed(Exception):
    """What went wrong, in a sentence."""


class RunningNode:
    """A node on 127.0.0.1, its output in `log`; not ready before `wait_until_ready`."""

    def __init__(self, log: Path, http_port: int, peer_port: int, *more: str) -> None:
        self.address = f"127.0.0.1:{http_port}"
        self.log = log
        command = [str(BIN / "seafoam-server"), str(http_port), str(peer_port), *more]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL
            )

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(self.address, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS_MAX
        while self.process.poll() is None and time.monotonic() < end:
            if self.is_ready():
                # Another node on the port would answer too, while ours is about to give up.
                time.sleep(0.1)
                if self.process.poll() is None:
                    return
            time.sleep(0.02)
        said = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = said[-1] if said else f"see {self.log}"
        raise Failed(f"the node cannot start: {last.rpartition('cannot start: ')[2]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def call(self, path: str, body: dict[str, object]) -> dict[str, Any]:
        """This node's answer to a POST, which must be a good one."""
        connection = http.client.HTTPConnection(self.address, timeout=CALL_SECONDS_MAX)
        try:
            connection.request("POST", path, json.dumps(body))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Failed(f"{self.address} does not answer {path}: {error}") from None
        finally:
            connection.close()
        if response.status != 200 or not isinstance(answer, dict):
            raise Failed(f"{self.address} answers {path} with {response.status}: {answer}")
        return answer

    def seafoam(self, *arguments: str) -> str:
        """What the command line prints for `arguments`, asked of this node."""
        done = subprocess.run([str(BIN / "seafoam"), "--node", self.address, *arguments],
                              stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise Failed(f"seafoam {' '.join(arguments)} ended with status {done.returncode}")
        return done.stdout.strip()


def has_terminal() -> bool:
    """Whether somebody is there to press Ctrl-C."""
    return sys.stdin.isatty() and sys.stdout.isatty()
