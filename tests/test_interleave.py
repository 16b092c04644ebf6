"""The real map under every order of memory that C11 allows, and at full speed.

`python -m tests.model` is the whole of the first, `python -m tests.races` the second; see
tests/model/checker.c for what is explored and why one reader stands for any number of them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from model.hashing import siphash13
from model.scenarios import SCENARIOS
from seafoam._core import map_layout

ROOT = Path(__file__).resolve().parent.parent
SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
#: A quarter of the whole exploration's time, for little more than what the others explore.
LONG = {"split_and_write"}


def run(*command: str, seconds: int) -> str:
    """A tool of this folder, in a process of its own; what it printed."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.mark.parametrize("variant", ["strict", "lenient"])
def test_every_scenario(variant: str) -> None:
    names = [name for name in [*SCENARIOS, "damaged"] if SOAK or name not in LONG]
    output = run("tests.model", "--variant", variant, *names, seconds=3600)
    assert "CUT SHORT" not in output
    assert output.count("(all paths)") >= len(names) - 5
    print(output)


@pytest.mark.parametrize("variant", ["strict", "lenient"])
def test_random_histories(variant: str) -> None:
    count = 20_000 if SOAK else 60
    output = run("tests.model", "--variant", variant, "--fuzz", str(count), seconds=7200)
    assert f"{count * 300} executions, none violated" in output


def test_readers_at_full_speed() -> None:
    """Values that betray tearing, pairs that must agree, keys that must be there; quarantine 0."""
    reads = 1_000_000_000 if SOAK else 500_000
    output = run("tests.races", "--reads", str(reads), "--writes", "1000000", seconds=36_000)
    told = re.search(r"(\d+) reads during .* \(([\d.]+) %\)", output)
    assert told and int(told[1]) >= reads, output
    if SOAK:
        assert float(told[2]) >= 1, output
    print(output)


def test_keys_are_chosen_with_the_same_hash() -> None:
    """The scenarios' own SipHash-1-3 is the map's; what meets in a bucket was meant to."""
    for length in range(40):
        key = bytes(range(length))
        assert siphash13(bytes(range(16)), key) == map_layout.hash_of(bytes(range(16)), key)
