"""How a test sees that a call lets go of the GIL: another thread runs inside it.

Meanwhile the interpreter switches threads by itself no more, so that whoever runs was let.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any


class Neighbour:
    """A thread that takes the GIL whenever it is free, and counts how often it had it."""

    def __init__(self) -> None:
        self.turns = 0
        self._stop = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop:
            self.turns += 1
            with self._lock:
                os.sched_yield()  # lets go of the GIL and takes it again

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = True
        self._thread.join()


def ran_inside(call: Callable[[], Any], attempts: int) -> bool:
    """Whether the neighbour had the GIL during one of so many calls."""
    interval = sys.getswitchinterval()
    # Before the neighbour is there: what it waits for is settled when it begins to wait.
    sys.setswitchinterval(1000.0)
    try:
        with Neighbour() as neighbour:
            for _ in range(attempts):
                before = neighbour.turns
                call()
                if neighbour.turns != before:
                    return True
        return False
    finally:
        sys.setswitchinterval(interval)
