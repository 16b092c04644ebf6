"""Builds the map and the race driver and runs them: in threads, as fast as the machine goes.

Owns build/lib-release. Arguments go to races.child.
"""

from __future__ import annotations

import subprocess
import sys

import builds

RACE_DRIVER = "tests/races/race_driver.pyx"


def main() -> int:
    builds.build("release", builds.map_modules(), (RACE_DRIVER,))
    return subprocess.run([sys.executable, "-m", "races.child", *sys.argv[1:]],
                          cwd=builds.library_folder("release"),
                          env=builds.environment_for("release"), check=False).returncode
