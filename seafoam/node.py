"""The node: the pump that carries out what the Raft machine asks for.

Owns the machine, the state machine (store and map), the members and the writes that wait for their
answer. Knows the world only through its doors (`seafoam.ports`): a clock, a disk and a network, so
that a simulator can put others in their place. Must never answer a write before its entry is
applied here, never apply an entry that is not durable here, never let a message leave before what
it rests on is durable, never read a clock or draw a number by itself.

One turn (`_pump`): hand new entries and hard state to the disk; send what may leave at once; apply
what is committed and durable, giving the loop back after a millisecond, between entries only;
answer. The disk's report sends what rested on it and starts the next turn.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from seafoam._core import limits
from seafoam._core.map import MapReader, MapWriter
from seafoam._core.message import (
    ENTRY_CONFIGURATION,
    ENTRY_FOUNDING,
    Durable,
    Entry,
    HardState,
    Message,
    Ready,
)
from seafoam._core.raft import ROLE_FOLLOWER, ROLE_LEADER, ROLE_NAMES, Raft
from seafoam._core.store import Store
from seafoam._core.wal import Recovery
from seafoam._core.wire import decode_founding
from seafoam.calls import (
    CALL_FORWARD,
    CALL_JOIN,
    CALL_REPORT,
    CALL_SNAPSHOT,
    BadCall,
    Elsewhere,
    Forward,
    call_kind,
    decode_forward_answer,
    encode_forward,
    encode_report,
)
from seafoam.errors import Refusal, ensure
from seafoam.leadership import Leadership
from seafoam.membership import Membership
from seafoam.ports import CallFailed, Clock, Disk, Network, SnapshotInfo
from seafoam.reports import REPORT_SECONDS
from seafoam.snapshot_transfer import SnapshotReceiver, SnapshotSender
from seafoam.snapshots import MapMaking, Snapshots
from seafoam.writes import Given, Outcome, Writes, disk_full

__all__ = ["Node"]

#: Node states in the map's header.
STATE_STARTING, STATE_SERVING, STATE_STOPPING = 0, 1, 2

#: Apply gives the loop back after this long: heartbeats and reads wait no longer for a long tail.
APPLY_SLICE_NS = 1_000_000
#: Entries taken from the machine at once; more would only lengthen a list.
ENTRIES_PER_TURN = 64
#: What is read back from the disk at once for a follower that lags.
FETCH_BYTES = 1_048_576
#: How often a full disk is asked whether there is room again.
ROOM_RETRY_SECONDS = 1.0
#: How often a starting node asks for a read index; the one who was asked may be gone.
READ_RETRY_SECONDS = 0.25
#: A leader that was not heard of for so long is no leader to send clients to.
LEADER_SILENCE_NS = 1_000_000_000
#: A node further behind than this should get no traffic.
READY_LAG_COUNT = 1_000

logger = logging.getLogger("seafoam.node")


class Node:
    """One member of a cluster, on the given doors.

    `recovery` is what the disk holds beside its newest snapshot, made durable already; without a
    snapshot, it begins with the founding entry.
    The map takes no more than `map_limit_bytes` of memory, by default three quarters of the
    machine's. `seed` is the luck of its elections.
    `on_fatal` is called once with what makes going on impossible; the process must end then.
    """

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        network: Network,
        recovery: Recovery,
        quota_bytes: int,
        on_fatal: Callable[[BaseException], None],
        *,
        seed: int,
        map_limit_bytes: int | None = None,
        snapshot_log_bytes: int = limits.SNAPSHOT_LOG_BYTES,
    ) -> None:
        self._disk = disk
        self._map_limit_bytes = map_limit_bytes
        self._maps_count = 0
        self.quota_bytes = quota_bytes
        making = self._read_snapshot()
        ensure(making is not None or recovery.entries, "a node starts from its founding entry")
        founding_data = making.head.founding if making is not None else recovery.entries[0].data
        founding = decode_founding(founding_data)
        self.node_id = f"{disk.node_id:016x}"
        self.cluster_id = f"{founding.cluster_id:016x}"
        #: HOST:PORT where clients reach this node; the server knows once it listens.
        self.http_address = ""
        #: Told that `reader` is another: the map before it is dead.
        self.on_new_map: Callable[[], None] = lambda: None
        self._clock = clock
        self._network = network
        self._on_fatal = on_fatal
        self._membership = Membership(founding)
        self._raft = self._make_raft(recovery, making, seed)
        self._take_map(making.writer if making is not None else self._make_map(founding.hash_seed))
        self._leadership = Leadership(
            self._raft, self._membership, disk, self._writer, quota_bytes, founding_data
        )
        self._writes = Writes(clock, disk.start_id, self)
        self._snapshots = Snapshots(
            disk, self._raft, self._membership, founding_data, snapshot_log_bytes
        )
        self._sender = SnapshotSender(self._raft, disk, clock, network, self._request_turn)
        self._receiver = SnapshotReceiver(self._raft, disk, self._on_snapshot_ready)
        # The map of a snapshot that was received, while it is read.
        self._making: MapMaking | None = None
        self._to_apply: deque[Entry] = deque()
        # Of each write that the disk has not reported: what may leave once it has.
        self._under_way: deque[list[Message]] = deque()
        self._turn_is_due = False
        self._state = STATE_STARTING
        self._seen = (self._raft.role, self._raft.term, self._raft.leader_id)
        self._heard_ns = 0
        # The answer to a question of an earlier start may still be under way, and says what was
        # committed then: contexts of one start are no other's.
        self._reads_asked = self._reads_asked_before = (disk.start_id & 0xffffffff) << 32
        self._reads_lost = 0
        self._serve_index = 0
        # Why this node is no member any more, in the leader's words.
        self._removal = ""
        self._is_over = False
        self._on_serving: Callable[[], None]

    # -- from a snapshot -----------------------------------------------------------------------

    def _make_map(self, hash_seed: bytes) -> MapWriter:
        self._maps_count += 1
        return MapWriter(
            hash_seed,
            max_logical_bytes=self.quota_bytes,
            start_id=self._disk.start_id,
            segment_generation=self._maps_count,
            reserve_limit_bytes=self._map_limit_bytes,
        )

    def _making_from(self, info: SnapshotInfo) -> MapMaking:
        handle = self._disk.open_snapshot(info)
        hash_seed = decode_founding(handle.head.founding).hash_seed
        return MapMaking(handle, partial(self._make_map, hash_seed))

    def _read_snapshot(self) -> MapMaking | None:
        """The map of the disk's newest snapshot, whole; None where there is none."""
        info = self._disk.snapshot
        if info is None:
            return None
        making = self._making_from(info)
        while not making.step():
            pass
        return making

    def _make_raft(self, recovery: Recovery, making: MapMaking | None, seed: int) -> Raft:
        state = _founded(recovery)
        if making is None:
            return Raft(self._disk.node_id, state, recovery.entries, seed=seed)
        head = making.head
        self._membership.restore(head.membership)
        raft = Raft(
            self._disk.node_id, state, recovery.entries, seed=seed,
            base=(head.index, head.term), configuration=self._membership.configuration,
            configured_index=self._membership.configured_index,
        )
        raft.dropped_to(self._disk.first_index - 1)
        return raft

    def _take_map(self, writer: MapWriter) -> None:
        """Apply to this map and read from it, from here on."""
        self._writer = writer
        self.reader: MapReader = writer.reader()
        self._store = self._make_store(writer, self._raft.log.applied_index)

    def _make_store(self, writer: MapWriter, applied_index: int) -> Store:
        return Store(writer, applied_index)

    def _on_snapshot_ready(self, info: SnapshotInfo) -> None:
        """A snapshot was received, and is durable: it becomes a map beside the one there is."""
        if not self._is_over:
            self._guarded(partial(self._begin_making, info))

    def _begin_making(self, info: SnapshotInfo) -> None:
        self._making = self._making_from(info)
        self._clock.call_soon(self._make_on)

    def _make_on(self) -> None:
        if not self._is_over and self._making is not None:
            self._guarded(partial(self._make_some, self._making))

    def _make_some(self, making: MapMaking) -> None:
        raft = self._raft
        if raft.role != ROLE_FOLLOWER or raft.log.applied_index >= making.head.index:
            # Another leader had the log, or there is none that a snapshot could be behind.
            self._end_making()
            making.close()
        elif making.step():
            self._install(making)
            self._end_making()
            self._request_turn()
        else:
            self._clock.call_soon(self._make_on)

    def _end_making(self) -> None:
        self._making = None
        self._receiver.done()

    def _install(self, making: MapMaking) -> None:
        """The state is that of the snapshot from here on; the map before is dead."""
        head, old_writer = making.head, self._writer
        logger.info("installing a snapshot at index %d", head.index)
        self._snapshots.forget()
        self._membership.restore(head.membership)
        is_emptied = self._raft.restore(
            head.index, head.term, self._membership.configuration,
            self._membership.configured_index,
        )
        self._to_apply.clear()
        if is_emptied:
            raft = self._raft
            self._under_way.append([])
            self._disk.append(
                [], HardState(raft.term, raft.vote, raft.log.commit_index), self._on_rebased,
                (head.index, head.term),
            )
        self._take_map(making.writer)
        self._leadership.change_map(making.writer)
        self._meet_members()
        self._publish()
        self.on_new_map()
        old_writer.close()
        self._writes.on_restored(head.term)

    def _on_rebased(self) -> None:
        if not self._is_over:
            self._send(self._under_way.popleft())
            self._request_turn()

    # -- from outside --------------------------------------------------------------------------

    def start(self, on_serving: Callable[[], None]) -> None:
        """Begin to apply, campaign and serve; returns at once.

        `on_serving` is called once, when reads are served and not refused as `starting` any more.
        """
        self._on_serving = on_serving
        if self._raft.configuration is not None:
            self._meet_members()  # a snapshot says who they are
        self._tick()
        self._watch_room()
        self._report()
        self._ask_to_serve()

    def submit(
        self, command: bytes, timeout_ms: int, on_outcome: Callable[[Outcome], None]
    ) -> None:
        """Propose an encoded command here or at the leader; `on_outcome` is told what came of it.

        That is its result once it is applied here, or a `Refusal`: `no_leader`, `overloaded`,
        `disk_full`, `quota_exceeded`, `shutting_down` before anything was proposed, `timeout`
        after. Commands take effect in the order in which they are submitted.
        """
        self._writes.submit(command, timeout_ms, on_outcome)

    def be_removed(self, sentence: str) -> None:
        """The leader says that this node is no member any more: it refuses every call."""
        self._removal = sentence

    def handle_message(self, message: Message) -> None:
        """A message of Raft has come from another member."""
        if self._is_over:
            return
        if message.from_id == self._raft.leader_id:
            self._heard_ns = self._clock.now_ns()
        self._guarded(partial(self._raft.step, message))
        self._request_turn()

    def handle_call(
        self, node_id: int, payload: bytes, on_answer: Callable[[bytes], None]
    ) -> None:
        """Another node asks; raises BadCall where that is not a call."""
        if self._is_over:
            return
        kind = call_kind(payload)
        if kind == CALL_FORWARD:
            answer = self._leadership.forwarded(node_id, payload)
        elif kind == CALL_JOIN:
            answer = self._leadership.asked_to_join(node_id, payload)
        elif kind == CALL_SNAPSHOT:
            answer = self._receiver.handle(node_id, payload)
        elif kind == CALL_REPORT:
            answer = self._leadership.reported(node_id, payload)
        else:
            raise BadCall(f"a call is of kind {kind}, unknown here")
        on_answer(answer)
        self._request_turn()

    def refuse_reads(self) -> Refusal | None:
        """Why reads may not be served at this moment; None where they may."""
        if self._removal:
            return Refusal("no_leader", self._removal)
        if self._state == STATE_SERVING:
            return None
        if self._state == STATE_STARTING:
            return Refusal("starting", "the node has not caught up with its cluster yet")
        return Refusal("shutting_down", "the node is stopping")

    def readiness(self) -> Refusal | None:
        """Why this node should get no traffic; None where it should."""
        refusal = self.refuse_reads()
        if refusal is not None:
            return Refusal("not_ready", refusal.message)
        log = self._raft.log
        if not self._leader_is_heard():
            return Refusal("not_ready", "the node knows no leader at the moment")
        if log.commit_index - log.applied_index > READY_LAG_COUNT:
            return Refusal("not_ready", "the node is far behind what is committed")
        return None

    def status(self) -> dict[str, object]:
        """What `/status` says of the node; the doors add their own parts."""
        raft = self._raft
        members = self.members()
        leaders = [
            {name: member[name] for name in ("node_id", "http", "peer")}
            for member in members if member["node_id"] == f"{raft.leader_id:016x}"
        ]
        is_learner = self._membership.configuration.is_learner(self._disk.node_id)
        return {
            "node_id": self.node_id,
            "cluster_id": self.cluster_id,
            "role": "learner" if is_learner else ROLE_NAMES[raft.role].removeprefix("pre-"),
            "term": raft.term,
            "leader": leaders[0] if leaders else None,
            "commit_index": raft.log.commit_index,
            "applied_index": raft.log.applied_index,
            "keys": self._writer.keys,
            "memory_bytes": self._writer.logical_bytes,
            "max_memory_bytes": self.quota_bytes,
            "map_bytes": self._writer.reserved_bytes,
            "members": members,
            "disk": self._disk.status(),
            "snapshot": self._snapshots.status(),
        }

    def members(self) -> list[dict[str, str]]:
        """The members as this node has applied them."""
        configuration, addresses = self._membership.configuration, self._membership.addresses
        return [
            {
                "node_id": f"{node_id:016x}",
                "peer": addresses[node_id],
                "http": self._http_address(node_id),
                "role": "voter" if configuration.is_voter(node_id) else "learner",
            }
            for node_id in configuration.member_ids()
        ]

    def is_settled(self, address: str) -> bool:
        """Whether the configuration in force names this node, at this peer address."""
        return self._membership.addresses.get(self._disk.node_id) == address

    @property
    def is_left_alone(self) -> bool:
        """Whether it has started, and no leader has come to its notice that it could serve under.
        """
        return self._state == STATE_STARTING and self._raft.leader_id == 0

    def peer_addresses(self) -> list[str]:
        """Where the others are, the leader first where it is known."""
        others = [
            (node_id != self._raft.leader_id, address)
            for node_id, address in self._membership.addresses.items()
            if node_id != self._disk.node_id
        ]
        return [address for _, address in sorted(others)]

    def begin_stop(self) -> None:
        """Refuse what comes from here on, hand leadership over; what was given goes on."""
        self._state = STATE_STOPPING
        self._writer.set_node_state(STATE_STOPPING)
        self._writes.begin_stop()
        self._leadership.hand_over()
        self._request_turn()

    @property
    def unanswered_count(self) -> int:
        """Writes that still wait for their answer."""
        return len(self._writes)

    @property
    def leads_others(self) -> bool:
        """Whether there is leadership that could be handed over."""
        return self._raft.role == ROLE_LEADER and len(self._membership.configuration.voters) > 1

    def close(self) -> None:
        """End: nothing is applied any more, and readers of the map see that it is over."""
        self._is_over = True
        self._snapshots.forget()
        if self._making is not None:
            self._making.close()
        self._writer.close()

    # -- writes: the courier of `Writes` -------------------------------------------------------

    def refusal(self) -> Refusal | None:
        """Why no write is taken on at this moment, if so."""
        if self._removal:
            return Refusal("no_leader", self._removal, applied="no")
        if self._disk.full and self._raft.role != ROLE_LEADER:
            # It could not be answered: to be applied here, it must be durable here.
            return disk_full("this node's disk has")
        return None

    def can_give(self) -> bool:
        """Whether somebody is there to propose a write."""
        if self._raft.role == ROLE_LEADER:
            return self._leadership.takes_writes
        return self._raft.leader_id != 0

    def term(self) -> int:
        """The term in whose log a write that is given now would stand."""
        return self._raft.term

    def give(self, command: bytes, on_given: Callable[[Given], None]) -> None:
        """Propose a stamped command, or forward it to the leader."""
        raft = self._raft
        if raft.role == ROLE_LEADER:
            on_given(self._leadership.propose(command))
            self._request_turn()
            return

        def on_answer(answer: bytes | CallFailed) -> None:
            if isinstance(answer, CallFailed):
                on_given(None if answer.was_sent else Elsewhere(""))
                return
            try:
                on_given(decode_forward_answer(answer))
            except BadCall as error:
                logger.warning("the leader's answer makes no sense: %s", error)
                on_given(None)

        self._network.call(raft.leader_id, encode_forward(Forward(raft.term, command)), on_answer)

    # -- time ----------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._is_over:
            return
        self._guarded(self._raft.tick)
        self._guarded(self._leadership.tick)
        self._writes.give_queued()
        self._request_turn()
        self._clock.call_later(limits.TICK_MS / 1000, self._tick)

    def _watch_room(self) -> None:
        if self._is_over:
            return
        self._disk.retry_prepare()
        self._clock.call_later(ROOM_RETRY_SECONDS, self._watch_room)

    def _report(self) -> None:
        """Say to the leader how this member is; what it answers says nothing."""
        if self._is_over:
            return
        raft = self._raft
        if raft.role != ROLE_LEADER and raft.leader_id != 0:
            report = encode_report(self._leadership.report())
            self._network.call(raft.leader_id, report, lambda answer: None)
        self._clock.call_later(REPORT_SECONDS, self._report)

    def _ask_to_serve(self) -> None:
        """Reads are served once what was committed before this start is applied."""
        if self._is_over or self._state != STATE_STARTING:
            return
        self._ask_read_index()
        self._clock.call_later(READ_RETRY_SECONDS, self._ask_to_serve)

    def _ask_read_index(self) -> None:
        if self._serve_index == 0:
            self._reads_lost = self._raft.reads_lost
            self._reads_asked += 1
            self._raft.read_index(self._reads_asked)
            self._request_turn()

    # -- turns ---------------------------------------------------------------------------------

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a step of the machine; one that fails leaves it in no state to go on from."""
        try:
            step()
        except Exception as error:
            self._is_over = True
            self._on_fatal(error)

    def _request_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            self._clock.call_soon(self._pump)

    def _on_durable(self, report: Durable) -> None:
        if self._is_over:
            return
        self._guarded(partial(self._raft.durable, report))
        self._send(self._under_way.popleft())
        self._request_turn()

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            self._network.send(message.to_id, message)

    def _pump(self) -> None:
        self._turn_is_due = False
        if not self._is_over:
            self._guarded(self._turn)

    def _turn(self) -> None:
        raft = self._raft
        slice_end_ns = self._clock.now_ns() + APPLY_SLICE_NS
        while raft.has_ready() or self._to_apply:
            ready = raft.ready(0 if self._to_apply else ENTRIES_PER_TURN)
            self._carry_out(ready)
            self._to_apply.extend(ready.committed)
            if not self._apply_until(slice_end_ns):
                self._request_turn()
                break
        if self._snapshots.consider(self._writer):
            self._request_turn()
        self._publish()

    def _carry_out(self, ready: Ready) -> None:
        if ready.durable is not None:
            self._under_way.append(ready.messages_after_durable)
            self._disk.append(
                ready.entries, ready.hard_state, partial(self._on_durable, ready.durable)
            )
        elif self._under_way:
            self._under_way[-1].extend(ready.messages_after_durable)
        else:
            self._send(ready.messages_after_durable)
        self._send(ready.messages)
        for read in ready.reads:
            if self._reads_asked_before < read.context <= self._reads_asked:
                self._serve_index = max(self._serve_index, read.index)
        for node_id in ready.snapshots:
            self._sender.begin(node_id)
        for first_index, last_index in ready.fetches:
            self._raft.fetched(self._disk.read_entries(first_index, last_index, FETCH_BYTES))

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
        if entry.kind == ENTRY_CONFIGURATION:
            self._membership.apply(entry.index, entry.data)
        if entry.kind in (ENTRY_FOUNDING, ENTRY_CONFIGURATION):
            self._raft.configure(entry.index, self._membership.configuration)
            self._meet_members()
        self._raft.advance(entry.index)
        self._leadership.on_applied(entry)
        self._writes.on_applied(entry, result)

    def _meet_members(self) -> None:
        own_id = self._disk.node_id
        self._network.keep(
            address for node_id, address in sorted(self._membership.addresses.items())
            if node_id != own_id
        )

    def _publish(self) -> None:
        """Show readers of the map where the node stands."""
        writer, raft = self._writer, self._raft
        if self._state == STATE_STARTING and 0 < self._serve_index <= raft.log.applied_index:
            self._state = STATE_SERVING
            self._on_serving()
        seen = (raft.role, raft.term, raft.leader_id)
        if seen != self._seen:
            if seen[:2] != self._seen[:2]:
                logger.info("%s in term %d", ROLE_NAMES[raft.role], raft.term)
            self._seen = seen
            self._heard_ns = self._clock.now_ns()
            self._leadership.on_change()
        if self._state == STATE_STARTING and self._reads_lost != raft.reads_lost:
            self._ask_read_index()
        self._writes.give_queued()
        writer.set_commit_index(raft.log.commit_index)
        writer.set_term(raft.term)
        writer.set_role(raft.role)
        writer.set_node_state(self._state)

    # -- looks ---------------------------------------------------------------------------------

    def _leader_is_heard(self) -> bool:
        if self._raft.role == ROLE_LEADER:
            return True
        silence_ns = self._clock.now_ns() - self._heard_ns
        return self._raft.leader_id != 0 and silence_ns <= LEADER_SILENCE_NS

    def _http_address(self, node_id: int) -> str:
        if node_id == self._disk.node_id:
            return self.http_address
        return self._network.http_address(node_id)


def _founded(recovery: Recovery) -> HardState:
    """The hard state, which says at least that the founding entry is committed.

    A cluster is founded by a decision that no other can follow, so its first entry is committed
    wherever it stands; its commit index, written right behind it, may be torn off alone.
    """
    state = recovery.hard_state
    first_term = recovery.entries[0].term if recovery.entries else 0
    return HardState(max(state.term, first_term), state.vote, max(1, state.commit_index))
