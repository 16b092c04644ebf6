"""Raft's records: equality, immutability, and the one line each prints."""

import pytest

from seafoam._core.message import Durable, Entry, HardState, Ready


def test_records_are_equal_by_what_they_hold():
    assert Entry(1, 2, 1, b"x") == Entry(1, 2, 1, b"x")
    assert Entry(1, 2, 1, b"x") != Entry(1, 2, 1, b"y")
    assert Entry(1, 2, 1, b"x") != "Entry"
    assert HardState(1, 2, 3) == HardState(1, 2, 3) != HardState(1, 2, 4)
    assert HardState(1, 2, 3) != 3


@pytest.mark.parametrize("record", [Entry(1, 2, 1, b""), HardState(1, 2, 3), Durable(1, 2, 3)])
def test_records_do_not_change(record):
    with pytest.raises(AttributeError):
        record.term = 9


def test_records_print_one_line():
    assert repr(Entry(1, 2, 1, b"xy")) == "Entry(index=1 term=2 kind=1 bytes=2)"
    assert repr(HardState(1, 0xAB, 3)) == "HardState(term=1 vote=ab commit=3)"
    assert repr(Ready([], None, [], None)) == (
        "Ready(entries=[] hard_state=None committed=[] durable=None)"
    )


@pytest.mark.parametrize("arguments", [(-1, 1, 1, b""), (1 << 64, 1, 1, b""), (1, 1, 1, None)])
def test_what_is_no_record_is_refused(arguments):
    with pytest.raises((OverflowError, TypeError)):
        Entry(*arguments)
