"""Snapshots on a simulated disk: written and checked a little at a time, beside everything else.

Owns the files of one process that are in the making. Must never let one appear that is not whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING

from seafoam._core.wire_snapshot import SnapshotCheck, SnapshotHead, encode_head, encode_tail
from seafoam.errors import DataDamaged, SnapshotLost, StartError
from seafoam.ports import SnapshotInfo, SnapshotSource
from sim.clock import MICROSECOND, MILLISECOND, Owner, Timeline

if TYPE_CHECKING:
    from sim.disk import DiskImage

__all__ = ["SnapshotFiles", "check"]

BLOCK_BYTES = (64, 1_000, 100_000)


def check(data: bytes) -> tuple[SnapshotHead, list[bytes]]:
    """The head and the payloads of a whole file; DataDamaged where it is none."""
    payloads: list[bytes] = []
    checked = SnapshotCheck(payloads.append)
    checked.feed(data)
    checked.finish()
    assert checked.head is not None
    return checked.head, payloads


class Handle:
    """`seafoam.ports.SnapshotHandle`."""

    def __init__(self, data: bytes) -> None:
        self.head, payloads = check(data)
        self._payloads = iter(payloads)

    def __iter__(self) -> Iterator[bytes]:
        return self._payloads

    def close(self) -> None:
        self._payloads = iter(())


class SnapshotFiles:
    """The part of `seafoam.ports.Disk` that is about snapshots."""

    def __init__(self, image: DiskImage, timeline: Timeline, rng: Random) -> None:
        self.image = image
        self.seen: Counter[str] = Counter()
        self.owner: Owner = None
        #: Told that a piece of another node's snapshot was written.
        self.on_piece: Callable[[], None] = lambda: None
        self.is_gone = False
        self._timeline = timeline
        self._rng = rng

    # -- taking --------------------------------------------------------------------------------

    def save(
        self, source: SnapshotSource, on_saved: Callable[[SnapshotInfo | None], None]
    ) -> None:
        pieces = [encode_head(source.head)]

        def write_on() -> None:
            # In this order: what comes before it is walked is not the last.
            is_walked = source.is_walked
            try:
                block = source.next_block(len(pieces), self._rng.choice(BLOCK_BYTES))
            except SnapshotLost:
                self.seen["snapshots lost"] += 1
                self._call(lambda: on_saved(None))
                return
            if block:
                pieces.append(block)
            elif is_walked:
                tail = encode_tail(len(pieces), source.key_count, source.head.file_id)
                self._keep(b"".join([*pieces, tail]), on_saved)
                return
            self._later("snapshot writes", write_on)

        self._later("snapshot writes", write_on)

    def _keep(self, data: bytes, on_saved: Callable[[SnapshotInfo | None], None]) -> None:
        def sync() -> None:
            newest = self.image.snapshot
            if self.image.is_full:
                self.seen["snapshots without room"] += 1
                self._call(lambda: on_saved(None))
            elif newest is not None and newest.index >= check(data)[0].index:
                # One that was received meanwhile is newer.
                self._call(lambda: on_saved(None))
            else:
                self.seen["snapshots taken"] += 1
                info = self.image.keep_snapshot(data)
                self._call(lambda: on_saved(info))
        self._later("snapshot synced", sync)

    # -- sending and receiving -----------------------------------------------------------------

    def read(self, file_id: int, offset: int, bytes_max: int) -> bytes:
        newest = self.image.snapshot
        if newest is None or newest.file_id != file_id:
            return b""
        return self.image.snapshot_data[offset:offset + min(bytes_max, self.image.piece_bytes)]

    def receive(self, file_id: int, offset: int, data: bytes) -> int:
        held_id, held = self.image.part
        if held_id != file_id:
            held = bytearray()
            self.image.part = file_id, held
        elif held and not offset and not data:
            self.seen["snapshots resumed"] += 1
        if data and offset == len(held):
            held += data
            self.on_piece()
        return len(held)

    def finish(
        self, file_id: int, on_ready: Callable[[SnapshotInfo | StartError], None]
    ) -> None:
        def checked() -> None:
            _, held = self.image.part
            self.image.part = 0, bytearray()
            newest = self.image.snapshot
            try:
                head, _ = check(bytes(held))
            except DataDamaged as error:
                self.seen["snapshots received damaged"] += 1
                damage = error
                self._call(lambda: on_ready(damage))
                return
            if newest is None or newest.index < head.index:
                newest = self.image.keep_snapshot(bytes(held))
            info = newest
            self._call(lambda: on_ready(info))

        if self.image.part[0] != file_id:
            raise AssertionError(f"snapshot {file_id:x} was not received")
        check_ns, self.image.check_ns = self.image.check_ns, 0
        self._later("snapshot checked", checked, check_ns)

    # -- time ----------------------------------------------------------------------------------

    def _later(self, label: str, action: Callable[[], None], more_ns: int = 0) -> None:
        """On the thread beside the loop."""
        def act() -> None:
            if not self.is_gone:
                action()
        delay_ns = self._rng.randrange(10 * MICROSECOND, 5 * MILLISECOND)
        self._timeline.after(delay_ns * self.image.slowness + more_ns, None, label, act)

    def _call(self, action: Callable[[], None]) -> None:
        """On the loop."""
        delay_ns = self._rng.randrange(1 * MICROSECOND, 50 * MICROSECOND)
        self._timeline.after(delay_ns, self.owner, "snapshot told", action)
