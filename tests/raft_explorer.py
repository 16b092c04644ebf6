"""Random walks through what may happen to a few machines, with Raft's promises checked throughout.

One seed is one walk: which node's time passes, which message arrives, twice or never, what is
synced, who crashes and how much of its unsynced writes survives, who is cut off, what is asked.
After each event the checks of `Checker` hold; at the end the world is healed, and must elect and
commit.
`python tests/raft_explorer.py SEED [EVENTS]` walks one walk again and tells it line by line.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable

from raft_cluster import Cluster, Server, configured
from raft_disk import Snapshot
from seafoam._core.confchange import Configuration
from seafoam._core.message import (
    ENTRY_CONFIGURATION,
    ENTRY_FOUNDING,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    Entry,
    Message,
)
from seafoam._core.raft import ROLE_FOLLOWER
from seafoam.errors import ConfigurationRefused


class Broken(AssertionError):
    """A promise of Raft was broken."""


def hold(condition: object, words: str) -> None:
    if not condition:
        raise Broken(words)


class Checker:
    """What must be so after each event, in terms of what was seen before."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.leader_of: dict[int, int] = {}
        #: (index, term) -> what was written there, and the term before it: log matching.
        self.written: dict[tuple[int, int], tuple[bytes, int]] = {}
        #: index -> the entry applied there first, and the terms of the committed ones.
        self.applied: dict[int, Entry] = {}
        self.committed: dict[int, int] = {}
        #: index -> the configuration from there on, as whoever applied it first had it.
        self.configurations: dict[int, Configuration] = {}
        self.configuration_before: dict[int, Configuration | None] = {}
        self.commit_index = 0
        self.counts: Counter[str] = Counter()
        cluster.on_apply = self.on_apply
        cluster.on_write = self.on_write
        cluster.on_restore = self.on_restore
        send = cluster.send

        def checked_send(message: Message) -> None:
            self.on_send(message)
            send(message)

        cluster.send = checked_send
        for server in cluster.servers.values():
            for entry in server.applied:
                self.on_apply(server, entry)
            for entry in server.disk.entries:
                self.written[entry.index, entry.term] = (entry.data, 0)

    def on_write(self, server: Server, entries: list[Entry]) -> None:
        """Log matching (5.3): an entry of one place says the same, and so do all before it."""
        log = server.disk.written_log()
        for base in server.base_due:
            log.put(base)
        if entries and entries[0].index <= log.last_index:
            self.counts["truncations"] += 1
        for entry in entries:
            before_term = log.term_at(entry.index - 1)
            log.put(entry)
            told = self.written.setdefault((entry.index, entry.term), (entry.data, before_term))
            hold(told == (entry.data, before_term),
                 f"two entries at {entry.index}@{entry.term}: {told}, {entry.data!r}")

    def on_apply(self, server: Server, entry: Entry) -> None:
        """State machine safety (5.4.3), and nothing is applied that its own disk may lose."""
        hold(entry.index == len(server.applied), f"{server.node_id} applies {entry} out of order")
        first = self.applied.setdefault(entry.index, entry)
        hold(first == entry, f"{server.node_id} applies {entry}, another did {first}")
        hold(server.disk.log.at(entry.index) == entry and entry.index <= server.disk.safe_index(),
             f"{server.node_id} applies {entry}, which is not on its disk")
        configuration = self.configurations.get(entry.index - 1)
        if entry.kind not in (0, 1):
            configuration = configured(configuration, entry)
            hold(configuration == server.raft.configuration, "configurations differ")
            self.counts["configurations"] += entry.index > 1
        self.configurations[entry.index] = configuration

    def on_restore(self, server: Server, snapshot: Snapshot) -> None:
        """What a snapshot has is what was applied; nothing but it and its log's tail is here."""
        log = server.raft.log
        hold(log.applied_index == log.applying_index == snapshot.index == len(snapshot.applied)
             and log.commit_index >= snapshot.index, f"{server.node_id} is restored to {log}")
        hold(all(self.applied[entry.index] == entry for entry in snapshot.applied),
             f"{server.node_id} is restored from what was never applied")
        hold(self.configurations[snapshot.index] == server.raft.configuration,
             "configurations differ")
        configuring = [entry.index for entry in snapshot.applied
                       if entry.kind in (ENTRY_FOUNDING, ENTRY_CONFIGURATION)]
        hold(configuring[-1] == server.raft.configured_index, "configured by another entry")
        self.counts["restores"] += 1
        self.counts["tails kept"] += log.last_index > snapshot.index
        self.counts["bases"] += len(server.base_due)

    def on_send(self, message: Message) -> None:
        """Votes and acknowledgements leave after the sync they rest on (5.1, 5.2)."""
        if message.is_rejected:
            return
        disk = self.cluster.servers[message.from_id].disk
        if message.kind == MESSAGE_VOTE:
            hold(disk.hard_state.term >= message.term,
                 f"{message} may be asked again after a crash, with a shorter log")
        elif message.kind == MESSAGE_VOTE_ANSWER:
            hold(disk.hard_state.term > message.term
                 or (disk.hard_state.term, disk.hard_state.vote) == (message.term, message.to_id),
                 f"{message} rests on a vote that is not durable")
        elif message.kind == MESSAGE_APPEND_ANSWER and disk.hard_state.term == message.term:
            hold(disk.safe_index() >= message.index, f"{message} rests on nothing durable")

    def after_event(self) -> None:
        for server in self.cluster.servers.values():
            if not server.is_up:
                continue
            raft = server.raft
            if server.is_leader and raft.term not in self.leader_of:
                self._on_leader(server)
            if server.is_leader:
                hold(self.leader_of[raft.term] == server.node_id,
                     f"term {raft.term} has two leaders")
            if raft.log.commit_index > self.commit_index:
                self._on_commit(server)
            self.configuration_before[server.node_id] = raft.configuration

    def _on_leader(self, server: Server) -> None:
        """Election safety (5.2) and leader completeness (5.4)."""
        self.leader_of[server.raft.term] = server.node_id
        self.counts["leaders"] += 1
        log = server.disk.written_log()
        for index, term in self.committed.items():
            hold(log.holds(index, term),
                 f"leader {server.node_id} of term {server.raft.term} lacks {index}@{term}")

    def _on_commit(self, server: Server) -> None:
        """A majority of disks has what is committed, by the configuration in force."""
        log = server.disk.written_log()
        old_index, self.commit_index = self.commit_index, server.raft.log.commit_index
        self.counts["commits"] += 1
        for index in range(old_index + 1, self.commit_index + 1):
            self.committed[index] = log.term_at(index)
        entry = log.at(self.commit_index)
        # A change may have been committed and applied within this one event.
        configurations = [self.configuration_before.get(server.node_id),
                          server.raft.configuration]
        held = {other.node_id: True for other in self.cluster.servers.values()
                if other.disk.log.at(entry.index) == entry
                and other.disk.safe_index() >= entry.index}
        hold(any(configuration and configuration.vote_result(held) == "won"
                 for configuration in configurations),
             f"{entry} is committed with {sorted(held)} only, among {configurations}")


class Walk:
    """One random walk."""

    def __init__(self, seed: int, node_count: int, *, changes: bool, snapshots: bool) -> None:
        self.random = random.Random(seed)
        ids = range(1, node_count + 1)
        self.cluster = Cluster(ids, seed=seed, strangers=[node_count + 1] if changes else (),
                               kept_bytes_max=self.random.choice([0, 600, 1 << 20]))
        self.cluster.is_fetching_at_once = False
        self.cluster.is_holding_apply = self.random.random() < 0.5
        self.cluster.apply_count = self.random.choice([1, 64])
        self.checker = Checker(self.cluster)
        self.changes = changes
        self.number = 0
        #: On the way, by whichever path: what is to be done when it arrives.
        self.parcels: list[Callable[[], None]] = []
        #: (node, context) -> the commit index that was known anywhere when it was asked.
        self.reads: dict[tuple[int, int], int] = {}
        self.lossiness = self.random.choice([0.0, 0.02, 0.1])
        self.events = [
            (40, self.deliver), (20, self.sync), (12, self.tick), (4, self.tick_all),
            (1, self.oversleep), (1, self.stall), (10, self.propose), (3, self.read),
            (1, self.lose), (2, self.double), (0.5, self.crash), (5, self.restart),
            (0.6, self.cut), (3, self.heal), (0.7, self.transfer), (2, self.fetch),
            (1 if changes else 0, self.change), (20, self.apply),
            *([(1.5, self.begin_snapshot), (2, self.save_snapshot), (2, self.drop_log),
               (4, self.send_snapshot), (4, self.deliver_parcel), (1, self.restore),
               (0.5, self.offer_snapshot)]
              if snapshots else []),
        ]

    def run(self, event_count: int) -> Counter[str]:
        verbs = [verb for _, verb in self.events]
        # Each walk has its own habits, so that dangers meet that seldom do on average.
        weights = [weight * (self.random.choice([0.2, 1, 4]) if weight < 5 else 1)
                   for weight, _ in self.events]
        for verb in self.random.choices(verbs, weights, k=event_count):
            verb()
            self.after_event()
        self.finish()
        return self.checker.counts

    def after_event(self) -> None:
        self.checker.after_event()
        for server in self.cluster.servers.values():
            for context, index in server.reads:
                asked = self.reads.pop((server.node_id, context), None)
                if asked is not None:
                    self.checker.counts["reads"] += 1
                    hold(index >= asked, f"read {context} is served at {index}, below {asked}")
            server.reads.clear()

    def finish(self) -> None:
        """With all healed, one is elected, commits, and all apply the same."""
        self.cluster.heal()
        self.cluster.is_fetching_at_once = True
        self.cluster.is_holding_apply = False
        for server in self.cluster.servers.values():
            if not server.is_up:
                server.restart()
            server.fetch()
            server.apply()
            server.pump()
        while self.parcels:
            self.deliver_parcel()
        for _ in range(600):
            self.pass_time()
            leaders = [server for server in self.cluster.servers.values() if server.is_leader
                       and not server.raft.is_transferring]
            if leaders and leaders[0].raft.log.commit_index == leaders[0].raft.log.last_index:
                break
        leader = self.cluster.leader()
        index = leader.propose(b"the end")
        for _ in range(100):
            self.pass_time()
        members = self.cluster.leader().raft.configuration.member_ids()
        for node_id in members:
            server = self.cluster[node_id]
            hold(len(server.applied) >= index,
                 f"{node_id} stays behind at {len(server.applied)} of {index}: {server.raft}")

    def pass_time(self) -> None:
        self.cluster.tick()
        self.after_event()
        for server in self.cluster.servers.values():
            while server.snapshots:
                self.cluster.carry_snapshot(server.node_id)
            self.restore_late(server)
            self.after_event()

    # -- events --------------------------------------------------------------------------------

    def one(self, wanted=lambda server: server.is_up) -> Server | None:
        servers = [server for server in self.cluster.servers.values() if wanted(server)]
        return self.random.choice(servers) if servers else None

    def deliver(self) -> None:
        network = self.cluster.network
        for _ in range(self.random.randint(1, 5)):
            if self.random.random() < self.lossiness:
                self.lose()
            elif network:
                # Mostly in order, sometimes anything.
                last = len(network) if self.random.random() < 0.1 else min(len(network), 4)
                self.cluster.deliver(self.random.randrange(last))
                self.after_event()

    def lose(self) -> None:
        if self.cluster.network:
            self.cluster.network.pop(self.random.randrange(len(self.cluster.network)))

    def double(self) -> None:
        network = self.cluster.network
        if network:
            network.insert(self.random.randrange(len(network) + 1), self.random.choice(network))

    def sync(self) -> None:
        server = self.one(lambda server: server.is_up and server.disk.writes)
        if server is not None:
            server.sync()

    def tick(self) -> None:
        server = self.one()
        if server is not None:
            server.tick(self.random.choice([1, 1, 2, 5]))

    def oversleep(self) -> None:
        """A clock that runs ahead: nobody was heard of for long, as this node sees it."""
        server = self.one()
        if server is not None:
            server.tick(60)

    def stall(self) -> None:
        """The network is slower than an election timeout: for a while nobody hears anybody."""
        for server in self.cluster.servers.values():
            if server.is_up:
                server.tick(self.random.randint(20, 60))

    def tick_all(self) -> None:
        for server in self.cluster.servers.values():
            if server.is_up:
                server.tick()

    def propose(self) -> None:
        server = self.one(lambda server: server.is_leader and not server.raft.is_transferring)
        if server is not None:
            self.number += 1
            server.propose(b"%d" % self.number + b"x" * self.random.choice([0, 0, 100]))

    def read(self) -> None:
        server = self.one()
        if server is not None:
            self.number += 1
            self.reads[server.node_id, self.number] = self.checker.commit_index
            server.read(self.number)

    def crash(self) -> None:
        server = self.one()
        if server is not None:
            self.checker.counts["crashes"] += 1
            unsynced = len(server.disk.unsynced_records())
            self.checker.counts["crashes with unsynced writes"] += unsynced > 0
            server.crash(self.random.randint(0, unsynced))
            server.tell("crashes")

    def restart(self) -> None:
        server = self.one(lambda server: not server.is_up)
        if server is not None:
            server.tell("starts again")
            server.restart()

    def cut(self) -> None:
        ids = sorted(self.cluster.servers)
        if self.random.random() < 0.3:
            self.cluster.cuts.add((self.random.choice(ids), self.random.choice(ids)))
        else:
            self.cluster.cut(*self.random.sample(ids, self.random.randint(1, len(ids) - 1)))

    def heal(self) -> None:
        self.cluster.heal()

    def transfer(self) -> None:
        server = self.one(lambda server: server.is_leader)
        if server is not None:
            others = [node_id for node_id in server.raft.configuration.voter_ids()
                      if node_id != server.node_id]
            if others:
                self.checker.counts["transfers"] += 1
                server.raft.transfer_to(self.random.choice(others))
                server.pump()

    def fetch(self) -> None:
        server = self.one(lambda server: server.is_up and server.fetches)
        if server is not None:
            self.checker.counts["fetches"] += 1
            server.fetch()
            server.pump()

    def apply(self) -> None:
        server = self.one(lambda server: server.is_up and server.to_apply)
        if server is not None:
            server.apply()
            server.pump()

    def begin_snapshot(self) -> None:
        server = self.one(lambda server: server.is_up and server.applied)
        if server is not None:
            server.begin_snapshot()

    def save_snapshot(self) -> None:
        server = self.one(lambda server: server.is_up and server.saving)
        if server is not None:
            server.save_snapshot()

    def drop_log(self) -> None:
        """Up to the snapshot, or less: not what was not applied, where it is not restored yet."""
        server = self.one(lambda server: server.is_up and server.disk.snapshot)
        if server is not None:
            self.checker.counts["logs dropped"] += 1
            last = min(server.disk.snapshot.index - 1, server.raft.log.applied_index)
            server.drop_log(max(0, last - self.random.choice([0, 0, 1, 5])))

    def send_snapshot(self) -> None:
        """What is owed to a member goes on its way; it may fail, come twice, or late."""
        sender = self.one(lambda server: server.is_up and server.snapshots)
        if sender is None:
            return
        target = self.cluster[sender.snapshots.pop(0)]
        snapshot = sender.disk.snapshot

        def failed() -> None:
            self.checker.counts["snapshots failed"] += 1
            if sender.is_up:
                sender.raft.snapshot_failed(target.node_id)
                sender.pump()

        def sent() -> None:
            self.checker.counts["snapshots sent"] += 1
            if sender.is_up:
                sender.raft.snapshot_sent(target.node_id, snapshot.index)
                sender.pump()

        def arrives() -> None:
            is_cut = (sender.node_id, target.node_id) in self.cluster.cuts
            is_installed = not is_cut and target.is_up and target.install(snapshot)
            self.parcels += [sent, sent] if is_installed else [failed]

        self.parcels.append(failed if self.random.random() < 0.1 else arrives)
        if self.random.random() < 0.1:
            self.parcels.append(arrives)

    def offer_snapshot(self) -> None:
        """One that was sent long ago comes to somebody who may not need it any more."""
        sender = self.one(lambda server: server.disk.snapshot is not None)
        target = self.one()
        if sender is not None and target is not None:
            target.install(sender.disk.snapshot)

    def deliver_parcel(self) -> None:
        if self.parcels:
            self.parcels.pop(self.random.randrange(len(self.parcels)))()

    def restore(self) -> None:
        server = self.one()
        if server is not None:
            self.restore_late(server)

    def restore_late(self, server: Server) -> None:
        """A snapshot that came while this was no follower."""
        snapshot = server.disk.snapshot
        if (server.is_up and server.raft.role == ROLE_FOLLOWER and snapshot is not None
                and snapshot.index > server.raft.log.applied_index):
            self.checker.counts["late restores"] += 1
            server.restore()

    def change(self) -> None:
        server = self.one(lambda server: server.is_leader and not server.raft.is_transferring)
        if server is None:
            return
        one, other = self.random.sample(sorted(self.cluster.servers), 2)
        words = self.random.choice(["simple v%d", "simple l%d", "simple r%d", "joint v%d r%d",
                                    "joint l%d v%d", "joint r%d v%d"])
        if server.raft.configuration.is_joint:
            words = "leave"
        data = (words % ((one, other)[:words.count("%")])).encode()
        try:
            server.propose(data, ENTRY_CONFIGURATION)
        except ConfigurationRefused:
            self.checker.counts["refused changes"] += 1


def walk_of(seed: int) -> Walk:
    return Walk(seed, 5 if seed % 3 == 0 else 3, changes=seed % 2 == 0, snapshots=seed % 4 != 1)


if __name__ == "__main__":
    walk = walk_of(int(sys.argv[1]))
    walk.cluster.tell = print
    print(dict(walk.run(int(sys.argv[2]) if len(sys.argv) > 2 else 3000)))
