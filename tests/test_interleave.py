"""The map's reads under every order of memory accesses that C11 allows them (tests/model)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("variant", ["strict", "lenient"])
def test_no_order_of_accesses_shows_a_reader_what_never_was(variant):
    done = subprocess.run(
        [sys.executable, "-m", "tests.model", "--variant", variant],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "executions, none violated" in done.stdout
    assert "(all paths)" in done.stdout
