"""Virtual time: one heap of events for the whole world, and each node's own view of it.

Owns the order in which anything happens. Must never look at real time, and never let two events of
one moment run in another order than that in which they were asked for.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Protocol

__all__ = ["MILLISECOND", "SECOND", "Event", "NodeClock", "Owner", "Timeline"]

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000

#: How often code takes long between two looks at the clock, and how long at most.
LAG_CHANCE, LAG_NS_MAX = 0.002, 3 * MILLISECOND
#: How late a timer is at most, and how long the loop takes to come to the next callback.
LATE_NS_MAX = 200 * MICROSECOND
TURN_NS_MIN, TURN_NS_MAX = 1 * MICROSECOND, 30 * MICROSECOND


class Owner(Protocol):
    """Whoever an event belongs to: nothing happens to the dead, and to the paused only later."""

    is_dead: bool
    paused_until_ns: int


class Event:
    """Something that is still to come; `action` is None once it was called off."""

    __slots__ = ("action", "due_ns", "label", "number", "owner")

    def __init__(
        self, due_ns: int, number: int, owner: Owner | None, label: str,
        action: Callable[[], None],
    ) -> None:
        self.due_ns = due_ns
        self.number = number
        self.owner = owner
        self.label = label
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None

    def __lt__(self, other: Event) -> bool:
        return (self.due_ns, self.number) < (other.due_ns, other.number)


class Timeline:
    """All events of a world, in the order of time and then of asking."""

    def __init__(self) -> None:
        self.now_ns = 0
        self._events: list[tuple[int, int, Event]] = []
        self._count = 0

    def at(
        self, due_ns: int, owner: Owner | None, label: str, action: Callable[[], None]
    ) -> Event:
        """Do it then, unless its owner is dead by that time."""
        self._count += 1
        event = Event(max(due_ns, self.now_ns), self._count, owner, label, action)
        heapq.heappush(self._events, (event.due_ns, event.number, event))
        return event

    def after(
        self, delay_ns: int, owner: Owner | None, label: str, action: Callable[[], None]
    ) -> Event:
        """Do it once so much time has passed."""
        return self.at(self.now_ns + delay_ns, owner, label, action)

    def next(self) -> Event | None:
        """Go on to the next event that happens, and return it, not done yet."""
        while self._events:
            due_ns, number, event = heapq.heappop(self._events)
            owner = event.owner
            if event.action is None or (owner is not None and owner.is_dead):
                continue
            if owner is not None and owner.paused_until_ns > due_ns:
                # The number stays, and with it the order among all that waited.
                heapq.heappush(self._events, (owner.paused_until_ns, number, event))
                continue
            self.now_ns = due_ns
            return event
        return None


class NodeClock:
    """`seafoam.ports.Clock` of one process: it runs fast or slow, and callbacks come late."""

    def __init__(self, timeline: Timeline, rng: Random, owner: Owner) -> None:
        self._timeline = timeline
        self._rng = rng
        self._owner = owner
        self._begin_ns = timeline.now_ns
        self._rate_permille = rng.randint(900, 1100)
        self._local_ns = rng.randrange(1000 * SECOND)
        self._soon_ns = 0

    def now_ns(self) -> int:
        if self._rng.random() < LAG_CHANCE:
            self._local_ns += self._rng.randrange(LAG_NS_MAX)
        passed_ns = self._timeline.now_ns - self._begin_ns
        return self._local_ns + passed_ns * self._rate_permille // 1000

    def call_soon(self, callback: Callable[[], None]) -> None:
        due_ns = self._timeline.now_ns + self._rng.randrange(TURN_NS_MIN, TURN_NS_MAX)
        self._soon_ns = max(self._soon_ns, due_ns)
        self._timeline.at(self._soon_ns, self._owner, "turn", callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Event:
        delay_ns = int(seconds * SECOND) * 1000 // self._rate_permille
        return self._timeline.after(
            delay_ns + self._rng.randrange(1, LATE_NS_MAX), self._owner, "timer", callback
        )
