"""Calls between nodes and their answers: there and back, and anything else is a BadCall."""

from __future__ import annotations

import random

import pytest

from seafoam.calls import (
    CALL_FORWARD,
    CALL_JOIN,
    CALL_SNAPSHOT,
    STAGE_INSTALLED,
    STAGE_WANTED,
    BadCall,
    Elsewhere,
    Forward,
    Join,
    Piece,
    Placed,
    Progress,
    Welcome,
    call_kind,
    decode_forward,
    decode_forward_answer,
    decode_join,
    decode_join_answer,
    decode_piece,
    decode_piece_answer,
    encode_elsewhere,
    encode_forward,
    encode_join,
    encode_piece,
    encode_placed,
    encode_progress,
    encode_refused,
    encode_welcome,
)
from seafoam.errors import Refusal


def test_calls_are_read_as_they_were_written():
    forward, join = Forward(7, b"command"), Join(2**64 - 1, "[::1]:5010")
    assert call_kind(encode_forward(forward)) == CALL_FORWARD
    assert decode_forward(encode_forward(forward)) == forward
    assert call_kind(encode_join(join)) == CALL_JOIN
    assert decode_join(encode_join(join)) == join
    for piece in (Piece(3, 2**64 - 1, 17, 2, 100, 90, b"x" * 10), Piece(1, 1, 1, 1, 0, 0, b"")):
        assert call_kind(encode_piece(piece)) == CALL_SNAPSHOT
        assert decode_piece(encode_piece(piece)) == piece
    assert call_kind(b"") == 0


@pytest.mark.parametrize("decode", [
    decode_forward_answer, decode_join_answer, decode_piece_answer])
def test_what_was_not_done_is_read_by_either(decode):
    assert decode(encode_elsewhere(Elsewhere("a:1"))) == Elsewhere("a:1")
    assert decode(encode_elsewhere(Elsewhere(""))) == Elsewhere("")
    refusal = decode(encode_refused(Refusal("quota_exceeded", "größer", applied="no")))
    assert (refusal.code, refusal.message, refusal.applied) == ("quota_exceeded", "größer", "no")


def test_what_was_done_is_read_by_its_own():
    assert decode_forward_answer(encode_placed(Placed(18, 3))) == Placed(18, 3)
    assert decode_join_answer(encode_welcome(Welcome(b"founding"))) == Welcome(b"founding")
    for progress in (Progress(STAGE_WANTED, 0), Progress(STAGE_INSTALLED, 2**64 - 1)):
        assert decode_piece_answer(encode_progress(progress)) == progress


@pytest.mark.parametrize(("decode", "payload"), [
    (decode_forward, b"\x01"), (decode_forward, encode_forward(Forward(7, b""))),
    (decode_join, b"\x02" + bytes(8) + b"a:1"), (decode_join, encode_join(Join(1, ""))),
    (decode_join, encode_join(Join(1, "")) + b"\xff"),
    (decode_join, encode_join(Join(1, "a..b:1"))), (decode_join, encode_join(Join(1, "a"))),
    (decode_join, encode_join(Join(1, "x y\n\x1b[31mz:1"))),
    (decode_join, encode_join(Join(1, "h" + ".x" * 300 + ":1"))),
    (decode_forward_answer, b""), (decode_forward_answer, b"\x09"),
    (decode_forward_answer, encode_placed(Placed(1, 1)) + b"\0"),
    (decode_forward_answer, encode_placed(Placed(1, 1))[:-1]),
    (decode_forward_answer, b"\x02\x09overloa"), (decode_forward_answer, b"\x02\x04codemessage"),
    (decode_forward_answer, b"\x02\x02\xff\xff"), (decode_forward_answer, b"\x03\xff"),
    (decode_join_answer, encode_welcome(Welcome(b""))), (decode_join_answer, b"\x02"),
    (decode_piece, b"\x04"), (decode_piece, encode_piece(Piece(1, 1, 1, 1, 5, 0, b""))[:-1]),
    (decode_piece, encode_piece(Piece(1, 1, 0, 1, 5, 0, b""))),
    (decode_piece, encode_piece(Piece(1, 1, 1, 1, 5, 0, b"x" * 6))),
    (decode_piece, encode_piece(Piece(1, 1, 1, 1, 5, 2**64 - 1, b"x"))),
    (decode_piece_answer, encode_progress(Progress(0, 1))),
    (decode_piece_answer, encode_progress(Progress(4, 1))),
    (decode_piece_answer, encode_progress(Progress(1, 1)) + b"\0"),
])
def test_what_cannot_be_is_refused(decode, payload):
    with pytest.raises(BadCall):
        decode(payload)


def test_anything_at_all_is_read_or_refused():
    luck = random.Random(5)
    for _ in range(20_000):
        payload = bytes((luck.randrange(6),)) + luck.randbytes(luck.randrange(70))
        for decode in (decode_forward, decode_join, decode_piece, decode_forward_answer,
                       decode_join_answer, decode_piece_answer):
            try:
                decode(payload)
            except BadCall:
                pass
