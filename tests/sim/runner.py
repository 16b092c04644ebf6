"""The command line of the simulator: one seed replayed, or fresh ones until the time is over."""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from random import Random

from sim.clock import SECOND
from sim.faults import KINDS
from sim.invariants import Violation
from sim.world import World

__all__ = ["MUST_HAPPEN", "Verdict", "main", "run_seed"]

EVENTS_COUNT = 20_000

#: What must have happened in some tens of seeds together, lest a fault be none.
MUST_HAPPEN = [
    "calls", "calls failed", "conflicting entries cut off", "crashes",
    "crashes with unsynced data", "damage cut off like a torn tail", "damage in nothing",
    "damage mended by a snapshot", "damage mended by the log", "damage refused", "disks full",
    "disks lost to damage", "disks slow", "disks wiped", "disks wiped in mid-transfer",
    "entries read back from disk", "faults", "joins", "leaders",
    "leaders changed in mid-transfer", "leaders isolated", "leaders stopped", "logs begun anew",
    "logs dropped that members lacked", "members left behind", "membership changes", "messages",
    "messages doubled", "messages lost", "messages overtaken", "one-way cuts", "outcomes unknown",
    "partitions", "pauses", "power lost", "quotas that counted as the least", "read indexes told",
    "reads", "reads refused", "refused disk_full, applied no", "refused no_leader, applied no",
    "refused quota_exceeded, applied no", "refused shutting_down, applied no",
    "refused timeout, applied unknown", "restarts with torn tails", "sectors lost",
    "segments dropped", "snapshots received damaged", "snapshots resumed",
    "snapshots taken", "snapshots without room", "states restored from snapshots", "stops",
    "stops with everything handed over", "syncs shared by several appends", "transfers",
    "votes asked for", "writes", "writes done", "writes forwarded",
]


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
    seed: int, nodes_count: int = 0, events_count: int = EVENTS_COUNT, *, talks: bool = False,
    kinds: Sequence[str] = (),
) -> Verdict:
    """One run; without a number of nodes, the seed has it."""
    nodes_count = nodes_count or Random(~seed).choice((1, 3, 3, 3, 3, 5, 5))
    world = World(seed, nodes_count, print if talks else None, kinds)
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
    parser.add_argument("--kinds", default="", help="faults of these alone: wipe,split")
    parser.add_argument("--pairs", action="store_true", help="a seed for every two kinds of fault")
    parser.add_argument("--talk", action="store_true", help="print the story of --seed")
    given = parser.parse_args(arguments)
    logging.disable(logging.ERROR)
    if given.seed is not None:
        kinds = given.kinds.split(",") if given.kinds else ()
        verdict = run_seed(given.seed, given.nodes, given.steps, talks=given.talk, kinds=kinds)
        print_table(verdict.seen)
        print(verdict)
        return 1 if verdict.violation else 0
    if given.pairs:
        return run_pairs(given.nodes, given.steps, given.first or 1)
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
    print_never(seen)
    print(f"{seed - begin_seed} seeds from {begin_seed} on, {virtual_seconds:.0f} virtual s, "
          f"{len(failed)} violated")
    return 1 if failed else 0


def run_pairs(nodes_count: int, events_count: int, first: int) -> int:
    """A seed for every two kinds of fault, each kind with itself too."""
    seen: Counter[str] = Counter()
    failed: list[Verdict] = []
    pairs = list(combinations_with_replacement(KINDS, 2))
    width = max(len(kind) for kind in KINDS)
    for seed, pair in enumerate(pairs, first):
        # One node alone meets less than half of the kinds.
        nodes = nodes_count or (3, 5)[seed % 2]
        verdict = run_seed(seed, nodes, events_count, kinds=pair)
        seen += verdict.seen
        print(f"{pair[0]:{width}}  {pair[1]:{width}}  {verdict.seen['faults']:>5} faults  "
              f"{verdict.seen['leaders']:>4} leaders  "
              f"{'violated' if verdict.violation else 'holds'}", flush=True)
        if verdict.violation:
            print(f"{verdict}, with --kinds {','.join(pair)} --nodes {nodes}", flush=True)
            failed.append(verdict)
    print_table(seen)
    print_never(seen)
    print(f"{len(pairs)} pairs of {len(KINDS)} kinds, {len(failed)} violated")
    return 1 if failed else 0


def print_table(seen: Counter[str]) -> None:
    """What happened, and how often."""
    width = max(len(name) for name in seen)
    for name in sorted(seen):
        print(f"{name:{width}}  {seen[name]:>12,}")


def print_never(seen: Counter[str]) -> None:
    """What did not happen, and must where there were some tens of seeds."""
    never = [name for name in MUST_HAPPEN if not seen[name]]
    print(f"never happened: {', '.join(never) or 'nothing that must'}")
