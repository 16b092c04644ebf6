"""What goes wrong, and when: a run draws which kinds, how often, and each time where.

Owns the choice; what a fault does is its target's. Must never take more than the promises allow:
a disk is wiped only while the others hold everything and could elect a leader without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from sim.clock import MILLISECOND, SECOND
from sim.damage import CUT, REFUSED, spoil
from sim.disk import PIECE_BYTES

if TYPE_CHECKING:
    from sim.cluster import Host, Process
    from sim.world import World

__all__ = ["KINDS", "Faults"]

#: What a run draws from: each is a method's name without its underscore.
KINDS = (
    "crash_one", "crash_leader", "crash_many", "lose_power_of_one", "lose_power_of_all",
    "crash_again_and_again", "lose_power_in_sync", "lose_power_of_all_in_sync", "pause_one",
    "pause_leader", "split", "isolate_leader", "cut_one_way", "orphan_entries", "slow_disk",
    "bad_network", "stop_leader", "stop_one", "wipe", "add_learner", "fill_disk", "spoil_disk",
    "leave_behind",
)

#: Looks at what damage does to one disk.
SPOILINGS_COUNT = 5


class Faults:
    """The bad luck of one run."""

    def __init__(self, world: World, kinds: Sequence[str] = ()) -> None:
        self._world = world
        self._rng = world.rng
        self._is_over = False
        # Few runs have every kind: rare meetings of few are found better without the rest.
        # Two have so many outcomes that each run has one of them.
        names = kinds or [
            *self._rng.sample(KINDS, self._rng.choice((2, 4, 8, len(KINDS)))),
            self._rng.choice(("spoil_disk", "leave_behind")),
        ]
        self._kinds: list[Callable[[], None]] = [getattr(self, f"_{name}") for name in names]
        self._pause_ns_max = self._rng.choice((200, 600, 1_000, 3_000)) * MILLISECOND

    def start(self) -> None:
        self._later()

    def stop(self) -> None:
        """No more of it, and everything back in order."""
        self._is_over = True
        world = self._world
        world.network.mend()
        world.network.loss = world.network.doubling = world.network.delay = 0.0
        for host in world.hosts:
            host.when_busy = host.when_receiving = None
            if host.image is not None:
                host.image.slowness = 1
                host.image.piece_bytes = PIECE_BYTES
                host.image.is_full = False
            host.start()

    def _later(self) -> None:
        self._world.timeline.after(
            self._rng.randrange(1, self._pause_ns_max), None, "fault", self._strike)

    def _strike(self) -> None:
        if not self._is_over:
            kind = self._rng.choice(self._kinds)
            self._world.seen["faults"] += 1
            self._world.tell(f"fault {kind.__name__[1:]}")
            kind()
            self._later()

    # -- where ---------------------------------------------------------------------------------

    def _processes(self) -> list[Process]:
        return [h.process for h in self._world.hosts if h.process is not None]

    def _leader(self) -> Process | None:
        leaders = [p for p in self._processes() if p.is_leader]
        return max(leaders, key=lambda p: p.raft.term, default=None)

    def _in(self, ns_min: int, ns_max: int, what: str, action: Callable[[], None]) -> None:
        """Undo a fault after a while, unless all are over by then."""
        def undo() -> None:
            if not self._is_over:
                action()
        self._world.timeline.after(self._rng.randrange(ns_min, ns_max), None, what, undo)

    def _start_later(self, host: Host) -> None:
        self._in(10 * MILLISECOND, 3 * SECOND, "start", host.start)

    def _kill(self, host: Host, *, power: bool) -> None:
        host.kill(power=power)
        if not power and self._rng.random() < 0.3:
            # The machine goes on for a while with what the process left in its cache, and then
            # the power goes: before the next start, or not at all.
            self._in(1, SECOND, "power", lambda: self._lose_power_if_down(host))
        self._start_later(host)

    def _lose_power_if_down(self, host: Host) -> None:
        if host.process is None:
            host.kill(power=True)

    # -- processes -----------------------------------------------------------------------------

    def _crash_one(self) -> None:
        self._kill(self._rng.choice(self._world.hosts), power=False)

    def _crash_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._kill(leader.host, power=self._rng.random() < 0.7)

    def _crash_many(self) -> None:
        for host in self._world.hosts:
            if self._rng.random() < 0.6:
                self._kill(host, power=self._rng.random() < 0.5)

    def _crash_again_and_again(self) -> None:
        """One that ends soon after each start, before it has caught up."""
        host = self._rng.choice(self._world.hosts)
        for number in range(self._rng.randint(2, 6)):
            at_ns = number * 400 * MILLISECOND
            self._in(at_ns + 1, at_ns + 200 * MILLISECOND, "crash", lambda: host.kill(power=False))
            self._in(at_ns + 200 * MILLISECOND, at_ns + 250 * MILLISECOND, "start", host.start)

    def _lose_power_of_one(self) -> None:
        self._kill(self._rng.choice(self._world.hosts), power=True)

    def _doom(self, host: Host) -> None:
        def crash(sync_ns: int) -> None:
            self._in(0, sync_ns, "power", lambda: self._kill(host, power=True))
        host.when_busy = crash

    def _lose_power_in_sync(self) -> None:
        self._doom(self._rng.choice(self._world.hosts))

    def _lose_power_of_all_in_sync(self) -> None:
        for host in self._world.hosts:
            self._doom(host)

    def _lose_power_of_all(self) -> None:
        for host in self._world.hosts:
            self._kill(host, power=True)

    def _pause(self, process: Process) -> None:
        self._world.seen["pauses"] += 1
        pause_ns = self._rng.randrange(20 * MILLISECOND, 2 * SECOND)
        process.pause(self._world.timeline.now_ns + pause_ns)

    def _pause_one(self) -> None:
        processes = self._processes()
        if processes:
            self._pause(self._rng.choice(processes))

    def _pause_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._pause(leader)

    def _stop(self, process: Process) -> None:
        host = process.host
        process.stop()
        self._in(2500 * MILLISECOND, 4 * SECOND, "start", host.start)

    def _stop_leader(self) -> None:
        leader = self._leader()
        if leader is not None and leader.paused_until_ns <= self._world.timeline.now_ns:
            self._stop(leader)

    def _stop_one(self) -> None:
        processes = [p for p in self._processes()
                     if p.node is not None and p.paused_until_ns <= self._world.timeline.now_ns]
        if processes:
            self._stop(self._rng.choice(processes))

    def _leave_behind(self) -> None:
        """One is away for long, and writes go on: the log that it needs is gone when it is back.

        While it is sent a snapshot, something else happens.
        """
        host = self._rng.choice(self._world.hosts)
        if len(self._processes()) - 1 <= len(self._world.hosts) // 2:
            return  # nothing would go on without it
        self._world.seen["members left behind"] += 1
        # Some send little at once, so that much may happen on the way. Not once all is to heal: a
        # snapshot that takes longer than the next two are apart is never sent whole.
        piece_bytes = self._rng.choice((20, 200, PIECE_BYTES))
        for other in self._world.hosts:
            if other.image is not None:
                other.image.piece_bytes = piece_bytes
        host.kill(power=self._rng.random() < 0.5)
        end_ns = self._rng.randrange(1, 4) * SECOND
        for number in range(1, 6):
            self._in(number * end_ns // 8, number * end_ns // 6, "many writes", self._write_many)
        happening = self._rng.choice((
            self._crash_leader, self._isolate_leader, partial(self._kill, host, power=True),
            *2 * (
                partial(self._spoil_part, host), partial(self._wipe_this, host),
                partial(self._change_leader_in_check, host),
            ),
        ))
        host.when_receiving = lambda: self._in(1, MILLISECOND, "in mid-transfer", happening)
        self._in(end_ns, end_ns + SECOND // 2, "start", host.start)

    def _change_leader_in_check(self, host: Host) -> None:
        """Another leader may have what the snapshot is sent for, and send it as entries."""
        if host.image is not None:
            host.image.check_ns = self._rng.randrange(1, 4) * SECOND
            leaving = self._rng.choice((self._crash_leader, self._stop_leader))
            self._in(1, SECOND // 2, "in the check", leaving)

    def _write_many(self) -> None:
        leader = self._leader()
        if leader is not None:
            for _ in range(60):
                self._world.clients[0].write_any(leader)

    # -- the network ---------------------------------------------------------------------------

    def _mend_later(self) -> None:
        self._in(100 * MILLISECOND, 5 * SECOND, "mend", self._world.network.mend)

    def _cut(self, one: Host, other: Host) -> None:
        self._world.network.cut(one.address, other.address)

    def _split(self) -> None:
        self._world.seen["partitions"] += 1
        sides = [(host, self._rng.random() < 0.5) for host in self._world.hosts]
        for one, here in sides:
            for other, there in sides:
                if here != there:
                    self._cut(one, other)
        self._mend_later()

    def _isolate_leader(self) -> None:
        leader = self._leader()
        if leader is None:
            return
        self._world.seen["leaders isolated"] += 1
        way = self._rng.randrange(3)
        for host in self._world.hosts:
            if host is not leader.host:
                if way != 1:
                    self._cut(leader.host, host)
                if way != 2:
                    self._cut(host, leader.host)
        self._mend_later()

    def _orphan_entries(self) -> None:
        """A leader takes writes that reach nobody; its successor may have time for some, too."""
        leader = self._leader()
        if leader is None or leader.paused_until_ns > self._world.timeline.now_ns:
            return
        self._world.seen["leaders cut off with writes"] += 1
        for host in self._world.hosts:
            if host is not leader.host:
                self._cut(leader.host, host)
        for _ in range(self._rng.choice((3, 30, 300))):
            self._world.clients[0].write_any(leader)
        self._in(400 * MILLISECOND, 1500 * MILLISECOND, "mend", self._mend_and_crash_the_next)

    def _mend_and_crash_the_next(self) -> None:
        leader = self._leader()
        if leader is not None and self._rng.random() < 0.7:
            self._kill(leader.host, power=self._rng.random() < 0.5)
        self._world.network.mend()

    def _cut_one_way(self) -> None:
        if len(self._world.hosts) < 2:
            return
        self._world.seen["one-way cuts"] += 1
        one, other = self._rng.sample(self._world.hosts, 2)
        self._cut(one, other)
        self._mend_later()

    def _bad_network(self) -> None:
        network, rng = self._world.network, self._rng
        network.loss = rng.choice((0.0, 0.01, 0.1, 0.3))
        network.doubling = rng.choice((0.0, 0.05, 0.3))
        network.delay = rng.choice((0.0, 0.05, 0.5))
        network.delay_ns_max = rng.choice((5, 50, 500, 2_000)) * MILLISECOND

    # -- disks ---------------------------------------------------------------------------------

    def _slow_disk(self) -> None:
        image = self._rng.choice(self._world.hosts).image
        if image is not None:
            self._world.seen["disks slow"] += 1
            image.slowness = self._rng.choice((1, 10, 100))

    def _fill_disk(self) -> None:
        host = self._rng.choice(self._world.hosts)
        image, process = host.image, host.process
        if image is None or process is None or process.node is None:
            return
        self._world.seen["disks full"] += 1
        image.is_full = process.disk.full = True

        def empty() -> None:
            image.is_full = False
        self._in(100 * MILLISECOND, 4 * SECOND, "room", empty)

    def _spoil_disk(self) -> None:
        """A start from a spoilt disk: it holds everything, or the disk counts as lost.

        That is so, too, where it looks torn, for the node has forgotten then. Where no disk may be
        lost, it was only read wrongly, once.
        """
        host = self._rng.choice(self._world.hosts)
        image = host.image
        if image is None or not image.is_founded:
            return
        host.kill(power=self._rng.random() < 0.5)
        image.sync()
        platter = image.platter()
        for _ in range(SPOILINGS_COUNT):
            # Each from the disk as it was; the last stays.
            image.put_back(platter)
            outcome = spoil(image, self._rng, self._world.invariants.was_written)
            self._world.tell(f"{host} {outcome}")
            self._world.seen[outcome] += 1
        if outcome in (REFUSED, CUT):
            if self._world.may_lose_a_disk():
                self._world.seen["disks lost to damage"] += 1
                host.wipe()
            else:
                image.put_back(platter)
        self._start_later(host)

    def _spoil_part(self, host: Host) -> None:
        """What is being received is kept badly."""
        if host.image is not None and host.image.is_receiving:
            _, data = host.image.part
            data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

    def _wipe(self) -> None:
        self._wipe_this(self._rng.choice(self._world.hosts))

    def _wipe_this(self, host: Host) -> None:
        if self._world.may_lose_a_disk():
            host.wipe()
            self._start_later(host)

    # -- members -------------------------------------------------------------------------------

    def _add_learner(self) -> None:
        host = self._world.spare_host
        if host is not None:
            self._world.spare_host = None
            self._world.add_host(host)
            host.make_disk()
            host.start()
