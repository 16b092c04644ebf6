"""Starts the real disk on what a power cut left, twice, in this process."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from crash.filesystem import Image, materialise
from crash.history import Found, Moment
from crash.workload import DATA, SEGMENT_BYTES, chain, entry_digest
from seafoam.disk import FileDisk
from seafoam.errors import DataDamaged, DiskFailed, StartError
from seafoam.founding_store import FoundingStore

__all__ = ["Opener"]


class Opener:
    """Opens images in a directory of its own, one after the other."""

    def __init__(self, workspace: Path) -> None:
        self._root = workspace / "image"
        self._loop = asyncio.new_event_loop()
        # What a torn tail costs is said at each start, of which there are thousands.
        self._logger = logging.getLogger("seafoam.disk")
        self._level = self._logger.level
        self._logger.setLevel(logging.ERROR)

    def close(self) -> None:
        self._logger.setLevel(self._level)
        self._loop.close()

    def open(self, image: Image) -> Found:
        """What a start finds; what the start after it finds must be the same."""
        self._root.mkdir()
        try:
            materialise(image, self._root)
            found = self._start()
            if found.failure:
                return found
            again = self._start()
            if (again.node_id, again.moment, again.record) != (
                    found.node_id, found.moment, found.record):
                return Found(f"a second start finds other things: {again} after {found}")
            return found
        finally:
            shutil.rmtree(self._root)

    def _start(self) -> Found:
        failures: list[DiskFailed] = []
        disk = FileDisk(self._root / DATA, loop=self._loop, on_failure=failures.append,
                        segment_bytes=SEGMENT_BYTES)
        try:
            recovery = disk.open()
            record = FoundingStore(self._root / DATA, disk.node_id).load().proposal_number
        except (StartError, DataDamaged, DiskFailed) as error:
            return Found(f"the start fails: {error}")
        finally:
            disk.close()
            # What the preparing thread has to say to the loop is not kept for ever.
            self._loop.run_until_complete(asyncio.sleep(0))
        if failures:
            return Found(f"the start fails: {failures[0]}")
        state = recovery.hard_state
        digests = [entry_digest(entry) for entry in recovery.entries]
        return Found("", disk.node_id, Moment(len(digests), chain(digests), state.term,
                                              state.vote, state.commit_index),
                     record, recovery.torn is not None)
