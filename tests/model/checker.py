"""The model checker's Python side: record what the writer does, then run readers on every path.

Owns the one loaded copy of the checker's library. What is explored and why that is enough stands
at the head of checker.c. Not thread-safe: one recording and one exploration at a time.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

RELAXED, ACQUIRE, RELEASE = 0, 1, 2
FAULTS = ("none", "too many words", "too many choices in one run", "too many options at one load",
          "the reader is not deterministic", "a misaligned access", "a plain store by the writer",
          "a load beyond what is reserved")
FAULT_OUTSIDE = 7


class Statistics(ctypes.Structure):
    """Counts of one recording and the exploration after it; the same layout as in checker.c."""

    _fields_ = [(name, ctypes.c_uint64) for name in (
        "execution_count", "load_count", "choice_count", "state_count", "store_count",
        "word_count", "depth_max", "fault")]

    execution_count: int
    load_count: int
    choice_count: int
    state_count: int
    store_count: int
    word_count: int
    depth_max: int
    fault: int


class TraceRow(ctypes.Structure):
    """One load of the last execution; the same layout as in checker.c."""

    _fields_ = [("address", ctypes.c_uint64), ("value", ctypes.c_uint64),
                ("size_bytes", ctypes.c_uint32), ("order", ctypes.c_uint32),
                ("option", ctypes.c_uint32), ("option_count", ctypes.c_uint32),
                ("time", ctypes.c_uint32)]


class Violated(AssertionError):
    """An execution gave a result that the writer's history does not allow."""


class CheckerFault(Exception):
    """The checker could not do its work; nothing it reported counts."""


@dataclass(frozen=True)
class Plan:
    """How to explore: every path (seed None), or `execution_max` random ones from a seed.

    pauses_max: after so many retries in one run, loads answer with the newest message.
    restart_on_pause: the reader keeps nothing across a retry but how many there were.
    """

    seed: int | None = None
    execution_max: int = 2_000_000
    pauses_max: int = 3
    restart_on_pause: bool = True


class Checker:
    """The library, loaded. `store`, `load` and `fence` are the modules' own calls, for litmus."""

    def __init__(self, library: Path) -> None:
        self._library = library_calls = ctypes.CDLL(str(library))
        self.store = library_calls.seafoam_model_store
        self.store.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint, ctypes.c_int]
        self.load = library_calls.seafoam_model_load
        self.load.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
        self.load.restype = ctypes.c_uint64
        self.fence = library_calls.seafoam_model_fence
        self.pause = library_calls.seafoam_model_pause
        self.time = library_calls.model_time
        self._alias = library_calls.model_alias
        self._alias.argtypes = [ctypes.c_uint64] * 4
        self._explore_begin = library_calls.model_explore_begin
        self._explore_begin.argtypes = [ctypes.c_int, ctypes.c_uint64, ctypes.c_uint32,
                                        ctypes.c_int]
        self._begin = library_calls.model_execution_begin
        self._begin.argtypes = [ctypes.c_uint32]
        self._end = library_calls.model_execution_end
        self._checkpoint = library_calls.model_checkpoint
        self._checkpoint.argtypes = [ctypes.c_uint64]
        library_calls.model_reset()

    def reset(self) -> None:
        """Forgets recording, statistics and alias."""
        self._library.model_reset()

    def alias(self, seen_at: int, real_at: int, size_bytes: int, reserved_bytes: int) -> None:
        """Loads from `seen_at` on are answered as if made from `real_at` on.

        A reader that loads at or beyond `reserved_bytes` from there has done wrong.
        """
        self._alias(seen_at, real_at, size_bytes, reserved_bytes)

    @contextlib.contextmanager
    def recording(self, strict: bool = False) -> Iterator[None]:
        """While this lasts, the writer's stores become the history."""
        self._library.model_record_begin(int(strict))
        try:
            yield
        finally:
            self._library.model_record_end()
        self.check_fault()

    def checkpoint(self, token: int) -> None:
        """Says that the reader's state is no more than this token and its view."""
        self._checkpoint(token & (1 << 64) - 1)

    def explore(self, reader: Callable[[], None], plan: Plan, known_time: int = 0) -> Statistics:
        """Runs `reader` on path after path. It raises Violated where a result is impossible.

        known_time: a time of the writer that the reader has been told of before it begins.
        Returns the counts; `execution_count` below `plan.execution_max` means that every path
        was tried, where the plan has no seed.
        """
        exhaustive = plan.seed is None
        self._explore_begin(0 if exhaustive else 1, plan.seed or 0, plan.pauses_max,
                            int(plan.restart_on_pause))
        for _ in range(plan.execution_max):
            self._begin(known_time)
            try:
                reader()
            except Violated as violated:
                violated.args = (f"{violated}\n{self.trace_text()}",)
                raise
            finally:
                left = self._end()
            if left < 0 and self.statistics().fault == FAULT_OUTSIDE:
                raise Violated(f"{FAULTS[FAULT_OUTSIDE]}\n{self.trace_text()}")
            if left <= 0:
                break
        self.check_fault()
        return self.statistics()

    def statistics(self) -> Statistics:
        counts = Statistics()
        self._library.model_statistics(ctypes.byref(counts))
        return counts

    def check_fault(self) -> None:
        fault = self.statistics().fault
        if fault:
            raise CheckerFault(FAULTS[fault])

    def trace_text(self, row_count_max: int = 400) -> str:
        """The loads of the last execution, one a line, addresses relative to the lowest one."""
        rows = (TraceRow * row_count_max)()
        count = self._library.model_trace(rows, row_count_max)
        base = min((row.address for row in rows[:count]), default=0) & ~0xfff
        return "\n".join(
            f"  load {row.size_bytes} at +{row.address - base:#x} = {row.value:#x}"
            f" (stored at {row.time}, answer {row.option + 1} of {max(row.option_count, 1)})"
            for row in rows[:count])
