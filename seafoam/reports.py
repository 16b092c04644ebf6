"""What members report of themselves to their leader: how much memory they may use, and whether
their disks have room.

Owns the reports of one leader's time and the judgement that rests on them. A report may be late by
REPORT_SECONDS and whatever the network adds: what it prevents is foreseen, and nothing that is
promised depends on it. Who has not reported counts as if all were well there: a write that then
finds no room waits for it, unacknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

__all__ = ["REPORT_SECONDS", "Report", "Reports"]

#: How often a member reports, whether or not anything has changed.
REPORT_SECONDS = 0.5


class Report(NamedTuple):
    """How a member is: what its map may take, in logical bytes, and whether its disk has room."""

    quota_bytes: int
    has_room: bool


class Reports:
    """The latest report of each member; `own` is asked for the leader's."""

    def __init__(self, own_id: int, own: Callable[[], Report]) -> None:
        self._own_id = own_id
        self._own = own
        self._reports: dict[int, Report] = {}

    def take(self, node_id: int, report: Report) -> None:
        """A member has reported."""
        self._reports[node_id] = report

    def forget(self) -> None:
        """Another leads now, or this one begins to."""
        self._reports.clear()

    def quota_bytes(self, voters: Iterable[int]) -> int:
        """The least that any of these may use."""
        told = [self._reports[voter].quota_bytes for voter in voters if voter in self._reports]
        return min([self._own().quota_bytes, *told])

    def has_room(self, node_id: int) -> bool:
        """Whether a member's disk has room, as far as is known."""
        if node_id == self._own_id:
            return self._own().has_room
        report = self._reports.get(node_id)
        return report is None or report.has_room

    def said_room(self, node_id: int) -> bool:
        """Whether a member has said that its disk has room."""
        return node_id in self._reports and self._reports[node_id].has_room

    def majority_has_room(self, voters: Iterable[int]) -> bool:
        """Whether what is proposed can become durable on a majority."""
        having = [self.has_room(voter) for voter in voters]
        return 2 * sum(having) > len(having)
