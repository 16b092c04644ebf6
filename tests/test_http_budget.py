"""The budget of bytes in flight: what is granted, to whom first, and that all of it comes back."""

from __future__ import annotations

import random

from seafoam.http_budget import Budget


def test_it_is_spent_past_its_bound_and_not_before():
    budget = Budget(100)
    budget.charge(100)
    assert not budget.is_spent
    budget.charge(1)
    assert budget.is_spent
    budget.charge(-1)
    assert not budget.is_spent


def test_a_reservation_counts_against_others_but_spends_nothing():
    budget = Budget(100)
    assert budget.reserve(60)
    assert not budget.is_spent
    assert not budget.reserve(41)
    assert budget.reserve(40)


def test_one_larger_than_the_bound_goes_alone():
    budget = Budget(100)
    assert budget.reserve(1000)
    assert not budget.reserve(1)
    budget.release(1000)
    assert budget.reserve(1)


def test_nothing_is_granted_while_it_is_spent():
    budget = Budget(100)
    budget.charge(101)
    assert not budget.reserve(1)
    granted = []
    budget.wait(1, lambda: granted.append(1) is None)
    budget.charge(-1)
    assert granted == [1]


def test_who_waits_is_served_in_order_and_not_overtaken():
    budget, granted = Budget(100), []
    assert budget.reserve(100)
    for name, answer_bytes in (("a", 80), ("b", 10), ("c", 30)):
        budget.wait(answer_bytes, lambda name=name: granted.append(name) is None)
    assert not budget.reserve(0), "others wait already"
    budget.release(100)
    assert granted == ["a", "b"]
    budget.release(80)
    assert granted == ["a", "b", "c"]


def test_who_no_longer_wants_it_leaves_it_to_the_next():
    budget, granted = Budget(100), []
    assert budget.reserve(100)
    budget.wait(100, lambda: False)
    budget.wait(100, lambda: granted.append("b") is None)
    budget.release(100)
    assert (granted, budget.reserved_bytes) == (["b"], 100)


def test_ten_thousand_that_are_done_at_once_do_not_nest():
    """Each is granted, done and gives back within its own call."""
    budget, done = Budget(10), []

    def on_room() -> bool:
        done.append(1)
        budget.release(10)
        budget.charge(1)
        budget.charge(-1)
        return True

    assert budget.reserve(10)
    for _ in range(10_000):
        budget.wait(10, on_room)
    budget.release(10)
    assert (len(done), budget.reserved_bytes, budget.used_bytes) == (10_000, 0, 0)


def test_the_bound_holds_whatever_the_order():
    luck = random.Random(7)
    budget = Budget(1000)
    held: list[int] = []
    for _ in range(20_000):
        if held and luck.random() < 0.5:
            budget.release(held.pop(luck.randrange(len(held))))
        else:
            answer_bytes = luck.randrange(1, 400)
            if budget.reserve(answer_bytes):
                held.append(answer_bytes)
            else:
                budget.wait(answer_bytes, lambda size=answer_bytes: held.append(size) is None)
        assert budget.reserved_bytes == sum(held) <= 1000
