"""Majorities: scenarios, the definitions themselves as oracles, and every small case."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import Interpreter, check, files_of
from seafoam._core.quorum import committed_index, vote_result

EXAMPLES = 20_000 if os.environ.get("SEAFOAM_SOAK") else 300
soaking = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)

INDEX_MAX = 2**64 - 1
COMMAND = re.compile(r"(committed|vote) \(([\d ]*)\)(?:&&\(([\d ]*)\))?((?: \d+=\w+)*)")


def interpreter() -> Interpreter:
    """`committed (1 2)&&(2 3) 1=12` and `vote (1 2) 1=yes 2=no`: what was told, and the answer."""

    def execute(command: str) -> str:
        parsed = COMMAND.fullmatch(command)
        assert parsed, command
        left, right = ({int(id_) for id_ in (parsed[half] or "").split()} for half in (2, 3))
        told = parsed[4].strip() or "nothing"
        said = dict(pair.split("=") for pair in parsed[4].split())
        if parsed[1] == "vote":
            votes = {int(id_): {"yes": True, "no": False}[vote] for id_, vote in said.items()}
            return f"{told}: {in_any_form(vote_result, left, right, votes)}"
        acked = {int(id_): int(index) for id_, index in said.items()}
        index = in_any_form(committed_index, left, right, acked)
        return f"{told}: {'no limit' if index is None else index}"

    return execute


def in_any_form(function, left, right, told):
    """The answer, which must not depend on how the same question is put."""
    answer = function(left, right, told)
    assert function(right, left, told) == answer, "the halves are equals"
    first_again = sorted(left)[:1] * len(left)  # said often, it is still one voter
    assert function([*left, *first_again], sorted(right, reverse=True), told) == answer
    if not right:
        assert function(left, left, told) == answer, "a majority joint with itself is itself"
    return answer


def has_majority(half: set[int], of_those: set[int]) -> bool:
    return not half or 2 * len(half & of_those) > len(half)


def committed_by_definition(left, right, acked):
    """The largest index that more than half of each half has, or all of nothing."""
    if not left and not right:
        return None
    return max(index for index in {0, *acked.values()}
               if all(has_majority(half, {id_ for id_ in half if acked.get(id_, 0) >= index})
                      for half in (left, right)))


def vote_by_definition(left, right, votes):
    """Won or lost where the votes that are still out cannot change it any more."""
    missing = sorted((left | right) - votes.keys())
    outcomes = {
        all(has_majority(half, {id_ for id_, vote in {**votes, **rest}.items() if vote})
            for half in (left, right))
        for answers in itertools.product((True, False), repeat=len(missing))
        for rest in [dict(zip(missing, answers, strict=True))]
    }
    return "pending" if len(outcomes) > 1 else "won" if True in outcomes else "lost"


@pytest.mark.parametrize("path", files_of("quorum"), ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    check(path, interpreter())


def subsets(ids):
    return [set(some) for count in range(len(ids) + 1)
            for some in itertools.combinations(ids, count)]


def test_every_small_case_of_committed_index() -> None:
    """All pairs of halves of four nodes, each of which has nothing, 0, 1, 2 or 3 acknowledged."""
    count = 0
    told = [{id_: index for id_, index in zip((1, 2, 3, 4), indexes, strict=True)
             if index is not None}
            for indexes in itertools.product((None, 0, 1, 2, 3), repeat=4)]
    for left, right in itertools.combinations_with_replacement(subsets((1, 2, 3, 4)), 2):
        for acked in told:
            assert committed_index(left, right, acked) == committed_by_definition(
                left, right, acked), (left, right, acked)
            count += 1
    assert count == 136 * 625


def test_every_small_case_of_vote_result() -> None:
    count = 0
    seen = set()
    for left, right in itertools.product(subsets((1, 2, 3, 4)), repeat=2):
        for answers in itertools.product((None, True, False), repeat=4):
            votes = {id_: answer for id_, answer in zip((1, 2, 3, 4), answers, strict=True)
                     if answer is not None}
            result = vote_result(left, right, votes)
            assert result == vote_by_definition(left, right, votes), (left, right, votes)
            seen.add(result)
            count += 1
    assert count == 256 * 81 and seen == {"won", "lost", "pending"}


node_ids = st.one_of(st.integers(1, 9), st.integers(0, INDEX_MAX))
halves = st.sets(node_ids, max_size=9)
indexes = st.one_of(st.integers(0, 5), st.integers(0, INDEX_MAX))


@soaking
@given(halves, halves, st.data())
def test_committed_index_is_its_definition(left, right, data):
    acked = data.draw(st.dictionaries(
        st.one_of(st.sampled_from(sorted(left | right | {7})), node_ids), indexes))
    assert in_any_form(committed_index, left, right, acked) == committed_by_definition(
        left, right, acked)


@soaking
@given(halves, halves, st.data())
def test_an_acknowledgement_never_lowers_what_is_committed(left, right, data):
    known = sorted(left | right | {7})
    acked = data.draw(st.dictionaries(st.sampled_from(known), indexes))
    more = dict(acked)
    id_ = data.draw(st.sampled_from(known))
    more[id_] = max(acked.get(id_, 0), data.draw(indexes))
    before, after = committed_index(left, right, acked), committed_index(left, right, more)
    assert before == after is None or before <= after


@soaking
@given(st.sets(st.integers(1, 7), max_size=7), st.sets(st.integers(1, 7), max_size=7),
       st.dictionaries(st.integers(1, 9), st.booleans()))
def test_vote_result_is_its_definition(left, right, votes):
    assert in_any_form(vote_result, left, right, votes) == vote_by_definition(left, right, votes)


@soaking
@given(halves, halves, st.dictionaries(node_ids, st.booleans()), node_ids, st.booleans())
def test_a_decided_vote_stays_decided(left, right, votes, id_, answer):
    before = vote_result(left, right, votes)
    if before != "pending" and id_ not in votes:
        assert vote_result(left, right, {**votes, id_: answer}) == before


def test_many_voters_are_no_special_case() -> None:
    voters = range(1, 1001)
    acked = {id_: id_ for id_ in voters}
    assert committed_index(voters, (), acked) == 500
    assert vote_result(voters, (), {id_: id_ > 499 for id_ in voters}) == "won"
    assert vote_result(voters, (), {id_: id_ > 500 for id_ in voters}) == "lost"


@pytest.mark.parametrize(("acked", "error"), [
    ({1: -1}, OverflowError), ({1: INDEX_MAX + 1}, OverflowError), ({1: None}, TypeError),
    ({1: "5"}, TypeError), ([], TypeError), (None, TypeError),
])
def test_an_index_that_is_none_is_an_error(acked, error):
    with pytest.raises(error):
        committed_index({1}, (), acked)


@pytest.mark.parametrize("votes", [{1: None}, {1: 1}, {1: "no"}, [1], None])
def test_a_vote_that_is_neither_yes_nor_no_is_an_error(votes):
    """None would count as a refusal, and a string as an agreement."""
    with pytest.raises(TypeError):
        vote_result({1}, (), votes)
