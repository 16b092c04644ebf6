"""One run: a cluster, its clients and its faults, from one seed to the verdict.

Owns the only generator of luck, and the trace. Must never depend on anything but the seed and the
code: two runs of a seed are the same, event by event, which the trace's hash shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from random import Random

from seafoam._core.message import (
    ENTRY_FOUNDING,
    MESSAGE_NAMES,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_VOTE,
    Entry,
    Message,
)
from seafoam._core.wire import HASH_SEED_BYTES, Operation, encode_founding
from sim.clients import KEYS, Call, Client
from sim.clock import SECOND, Timeline
from sim.cluster import Host, Process, raft_maker
from sim.disk import found
from sim.faults import Faults
from sim.invariants import Invariants, Violation
from sim.network import Network

__all__ = ["World"]

CLIENTS_MAX = 5
QUOTA_BYTES = 64 * 1024 * 1024
#: How long a healed cluster may take to be whole again.
HEAL_NS = 60 * SECOND
CALM_LOOK_NS = SECOND // 10


class World:
    """A cluster of `nodes_count` hosts, as `seed` has it, with faults of `kinds` or of any."""

    def __init__(
        self, seed: int, nodes_count: int, say: Callable[[str], None] | None = None,
        kinds: Sequence[str] = (),
    ) -> None:
        self.rng = Random(seed)
        self.seen: Counter[str] = Counter()
        self.timeline = Timeline()
        self.network = Network(self.timeline, self.rng)
        self.network.seen = self.seen
        self.network.on_send = self._sent
        self.network.on_deliver = self.touch
        # Small segments, so that logs span several; in some runs entries are large instead, so
        # that a follower's way back takes several appends.
        self.segment_bytes, value_bytes_max = self.rng.choice(
            ((16_384, 3_000), (16_384, 3_000), (16_384, 3_000), (2_097_152, 200_000)))
        # The log that a snapshot is taken behind; in some runs none ever is.
        self.snapshot_log_bytes = self.rng.choice((2_000, 2_000, 20_000, 200_000, 1 << 40))
        # In some runs, memory that a few values use up, and not as much on every node.
        self._quotas_bytes = self.rng.choice(
            ((QUOTA_BYTES,), (QUOTA_BYTES,), (QUOTA_BYTES,), (700, 2_000, 4_000)))
        if len(self._quotas_bytes) > 1:
            # Values of which any one fits everywhere, and five do not.
            value_bytes_max = 600
        self.hosts: list[Host] = []
        self.events_count = 0
        self._say = say
        self._hash = blake2b(digest_size=8)
        self._touched: list[Process] = []
        self._found(nodes_count)
        self.make_raft = raft_maker(
            partial(self.rng.choice, (2_000, 2_000, 20_000, 16_777_216)),
            self.invariants.told_read_index)
        self.spare_host: Host | None = Host(self, nodes_count + 1)
        self._processes: list[Process] = []
        self.clients = [
            Client(number, self.timeline, self.rng, self.invariants, self._processes,
                   value_bytes_max)
            for number in range(self.rng.randint(1, CLIENTS_MAX))
        ]
        for client in self.clients:
            client.seen = self.seen
        self.faults = Faults(self, kinds)

    def _found(self, nodes_count: int) -> None:
        rng = self.rng
        hosts = [Host(self, number) for number in range(1, nodes_count + 1)]
        ids = [rng.getrandbits(63) + 1 for _ in hosts]
        founding = Entry(1, 1, ENTRY_FOUNDING, encode_founding(
            rng.getrandbits(63) + 1, rng.randbytes(HASH_SEED_BYTES),
            [(node_id, host.address) for node_id, host in zip(ids, hosts, strict=True)],
        ))
        self.invariants = Invariants(founding)
        self.invariants.seen = self.seen
        for node_id, host in zip(ids, hosts, strict=True):
            found(host.make_disk(node_id), founding)
            self.add_host(host)

    def draw_quota_bytes(self) -> int:
        """What one machine more may hold."""
        return self.rng.choice(self._quotas_bytes)

    def add_host(self, host: Host) -> None:
        """A machine more."""
        self.hosts.append(host)
        self.network.hosts[host.address] = host

    # -- running -------------------------------------------------------------------------------

    def run(self, events_count: int) -> None:
        """So many events with faults, then healing, and the verdict. Raises Violation."""
        for host in self.hosts:
            host.start()
        for client in self.clients:
            client.start()
        self.faults.start()
        while self.events_count < events_count:
            self._step()
        self.tell("heals")
        self.faults.stop()
        self._await("clients get no answers", self._is_whole)
        for client in self.clients:
            client.stop()
        if len(self._quotas_bytes) > 1:
            self._calls: list[Call] = []
            self._await("the least quota does not count", self._is_too_large)
        self._write_everywhere()
        self._compare_maps()

    def _step(self) -> None:
        event = self.timeline.next()
        if event is None or event.action is None:
            raise Violation("nothing will ever happen again")
        self.events_count += 1
        self._hash.update(f"{event.due_ns} {event.label} {event.owner}\n".encode())
        if isinstance(event.owner, Process):
            self.touch(event.owner)
        event.action()
        while self._touched:
            self.invariants.look(self._touched.pop())
        if self.events_count % 64 == 0:
            for client in self.clients:
                client.look()
        self._processes[:] = [h.process for h in self.hosts if h.process is not None]

    def touch(self, process: Process) -> None:
        """The event that is being done does something to it."""
        self._touched.append(process)

    def tell(self, what: str) -> None:
        """A line of the story."""
        self._hash.update(what.encode())
        if self._say is not None:
            self._say(f"{self.timeline.now_ns / SECOND:10.6f} {what}")

    def trace_hash(self) -> str:
        """Of everything that happened."""
        return self._hash.hexdigest()

    def _sent(self, process: Process, message: Message) -> None:
        self._hash.update(b"%d %d %d %d" % (
            message.kind, message.term, message.index, message.commit_index))
        if message.kind == MESSAGE_VOTE:
            self.seen["votes asked for"] += 1
        elif message.kind == MESSAGE_TIMEOUT_NOW:
            self.seen["transfers"] += 1
        self.invariants.sent(process, message)
        if self._say is not None and MESSAGE_NAMES[message.kind] not in ("heartbeat",
                                                                         "heartbeat_answer"):
            self.tell(repr(message))

    # -- the end -------------------------------------------------------------------------------

    def _await(self, otherwise: str, condition: Callable[[], bool]) -> None:
        end_ns = self.timeline.now_ns + HEAL_NS
        look_ns = 0
        while True:
            if self.timeline.now_ns >= look_ns:
                if condition():
                    return
                look_ns = self.timeline.now_ns + CALM_LOOK_NS
            if self.timeline.now_ns > end_ns:
                raise Violation(f"after a minute without faults: {otherwise}")
            self._step()

    def _is_whole(self) -> bool:
        """Everybody runs, serves and is a member; the voters are as many as they should be."""
        for host in self.hosts:
            host.start()
            if host.process is not None and host.process.is_stopping:
                return False
        processes = self._processes
        if len(processes) < len(self.hosts):
            return False
        nodes = [p.node for p in processes if p.node is not None]
        return (
            len(nodes) == len(processes)
            and all(p.node.is_settled(p.host.address) and p.node.refuse_reads() is None
                    for p in processes if p.node is not None)
            and all(node.readiness() is None for node in nodes)
            and len(self.invariants.configurations[-1][1].voters) == self._target_count()
        )

    def _target_count(self) -> int:
        return len(self.invariants.configurations[0][1].voters)

    def may_lose_a_disk(self) -> bool:
        """Whether any one disk may be wiped: without it, all promises still hold."""
        _, configuration = self.invariants.configurations[-1]
        if len(configuration.voters) < max(3, self._target_count()):
            return False
        ids = [host.image.node_id for host in self.hosts if host.image is not None]
        return all(voter in ids for voter in configuration.voters)

    def _write_everywhere(self) -> None:
        """A write through every node, each done."""
        for process in list(self._processes):
            self._calls = []
            self._await("no write is done", partial(self._writes, process))
        self._await("calls are open", lambda: all(
            call.process.is_dead for client in self.clients for call in client.open))
        last = len(self.invariants.committed)
        self._await("a node does not apply everything", lambda: all(
            p.node is not None and p.node.reader.applied_index >= last for p in self._processes))

    def _is_too_large(self) -> bool:
        """Whether what is more than one voter may hold is refused, once it has said so."""
        calls = self._calls
        if calls and calls[-1].refused == "quota_exceeded":
            self.seen["quotas that counted as the least"] += 1
            return True
        if not calls or calls[-1].is_over:
            voters = self.invariants.configurations[-1][1].voters
            least_bytes = min(self.invariants.quotas[voter] for voter in voters)
            text = (b"%d" % len(calls)).ljust(least_bytes, b".")
            call = self.clients[0].write(
                self._processes[-1], [Operation.set(b"end", b'"%b"' % text)])
            if call is not None:
                calls.append(call)
        return False

    def _writes(self, process: Process) -> bool:
        """Whether a write through this node is done; else another is tried once one is over."""
        calls = self._calls
        if calls and calls[-1].is_over and calls[-1].index and self.invariants.model.all_at_end(
                ).get(b"end", (b"", 0))[1] == calls[-1].index:
            return True
        if not calls or calls[-1].is_over:
            operations = [Operation.set(b"end", b'"%x-%d"' % (process.start_id, len(calls)))]
            if calls and calls[-1].refused == "quota_exceeded":
                operations = [Operation.delete(key) for key in [*KEYS, b"end"]]
            call = self.clients[0].write(process, operations)
            if call is not None:
                calls.append(call)
        return False

    def _compare_maps(self) -> None:
        expected = self.invariants.model.all_at_end()
        for process in self._processes:
            assert process.node is not None
            keys, values, _ = process.node.reader.scan(values=True)
            assert values is not None
            if sorted(zip(keys, values, strict=True)) != sorted(
                    (key, value) for key, (value, _) in expected.items()):
                raise Violation(f"the map of {process} is another than the model's")
            if process.node._writes._held_bytes or process.node._leadership._bytes:
                raise Violation(f"{process} counts bytes of writes that are over")
            process.node._writer.verify()

    def describe(self) -> str:
        """Where everybody stands."""
        lines = [f"committed {len(self.invariants.committed)}, configurations:"]
        lines += [f"  {index} {c}" for index, c in self.invariants.configurations]
        for host in self.hosts:
            process, image = host.process, host.image
            lines.append(f"{host} disk of {image.node_id if image is not None else 0:x} runs "
                         f"{'nobody' if process is None else process}")
            if process is not None and process.node is not None:
                lines.append(f"  {process.raft!r}")
                lines.append(f"  in force {process.raft.configuration}, entries of configurations "
                             f"{process.raft.log.configuring}, "
                             f"refuses reads: {process.node.refuse_reads()}, "
                             f"not ready: {process.node.readiness()}")
                lines += [f"  {process.raft.progress_of(h.image.node_id)}" for h in self.hosts
                          if process.is_leader and h.image is not None and h is not host]
        return "\n".join(lines)

    def close(self) -> None:
        """Give back the maps' memory."""
        for host in self.hosts:
            if host.process is not None:
                host.process.end()
