"""Options of the benches, the table at the end, and a quiet interpreter while they run."""

from __future__ import annotations

import gc
import os
import platform
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bench_figures import SMOKE, Table

TABLE = pytest.StashKey[Table]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--without",
        action="append",
        default=[],
        metavar="NAME",
        help="let the reference NAME (lmdb, redis, orjson, ...) be missing: its rows print "
        "NOT MEASURED and do not fail; may be given several times",
    )
    parser.addoption(
        "--bench-folder",
        metavar="FOLDER",
        help="where durable rows write; must be on a real disk (default: pytest's folder)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if not sys.platform.startswith("linux"):
        pytest.exit("the benches pin processes and use epoll: they need Linux", returncode=2)
    # A row whose reference is missing measures nothing; the table says so.
    config.addinivalue_line("filterwarnings", "ignore:Benchmark fixture was not used")
    # Ended from outside, the bench still ends the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))
    config.stash[TABLE] = Table(excused=frozenset(config.getoption("--without")))


@pytest.fixture
def table(pytestconfig: pytest.Config) -> Table:
    """The run's table."""
    return pytestconfig.stash[TABLE]


@pytest.fixture(autouse=True)
def quiet_interpreter() -> Iterator[None]:
    """No garbage collection inside a measurement: it would be charged to whoever allocates."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def one_core() -> Iterator[None]:
    """Keep this thread on one core: a migration between two rounds is no property of either."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table = terminalreporter.config.stash[TABLE]
    if not table.rows:
        return
    write = terminalreporter.write_line
    terminalreporter.section("Seafoam benchmarks")
    write(
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load {os.getloadavg()[0]:.2f}"
    )
    if SMOKE:
        write("smoke sizes: these figures show that the benches run, and nothing else")
    write("")
    for line in table.lines():
        write(line)
