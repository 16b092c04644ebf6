"""Planted bugs of the map (tests/strength): each still fits the source, and a few are caught.

All are tried by ``make strength``, and here with SEAFOAM_SOAK=1.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from planting import changed
from strength.mutants import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
#: A fence, a check of the reader's, an order of the writer's: one of each kind.
SAMPLE = ["acquire-fence-dropped", "level-not-checked", "split-published-first"]


def test_every_planted_bug_still_fits_the_source():
    assert len(MUTANTS) >= 40
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        assert mutant.instruments, mutant.name
        assert changed(mutant.edits), mutant.name


def test_planted_bugs_are_caught():
    names = [] if os.environ.get("SEAFOAM_SOAK") else SAMPLE
    done = subprocess.run(
        [sys.executable, "-m", "tests.strength", *names],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    caught_count = len(names) or len(MUTANTS)
    assert f"{caught_count} of {caught_count} mutants caught" in done.stdout
