"""Disks that give back something else than was written: what is spoilt, and what a start finds.

Owns the spoiling and the judgement. A start finds exactly what was there, or refuses; it may find
less only where something spoilt is behind every position that a marker names, for that looks like
a torn tail (docs/disk.md), and may have been the marker itself. Must never let less pass anywhere
else, nor anything that was never written.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from seafoam._core.message import Entry
from seafoam._core.wal import Recovery
from seafoam._core.wire import SEGMENT_HEADER_BYTES
from seafoam.errors import StartError
from sim.invariants import Violation

if TYPE_CHECKING:
    from sim.disk import DiskImage

__all__ = ["CUT", "REFUSED", "spoil"]

REFUSED, CUT = "damage refused", "damage cut off like a torn tail"
MENDED_BY_SNAPSHOT, MENDED_BY_LOG = "damage mended by a snapshot", "damage mended by the log"
HARMLESS = "damage in nothing"
SECTOR_BYTES = 512

Place = tuple[int, int]


def spoil(image: DiskImage, rng: Random, was_written: Callable[[Entry], bool]) -> str:
    """Spoil a disk that nobody uses: what a start finds then. Raises Violation."""
    image.sync()
    before, snapshot = image.find()
    place, can_stay = _spoil_somewhere(image, before, rng)
    try:
        after, newest = image.find()
    except StartError:
        return REFUSED
    finally:
        if not can_stay:
            image.put_back_missing()
    unknown = [entry for entry in after.entries if not was_written(entry)]
    if unknown:
        raise Violation(f"spoilt before {place}, a log holds what was never written: {unknown}")
    if _holds_all(before, after):
        if newest != snapshot:
            return MENDED_BY_LOG
        return MENDED_BY_SNAPSHOT if after.unneeded != before.unneeded else HARMLESS
    if place <= before.marked:
        raise Violation(f"spoilt before {place}, synced to {before.marked}: {before} "
                        f"reads as {after}")
    return CUT


def _holds_all(before: Recovery, after: Recovery) -> bool:
    # A snapshot that was spoilt before may be whole again: the same bit was flipped back.
    index = max(before.base[0], after.base[0])
    return (
        repr(after.hard_state) == repr(before.hard_state)
        and before.base[0] + len(before.entries) >= index
        and [_content(e) for e in after.entries if e.index > index]
        == [_content(e) for e in before.entries if e.index > index]
    )


def _content(entry: Entry) -> tuple[int, int, int, bytes]:
    return entry.index, entry.term, entry.kind, entry.data


def _spoil_somewhere(image: DiskImage, before: Recovery, rng: Random) -> tuple[Place, bool]:
    """Behind the last byte that is other than it was, and whether it can stay so."""
    way = rng.randrange(10)
    if way < 2 and image.snapshot is not None:
        at = rng.randrange(len(image.snapshot_data))
        data = bytearray(image.snapshot_data)
        data[at] ^= 1 << rng.randrange(8)
        image.snapshot_data = bytes(data)
        return (0, 0), True
    number, end = rng.choice(image.used())
    if way == 2:
        # A file that is not there, or too short.
        length = rng.choice((0, rng.randrange(image.segment_bytes)))
        image.miss(number, length)
        return (0, 0), False
    if way == 3:
        offset = rng.randrange(end) // SECTOR_BYTES * SECTOR_BYTES
        image.change(number, offset, bytes(SECTOR_BYTES))
        return (number, offset + SECTOR_BYTES), True
    if way == 4:
        offset = rng.randrange(SEGMENT_HEADER_BYTES)
    elif way < 8:
        # Where the log goes on, and shortly before.
        number = before.segment_number
        offset = max(0, before.offset - rng.randrange(1, 400))
    else:
        offset = rng.randrange(end)
    byte = image.byte(number, offset) ^ 1 << rng.randrange(8)
    image.change(number, offset, bytes([byte]))
    return (number, offset + 1), True
