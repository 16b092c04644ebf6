"""Builds the map for the checker and runs the scenarios in processes of their own.

Owns build/lib-model and build/model-lenient. The map's readers have two ways to take a hit, one of
them only after many retries; a second build takes it at once, so that it is explored as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import builds
from planting import Edit, sync_tree

LENIENT = (Edit("seafoam/_core/map_reader.pyx", "    LENIENT_ATTEMPTS = 64\n",
                "    LENIENT_ATTEMPTS = 0\n"),)


def build_variant(variant: str) -> Path:
    """Builds "strict" (the tree as it is) or "lenient"; the root it was built from."""
    builds.build("model", builds.map_modules())
    if variant == "strict":
        return builds.ROOT
    root = builds.ROOT / "build" / "model-lenient"
    sync_tree(root, LENIENT)
    builds.seed("model", root)
    builds.build("model", builds.map_modules(), root=root)
    return root


def run_variant(variant: str, arguments: list[str]) -> int:
    """Runs model.child on it; its exit code."""
    root = build_variant(variant)
    return subprocess.run([sys.executable, "-m", "model.child", *arguments],
                          cwd=builds.library_folder("model", root),
                          env=builds.environment_for("model", root), check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m tests.model",
        epilog="Other arguments (scenario names, --seed, --executions) go to model.child.")
    parser.add_argument("--variant", choices=("strict", "lenient"), help="only this build")
    arguments, others = parser.parse_known_args()
    code = 0
    for variant in (arguments.variant,) if arguments.variant else ("strict", "lenient"):
        print(f"--- {variant}", flush=True)
        code = code or run_variant(variant, others)
    return code
