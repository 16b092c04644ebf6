"""The real clock: monotonic time, and an event loop's timers.

Implements `seafoam.ports.Clock`. Must never be imported below its layer: there, time is what a
clock that was passed in says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from seafoam.ports import Timer

__all__ = ["LoopClock"]


class LoopClock:
    """Time as an event loop lives it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        """Nanoseconds of the machine's monotonic clock."""
        return time.monotonic_ns()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call in the loop's next turn."""
        self._loop.call_soon(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call after this many seconds, from the loop."""
        return self._loop.call_later(seconds, callback)
