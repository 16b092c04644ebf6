"""Builds the cores with a sanitizer and runs them; first it must find a bug planted for it.

Owns nothing but build/lib-asan and build/lib-tsan. A run whose canaries were not reported is
void: a sanitizer that sees nothing finds nothing.

asan    AddressSanitizer and UndefinedBehaviorSanitizer, over the tests of every compiled module
tsan    ThreadSanitizer, over the race runs (one writer, readers in threads of their own, none of
        them holding the GIL, all on the writer's mapping), the disk thread's tests, and a
        snapshot that is read while the map is written
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import builds

RACE_DRIVER = "tests/races/race_driver.pyx"
#: The library that must be loaded first, and, for each canary, words of the report it must cause.
PRELOAD = {"asan": "libasan.so", "tsan": "libtsan.so"}
CANARIES = {
    "asan": {"heap": "heap-buffer-overflow", "shift": "shift exponent"},
    "tsan": {"plain": "data race", "map": "data race"},
}
SECONDS_MAX = 1500


def sanitizer_environment(mode: str) -> dict[str, str]:
    """The environment for a Python that is not instrumented itself but loads modules that are."""
    compiler = os.environ.get("CC", "gcc")
    library = subprocess.run([compiler, f"-print-file-name={PRELOAD[mode]}"],
                             check=True, text=True,
                             stdout=subprocess.PIPE).stdout.strip()
    if not Path(library).is_absolute():
        raise builds.BuildFailed(f"{compiler} has no {PRELOAD[mode]}")
    return dict(
        builds.environment_for(mode),
        LD_PRELOAD=library,
        PYTHONMALLOC="malloc",
        # Leaks: the interpreter leaves much behind on purpose. odr: modules share Cython's names.
        ASAN_OPTIONS="detect_leaks=0:detect_odr_violation=0:allocator_may_return_null=1:"
                     "exitcode=66",
        UBSAN_OPTIONS="print_stacktrace=1:exitcode=66",
        TSAN_OPTIONS="exitcode=66:halt_on_error=0:second_deadlock_stack=1:history_size=4",
    )


def child(command: list[str], mode: str) -> tuple[int, str]:
    """Runs Python in the mode; (exit code, output). Too late is exit code 124."""
    try:
        done = subprocess.run([sys.executable, *command], cwd=builds.library_folder(mode),
                              env=sanitizer_environment(mode), text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=SECONDS_MAX)
    except subprocess.TimeoutExpired:
        return 124, f"no end within {SECONDS_MAX} s"
    return done.returncode, done.stdout


def canaries_seen(mode: str) -> bool:
    """Each planted bug must be reported, in a process of its own."""
    for name, words in CANARIES[mode].items():
        code, output = child(["-m", "races.child", "--canary", name], mode)
        if code != 66 or words not in output:
            print(f"canary {name}: not reported (exit {code}); the run is void\n{output[-2000:]}")
            return False
        print(f"canary {name}: reported as {words!r}")
    return True


def core_tests() -> list[str]:
    """The tests that are named for a compiled module."""
    modules = sorted(path.stem for path in (builds.ROOT / "seafoam" / "_core").glob("*.pyx"))
    return [str(path) for module in modules
            for path in sorted((builds.ROOT / "tests").glob(f"test_{module}*.py"))]


def run_tests(mode: str, tests: list[str]) -> bool:
    """Pytest over these; prints its closing line, and all of it where it failed."""
    # The conftest brings in modules that the thread sanitizer's build leaves out.
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "sanitizers.plugin",
               *(["--noconftest"] if mode == "tsan" else []),
               "-c", str(builds.ROOT / "pyproject.toml"), f"--rootdir={builds.ROOT}", *tests]
    began = time.monotonic()
    code, output = child(command, mode)
    print(output[-6000:] if code else output.strip().splitlines()[-1],
          f"({mode}, {time.monotonic() - began:.0f} s)")
    return code == 0


def run_races(mode: str, arguments: list[str]) -> bool:
    """The race runs; any report of the sanitizer makes the exit code 66."""
    began = time.monotonic()
    code, output = child(["-m", "races.child", *arguments], mode)
    took = f"({mode}, {time.monotonic() - began:.0f} s)"
    print(output[-6000:] if code else output.strip(), took)
    return code == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.sanitizers",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=sorted(PRELOAD))
    parser.add_argument("tests", nargs="*", help="asan: these tests instead of all the cores'")
    parser.add_argument("--writes", type=int, default=60_000, help="tsan: writes in each run")
    arguments = parser.parse_args()
    modules = (*builds.map_modules(), "disk_loop") if arguments.mode == "tsan" else ()
    builds.build(arguments.mode, modules, (RACE_DRIVER,))
    if not canaries_seen(arguments.mode):
        return 2
    if arguments.mode == "tsan":
        threads = [str(builds.ROOT / "tests" / "test_disk_loop.py"),
                   str(builds.ROOT / "tests" / "test_map_snapshot.py::test_a_thread_reads_while_"
                       "the_writer_writes_at_full_speed")]
        return 0 if (run_races("tsan", ["--writes", str(arguments.writes)])
                     and run_tests("tsan", threads)) else 1
    tests = [str(Path(name).resolve()) for name in arguments.tests] or core_tests()
    return 0 if run_tests("asan", tests) else 1
