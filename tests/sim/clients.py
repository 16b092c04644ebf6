"""Clients of every node: each asks, waits for its answer, asks on, anywhere.

Owns what was asked and what was answered. An answer that never comes, because the node died, stays
unknown. Must never ask for what the model could not tell apart: every value is written once.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from seafoam._core.wire import Operation, command_cost, decode_command, encode_command
from seafoam.errors import Refusal
from seafoam.writes import Outcome
from sim.clock import MILLISECOND, SECOND, Timeline
from sim.invariants import Violation

if TYPE_CHECKING:
    from sim.cluster import Process
    from sim.invariants import Invariants

__all__ = ["Call", "Client"]

#: Few, so that calls meet at the same ones.
KEYS = [b"a", b"b", b"c", b"d", b"e"]
#: Some values are long, so that records span sectors, segments fill up, appends must be cut.
LONG_VALUE_CHANCE = 0.1
TIMEOUTS_MS = (50, 300, 1_000, 5_000)
#: How much later than its time an answer may come: a turn, a pause and a slow clock.
LATENESS_NS = 1 * SECOND


class Call:
    """One write as a client asked for it, and what is known of it."""

    __slots__ = ("command", "deadline_ns", "floor_index", "index", "is_certain_no", "is_over",
                 "process", "refused")

    def __init__(
        self, command: bytes, process: Process, floor_index: int, deadline_ns: int
    ) -> None:
        self.command = command
        self.process = process
        #: What was done before this was asked for: it must come behind.
        self.floor_index = floor_index
        self.deadline_ns = deadline_ns
        self.index = 0
        self.is_certain_no = False
        self.is_over = False
        #: The code of its refusal.
        self.refused = ""


class Client:
    """One client; `processes` are whom it may ask, as they are at the moment."""

    def __init__(
        self, number: int, timeline: Timeline, rng: Random, invariants: Invariants,
        processes: list[Process], value_bytes_max: int,
    ) -> None:
        self.seen: Counter[str] = Counter()
        self.open: list[Call] = []
        self._number = number
        self._timeline = timeline
        self._rng = rng
        self._invariants = invariants
        self._processes = processes
        self._value_bytes_max = value_bytes_max
        self._values_count = 0
        self._is_stopped = False
        self._versions: dict[bytes, tuple[bytes, int]] = {}
        # Calls that it makes at once, and how long it thinks between them.
        self._width = rng.choice((1, 1, 1, 8))
        self._pause_ns_max = rng.choice((2, 20, 200)) * MILLISECOND

    def start(self) -> None:
        self._later()

    def stop(self) -> None:
        """Ask no more; answers are still waited for."""
        self._is_stopped = True

    def _later(self) -> None:
        self._timeline.after(
            self._rng.randrange(1, self._pause_ns_max), None, "client", self._ask)

    def _ask(self) -> None:
        if self._is_stopped:
            return
        self._drop_dead()
        if self._processes and len(self.open) < self._width:
            process = self._rng.choice(self._processes)
            if self._rng.random() < 0.3:
                self._read(process)
            else:
                for _ in range(self._rng.randint(1, self._width)):
                    self.write_any(process)
        self._later()

    def _drop_dead(self) -> None:
        """What was asked of a process that is gone stays unknown."""
        gone = [call for call in self.open if call.process.is_dead]
        for call in gone:
            self.seen["outcomes unknown"] += 1
            self.open.remove(call)

    def _read(self, process: Process) -> None:
        if process.node is None or process.paused_until_ns > self._timeline.now_ns:
            return
        if process.node.refuse_reads() is not None:
            self.seen["reads refused"] += 1
            return
        if self._rng.random() < 0.3:
            process.touch()
            process.raft.read_index(self._invariants.asks_read_index())
            process.node._request_turn()
            return
        self.seen["reads"] += 1
        if self._rng.random() < 0.2:
            self._invariants.reads_all(process, KEYS)
            return
        key = self._rng.choice(KEYS)
        self._invariants.reads(process, key)
        found = process.node.reader.get_versioned(key)
        if found is not None:
            self._versions[key] = found

    def _value(self) -> bytes:
        self._values_count += 1
        text = b"%d-%d" % (self._number, self._values_count)
        if self._rng.random() < LONG_VALUE_CHANCE:
            text += b"." * self._rng.randrange(self._value_bytes_max)
        return b'"' + text + b'"'

    def _operations(self) -> list[Operation]:
        count = 1 if self._rng.random() < 0.8 else self._rng.randint(2, 5)
        return [self._operation() for _ in range(count)]

    def _operation(self) -> Operation:
        rng, key = self._rng, self._rng.choice(KEYS)
        seen = self._versions.get(key)
        way = rng.randrange(10)
        if way == 0:
            return Operation.delete(key, error_if_not_key=rng.random() < 0.5)
        if way == 1:
            return Operation.get(key)
        if way == 2:
            return Operation.set(key, self._value(), if_absent=True)
        if way in (3, 4) and seen is not None:
            return Operation.cas(key, self._value(), old_value=seen[0])
        if way in (5, 6) and seen is not None:
            return Operation.cas(key, self._value(), old_version=seen[1])
        return Operation.set(key, self._value())

    def write_any(self, process: Process) -> None:
        """Ask a node for some write."""
        self.write(process, self._operations())

    def write(self, process: Process, operations: list[Operation]) -> Call | None:
        """Ask a node for a write; None where it cannot be asked."""
        if process.node is None or process.is_dead \
                or process.paused_until_ns > self._timeline.now_ns:
            return None
        timeout_ms = self._rng.choice(TIMEOUTS_MS)
        # Its clock may be slow, and it may be paused.
        deadline_ns = self._timeline.now_ns + 2 * timeout_ms * MILLISECOND
        command = encode_command(operations)
        call = Call(command, process, self._invariants.acknowledged_index, deadline_ns)
        self.open.append(call)
        self.seen["writes"] += 1
        process.asked_count += 1
        self._invariants.calls[process.start_id, process.asked_count] = call
        process.touch()
        process.node.submit(command, timeout_ms, partial(self._answered, call))
        return call

    def _answered(self, call: Call, outcome: Outcome) -> None:
        if call.is_over:
            raise Violation("a write is answered twice")
        call.is_over = True
        self.open.remove(call)
        if call.process.is_dead:
            raise Violation("a dead process answers")
        if not isinstance(outcome, Refusal):
            self.seen["writes done"] += 1
            self._invariants.told_done(call, outcome)
            operations = decode_command(call.command)
            for result, operation in zip(outcome.results, operations, strict=True):
                if result.code is None and result.version and operation.value is not None:
                    self._versions[operation.key] = (operation.value, result.version)
            return
        self.seen[f"refused {outcome.code}, applied {outcome.applied}"] += 1
        call.refused = outcome.code
        if outcome.code == "quota_exceeded" and not command_cost(call.command):
            raise Violation("a write that takes no memory is refused for the quota")
        if outcome.applied == "no":
            self._invariants.told_no(call)
        elif outcome.applied != "unknown":
            raise Violation(f"a write is refused and nobody says what became of it: {outcome}")

    def look(self) -> None:
        """Every call is answered in its time."""
        for call in self.open:
            due_ns = max(call.deadline_ns, call.process.paused_until_ns) + LATENESS_NS
            if self._timeline.now_ns > due_ns and not call.process.is_dead:
                raise Violation("a write is not answered in its time")
