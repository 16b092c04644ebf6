"""A disk under test on real files, and the loops to run it on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import uvloop

from seafoam._core.message import HardState
from seafoam._core.wal import Recovery
from seafoam.disk import FileDisk
from seafoam.errors import DiskFailed
from wal_log import entry

SEGMENT_BYTES = 64 * 1024
PATIENCE_SECONDS = 30


class Rig:
    """One disk under test, its failures, and the reports of durability in their order."""

    made: list[Rig] = []

    def __init__(self, path: Path, segment_bytes: int = SEGMENT_BYTES) -> None:
        Rig.made.append(self)
        self.failures: list[DiskFailed] = []
        self.durable: list[int] = []
        self.loop = asyncio.get_running_loop()
        self.disk = FileDisk(path, loop=self.loop, on_failure=self.failures.append,
                             segment_bytes=segment_bytes)
        self.wal = path / "wal"

    def open(self) -> Recovery:
        self.recovery = self.disk.open()
        self.next_index = len(self.recovery.entries) + 1
        return self.recovery

    def append(self, data: bytes = b"x" * 200, hard_state: HardState | None = None) -> int:
        index = self.next_index
        self.next_index += 1
        self.disk.append([entry(index, 1, data)], hard_state, lambda: self.durable.append(index))
        return index

    async def until(self, condition) -> None:
        end = self.loop.time() + PATIENCE_SECONDS
        while not condition():
            assert self.loop.time() < end, "it never comes"
            await asyncio.sleep(0)

    async def settled(self) -> None:
        await self.until(lambda: self.durable and self.durable[-1] == self.next_index - 1)

    async def begun(self) -> None:
        """Something is in the log, and the next segment is prepared."""
        self.append()
        await self.settled()
        await self.until(lambda: 2 in self.disk._fds)

    def spoil(self, device: str, number: int | None = None) -> None:
        """Put a device in the place of the segment that is written to."""
        number = number or self.disk._writer.segment_number
        target = os.open(device, os.O_RDWR)
        os.dup2(target, self.disk._fds[number])
        os.close(target)


def run(test) -> None:
    """Run a test on both event loops."""
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        loop = factory()
        try:
            loop.run_until_complete(test(factory is uvloop.new_event_loop))
        finally:
            while Rig.made:
                Rig.made.pop().disk.close()
            loop.close()


def reopened(path: Path, segment_bytes: int = SEGMENT_BYTES) -> Recovery:
    async def look() -> Recovery:
        rig = Rig(path, segment_bytes)
        recovery = rig.open()
        rig.disk.close()
        return recovery

    return asyncio.run(look())
