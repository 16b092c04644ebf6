"""The command line of the simulator: one seed replayed, or fresh ones until the time is over."""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from sim.clock import SECOND
from sim.invariants import Violation
from sim.world import World

__all__ = ["Verdict", "main", "run_seed"]

EVENTS_COUNT = 20_000


@dataclass
class Verdict:
    """What came of one run."""

    seed: int
    nodes_count: int
    violation: str
    trace_hash: str
    virtual_seconds: float
    seen: Counter[str]

    def __str__(self) -> str:
        what = self.violation or "holds"
        return (f"seed {self.seed} nodes {self.nodes_count} trace {self.trace_hash} "
                f"{self.virtual_seconds:.1f} s: {what}")


def run_seed(
    seed: int, nodes_count: int = 0, events_count: int = EVENTS_COUNT, *, talks: bool = False
) -> Verdict:
    """One run; without a number of nodes, the seed has it."""
    nodes_count = nodes_count or Random(~seed).choice((1, 3, 3, 3, 3, 5, 5))
    world = World(seed, nodes_count, print if talks else None)
    violation = ""
    try:
        world.run(events_count)
    except Exception as error:
        # Whatever the code under test raises, it raises where it must not.
        violation = str(error) if isinstance(error, Violation) else repr(error)
        if talks:
            print(world.describe())
            raise
    finally:
        world.close()
    world.seen["events"] = world.events_count
    return Verdict(seed, nodes_count, violation, world.trace_hash(),
                   world.timeline.now_ns / SECOND, world.seen)


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says; 1 where anything was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one")
    parser.add_argument("--nodes", type=int, default=0, choices=(0, 1, 3, 5))
    parser.add_argument("--steps", type=int, default=EVENTS_COUNT, help="events with faults")
    parser.add_argument("--minutes", type=float, help="fresh seeds for so long")
    parser.add_argument("--from", type=int, dest="first", help="the first of the fresh seeds")
    parser.add_argument("--talk", action="store_true", help="print the story of --seed")
    given = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    if given.seed is not None:
        verdict = run_seed(given.seed, given.nodes, given.steps, talks=given.talk)
        print_table(verdict.seen)
        print(verdict)
        return 1 if verdict.violation else 0
    return hunt(given.minutes or 1.0, given.nodes, given.steps, given.first)


def hunt(minutes: float, nodes_count: int, events_count: int, first: int | None) -> int:
    """Fresh seeds until the time is over."""
    seen: Counter[str] = Counter()
    failed: list[Verdict] = []
    seed = first if first is not None else time.time_ns() // 1_000_000
    begin_seed, end = seed, time.monotonic() + 60 * minutes
    virtual_seconds = 0.0
    while time.monotonic() < end:
        verdict = run_seed(seed, nodes_count, events_count)
        seen += verdict.seen
        virtual_seconds += verdict.virtual_seconds
        if verdict.violation:
            print(verdict, flush=True)
            failed.append(verdict)
        seed += 1
    print_table(seen)
    print(f"{seed - begin_seed} seeds from {begin_seed} on, {virtual_seconds:.0f} virtual s, "
          f"{len(failed)} violated")
    return 1 if failed else 0


def print_table(seen: Counter[str]) -> None:
    """What happened, and how often."""
    width = max(len(name) for name in seen)
    for name in sorted(seen):
        print(f"{name:{width}}  {seen[name]:>12,}")
