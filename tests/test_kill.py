"""Acknowledged means on disk: a node is killed in the middle of writing, again and again.

Each round starts a node on the same directory, lets several connections write at once, kills the
node (SIGKILL) when a number of answers has come that the round's seed chose, starts it again, and
looks at everything that was ever written: what was acknowledged is there, a batch is there whole
or not at all, and what was neither acknowledged nor under way is not there.
"""

from __future__ import annotations

import http.client
import os
import random
import threading
from pathlib import Path
from typing import Any

from documents import documents, write
from processes import NodeProcess, call, seafoam

ROUNDS = 200 if os.environ.get("SEAFOAM_SOAK") else 10
WRITERS = 6
BATCH_KEYS = 8


class Writer:
    """One connection's writes, and what each of its keys may hold.

    Key -> the values it may have: one that is acknowledged, and one more while a write of it is
    under way or its answer was lost. None stands for no such key.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.may_hold: dict[str, list[Any]] = {}
        self.groups: list[list[str]] = []
        self.acknowledged_count = 0
        self.doubted_count = 0
        self.serial = 0

    def write(
        self, node: NodeProcess, luck: random.Random, on_answer: threading.Semaphore
    ) -> None:
        """Write until the node is gone."""
        connection = node.connect()
        try:
            while True:
                self._write_once(connection, luck)
                self.acknowledged_count += 1
                on_answer.release()
        except (OSError, http.client.HTTPException):
            self.doubted_count += 1  # killed: nobody knows of the last write
        finally:
            connection.close()

    def _write_once(self, connection: http.client.HTTPConnection, luck: random.Random) -> None:
        self.serial += 1
        kind = luck.choice(["new", "overwrite", "delete", "cas", "batch", "batch"])
        if kind == "new":
            key, path, more = f"{self.name}/new/{self.serial}", "/set", {"value": self.serial}
        elif kind == "overwrite":
            key, path, more = f"{self.name}/same", "/set", {"value": self.serial}
        elif kind == "delete":
            key, path, more = f"{self.name}/same", "/delete", {}
        elif kind == "cas":
            key, path = f"{self.name}/counter", "/cas"
            old = self.may_hold.get(key, [None])[0]
            more = {"old_value": old, "new_value": self.serial}
            if old is None:
                path, more = "/set", {"value": self.serial}
        else:
            self._write_batch(connection, luck)
            return
        held = self.may_hold.get(key, [None])
        after = None if path == "/delete" else self.serial
        self.may_hold[key] = [*held, after]
        status, answer = call(connection, path, {"key": key, **more})
        assert status == 200, answer
        self.may_hold[key] = [after]

    def _write_batch(self, connection: http.client.HTTPConnection, luck: random.Random) -> None:
        number = luck.randrange(4)
        group = [f"{self.name}/batch/{number}/{n}" for n in range(BATCH_KEYS)]
        if group not in self.groups:
            self.groups.append(group)
        held = self.may_hold.get(group[0], [None])
        for key in group:
            self.may_hold[key] = [*held, self.serial]
        operations = [{"op": "set", "key": key, "value": self.serial} for key in group]
        status, answer = call(connection, "/batch", {"ops": operations})
        assert status == 200, answer
        for key in group:
            self.may_hold[key] = [self.serial]

    def check(self, node: NodeProcess) -> None:
        """Everything this writer ever wrote; afterwards nothing is in doubt any more."""
        keys = list(self.may_hold)
        found = dict(zip(keys, node.get_many(keys), strict=True))
        wrong = {key: (value, self.may_hold[key]) for key, value in found.items()
                 if value not in self.may_hold[key]}
        assert not wrong, f"{len(wrong)} keys hold what they must not: {list(wrong.items())[:5]}"
        for group in self.groups:
            values = [found[key] for key in group]
            assert len(set(values)) == 1, f"half a batch is there: {values}"
        for key, value in found.items():
            self.may_hold[key] = [value]


def test_no_acknowledged_write_is_lost_by_kill_9(tmp_path: Path) -> None:
    loaded = dict(documents())
    write(tmp_path / "documents.jsonl")
    writers = [Writer(f"writer-{n}") for n in range(WRITERS)]
    with NodeProcess(tmp_path / "data") as node:
        status, out, err = seafoam("--node", node.address, "load",
                                   str(tmp_path / "documents.jsonl"))
        assert (status, out) == (0, f"loaded {len(loaded)} documents\n"), err
        for number in range(ROUNDS):
            _kill_while_writing(node, writers, random.Random(number))
            node.start()
            for writer in writers:
                writer.check(node)
        assert node.get_many(list(loaded)) == list(loaded.values())
        keys = _all_keys(node)
    expected = set(loaded)
    for writer in writers:
        expected |= {key for key, values in writer.may_hold.items() if values != [None]}
    assert keys == expected
    total = sum(writer.acknowledged_count for writer in writers)
    doubted = sum(writer.doubted_count for writer in writers)
    print(f"{ROUNDS} kills, {total} acknowledged writes and {len(loaded)} documents, none lost; "
          f"{doubted} writes were under way")
    assert total >= ROUNDS * 20
    assert doubted == ROUNDS * WRITERS


def _kill_while_writing(node: NodeProcess, writers: list[Writer], luck: random.Random) -> None:
    answers = threading.Semaphore(0)
    faults: list[BaseException] = []

    def run(writer: Writer, own_luck: random.Random) -> None:
        try:
            writer.write(node, own_luck, answers)
        except BaseException as fault:
            faults.append(fault)
            answers.release(10_000)

    threads = [threading.Thread(target=run, args=(writer, random.Random(luck.random())))
               for writer in writers]
    for thread in threads:
        thread.start()
    for _ in range(luck.randrange(20, 200)):
        assert answers.acquire(timeout=60), "the node stopped answering"
    node.kill()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def _all_keys(node: NodeProcess) -> set[str]:
    keys: set[str] = set()
    page: dict[str, Any] = {"next": ""}
    while "next" in page:
        asked = {"after": page["next"]} if page["next"] else {}
        status, page = node.call("/scan", {"limit": 10000, **asked})
        assert status == 200, page
        keys.update(page["keys"])
    return keys
