"""Litmus tests: what the checker lets a reader see is what the C11 orderings allow, all of it.

Each case names a writer and a reader in the usual notation and gives the exact set of outcomes.
They test the checker, and with it the meaning that atomics.h gives each name; the map is checked
with it in test_interleave.py.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import builds
from model.checker import (
    ACQUIRE,
    RELAXED,
    RELEASE,
    Checker,
    CheckerFault,
    Plan,
    Violated,
)

ROOT = Path(__file__).resolve().parent.parent
Outcomes = set[tuple[int, ...]]


class Litmus:
    """Some words of memory, a recorded writer, and the set of what a reader can see of them."""

    def __init__(self, checker: Checker) -> None:
        self.checker = checker
        checker.reset()
        self.memory = (ctypes.c_uint64 * 8)()
        self.base = ctypes.addressof(self.memory)

    def store(self, word: int, value: int, order: int = RELAXED, size: int = 8,
              offset: int = 0) -> None:
        self.checker.store(self.base + 8 * word + offset, value, size, order)

    def load(self, word: int, order: int = RELAXED, size: int = 8, offset: int = 0) -> int:
        return int(self.checker.load(self.base + 8 * word + offset, size, order))

    def outcomes(self, writer: Callable[[], None], reader: Callable[[], tuple[int, ...]],
                 plan: Plan | None = None) -> Outcomes:
        seen: Outcomes = set()
        with self.checker.recording():
            writer()
        self.statistics = self.checker.explore(lambda: seen.add(reader()),
                                               plan or Plan(restart_on_pause=False))
        return seen


@pytest.fixture(scope="module")
def checker() -> Checker:
    return Checker(builds.build_checker())


@pytest.fixture
def litmus(checker: Checker) -> Litmus:
    return Litmus(checker)


X, Y, SEQUENCE = 0, 1, 2
ALL = set(itertools.product((0, 1), repeat=2))


@pytest.mark.parametrize(("store_order", "writer_fence", "load_order", "reader_fence"),
                         list(itertools.product((RELAXED, RELEASE), (False, True),
                                                (RELAXED, ACQUIRE), (False, True))))
def test_message_passing(litmus: Litmus, store_order: int, writer_fence: bool,
                         load_order: int, reader_fence: bool) -> None:
    """x=1; y=1 against r1=y; r2=x: (1,0) goes away only if both sides order their accesses."""
    def writer() -> None:
        litmus.store(X, 1)
        if writer_fence:
            litmus.checker.fence(RELEASE)
        litmus.store(Y, 1, store_order)

    def reader() -> tuple[int, ...]:
        first = litmus.load(Y, load_order)
        if reader_fence:
            litmus.checker.fence(ACQUIRE)
        return first, litmus.load(X)

    ordered = ((store_order == RELEASE or writer_fence)
               and (load_order == ACQUIRE or reader_fence))
    assert litmus.outcomes(writer, reader) == (ALL - {(1, 0)} if ordered else ALL)


@pytest.mark.parametrize("wrong", ["fence before the first load", "store behind the release"])
def test_order_in_the_wrong_place_orders_nothing(litmus: Litmus, wrong: str) -> None:
    def writer() -> None:
        if wrong == "store behind the release":
            litmus.store(Y, 1, RELEASE)
            litmus.store(X, 1)
        else:
            litmus.store(X, 1)
            litmus.store(Y, 1, RELEASE)

    def reader() -> tuple[int, ...]:
        if wrong == "fence before the first load":
            litmus.checker.fence(ACQUIRE)
            return litmus.load(Y), litmus.load(X)
        return litmus.load(Y, ACQUIRE), litmus.load(X)

    assert litmus.outcomes(writer, reader) == ALL


def test_coherence(litmus: Litmus) -> None:
    """x=1; x=2 against r1=x; r2=x: one place never goes back, even relaxed."""
    def writer() -> None:
        litmus.store(X, 1)
        litmus.store(X, 2)

    seen = litmus.outcomes(writer, lambda: (litmus.load(X), litmus.load(X)))
    assert seen == {(a, b) for a in range(3) for b in range(a, 3)}


def test_stores_to_two_places_seen_in_any_order(litmus: Litmus) -> None:
    def writer() -> None:
        litmus.store(X, 1)
        litmus.store(Y, 1)

    assert litmus.outcomes(writer, lambda: (litmus.load(X), litmus.load(Y))) == ALL


def test_relaxed_store_behind_a_release_store_carries_nothing(litmus: Litmus) -> None:
    """x=1; y=1 release; y=2 relaxed: who reads 2 need not see x."""
    def writer() -> None:
        litmus.store(X, 1)
        litmus.store(Y, 1, RELEASE)
        litmus.store(Y, 2)

    seen = litmus.outcomes(writer, lambda: (litmus.load(Y, ACQUIRE), litmus.load(X)))
    assert (1, 0) not in seen
    assert (2, 0) in seen


def test_known_time(litmus: Litmus) -> None:
    """A reader that was told of the writer's progress sees no older message."""
    with litmus.checker.recording():
        litmus.store(X, 1)
        known = litmus.checker.time()
        litmus.store(X, 2)
    seen: set[int] = set()
    litmus.checker.explore(lambda: seen.add(litmus.load(X)), Plan(), known_time=known)
    assert seen == {1, 2}


def test_bytes_of_one_word(litmus: Litmus) -> None:
    """Two byte stores: one wide load may see either first, and two narrow ones as well."""
    def writer() -> None:
        litmus.store(X, 1, size=1)
        litmus.store(X, 1, size=1, offset=1)

    assert litmus.outcomes(writer, lambda: (litmus.load(X),)) == {(0,), (1,), (0x100,), (0x101,)}
    again = Litmus(litmus.checker)

    def writer_again() -> None:
        again.store(X, 1, size=1)
        again.store(X, 1, size=1, offset=1)

    seen = again.outcomes(writer_again, lambda: (again.load(X, size=1, offset=1),
                                                 again.load(X, size=1)))
    assert seen == ALL


def test_wide_store_is_never_torn(litmus: Litmus) -> None:
    """A 64-bit store, then one of its halves: the load sees whole stores, in their order."""
    def writer() -> None:
        litmus.store(X, 0x11_0000_0011)
        litmus.store(X, 0x22, size=4, offset=4)
        litmus.store(X, 0x33, size=4)

    seen = litmus.outcomes(writer, lambda: (litmus.load(X),))
    assert seen == {(0,), (0x11_0000_0011,), (0x22_0000_0011,), (0x11_0000_0033,),
                    (0x22_0000_0033,)}


def sequence_lock(litmus: Litmus, broken: str = "") -> Outcomes:
    """Two writes of a pair under a sequence; what a reader accepts ((-1,) when it gives up)."""
    call = litmus.checker

    def writer() -> None:
        for value in (1, 2):
            if broken != "sequence never odd":
                litmus.store(SEQUENCE, 2 * value - 1)
            if broken != "no release fence":
                call.fence(RELEASE)
            litmus.store(X, value)
            litmus.store(Y, value)
            litmus.store(SEQUENCE, 2 * value, RELAXED if broken == "even relaxed" else RELEASE)

    def reader() -> tuple[int, ...]:
        for _ in range(6):
            before = litmus.load(SEQUENCE, RELAXED if broken == "first look relaxed" else ACQUIRE)
            if before % 2 == 0 or broken == "odd accepted":
                pair = litmus.load(X), litmus.load(Y)
                if broken != "no acquire fence":
                    call.fence(ACQUIRE)
                if broken == "not validated" or litmus.load(SEQUENCE) == before:
                    return pair
            call.pause()
        return (-1,)

    return litmus.outcomes(writer, reader, Plan(pauses_max=3))


def test_sequence_lock(litmus: Litmus) -> None:
    assert sequence_lock(litmus) == {(0, 0), (1, 1), (2, 2)}


@pytest.mark.parametrize("broken", [
    "sequence never odd", "no release fence", "even relaxed", "first look relaxed",
    "odd accepted", "no acquire fence", "not validated"])
def test_broken_sequence_lock_is_caught(litmus: Litmus, broken: str) -> None:
    seen = sequence_lock(litmus, broken)
    assert any(len(pair) == 2 and pair[0] != pair[1] for pair in seen)


def test_pruned_exploration_sees_what_a_full_one_sees(litmus: Litmus) -> None:
    """States met again are not explored again; nothing may get lost by that: compare with luck."""
    def writer() -> None:
        for value in (1, 2, 1, 3):
            litmus.store(X, value)
            litmus.checker.fence(RELEASE)
            litmus.store(Y, value)

    def reader() -> tuple[int, ...]:
        first = litmus.load(X)
        litmus.checker.fence(ACQUIRE)
        return (first, litmus.load(Y), litmus.load(X), litmus.load(Y, ACQUIRE), litmus.load(X))

    exhaustive = litmus.outcomes(writer, reader)
    lucky: Outcomes = set()
    litmus.checker.explore(lambda: lucky.add(reader()), Plan(seed=7, execution_max=50_000))
    assert lucky == exhaustive


def test_violation_carries_the_path(litmus: Litmus) -> None:
    def reader() -> None:
        if litmus.load(X) == 1:
            raise Violated("one was seen")

    with litmus.checker.recording():
        litmus.store(X, 1)
    with pytest.raises(Violated, match=r"one was seen\n  load 8 at \+0x\w+ = 0x1 \(stored at 1"):
        litmus.checker.explore(reader, Plan())


def test_plain_store_makes_the_run_void(litmus: Litmus) -> None:
    with pytest.raises(CheckerFault, match="plain store"), litmus.checker.recording():
        litmus.store(X, 1)
        litmus.memory[X] = 2
        litmus.store(X, 3)


def test_misaligned_access_makes_the_run_void(litmus: Litmus) -> None:
    with pytest.raises(CheckerFault, match="misaligned"), litmus.checker.recording():
        litmus.store(X, 1, size=4, offset=2)


PROGRAM = r"""
#include "atomics.h"
int main(void)
{
    _Alignas(8) uint8_t small[8] = {0};
    uint32_t middle = 0;
    uint64_t large = 0;
    store_relaxed_u8(small, 0x1ff & 0xff);
    store_relaxed_u32(&middle, 0xfffffffeu);
    if (load_relaxed_u8(small) != 0xff || load_relaxed_u32(&middle) != 0xfffffffeu)
        return 1;
    store_release_u32(&middle, 7);
    if (load_acquire_u32(&middle) != 7 || validate_load_u32(&middle) != 7)
        return 2;
    store_relaxed_u64(&large, UINT64_MAX);
    if (load_relaxed_u64(&large) != UINT64_MAX)
        return 3;
    store_release_u64(&large, 1ull << 40);
    if (load_acquire_u64(&large) != 1ull << 40)
        return 4;
    store_then_fence_u64(&large, 5);
    fence_release();
    fence_acquire();
    spin_pause();
    return validate_load_u64(&large) == 5 ? 0 : 5;
}
"""


@pytest.mark.parametrize("flags", [[], ["-fsanitize=thread", "-DSEAFOAM_TSAN"]],
                         ids=["plain", "tsan"])
def test_header_compiles_without_a_warning_and_works(tmp_path: Path, flags: list[str]) -> None:
    source, program = tmp_path / "use.c", tmp_path / "use"
    source.write_text(PROGRAM)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", *flags, "-I",
                    str(ROOT / "seafoam" / "_core"), str(source), "-o", str(program)], check=True)
    assert subprocess.run([str(program)], check=False).returncode == 0
