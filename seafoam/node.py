"""The node: the pump that carries out what the Raft machine asks for.

Owns the machine, the state machine (store and map) and the writes that wait for their answer.
Knows the world only through its doors (`seafoam.ports`): a clock and a disk, so that a simulator
can put others in their place. Must never answer a write before its entry is applied here, never
apply an entry that is not durable here, never read a clock or draw a number by itself.

One turn (`_pump`): hand new entries and hard state to the disk; apply what is committed and
durable, giving the loop back after a millisecond, between entries only; answer. The disk's report
starts the next turn. A write's life:

    write -> refused (quota, room, load): no entry was made, `applied` is "no"
          -> queued while no leader is known     out of time: "no_leader", "no"
          -> proposed -> durable -> committed    out of time: "timeout", "unknown"
          -> applied -> answered
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from seafoam._core import limits
from seafoam._core.confchange import Configuration
from seafoam._core.map import MapReader, MapWriter
from seafoam._core.message import ENTRY_COMMAND, ENTRY_FOUNDING, Durable, Entry, HardState
from seafoam._core.raft import ROLE_LEADER, ROLE_NAMES, Raft
from seafoam._core.store import CommandResult, Store
from seafoam._core.wal import Recovery
from seafoam._core.wire import command_cost, decode_founding
from seafoam.errors import Refusal, StartError, ensure
from seafoam.ports import Clock, Disk, Timer

__all__ = ["Node"]

#: Node states in the map's header.
STATE_STARTING, STATE_SERVING, STATE_STOPPING = 0, 1, 2

#: Apply gives the loop back after this long: heartbeats and reads wait no longer for a long tail.
APPLY_SLICE_NS = 1_000_000
#: Entries taken from the machine at once; more would only lengthen a list.
ENTRIES_PER_TURN = 64
#: How often a full disk is asked whether there is room again.
ROOM_RETRY_SECONDS = 1.0

Outcome = CommandResult | Refusal

logger = logging.getLogger("seafoam.node")


class _Write:
    """One write from its arrival to its answer."""

    __slots__ = ("command", "cost_bytes", "on_outcome", "proposed", "timer")

    def __init__(self, command: bytes, on_outcome: Callable[[Outcome], None]) -> None:
        self.command = command
        self.cost_bytes = command_cost(command)
        self.on_outcome: Callable[[Outcome], None] | None = on_outcome
        self.proposed = False
        self.timer: Timer | None = None

    def answer(self, outcome: Outcome) -> None:
        """Give the outcome, once; whoever timed out already has theirs."""
        on_outcome, self.on_outcome = self.on_outcome, None
        if self.timer is not None:
            self.timer.cancel()
        if on_outcome is not None:
            on_outcome(outcome)


class Node:
    """One member of a cluster, on the given doors.

    `recovery` is what the disk holds, made durable already; it begins with the founding entry.
    The map takes no more than `map_limit_bytes` of memory, by default three quarters of the
    machine's.
    `on_fatal` is called once with what makes going on impossible; the process must end then.
    """

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        recovery: Recovery,
        quota_bytes: int,
        on_fatal: Callable[[BaseException], None],
        *,
        map_limit_bytes: int | None = None,
    ) -> None:
        ensure(recovery.entries, "a node starts from its founding entry")
        founding = decode_founding(recovery.entries[0].data)
        self.node_id = f"{disk.node_id:016x}"
        self.cluster_id = f"{founding.cluster_id:016x}"
        self.quota_bytes = quota_bytes
        #: HOST:PORT where clients reach this node; the server knows once it listens.
        self.http_address = ""
        self._disk = disk
        self._clock = clock
        self._on_fatal = on_fatal
        self._on_serving: Callable[[], None]
        self._members = founding.members
        self._writer = MapWriter(
            founding.hash_seed,
            max_logical_bytes=quota_bytes,
            start_id=disk.start_id,
            reserve_limit_bytes=map_limit_bytes,
        )
        self.reader: MapReader = self._writer.reader()
        self._store = Store(self._writer)
        self._raft = Raft(
            disk.node_id, _founded(recovery), recovery.entries, seed=disk.start_id)
        self._queued: deque[_Write] = deque()
        self._proposed: dict[int, _Write] = {}
        self._proposed_cost_bytes = 0
        self._proposed_bytes = 0
        self._to_apply: deque[Entry] = deque()
        self._turn_is_due = False
        self._state = STATE_STARTING
        self._role = self._raft.role
        self._is_over = False

    # -- from outside --------------------------------------------------------------------------

    def start(self, on_serving: Callable[[], None]) -> None:
        """Begin to apply, campaign and serve; returns at once.

        `on_serving` is called once, when reads are served and not refused as `starting` any more.
        """
        self._on_serving = on_serving
        self._tick()
        self._watch_room()

    def write(
        self, command: bytes, timeout_ms: int = limits.TIMEOUT_MS_DEFAULT
    ) -> asyncio.Future[CommandResult]:
        """Propose an encoded command; the future has its result once it is applied here.

        It fails with a `Refusal`: `no_leader`, `overloaded`, `disk_full`, `quota_exceeded`,
        `shutting_down` before anything was proposed, `timeout` after. Calls take effect in the
        order in which they are made.
        """
        future: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()

        def on_outcome(outcome: Outcome) -> None:
            if future.done():
                return  # the caller cancelled
            if isinstance(outcome, Refusal):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.submit(command, timeout_ms, on_outcome)
        return future

    def submit(
        self, command: bytes, timeout_ms: int, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """As `write`, telling a callback instead of a future."""
        write = _Write(command, on_outcome)
        if self._state == STATE_STOPPING:
            write.answer(Refusal("shutting_down", "the node is stopping", applied="no"))
            return
        if self._raft.role == ROLE_LEADER and not self._queued:
            self._propose(write)
        elif self._bytes_held() + len(command) > limits.PROPOSALS_BYTES_MAX:
            write.answer(_overloaded())
        else:
            self._queued.append(write)
            self._proposed_bytes += len(command)
        if write.on_outcome is not None:
            write.timer = self._clock.call_later(timeout_ms / 1000, partial(self._expire, write))

    def refuse_reads(self) -> Refusal | None:
        """Why reads may not be served at this moment; None where they may."""
        if self._state == STATE_SERVING:
            return None
        if self._state == STATE_STARTING:
            return Refusal("starting", "the node has not caught up with its own log yet")
        return Refusal("shutting_down", "the node is stopping")

    def readiness(self) -> Refusal | None:
        """Why this node should get no traffic; None where it should."""
        refusal = self.refuse_reads()
        if refusal is not None:
            return Refusal("not_ready", refusal.message)
        return None

    def status(self) -> dict[str, object]:
        """What `/status` says of the node; the doors add their own parts."""
        raft = self._raft
        # The founding set is this node alone (`_founding_set`), so every address is its own.
        places = {
            member_id: {
                "node_id": f"{member_id:016x}", "http": self.http_address, "peer": peer,
            }
            for member_id, peer in self._members
        }
        return {
            "node_id": self.node_id,
            "cluster_id": self.cluster_id,
            "role": ROLE_NAMES[raft.role],
            "term": raft.term,
            "leader": places.get(raft.leader_id),
            "commit_index": raft.log.commit_index,
            "applied_index": raft.log.applied_index,
            "keys": self._writer.keys,
            "memory_bytes": self._writer.logical_bytes,
            "max_memory_bytes": self.quota_bytes,
            "map_bytes": self._writer.reserved_bytes,
            "members": [{**place, "role": "voter"} for place in places.values()],
            "disk": self._disk.status(),
        }

    def begin_stop(self) -> None:
        """Refuse what comes from here on; what was proposed goes on to its answer."""
        self._state = STATE_STOPPING
        self._writer.set_node_state(STATE_STOPPING)
        queued, self._queued = self._queued, deque()
        for write in queued:
            self._proposed_bytes -= len(write.command)
            write.answer(Refusal("shutting_down", "the node is stopping", applied="no"))

    @property
    def unanswered_count(self) -> int:
        """Writes that still wait for their answer."""
        return len(self._proposed) + len(self._queued)

    def close(self) -> None:
        """End: nothing is applied any more, and readers of the map see that it is over."""
        self._is_over = True
        self._writer.close()

    # -- writes --------------------------------------------------------------------------------

    def _bytes_held(self) -> int:
        return self._proposed_bytes

    def _refuse(self, write: _Write) -> Refusal | None:
        """What speaks against proposing this write; the leader alone asks."""
        if self._bytes_held() + len(write.command) > limits.PROPOSALS_BYTES_MAX:
            return _overloaded()
        # What was proposed counts: a turn appends all of it at once.
        if not self._disk.has_room(self._proposed_bytes + len(write.command)):
            return Refusal(
                "disk_full",
                "the disk has no room for a write; once it has, writes go on by themselves",
                applied="no",
            )
        held_bytes = self._writer.logical_bytes + self._proposed_cost_bytes
        if write.cost_bytes and held_bytes + write.cost_bytes > self.quota_bytes:
            return Refusal(
                "quota_exceeded",
                f"{held_bytes} of {self.quota_bytes} bytes of memory are used or spoken for, and "
                f"this write may take {write.cost_bytes}; delete keys or raise --max-memory",
                applied="no",
            )
        return None

    def _propose(self, write: _Write) -> None:
        refusal = self._refuse(write)
        if refusal is not None:
            write.answer(refusal)
            return
        index = self._raft.propose(ENTRY_COMMAND, write.command)
        write.proposed = True
        self._proposed[index] = write
        self._proposed_cost_bytes += write.cost_bytes
        self._proposed_bytes += len(write.command)
        self._request_turn()

    def _propose_queued(self) -> None:
        while self._queued:
            write = self._queued.popleft()
            self._proposed_bytes -= len(write.command)
            if write.on_outcome is not None:
                self._propose(write)

    def _expire(self, write: _Write) -> None:
        if write.proposed:
            # It stays in the log: only its answer is given up.
            write.answer(
                Refusal("timeout", "the write was proposed, not applied in time, and may still be",
                        applied="unknown")
            )
        else:
            write.answer(Refusal("no_leader", "no leader was known in time", applied="no"))

    # -- turns ---------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._is_over:
            return
        self._raft.tick()
        self._request_turn()
        self._clock.call_later(limits.TICK_MS / 1000, self._tick)

    def _watch_room(self) -> None:
        if self._is_over:
            return
        self._disk.retry_prepare()
        self._clock.call_later(ROOM_RETRY_SECONDS, self._watch_room)

    def _request_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._clock.call_soon(self._pump)

    def _on_durable(self, report: Durable) -> None:
        self._raft.durable(report)
        self._request_turn()

    def _pump(self) -> None:
        self._turn_is_due = False
        if self._is_over:
            return
        try:
            self._turn()
        except Exception as error:
            self._is_over = True
            self._on_fatal(error)

    def _turn(self) -> None:
        raft = self._raft
        slice_end_ns = self._clock.now_ns() + APPLY_SLICE_NS
        if raft.role == ROLE_LEADER and self._queued:
            self._propose_queued()
        while raft.has_ready() or self._to_apply:
            ready = raft.ready(0 if self._to_apply else ENTRIES_PER_TURN)
            if ready.durable is not None:
                self._disk.append(
                    ready.entries, ready.hard_state, partial(self._on_durable, ready.durable)
                )
            self._to_apply.extend(ready.committed)
            if not self._apply_until(slice_end_ns):
                self._request_turn()
                break
        self._publish()

    def _apply_until(self, slice_end_ns: int) -> bool:
        """Apply what is there; False where the slice ended first. At least one entry is done."""
        to_apply = self._to_apply
        while to_apply:
            entry = to_apply.popleft()
            self._apply(entry)
            if self._clock.now_ns() >= slice_end_ns:
                return not to_apply
        return True

    def _apply(self, entry: Entry) -> None:
        result = self._store.apply(entry)
        if entry.kind == ENTRY_FOUNDING:
            self._raft.configure(entry.index, self._founding_set(entry.index))
        self._raft.advance(entry.index)
        if self._state == STATE_STARTING and 0 < self._raft.read_floor_index <= entry.index:
            self._state = STATE_SERVING
            self._on_serving()
        write = self._proposed.pop(entry.index, None)
        if write is not None and result is not None:
            self._proposed_cost_bytes -= write.cost_bytes
            self._proposed_bytes -= len(write.command)
            write.answer(result)

    def _founding_set(self, index: int) -> Configuration:
        """Who the founding entry says there is; this pump sends no messages, so it is alone."""
        voters = tuple(member_id for member_id, _ in self._members)
        if voters != (self._raft.node_id,):
            raise StartError(
                f"the log at index {index} founds a cluster of {len(voters)} nodes that is not "
                f"this node alone; this version runs one node: start it on its own data directory"
            )
        return Configuration(voters)

    def _publish(self) -> None:
        """Show readers of the map where the node stands."""
        writer, raft = self._writer, self._raft
        if raft.role != self._role:
            self._role = raft.role
            logger.info("%s in term %d", ROLE_NAMES[raft.role], raft.term)
        writer.set_commit_index(raft.log.commit_index)
        writer.set_term(raft.term)
        writer.set_role(raft.role)
        writer.set_node_state(self._state)


def _founded(recovery: Recovery) -> HardState:
    """The hard state, which says at least that the founding entry is committed.

    A cluster of one is founded by that entry being durable; its commit index, written right
    behind it, may have been torn off.
    """
    found = recovery.hard_state
    if found.commit_index > 0:
        return found
    return HardState(max(found.term, recovery.entries[0].term), found.vote, 1)


def _overloaded() -> Refusal:
    return Refusal(
        "overloaded",
        f"{limits.PROPOSALS_BYTES_MAX} bytes of writes wait for the disk already; try again later",
        applied="no",
    )
