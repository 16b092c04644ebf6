"""What the recorded program was told and told others: what a disk may hold after a crash.

Follows the marks of a trace. A moment is what the log means between two of its records: recovery
must end in one of those written so far, and in none before the last that was reported durable.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from crash.workload import Digest, chain

__all__ = ["Found", "History", "Moment"]


@dataclass(frozen=True)
class Moment:
    """The log, and term, vote and commit index."""

    length: int
    log: Digest
    term: int
    vote: int
    commit_index: int


@dataclass(frozen=True)
class Found:
    """What a start found on a disk; `failure` is why there was none."""

    failure: str = ""
    node_id: int = 0
    moment: Moment = Moment(0, "", 0, 0, 0)
    record: int = 0
    torn: bool = False


EMPTY = Moment(0, chain([]), 0, 0, 0)


class History:
    """What may be found, as it changes with every mark."""

    def __init__(self) -> None:
        self.node_id = 0
        self._digests: list[Digest] = []
        self._terms: list[int] = []
        self._state = [0, 0, 0]
        self._written_count = 0
        #: Of each moment, when it last came to be.
        self._when = {EMPTY: 0}
        self._least = 0
        self._ends: dict[int, int] = {}
        self._saved = (0, 0)

    def begin_with(self, found: Found) -> None:
        """The recording begins on a disk that holds this; nothing else may come of it."""
        self._when = {found.moment: 0}
        self.node_id = found.node_id
        self._saved = (found.record, found.record)

    def follow(self, text: bytes) -> None:
        """One more mark."""
        said = json.loads(text)
        getattr(self, f"_on_{said.pop('what')}")(**said)

    def _on_opened(
        self, node_id: int, record: int, entries: list[Digest], terms: list[int],
        state: list[int]
    ) -> None:
        self._digests, self._terms, self._state = entries, terms, state
        wrong = self.judge(Found("", node_id, self._moment(), record))
        if wrong:
            raise AssertionError(f"the recorded program itself: {wrong}")
        self.node_id = node_id
        self._ends.clear()
        self._come()
        self._least = self._written_count
        self._saved = (record, record)

    def _moment(self) -> Moment:
        term, vote, commit_index = self._state
        if self._terms and self._terms[-1] > term:
            term, vote = self._terms[-1], 0
        return Moment(len(self._digests), chain(self._digests), term, vote, commit_index)

    def _come(self) -> None:
        self._written_count += 1
        self._when[self._moment()] = self._written_count

    def _on_append(
        self, number: int, first: int, entries: list[Digest], terms: list[int],
        state: list[int] | None
    ) -> None:
        for at, (digest, term) in enumerate(zip(entries, terms, strict=True), first):
            self._digests = [*self._digests[:at - 1], digest]
            self._terms = [*self._terms[:at - 1], term]
            self._come()
        if state is not None:
            self._state = state
            self._come()
        self._ends[number] = self._written_count

    def _on_durable(self, number: int) -> None:
        self._least = max(self._least, self._ends[number])

    def _on_save(self, record: int) -> None:
        self._saved = (self._saved[0], record)

    def _on_saved(self, record: int) -> None:
        self._saved = (record, record)

    def _on_closed(self) -> None:
        pass

    def judge(self, found: Found) -> str:
        """What is wrong with it; nothing if it may be found by now."""
        if found.failure:
            return found.failure
        if self.node_id not in (0, found.node_id):
            return "the node has another id"
        when = self._when.get(found.moment)
        if when is None:
            return f"the log was never as it is: {found.moment}"
        if when < self._least:
            return f"what was reported durable is missing: {found.moment}"
        if not self._saved[0] <= found.record <= self._saved[1]:
            return f"founding record {found.record} is none of {self._saved}"
        return ""
