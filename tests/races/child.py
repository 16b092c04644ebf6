"""Runs the race driver of one build in this process: `python -m races.child`.

Exits with 3 where a reader saw what was never written. One thread writes, the others read, none
of them with the GIL; all use the writer's mapping, which ThreadSanitizer builds need.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
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


def run(race: Any, arguments: argparse.Namespace) -> dict[str, int]:
    """Writer and readers at once; the readers' counts added up, and their retries."""
    reader = race.writer.reader()
    tallies: list[dict[str, int]] = []
    threads = [threading.Thread(target=lambda seed=seed: tallies.append(
        race.read(reader, arguments.reads // arguments.readers, seed)))
        for seed in range(1, arguments.readers + 1)]
    for thread in threads:
        thread.start()
    race.write(arguments.writes, arguments.seed)
    for thread in threads:
        thread.join()
    counts = {name: sum(tally[name] for tally in tallies) for name in tallies[0]}
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
    parser.add_argument("--writes", type=int, default=300_000, help="log entries")
    parser.add_argument("--reads", type=int, default=0, help="at least so many, all readers'")
    parser.add_argument("--readers", type=int, default=2, help="threads")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quarantine", type=int, default=0)
    parser.add_argument("--canary", choices=("heap", "shift", "plain", "map"))
    arguments = parser.parse_args()
    builds.check_origin()
    if arguments.canary:
        run_canary(arguments.canary)
        return 0
    race = make_race(arguments.quarantine)
    began = time.monotonic()
    counts = run(race, arguments)
    seconds = time.monotonic() - began
    race.writer.verify()
    wrong = {name: counts[name] for name in WRONG if counts[name]}
    if wrong:
        print(f"VIOLATED races after {counts['read_count']} executions: {wrong}")
        return EXIT_VIOLATED
    percent = 100 * counts["retry_count"] / counts["read_count"]
    print(f"{counts['read_count']} reads during {arguments.writes} writes in {seconds:.1f} s, "
          f"{counts['retry_count']} retries ({percent:.2f} %), "
          f"{counts['contended_count']} gave up, none wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
