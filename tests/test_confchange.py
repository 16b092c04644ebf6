"""Membership changes: scenarios, a second telling of the rules as oracle, and every small case."""

from __future__ import annotations

import itertools
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Interpreter, check, files_of
from seafoam._core.confchange import (
    CHANGE_LEARNER,
    CHANGE_REMOVE,
    CHANGE_UPDATE,
    CHANGE_VOTER,
    Configuration,
    parse_changes,
)
from seafoam._core.quorum import committed_index, vote_result
from seafoam.errors import ConfigurationRefused, SeafoamError

EXAMPLES = 20_000 if os.environ.get("SEAFOAM_SOAK") else 300
soaking = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)

ID_MAX = 2**64 - 1
KINDS = {"v": CHANGE_VOTER, "l": CHANGE_LEARNER, "r": CHANGE_REMOVE, "u": CHANGE_UPDATE}


def interpreter() -> Interpreter:
    """`simple v1 l2`, `enter-joint [auto] v1 l2`, `leave-joint`: what the members are then."""
    configuration = Configuration()

    def execute(command: str) -> str:
        nonlocal configuration
        verb, *words = command.split()
        try:
            if verb == "simple":
                configuration = configuration.simple(" ".join(words))
            elif verb == "enter-joint":
                auto_leave = words[:1] == ["auto"]
                configuration = configuration.enter_joint(
                    auto_leave, " ".join(words[1:] if auto_leave else words))
            else:
                assert command == "leave-joint", command
                configuration = configuration.leave_joint()
        except ConfigurationRefused as refusal:
            return f"refused: {refusal}"
        return str(configuration)

    return execute


class Oracle:
    """The same rules told a second time: four sets, and each change as steps upon them."""

    def __init__(self, configuration: Configuration) -> None:
        self.voters = set(configuration.voters)
        self.outgoing = set(configuration.voters_outgoing)
        self.learners = set(configuration.learners)
        self.learners_next = set(configuration.learners_next)

    def enter(self) -> None:
        self.outgoing = set(self.voters)

    def apply(self, changes: str) -> None:
        for change in changes.split():
            id_ = int(change[1:])
            if id_ == 0 or change[0] == "u" or (change[0] == "l" and id_ in self.learners):
                continue
            for ids in (self.voters, self.learners, self.learners_next):
                ids.discard(id_)
            if change[0] == "v":
                self.voters.add(id_)
            elif change[0] == "l":
                (self.learners_next if id_ in self.outgoing else self.learners).add(id_)

    def leave(self) -> None:
        self.learners |= self.learners_next
        self.learners_next = set()
        self.outgoing = set()

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Configuration)
        return (self.voters, self.outgoing, self.learners, self.learners_next) == (
            set(other.voters), set(other.voters_outgoing), set(other.learners),
            set(other.learners_next))

    __hash__ = None  # type: ignore[assignment]


def check_invariants(configuration: Configuration) -> None:
    """What holds for each configuration, however it came to be."""
    voters, outgoing = set(configuration.voters), set(configuration.voters_outgoing)
    learners, waiting = set(configuration.learners), set(configuration.learners_next)
    for ids in (configuration.voters, configuration.voters_outgoing, configuration.learners,
                configuration.learners_next, configuration.member_ids()):
        assert type(ids) is tuple and list(ids) == sorted(set(ids)) and 0 not in ids
    assert not learners & (voters | outgoing) and not waiting & (voters | learners)
    assert waiting <= outgoing and (voters or not (outgoing or learners))
    assert configuration.is_joint == bool(outgoing)
    assert configuration.is_joint or not configuration.auto_leave
    assert set(configuration.voter_ids()) == voters | outgoing
    assert set(configuration.member_ids()) == voters | outgoing | learners
    for id_ in {*configuration.member_ids(), 0, 1, 2, 3, 4, 5, ID_MAX}:
        assert configuration.is_voter(id_) == (id_ in voters | outgoing)
        assert configuration.is_learner(id_) == (id_ in learners)
        assert configuration.is_member(id_) == (id_ in voters | outgoing | learners)


def attempt(step):
    """What `step` returns, or None where it is refused."""
    try:
        return step()
    except ConfigurationRefused:
        return None


@pytest.mark.parametrize("path", files_of("confchange"), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check(path, interpreter())


# -- every small case ----------------------------------------------------------------------------

IDS = (1, 2, 3)
#: Each node's place in a configuration of three: where it votes, or whether it learns.
PLACES = ("none", "new", "old", "both", "learner", "waiting")


def small_configurations() -> list[Configuration]:
    """Every configuration of up to three nodes that there is, the empty one included."""
    found = []
    for places in itertools.product(PLACES, repeat=3):
        def those(*wanted, places=places):
            return [id_ for id_, place in zip(IDS, places, strict=True) if place in wanted]

        for auto_leave in (False, True):
            configuration = attempt(lambda auto_leave=auto_leave, those=those: Configuration(
                those("new", "both"), those("old", "both", "waiting"), those("learner"),
                those("waiting"), auto_leave))
            if configuration is not None:
                found.append(configuration)
    return found


SMALL = small_configurations()
CHANGES = [" ".join(words) for count in (0, 1, 2, 3) for words in itertools.product(
    [kind + str(id_) for kind in "vlr" for id_ in IDS], repeat=count)]


def steps_from(before: Configuration):
    """(how, changes, what comes of it or None) of every step up to three changes long."""
    for changes in CHANGES:
        yield "simple", changes, attempt(lambda changes=changes: before.simple(changes))
        yield "enter", changes, attempt(lambda changes=changes: before.enter_joint(True, changes))
    yield "leave", "", attempt(before.leave_joint)


def test_every_small_configuration_is_one_and_is_told_apart() -> None:
    """There are as many as counting says.

    Plain ones: the empty one, and each of three nodes out, voting or learning, less the 2^3 where
    none votes. Joint ones, with and without auto_leave: 6^3 places, less 4^3 where nobody votes on
    the new side, less 3^3 where nobody does on the old one, plus the 2^3 that both took away.
    """
    for configuration in SMALL:
        check_invariants(configuration)
    plain = [configuration for configuration in SMALL if not configuration.is_joint]
    assert len(plain) == 1 + 3**3 - 2**3
    assert len(SMALL) - len(plain) == 2 * (6**3 - 4**3 - 3**3 + 2**3)
    assert len({str(configuration) for configuration in SMALL}) == len(SMALL)
    assert len(set(SMALL)) == len(SMALL)


def test_every_small_step_is_what_the_rules_say() -> None:
    counts = {"simple": 0, "enter": 0, "leave": 0, "refused": 0}
    for before in SMALL:
        text = str(before)
        for how, changes, after in steps_from(before):
            told = Oracle(before)
            if how == "enter":
                told.enter()
            if how == "leave":
                told.leave()
            told.apply(changes)
            moved = len(set(before.voters) ^ told.voters)
            may = (before.is_joint if how == "leave" else
                   not before.is_joint and bool(told.voters) and (
                       moved <= 1 if how == "simple" else bool(before.voters)))
            assert (after is not None) == may, (text, how, changes, after)
            counts["refused" if after is None else how] += 1
            if after is not None:
                assert told == after, (text, how, changes, str(after))
                assert after.auto_leave == (how == "enter")
        assert str(before) == text
    assert min(counts.values()) > 200, counts


def test_any_majority_before_a_step_shares_a_node_with_any_after_it() -> None:
    """Why the rules are what they are: two leaders of one term, one on each side of a step, would
    need two such majorities that share nobody (dissertation, sections 4.1 and 4.3)."""
    groups = [set(some) for count in range(4) for some in itertools.combinations(IDS, count)]
    deciding = {
        configuration: [group for group in groups
                        if configuration.vote_result(dict.fromkeys(group, True)) == "won"]
        for configuration in SMALL
    }
    pairs = {(before, after) for before in SMALL if before.voters
             for _, _, after in steps_from(before) if after is not None}
    assert len(pairs) > 500
    for before, after in pairs:
        for left, right in itertools.product(deciding[before], deciding[after]):
            assert left & right, (str(before), str(after), left, right)


# -- long ones -----------------------------------------------------------------------------------

changes_text = st.lists(
    st.builds(lambda kind, id_: f"{kind}{id_}", st.sampled_from("vlru"), st.integers(0, 8)),
    max_size=6).map(" ".join)
steps = st.lists(st.tuples(st.sampled_from(["simple", "enter", "leave"]), changes_text,
                           st.booleans()), max_size=20)


@soaking
@given(steps)
def test_any_sequence_of_steps_keeps_the_invariants(sequence):
    configuration = Configuration().simple("v1")
    for how, changes, auto_leave in sequence:
        told = Oracle(configuration)
        if how == "simple":
            after = attempt(lambda c=configuration, t=changes: c.simple(t))
        elif how == "enter":
            told.enter()
            after = attempt(lambda c=configuration, a=auto_leave, t=changes: c.enter_joint(a, t))
        else:
            told.leave()
            changes = ""
            after = attempt(configuration.leave_joint)
        if after is not None:
            told.apply(changes)
            assert told == after
            configuration = after
        check_invariants(configuration)


def plain_of(configuration: Configuration) -> Configuration:
    return configuration.leave_joint() if configuration.is_joint else configuration


@soaking
@given(st.sampled_from([one for one in SMALL if one.voters]), changes_text)
def test_joint_and_left_again_is_what_a_simple_change_does(start, changes):
    plain = plain_of(start)
    simple = attempt(lambda: plain.simple(changes))
    joint = attempt(lambda: plain.enter_joint(False, changes))
    if simple is not None:
        assert joint.leave_joint() == simple
    if joint is not None:
        automatic = plain.enter_joint(True, changes)
        assert automatic != joint and automatic.leave_joint() == joint.leave_joint()
        assert str(automatic) == f"{joint} autoleave"


@soaking
@given(st.lists(st.integers(1, 5)), st.lists(st.tuples(
    st.sampled_from("vlru"), st.integers(2, 9)), max_size=9))
def test_one_joint_change_is_what_its_parts_do_one_by_one(founders, changes):
    """Node 1 always votes, so that every single step leaves somebody."""
    start = Configuration({1, *founders})
    one_by_one = start
    for kind, id_ in changes:
        one_by_one = one_by_one.simple(f"{kind}{id_}")
    together = start.enter_joint(False, " ".join(f"{kind}{id_}" for kind, id_ in changes))
    assert together.voters_outgoing == start.voters
    assert together.leave_joint() == one_by_one


@soaking
@given(st.sampled_from(SMALL), st.dictionaries(st.integers(1, 4), st.integers(0, 5)),
       st.dictionaries(st.integers(1, 4), st.booleans()))
def test_a_configuration_decides_by_its_majorities(configuration, acked, votes):
    halves = configuration.voters, configuration.voters_outgoing
    assert configuration.committed_index(acked) == committed_index(*halves, acked)
    assert configuration.vote_result(votes) == vote_result(*halves, votes)


# -- the object ----------------------------------------------------------------------------------


def test_the_notation_says_everything_in_order_and_nothing_that_is_not_there():
    assert str(Configuration()) == "voters=()"
    assert str(Configuration([3, 1, 2])) == "voters=(1 2 3)"
    assert str(Configuration([1, 2, 3], [1, 2], [4])) == "voters=(1 2 3)&&(1 2) learners=(4)"
    full = Configuration((10, 9), (2, 9), (11, 4), (2,), True)
    assert str(full) == "voters=(9 10)&&(2 9) learners=(4 11) learners_next=(2) autoleave"
    assert repr(full) == f"Configuration({full})"


def test_a_configuration_is_a_value():
    one = Configuration({1, 2}, voters_outgoing={1}, learners={3})
    same = Configuration((2, 1, 1), (1,), [3])
    assert one == same and hash(one) == hash(same) and one is not same
    assert one != Configuration({1, 2}, {1}) and one != str(one) and one != (1, 2)
    for name in ("voters", "voters_outgoing", "learners", "learners_next", "auto_leave"):
        with pytest.raises(AttributeError):
            setattr(one, name, getattr(one, name))
    with pytest.raises(TypeError):
        pickle.dumps(one)


@pytest.mark.parametrize(("fields", "reason"), [
    ({"voters": [0]}, "no node has the id 0"),
    ({"learners": [1]}, "has no voter"),
    ({"voters_outgoing": [1]}, "has no voter"),
    ({"voters": [1], "learners": [1, 2]}, "node 1 cannot be a voter and a learner"),
    ({"voters": [1], "voters_outgoing": [2], "learners": [2]}, "node 2 cannot be a voter and"),
    ({"voters": [1], "learners_next": [2]}, "node 2 cannot wait"),
    ({"voters": [1], "voters_outgoing": [1, 3], "learners_next": [2]}, "node 2 cannot wait"),
    ({"voters": [1, 2], "voters_outgoing": [2], "learners_next": [2]}, "node 2 cannot wait"),
    ({"voters": [1], "auto_leave": True}, "is not joint"),
])
def test_a_configuration_that_cannot_be_is_refused(fields, reason):
    with pytest.raises(ConfigurationRefused, match=reason):
        Configuration(**fields)
    assert issubclass(ConfigurationRefused, SeafoamError)


@pytest.mark.parametrize(("ids", "error"), [
    ([-1], OverflowError), ([2**64], OverflowError), (["1"], TypeError), (1, TypeError),
])
def test_what_is_no_id_is_an_error(ids, error):
    with pytest.raises(error):
        Configuration(ids)


# -- changes -------------------------------------------------------------------------------------


def test_changes_are_read_in_order():
    assert parse_changes("v1 l2 r3 u4") == [
        (CHANGE_VOTER, 1), (CHANGE_LEARNER, 2), (CHANGE_REMOVE, 3), (CHANGE_UPDATE, 4)]
    assert parse_changes("") == parse_changes("  ") == []
    assert parse_changes(f" r0  v{ID_MAX} ") == [(CHANGE_REMOVE, 0), (CHANGE_VOTER, ID_MAX)]
    assert len({CHANGE_VOTER, CHANGE_LEARNER, CHANGE_REMOVE, CHANGE_UPDATE}) == 4


@pytest.mark.parametrize("text", [
    "v", "1", "x1", "V1", "v-1", "v+1", "v1.0", "v 1", "v1,v2", "v1v2", "v0x1", "v1_0", "v१",
    f"v{ID_MAX + 1}", "v" + "9" * 5000, "v1 l2 w3", "\N{NO-BREAK SPACE}v1", "v1\tl2", "v1\nl2",
])
def test_what_is_no_change_is_refused_and_changes_nothing(text):
    start = Configuration([1, 2])
    for step in (lambda: parse_changes(text), lambda: start.simple(text),
                 lambda: start.enter_joint(False, text)):
        with pytest.raises(ConfigurationRefused, match="is no change"):
            step()


@pytest.mark.parametrize("changes", [None, b"v1", [("v", 1)]])
def test_changes_are_text(changes):
    with pytest.raises(TypeError):
        Configuration().simple(changes)


@soaking
@given(st.sampled_from([one for one in SMALL if one.voters]), changes_text, st.booleans())
def test_the_machine_s_entry_points_do_the_same(start, text, auto_leave):
    pairs = [(KINDS[word[0]], int(word[1:])) for word in text.split()]
    assert parse_changes(text) == pairs
    assert attempt(lambda: start.apply_simple(pairs)) == attempt(lambda: start.simple(text))
    assert attempt(lambda: start.apply_joint(auto_leave, pairs)) == attempt(
        lambda: start.enter_joint(auto_leave, text))


@pytest.mark.parametrize("kind", [0, 5, -1, 255])
def test_a_kind_of_change_that_is_none_is_refused(kind):
    with pytest.raises(ConfigurationRefused, match=f"no change of kind {kind}"):
        Configuration([1]).apply_simple([(CHANGE_VOTER, 2), (kind, 3)])
