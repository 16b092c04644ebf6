"""Bugs planted in the shared map are found; `python -m tests.strength` plants all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from planting import Edit, changed
from strength.mutants import MUTANTS, QUICK, Mutant

ROOT = Path(__file__).resolve().parent.parent
SOAK = os.environ.get("SEAFOAM_SOAK") == "1"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_fits_the_source(mutant: Mutant) -> None:
    """A bug whose place in the source has changed must be planted anew, not skipped."""
    texts = changed(mutant.edits)
    assert texts
    for path, text in texts.items():
        assert text != (ROOT / path).read_text(encoding="utf-8")


def test_names_are_told_apart() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names) >= 40
    assert set(QUICK) <= set(names)


def test_an_edit_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(LookupError, match="0 times"):
        changed((Edit("seafoam/_core/atomics.h", "what nobody would write there", ""),))
    with pytest.raises(LookupError, match="not once"):
        changed((Edit("seafoam/_core/atomics.h", "static inline", ""),))


def test_planted_bugs_are_caught() -> None:
    """A few of them in every run, all of them in the long one."""
    names = [] if SOAK else list(QUICK)
    done = subprocess.run([sys.executable, "-m", "tests.strength", *names], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=3600,
                          check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
    count = len(names) or len(MUTANTS)
    assert re.search(rf"^{count} of {count} mutants caught in ", done.stdout, re.MULTILINE)
