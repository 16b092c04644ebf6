"""Runs the race driver of one build in this process: `python -m races.child`.

Exits with 3 where a reader saw what was never written. One thread writes, the others read, none
of them with the GIL; all use the writer's mapping, which ThreadSanitizer builds need.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from typing import Any

import builds
from seafoam._core import race_driver
from seafoam._core.map import MapWriter

EXIT_VIOLATED = 3
WRONG = ("torn_count", "false_miss_count", "backward_count", "split_pair_count", "other_count")


def make_race(quarantine_entries: int) -> Any:
    """A race over a fresh map."""
    writer = MapWriter(bytes(16), max_logical_bytes=1 << 30, start_id=1,
                       quarantine_entries=quarantine_entries, reserve_limit_bytes=1 << 30)
    race = race_driver.Race(writer)
    race.prepare()
    return race


def run_round(arguments: argparse.Namespace, seed: int) -> Counter[str]:
    """Writer and readers at once, on a fresh map; the readers' counts added up."""
    race = make_race(arguments.quarantine)
    reader = race.writer.reader()
    counts: Counter[str] = Counter()
    tallies: list[dict[str, int]] = []
    threads = [threading.Thread(target=lambda luck=luck: tallies.append(race.read(reader, luck)))
               for luck in range(seed * 100, seed * 100 + arguments.readers)]
    for thread in threads:
        thread.start()
    race.write(arguments.writes, seed)
    for thread in threads:
        thread.join()
    race.writer.verify()
    for tally in tallies:
        counts.update(tally)
    counts["retry_count"] = reader.retry_count
    return counts


def run_canary(name: str) -> None:
    """Does the one wrong thing that a sanitizer must report."""
    race = make_race(0)
    if name == "heap":
        race_driver.overrun(24)
    elif name == "shift":
        race_driver.shift_too_far(1, 40)
    elif name == "plain":
        pair = [threading.Thread(target=race.count_plainly, args=(1_000_000,)) for _ in range(2)]
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
    else:
        looking = threading.Thread(target=race.read_plainly, args=(20_000_000,))
        looking.start()
        race.write(20_000, 1)
        looking.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--writes", type=int, default=300_000, help="log entries of one round")
    parser.add_argument("--reads", type=int, default=1, help="rounds go on to so many")
    parser.add_argument("--readers", type=int, default=2, help="threads")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quarantine", type=int, default=0)
    parser.add_argument("--canary", choices=("heap", "shift", "plain", "map"))
    arguments = parser.parse_args()
    builds.check_origin()
    if arguments.canary:
        run_canary(arguments.canary)
        return 0
    counts: Counter[str] = Counter()
    round_count = 0
    began = time.monotonic()
    while counts["read_count"] < arguments.reads and not any(counts[name] for name in WRONG):
        counts += run_round(arguments, arguments.seed + round_count)
        round_count += 1
    seconds = time.monotonic() - began
    if wrong := {name: counts[name] for name in WRONG if counts[name]}:
        print(f"VIOLATED races after {counts['read_count']} executions: {wrong}")
        return EXIT_VIOLATED
    percent = 100 * counts["retry_count"] / counts["read_count"]
    print(f"{counts['read_count']} reads during {round_count * arguments.writes} writes in "
          f"{seconds:.1f} s, {counts['retry_count']} retries ({percent:.2f} %), "
          f"{counts['contended_count']} gave up, none wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
