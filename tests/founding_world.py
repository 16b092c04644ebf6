"""Nodes that found a cluster in virtual time: the real machine, a simulated network and disk.

Owns time, luck and faults: messages are lost, delayed, doubled and reordered, links are cut, nodes
die at any moment, between a write and its report too, and come back with what is on their disk.
The same seed is the same run, always. After every change of a disk the world checks that no
two clusters were founded and that no node changed its cluster; `Violation` says what was.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from seafoam._core.wire import decode_founding
from seafoam.founding import (
    Adopt,
    Ask,
    Facts,
    Found,
    Founding,
    Join,
    Persist,
    Refuse,
    WaitFor,
)
from seafoam.founding_wire import (
    Record,
    decode_record,
    decode_view,
    encode_record,
    encode_view,
)

TICK_MS = 100
TIMEOUT_MS = 1000


class Violation(AssertionError):
    """Something happened that must not."""


@dataclass
class Faults:
    """How bad the world is while it is bad; chances are per message or write."""

    until_ms: int = 0
    loss: float = 0.0
    doubling: float = 0.0
    delay_ms: int = 20
    lag: float = 0.0
    lag_ms: int = 3000
    crash_each_ms: int = 0
    crash_at_write: float = 0.0
    cut_each_ms: int = 0
    trouble_at_write: float = 0.0
    #: Short, proposals are made on views that are far from whole, and cross each other.
    stable_ms: int = 2000


@dataclass
class Host:
    """A node across its runs: what it is called, what it is told, and its disk."""

    node_id: int
    places: tuple[str, ...]
    peers: tuple[str, ...]
    record: Record = field(default_factory=Record)
    cluster_id: int = 0
    founding: bytes = b""
    run: Founding | None = None
    starts: int = 0
    is_gone: bool = False
    refusals: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)


class World:
    """Hosts, by the addresses that lead to them, and everything that is still to happen."""

    def __init__(self, hosts: list[Host], seed: int = 0, faults: Faults | None = None,
                 kind: type[Founding] = Founding) -> None:
        self.hosts = hosts
        self.faults = faults or Faults()
        self.luck = Random(seed)
        self.kind = kind
        self.now_ms = 0
        self.counts: Counter[str] = Counter()
        self.founded: set[int] = set()
        # All bytes are made and read again in some runs; in the others the records travel.
        self.is_encoded = seed % 8 == 0
        self._at = {place: host for host in hosts for place in host.places}
        self._cuts: set[tuple[int, int]] = set()
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        if self.faults.crash_each_ms:
            self.later(self.luck.randrange(self.faults.crash_each_ms), self._crash_somebody)
        if self.faults.cut_each_ms:
            self._cut_somebody()

    # -- time --------------------------------------------------------------------------------

    def later(self, delay_ms: int, what: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now_ms + delay_ms, self._number, what))

    def run_until(self, end_ms: int, done: Callable[[], bool] = lambda: False) -> bool:
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, what = heapq.heappop(self._events)
            what()
            if done():
                return True
        self.now_ms = end_ms
        return done()

    @property
    def is_bad(self) -> bool:
        return self.now_ms < self.faults.until_ms

    def chance(self, how_likely: float) -> bool:
        return self.is_bad and self.luck.random() < how_likely

    # -- starting and dying --------------------------------------------------------------------

    def start(self, host: Host) -> None:
        if host.run is not None or host.is_gone:
            return
        host.starts += 1
        facts = Facts(host.node_id, host.node_id * 1000 + host.starts, host.places[0],
                      f"/data/{host.node_id:x}", host.peers, host.cluster_id)
        run = host.run = self.kind(facts, self._read_again(host), self._draw,
                                   stable_ms=self.faults.stable_ms)
        self._do(host, run, run.start(self.now_ms))
        self._tick(host, run)

    def _read_again(self, host: Host) -> Record:
        if not self.is_encoded:
            return host.record
        return decode_record(encode_record(host.node_id, host.record), host.node_id)

    def _draw(self) -> tuple[int, bytes]:
        return self.luck.getrandbits(63) + 1, self.luck.randbytes(16)

    def crash(self, host: Host) -> None:
        if host.run is not None:
            self.counts["crashes"] += 1
            host.run = None
            self.later(self.luck.randrange(50, 2500), lambda: self.start(host))

    def _crash_somebody(self) -> None:
        if self.is_bad:
            self.crash(self.luck.choice(self.hosts))
            self.later(self.luck.randrange(2 * self.faults.crash_each_ms), self._crash_somebody)

    def _cut_somebody(self) -> None:
        self._cuts.clear()
        how_many = self.luck.choice((0.1, 0.3, 0.5))
        if self.is_bad:
            for host in self.hosts:
                for other in self.hosts:
                    if host is not other and self.luck.random() < how_many:
                        self._cuts.add((host.node_id, other.node_id))
                        self.counts["cuts"] += 1
            self.later(self.luck.randrange(2 * self.faults.cut_each_ms), self._cut_somebody)

    def _make_trouble(self) -> None:
        """At a moment at which something is being decided: somebody dies, or two are parted."""
        one, other = self.luck.sample(self.hosts, 2)
        if self.luck.random() < 0.5:
            self.crash(one)
            return
        cut = {(one.node_id, other.node_id)}
        if self.luck.random() < 0.5:
            cut.add((other.node_id, one.node_id))
        self.counts["cuts"] += len(cut)
        self._cuts |= cut
        self.later(self.luck.randrange(500, 5000), lambda: self._cuts.difference_update(cut))

    def _tick(self, host: Host, run: Founding) -> None:
        if host.run is run:
            self._do(host, run, run.tick(self.now_ms))
            self.later(TICK_MS, lambda: self._tick(host, run))

    def end(self, host: Host) -> None:
        """This one never comes back."""
        host.is_gone = True
        host.run = None

    def host_at(self, place: str) -> Host:
        return self._at[place]

    # -- doing what a machine asks for ---------------------------------------------------------

    def _do(self, host: Host, run: Founding, actions: list) -> None:
        for action in actions:
            if host.run is not run:
                return
            if isinstance(action, Ask):
                self._ask(host, run, action.address)
            elif isinstance(action, Persist):
                self._write(host, run, action.record)
            elif isinstance(action, Found | Adopt):
                self._enter(host, decode_founding(action.founding).cluster_id, action)
            elif isinstance(action, Join):
                self.later(self.luck.randrange(1, 300), self._joiner(host, run, action))
            elif isinstance(action, Refuse):
                host.refusals.append(action.sentence)
            elif isinstance(action, WaitFor):
                host.waits.append(action.sentence)

    def _write(self, host: Host, run: Founding, record: Record) -> None:
        before = host.record
        if before.held is not None and record.held is None:
            is_own = before.held.founder_id == host.node_id
            self.counts["aborted" if is_own else "released"] += 1
        elif record.held is not None and not record.is_founded:
            is_own = record.held.founder_id == host.node_id
            self.counts["proposed" if is_own else "promised"] += 1
        if self.chance(self.faults.crash_at_write):
            self.counts["crashes at a write"] += 1
            if self.luck.random() < 0.5:
                self._keep(host, record)
            self.crash(host)
            return
        if self.chance(self.faults.trouble_at_write):
            self.later(self.luck.randrange(60), self._make_trouble)
        is_kept_early = self.luck.random() < 0.5

        def written() -> None:
            if host.run is run:
                self._keep(host, record)
                self._do(host, run, run.on_persisted())

        def early() -> None:
            if host.run is run:
                self._keep(host, record)

        delay_ms = self.luck.randrange(1, 40)
        if is_kept_early:  # on the disk, and not reported yet
            self.later(delay_ms // 2, early)
        self.later(delay_ms, written)

    def _keep(self, host: Host, record: Record) -> None:
        host.record = record
        if record.is_founded:
            cluster_id = decode_founding(record.held.founding).cluster_id
            self.founded.add(cluster_id)
            if len(self.founded) > 1:
                raise Violation(f"two clusters were founded by {self.now_ms} ms")
            if host.cluster_id not in (0, cluster_id):
                raise Violation(f"node {host.node_id:x} is in two clusters")

    def _enter(self, host: Host, cluster_id: int, how: object) -> None:
        if host.cluster_id not in (0, cluster_id):
            raise Violation(f"node {host.node_id:x} went from one cluster to another")
        if host.record.held is not None and not host.record.is_founded:
            raise Violation(f"node {host.node_id:x} entered a cluster before that was on its disk")
        host.cluster_id = cluster_id
        self.counts[type(how).__name__] += 1

    def _joiner(self, host: Host, run: Founding, join: Join) -> Callable[[], None]:
        def joined() -> None:
            there = self._at.get(join.address)
            if host.run is not run or run.cluster_id or run.joining_id != join.cluster_id:
                return
            if there is None or there.run is None or there.cluster_id != join.cluster_id:
                self.later(200, joined)
                return
            self._enter(host, join.cluster_id, join)
            self._do(host, run, run.on_joined(join.cluster_id))

        return joined

    # -- messages --------------------------------------------------------------------------------

    def _delay_ms(self) -> int:
        if self.chance(self.faults.lag):
            return self.luck.randrange(1, self.faults.lag_ms)
        return self.luck.randrange(1, (self.faults.delay_ms if self.is_bad else 20) + 1)

    def _ask(self, host: Host, run: Founding, address: str) -> None:
        view = self._carried(run.view())
        is_open = [True]

        def end(what: Callable[[], list]) -> None:
            if is_open[0] and host.run is run:
                is_open[0] = False
                self._do(host, run, what())

        def fail(reason: str) -> None:
            end(lambda: run.on_unreachable(address, reason))

        there = self._at.get(address)
        if there is None:
            self.later(self._delay_ms(), lambda: fail("does not resolve"))
            return

        def deliver() -> None:
            if there.run is None:
                self.later(1, lambda: fail("connection refused"))
                return
            if self._is_lost(host, there):
                return
            called = there.run
            self._do(there, called, called.on_called(view))
            if there.run is not called:
                return
            answer = self._carried(called.view())
            if not self._is_lost(there, host):
                self.later(self._delay_ms(),
                           lambda: end(lambda: run.on_contact(address, answer)))

        self.later(TIMEOUT_MS, lambda: fail("no answer in time"))
        self.later(self._delay_ms(), deliver)
        if self.chance(self.faults.doubling):
            self.counts["doubled"] += 1
            self.later(self._delay_ms(), deliver)

    def _is_lost(self, host: Host, there: Host) -> bool:
        is_cut = self.is_bad and (host.node_id, there.node_id) in self._cuts
        if is_cut or (host is not there and self.chance(self.faults.loss)):
            self.counts["lost"] += 1
            return True
        return False

    def _carried(self, view):
        return decode_view(encode_view(view)) if self.is_encoded else view

    # -- the end ---------------------------------------------------------------------------------

    def living(self) -> list[Host]:
        return [host for host in self.hosts if not host.is_gone]

    def is_settled(self) -> bool:
        return all(host.run is not None and host.run.cluster_id and host.cluster_id
                   for host in self.living())

    def settle(self, patience_ms: int = 40_000) -> None:
        """Run until everybody who lives is in the one cluster; Violation where that does not come.
        """
        self.run_until(max(self.faults.until_ms, self.now_ms))
        if not self.run_until(self.now_ms + patience_ms, self.is_settled):
            raise Violation("not all are in a cluster: " + "; ".join(
                f"{host.node_id:x} waits: {host.waits[-1:]} {host.refusals[-1:]}"
                for host in self.living() if not (host.run and host.run.cluster_id)))
        clusters = {host.cluster_id for host in self.living()}
        if len(clusters) != 1 or clusters != {h.run.cluster_id for h in self.living()}:
            raise Violation(f"there are {len(clusters)} clusters")


def random_hosts(luck: Random, count: int, *, is_common: bool = True) -> list[Host]:
    """Hosts whose PEER lists all lead to one of them, by whatever names; or to whom they like."""
    ids = luck.sample(range(1, 100), count)
    places = [(f"10.0.0.{at}:1", f"host{at}:1", f"alias{at}:1") for at in range(count)]
    order = luck.sample(range(count), count)  # the first is the node that all lists lead to
    hosts = []
    for at in range(count):
        rank = order.index(at)
        named = [order[luck.randrange(rank)]] if rank and is_common else []
        named += [other for other in range(count)
                  if luck.random() < (0.4 if other == at else 0.15)]
        if not named and (rank or luck.random() < 0.8):
            named = [at]  # itself, and whoever calls; nobody at all founds alone at once
        luck.shuffle(named)
        peers = [luck.choice(places[other])
                 for other in named for _ in range(luck.choice((1, 1, 2)))]
        hosts.append(Host(ids[at], places[at], tuple(peers)))
    return hosts


def random_faults(luck: Random) -> Faults:
    """Some faults, of some kinds; often none of most kinds."""
    def some(*values):
        return luck.choice((values[0], luck.choice(values)))

    return Faults(
        until_ms=luck.choice((4000, 7000, 10_000)),
        loss=some(0.0, 0.05, 0.3), doubling=some(0.0, 0.2), delay_ms=some(20, 5, 200, 600),
        lag=some(0.0, 0.05, 0.2), crash_each_ms=some(0, 700, 2500),
        crash_at_write=some(0.0, 0.2, 0.5), cut_each_ms=luck.choice((0, 400, 1000, 3000, 10_000)),
        trouble_at_write=some(0.0, 0.3, 0.9), stable_ms=luck.choice((0, 0, 300, 2000)),
    )


def contested_hosts(luck: Random, count: int) -> list[Host]:
    """Several nodes that name themselves and a common one: each may think itself the founder."""
    ids = luck.sample(range(1, 100), count)
    if luck.random() < 0.8:
        ids.sort(reverse=True)  # the common one is the last to be founder
    places = [(f"10.0.0.{at}:1",) for at in range(count)]
    hosts = []
    for at in range(count):
        named = {at, 0} if luck.random() < 0.8 else {0}
        if luck.random() < (0.2 if at else 0.7):
            named.add(luck.randrange(count))
        hosts.append(Host(ids[at], places[at], tuple(places[other][0] for other in sorted(named))))
    return hosts


def contested_faults(luck: Random) -> Faults:
    """Links that are cut for a second or so, mostly; short views, so that proposals cross."""
    return Faults(
        until_ms=luck.choice((2500, 5000)), loss=luck.choice((0.0, 0.0, 0.2)),
        delay_ms=luck.choice((5, 60, 300)), lag=luck.choice((0.0, 0.0, 0.1)), lag_ms=1500,
        crash_each_ms=luck.choice((0, 0, 1500)), crash_at_write=luck.choice((0.0, 0.2)),
        cut_each_ms=luck.choice((300, 700, 1500)), trouble_at_write=luck.choice((0.0, 0.5, 0.9)),
        stable_ms=luck.choice((200, 200, 400)),
    )


def run_seed(seed: int, kind: type[Founding] = Founding, *, is_common: bool = True) -> World:
    """One random world, from its first start until everybody is in the one cluster."""
    luck = Random(seed)
    if is_common and seed % 2:
        hosts, faults = contested_hosts(luck, luck.randrange(3, 5)), contested_faults(luck)
        delay_ms = 400
    else:
        hosts = random_hosts(luck, luck.randrange(2, 6), is_common=is_common)
        faults, delay_ms = random_faults(luck), 5000
    world = World(hosts, seed, faults, kind)
    for host in hosts:
        world.later(luck.choice((0, luck.randrange(delay_ms))), partial(world.start, host))
    named = {world.host_at(peer).node_id for host in hosts for peer in host.peers}
    for host in hosts:
        # Who only calls may die for good at any moment: nobody waits for it.
        if host.node_id not in named and host.peers and luck.random() < 0.5:
            world.later(luck.randrange(faults.until_ms), partial(world.end, host))
    world.settle()
    return world
