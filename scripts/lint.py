"""`make lint`: style, types, stubs against the compiled modules, and the compilers' warnings.

Runs every check even where one fails, and ends with which did. The compilers' part translates all
of `_core` anew into a folder of its own: a warning of Cython's, a performance hint, or a warning
of the C compiler's about our own headers counts as an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
#: Cython's words for what it would have us know, and the C compiler's.
WARNING = re.compile(r"^(?:warning: |performance hint: )|: warning: ")


def run(*command: str) -> bool:
    return subprocess.run([PYTHON, "-m", *command], cwd=ROOT).returncode == 0


def style() -> bool:
    return run("ruff", "check", ".")


def types() -> bool:
    return run("mypy")


def stubs() -> bool:
    """Each stub says exactly what its compiled module has."""
    modules = [f"seafoam._core.{path.stem}" for path in sorted(ROOT.glob("seafoam/_core/*.pyx"))]
    allowed = ROOT / "scripts" / "stubtest-allowed.txt"
    return run("mypy.stubtest", "--concise", "--ignore-disjoint-bases",
               "--ignore-unused-allowlist",
               "--allowlist", str(allowed), *modules)


def compilers() -> bool:
    """A build from nothing, in a folder of its own, that says nothing."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [PYTHON, "setup.py", "build_ext", "--force",
             "--build-lib", f"{folder}/lib", "--build-temp", f"{folder}/temp"],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "SEAFOAM_BUILD": "lint"},
        )
    said = done.stdout.splitlines()
    warnings = [line for line in said if WARNING.search(line)]
    print("\n".join(warnings or (said[-20:] if done.returncode else ["the compilers are silent"])))
    return done.returncode == 0 and not warnings


def main() -> int:
    checks = (style, types, stubs, compilers)
    wanted = sys.argv[1:] or [check.__name__ for check in checks]
    failed = [check.__name__ for check in checks if check.__name__ in wanted and not check()]
    print("lint: " + (f"{', '.join(failed)} failed" if failed else "all is well"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
