"""The writes that this node was asked for, from their arrival to their answer.

Owns their order, their time and what is said of them. Knows neither the machine nor the network:
`Courier` proposes here, or forwards to the leader. Must never answer a write as done before its
entry is applied here, and never say `applied: no` where an entry of it may yet be applied.

A write's life:

    submit -> refused (load, stopping): no entry was made, applied "no"
           -> queued while there is nobody to give it to    out of time: "no_leader", "no"
           -> given: proposed here, or forwarded            out of time: "timeout", "unknown"
                  refused by the leader                     its refusal, "no"
                  not given after all                       queued again, in its old place
                  lost: a later term began without it       queued again, too
                  either, and a later one went ahead        "no_leader", "no"
           -> its entry, known by its stamp, is applied here -> answered

Invariants:
  Q1  Writes are given in the order of their numbers; while one is queued, no later one is given.
  Q2  A write is given again only where it is certain that no entry of it is in the log or will be,
      nor of a later one: it waits for word of those, and is refused where one went ahead. So what
      has an entry has it in the order of numbers, whoever led meanwhile.
  Q3  A write is given to the leader of one term, and only that one proposes it. Terms never fall
      along a log (Raft, 5.3): once an entry of a later term is applied, what was given before and
      is not applied never will be.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Protocol

from seafoam._core import limits
from seafoam._core.message import ENTRY_COMMAND, Entry
from seafoam._core.store import CommandResult
from seafoam._core.wire import command_stamp, stamp_command
from seafoam.calls import Elsewhere, Placed
from seafoam.errors import Refusal
from seafoam.ports import Clock, Timer

__all__ = ["Courier", "Given", "Outcome", "Write", "Writes", "disk_full", "overloaded"]

#: Numbers of writes that are gone, which the heap may hold before it is made anew.
ORDER_SPARE_COUNT = 64

Outcome = CommandResult | Refusal
#: What becomes of a write that was given: where it was put; refused; `Elsewhere`: certainly
#: nothing was made of it, try again; None: nobody can tell.
Given = Placed | Refusal | Elsewhere | None


class Courier(Protocol):
    """Takes writes to whoever leads."""

    def refusal(self) -> Refusal | None:
        """Why a write is not even taken on, if so."""

    def can_give(self) -> bool: ...

    def term(self) -> int:
        """The one in which a write that is given now has its entry, if ever."""

    def give(self, command: bytes, on_given: Callable[[Given], None]) -> None: ...


class Write:
    """One write from its arrival to its answer."""

    __slots__ = ("command", "given_term", "number", "on_outcome", "timer")

    def __init__(
        self, number: int, command: bytes, on_outcome: Callable[[Outcome], None]
    ) -> None:
        self.number = number
        self.command = command
        self.on_outcome: Callable[[Outcome], None] | None = on_outcome
        self.given_term: int | None = None
        self.timer: Timer | None = None

    def answer(self, outcome: Outcome) -> None:
        """Give the outcome, once."""
        on_outcome, self.on_outcome = self.on_outcome, None
        if self.timer is not None:
            self.timer.cancel()
        if on_outcome is not None:
            on_outcome(outcome)


class Writes:
    """Every write that is not answered yet.

    `origin_id` tells this process's entries from all others'.
    """

    def __init__(self, clock: Clock, origin_id: int, courier: Courier) -> None:
        self._clock = clock
        self._origin_id = origin_id
        self._courier = courier
        self._last_number = 0
        self._queued: dict[int, Write] = {}
        self._order: list[int] = []  # a heap of their numbers; may name some that are gone
        self._given: dict[int, Write] = {}
        # Those that were given and of which there is no word yet, answered or not, with the term;
        # by term, the highest number of which there may be an entry; the highest applied (Q2).
        self._untold: dict[int, int] = {}
        self._ahead: dict[int, int] = {}
        self._applied_number = 0
        self._applied_term = 0
        self._held_bytes = 0
        self._is_stopping = False

    def __len__(self) -> int:
        return len(self._queued) + len(self._given)

    # -- from outside --------------------------------------------------------------------------

    def submit(
        self, command: bytes, timeout_ms: int, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Take a write on; `on_outcome` is told once, at the latest when its time is over."""
        self._last_number += 1
        number = self._last_number
        if self._is_stopping:
            on_outcome(Refusal("shutting_down", "the node is stopping", applied="no"))
            return
        refusal = self._courier.refusal()
        if refusal is not None:
            on_outcome(refusal)
            return
        if self._held_bytes + len(command) > limits.PROPOSALS_BYTES_MAX:
            on_outcome(overloaded())
            return
        write = Write(number, stamp_command(command, self._origin_id, number), on_outcome)
        self._held_bytes += len(command)
        if self._queued or not self._courier.can_give():
            self._queue(write)
        else:
            self._give(write)
        if write.on_outcome is not None:
            write.timer = self._clock.call_later(timeout_ms / 1000, partial(self._expire, write))

    def give_queued(self) -> None:
        """Somebody may be there now to give writes to."""
        if not self._queued:
            return
        latest_untold = max(self._untold, default=0)
        while self._queued and self._courier.can_give():
            number = self._order[0]
            write = self._queued.get(number)
            if write is not None and number < latest_untold:
                break  # Q2: no word of that one yet
            heappop(self._order)
            if write is None:
                continue
            del self._queued[number]
            if number < self._ahead_number():
                self._overtaken(write)
            else:
                self._give(write)
            if number in self._queued:
                break  # it came straight back

    def on_applied(self, entry: Entry, result: CommandResult | None) -> None:
        """An entry was applied here: whose is it, and what does its term put an end to?"""
        if entry.kind == ENTRY_COMMAND and result is not None and (self._given or self._queued):
            origin_id, number = command_stamp(entry.data)
            if origin_id == self._origin_id:
                self._applied_number = max(self._applied_number, number)
                write = self._given.get(number)
                if write is not None:
                    self._done(write, result)
        if entry.term > self._applied_term:
            self._applied_term = entry.term
            self._settle(entry.term)

    def on_restored(self, term: int) -> None:
        """A snapshot took the place of entries up to one of `term`: whose they were is lost.

        Any write that was given may be among them, and stays unknown; none is given again.
        """
        may_be_done = [*self._given, *self._untold, *self._ahead.values(), self._applied_number]
        self._applied_number = max(may_be_done)
        for write in [*self._given.values()]:
            self._done(write, Refusal(
                "timeout", "the node was given a snapshot of what the write may be part of",
                applied="unknown",
            ))
        self._applied_term = max(self._applied_term, term)

    def begin_stop(self) -> None:
        """Refuse what comes, and what was not given yet; the rest goes on to its answer."""
        self._is_stopping = True
        for write in [*self._queued.values()]:
            self._done(write, Refusal("shutting_down", "the node is stopping", applied="no"))

    # -- steps ---------------------------------------------------------------------------------

    def _queue(self, write: Write) -> None:
        self._queued[write.number] = write
        heappush(self._order, write.number)

    def _give(self, write: Write) -> None:
        term = self._courier.term()
        write.given_term = term
        self._given[write.number] = write
        self._untold[write.number] = term
        self._courier.give(write.command, partial(self._on_given, write, term))

    def _on_given(self, write: Write, term: int, given: Given) -> None:
        if self._untold.get(write.number) != term:
            return  # settled meanwhile, and perhaps given again since
        del self._untold[write.number]
        if given is None or isinstance(given, Placed):
            self._ahead[term] = max(self._ahead.get(term, 0), write.number)
        elif self._given.get(write.number) is not write:
            return  # answered already: applied before we were told where, or out of time
        elif isinstance(given, Refusal):
            self._done(write, given)
        else:
            self._take_back(write)

    def _settle(self, term: int) -> None:
        """What was given before this term and is not applied never will be (Q3)."""
        self._untold = {number: at for number, at in self._untold.items() if at >= term}
        self._ahead = {at: number for at, number in self._ahead.items() if at >= term}
        for write in [*self._given.values()]:
            if write.given_term is not None and write.given_term < term:
                self._take_back(write)

    def _take_back(self, write: Write) -> None:
        """It is certain that there is no entry of it: it goes again, where the order allows."""
        del self._given[write.number]
        write.given_term = None
        if write.number < self._ahead_number():
            self._overtaken(write)
        else:
            self._queue(write)

    def _ahead_number(self) -> int:
        """The highest number of which there is or may be an entry."""
        return max(self._applied_number, *self._ahead.values(), 0)

    def _overtaken(self, write: Write) -> None:
        self._done(write, Refusal(
            "no_leader", "the leader was lost before it took the write, and later ones went ahead",
            applied="no",
        ))

    def _expire(self, write: Write) -> None:
        if write.given_term is not None:
            # It may be in the log, and stays there: only its answer is given up.
            refusal = Refusal(
                "timeout", "the write was proposed, not applied in time, and may still be",
                applied="unknown",
            )
        else:
            refusal = Refusal("no_leader", "no leader was known in time", applied="no")
        self._done(write, refusal)

    def _done(self, write: Write, outcome: Outcome) -> None:
        self._given.pop(write.number, None)
        self._queued.pop(write.number, None)
        if len(self._order) > 2 * len(self._queued) + ORDER_SPARE_COUNT:
            self._order = sorted(self._queued)  # a sorted list is a heap
        self._held_bytes -= len(write.command)
        write.answer(outcome)


def overloaded() -> Refusal:
    """Too many writes wait."""
    return Refusal(
        "overloaded", "too many writes wait for the disk; try again later", applied="no"
    )


def disk_full(whose: str) -> Refusal:
    """There is no room to write it down; `whose` disk, with its verb."""
    return Refusal(
        "disk_full", f"{whose} no room for a write; once there is some, writes go on by "
        "themselves",
        applied="no",
    )
