"""The bytes that all clients of a process may hold together, and who waits for some of them.

Owns the count and the queue of those who wait. Must never refuse or end anything by itself: it
tells who asks, and they decide.

Two kinds of bytes. *Used* ones are here: requests that are not done, answers that are not sent.
*Reserved* ones may come: the answer to a write that also reads is made when the write is applied,
and by then it is too late to refuse it, so the most it can be is set aside before it is proposed,
and whoever finds no room waits in line. A reservation is given back once the answer is there and
counts as used.

Invariants:
  B1  What is used and reserved together exceeds the bound by no more than one answer and what the
      requests that were taken while there was room bring with them.
  B2  Reservations are granted in the order in which they were asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Budget"]


class Budget:
    """Request and answer bytes that the process holds for its clients."""

    __slots__ = ("_is_granting", "_waiting", "bytes_max", "reserved_bytes", "used_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self.reserved_bytes = 0
        self._waiting: deque[tuple[int, Callable[[], bool]]] = deque()
        self._is_granting = False

    @property
    def is_spent(self) -> bool:
        """Whether no further request may be taken."""
        return self.used_bytes > self.bytes_max

    def charge(self, more_bytes: int) -> None:
        """Count bytes that are held from now on; a negative number gives some back."""
        self.used_bytes += more_bytes
        if more_bytes < 0 and self._waiting:
            self._grant()

    def reserve(self, answer_bytes: int) -> bool:
        """Set bytes aside for an answer to come; False where the caller must `wait`."""
        if self._waiting or not self._has_room(answer_bytes):
            return False
        self.reserved_bytes += answer_bytes
        return True

    def wait(self, answer_bytes: int, on_room: Callable[[], bool]) -> None:
        """Call `on_room` once the bytes are set aside; it returns whether they are wanted."""
        self._waiting.append((answer_bytes, on_room))

    def release(self, answer_bytes: int) -> None:
        """The answer is there, or will not come."""
        self.reserved_bytes -= answer_bytes
        if self._waiting:
            self._grant()

    def _has_room(self, answer_bytes: int) -> bool:
        if not self.reserved_bytes:
            return not self.is_spent  # one at a time goes on, however large
        return self.used_bytes + self.reserved_bytes + answer_bytes <= self.bytes_max

    def _grant(self) -> None:
        if self._is_granting:
            return  # called from within an `on_room`: the loop below looks again
        self._is_granting = True
        while self._waiting and self._has_room(self._waiting[0][0]):
            answer_bytes, on_room = self._waiting.popleft()
            self.reserved_bytes += answer_bytes
            if not on_room():
                self.reserved_bytes -= answer_bytes
        self._is_granting = False
