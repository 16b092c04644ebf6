"""Raft's records: equality, immutability, and the one line each prints."""

import pytest

from seafoam._core.message import (
    ENTRY_COMMAND,
    MESSAGE_APPEND,
    MESSAGE_APPEND_ANSWER,
    MESSAGE_HEARTBEAT,
    MESSAGE_HEARTBEAT_ANSWER,
    MESSAGE_NAMES,
    MESSAGE_PRE_VOTE,
    MESSAGE_PRE_VOTE_ANSWER,
    MESSAGE_READ_INDEX,
    MESSAGE_READ_INDEX_ANSWER,
    MESSAGE_TIMEOUT_NOW,
    MESSAGE_VOTE,
    MESSAGE_VOTE_ANSWER,
    VOTE_FORCED,
    Durable,
    Entry,
    HardState,
    Message,
    ReadReady,
    Ready,
)


def test_records_are_equal_by_what_they_hold():
    assert Entry(1, 2, 1, b"x") == Entry(1, 2, 1, b"x")
    assert Entry(1, 2, 1, b"x") != Entry(1, 2, 1, b"y")
    assert Entry(1, 2, 1, b"x") != "Entry"
    assert HardState(1, 2, 3) == HardState(1, 2, 3) != HardState(1, 2, 4)
    assert HardState(1, 2, 3) != 3


@pytest.mark.parametrize("record", [
    Entry(1, 2, 1, b""), HardState(1, 2, 3), Durable(1, 2, 3, 4, 5), ReadReady(1, 2), Ready(),
    Message(MESSAGE_VOTE, 1, 2, 3),
])
def test_records_do_not_change(record):
    for name in [name for name in dir(record) if not name.startswith("_")]:
        with pytest.raises(AttributeError):
            setattr(record, name, 9)


def test_records_print_one_line():
    assert repr(Entry(1, 2, 1, b"xy")) == "Entry(index=1 term=2 kind=1 bytes=2)"
    assert repr(HardState(1, 0xAB, 3)) == "HardState(term=1 vote=ab commit=3)"
    assert repr(Durable(1, 2, 3, 4, 5)) == "Durable(number=1 term=2 index=3 log_term=4 commit=5)"
    assert repr(ReadReady(7, 8)) == "ReadReady(context=7 index=8)"
    assert repr(Ready()) == (
        "Ready(entries=[] hard_state=None messages=[] messages_after_durable=[] committed=[] "
        "reads=[] fetches=[] snapshots=[] durable=None)"
    )


def entries(*places: tuple[int, int]) -> tuple[Entry, ...]:
    return tuple(Entry(index, term, ENTRY_COMMAND, b"x") for index, term in places)


@pytest.mark.parametrize(("message", "line"), [
    (Message(MESSAGE_PRE_VOTE, 0xA1, 2, 3, index=4, log_term=2),
     "a1->2 pre_vote term=3 index=4 log_term=2"),
    (Message(MESSAGE_PRE_VOTE_ANSWER, 2, 1, 3, commit_index=5, log_term=2),
     "2->1 pre_vote_answer term=3 commit_index=5 log_term=2"),
    (Message(MESSAGE_VOTE, 1, 2, 3, index=4, log_term=2, context=VOTE_FORCED),
     "1->2 vote term=3 index=4 log_term=2 context=1"),
    (Message(MESSAGE_VOTE_ANSWER, 2, 1, 3, commit_index=5, log_term=2, is_rejected=True),
     "2->1 vote_answer term=3 commit_index=5 log_term=2 rejected"),
    (Message(MESSAGE_APPEND, 1, 2, 3, index=4, log_term=2, commit_index=4,
             entries=entries((5, 2), (6, 3))),
     "1->2 append term=3 index=4 log_term=2 commit_index=4 entries=[5@2 6@3]"),
    (Message(MESSAGE_APPEND_ANSWER, 2, 1, 3, index=6), "2->1 append_answer term=3 index=6"),
    (Message(MESSAGE_APPEND_ANSWER, 2, 1, 3, index=6, is_rejected=True, hint_index=4, hint_term=1),
     "2->1 append_answer term=3 index=6 rejected hint=4@1"),
    (Message(MESSAGE_HEARTBEAT, 1, 2, 3, commit_index=6, context=9),
     "1->2 heartbeat term=3 commit_index=6 context=9"),
    (Message(MESSAGE_HEARTBEAT_ANSWER, 2, 1, 3, context=9),
     "2->1 heartbeat_answer term=3 context=9"),
    (Message(MESSAGE_READ_INDEX, 2, 1, 3, context=9), "2->1 read_index term=3 context=9"),
    (Message(MESSAGE_READ_INDEX_ANSWER, 1, 2, 3, context=9, index=6),
     "1->2 read_index_answer term=3 index=6 context=9"),
    (Message(MESSAGE_TIMEOUT_NOW, 1, 2, 3), "1->2 timeout_now term=3"),
])
def test_a_message_prints_what_its_kind_fills(message, line):
    assert repr(message) == line
    assert message == message and message != line


def test_every_kind_of_message_has_a_name():
    assert sorted(MESSAGE_NAMES) == list(range(11)) and len(set(MESSAGE_NAMES.values())) == 11


@pytest.mark.parametrize(("arguments", "fields", "words"), [
    ((11, 1, 2, 3), {}, "no message of kind 11"),
    ((MESSAGE_VOTE, 0, 2, 3), {}, "no message goes from 0 to 2"),
    ((MESSAGE_VOTE, 1, 1, 3), {}, "no message goes from 1 to 1"),
    ((MESSAGE_APPEND, 1, 2, 3), {"index": 4, "log_term": 2, "entries": entries((6, 2))},
     "entry 6 of term 2 cannot follow entry 4 of term 2"),
    ((MESSAGE_APPEND, 1, 2, 3), {"index": 4, "log_term": 2, "entries": entries((5, 1))},
     "entry 5 of term 1 cannot follow"),
    ((MESSAGE_APPEND, 1, 2, 3), {"index": 4, "log_term": 2, "entries": entries((5, 4))},
     "term 3 speaks of a log entry of term 4"),
    ((MESSAGE_VOTE, 1, 2, 3), {"log_term": 4}, "term 3 speaks of a log entry of term 4"),
])
def test_what_is_no_message_is_refused(arguments, fields, words):
    with pytest.raises(ValueError, match=words):
        Message(*arguments, **fields)


@pytest.mark.parametrize("arguments", [(-1, 1, 1, b""), (1 << 64, 1, 1, b""), (1, 1, 1, None)])
def test_what_is_no_record_is_refused(arguments):
    with pytest.raises((OverflowError, TypeError)):
        Entry(*arguments)
