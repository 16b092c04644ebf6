"""What nodes ask of each other beside Raft's own messages, and what they answer, as bytes.

Owns these formats; who carries them, and to whom, is the network's. Must never trust a length: a
payload that cannot be is a `BadCall`, whose sentence goes back to whoever sent it.

    a call      u8 kind, then
      forward   u64 term, and the command: propose it, but only as leader of this term, so that
                what a node forwards takes effect in the order in which it forwards it
      join      u64 node id, and the peer address, one that can be dialled: take me in
      founding  what the founding protocol says
      snapshot  u64 term, u64 file id, u64 index, u64 term of that entry, u64 bytes of the file,
                u64 offset, and bytes of the file from there on, which may be none: take this
                piece of a snapshot from the leader of this term
      report    u64 bytes that the map may take, u8 whether the disk has room: how a member is

    an answer   u8 outcome, then
      accepted  what the call asks for: a forward's u64 index and u64 term; a join's data of
                entry 1, with which its log begins; a snapshot's u8 stage and u64, the offset
                that is wanted next or the index that is installed; nothing for a report
      refused   u8 length and a code of the error table, and a message in UTF-8
      elsewhere the peer address of the leader in UTF-8; empty where none is known
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from seafoam.addresses import shown, split_address
from seafoam.errors import CODES, AddressRefused, Refusal, SeafoamError
from seafoam.reports import Report

__all__ = [
    "CALL_FORWARD",
    "CALL_FOUNDING",
    "CALL_JOIN",
    "CALL_REPORT",
    "CALL_SNAPSHOT",
    "STAGE_INSTALLED",
    "STAGE_INSTALLING",
    "STAGE_WANTED",
    "BadCall",
    "Elsewhere",
    "Forward",
    "Join",
    "Piece",
    "Placed",
    "Progress",
    "Welcome",
    "call_kind",
    "decode_forward",
    "decode_forward_answer",
    "decode_join",
    "decode_join_answer",
    "decode_piece",
    "decode_piece_answer",
    "decode_report",
    "encode_elsewhere",
    "encode_forward",
    "encode_join",
    "encode_piece",
    "encode_placed",
    "encode_progress",
    "encode_refused",
    "encode_report",
    "encode_taken",
    "encode_welcome",
]

CALL_FORWARD, CALL_JOIN, CALL_FOUNDING, CALL_SNAPSHOT, CALL_REPORT = 1, 2, 3, 4, 5
#: What becomes of a snapshot: more of it is wanted; it is there and being read; it is in force.
STAGE_WANTED, STAGE_INSTALLING, STAGE_INSTALLED = 1, 2, 3
ACCEPTED, REFUSED, ELSEWHERE = 1, 2, 3

_FORWARD = struct.Struct("<BQ")
_JOIN = struct.Struct("<BQ")
_PLACED = struct.Struct("<BQQ")
_PIECE = struct.Struct("<BQQQQQQ")
_REPORT = struct.Struct("<BQ?")
_PROGRESS = struct.Struct("<BBQ")


class BadCall(SeafoamError):
    """Bytes from another node that are no call, or no answer to one."""


class Forward(NamedTuple):
    """A command to be proposed by the leader of `term`."""

    term: int
    command: bytes


class Join(NamedTuple):
    """A node that wants to be taken in."""

    node_id: int
    address: str


@dataclass(frozen=True, slots=True)
class Placed:
    """Where in the log a forwarded command was put; not yet that it stays there."""

    index: int
    term: int


class Welcome(NamedTuple):
    """A joiner's first entry of the log."""

    founding: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a snapshot's file, from the leader of `term`."""

    term: int
    file_id: int
    index: int
    log_term: int
    size_bytes: int
    offset: int
    data: bytes


class Progress(NamedTuple):
    """How far a member is with a snapshot: the offset it wants next, or the index it is at."""

    stage: int
    value: int


class Elsewhere(NamedTuple):
    """The one who was asked does not lead; who does, where it knows."""

    address: str


def call_kind(payload: bytes) -> int:
    """Which call this is; 0 for none."""
    return payload[0] if payload else 0


def encode_forward(forward: Forward) -> bytes:
    """The call that forwards a command."""
    return _FORWARD.pack(CALL_FORWARD, forward.term) + forward.command


def decode_forward(payload: bytes) -> Forward:
    """What a forward asks for; the command itself is not looked at."""
    if len(payload) <= _FORWARD.size:
        raise BadCall("a forwarded write is cut short")
    _, term = _FORWARD.unpack_from(payload)
    return Forward(term, payload[_FORWARD.size:])


def encode_join(join: Join) -> bytes:
    """The call by which a node asks to be taken in."""
    return _JOIN.pack(CALL_JOIN, join.node_id) + join.address.encode()


def decode_join(payload: bytes) -> Join:
    """Who wants to join."""
    if len(payload) <= _JOIN.size:
        raise BadCall("a wish to join is cut short")
    _, node_id = _JOIN.unpack_from(payload)
    if node_id == 0:
        raise BadCall("a wish to join names node 0, which is nobody")
    address = _text(payload[_JOIN.size:])
    try:
        split_address(address)
    except AddressRefused as error:
        # It would be in the log of every node, and each would dial it for good.
        raise BadCall(f"a wish to join comes from {shown(address)}, which {error}") from None
    return Join(node_id, address)


def encode_placed(placed: Placed) -> bytes:
    """The answer to a forward that was proposed."""
    return _PLACED.pack(ACCEPTED, placed.index, placed.term)


def encode_welcome(welcome: Welcome) -> bytes:
    """The answer to a node that may join."""
    return bytes((ACCEPTED,)) + welcome.founding


def encode_refused(refusal: Refusal) -> bytes:
    """The answer that nothing was, or will be, done."""
    code = refusal.code.encode()
    return bytes((REFUSED, len(code))) + code + refusal.message.encode()


def encode_elsewhere(elsewhere: Elsewhere) -> bytes:
    """The answer that somebody else leads."""
    return bytes((ELSEWHERE,)) + elsewhere.address.encode()


def decode_forward_answer(payload: bytes) -> Placed | Refusal | Elsewhere:
    """What became of a forward. A refusal's `applied` is "no"."""
    if payload[:1] != bytes((ACCEPTED,)):
        return _not_done(payload)
    if len(payload) != _PLACED.size:
        raise BadCall("the answer to a forwarded write has the wrong length")
    _, index, term = _PLACED.unpack(payload)
    return Placed(index, term)


def decode_join_answer(payload: bytes) -> Welcome | Refusal | Elsewhere:
    """What became of a wish to join."""
    if payload[:1] != bytes((ACCEPTED,)):
        return _not_done(payload)
    if len(payload) == 1:
        raise BadCall("the answer to a wish to join is cut short")
    return Welcome(payload[1:])


def encode_piece(piece: Piece) -> bytes:
    """The call that carries a piece of a snapshot."""
    return _PIECE.pack(
        CALL_SNAPSHOT, piece.term, piece.file_id, piece.index, piece.log_term, piece.size_bytes,
        piece.offset,
    ) + piece.data


def decode_piece(payload: bytes) -> Piece:
    """What a leader sends of a snapshot; the bytes themselves are not looked at."""
    if len(payload) < _PIECE.size:
        raise BadCall("a piece of a snapshot is cut short")
    _, term, file_id, index, log_term, size_bytes, offset = _PIECE.unpack_from(payload)
    piece = Piece(term, file_id, index, log_term, size_bytes, offset, payload[_PIECE.size:])
    if piece.index == 0 or piece.offset + len(piece.data) > piece.size_bytes:
        raise BadCall(f"a piece of a snapshot at {piece.index} reaches past its end")
    return piece


def encode_progress(progress: Progress) -> bytes:
    """The answer to a piece of a snapshot."""
    return _PROGRESS.pack(ACCEPTED, *progress)


def decode_piece_answer(payload: bytes) -> Progress | Refusal | Elsewhere:
    """What became of a piece of a snapshot."""
    if payload[:1] != bytes((ACCEPTED,)):
        return _not_done(payload)
    if len(payload) != _PROGRESS.size:
        raise BadCall("the answer to a piece of a snapshot has the wrong length")
    progress = Progress(*_PROGRESS.unpack(payload)[1:])
    if progress.stage not in (STAGE_WANTED, STAGE_INSTALLING, STAGE_INSTALLED):
        raise BadCall(f"a snapshot is in stage {progress.stage}, which there is not")
    return progress


def encode_report(report: Report) -> bytes:
    """The call by which a member says how it is."""
    return _REPORT.pack(CALL_REPORT, *report)


def decode_report(payload: bytes) -> Report:
    """How a member is."""
    if len(payload) != _REPORT.size or payload[-1] > 1:
        raise BadCall("a report has the wrong length, or neither has room nor none")
    return Report(*_REPORT.unpack(payload)[1:])


def encode_taken() -> bytes:
    """The answer to a report."""
    return bytes((ACCEPTED,))


def _not_done(payload: bytes) -> Refusal | Elsewhere:
    if payload[:1] == bytes((ELSEWHERE,)):
        return Elsewhere(_text(payload[1:]))
    if len(payload) < 2 or payload[0] != REFUSED or len(payload) < 2 + payload[1]:
        raise BadCall("an answer is none of those that there are")
    code = _text(payload[2:2 + payload[1]])
    if code not in CODES:
        raise BadCall(f"an answer refuses with the unknown code {code[:32]!r}")
    return Refusal(code, _text(payload[2 + payload[1]:]), applied="no")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadCall("a text of a call is not UTF-8") from None
