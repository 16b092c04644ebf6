"""Who is in the cluster, as the log says, and what the leader changes of it by itself.

Owns the configuration in force, the members' addresses, and the leader's decisions: whom to take
in, whom to promote, whose seat a newcomer takes. Knows no machine and no network: it is told what
was applied and how far each member is, and says which change to propose next, if any. Must never
change by anything but an applied entry.

What the leader does by itself, one change at a time:
  M1  A node that asks to join becomes a learner.
  M2  A learner that is caught up becomes a voter while the voters are fewer than the target. A
      lone voter takes no second one before a third is caught up too: two voters are worse than
      one, for either's failure stops both.
  M3  A learner at the peer address of a member that no longer answers takes its seat: the old id
      is removed, and then M2 applies. A wiped disk never makes the cluster larger.
  M4  A change is made only where a majority of the old and of the new voters has answered
      lately and holds the log to where it was committed a while ago.
  M5  Who was removed does not come back by asking.
  M6  Few wait at a time: of those who ask, and of the learners that have never answered this
      leader, there is one at an address, the latest, and NEWCOMERS_MAX in all. Who asks need not
      be a node that works, and each learner is sent to for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from seafoam._core.confchange import (
    CHANGE_LEARNER,
    CHANGE_REMOVE,
    CHANGE_UPDATE,
    CHANGE_VOTER,
    Configuration,
)
from seafoam._core.wire import Founding
from seafoam._core.wire_change import MemberChange, decode_changes
from seafoam.errors import Refusal
from seafoam.membership_wire import (
    ROLE_LEARNER,
    ROLE_VOTER,
    MembershipRecord,
    decode_membership,
    encode_membership,
)

__all__ = ["NEWCOMERS_MAX", "TARGET_VOTERS_MIN", "Member", "Membership"]

#: Voters that a cluster grows to by itself: the fewest that survive the loss of one.
TARGET_VOTERS_MIN = 3
#: Nodes that may be on their way in at once: more than anybody starts together.
NEWCOMERS_MAX = 16


class Member(NamedTuple):
    """What the leader knows of a member besides its seat."""

    is_answering: bool   # has answered within the last election timeout
    is_caught_up: bool   # holds what was committed one election timeout ago
    has_answered: bool = True  # has told this leader what it holds


class Membership:
    """The members, from the founding set on."""

    def __init__(self, founding: Founding) -> None:
        self.configuration = Configuration(node_id for node_id, _ in founding.members)
        self.addresses: dict[int, str] = dict(founding.members)
        self.target_voters = max(TARGET_VOTERS_MIN, len(founding.members))
        self.removed_ids: set[int] = set()
        #: The entry whose configuration is in force.
        self.configured_index = 1
        # Wishes that reached this leader, oldest first; asked again until they are granted.
        self._wishes: dict[int, str] = {}

    def restore(self, data: bytes) -> None:
        """Be what a snapshot says; DataDamaged or StartError where it says nothing."""
        record = decode_membership(data)
        self.configuration = Configuration(
            voters=[node_id for node_id, role, _ in record.members if role == ROLE_VOTER],
            learners=[node_id for node_id, role, _ in record.members if role == ROLE_LEARNER],
        )
        self.addresses = {node_id: address for node_id, _, address in record.members}
        self.target_voters = record.target_voters
        self.removed_ids = set(record.removed_ids)
        self.configured_index = record.configured_index
        self._wishes.clear()

    def encode(self) -> bytes:
        """What a snapshot keeps of it."""
        roles = [
            (node_id, ROLE_VOTER if self.configuration.is_voter(node_id) else ROLE_LEARNER)
            for node_id in self.configuration.member_ids()
        ]
        return encode_membership(MembershipRecord(
            self.configured_index, self.target_voters,
            [(node_id, role, self.addresses[node_id]) for node_id, role in roles],
            [*self.removed_ids],
        ))

    def apply(self, index: int, data: bytes) -> Configuration:
        """Carry out the change of membership of an applied entry; what it leads to."""
        self.configured_index = index
        changes = decode_changes(data)
        self.configuration = self.configuration.apply_simple(
            [(change.kind, change.node_id) for change in changes]
        )
        for change in changes:
            if change.kind == CHANGE_REMOVE:
                self.addresses.pop(change.node_id, None)
                self.removed_ids.add(change.node_id)
            elif self.configuration.is_member(change.node_id):
                self.addresses[change.node_id] = change.address
                self.removed_ids.discard(change.node_id)
            self._wishes.pop(change.node_id, None)
        return self.configuration

    # -- what the leader is asked --------------------------------------------------------------

    def wish(
        self, node_id: int, address: str, look: Callable[[int], Member]
    ) -> Refusal | None:
        """A node wants to be in, at this address; why it may not, or None."""
        if node_id in self.removed_ids:
            return Refusal(
                "forbidden",
                f"node {node_id:016x} was removed from this cluster; start it on an empty "
                f"directory to join as a new node",
            )
        if not self.configuration.is_member(node_id):
            self._wishes = {
                asker_id: asked for asker_id, asked in self._wishes.items()
                if asked != address or self.configuration.is_member(asker_id)
            }
            if len(self._newcomers(look) - {node_id}) >= NEWCOMERS_MAX:
                return Refusal(
                    "overloaded",
                    f"{NEWCOMERS_MAX} nodes have asked to join this cluster and have not been "
                    f"heard of since; it takes no more before one of them answers",
                )
        if self.addresses.get(node_id) != address:
            self._wishes[node_id] = address
        return None

    def _newcomers(self, look: Callable[[int], Member]) -> set[int]:
        asking = {asker for asker in self._wishes if not self.configuration.is_member(asker)}
        return asking | {
            learner for learner in self.configuration.learners if not look(learner).has_answered
        }

    def forget_wishes(self) -> None:
        """Another leads now: who still wants to be in asks there."""
        self._wishes.clear()

    # -- what the leader does ------------------------------------------------------------------

    def next_change(
        self, own_id: int, look: Callable[[int], Member]
    ) -> list[MemberChange] | None:
        """The change to propose now, where none is pending; `look` tells of each other member."""

        def see(node_id: int) -> Member:
            return Member(True, True) if node_id == own_id else look(node_id)

        change = self._change_wanted(see)
        if change is None or not self._is_safe(change, see):
            return None
        return [change]

    def _change_wanted(self, see: Callable[[int], Member]) -> MemberChange | None:
        for node_id, address in self._wishes.items():
            if self.configuration.is_member(node_id):
                return MemberChange(CHANGE_UPDATE, node_id, address)
            for learner_id in self.configuration.learners:
                if self.addresses[learner_id] == address and not see(learner_id).has_answered:
                    return MemberChange(CHANGE_REMOVE, learner_id, "")
            return MemberChange(CHANGE_LEARNER, node_id, address)
        ready_ids = [
            node_id for node_id in self.configuration.learners
            if see(node_id).is_answering and see(node_id).is_caught_up
        ]
        for learner_id in ready_ids:
            for member_id in self.configuration.member_ids():
                if (member_id != learner_id and not see(member_id).is_answering
                        and self.addresses[member_id] == self.addresses[learner_id]):
                    return MemberChange(CHANGE_REMOVE, member_id, "")
        voters_count = len(self.configuration.voters)
        missing_count = self.target_voters - voters_count
        if ready_ids and missing_count > 0 and (voters_count > 1 or len(ready_ids) > 1):
            return MemberChange(CHANGE_VOTER, ready_ids[0], self.addresses[ready_ids[0]])
        return None

    def _is_safe(self, change: MemberChange, see: Callable[[int], Member]) -> bool:
        """M4. What a change leads to must be able to commit, and what it leaves to commit it."""
        after = self.configuration.apply_simple([(change.kind, change.node_id)])
        return all(
            self._majority_holds(voters, see) for voters in (self.configuration.voters,
                                                             after.voters)
        )

    @staticmethod
    def _majority_holds(voters: Iterable[int], see: Callable[[int], Member]) -> bool:
        holding = [see(voter) == Member(True, True) for voter in voters]
        return 2 * sum(holding) > len(holding)
