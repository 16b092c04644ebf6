"""Answers in pieces: the same text as joined, no large piece copied, no small one apart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from seafoam.api_answer import LARGE_BYTES, Answer, assemble, listed

settings.register_profile("pieces", deadline=None)
SETTINGS = settings(derandomize=True, database=None, deadline=None)
PIECES = st.lists(
    st.builds(
        lambda length, most: b"x" * (length % most),
        st.integers(0, 3 * LARGE_BYTES), st.sampled_from([1, 100, 5_000, 3 * LARGE_BYTES])),
    min_size=1, max_size=40,
)


@SETTINGS
@given(PIECES)
def test_the_text_is_that_of_the_pieces(pieces: list[bytes]) -> None:
    answer = assemble(201, pieces)
    assert b"".join([answer.body, *answer.rest]) == b"".join(pieces)
    assert answer.body_bytes == sum(map(len, pieces))
    assert answer.http_status == 201


@SETTINGS
@given(PIECES)
def test_a_large_piece_is_handed_on_and_two_small_ones_never_follow_each_other(
    pieces: list[bytes]
) -> None:
    answer = assemble(200, pieces)
    got = [answer.body, *answer.rest]
    for piece in pieces:
        if len(piece) > LARGE_BYTES:
            assert any(piece is each for each in got)
    assert all(len(one) + len(two) > LARGE_BYTES
               for one, two in pairwise(got))


@SETTINGS
@given(st.lists(st.sampled_from([b"1", b"22", b"x" * 1_000, b"y" * LARGE_BYTES]), max_size=40))
def test_an_array_has_its_commas(items: list[bytes]) -> None:
    assert b"".join(listed(items)) == b",".join(items)


def test_a_small_answer_is_one_text() -> None:
    assert assemble(404, [b"a" * 100] * 600) == Answer(404, b"a" * 60_000)
