"""``POST /get`` over HTTP beside the bare epoll loop and Redis: rate, and the server's CPU time.

One server on one core, the load generator on another, 32 connections, pipeline depth 1 and 16,
random keys out of 100 k. The servers take turns, a fixed number of requests each.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench_figures import SMOKE, Rounds, Table, alternate, faster_row, per_second, sized
from bench_keys import key_of, value_of
from bench_programs import (
    CONNECTIONS,
    Load,
    Server,
    bare_loop,
    compiler,
    one_answer,
    redis,
    seafoam,
)

KEYS = sized(100_000, 1_000)
#: Pipeline depth -> requests of one round, about a second's worth.
REQUESTS = {1: sized(150_000, 1_000), 16: sized(1_000_000, 8_000)}
#: (reference, depth) -> at least so many times its rate, and its requests per CPU second.
TARGETS = {("bare", 1): 0.8, ("bare", 16): 0.65, ("redis", 1): 1.2, ("redis", 16): 1.0}
#: A load generator busier than this limits what it measures.
GENERATOR_SHARE_MAX = 0.9
#: With less of its core, something else than the server sets the rate.
SERVER_SHARE_MIN = 0.9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs, the keys and the node's data are."""
    path = tmp_path_factory.mktemp("http")
    (path / "keys").write_text("".join(key_of(index) + "\n" for index in range(KEYS)))
    return path


@pytest.fixture(scope="module")
def node(folder: Path) -> Iterator[Server]:
    """Seafoam with the keys, on the first core."""
    with seafoam(min(os.sched_getaffinity(0)), folder, KEYS) as server:
        yield server


def median(loads: Load, name: str) -> float:
    """Of the measured rounds; the first warmed up."""
    return statistics.median(figures[name] for figures in loads.figures[1:])


def row_name(depth: int) -> str:
    """What is measured at that depth."""
    return f"POST /get, {CONNECTIONS} connections, depth {depth}"


def reference_missing(reference: str) -> str:
    """Why it cannot be measured here; empty if it can."""
    if compiler() is None:
        return "no C compiler found (apt-get install gcc)"
    if reference == "redis" and shutil.which("redis-server") is None:
        return "redis-server is not installed"
    return ""


def why_void(loads: tuple[Load, Load]) -> str:
    """Why a rate is none of the server's own; empty where it is."""
    generator = max(median(load, "own_share") for load in loads)
    if generator > GENERATOR_SHARE_MAX:
        return f"generator at {generator:.0%} of its core"
    server = min(median(load, "server_share") for load in loads)
    if server < SERVER_SHARE_MIN:
        return f"a server had {server:.0%} of its core"
    return ""


def add_rows(
    benchmark: Any, table: Table, measured: Rounds, loads: tuple[Load, Load], target: float
) -> None:
    """One row by rate, one by the server's CPU time."""
    ours, other = loads
    name, depth = (benchmark.extra_info[key] for key in ("reference", "depth"))
    what = row_name(depth)
    requests = ours.figures[0]["requests"]
    void = "" if SMOKE else why_void(loads)
    texts = [
        f"{per_second(requests, took)}, p99 {median(load, 'p99_ns') / 1e6:.2f} ms, "
        f"core {median(load, 'server_share'):.0%}"
        for load, took in (
            (ours, measured.subject_seconds), (other, measured.reference_seconds),
        )
    ]
    ratio = (measured.speedup, measured.spread())
    pair = (texts[0], f"{name} {texts[1]}")
    table.add(faster_row(f"{what}, rate", pair, ratio, target, void), benchmark)
    costs = [median(load, "server_ns_per_request") for load in loads]
    pair = (f"{costs[0] / 1e3:.2f} us", f"{name} {costs[1] / 1e3:.2f} us")
    ratio = (costs[1] / costs[0], "")
    table.add(faster_row(f"{what}, CPU per request", pair, ratio, target), benchmark)


@pytest.mark.parametrize("depth", list(REQUESTS))
@pytest.mark.parametrize("reference", ["bare", "redis"])
def test_get(
    benchmark: Any, table: Table, folder: Path, node: Server, reference: str, depth: int
) -> None:
    what = row_name(depth)
    reason = reference_missing(reference)
    if reason:
        table.missing(what, reference, reason)
        return
    if not table.has_two_cores(what):
        return
    cores = sorted(os.sched_getaffinity(0))
    answer = one_answer(node, key_of(KEYS // 2))
    assert value_of(KEYS // 2) in answer
    body_bytes = len(answer.partition(b"\r\n\r\n")[2])
    with ExitStack() as stack:
        if reference == "redis":
            other = stack.enter_context(redis(cores[0], folder, KEYS))
            other_bytes = len(value_of(0))
        else:
            other = stack.enter_context(bare_loop(cores[0], folder, answer))
            other_bytes = body_bytes
        benchmark.extra_info.update(reference=other.name, depth=depth)
        loads = []
        for server, size in ((node, body_bytes), (other, other_bytes)):
            # A version has as many digits as its index; nothing else differs between keys.
            load = Load(cores[1], folder, server, depth, range(max(1, size - 8), size + 8))
            stack.callback(load.close)
            loads.append(load)
        ours, theirs = loads
        measured = alternate(
            benchmark, lambda: ours.run(REQUESTS[depth]), lambda: theirs.run(REQUESTS[depth])
        )
        benchmark.extra_info.update(load=ours.figures[1:], reference_load=theirs.figures[1:])
    add_rows(benchmark, table, measured, (ours, theirs), TARGETS[reference, depth])
