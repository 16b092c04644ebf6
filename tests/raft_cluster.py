"""Machines in memory: a pump, a disk and a network for each test of several `Raft`s.

Nothing happens by itself: time, syncs and deliveries are asked for, one by one or until all is
quiet. A `Server` keeps to the order that `Ready` asks for and to nothing beyond it, so that
whatever it may leave open is open here: unsynced writes are lost by a crash, records one by one
from the end. Everything that happens is told as a line to `tell`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raft_disk import Base, Disk, Snapshot
from seafoam._core.confchange import Configuration
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    ENTRY_EMPTY,
    ENTRY_FOUNDING,
    Entry,
    HardState,
    Message,
)
from seafoam._core.raft import (
    ROLE_CANDIDATE,
    ROLE_FOLLOWER,
    ROLE_LEADER,
    ROLE_NAMES,
    ROLE_PRE_CANDIDATE,
    Raft,
)
from seafoam.errors import ConfigurationRefused

KIND_NAMES = {ENTRY_EMPTY: "empty", ENTRY_COMMAND: "command", ENTRY_FOUNDING: "founding",
              ENTRY_CONFIGURATION: "configuration"}
ROUNDS_MAX = 1000


def place(entry: Entry | Base) -> str:
    if isinstance(entry, Base):
        return f"base={entry.index}@{entry.term}"
    return f"{entry.index}@{entry.term}"


def founding(voters: Iterable[int], learners: Iterable[int] = ()) -> Entry:
    words = [f"v{node_id}" for node_id in voters] + [f"l{node_id}" for node_id in learners]
    return Entry(1, 1, ENTRY_FOUNDING, " ".join(words).encode())


def configured(before: Configuration | None, entry: Entry) -> Configuration:
    """What an entry that configures makes of the configuration before it.

    A refused change is applied too: it leaves everything as it was, on every node alike.
    """
    text = entry.data.decode()
    if entry.kind == ENTRY_FOUNDING:
        words = text.split()
        return Configuration([int(word[1:]) for word in words if word[0] == "v"], (),
                             [int(word[1:]) for word in words if word[0] == "l"])
    verb, _, changes = text.partition(" ")
    assert before is not None
    try:
        if verb == "leave":
            return before.leave_joint()
        return (before.simple(changes) if verb == "simple"
                else before.enter_joint(False, changes))
    except ConfigurationRefused:
        return before


class Server:
    """One machine with its disk; what leaves it goes into `cluster.network`."""

    def __init__(self, cluster: Cluster, node_id: int, disk: Disk, seed: int) -> None:
        self.cluster = cluster
        self.node_id = node_id
        self.disk = disk
        self.seed = seed
        self.is_up = True
        self.start()

    def start(self) -> None:
        snapshot, log = self.disk.snapshot, self.disk.start()
        self.raft = Raft(self.node_id, self.disk.hard_state, log.entries,
                         seed=self.seed, kept_bytes_max=self.cluster.kept_bytes_max,
                         base=(log.base.index, log.base.term),
                         configuration=snapshot and snapshot.configuration,
                         configured_index=snapshot.configured_index if snapshot else 0)
        self.applied: list[Entry] = list(snapshot.applied) if snapshot else []
        #: Handed out by the machine, to be applied when the cluster is not holding that back.
        self.to_apply: list[Entry] = []
        #: The snapshot that is being taken; durable with `save_snapshot`.
        self.saving: Snapshot | None = None
        #: What the disk's log must be told before it is given another entry.
        self.base_due: list[Base] = []
        #: Members that are to be sent a snapshot.
        self.snapshots: list[int] = []
        self.reads: list[tuple[int, int]] = []
        self.fetches: list[tuple[int, int]] = []
        self.role = self.raft.role
        self.pump()

    def tell(self, line: str) -> None:
        self.cluster.tell(f"{self.node_id} {line}")

    def pump(self) -> None:
        """Carry out what the machine asks for; writes wait for `sync`."""
        while self.raft.has_ready():
            self._show_role()
            ready = self.raft.ready(self.cluster.apply_count)
            if ready.durable is not None:
                self._tell_write([*self.base_due, *ready.entries], ready.hard_state)
                self.cluster.on_write(self, ready.entries)
                self.disk.writes.append(([*self.base_due, *ready.entries], ready.hard_state,
                                         ready.durable, []))
                self.base_due = []
            else:
                assert not ready.entries and ready.hard_state is None
            for message in ready.messages:
                self.cluster.send(message)
            if ready.messages_after_durable:
                self.disk.writes[-1][3].extend(ready.messages_after_durable)
            self.to_apply += ready.committed
            if not self.cluster.is_holding_apply:
                self.apply()
            for read in ready.reads:
                self.tell(f"may read {read.context} at {read.index}")
                self.reads.append((read.context, read.index))
            self.fetches += ready.fetches
            for node_id in ready.snapshots:
                self.tell(f"has no log for {node_id}")
            self.snapshots += ready.snapshots
            if self.cluster.is_fetching_at_once:
                self.fetch()
        self._show_role()

    def _show_role(self) -> None:
        if self.raft.role != self.role:
            self.role = self.raft.role
            self.tell(f"is {ROLE_NAMES[self.role]} in term {self.raft.term}")

    def _tell_write(self, entries: list[Entry | Base], hard_state: HardState | None) -> None:
        parts = [place(entry) for entry in entries]
        if hard_state is not None:
            parts.append(f"(term={hard_state.term} vote={hard_state.vote:x} "
                         f"commit={hard_state.commit_index})")
        self.tell("writes " + " ".join(parts))

    def apply(self) -> None:
        """Apply what was handed out."""
        to_apply, self.to_apply = self.to_apply, []
        for entry in to_apply:
            self._apply(entry)

    def _apply(self, entry: Entry) -> None:
        self.tell(f"applies {place(entry)} {KIND_NAMES[entry.kind]}"
                  + (f" {entry.data[:40].decode()}" if entry.data else ""))
        self.applied.append(entry)
        if entry.kind in (ENTRY_FOUNDING, ENTRY_CONFIGURATION):
            configuration = configured(self.raft.configuration, entry)
            self.raft.configure(entry.index, configuration)
            self.tell(f"is configured {configuration}")
        self.raft.advance(entry.index)
        self.cluster.on_apply(self, entry)

    def fetch(self) -> None:
        """Read what was asked of the disk, in pieces of at most two entries."""
        fetches, self.fetches = self.fetches, []
        for first, last in fetches:
            found = self.disk.read(first, min(last, first + 1))
            self.tell(f"fetches {first}..{last}, finds {' '.join(map(place, found))}")
            self.raft.fetched(found)

    def begin_snapshot(self) -> None:
        """Take one of what is applied now."""
        last, raft = self.applied[-1], self.raft
        assert raft.configuration is not None
        self.saving = Snapshot(last.index, last.term, tuple(self.applied), raft.configuration,
                               raft.configured_index)

    def save_snapshot(self) -> None:
        """The one that is being taken is durable now, and replaces an older one."""
        snapshot, self.saving = self.saving, None
        assert snapshot is not None
        if self.disk.snapshot is None or snapshot.index > self.disk.snapshot.index:
            self.disk.snapshot = snapshot
            self.tell(f"has a snapshot of {snapshot.index}@{snapshot.term}")

    def drop_log(self, index: int) -> None:
        """The machine is told first: whatever it asks for from then on is there."""
        self.raft.dropped_to(index)
        self.fetches = [wanted for wanted in self.fetches if wanted[0] > index]
        self.disk.drop(index)
        self.tell(f"has dropped its log up to {index}")
        self.pump()

    def install(self, snapshot: Snapshot) -> bool:
        """A snapshot has come: durable at first, then restored; whether all it has is here now."""
        if snapshot.index > self.raft.log.applied_index:
            self.saving = snapshot
            self.save_snapshot()
            if self.raft.role == ROLE_FOLLOWER:
                self.restore()
        return snapshot.index <= self.raft.log.applied_index

    def restore(self) -> None:
        """Go on from the disk's snapshot, which is of more than was applied."""
        snapshot = self.disk.snapshot
        assert snapshot is not None
        if self.raft.restore(snapshot.index, snapshot.term, snapshot.configuration,
                             snapshot.configured_index):
            self.base_due = [snapshot.base]
        self.to_apply = []
        self.fetches = []
        self.applied = list(snapshot.applied)
        self.tell(f"goes on from {snapshot.index}@{snapshot.term}")
        self.cluster.on_restore(self, snapshot)
        self.pump()

    def sync(self) -> bool:
        """The oldest write is on disk now; False where there is none."""
        if not self.disk.writes:
            return False
        report, waiting = self.disk.sync()
        self.raft.durable(report)
        for message in waiting:
            self.cluster.send(message)
        self.pump()
        return True

    def sync_all(self) -> None:
        while self.sync():
            pass

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.raft.tick()
            self.pump()

    def campaign(self) -> None:
        """Let time pass for this node alone until it campaigns."""
        for _ in range(ROUNDS_MAX):
            self.raft.tick()
            if self.raft.role in (ROLE_PRE_CANDIDATE, ROLE_CANDIDATE) and self.raft.has_ready():
                return self.pump()
        raise AssertionError(f"node {self.node_id} does not campaign")

    def propose(self, data: bytes, kind: int = ENTRY_COMMAND) -> int:
        index = self.raft.propose(kind, data)
        self.pump()
        return index

    def step(self, message: Message) -> None:
        self.raft.step(message)
        self.pump()

    def read(self, context: int) -> None:
        self.raft.read_index(context)
        self.pump()

    def crash(self, survivors: int = 0) -> None:
        self.disk.crash(survivors)
        self.is_up = False

    def restart(self) -> None:
        self.is_up = True
        self.start()

    @property
    def is_leader(self) -> bool:
        return self.is_up and self.raft.role == ROLE_LEADER


class Cluster:
    """Servers by id and the messages between them, in the order of sending."""

    def __init__(self, voters: Iterable[int], *, learners: Iterable[int] = (), strangers=(),
                 seed: int = 1, kept_bytes_max: int = 1 << 20) -> None:
        self.network: list[Message] = []
        self.cuts: set[tuple[int, int]] = set()
        self.kept_bytes_max = kept_bytes_max
        self.apply_count = 64
        self.is_fetching_at_once = True
        self.is_holding_apply = False
        self.tell: Callable[[str], None] = lambda line: None
        self.on_apply: Callable[[Server, Entry], None] = lambda server, entry: None
        self.on_write: Callable[[Server, list[Entry]], None] = lambda server, entries: None
        self.on_restore: Callable[[Server, Snapshot], None] = lambda server, snapshot: None
        self.servers: dict[int, Server] = {}
        first = founding(voters, learners)
        for node_id in (*voters, *learners):
            self.add(node_id, [first], HardState(1, 0, 1), seed)
        for node_id in strangers:
            self.add(node_id, [], HardState(0, 0, 0), seed)

    def add(self, node_id: int, entries: list[Entry], hard_state: HardState,
            seed: int = 1) -> Server:
        self.servers[node_id] = Server(self, node_id, Disk(list(entries), hard_state), seed)
        return self.servers[node_id]

    def __getitem__(self, node_id: int) -> Server:
        return self.servers[node_id]

    def send(self, message: Message) -> None:
        self.network.append(message)

    def deliver(self, at: int = 0) -> bool:
        """Hand over the message at this position; False where there is none."""
        if at >= len(self.network):
            return False
        message = self.network.pop(at)
        server = self.servers.get(message.to_id)
        if server is None or not server.is_up or (message.from_id, message.to_id) in self.cuts:
            self.tell(f"lost {message}")
        else:
            self.tell(str(message))
            server.step(message)
        return True

    def carry_snapshot(self, from_id: int) -> None:
        """The first member that this leader owes a snapshot is sent one, and both are told."""
        sender = self.servers[from_id]
        target = self.servers[sender.snapshots.pop(0)]
        snapshot = sender.disk.snapshot
        assert snapshot is not None, "nobody can be sent what was not taken"
        is_cut = {(from_id, target.node_id), (target.node_id, from_id)} & self.cuts
        if is_cut or not target.is_up or not target.install(snapshot):
            sender.tell(f"sent {target.node_id} no snapshot")
            sender.raft.snapshot_failed(target.node_id)
        else:
            sender.tell(f"sent {target.node_id} a snapshot of {snapshot.index}@{snapshot.term}")
            sender.raft.snapshot_sent(target.node_id, snapshot.index)
        sender.pump()

    def drop(self, wanted: Callable[[Message], bool] = lambda message: True) -> list[Message]:
        dropped = [message for message in self.network if wanted(message)]
        self.network = [message for message in self.network if not wanted(message)]
        return dropped

    def settle(self) -> None:
        """Sync and deliver until nothing moves any more."""
        for _ in range(100 * ROUNDS_MAX):
            synced = [server.sync() for server in self.servers.values() if server.is_up]
            if not self.deliver() and not any(synced):
                return
        raise AssertionError(f"it never settles: {self.network[:5]}")

    def tick(self, count: int = 1) -> None:
        """Time passes for all alike, and what it leads to happens at once."""
        for _ in range(count):
            for server in self.servers.values():
                if server.is_up:
                    server.tick()
            self.settle()

    def cut(self, *node_ids: int) -> None:
        """No message passes between these and the others any more."""
        for one in node_ids:
            for other in self.servers:
                if other not in node_ids:
                    self.cuts |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cuts.clear()

    def elect(self, node_id: int) -> Server:
        """This node campaigns and wins; everything it leads to has happened."""
        server = self.servers[node_id]
        for other in self.servers.values():
            if other is not server and other.raft.leader_id:
                other.tick(30)  # else it would stay with the leader it hears
        self.drop()
        for _ in range(2):  # again, where it only learnt of a later term
            server.campaign()
            self.settle()
            if server.is_leader:
                break
        assert server.is_leader, server.raft
        return server

    def leader(self) -> Server:
        """The leader of the latest term; there must be one."""
        leaders = [server for server in self.servers.values() if server.is_leader]
        assert leaders, "nobody leads"
        return max(leaders, key=lambda server: server.raft.term)


FOUNDING = founding([1, 2, 3])


def log_of(*terms: int) -> list[Entry]:
    """A log whose entries, from index 2 on, are of these terms; entry 1 is the founding set."""
    return [FOUNDING, *(Entry(index, term, ENTRY_COMMAND, b"%d" % index)
                        for index, term in enumerate(terms, 2))]


def cluster_of(logs: dict[int, list[Entry]], term: int, commit: int = 1) -> Cluster:
    """Nodes that start again with these logs, all in one term."""
    cluster = Cluster([])
    for node_id, log in logs.items():
        cluster.add(node_id, log, HardState(term, 0, commit), seed=1)
    return cluster


def kinds(messages) -> list[int]:
    return [message.kind for message in messages]


def places(log: list[Entry]) -> list[tuple[int, int]]:
    return [(entry.index, entry.term) for entry in log]
