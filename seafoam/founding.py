"""Founding and joining: how nodes that know some addresses become one cluster, and never two.

A pure state machine for one node, from its start until it is in a cluster and after. It is told
what happens (who answered, who called, what is on disk, what time it is) and returns what to do
(`Action`). Owns the node's durable `Record` and the decision which cluster it is in. Must never
know a clock, a socket or a file, and never let another node see what is not on disk yet.

How it goes:

    nothing --(all are there for 2 s, I am founder)--> my proposal --(all promised)--> FOUNDED
       |  ^                                                 |
       |  +---------------- aborted ------------------------+
       |  ^
       |  +-- its founder aborted it --+
       |                               |
       +--(a founder proposes me)--> promised --(somebody is in the proposed cluster)--> FOUNDED
       +--(somebody is in a cluster)--> joining --(its log has arrived)--> in that cluster

Nodes ask each other again and again; an ask and its answer are the same thing, a `View`: who I am,
whom I name, who is there, what I hold. There are no other messages, so losing, repeating and
reordering them costs time and nothing else. What a view says of `held`, of the number of the
latest own proposal and of the cluster is durable when it is said, and each change counts up.

Invariants:

1.  A node holds at most one proposal, durably: its own, or one that it has promised itself to.
2.  Its own it may drop (abort) until it has written that it is founded, and counts its proposals
    durably, so that a later number, or the same with nothing held, proves that one was aborted.
3.  A promise is dropped only on that proof, from the founder itself, or kept for good when
    anybody is in the proposed cluster, which proves that it was founded. It is not dropped
    because the founder is gone, however long: it may have founded, and come back.
4.  Founded is what its founder has written to be, having seen each member hold it. That write is
    the decision; the members follow it, and all begin their logs with the same bytes.
5.  Whoever proposes or promises has found out who answers at each address of its own PEER
    list, and that all of them are in the proposed set.

Why there cannot be two: say that everybody's lists lead to a common node Z, and an address leads
to one data directory as long as it is there. By 5 a founded set is closed under the
members' lists, so whatever a list leads to is in it, and Z is in every founded set. By 1 and 3 Z
cannot have been in two: the second founder would have needed Z's promise while the first held it,
which the first could only give back by aborting, and then it did not found. A node that
names nobody founds alone, which is the same argument with a set of one: it can only be Z itself.
Neither who is founder nor how long the view stood still matters for this; both only make it
likely that the first attempt takes everybody in.

Where lists do not lead to a common node, two clusters may be founded, each closed under its own.
Where a disk is lost during a founding, a promise is lost with it, and 3 has no ground.

Why it ends: two proposals that stand in each other's way share a member. The founder with
the larger id sees that member, or the other founder, hold the smaller one's, and aborts; the one
with the smallest is waited for by all others, and waits for nobody who would not abort. If it
meets somebody in a cluster it aborts too, and everybody joins that cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from seafoam._core.wire import encode_founding
from seafoam.errors import StartError, ensure
from seafoam.founding_view import ADDRESSES_MAX, Neighbours, Picture, copy_sentence
from seafoam.founding_wire import NEIGHBOURS_MAX, Held, Record, View

__all__ = [
    "ASK_MS",
    "FOUNDED_ASK_MS",
    "STABLE_MS",
    "Action",
    "Adopt",
    "Ask",
    "Facts",
    "Found",
    "Founding",
    "Join",
    "Persist",
    "Refuse",
    "WaitFor",
]

#: How long everybody must have been there, unchanged: longer than programs started by one script
#: take to come up one after the other.
STABLE_MS = 2000
#: How often each address is asked: a founding takes a few rounds, and a person waits for it.
ASK_MS = 250
#: The same in a cluster, where only latecomers and strangers can be found by it.
FOUNDED_ASK_MS = 1000
#: How many of those that are waited for a sentence names.
NAMES_IN_A_SENTENCE = 3


@dataclass(frozen=True)
class Facts:
    """What a node knows when it starts.

    `address` is where others reach it unless a PEER turns out to be itself; `peers` the list as
    given; `cluster_id` what its log begins with, 0 for an empty log; `directory` for sentences.
    """

    node_id: int
    start_id: int
    address: str
    directory: str
    peers: tuple[str, ...] = ()
    cluster_id: int = 0


@dataclass(frozen=True)
class Ask:
    """Send the view to this address.

    Answered by exactly one `on_contact` or `on_unreachable`, soon: after a few seconds without an
    answer that is a failure too. `view()` is what to send, at the moment of sending.
    """

    address: str


@dataclass(frozen=True)
class Persist:
    """Make this record durable, then say `on_persisted`; there is never another one under way.

    Whatever depends on it, `view()` included, leaves the machine only after that call.
    """

    record: Record


@dataclass(frozen=True)
class Found:
    """This node has founded a cluster, durably: begin the log with this entry and start.

    Said again at each start while the log is empty.
    """

    founding: bytes


@dataclass(frozen=True)
class Adopt:
    """The founder has founded the cluster that this node promised itself to: as `Found`."""

    founding: bytes


@dataclass(frozen=True)
class Join:
    """Ask, through this address, to be taken into this cluster; later ones replace earlier ones.

    When the log has arrived and is durable, say `on_joined`.
    """

    address: str
    cluster_id: int


@dataclass(frozen=True)
class Refuse:
    """Something that an operator must mend; said once until it changes. The machine goes on."""

    sentence: str


@dataclass(frozen=True)
class WaitFor:
    """What is waited for, and for whom; said once until it changes."""

    sentence: str


Action = Ask | Persist | Found | Adopt | Join | Refuse | WaitFor


class Founding:
    """One node's part in founding or finding its cluster. Each event returns what is to be done.

    `draw` gives a new cluster id (not 0) and hash seed for each proposal. Time is that of the
    latest `tick`, which wants to be called at least ten times a second. `stable_ms` is how long
    the view must have stood still; no promise of this module rests on it.
    """

    def __init__(self, facts: Facts, record: Record,
                 draw: Callable[[], tuple[int, bytes]], *, stable_ms: int = STABLE_MS) -> None:
        if len(facts.peers) > NEIGHBOURS_MAX:
            raise StartError(
                f"{len(facts.peers)} PEERs are named; there may be {NEIGHBOURS_MAX}")
        self._facts = facts
        self._id = facts.node_id
        self._record = record
        self._draw = draw
        self._known = Neighbours(facts.node_id, facts.start_id, facts.address, facts.peers)
        self._pending: Record | None = None
        self._actions: list[Action] = []
        # Something happened since the last look that the neighbours do not know of.
        self._must_look = True
        self._wanted: list[str] = []
        self._stable_ms = stable_ms
        self._now_ms = 0
        self._asked_ms: dict[str, int] = {}
        self._ask_again: set[str] = set()
        self._picture = self._known.picture()
        self._picture_ms = 0
        self.joining_id = 0
        # The own proposal that was made in this run, by the PEER list of this run.
        self._testified_number = 0
        self._join: Join | None = None
        self._foreign: dict[str, int] = {}
        self._said: dict[type, str] = {}
        self._view: View | None = None
        self._is_view_old = True
        self.cluster_id = facts.cluster_id
        held = record.held
        if held is not None and facts.cluster_id not in (0, held.contents.cluster_id):
            raise StartError(
                f"{facts.directory} is put together from two: its log is of cluster "
                f"{facts.cluster_id:016x}, its founding of {held.contents.cluster_id:016x}"
            )

    # -- what happens ----------------------------------------------------------------------------

    def start(self, now_ms: int) -> list[Action]:
        """The first call; milliseconds since any fixed moment."""
        self._now_ms = self._picture_ms = now_ms
        record = self._record
        if record.is_founded and not self.cluster_id:
            ensure(record.held is not None, "what was founded is held")
            self._enter()
        return self._step()

    def tick(self, now_ms: int) -> list[Action]:
        """Time has passed."""
        stable_ms = self._picture_ms + self._stable_ms
        self._must_look |= self._now_ms < stable_ms <= now_ms
        self._now_ms = max(self._now_ms, now_ms)
        self._ask_due()
        return self._step()

    def on_contact(self, address: str, view: View) -> list[Action]:
        """An address that was asked has answered with its view."""
        self._known.answered(address, view)
        return self._step()

    def on_unreachable(self, address: str, reason: str) -> list[Action]:
        """An address that was asked did not answer, does not resolve, or is no Seafoam node."""
        self._known.unreachable(address, reason)
        return self._step()

    def on_called(self, view: View) -> list[Action]:
        """Another node has asked this one, and sent its view. Answer with `view()` afterwards."""
        self._known.called(view)
        if self.cluster_id and view.cluster_id not in (0, self.cluster_id):
            self._refuse_foreign(view.address, view.cluster_id)
        return self._step()

    def on_persisted(self) -> list[Action]:
        """The record of the latest `Persist` is durable."""
        record, self._pending = self._pending, None
        ensure(record is not None, "something is reported durable that was not written")
        if record is not None:
            self._record = record
        self._must_look = True
        self._ask_again.update(self._whom_to_ask())  # the others wait for the news
        if self._record.is_founded:
            self._enter()
        return self._step()

    def on_joined(self, cluster_id: int) -> list[Action]:
        """The log of the cluster that is being joined has begun to arrive, and is durable.

        Only that cluster's may be taken, `joining_id`: another's is not this node's.
        """
        ensure(self.joining_id == cluster_id, "a cluster has taken in a node that did not ask")
        ensure(self._pending is None and self._record.held is None, "a joining node holds nothing")
        self.cluster_id = cluster_id
        self._must_look = True
        self._say(WaitFor, "")
        return self._step()

    # -- what is told ----------------------------------------------------------------------------

    def view(self) -> View:
        """What to tell others now: nothing in it binds this node that is not durable."""
        known, record, before = self._known, self._record, self._view
        if before is not None and not self._is_view_old:
            return before
        view = View(
            self._id, self._facts.start_id, before.sequence if before else 1, self.cluster_id,
            known.address, record.proposal_number, None if self.cluster_id else record.held,
            known.named(), known.callers(),
        )
        if before is not None and view != before:
            view = replace(view, sequence=before.sequence + 1)
        self._view, self._is_view_old = view, False
        return view

    @property
    def waiting_for(self) -> str:
        """The sentence of the latest `WaitFor`, empty once nothing is waited for."""
        return self._said.get(WaitFor, "")

    def _say(self, kind: type[WaitFor] | type[Refuse], sentence: str) -> None:
        if self._said.get(kind, "") != sentence:
            self._said[kind] = sentence
            if sentence:
                self._actions.append(kind(sentence))

    # -- one step --------------------------------------------------------------------------------

    def _step(self) -> list[Action]:
        """Everything that follows from what is known now."""
        if self._known.changed or self._must_look:
            self._look()
        if self._known.doubtful:
            self._ask_again |= self._known.doubtful
            self._known.doubtful.clear()
        if self._ask_again:
            self._ask_news()
        actions, self._actions = self._actions, []
        return actions

    def _look(self) -> None:
        if self._known.changed and not self.cluster_id:
            picture = self._known.picture()
            if picture != self._picture:
                self._picture, self._picture_ms = picture, self._now_ms
        self._known.changed = self._must_look = False
        self._is_view_old = True
        if self.cluster_id:
            self._look_around()
        elif self._pending is None:
            held = self._record.held
            if held is None:
                self._seek()
            elif held.founder_id == self._id:
                self._lead(held)
            else:
                self._follow(held)
        self._wanted = self._whom_to_ask()
        self._known.forget((*self._wanted, *self._ask_again))
        self._ask_due()

    def _persist(self, record: Record) -> None:
        self._pending = record
        self._actions.append(Persist(record))

    def _enter(self) -> None:
        """The cluster is founded, durably, and this node is in it."""
        held = self._record.held
        if held is not None:
            self.cluster_id = held.contents.cluster_id
            is_own = held.founder_id == self._id
            self._actions.append((Found if is_own else Adopt)(held.founding))
            self._say(WaitFor, "")

    # -- asking ----------------------------------------------------------------------------------

    def _whom_to_ask(self) -> list[str]:
        if self.cluster_id:
            return list(self._known.peers)
        held = self._record.held
        # Any member can tell how a founding ended, and the founder is one.
        members = () if held is None else held.contents.members
        return list(dict.fromkeys((
            *self._known.wanted(),
            *(address for node_id, address in members if node_id != self._id),
        )))

    def _ask_due(self) -> None:
        """Ask whom it is time to ask."""
        interval_ms = FOUNDED_ASK_MS if self.cluster_id else ASK_MS
        for address in self._wanted:
            asked_ms = self._asked_ms.get(address)
            if asked_ms is None or self._now_ms - asked_ms >= interval_ms:
                self._ask(address)

    def _ask_news(self) -> None:
        """Ask at once, or as soon as an ask before this has ended."""
        self._ask_again = {at for at in sorted(self._ask_again) if not self._ask(at)}

    def _ask(self, address: str) -> bool:
        if self._known.is_self(address):
            return True
        if not self._known.ask(address):
            return False
        if len(self._asked_ms) >= 2 * ADDRESSES_MAX:
            self._asked_ms.clear()
        self._asked_ms[address] = self._now_ms
        self._actions.append(Ask(address))
        return True

    # -- holding nothing -------------------------------------------------------------------------

    def _seek(self) -> None:
        """Join a cluster, promise oneself to a founder, or be one; else say what is missing."""
        found = self._clusters()
        self._say(Refuse, self._copy_of_self() or _two_clusters(found))
        if found:
            self._seek_cluster(found)
            return
        held = self._proposal_to_promise()
        if held is not None:
            self._persist(Record(self._record.proposal_number, held))
        elif self._is_time_to_propose():
            cluster_id, hash_seed = self._draw()
            number = self._record.proposal_number + 1
            founding = encode_founding(cluster_id, hash_seed, self._picture.members)
            self._testified_number = number
            self._persist(Record(number, Held(self._id, number, founding)))
        else:
            self._say(WaitFor, self._what_is_missing())

    def _clusters(self) -> dict[int, str]:
        """Clusters to join, with an address of each; those of the PEERs count before others."""
        named, known = self._known.clusters()
        found = dict(named or known)
        if self.joining_id:
            found.setdefault(self.joining_id, known.get(self.joining_id, ""))
        return found

    def _seek_cluster(self, found: dict[int, str]) -> None:
        """Join the cluster that was found, if it is one.

        Nobody joins before each PEER has been tried, lest it overlook a second cluster, and once
        it has begun, it neither promises nor founds: it may have been taken in already.
        """
        if len(found) > 1:
            self._said[WaitFor] = _two_clusters(found)  # in the log as what it refuses
            return
        (cluster_id, address), = found.items()
        untried = self._known.untried()
        if untried and not self.joining_id:
            # Over in a moment: for who asks, but not for the log.
            self._said[WaitFor] = (
                f"waiting for {_some(untried)} to answer or fail, before joining cluster "
                f"{cluster_id:016x} through {address}")
            return
        self.joining_id = cluster_id
        if not address:
            self._say(WaitFor, (
                f"waiting for a node of cluster {self.joining_id:016x}, which this node is "
                f"joining, to answer"))
            return
        self._say(WaitFor, (
            f"waiting to be taken into cluster {self.joining_id:016x} through {address}"))
        join = Join(address, self.joining_id)
        if join != self._join:
            self._join = join
            self._actions.append(join)

    def _proposal_to_promise(self) -> Held | None:
        """The open proposal of the smallest founder that this node can hold."""
        for node_id, view in self._known.present().items():
            held = view.held
            if held is not None and held.founder_id == node_id and self._is_within(held):
                return held
        return None

    def _is_within(self, held: Held) -> bool:
        """Whether a set holds this node, at its address, and everybody whom it names."""
        members = dict(held.contents.members)
        return members.get(self._id) == self._known.address and all(
            at.node_id in members for at in self._known.named())

    def _is_time_to_propose(self) -> bool:
        picture = self._picture
        waited_ms = self._now_ms - self._picture_ms
        return (
            not picture.missing and picture.founder_id == self._id
            and len(picture.members) <= NEIGHBOURS_MAX
            and (waited_ms >= self._stable_ms or not self._known.peers)
            and not self._bound_elsewhere()
        )

    def _bound_elsewhere(self) -> dict[int, int]:
        """Who holds another founder's proposal that must end first, and whose that is.

        A smaller founder's counts wherever it is met: one's own would have to make way for it.
        """
        member_ids = {node_id for node_id, _ in self._picture.members}
        return {
            node_id: view.held.founder_id for node_id, view in self._known.present().items()
            if view.held is not None and view.held.founder_id != self._id
            and (node_id in member_ids or view.held.founder_id < self._id)
        }

    def _what_is_missing(self) -> str:
        picture = self._picture
        if picture.missing:
            return "waiting for " + _some(picture.missing)
        if len(picture.members) > NEIGHBOURS_MAX:
            return (f"{len(picture.members)} nodes would found a cluster, and there may be "
                    f"{NEIGHBOURS_MAX}: start the others later")
        for node_id, founder_id in self._bound_elsewhere().items():
            return (f"waiting for node {founder_id:016x}, to which {_name(picture, node_id)} "
                    f"has promised itself")
        if picture.founder_id != self._id:
            return f"waiting for {_name(picture, picture.founder_id)} to found the cluster"
        return ""

    # -- holding one's own proposal --------------------------------------------------------------

    def _lead(self, held: Held) -> None:
        """Decide, where everybody has promised; abort where that cannot be; else wait."""
        members = dict(held.contents.members)
        self._say(Refuse, self._copy_of_self())
        waiting = [node_id for node_id in members if not self._has_promised(node_id, held)]
        is_closed = held.number == self._testified_number or self._is_within(held)
        if not waiting and is_closed:
            self._persist(Record(self._record.proposal_number, held, is_founded=True))
        elif self._must_abort(members):
            self._persist(Record(self._record.proposal_number))
        elif waiting:
            self._say(WaitFor, "waiting for the promise of " + _some(
                f"{members[node_id]} (node {node_id:016x})" for node_id in waiting))
        else:
            self._say(WaitFor, "waiting for " + _some(self._picture.missing))

    def _has_promised(self, node_id: int, held: Held) -> bool:
        if node_id == self._id:
            return True
        # Also where it does not answer any more: a promise holds until it is given back.
        view = self._known.views.get(node_id)
        return (view is not None and view.held is not None
                and (view.held.founder_id, view.held.number) == (self._id, held.number))

    def _must_abort(self, members: dict[int, str]) -> bool:
        """Whether the proposal cannot succeed, or is not what this node would propose now.

        Whom the lists lead to is waited for: it comes back. Who only called is not.
        """
        if self._known.clusters()[1]:
            return True
        if any(view.held is not None and view.held.founder_id < self._id
               for view in self._known.present().values()):
            return True
        picture = self._picture
        return not picture.missing and not (
            picture.required_ids <= members.keys() and members.items() <= set(picture.members))

    # -- holding another's -----------------------------------------------------------------------

    def _follow(self, held: Held) -> None:
        """Follow the founder's decision once it is known; until then, hold."""
        cluster_id = held.contents.cluster_id
        views = self._known.views
        self._say(Refuse, self._copy_of_self())
        if any(view.cluster_id == cluster_id for view in views.values()):
            self._persist(Record(self._record.proposal_number, held, is_founded=True))
        elif self._is_released(held):
            self._persist(Record(self._record.proposal_number))
        else:
            way_out = "" if held.founder_id in self._known.present() else (
                f"; if it is gone for good, stop this node and empty {self._facts.directory}")
            self._say(WaitFor, (
                f"waiting for {dict(held.contents.members)[held.founder_id]} (node "
                f"{held.founder_id:016x}), to which this node has promised itself: it alone can "
                f"say whether cluster {cluster_id:016x} was founded{way_out}"))

    def _is_released(self, held: Held) -> bool:
        founder = self._known.views.get(held.founder_id)
        if founder is None or founder.proposal_number < held.number:
            return False
        own = founder.held
        is_open = own is not None and own.founder_id == held.founder_id
        return founder.proposal_number > held.number or not is_open

    # -- in a cluster ----------------------------------------------------------------------------

    def _look_around(self) -> None:
        """Say where a PEER is in another cluster; this one goes on."""
        copy = self._copy_of_self()
        if copy:
            self._say(Refuse, copy)
        for cluster_id, address in self._known.clusters()[0].items():
            if cluster_id != self.cluster_id:
                self._refuse_foreign(address, cluster_id)

    def _refuse_foreign(self, address: str, cluster_id: int) -> None:
        if self._foreign.get(address) == cluster_id or len(self._foreign) >= NEIGHBOURS_MAX:
            return
        self._foreign[address] = cluster_id
        self._actions.append(Refuse(
            f"{address} is in cluster {cluster_id:016x} and this node in cluster "
            f"{self.cluster_id:016x}: two clusters are never made one; to give this node to the "
            f"other, move {self._facts.directory} away and start it again"
        ))

    def _copy_of_self(self) -> str:
        places = self._known.copies.get(self._id)
        return copy_sentence(self._id, places) if places else ""


def _two_clusters(found: dict[int, str]) -> str:
    if len(found) < 2:
        return ""
    (one, here), (other, there) = sorted(found.items())[:2]
    return (f"{here or 'a node'} is in cluster {one:016x} and {there or 'a node'} in cluster "
            f"{other:016x}: this node can join only one; leave the other out of its PEERs")


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = len(every) - NAMES_IN_A_SENTENCE
    shown = "; ".join(every[:NAMES_IN_A_SENTENCE])
    return f"{shown}; and {more} more" if more > 0 else shown


def _name(picture: Picture, node_id: int) -> str:
    return f"{dict(picture.members).get(node_id, 'a node')} (node {node_id:016x})"
