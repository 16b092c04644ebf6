"""A load through all nodes of a cluster that keeps account of what it may find afterwards.

Owns, for every key it ever wrote, the values that the key may hold: the one that is acknowledged,
and those of writes whose outcome nobody knows. A write that was answered `applied: no` leaves
nothing behind. Each value is written once, so a value that is found tells which write it was.

An outcome that is unknown may still come true behind later writes, so a key with one is written
no more.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import Counter
from typing import Any

from cluster_support import LOOK_SECONDS, ClusterNode
from processes import CALL_SECONDS_MAX

BATCH_KEYS = 8
#: Longer than an election, so that most writes wait one out.
TIMEOUT_MS = 4000


class Writer:
    """One client: it writes one thing after the other, each through any node."""

    def __init__(self, name: str, nodes: list[ClusterNode], luck: random.Random) -> None:
        self.name = name
        self.may_hold: dict[str, list[Any]] = {}
        self.groups: list[list[str]] = []
        self.outcomes: Counter[str] = Counter()
        self._nodes = nodes
        self._luck = luck
        self._serial = 0
        self._connections: dict[str, http.client.HTTPConnection] = {}
        # What a name stands for is another key after each unknown outcome.
        self._generations: Counter[str] = Counter()

    def write_once(self) -> bool:
        """Whether it was acknowledged."""
        self._serial += 1
        kind = self._luck.choice(["new", "same", "same", "delete", "cas", "batch"])
        if kind == "batch":
            return self._batch()
        name = f"new/{self._serial}" if kind == "new" else \
            f"{'counter' if kind == 'cas' else 'same'}/{self._luck.randrange(4)}"
        key = f"{self.name}/{name}/{self._generations[name]}"
        held = self.may_hold.get(key, [None])[0]
        after: int | None = self._serial
        body: dict[str, Any] = {"key": key, "value": after}
        path = "/set"
        if kind == "delete":
            path, after, body = "/delete", None, {"key": key}
        elif kind == "cas" and held is not None:
            path, body = "/cas", {"key": key, "old_value": held, "new_value": after}
        return self._write([key], name, after, (path, body))

    def _batch(self) -> bool:
        name = f"batch/{self._luck.randrange(4)}"
        keys = [f"{self.name}/{name}/{self._generations[name]}/{at}" for at in range(BATCH_KEYS)]
        if keys not in self.groups:
            self.groups.append(keys)
        operations = [{"op": "set", "key": key, "value": self._serial} for key in keys]
        return self._write(keys, name, self._serial, ("/batch", {"ops": operations}))

    def _write(
        self, keys: list[str], name: str, after: int | None, request: tuple[str, dict[str, Any]]
    ) -> bool:
        outcome = self._call(*request)
        self.outcomes[outcome] += 1
        if outcome == "done":
            for key in keys:
                self.may_hold[key] = [after]
        elif outcome == "unknown":
            self._generations[name] += 1
            for key in keys:
                self.may_hold[key] = [*self.may_hold.get(key, [None]), after]
        else:
            for key in keys:
                self.may_hold.setdefault(key, [None])
        return outcome == "done"

    def _call(self, path: str, body: dict[str, Any]) -> str:
        """What came of it: done, no (certainly nothing), unknown."""
        address = self._luck.choice(self._nodes).address
        connection = self._connections.get(address)
        if connection is None:
            connection = http.client.HTTPConnection(address, timeout=CALL_SECONDS_MAX)
            try:
                connection.connect()
            except OSError:
                return "no"
            self._connections[address] = connection
        try:
            connection.request("POST", path, json.dumps({**body, "timeout_ms": TIMEOUT_MS}))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            self._connections.pop(address).close()
            return "unknown"
        if response.status == 200:
            return "done"
        assert answer["error"]["code"] in ("no_leader", "timeout", "shutting_down"), answer
        applied: str = answer["error"]["applied"]
        assert applied in ("no", "unknown"), answer
        return applied

    def check(self, found: dict[str, Any]) -> None:
        """Everything this writer ever wrote, in what a node holds."""
        wrong = {key: (found.get(key), values) for key, values in self.may_hold.items()
                 if found.get(key) not in values}
        assert not wrong, f"{len(wrong)} keys hold what they must not: {list(wrong.items())[:5]}"
        for keys in self.groups:
            values = {found.get(key) for key in keys}
            assert len(values) == 1, f"half a batch is there: {values}"

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


class Load:
    """Some writers that write until the `with` block ends.

    As many more use only the nodes of `apart`: they go on where a node stands still, on which
    all others soon wait.
    """

    def __init__(self, nodes: list[ClusterNode], seed: int, writers_count: int = 6, *,
                 apart: list[ClusterNode] | None = None) -> None:
        luck = random.Random(seed)
        entries = [nodes] * writers_count + ([apart] * writers_count if apart else [])
        self.writers = [Writer(f"writer-{at}", entry, random.Random(luck.random()))
                        for at, entry in enumerate(entries)]
        self._answers = threading.Semaphore(0)
        self._is_over = threading.Event()
        self._faults: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(writer,))
                         for writer in self.writers]

    def _run(self, writer: Writer) -> None:
        try:
            while not self._is_over.is_set():
                if writer.write_once():
                    self._answers.release()
                else:
                    self._is_over.wait(LOOK_SECONDS)  # a node that is down refuses at once
        except BaseException as fault:
            self._faults.append(fault)

    def wait_for(self, answers_count: int) -> None:
        """Until so many more writes are acknowledged."""
        for _ in range(answers_count):
            assert self._answers.acquire(timeout=CALL_SECONDS_MAX), "nothing is written any more"
            if self._faults:
                raise self._faults[0]

    def forget(self) -> None:
        """What was acknowledged until now is not waited for."""
        while self._answers.acquire(blocking=False):
            pass

    @property
    def outcomes(self) -> Counter[str]:
        return sum((writer.outcomes for writer in self.writers), Counter())

    def check(self, found: dict[str, Any]) -> None:
        """What a node holds in the end: all that must be there, and nothing that must not."""
        known: set[str] = set()
        for writer in self.writers:
            writer.check(found)
            known |= writer.may_hold.keys()
        assert found.keys() <= known, sorted(found.keys() - known)[:5]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        for writer in self.writers:
            writer.close()
        if self._faults:
            raise self._faults[0]
