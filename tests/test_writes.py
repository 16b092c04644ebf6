"""Writes from arrival to answer: their order, their time, and what is said of them."""

from __future__ import annotations

from functools import partial

from doors import ManualClock
from seafoam._core import limits
from seafoam._core.message import ENTRY_COMMAND, ENTRY_EMPTY, Entry
from seafoam._core.wire import Operation, command_stamp, encode_command
from seafoam.calls import Elsewhere, Placed
from seafoam.errors import Refusal
from seafoam.writes import ORDER_SPARE_COUNT, Writes

ORIGIN_ID = 77
COMMAND = encode_command([Operation.set(b"k", b"1")])


class Courier:
    """Keeps what it is given until the test says what became of it."""

    def __init__(self):
        self.leads = True
        self.refuses = None
        self.now_term = 1
        self.at_once = None
        self.given = []

    def refusal(self):
        return self.refuses

    def can_give(self):
        return self.leads

    def term(self):
        return self.now_term

    def give(self, command, on_given):
        self.given.append((command_stamp(command)[1], command, on_given))
        if self.at_once is not None:
            on_given(self.at_once)

    def numbers(self):
        return [number for number, _, _ in self.given]

    def tell(self, number, given):
        for at, _, on_given in self.given:
            if at == number:
                on_given(given)


class Rig:
    def __init__(self):
        self.clock, self.courier, self.answers = ManualClock(), Courier(), {}
        self.writes = Writes(self.clock, ORIGIN_ID, self.courier)
        self.index = 0

    def submit(self, *names, timeout_ms=1000, command=COMMAND):
        for name in names:
            self.writes.submit(command, timeout_ms, partial(self.answers.__setitem__, name))

    def apply(self, number, *, origin_id=ORIGIN_ID, term=1, kind=ENTRY_COMMAND):
        self.index += 1
        command = next((data for at, data, _ in self.courier.given if at == number), COMMAND)
        entry = Entry(self.index, term, kind, command)
        self.writes.on_applied(entry, f"result {self.index}" if kind == ENTRY_COMMAND else None)

    def code(self, name):
        assert isinstance(self.answers[name], Refusal), self.answers[name]
        return self.answers[name].code, self.answers[name].applied


def test_a_write_is_answered_when_its_own_entry_is_applied():
    rig = Rig()
    rig.submit("a", "b")
    rig.apply(0)
    assert rig.answers == {}, "another node's"
    rig.apply(1)
    assert rig.answers == {"a": "result 2"}
    rig.apply(2)
    assert rig.answers == {"a": "result 2", "b": "result 3"} and len(rig.writes) == 0


def test_writes_wait_in_order_while_there_is_nobody_and_overtake_nobody():
    rig = Rig()
    rig.courier.leads = False
    rig.submit("a", "b")
    rig.courier.leads = True
    rig.submit("c")
    assert rig.courier.numbers() == []
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 3]


def test_what_was_not_given_after_all_goes_again_in_its_old_place():
    rig = Rig()
    rig.submit("a", "b")
    rig.courier.leads = False
    rig.submit("c")
    rig.courier.tell(2, Elsewhere(""))
    rig.courier.tell(1, Elsewhere(""))
    rig.courier.leads = True
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 1, 2, 3]


def test_what_was_overtaken_is_not_given_again():
    """Asked of a leader that is gone, while the next one has taken later writes."""
    rig = Rig()
    rig.submit("a", "b")
    rig.courier.tell(2, Placed(7, 1))
    rig.courier.tell(1, Elsewhere(""))
    assert rig.code("a") == ("no_leader", "no")
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2]


def test_nor_where_nobody_knows_whether_it_was_overtaken():
    rig = Rig()
    rig.submit("a", "b")
    rig.courier.tell(2, None)
    rig.courier.tell(1, Elsewhere(""))
    assert rig.code("a") == ("no_leader", "no")


def test_nor_behind_what_was_applied_before_anybody_said_where_it_was_put():
    rig = Rig()
    rig.submit("a", "b")
    rig.apply(2)
    rig.courier.tell(1, Elsewhere(""))
    assert rig.code("a") == ("no_leader", "no") and rig.answers["b"] == "result 1"


def test_what_comes_back_waits_for_word_of_those_behind_it():
    rig = Rig()
    rig.submit("a", "b", "c")
    rig.courier.tell(1, Elsewhere(""))
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 3], "they may be in the log"
    rig.courier.tell(2, Elsewhere(""))
    rig.submit("d")
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 3]
    rig.courier.tell(3, Elsewhere(""))
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 3, 1, 2, 3, 4] and rig.answers == {}


def test_one_that_is_out_of_time_is_waited_for_too():
    rig = Rig()
    rig.submit("a")
    rig.submit("b", timeout_ms=10)
    rig.clock.advance(0.1)
    rig.courier.tell(1, Elsewhere(""))
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2]
    rig.courier.tell(2, Placed(7, 1))
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2] and rig.code("a") == ("no_leader", "no")


def test_a_courier_that_gives_back_at_once_is_asked_again_later():
    rig = Rig()
    rig.courier.at_once = Elsewhere("")
    rig.submit("a", "b")
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 1]
    rig.courier.at_once = Placed(1, 1)
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 1, 1, 2]


def test_out_of_time_before_it_was_given_it_was_certainly_not_applied():
    rig = Rig()
    rig.courier.leads = False
    rig.submit("a", timeout_ms=10)
    rig.clock.advance(0.02)
    assert rig.code("a") == ("no_leader", "no")
    rig.courier.leads = True
    rig.writes.give_queued()
    assert rig.courier.numbers() == []


def test_out_of_time_after_it_was_given_nobody_knows():
    rig = Rig()
    rig.submit("a", timeout_ms=10)
    rig.clock.advance(0.02)
    assert rig.code("a") == ("timeout", "unknown")
    rig.courier.tell(1, Placed(1, 1))
    rig.apply(1)
    assert rig.code("a") == ("timeout", "unknown")


def test_a_write_whose_fate_nobody_can_tell_is_not_given_again():
    rig = Rig()
    rig.submit("a", timeout_ms=10)
    rig.courier.tell(1, None)
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1]
    rig.clock.advance(0.02)
    assert rig.code("a") == ("timeout", "unknown")


def test_a_refusal_of_the_leader_is_the_answer():
    rig = Rig()
    rig.submit("a")
    rig.courier.tell(1, Refusal("quota_exceeded", "full", applied="no"))
    assert rig.code("a") == ("quota_exceeded", "no")


def later_term(rig, term=2):
    """Another leads, and its first entry is applied."""
    rig.courier.now_term = term
    rig.apply(0, term=term, kind=ENTRY_EMPTY)


def test_what_a_later_term_began_without_is_given_again_in_its_order():
    """Whatever was said of it before: put somewhere, unknown, nothing yet."""
    rig = Rig()
    rig.submit("a", "b", "c")
    rig.courier.tell(1, Placed(1, 1))
    rig.courier.tell(2, None)
    later_term(rig)
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 3, 1, 2, 3] and rig.answers == {}
    for number in (1, 2, 3):
        rig.apply(number, term=2)
    assert rig.answers == {"a": "result 2", "b": "result 3", "c": "result 4"}


def test_an_entry_of_its_own_term_settles_nothing():
    rig = Rig()
    rig.submit("a")
    rig.courier.tell(1, None)
    rig.apply(0)
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1]


def test_what_was_lost_is_not_given_again_behind_what_was_not():
    rig = Rig()
    rig.submit("a", "b", "c")
    rig.apply(2)
    later_term(rig)
    assert rig.code("a") == ("no_leader", "no") and rig.answers["b"] == "result 1"
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 3, 3]


def test_nor_behind_one_that_was_out_of_time_and_applied_all_the_same():
    rig = Rig()
    rig.submit("a")
    rig.submit("b", timeout_ms=10)
    rig.clock.advance(0.1)
    rig.apply(2)
    later_term(rig)
    assert rig.code("b") == ("timeout", "unknown") and rig.code("a") == ("no_leader", "no")


def test_nor_behind_what_the_new_leader_took_before_its_first_entry_was_applied():
    rig = Rig()
    rig.submit("a")
    rig.courier.now_term = 2
    rig.submit("b")
    rig.courier.tell(2, Placed(2, 2))
    later_term(rig)
    assert rig.code("a") == ("no_leader", "no")
    rig.apply(2, term=2)
    assert rig.answers["b"] == "result 2"


def test_and_waits_for_word_of_what_the_new_leader_was_given():
    rig = Rig()
    rig.submit("a")
    rig.courier.now_term = 2
    rig.submit("b")
    later_term(rig)
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2]
    rig.courier.tell(2, Elsewhere(""))
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 1, 2]


def test_word_of_a_leader_that_is_gone_comes_too_late():
    rig = Rig()
    rig.submit("a", "b")
    later_term(rig)
    rig.writes.give_queued()
    first_word = rig.courier.given[0][2]
    first_word(Refusal("quota_exceeded", "full", applied="no"))
    rig.courier.given[1][2](None)
    assert rig.courier.numbers() == [1, 2, 1, 2] and rig.answers == {}
    rig.courier.given[2][2](Elsewhere(""))
    rig.courier.given[3][2](Elsewhere(""))
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1, 2, 1, 2, 1, 2], "the unknown one is known to be lost"


def test_where_it_was_put_may_be_told_after_that_was_applied():
    rig = Rig()
    rig.submit("a")
    rig.apply(1)
    rig.courier.tell(1, Placed(1, 1))
    assert rig.answers == {"a": "result 1"}


def test_what_may_wait_is_bounded_and_comes_back():
    rig = Rig()
    large = encode_command([Operation.set(b"k", b"1" * limits.VALUE_BYTES_MAX)] * 8)
    rig.courier.leads = False
    count = limits.PROPOSALS_BYTES_MAX // len(large)
    rig.submit(*range(count), command=large, timeout_ms=10)
    rig.submit("one more", command=large)
    assert rig.code("one more") == ("overloaded", "no")
    rig.clock.advance(0.02)
    rig.courier.leads = True
    rig.submit("again", command=large)
    assert "again" not in rig.answers


def test_stopping_refuses_what_was_not_given_and_waits_for_the_rest():
    rig = Rig()
    rig.submit("given")
    rig.courier.leads = False
    rig.submit("queued")
    rig.writes.begin_stop()
    rig.submit("late")
    assert rig.code("queued") == rig.code("late") == ("shutting_down", "no")
    assert len(rig.writes) == 1
    rig.apply(1)
    assert rig.answers["given"] == "result 1"


def test_writes_that_are_refused_while_nobody_leads_leave_nothing_behind():
    rig = Rig()
    rig.courier.leads = False
    for number in range(5_000):
        rig.submit(number, timeout_ms=1)
        rig.clock.advance(0.002)
    rig.submit("waits", timeout_ms=1000)
    assert len(rig.writes) == 1 and len(rig.writes._order) <= 2 * 1 + ORDER_SPARE_COUNT
    rig.courier.leads = True
    rig.writes.give_queued()
    assert rig.courier.numbers() == [5_001]


def test_a_snapshot_leaves_what_was_given_unknown_and_gives_nothing_twice():
    """Its entry may be in what the snapshot stands for; so may that of a later one."""
    rig = Rig()
    rig.submit("a", "b", "c")
    rig.courier.tell(2, Elsewhere(""))  # certainly none: it waits for word of a and c
    rig.writes.on_restored(1)
    assert rig.code("a") == rig.code("c") == ("timeout", "unknown")
    rig.courier.tell(1, Placed(5, 1))
    rig.courier.tell(3, Elsewhere(""))
    rig.writes.give_queued()
    assert rig.code("b") == ("no_leader", "no"), "c may have gone ahead"
    assert rig.courier.numbers() == [1, 2, 3]
    rig.submit("d")
    rig.apply(4, term=2)
    assert rig.answers["d"] == "result 1" and len(rig.writes) == 0


def test_what_was_queued_when_a_snapshot_came_is_given_afterwards():
    rig = Rig()
    rig.courier.leads = False
    rig.submit("a")
    rig.writes.on_restored(3)
    rig.courier.leads = True
    rig.writes.give_queued()
    assert rig.courier.numbers() == [1]
    rig.apply(1, term=3)
    assert rig.answers == {"a": "result 1"}


def test_what_is_refused_at_the_door_is_never_given():
    rig = Rig()
    rig.courier.refuses = Refusal("disk_full", "none", applied="no")
    rig.submit("a")
    assert rig.code("a") == ("disk_full", "no") and len(rig.writes) == 0
    rig.courier.refuses = None
    rig.submit("b")
    assert rig.courier.numbers() == [2]
