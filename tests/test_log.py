"""The log's positions, through the machine that moves them, and what recovery may give it."""

import pytest

from seafoam._core.log import RaftLog
from seafoam._core.message import ENTRY_COMMAND, Entry
from seafoam.errors import InvariantBroken


def entries(count: int) -> list[Entry]:
    return [Entry(index, 1, ENTRY_COMMAND, b"x") for index in range(1, count + 1)]


def test_an_empty_log_stands_at_nought():
    log = RaftLog([], 0)
    assert (log.first_index, log.last_index, log.commit_index, log.applied_index) == (1, 0, 0, 0)


def test_what_was_recovered_is_durable_and_handed_out():
    log = RaftLog(entries(5), 3)
    assert log.last_index == log.written_index == log.durable_index == 5
    assert log.commit_index == 3 and log.applied_index == log.applying_index == 0


@pytest.mark.parametrize("gap_index", [1, 2, 5])
def test_a_gap_is_refused_where_it_is(gap_index):
    with_gap = [entry for entry in entries(6) if entry.index != gap_index]
    with pytest.raises(InvariantBroken, match=f"where {gap_index} is due"):
        RaftLog(with_gap, 0)


def test_a_commit_index_past_the_end_is_refused():
    with pytest.raises(InvariantBroken, match="commit index 6 is past the log's end 5"):
        RaftLog(entries(5), 6)


def test_the_repr_names_every_position():
    assert repr(RaftLog(entries(2), 1)) == (
        "RaftLog(first=1 last=2 written=2 durable=2 commit=1 applying=0 applied=0)"
    )
