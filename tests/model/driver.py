"""Drives the real map under the checker: records a writer's history, judges what readers see.

Owns the idea of what is right: a read's result must be what some moment of the writer's history
gives, and no moment older than one this reader has already seen. Must never know how the map
works inside, but for where its memory is mapped.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from model.checker import Checker, Violated
from seafoam._core import map as map_module

Found = tuple[bytes, int] | None
State = dict[bytes, tuple[bytes, int]]
#: (key, value) to set, (key, None) to delete.
Write = tuple[bytes, bytes | None]
#: The writes of one log entry.
Entry = Sequence[Write]

_libc = ctypes.CDLL(None, use_errno=True)


#: Where the header keeps how far the arena is reserved, and its first page, which holds constants
#: that readers may load plainly.
ARENA_END_OFFSET_BYTES = 264
HEADER_BYTES = 4096
PROT_NONE = 0  # not in the mmap module before Python 3.13


def protect(start: int, size_bytes: int, protection: int) -> None:
    """mprotect, or OSError."""
    if _libc.mprotect(ctypes.c_void_p(start), ctypes.c_size_t(size_bytes), protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


@dataclass
class History:
    """What the writer did: the state after each single write, and where entries ended."""

    states: list[State]
    indexes: list[int]                     # the log index whose write led to each state
    boundaries: list[int] = field(default_factory=lambda: [0])  # states between entries
    #: The checker's time at each boundary.
    times: dict[int, int] = field(default_factory=dict)

    def explain(self, at_least: int, fits: Callable[[State], bool], whole: bool) -> int | None:
        """The first state from `at_least` on that fits; only between entries if `whole`."""
        candidates = self.boundaries if whole else range(len(self.states))
        return next((at for at in candidates if at >= at_least and fits(self.states[at])), None)


def apply_entry(writer: Any, entry: Entry, index: int) -> None:
    """One log entry's writes, as the store makes them."""
    writer.begin(index, len(entry) > 1)
    for key, value in entry:
        if value is None:
            writer.delete(key)
        else:
            writer.set(key, value, index)
    writer.end()


def write_to_state(state: State, write: Write, index: int) -> State:
    """The state after one write."""
    key, value = write
    after = dict(state)
    after.pop(key, None)
    if value is not None:
        after[key] = (value, index)
    return after


def plan_history(before: Sequence[Entry], entries: Sequence[Entry]) -> History:
    """The states that `entries` lead through, after `before`; indexes count from 1."""
    state: State = {}
    for index, entry in enumerate(before, 1):
        for write in entry:
            state = write_to_state(state, write, index)
    history = History([state], [len(before)])
    for index, entry in enumerate(entries, len(before) + 1):
        for write in entry:
            history.states.append(write_to_state(history.states[-1], write, index))
            history.indexes.append(index)
        history.boundaries.append(len(history.states) - 1)
    return history


def record(checker: Checker, writer: Any, before: Sequence[Entry],
           entries: Sequence[Entry]) -> History:
    """Applies `before` unseen and `entries` recorded, with every plain store made a crash."""
    for index, entry in enumerate(before, 1):
        apply_entry(writer, entry, index)
    history = plan_history(before, entries)
    history.times[0] = 0
    segment = writer.segment
    protect(segment.address, segment.size_bytes, mmap.PROT_READ)
    try:
        with checker.recording(strict=True):
            for index, entry in enumerate(entries, len(before) + 1):
                apply_entry(writer, entry, index)
                history.times[history.boundaries[index - len(before)]] = checker.time()
    finally:
        protect(segment.address, segment.size_bytes, mmap.PROT_READ | mmap.PROT_WRITE)
    return history


def attach(checker: Checker, writer: Any) -> Any:
    """A reader with a mapping of its own, in which every plain load of the map is a crash."""
    fd = writer.reader_fd()
    try:
        reader = map_module.MapReader.attach(fd)
    finally:
        os.close(fd)
    start, size_bytes = reader.segment.address, reader.segment.size_bytes
    reserved_bytes = ctypes.c_uint64.from_address(
        writer.segment.address + ARENA_END_OFFSET_BYTES).value
    checker.alias(start, writer.segment.address, size_bytes, reserved_bytes)
    protect(start + HEADER_BYTES, size_bytes - HEADER_BYTES, PROT_NONE)
    return reader


def damages(base: int, key: bytes) -> Iterator[tuple[int, int]]:
    """(address, wrong word) for each word that leads a reader to this key, the map's only one.

    Every place, link and length becomes each of the values that are just or far outside.
    """
    header = (ctypes.c_uint64 * (HEADER_BYTES // 8)).from_address(base)
    buckets, arena = header[6], header[8]
    reserved = header[ARENA_END_OFFSET_BYTES // 8]
    unit_shift = header[1] >> 32
    lines = (ctypes.c_uint64 * ((header[7] - buckets) // 8)).from_address(base + buckets)
    line = next(at for at in range(0, 64 * 8, 8) if any(lines[at + 1:at + 6]))
    slot = next(at for at in range(10) if lines[line + 1 + at // 2] >> 32 * (at % 2) & 0xffffffff)
    word = lines[line + 1 + slot // 2]
    entry = base + ((word >> 32 * (slot % 2) & 0xffffffff) << unit_shift)
    edge = reserved >> unit_shift
    for place in (1, (arena >> unit_shift) - 1, edge - 2, edge - 1, edge, edge + 1, 0x7fffffff,
                  0xffffffff):
        kept = word & ~(0xffffffff << 32 * (slot % 2))
        yield base + buckets + 8 * (line + 1 + slot // 2), kept | place << 32 * (slot % 2)
    lengths = ctypes.c_uint64.from_address(entry + 16).value
    assert lengths & 0x7ff == len(key)
    for value_bytes in (reserved - (entry - base) - 19 - len(key), 1 << 20, (1 << 21) - 1):
        yield entry + 16, lengths & ~0xffffffff | value_bytes << 11 | len(key)
    tags = lines[line + 7]
    for link in (0x7fffffff, 0xffffffff):
        yield base + buckets + 8 * (line + 7), tags & 0xffffffff | link << 32


class Observer:
    """One reader in one execution: every read is judged against the history at once."""

    def __init__(self, checker: Checker, reader: Any, history: History) -> None:
        self.checker = checker
        self.reader = reader
        self.history = history
        self.seen_at = 0      # the oldest state that explains everything seen so far
        self.read_count = 0

    def _judge(self, what: str, fits: Callable[[State], bool], whole: bool = False) -> None:
        at = self.history.explain(self.seen_at, fits, whole)
        if at is None:
            raise Violated(f"{what}: no moment from state {self.seen_at} on gives that")
        self.seen_at = at
        self.read_count += 1
        self.checker.checkpoint(self.read_count << 32 | at)

    def get(self, key: bytes) -> Found:
        """One key; judged against single writes."""
        found: Found = self.reader.get_versioned(key)
        self._judge(f"get({key!r}) gave {found!r}", lambda state: state.get(key) == found)
        return found

    def get_many(self, keys: Sequence[bytes]) -> list[Found]:
        """Several keys; judged against moments between entries, the same for all of them."""
        values, versions = self.reader.get_many_versioned(list(keys))
        found: list[Found] = [None if value is None else (value, version)
                              for value, version in zip(values, versions, strict=True)]
        self._judge(f"get_many({list(keys)!r}) gave {found!r}",
                    lambda state: [state.get(key) for key in keys] == found, whole=True)
        return found

    def scan(self, limit: int) -> None:
        """A whole scan in pages: every key that stays, none that never was, none twice."""
        keys: list[bytes] = []
        values: list[bytes] = []
        after: str | None = ""
        while after is not None:
            page_keys, page_values, after = self.reader.scan(after=after, limit=limit, values=True)
            keys += page_keys
            values += page_values
        later = self.history.states[self.seen_at:]
        staying = set.intersection(*(set(state) for state in later))
        if not staying <= set(keys):
            raise Violated(f"scan missed {sorted(staying - set(keys))!r}")
        if len(keys) != len(set(keys)):
            raise Violated(f"scan gave a key twice: {sorted(keys)!r}")
        for key, value in zip(keys, values, strict=True):
            if not any(key in state and state[key][0] == value for state in later):
                raise Violated(f"scan gave {key!r} as {value!r}, which it never was")

    def applied(self) -> None:
        """After `applied` says n, everything up to entry n is there to see."""
        applied = self.reader.applied_index
        whole = [at for at in self.history.boundaries if self.history.indexes[at] <= applied]
        if not whole:
            raise Violated(f"applied gave {applied}, which it never was")
        self.seen_at = max(self.seen_at, whole[-1])
        self.read_count += 1
        self.checker.checkpoint(self.read_count << 32 | self.seen_at)

    def applying_covers(self) -> None:
        """`applying`, loaded after a read, is not below what the read showed."""
        applying = self.reader.applying_index
        if applying < self.history.indexes[self.seen_at]:
            raise Violated(f"applying gave {applying} after a read that showed entry "
                           f"{self.history.indexes[self.seen_at]}")
