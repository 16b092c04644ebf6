"""The membership in a snapshot: there and back, and everything else is refused."""

from __future__ import annotations

import random

import pytest

from seafoam.errors import DataDamaged, StartError
from seafoam.membership_wire import (
    ROLE_LEARNER,
    ROLE_VOTER,
    MembershipRecord,
    decode_membership,
    encode_membership,
)

RECORD = MembershipRecord(
    7, 3,
    [(1, ROLE_VOTER, "a:1"), (2, ROLE_LEARNER, "größer:2"), (2**64 - 1, ROLE_VOTER, "[::1]:3")],
    [5, 2**63],
)
DATA = encode_membership(RECORD)


def test_it_is_read_as_it_was_written():
    assert decode_membership(DATA) == RECORD
    alone = MembershipRecord(1, 3, [(9, ROLE_VOTER, "h:1")], [])
    assert decode_membership(encode_membership(alone)) == alone


def test_the_bytes_are_these():
    assert encode_membership(MembershipRecord(258, 3, [(1, ROLE_VOTER, "a:1")], [2])) == (
        b"\1" b"\2\1\0\0\0\0\0\0" b"\3\0" b"\1\0"
        b"\1\0\0\0\0\0\0\0" b"\1" b"\3\0" b"a:1" b"\1\0\0\0" b"\2\0\0\0\0\0\0\0")


def test_every_cut_and_every_byte_more_is_damage():
    for end in range(len(DATA)):
        with pytest.raises(DataDamaged):
            decode_membership(DATA[:end])
    with pytest.raises(DataDamaged):
        decode_membership(DATA + b"\0")


def test_a_later_version_is_named():
    with pytest.raises(StartError, match="version 2"):
        decode_membership(b"\2" + DATA[1:])


@pytest.mark.parametrize("record", [
    RECORD._replace(members=[]),
    RECORD._replace(members=[(1, ROLE_LEARNER, "a:1")]),
    RECORD._replace(members=[(0, ROLE_VOTER, "a:1")]),
    RECORD._replace(members=[(1, 3, "a:1"), (2, ROLE_VOTER, "b:1")]),
    RECORD._replace(members=[(1, ROLE_VOTER, "")]),
    RECORD._replace(members=[(1, ROLE_VOTER, "a" * 513)]),
    RECORD._replace(members=[(1, ROLE_VOTER, "a:1"), (1, ROLE_VOTER, "a:2")]),
    RECORD._replace(removed_ids=[1]),
    RECORD._replace(removed_ids=[5, 5]),
])
def test_what_no_log_leads_to_is_damage(record):
    data = encode_membership(record)
    with pytest.raises(DataDamaged):
        decode_membership(data)


def test_anything_at_all_is_read_or_refused():
    luck = random.Random(11)
    for _ in range(20_000):
        data = bytearray(DATA)
        for _ in range(luck.randrange(1, 4)):
            data[luck.randrange(len(data))] = luck.randrange(256)
        try:
            record = decode_membership(bytes(data))
        except (DataDamaged, StartError):
            continue
        assert encode_membership(record) == data
