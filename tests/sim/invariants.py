"""What must hold after every event, whatever happened.

Owns what the world knows beyond any node: who led when, who voted for whom, what is committed,
what clients were told. Looks only at whoever an event touched, and only at what is new there, so
that looking is cheap; must never change anything.

    one leader a term         nobody else leads in it, ever
    log matching              an entry is known by its index and term: its content, and what stands
                              before it, is the same wherever it is written
    leader completeness       a new leader holds everything that was committed in earlier terms
    commit rule               a leader commits by counting only what is of its own term
    state-machine safety      the same entry at the same index, and the same results, on every node
    configurations            are in force once applied, and once known committed after a restart
    durable votes             a vote leaves its node synced, and is never followed by another one
    durable acknowledgements  what is acknowledged, committed or applied is on platters
    the model                 results and values are those that the model expects
    read indexes              are no less than what was committed when they were asked for
    no way back               no node shows less than it once showed, nor less at its start than
                              was committed then
    quotas                    a write that may take memory leaves the map within the quota of
                              whoever proposed it
    what clients were told    done: it is there, at that index, once, behind all that was done when
                              it was asked for; `applied: no`: it is nowhere; unknown: either
"""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING

from seafoam._core.confchange import Configuration
from seafoam._core.map import MapReader
from seafoam._core.message import (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    ENTRY_FOUNDING,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    Entry,
    Message,
)
from seafoam._core.raft import ROLE_LEADER
from seafoam._core.store import CommandResult
from seafoam._core.wire import command_cost, command_stamp, decode_command, decode_founding
from seafoam.membership import Membership

if TYPE_CHECKING:
    from sim.clients import Call
    from sim.cluster import Process
    from sim.disk import DiskImage

from sim.model import Model, Result

__all__ = ["Invariants", "Violation"]


class Violation(Exception):
    """Something happened that must not, ever."""


class Invariants:
    """The world's knowledge. `founding` is entry 1, committed by being founded."""

    def __init__(self, founding: Entry) -> None:
        self.seen: Counter[str] = Counter()
        self.model = Model()
        self.calls: dict[tuple[int, int], Call] = {}
        self.images: dict[int, DiskImage] = {}
        #: What each node's map may take.
        self.quotas: dict[int, int] = {}
        self.configurations: list[tuple[int, Configuration]] = []
        #: (term, content) of each committed entry, and the term in which it was seen committed.
        self.committed: list[tuple[int, bytes]] = []
        self._committed_in: list[int] = []
        self._results: list[list[Result] | None] = []
        self._membership = Membership(decode_founding(founding.data))
        # (index, term) -> content, and the term of the entry before it
        self._written: dict[tuple[int, int], tuple[bytes, int]] = {}
        self._entries: dict[tuple[int, int], Entry] = {}
        self._leaders: dict[int, int] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._shown: dict[int, int] = {}
        self._acknowledged_index = 0
        # context -> what was committed when that read index was asked for
        self._asked: dict[int, int] = {}
        self._last_numbers: dict[int, tuple[int, int]] = {}
        self.wrote(0, [founding])
        self._commit(1, founding.term, 0)

    # -- logs ----------------------------------------------------------------------------------

    def wrote(self, term_before: int, entries: list[Entry]) -> None:
        """A node's disk is given entries, behind one of `term_before`: log matching."""
        for entry in entries:
            place = (entry.index, entry.term)
            content = (_content(entry), term_before)
            known = self._written.setdefault(place, content)
            if known != content:
                raise Violation(f"log matching: two entries {entry.index} of term {entry.term}, "
                                f"behind terms {known[1]} and {term_before}")
            self._entries.setdefault(place, entry)
            term_before = entry.term

    def was_written(self, entry: Entry) -> bool:
        """Whether some node's disk was given this entry."""
        known = self._written.get((entry.index, entry.term))
        return known is not None and known[0] == _content(entry)

    def sent(self, process: Process, message: Message) -> None:
        """A node sends a message: what it rests on is synced."""
        own_id, image = process.node_id, process.image
        if message.from_id != own_id:
            raise Violation(f"node {own_id:x} sends in another's name: {message}")
        vote = 0
        if message.kind == MESSAGE_VOTE:
            vote = own_id
        elif message.kind == MESSAGE_VOTE_ANSWER and not message.is_rejected:
            vote = message.to_id
        if vote:
            if self._votes.setdefault((own_id, message.term), vote) != vote:
                raise Violation(f"node {own_id:x} votes twice in term {message.term}")
            state = image.state
            if state.term < message.term or (state.term == message.term and state.vote != vote):
                raise Violation(f"a vote leaves before it is synced: {message}, on disk {state}")
        elif message.kind == MESSAGE_APPEND_ANSWER and not message.is_rejected \
                and message.index > image.index_max:
            raise Violation(f"an acknowledgement leaves before the sync: {message}, on disk "
                            f"{image.index_max}")

    def _commit(self, index: int, term: int, seen_in_term: int) -> None:
        entry = self._entries.get((index, term))
        if entry is None:
            raise Violation(f"entry {index} of term {term} is committed and was never written")
        self.committed.append((term, _content(entry)))
        self._committed_in.append(seen_in_term)
        self._results.append(None)
        if entry.kind == ENTRY_COMMAND:
            self._results[-1] = self.model.apply(index, entry.data)
            self._find_call(entry)
            self._look_at_quota(entry)
        elif entry.kind == ENTRY_FOUNDING:
            self.configurations.append((index, self._membership.configuration))
        elif entry.kind == ENTRY_CONFIGURATION:
            self.configurations.append((index, self._membership.apply(index, entry.data)))
            self.seen["membership changes"] += 1
        if index > 1:
            self._look_at_platters(index, term)

    def _look_at_quota(self, entry: Entry) -> None:
        quota_bytes = self.quotas[self._leaders[entry.term]]
        if command_cost(entry.data) and self.model.bytes_at_end > quota_bytes:
            raise Violation(f"entry {entry.index} leaves {self.model.bytes_at_end} bytes in the "
                            f"map, and its leader's quota is {quota_bytes}")

    def _look_at_platters(self, index: int, term: int) -> None:
        """A committed entry is on the platters of a majority.

        Of which set of voters depends on how far its leader had applied: the last one, or, where
        that was not applied there yet, the one before.
        """
        in_force = [c for at, c in self.configurations if at < index][-2:]
        for configuration in in_force:
            holding = [
                self.images[voter].holds(index, term) for voter in configuration.voters
                if voter in self.images
            ]
            if 2 * sum(holding) > len(configuration.voters):
                return
        raise Violation(f"entry {index} of term {term} is committed, and on no majority's disks")

    # -- calls ---------------------------------------------------------------------------------

    @property
    def acknowledged_index(self) -> int:
        """The highest index of a write that a client knows to be done."""
        return self._acknowledged_index

    def _find_call(self, entry: Entry) -> None:
        origin_id, number = command_stamp(entry.data)
        call = self.calls.get((origin_id, number))
        if call is None or decode_text(call.command) != decode_text(entry.data):
            raise Violation(f"entry {entry.index} holds what nobody asked for")
        if call.index:
            raise Violation(f"a write is done twice, at {call.index} and {entry.index}")
        if call.is_certain_no:
            raise Violation(f"entry {entry.index} was said to be certainly none")
        if entry.index <= call.floor_index:
            raise Violation(f"entry {entry.index} was asked for after {call.floor_index} was done")
        call.index = entry.index
        last_number, last_index = self._last_numbers.get(origin_id, (0, 0))
        if number < last_number:
            raise Violation(f"write {number} of one node is done behind its write {last_number}, "
                            f"at {entry.index} and {last_index}")
        self._last_numbers[origin_id] = (number, entry.index)

    def told_done(self, call: Call, result: CommandResult) -> None:
        """A client is told that its write is done."""
        if result.index != call.index or result.index > len(self.committed):
            raise Violation(f"a write was told to be at {result.index}, it is at {call.index}")
        if _results(result) != self._results[result.index - 1]:
            raise Violation(f"a client is told {_results(result)} of entry {result.index}")
        self._acknowledged_index = max(self._acknowledged_index, result.index)

    def told_no(self, call: Call) -> None:
        """A client is told that its write is certainly not done."""
        if call.index:
            raise Violation(f"entry {call.index} is told to be certainly none")
        call.is_certain_no = True

    def asks_read_index(self) -> int:
        """A node asks for a read index, in this context."""
        context = len(self._asked) + 1
        self._asked[context] = len(self.committed)
        return context

    def told_read_index(self, context: int, index: int) -> None:
        """A node is told from which index on it may serve what was asked for in a context."""
        floor = self._asked.get(context, 0)
        if index < floor:
            raise Violation(f"a read is told {index}, and {floor} was committed when it was asked "
                            f"for")
        self.seen["read indexes told"] += floor > 0

    def reads(self, process: Process, key: bytes) -> None:
        """A client reads at a node that serves."""
        assert process.node is not None
        reader = process.node.reader
        index = reader.applied_index
        value = reader.get_versioned(key)
        if value != self.model.at(index, key):
            raise Violation(f"{key!r} reads {value} at {index}, the model has "
                            f"{self.model.at(index, key)}")
        self._show(process, index)

    def reads_all(self, process: Process, keys: list[bytes]) -> None:
        """A client reads several keys at one point in time."""
        assert process.node is not None
        reader = process.node.reader
        index = reader.applied_index
        values, versions = reader.get_many_versioned(keys)
        for key, value, version in zip(keys, values, versions, strict=True):
            found = None if value is None else (value, version)
            if found != self.model.at(index, key):
                raise Violation(f"{key!r} reads {found} among others at {index}, the model has "
                                f"{self.model.at(index, key)}")
        self._show(process, index)

    def _show(self, process: Process, index: int) -> None:
        node_id = process.node_id
        if index < self._shown.get(node_id, 0):
            raise Violation(f"node {node_id:x} shows {index} and showed {self._shown[node_id]}")
        if index < process.start_commit_index:
            raise Violation(f"node {node_id:x} shows {index}, and {process.start_commit_index} "
                            f"was committed when it started")
        self._shown[node_id] = index

    # -- nodes ---------------------------------------------------------------------------------

    def applied(self, process: Process, entry: Entry, result: CommandResult | None) -> None:
        """A node has applied an entry: state-machine safety, durability, the model."""
        index = entry.index
        self._learn_commits(process)
        if index > len(self.committed):
            raise Violation(f"node {process.node_id:x} applies {index}, which is not committed")
        if self.committed[index - 1] != (entry.term, _content(entry)):
            raise Violation(f"node {process.node_id:x} applies another entry {index}")
        if not process.image.holds(index, entry.term):
            raise Violation(f"node {process.node_id:x} applies {index}, which is not synced there")
        if result is None:
            return
        if _results(result) != self._results[index - 1]:
            raise Violation(f"entry {index} gives {_results(result)} on node "
                            f"{process.node_id:x}, the model has {self._results[index - 1]}")
        assert process.node is not None
        for operation in decode_command(entry.data):
            value = process.node.reader.get_versioned(operation.key)
            if value != self.model.at(index, operation.key):
                raise Violation(f"{operation.key!r} is {value} on node {process.node_id:x} after "
                                f"{index}, the model has {self.model.at(index, operation.key)}")

    def restored(self, process: Process, reader: MapReader, index: int) -> None:
        """A node's state is a snapshot's from here on: it is what the model held there."""
        if index > len(self.committed):
            raise Violation(f"node {process.node_id:x} restores {index}, which is not committed")
        keys, values, _ = reader.scan(values=True)
        assert values is not None
        found = {
            key: (value, version) for key, value, version in zip(
                keys, values, reader.get_many_versioned(keys)[1] if keys else [], strict=True)
        }
        if found != self.model.all_at(index):
            raise Violation(f"the snapshot of node {process.node_id:x} at {index} holds {found}, "
                            f"the model {self.model.all_at(index)}")

    def look(self, process: Process) -> None:
        """A node was touched by an event."""
        if process.node is None or process.is_dead:
            return
        raft = process.node._raft
        place = (raft.role, raft.term)
        if place != process.place:
            process.place = place
            if raft.role == ROLE_LEADER:
                self._leads(process)
        self._learn_commits(process)
        if raft.configured_index != process.configured_index:
            process.configured_index = raft.configured_index
            self._configures(process)
        durable_index = raft.log.durable_index
        if durable_index != process.durable_index and durable_index >= raft.log.first_index:
            process.durable_index = durable_index
            if not process.image.holds(durable_index, raft.log.term_of(durable_index)):
                raise Violation(f"node {process.node_id:x} takes {durable_index} for durable")
        if not process.is_serving and process.node.refuse_reads() is None:
            process.is_serving = True
            self._show(process, process.node.reader.applied_index)

    def _configures(self, process: Process) -> None:
        """A configuration is in force where it is applied, and a synced record covers it."""
        assert process.node is not None
        raft = process.node._raft
        index = raft.configured_index
        if dict(self.configurations).get(index) != raft.configuration:
            raise Violation(f"node {process.node_id:x} takes {raft.configuration} for what entry "
                            f"{index} configures")
        newest = process.image.snapshot
        if max(process.image.state.commit_index, newest.index if newest else 0) < index:
            raise Violation(f"node {process.node_id:x} configures by entry {index}, and no synced "
                            f"record says that it is committed")

    def _leads(self, process: Process) -> None:
        assert process.node is not None
        raft = process.node._raft
        if self._leaders.setdefault(raft.term, process.node_id) != process.node_id:
            raise Violation(f"term {raft.term} has two leaders")
        self.seen["leaders"] += 1
        if any(image.is_receiving for image in self.images.values()):
            self.seen["leaders changed in mid-transfer"] += 1
        last = len(self.committed)
        while last and self._committed_in[last - 1] >= raft.term:
            last -= 1
        if last > raft.log.last_index:
            raise Violation(f"leader completeness: {last} is committed, and the log of the leader "
                            f"of term {raft.term} ends at {raft.log.last_index}")
        if last >= raft.log.first_index and raft.log.term_of(last) != self.committed[last - 1][0]:
            raise Violation(f"leader completeness: the leader of term {raft.term} has another "
                            f"entry {last}")

    def _learn_commits(self, process: Process) -> None:
        assert process.node is not None
        raft = process.node._raft
        log = raft.log
        if log.commit_index <= len(self.committed):
            return
        if raft.role == ROLE_LEADER and log.term_of(log.commit_index) != raft.term:
            raise Violation(f"the leader of term {raft.term} commits entry {log.commit_index} of "
                            f"term {log.term_of(log.commit_index)} by counting")
        for index in range(len(self.committed) + 1, log.commit_index + 1):
            self._commit(index, log.term_of(index), raft.term)


def decode_text(command: bytes) -> list[tuple[object, ...]]:
    """What a command does, whoever stamped it."""
    return [
        (o.kind, o.flags, o.key, o.value, o.old_value, o.old_version)
        for o in decode_command(command)
    ]


def _content(entry: Entry) -> bytes:
    return blake2b(bytes([entry.kind]) + entry.data, digest_size=16).digest()


def _results(result: CommandResult) -> list[Result]:
    return [(r.code, r.value, r.version, r.deleted) for r in result.results]
