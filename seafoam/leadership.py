"""What a node does only while it leads: judge writes before they are proposed, and keep members.

Owns the accounting of what was proposed and is not applied, the order of what others forward, and
the pace of changes of membership. Must never propose before an entry of its own term is applied:
until then it does not know what is in the log, nor what of the quota that takes.

Invariants:
  L1  What is forwarded by one process is proposed in the order of its numbers, or not at all.
  L2  Bytes proposed count until they are applied here, whoever asked for them.
  L3  What others forward is judged as what clients send, before it is in the log: nothing can be
      refused once it is there.
"""

from __future__ import annotations

from collections import deque

from seafoam._core import limits
from seafoam._core.command_check import check_command
from seafoam._core.map import MapWriter
from seafoam._core.message import ENTRY_COMMAND, ENTRY_CONFIGURATION, Entry
from seafoam._core.raft import ROLE_LEADER, Raft
from seafoam._core.wire import command_cost, command_stamp
from seafoam._core.wire_change import encode_changes
from seafoam.calls import (
    BadCall,
    Elsewhere,
    Placed,
    Welcome,
    decode_forward,
    decode_join,
    decode_report,
    encode_elsewhere,
    encode_placed,
    encode_refused,
    encode_taken,
    encode_welcome,
)
from seafoam.errors import DataDamaged, Refusal, StartError
from seafoam.membership import Member, Membership
from seafoam.ports import Disk
from seafoam.reports import Report, Reports
from seafoam.writes import disk_full, overloaded

__all__ = ["Leadership"]

#: The longest a follower waits for its leader.
ELECTION_TICKS = limits.ELECTION_MS_MAX // limits.TICK_MS
#: How often the members are looked after, in ticks.
CARE_TICKS = 10


class Leadership:
    """The leader's part of a node. `founding` is what the log begins with."""

    def __init__(
        self,
        raft: Raft,
        membership: Membership,
        disk: Disk,
        writer: MapWriter,
        quota_bytes: int,
        founding: bytes,
    ) -> None:
        self._raft = raft
        self._membership = membership
        self._disk = disk
        self._writer = writer
        self._quota_bytes = quota_bytes
        self._founding = founding
        # (index, cost, bytes) of what was proposed and is not applied
        self._proposed: deque[tuple[int, int, int]] = deque()
        self._cost_bytes = 0
        self._bytes = 0
        # origin -> the highest number it has forwarded in this term (L1)
        self._forwarded: dict[int, int] = {}
        self._reports = Reports(raft.node_id, self.report)
        # The commit index as it stood one and two election timeouts ago.
        self._commit_before = (0, 0)

    # -- writes --------------------------------------------------------------------------------

    @property
    def takes_writes(self) -> bool:
        """Whether a write may be proposed here at this moment."""
        raft = self._raft
        return (
            raft.role == ROLE_LEADER and not raft.is_transferring
            and raft.log.applied_index >= raft.read_floor_index
        )

    def propose(self, command: bytes) -> Placed | Refusal | Elsewhere:
        """Put a stamped command into the log, or say why not."""
        if not self.takes_writes:
            return Elsewhere("")
        cost_bytes = command_cost(command)
        refusal = self._refuse(len(command), cost_bytes)
        if refusal is not None:
            return refusal
        index = self._raft.propose(ENTRY_COMMAND, command)
        self._proposed.append((index, cost_bytes, len(command)))
        self._cost_bytes += cost_bytes
        self._bytes += len(command)
        return Placed(index, self._raft.term)

    def _refuse(self, command_bytes: int, cost_bytes: int) -> Refusal | None:
        """What speaks against proposing a command of this size."""
        if self._bytes + command_bytes > limits.PROPOSALS_BYTES_MAX:
            return overloaded()
        # What was proposed counts: a turn appends all of it at once.
        if not self._disk.has_room(self._bytes + command_bytes):
            return disk_full("the leader's disk has")
        voters = self._membership.configuration.voters
        if not self._reports.majority_has_room(voters):
            return disk_full("the disks of most members have")
        held_bytes = self._writer.logical_bytes + self._cost_bytes
        quota_bytes = self._reports.quota_bytes(voters)
        if cost_bytes and held_bytes + cost_bytes > quota_bytes:
            return Refusal(
                "quota_exceeded",
                f"{held_bytes} of {quota_bytes} bytes of memory are used or spoken for, and "
                f"this write may take {cost_bytes}; delete keys or raise --max-memory",
                applied="no",
            )
        return None

    def report(self) -> Report:
        """How this node is."""
        return Report(self._quota_bytes, not self._disk.full)

    def reported(self, node_id: int, payload: bytes) -> bytes:
        """The answer to a member that reports; BadCall where it does not."""
        self._reports.take(node_id, decode_report(payload))
        return encode_taken()

    def forwarded(self, node_id: int, payload: bytes) -> bytes:
        """The answer to another node that forwards a write; BadCall where it may or does not."""
        forward = decode_forward(payload)
        if forward.term != self._raft.term or not self.takes_writes:
            return encode_elsewhere(Elsewhere(self._leader_address()))
        # Whom a leader of this term sends its log to, it knows as a member.
        if not self._membership.configuration.is_member(node_id):
            raise BadCall(
                f"node {node_id:016x} forwards a write and is no member of this cluster")
        try:
            check_command(forward.command)
            origin_id, number = command_stamp(forward.command)
        except (DataDamaged, StartError) as error:
            raise BadCall(f"a forwarded write cannot be read: {error}") from None
        if number <= self._forwarded.get(origin_id, 0):
            # It was overtaken on the way, and its order is lost.
            return encode_refused(Refusal(
                "no_leader", "the write came to the leader out of its order", applied="no"
            ))
        self._forwarded[origin_id] = number
        placed = self.propose(forward.command)
        if isinstance(placed, Placed):
            return encode_placed(placed)
        if isinstance(placed, Refusal):
            return encode_refused(placed)
        return encode_elsewhere(placed)

    def on_applied(self, entry: Entry) -> None:
        """What is applied is accounted for by the map from here on."""
        while self._proposed and self._proposed[0][0] <= entry.index:
            _, cost_bytes, command_bytes = self._proposed.popleft()
            self._cost_bytes -= cost_bytes
            self._bytes -= command_bytes

    def on_change(self) -> None:
        """Term, role or leader are other than before."""
        self._forwarded.clear()
        self._reports.forget()
        if self._raft.role != ROLE_LEADER:
            self._proposed.clear()
            self._cost_bytes = self._bytes = 0
            self._membership.forget_wishes()

    def change_map(self, writer: MapWriter) -> None:
        """What is applied is in another map from here on."""
        self._writer = writer

    # -- members -------------------------------------------------------------------------------

    def asked_to_join(self, node_id: int, payload: bytes) -> bytes:
        """The answer to a node that wants to be in; BadCall where it does not say so."""
        join = decode_join(payload)
        if join.node_id != node_id:
            raise BadCall(f"node {node_id:016x} asks to join for node {join.node_id:016x}")
        if self._raft.role != ROLE_LEADER:
            return encode_elsewhere(Elsewhere(self._leader_address()))
        refusal = self._membership.wish(join.node_id, join.address, self._look)
        if refusal is not None:
            return encode_refused(refusal)
        return encode_welcome(Welcome(self._founding))

    def tick(self) -> None:
        """Look after the members from time to time."""
        raft = self._raft
        if raft.role != ROLE_LEADER or raft.now_ticks % CARE_TICKS:
            return
        if raft.now_ticks % ELECTION_TICKS < CARE_TICKS:
            self._commit_before = (raft.log.commit_index, self._commit_before[0])
        if not self.takes_writes or raft.change_is_pending:
            return
        if self._disk.full:
            self._leave_to_room()
            return
        changes = self._membership.next_change(raft.node_id, self._look)
        if changes:
            raft.propose(ENTRY_CONFIGURATION, encode_changes(changes))

    def _look(self, node_id: int) -> Member:
        progress = self._raft.progress_of(node_id)
        if progress is None:
            return Member(False, False, False)
        silence_ticks = self._raft.now_ticks - progress.contact_tick
        return Member(
            silence_ticks <= ELECTION_TICKS,
            progress.match_index >= max(self._commit_before[1], 1),
            progress.match_index > 0,
        )

    def _leave_to_room(self) -> None:
        """Its disk is full: writes can go on where a majority has room, led by one of those."""
        fit = [voter for voter in self._successors() if self._reports.said_room(voter)]
        if 2 * len(fit) > len(self._membership.configuration.voters):
            self._raft.transfer_to(max(fit, key=self._match_index))

    def hand_over(self) -> None:
        """Give leadership to whoever is furthest and has room, for this node is going."""
        others = self._successors()
        if self._raft.role == ROLE_LEADER and others:
            self._raft.transfer_to(max(others, key=lambda voter: (
                self._reports.has_room(voter), self._match_index(voter))))

    def _successors(self) -> list[int]:
        return [
            voter for voter in self._membership.configuration.voters
            if voter != self._raft.node_id and self._look(voter).is_answering
        ]

    def _match_index(self, node_id: int) -> int:
        progress = self._raft.progress_of(node_id)
        return progress.match_index if progress is not None else 0

    def _leader_address(self) -> str:
        return self._membership.addresses.get(self._raft.leader_id, "")
