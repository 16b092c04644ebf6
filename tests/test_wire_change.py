"""The bytes of a change of membership: there and back, and nothing else is believed."""

from __future__ import annotations

import random

import pytest

from seafoam._core.confchange import (
    CHANGE_LEARNER,
    CHANGE_REMOVE,
    CHANGE_UPDATE,
    CHANGE_VOTER,
)
from seafoam._core.wire_change import (
    CHANGES_MAX,
    MemberChange,
    decode_changes,
    encode_changes,
)
from seafoam.errors import DataDamaged, StartError

SOME = [
    MemberChange(CHANGE_VOTER, 1, "127.0.0.1:3010"),
    MemberChange(CHANGE_LEARNER, 2**64 - 1, "[::1]:5010"),
    MemberChange(CHANGE_REMOVE, 3, ""),
    MemberChange(CHANGE_UPDATE, 4, "größe.example:6010"),
]


def test_what_is_written_is_read_again():
    assert decode_changes(encode_changes(SOME)) == SOME


def test_the_bytes_are_as_drawn():
    assert encode_changes([MemberChange(CHANGE_LEARNER, 0x0102, "a:1")]) == (
        b"\x01" b"\x01\x00" b"\x02" b"\x02\x01\0\0\0\0\0\0" b"\x03\x00" b"a:1"
    )


@pytest.mark.parametrize("changes", [
    [], SOME[:1] * (CHANGES_MAX + 1), [MemberChange(0, 1, "a:1")], [MemberChange(5, 1, "a:1")],
    [MemberChange(CHANGE_VOTER, 0, "a:1")], [MemberChange(CHANGE_VOTER, 1, "")],
    [MemberChange(CHANGE_REMOVE, 1, "a:1")], [MemberChange(CHANGE_VOTER, 1, "a" * 513)],
])
def test_what_cannot_be_is_not_written(changes):
    with pytest.raises(ValueError):
        encode_changes(changes)


def test_every_cut_and_every_superfluous_byte_is_damage():
    data = encode_changes(SOME)
    for end in range(len(data)):
        with pytest.raises(DataDamaged):
            decode_changes(data[:end])
    with pytest.raises(DataDamaged):
        decode_changes(data + b"\0")


def test_a_later_version_is_named_as_that():
    with pytest.raises(StartError, match="version 2") as caught:
        decode_changes(b"\x02" + encode_changes(SOME)[1:])
    assert not isinstance(caught.value, DataDamaged)


def test_anything_else_is_our_error_and_nothing_worse():
    luck = random.Random(3)
    for _ in range(20_000):
        data = bytearray(encode_changes(SOME[:luck.randrange(1, 5)]))
        for _ in range(luck.randrange(1, 4)):
            data[luck.randrange(len(data))] = luck.randrange(256)
        try:
            changes = decode_changes(bytes(data))
        except StartError:
            continue
        assert encode_changes(changes) == bytes(data)
