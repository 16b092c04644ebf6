"""Runs scenarios against the modules of a model build, in this process: `python -m model.child`.

Exits with 3 where a scenario was violated. Started by model.runner and by strength.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import builds
from model.checker import Checker, CheckerFault, Plan, Statistics, Violated
from model.driver import Observer, apply_entry, attach, damages, record
from model.scenarios import SCENARIOS, SEED, A, B, Scenario, scenario_named
from seafoam._core.map import MapWriter
from seafoam.errors import Refusal

EXIT_VIOLATED = 3
MAX_LOGICAL_BYTES = 1 << 24


def run(checker: Checker, scenario: Scenario, plan: Plan) -> Statistics:
    """Records the scenario's writer and explores its reader. Raises Violated."""
    checker.reset()
    writer = MapWriter(SEED, max_logical_bytes=MAX_LOGICAL_BYTES, start_id=1, quarantine_entries=0)
    history = record(checker, writer, scenario.before, scenario.entries)
    reader = attach(checker, writer)
    return checker.explore(lambda: scenario.read(Observer(checker, reader, history)), plan)


def run_damaged(checker: Checker) -> Statistics:
    """A map with one wrong word, many times: a reader stays within what is reserved.

    What it answers is no matter; a wild load ends the process or is a violation.
    """
    checker.reset()
    writer = MapWriter(SEED, max_logical_bytes=MAX_LOGICAL_BYTES, start_id=1, quarantine_entries=0)
    apply_entry(writer, [(A, b"value")], 1)
    reader = attach(checker, writer)
    counts = Statistics()
    for address, word in damages(writer.segment.address, A):
        cell = ctypes.c_uint64.from_address(address)
        whole = cell.value
        cell.value = word

        def read() -> None:
            for key in (A, B):  # B is not there: the whole chain is followed
                with contextlib.suppress(Refusal):
                    reader.get_versioned(key)

        more = checker.explore(read, Plan(execution_max=1, pauses_max=1 << 30))
        counts.execution_count += more.execution_count
        counts.load_count += more.load_count
        cell.value = whole
    return counts


def plan_of(scenario: Scenario, arguments: argparse.Namespace) -> Plan:
    """The scenario's plan, as far as the command line leaves it."""
    plan = scenario.plan
    if arguments.seed is not None:
        plan = replace(plan, seed=arguments.seed)
    if arguments.executions is not None:
        plan = replace(plan, execution_max=arguments.executions)
    return plan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="scenarios, fuzz-N among them (default: all)")
    parser.add_argument("--fuzz", type=int, default=0, help="so many fuzz scenarios as well")
    parser.add_argument("--seed", type=int, help="explore at random, from this seed")
    parser.add_argument("--executions", type=int, help="at most so many for each scenario")
    arguments = parser.parse_args()
    builds.check_origin()
    checker = Checker(Path(os.environ["SEAFOAM_MODEL_LIBRARY"]))
    total_count = 0
    first = arguments.seed or 0
    names = arguments.names or [*SCENARIOS, "damaged"] * (not arguments.fuzz)
    for name in names + [f"fuzz-{first + number}" for number in range(arguments.fuzz)]:
        plan = Plan()
        began = time.monotonic()
        try:
            if name == "damaged":
                counts = run_damaged(checker)
            else:
                scenario = scenario_named(name)
                plan = plan_of(scenario, arguments)
                counts = run(checker, scenario, plan)
        except (Violated, CheckerFault) as failed:
            count = checker.statistics().execution_count
            print(f"{'VIOLATED' if isinstance(failed, Violated) else 'VOID'} {name} after {count} "
                  f"executions: {failed}")
            return EXIT_VIOLATED if isinstance(failed, Violated) else 2
        total_count += counts.execution_count
        how = "random" if plan.seed is not None else (
            "all paths" if counts.execution_count < plan.execution_max else "CUT SHORT")
        print(f"{name:20} {counts.execution_count:9} executions ({how}), "
              f"{counts.load_count} loads, {counts.state_count} states, {counts.store_count} "
              f"stores in {counts.word_count} words, {time.monotonic() - began:.1f} s", flush=True)
    print(f"{total_count} executions, none violated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
