"""What one node knows of the others before there is a cluster, and what follows from it.

Owns who answered where, who called, what each last said, and the closure of all of that: the
`Picture`. Must never bind this node to anything; that is `founding.py`'s.

A node is present where an address that is asked answers with its id. Names are collapsed by that
id: localhost, 127.0.0.1 and a node's own address are one node once they have answered. What others
say of addresses is used by id only, since "127.0.0.1:5010" on another machine is another node.

A node may be believed to be gone where it stopped answering, but what it said is kept: nodes bind
themselves durably, so its words stay true until it takes them back. What is older than what is
known (`_is_stale`) is dropped, in whatever order it comes.

The picture of a node has two parts. Required is what is reached by following PEER lists, from its
own on; all of it must be present, at the address that it gives itself, since the members of a
cluster will use that one. Who only called is optional: taken in where it and its own list
are in order too, left out otherwise, for it can join later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from seafoam.errors import ensure
from seafoam.founding_wire import NEIGHBOURS_MAX, Named, View

__all__ = ["ADDRESSES_MAX", "Neighbours", "Picture"]

#: Nodes and addresses that are kept in mind: lists of lists add up, and what others say must not
#: fill this node's memory.
ADDRESSES_MAX = 1024


@dataclass(frozen=True)
class Picture:
    """Who would found a cluster together, seen from one node.

    `members` are pairs of node id and address by id, `required_ids` those of them that are
    reached by following the lists, `named_ids` those that somebody names, `missing` what stands in
    the way.
    """

    members: tuple[tuple[int, str], ...]
    required_ids: frozenset[int]
    named_ids: frozenset[int]
    missing: tuple[str, ...]

    @property
    def founder_id(self) -> int:
        """The smallest id that is named; where nobody is, the node is alone and it is its own."""
        return min(self.named_ids or self.required_ids)


class Neighbours:
    """What one node knows of the others; `changed` is set by whatever may change the picture."""

    def __init__(self, node_id: int, start_id: int, address: str, peers: tuple[str, ...]) -> None:
        self.node_id = node_id
        self.start_id = start_id
        self.peers = tuple(dict.fromkeys(peers))
        self.changed = True
        #: What each node said last, by id, whether it still answers or not.
        self.views: dict[int, View] = {}
        #: Two addresses at which one node id runs twice, by that id.
        self.copies: dict[int, tuple[str, str]] = {}
        #: Addresses whose answer proved nothing: to be asked again at once.
        self.doubtful: set[str] = set()
        self._default_address = address
        self._answers: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self._callers: dict[int, str] = {}
        # Asks are counted, so that an answer can be told to be younger than what is known: the
        # count when an address was asked, and each node's present start with the count when it was
        # last seen, and where.
        self._count = 0
        self._asked: dict[str, int] = {}
        self._starts: dict[int, tuple[int, int, str]] = {}
        self._gone: set[tuple[int, int]] = set()

    # -- what happens ----------------------------------------------------------------------------

    def ask(self, address: str) -> bool:
        """An address is about to be asked; False where it still owes an answer."""
        if address in self._asked:
            return False
        self._count += 1
        self._asked[address] = self._count
        return True

    def answered(self, address: str, view: View) -> None:
        """A node answered at an address that was asked."""
        number = self._asked.pop(address, 0)
        ensure(number, f"{address} answered without being asked")
        self._failures.pop(address, None)
        if view.node_id == self.node_id:
            is_self = view.start_id == self.start_id
            self._set_answer(address, self.node_id if is_self else 0)
            if not is_self:
                self._note_copy(self.node_id, address, self.address)
        elif self._is_current(address, view, number):
            self._set_answer(address, view.node_id)
            self._keep(view)

    def unreachable(self, address: str, reason: str) -> None:
        """An address that was asked does not answer."""
        ensure(self._asked.pop(address, 0), f"{address} failed without being asked")
        self.changed |= self._failures.get(address) != reason
        self._failures[address] = reason
        self._set_answer(address, 0)
        for node_id in [at for at, where in self._callers.items() if where == address]:
            del self._callers[node_id]  # it calls again, if it is still there

    def called(self, view: View) -> None:
        """A node asked this one, and said who it is."""
        # Also where it has this node's id: asked back, it turns out to be itself, or a copy.
        if view.node_id in self._callers or len(self._callers) < NEIGHBOURS_MAX:
            self.changed |= self._callers.get(view.node_id) != view.address
            self._callers[view.node_id] = view.address
        if view.node_id != self.node_id:
            self._keep(view)

    def _set_answer(self, address: str, node_id: int) -> None:
        for copied_id in [at for at, places in self.copies.items()
                          if address in places and at != node_id]:
            # One of the two is not there any more: what was learnt of their starts is void.
            del self.copies[copied_id]
            self._starts.pop(copied_id, None)
            self._gone = {start for start in self._gone if start[0] != copied_id}
            self.changed = True
        if self._answers.get(address, 0) != node_id:
            self.changed = True
            if node_id:
                self._answers[address] = node_id
            else:
                del self._answers[address]

    def _is_current(self, address: str, view: View, number: int) -> bool:
        """Whether an answer is of a node's present start; notes the copies that it uncovers.

        A start that is followed by another is gone for good. Where one that was gone answers an
        ask that was made after it went, two processes run with one id: a data directory was
        copied. An answer that may be older than what is known of the start proves nothing.
        """
        node_id, start_id = view.node_id, view.start_id
        now_id, seen_at, place = self._starts.get(node_id, (start_id, 0, address))
        if start_id != now_id:
            if number <= seen_at:
                self.doubtful.add(address)
                return False
            if (node_id, start_id) in self._gone and place != address:
                self._note_copy(node_id, place, address)
            self._gone.add((node_id, now_id))
        self._starts[node_id] = (start_id, self._count, address)
        return True

    def _note_copy(self, node_id: int, one: str, other: str) -> None:
        places = (min(one, other), max(one, other))
        self.changed |= self.copies.get(node_id) != places
        self.copies[node_id] = places

    def _keep(self, view: View) -> None:
        known = self.views.get(view.node_id)
        if known == view or (known is None and len(self.views) >= ADDRESSES_MAX):
            return
        if known is None or not _is_stale(view, known):
            self.views[view.node_id] = view
            self.changed = True

    # -- what is known ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where others reach this node: the PEER that is itself, else what it was told."""
        own = (at for at in self.peers if self._answers.get(at) == self.node_id)
        return next(own, self._default_address)

    def named(self) -> tuple[Named, ...]:
        """This node's PEER list, with who answers there."""
        return tuple(self._named(address) for address in self.peers)

    def _named(self, address: str) -> Named:
        node_id = self._answers.get(address, 0)
        if node_id == self.node_id:
            return Named(address, node_id, self.address)
        view = self.views.get(node_id)
        return Named(address) if view is None else Named(address, node_id, view.address)

    def callers(self) -> tuple[tuple[int, str], ...]:
        """Who called, and answers where it said."""
        return tuple(sorted(
            (node_id, address) for node_id, address in self._callers.items()
            if node_id != self.node_id and self._answers.get(address) == node_id
        ))

    def is_self(self, address: str) -> bool:
        """Whether this very process answers there: it need not be asked again."""
        return self._answers.get(address) == self.node_id

    def untried(self) -> list[str]:
        """The PEERs that have neither answered nor failed yet."""
        return [at for at in self.peers if not (at in self._answers or at in self._failures)]

    def present(self) -> dict[int, View]:
        """Who answers now, by id."""
        ids = sorted(set(self._answers.values()) & self.views.keys())
        return {node_id: self.views[node_id] for node_id in ids}

    def wanted(self) -> list[str]:
        """Whom to ask: the PEERs, who called, and whom they name and tell of."""
        found = dict.fromkeys(self.peers)
        found.update(dict.fromkeys(self._callers.values()))
        for view in self.present().values():
            found[view.address] = None
            found.update((at.node_address, None) for at in view.named if at.node_id)
            found.update((address, None) for _, address in view.callers)
        return list(found)[:ADDRESSES_MAX]

    def forget(self, wanted: Iterable[str]) -> None:
        """Drop what is known of addresses that are no longer asked."""
        kept = set(wanted)
        for address in [at for at in self._answers if at not in kept]:
            self._set_answer(address, 0)
        for address in [at for at in self._failures if at not in kept]:
            del self._failures[address]

    def clusters(self) -> tuple[dict[int, str], dict[int, str]]:
        """Clusters by id, each with an address to reach it: among the PEERs, and at all."""
        named: dict[int, str] = {}
        known: dict[int, str] = {}
        for address in (*self.peers, *sorted(self._answers.keys() - set(self.peers))):
            view = self.views.get(self._answers.get(address, 0))
            if view is not None and view.cluster_id:
                known.setdefault(view.cluster_id, address)
                if address in self.peers:
                    named.setdefault(view.cluster_id, address)
        return named, known

    # -- what follows ----------------------------------------------------------------------------

    def picture(self) -> Picture:
        """Who would found a cluster together, as things are."""
        entries = {node_id: view.named for node_id, view in self.present().items()}
        entries[self.node_id] = self.named()
        missing: list[str] = []
        required_ids = self._follow(self.node_id, entries, set(), missing)
        included = set(required_ids)
        while self.peers:  # a node that names nobody is alone, whoever calls it
            more = self._optional(entries, included)
            if not more:
                break
            included |= more
        named_ids = frozenset(
            at.node_id for node_id in included for at in entries[node_id] if at.node_id in included
        )
        return Picture(
            tuple((node_id, self._address_of(node_id)) for node_id in sorted(included)),
            frozenset(required_ids), named_ids, tuple(dict.fromkeys(missing)),
        )

    def _optional(self, entries: dict[int, tuple[Named, ...]], included: set[int]) -> set[int]:
        callers = {node_id for node_id, _ in self.callers()}
        for node_id in included & self.views.keys():
            callers |= {caller_id for caller_id, _ in self.views[node_id].callers}
        for caller_id in sorted(callers - included):
            missing: list[str] = []
            found = self._follow(caller_id, entries, included, missing)
            if not missing:
                return found
        return set()

    def _follow(self, first_id: int, entries: dict[int, tuple[Named, ...]], done: set[int],
                missing: list[str]) -> set[int]:
        """Who is reached by following the lists from one node on, beside those in `done`."""
        found: set[int] = set()
        ahead = [first_id]
        while ahead:
            node_id = ahead.pop()
            if node_id in found or node_id in done:
                continue
            if node_id not in entries:
                missing.append(f"node {node_id:016x}")
                continue
            found.add(node_id)
            missing.extend(self._faults(node_id))
            for at in entries[node_id]:
                if not at.node_id:
                    missing.append(self._unanswered(node_id, at.address))
                elif at.node_id not in entries:
                    missing.append(self._unanswered(node_id, at.node_address))
                else:
                    ahead.append(at.node_id)
        return found

    def _faults(self, node_id: int) -> Iterator[str]:
        """What stands in the way of taking a node in that is present."""
        if node_id in self.copies:
            yield copy_sentence(node_id, self.copies[node_id])
        if node_id == self.node_id:
            return
        own = self.views[node_id].address
        if self._answers.get(own) != node_id:
            place = next(at for at, there in self._answers.items() if there == node_id)
            why = "another node answers" if own in self._answers else self._reason(own)
            yield f"{own}, which the node at {place} calls its own address ({why})"

    def _unanswered(self, node_id: int, address: str) -> str:
        if node_id == self.node_id:
            return f"{address} ({self._reason(address)})"
        return f"{address}, which {self.views[node_id].address} names"

    def _reason(self, address: str) -> str:
        return self._failures.get(address, "no answer yet")

    def _address_of(self, node_id: int) -> str:
        return self.address if node_id == self.node_id else self.views[node_id].address


def copy_sentence(node_id: int, places: tuple[str, str]) -> str:
    """What is wrong where one node id runs twice."""
    return (f"{places[0]} and {places[1]} run with the same node id {node_id:016x}: the data "
            f"directory of one is a copy; give that one an empty directory")


def _is_stale(view: View, known: View) -> bool:
    """Whether a view was made before another of the same node.

    Proposals are counted durably, and nobody leaves a cluster; within a start, views are counted.
    """
    if view.start_id == known.start_id:
        return view.sequence < known.sequence
    return (view.proposal_number < known.proposal_number
            or bool(known.cluster_id and not view.cluster_id))
