"""Plants one bug at a time in a copy of the tree and asks the instruments to find it.

Owns build/strength and build/strength-lenient. A bug counts as caught only if the tree with it
still builds, still does a plain set and get, and then fails an instrument that the tree without
it passes. Must never touch the tree it was started from.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import builds
from model.runner import LENIENT
from planting import Edit, changed, sync_tree
from races.runner import RACE_DRIVER
from strength.mutants import MUTANTS, Mutant

#: How the children say that a promise of the map was broken, as against any other failure.
EXIT_VIOLATED = 3
SECONDS_MAX = 240
SMOKE = """
from seafoam._core.map import MapWriter
writer = MapWriter(bytes(16), max_logical_bytes=1 << 24, start_id=1)
reader = writer.reader()
for index in range(1, 201):
    writer.begin(index)
    writer.set(b"key%d" % (index % 50), b"value%d" % index, index)
    writer.end()
    assert reader.get(b"key%d" % (index % 50)) == b"value%d" % index
assert reader.get(b"nothing") is None
writer.begin(201)
assert writer.delete(b"key7")
writer.end()
assert reader.get(b"key7") is None
"""


class NotPlain(Exception):
    """With the bug the map does not even set and get: no test of an instrument."""


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    name: str
    caught_by: str | None
    detail: str
    seconds: float


def child(command: list[str], mode: str, tree: Path) -> tuple[int | None, str]:
    """Runs Python with a mode's modules of the tree; (exit code or None for too late, output)."""
    try:
        done = subprocess.run([sys.executable, *command], cwd=builds.library_folder(mode, tree),
                              env=builds.environment_for(mode, tree), text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return None, f"no end within {SECONDS_MAX} s"
    return done.returncode, done.stdout


def build_for(instrument: str, edits: tuple[Edit, ...]) -> tuple[str, Path]:
    """Builds the tree with these edits for an instrument; the build mode and the tree."""
    if instrument == "lenient":
        # A change to what the variant changes is made on top of it.
        edits = LENIENT + edits
    tree = builds.ROOT / "build" / ("strength-lenient" if instrument == "lenient" else "strength")
    mode = "model" if instrument in ("model", "lenient") else "release"
    extra = (RACE_DRIVER,) if mode == "release" else ()
    sync_tree(tree, edits)
    builds.seed(mode, tree)
    builds.build(mode, builds.map_modules(), extra, root=tree)
    return mode, tree


def run_instrument(call: str, edits: tuple[Edit, ...]) -> tuple[bool, str]:
    """Builds and runs "model:NAMES", "lenient:NAMES", "races:ARGUMENTS" or "pytest:TEST".

    Returns whether a promise was found broken, and how.
    """
    instrument, _, arguments = call.partition(":")
    mode, tree = build_for(instrument, edits)
    code, output = child(["-c", SMOKE], mode, tree)
    if code != 0:
        raise NotPlain(f"a plain set and get fails: {output[-500:]}")
    if instrument == "pytest":
        command = ["-m", "pytest", "-q", "-x", "--noconftest", "-p", "no:cacheprovider", "-c",
                   str(tree / "pyproject.toml"), f"--rootdir={tree}",
                   *(str(tree / "tests" / word) for word in arguments.split())]
        code, output = child(command, mode, tree)
        told = (output.strip().splitlines() or [""])[-1]
        if code is None or code > 1:
            raise NotPlain(f"the tests do not run: {told}")
        return code != 0, told if code >= 0 else f"killed by signal {-code}"
    module = "races.child" if instrument == "races" else "model.child"
    code, output = child(["-m", module, *arguments.split()], mode, tree)
    lines = output.strip().splitlines() or [""]
    told = next((line for line in lines if line.startswith("VIOLATED")), lines[-1])
    if code is not None and code < 0:
        return True, f"killed by signal {-code}"
    return code == EXIT_VIOLATED, told


def judge(mutant: Mutant) -> Outcome:
    """Plants one mutant and asks its instruments in turn."""
    began = time.monotonic()
    detail = ""
    for call in mutant.instruments:
        try:
            caught, detail = run_instrument(call, mutant.edits)
        except (builds.BuildFailed, NotPlain) as failed:
            caught, detail = False, f"{type(failed).__name__}: {failed}"
        if caught:
            return Outcome(mutant.name, call, detail, time.monotonic() - began)
    return Outcome(mutant.name, None, detail, time.monotonic() - began)


def without_bug(mutants: list[Mutant]) -> list[str]:
    """Every instrument that the mutants name must pass on the tree as it is; what failed."""
    failed = []
    for instrument in ("model", "lenient", "races", "pytest"):
        calls = sorted({call for mutant in mutants for call in mutant.instruments
                        if call.startswith(instrument + ":")})
        for call in calls:
            caught, detail = run_instrument(call, ())
            print(f"without a bug: {call:40} {detail[:100]}", flush=True)
            if caught or detail.startswith("no end"):
                failed.append(f"{call}: {detail}")
    return failed


def prepare(mutants: list[Mutant]) -> None:
    """Builds what the copies of the tree begin with, so that each redoes only its own change."""
    for mutant in mutants:
        changed(mutant.edits)  # an edit that no longer fits is found before anything is built
    kinds = {call.partition(":")[0] for mutant in mutants for call in mutant.instruments}
    if kinds & {"model", "lenient"}:
        builds.build("model", builds.map_modules())
    if kinds & {"races", "pytest"}:
        builds.build("release", builds.map_modules(), (RACE_DRIVER,))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.strength")
    parser.add_argument("names", nargs="*", help="mutants (all, if none is named)")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    parser.add_argument("--trust", action="store_true",
                        help="do not check first that the tree without a bug passes")
    arguments = parser.parse_args()
    if arguments.list:
        for mutant in MUTANTS:
            print(f"{mutant.name:36} {mutant.why}")
        return 0
    unknown = set(arguments.names) - {mutant.name for mutant in MUTANTS}
    if unknown:
        parser.error(f"no such mutant: {', '.join(sorted(unknown))}")
    chosen = [mutant for mutant in MUTANTS
              if not arguments.names or mutant.name in arguments.names]
    began = time.monotonic()
    prepare(chosen)
    if not arguments.trust and (failed := without_bug(chosen)):
        print("the tree without any bug fails:", *failed, sep="\n")
        return 2
    caught_count = 0
    for mutant in chosen:
        outcome = judge(mutant)
        caught_count += outcome.caught_by is not None
        verdict = f"caught by {outcome.caught_by}" if outcome.caught_by else "NOT CAUGHT"
        detail = re.sub(r"\s+", " ", outcome.detail)[:160]
        print(f"{outcome.name:36} {verdict}; {detail}; {outcome.seconds:.1f} s", flush=True)
    print(f"{caught_count} of {len(chosen)} mutants caught in {time.monotonic() - began:.0f} s")
    return 0 if caught_count == len(chosen) else 1
