"""How much of one turn of the loop large answers take.

Owns the count of their bytes in the turn that runs, and the connections that wait for the next.
To read a large answer and hand it over is one uninterrupted step, so many connections that each
take theirs in the same turn would hold heartbeats and elections up for the sum of it.

Invariant:
  T1  Once the answers of a turn have TURN_BYTES, no other is begun in it; those who wait are
      served in the order in which they came, some in each turn, with everybody else between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["LARGE_BYTES", "TURN_BYTES", "Turns"]

#: Answers from here on are counted; smaller ones cost less than the counting would tell.
LARGE_BYTES = 65_536
#: Some milliseconds' worth. One answer may pass it, for none is cut.
TURN_BYTES = 4 * 1024 * 1024


class Waiter(Protocol):
    """Whoever waits for a turn."""

    def take_turn(self) -> None:
        """It may go on; where the turn is over already, it waits again."""


class Turns:
    """The turns of one loop; `call_soon` calls back in the next."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._call_soon = call_soon
        self._spent_bytes = 0
        # In their order; a waiter stands in it once.
        self._waiting: dict[Waiter, None] = {}

    @property
    def is_spent(self) -> bool:
        """Whether whoever wants to answer has to `wait`."""
        return self._spent_bytes >= TURN_BYTES

    def spend(self, answer_bytes: int) -> None:
        """A large answer was given in this turn."""
        if not self._spent_bytes:
            self._call_soon(self._begin)
        self._spent_bytes += answer_bytes

    def wait(self, waiter: Waiter) -> None:
        """Call it in a later turn; a turn is spent, so there is a next."""
        self._waiting[waiter] = None

    def _begin(self) -> None:
        self._spent_bytes = 0
        while self._waiting and not self.is_spent:
            waiter = next(iter(self._waiting))
            del self._waiting[waiter]
            waiter.take_turn()
