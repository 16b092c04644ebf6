"""Hosts, each with an address, a disk and at most one process: the real node on simulated doors.

Owns starting, killing, stopping, wiping and joining. What a server around the node will do beyond
the node itself, which is to ask to be taken in until one is, a process here does too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

import seafoam.node
from seafoam._core.map import MapReader, MapWriter
from seafoam._core.message import ENTRY_FOUNDING, Entry, Ready
from seafoam._core.raft import ROLE_LEADER, Raft
from seafoam._core.store import CommandResult, Store
from seafoam._core.wal import Recovery
from seafoam.calls import Elsewhere, Join, Welcome, decode_join_answer, encode_join
from seafoam.node import Node
from seafoam.ports import CallFailed
from sim.clock import MILLISECOND, SECOND, NodeClock
from sim.disk import DiskImage, SimDisk, found
from sim.invariants import Violation
from sim.network import NetworkDoor

if TYPE_CHECKING:
    from sim.world import World

__all__ = ["Host", "Process"]

MAP_LIMIT_BYTES = 256 * 1024 * 1024
ASK_TO_JOIN_NS = 500 * MILLISECOND
#: How long a stopping process waits for others to take over and for answers, and looks whether.
STOP_NS, STOP_LOOK_NS = 2 * SECOND, 10 * MILLISECOND


class Host:
    """A machine: whoever runs there has its address."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.address = f"10.0.0.{number}:1"
        self.http_address = f"10.0.0.{number}:80"
        self.quota_bytes = world.draw_quota_bytes()
        self.image: DiskImage | None = None
        #: What is to happen once the disk is busy, and how long that will be told to.
        self.when_busy: Callable[[int], None] | None = None
        #: What is to happen once it has received a piece of a snapshot.
        self.when_receiving: Callable[[], None] | None = None
        self.process: Process | None = None

    def __repr__(self) -> str:
        return self.address

    def make_disk(self, node_id: int = 0) -> DiskImage:
        """An empty disk, and on it a node's id, by default a new one."""
        rng = self.world.rng
        self.image = DiskImage(
            node_id or rng.getrandbits(63) + 1, rng.getrandbits(32), self.world.segment_bytes)
        self.world.invariants.images[self.image.node_id] = self.image
        self.world.invariants.quotas[self.image.node_id] = self.quota_bytes
        return self.image

    def start(self) -> None:
        """Start whoever the disk says this is."""
        if self.process is None and self.image is not None:
            self.process = Process(self, self.image)
            self.process.start()

    def kill(self, *, power: bool) -> None:
        """End the process at once; with the power, what was not synced goes too."""
        world = self.world
        if self.process is not None:
            self.process.end()
            self.process = None
            world.seen["crashes"] += 1
        if power and self.image is not None:
            world.seen["power lost"] += 1
            world.seen["sectors lost"] += self.image.lose_power(world.rng)

    def wipe(self) -> None:
        """Lose the disk; an empty one takes its place."""
        if self.image is not None and self.image.is_receiving:
            self.world.seen["disks wiped in mid-transfer"] += 1
        self.kill(power=True)
        self.world.seen["disks wiped"] += 1
        self.make_disk()


class Process:
    """One run of a node."""

    def __init__(self, host: Host, image: DiskImage) -> None:
        world = host.world
        self.host = host
        self.image = image
        self.node_id = image.node_id
        self.start_id = world.rng.getrandbits(63) + 1
        self.is_dead = False
        self.is_stopping = False
        self.paused_until_ns = 0
        #: What the world knew to be committed when this started.
        self.start_commit_index = len(world.invariants.committed)
        self.asked_count = 0
        #: What the invariants saw of it last.
        self.place = (-1, 0)
        self.configured_index = self.durable_index = 0
        self.is_serving = False
        self.node: Node | None = None
        self._world = world
        self._stop_by_ns = 0

    def __repr__(self) -> str:
        return f"{self.host}/{self.node_id & 0xffff:04x}"

    @property
    def raft(self) -> Raft:
        assert self.node is not None
        return self.node._raft

    @property
    def is_leader(self) -> bool:
        return self.node is not None and self.raft.role == ROLE_LEADER

    def touch(self) -> None:
        """Something is about to happen to it: the invariants look at it afterwards."""
        self._world.touch(self)

    # -- begin and end -------------------------------------------------------------------------

    def start(self) -> None:
        world = self._world
        self._clock = NodeClock(world.timeline, world.rng, self)
        self.network = NetworkDoor(world.network, self)
        recovery = self.image.recover()
        if recovery.torn is not None:
            world.seen["restarts with torn tails"] += 1
        if recovery.entries or self.image.snapshot is not None:
            self._run(recovery)
        self._ask_to_join()

    def _run(self, recovery: Recovery) -> None:
        world = self._world
        self.disk = SimDisk(self.image, recovery, world.timeline, world.rng, self.start_id)
        self.disk.seen = self.disk.files.seen = world.seen
        self.disk.on_append = self._wrote
        self.disk.on_busy = self._is_busy
        self.disk.on_dropped = self._has_dropped
        self.disk.files.on_piece = self._has_piece
        self.disk.open(self, self._clock)
        with mock.patch.object(seafoam.node, "Raft", world.make_raft):
            node = WatchedNode(
                self, self.disk, self._clock, self.network, recovery, self.host.quota_bytes,
                self._fatal, seed=world.rng.getrandbits(64), map_limit_bytes=MAP_LIMIT_BYTES,
                snapshot_log_bytes=world.snapshot_log_bytes,
            )
        node.http_address = self.host.http_address
        self.node = node
        self.touch()
        node.start(lambda: None)

    def _wrote(self, entries: list[Entry]) -> None:
        if entries:
            before = entries[0].index - 2 - self.disk.base[0]
            term = self.disk.entries[before].term if before >= 0 else self.disk.base[1]
            self._world.invariants.wrote(term, entries)

    def _is_busy(self, sync_ns: int) -> None:
        when_busy, self.host.when_busy = self.host.when_busy, None
        if when_busy is not None:
            when_busy(sync_ns)

    def _has_dropped(self) -> None:
        images = [host.image for host in self._world.hosts if host is not self.host]
        if any(image is not None and image.is_founded
               and image.last_index < self.disk.first_index - 1 for image in images):
            self._world.seen["logs dropped that members lacked"] += 1

    def _has_piece(self) -> None:
        when_receiving, self.host.when_receiving = self.host.when_receiving, None
        if when_receiving is not None:
            when_receiving()

    def applied(self, entry: Entry, result: CommandResult | None) -> None:
        self._world.invariants.applied(self, entry, result)

    def restored(self, reader: MapReader, index: int) -> None:
        self._world.seen["states restored from snapshots"] += 1
        self._world.invariants.restored(self, reader, index)

    def _fatal(self, error: BaseException) -> None:
        raise Violation(f"{self} gives up: {error}") from error

    def end(self) -> None:
        """No more of it, at once."""
        self.is_dead = True
        if self.node is not None:
            self.disk.kill()
            self.node.close()
        self._world.network.forget(self)

    def pause(self, until_ns: int) -> None:
        """The machine is busy with something else, or the process is stopped by a signal.

        Never shorter than it was to be: what waits for the end has its place already.
        """
        self.paused_until_ns = max(self.paused_until_ns, until_ns)

    # -- stopping ------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop as a server does: hand over, answer, then end."""
        if self.node is None or self.is_stopping:
            return
        self.is_stopping = True
        if self.node.leads_others:
            self._world.seen["leaders stopped"] += 1
        self._stop_by_ns = self._world.timeline.now_ns + STOP_NS
        self.touch()
        self.node.begin_stop()
        self._look_whether_stopped()

    def _look_whether_stopped(self) -> None:
        assert self.node is not None
        timeline = self._world.timeline
        is_busy = self.node.leads_others or self.node.unanswered_count
        if is_busy and timeline.now_ns < self._stop_by_ns:
            timeline.after(STOP_LOOK_NS, self, "stopping", self._look_whether_stopped)
            return
        self._world.seen["stops"] += 1
        if not is_busy:
            self._world.seen["stops with everything handed over"] += 1
        self.host.process = None
        self.end()

    # -- joining -------------------------------------------------------------------------------

    def _ask_to_join(self) -> None:
        """Until the log says that this is a member, ask anybody to be taken in."""
        if self.node is not None and self.node.is_settled(self.host.address):
            return
        world = self._world
        others = [
            host.process for host in world.hosts
            if host is not self.host and host.process is not None
        ]
        if others:
            join = encode_join(Join(self.node_id, self.host.address))
            world.network.call(self, world.rng.choice(others), join, self._on_join_answer)
        delay_ns = world.rng.randrange(ASK_TO_JOIN_NS // 2, ASK_TO_JOIN_NS)
        world.timeline.after(delay_ns, self, "asks to join", self._ask_to_join)

    def _on_join_answer(self, answer: bytes | CallFailed) -> None:
        if isinstance(answer, CallFailed):
            return
        outcome = decode_join_answer(answer)
        if isinstance(outcome, Elsewhere):
            return
        if not isinstance(outcome, Welcome):
            raise Violation(f"{self} may not join: {outcome}")
        if self.node is None:
            self._world.seen["joins"] += 1
            entry = Entry(1, 1, ENTRY_FOUNDING, outcome.founding)
            self._run(found(self.image, entry))


class WatchedNode(Node):
    """The node, whose stores have the invariants looking on."""

    def __init__(self, process: Process, *arguments: Any, **named: Any) -> None:
        self._process = process
        super().__init__(*arguments, **named)

    def _make_store(self, writer: MapWriter, applied_index: int) -> Any:
        if applied_index:
            self._process.restored(writer.reader(), applied_index)
        return WatchedStore(super()._make_store(writer, applied_index), self._process)


class WatchedStore:
    """The store, with the invariants looking on."""

    def __init__(self, store: Store, process: Process) -> None:
        self._store = store
        self._process = process

    def apply(self, entry: Entry) -> CommandResult | None:
        result = self._store.apply(entry)
        self._process.applied(entry, result)
        return result


class WatchedRaft(Raft):
    """The machine, with the invariants looking at what it says of reads."""

    told_read_index: Callable[[int, int], None]

    def ready(self, entry_count: int) -> Ready:
        ready = Raft.ready(self, entry_count)
        for read in ready.reads:
            self.told_read_index(read.context, read.index)
        return ready


def raft_maker(
    draw_kept_bytes_max: Callable[[], int], told_read_index: Callable[[int, int], None]
) -> Callable[..., Raft]:
    """Machines that keep less in memory than they would, so that they must read from disk.

    Not all as much: one that was started again keeps less than one that has run for long.
    """
    def make(*arguments: Any, **named: Any) -> Raft:
        raft = WatchedRaft(*arguments, **named, kept_bytes_max=draw_kept_bytes_max())
        raft.told_read_index = told_read_index
        return raft
    return make
