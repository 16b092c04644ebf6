"""The program that is recorded: the real disk, used as a node uses it, in several lives.

`python -m crash.workload DIRECTORY SEED [PLANT]`, under the shim. Says in marks what it appends
before it does, and what was reported durable as soon as it was: that, and not what it meant, is
what a crash must not take. Each life is a process of its own; some close the disk, some just end,
and some are killed between a write and its sync.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from hashlib import blake2b
from pathlib import Path

from crash.plants import PLANTS
from faults.shim import kill_before, mark
from seafoam import disk as disk_module
from seafoam._core.message import Entry, HardState
from seafoam._core.wire import encode_founding
from seafoam.disk import FileDisk
from seafoam.errors import DiskFailed
from seafoam.founding_store import FoundingStore
from seafoam.founding_wire import Record
from wal_log import entry as make_entry
from wal_log import random_append

__all__ = ["DATA", "SEGMENT_BYTES", "Digest", "chain", "entry_digest", "main"]

DATA = "data"
#: Small, so that a short life rotates several times.
SEGMENT_BYTES = 16 * 1024
SIZES = (0, 8, 90, 90, 400, 1500, 5000)
LIVES = 3
STEPS = 14
PATIENCE_SECONDS = 60

Digest = str


def entry_digest(entry: Entry) -> Digest:
    """What tells one entry from every other."""
    head = f"{entry.index} {entry.term} {entry.kind} ".encode()
    return blake2b(head + entry.data, digest_size=8).hexdigest()


def chain(digests: list[Digest]) -> Digest:
    """What tells one log from every other."""
    return blake2b(" ".join(digests).encode(), digest_size=8).hexdigest()


def say(what: str, **more: object) -> None:
    mark(json.dumps({"what": what, **more}))


class Life:
    """One process that uses the directory."""

    def __init__(self, root: Path, luck: random.Random, *, is_uniform: bool) -> None:
        self._luck = luck
        # Each batch is as long as every other, so that what an earlier life left behind the end
        # begins where a batch of this one does.
        self._is_uniform = is_uniform
        self._path = root / DATA
        self._failures: list[DiskFailed] = []
        self._number = 0
        self._durable_number = 0
        self._saved_number = 0

    async def live(self) -> None:
        disk_module.IDLE_MARKER_SECONDS = self._luck.choice((0.0, 0.0, 60.0))
        if self._is_uniform:
            disk_module.IDLE_MARKER_SECONDS = 60.0
        self._disk = FileDisk(self._path, loop=asyncio.get_running_loop(),
                              on_failure=self._failures.append, segment_bytes=SEGMENT_BYTES)
        recovery = self._disk.open()
        self._store = FoundingStore(self._path, self._disk.node_id)
        self._saved_number = self._store.load().proposal_number
        self._log, self._state = recovery.entries, recovery.hard_state
        say("opened", node_id=self._disk.node_id, record=self._saved_number,
            entries=[entry_digest(entry) for entry in self._log],
            terms=[entry.term for entry in self._log],
            state=_numbers(self._state))
        if not self._log:
            self._begin()
        # Between a write and its sync, where an end of its own accord never falls.
        self._ends_at_rotation = self._luck.random() < 0.3
        if not self._ends_at_rotation and self._luck.random() < 0.5:
            kill_before("sync", self._luck.randint(1, STEPS))
        for _ in range(self._luck.randint(STEPS // 2, STEPS)):
            for _ in range(self._luck.choice((1, 1, 2, 6, 15))):
                self._append()
            if self._luck.random() < 0.6:
                await self._settle()
            if self._luck.random() < 0.1:
                self._save()
        if self._luck.random() < 0.4:
            os._exit(0)
        self._disk.close()
        say("closed")

    def _begin(self) -> None:
        self._save()
        founding = Entry(1, 1, 2, encode_founding(5, bytes(16), [(1, "127.0.0.1:1")]))
        if self._luck.random() < 0.7:
            self._say_append([founding], HardState(1, 0, 1))
            recovery = self._disk.found(founding.data)
            self._on_durable(self._number)
            assert [entry_digest(e) for e in recovery.entries] == [entry_digest(founding)]
            self._log, self._state = recovery.entries, recovery.hard_state

    def _save(self) -> None:
        self._saved_number += 1
        say("save", record=self._saved_number)
        self._store.save(Record(self._saved_number))
        say("saved", record=self._saved_number)

    def _say_append(self, entries: list[Entry], state: HardState | None) -> None:
        self._number += 1
        say("append", number=self._number, first=entries[0].index if entries else 0,
            entries=[entry_digest(entry) for entry in entries],
            terms=[entry.term for entry in entries],
            state=None if state is None else _numbers(state))

    def _append(self) -> None:
        if self._is_uniform:
            term = max([self._state.term, *(entry.term for entry in self._log[-1:])])
            entries = [make_entry(len(self._log) + 1, term or 1, self._luck.randbytes(700))]
            state = HardState(term or 1, self._state.vote, self._state.commit_index)
        else:
            entries, state = random_append(self._luck, (0, 0), self._log, self._state, SIZES)
        if not entries and state is None:
            return
        self._say_append(entries, state)
        number = self._number
        segment_number = self._disk._writer.segment_number
        self._disk.append(entries, state, lambda: self._on_durable(number))
        if self._ends_at_rotation and self._disk._writer.segment_number > segment_number:
            # A segment is left then that is neither synced nor written to again.
            kill_before("sync", 1)
        for entry in entries:
            self._log = [*self._log[:entry.index - 1], entry]
        self._state = state or self._state

    def _on_durable(self, number: int) -> None:
        self._durable_number = number
        say("durable", number=number)

    async def _settle(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + PATIENCE_SECONDS
        while self._durable_number < self._number:
            assert not self._failures and loop.time() < end, self._failures
            await asyncio.sleep(0)
        for _ in range(self._luck.choice((0, 0, 30))):
            await asyncio.sleep(0)


def _numbers(state: HardState) -> list[int]:
    return [state.term, state.vote, state.commit_index]


def main(arguments: list[str]) -> int:
    """All the lives of one directory; 0 if each ended as it meant to."""
    root, seed = Path(arguments[0]), int(arguments[1])
    luck = random.Random(seed)
    for plant in arguments[2:]:
        PLANTS[plant]()
    is_uniform = seed % 3 == 2
    for _ in range(LIVES):
        life_luck = random.Random(luck.getrandbits(64))
        child = os.fork()
        if child == 0:
            asyncio.run(Life(root, life_luck, is_uniform=is_uniform).live())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status not in (0, signal.SIGKILL):
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
