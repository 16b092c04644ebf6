"""Three nodes on one machine: durable writes beside etcd's, and how long a leader is missed."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import statistics
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bench_cluster import Entrance, WriteLoad, etcd_cluster, seafoam_cluster, write_keys
from bench_figures import Row, Table, alternate, bound_row, faster_row, per_second, sized
from cluster_support import Cluster, ClusterNode
from test_wal import file_system, folder  # noqa: F401 (a fixture)

KEYS = sized(10_000, 100)
#: Connections -> writes of one round, some seconds' worth.
WRITES = {16: sized(5_000, 200), 64: sized(10_000, 300), 256: sized(15_000, 600)}
ROUNDS = sized(5, 1)
RATIO_MIN = 5.0
FOLLOWER_RATIO_MIN = 0.7
KILLS = sized(100, 2)
#: Of 100 kills, half and 98 are over within these.
MEDIAN_SECONDS_MAX = 0.7
P98_SECONDS_MAX = 1.2
#: No figure; it ends a bench that has gone wrong.
PATIENCE_SECONDS = 30.0


def median(load: WriteLoad, name: str) -> float:
    """Of the measured rounds; the first warmed up."""
    return statistics.median(figures[name] for figures in load.figures[1:])


def compare(
    benchmark: Any, folder: Path, pair: tuple[Entrance, Entrance], connections: int  # noqa: F811
) -> tuple[tuple[str, str], tuple[float, str]]:
    """Both sides' rates as text, and how many times the second the first is."""
    with ExitStack() as stack:
        loads = []
        for entrance in pair:
            load = WriteLoad(folder, entrance, connections)
            stack.callback(load.close)
            loads.append(load)
        ours, theirs = loads
        writes = WRITES[connections]
        measured = alternate(
            benchmark, lambda: ours.run(writes), lambda: theirs.run(writes), rounds=ROUNDS
        )
    benchmark.extra_info.update(load=ours.figures[1:], reference_load=theirs.figures[1:])
    texts = [
        f"{entrance.name} {per_second(writes, took)}, p50 {median(load, 'p50_ns') / 1e6:.1f} ms, "
        f"p99 {median(load, 'p99_ns') / 1e6:.1f} ms"
        for entrance, load, took in (
            (pair[0], ours, measured.subject_seconds),
            (pair[1], theirs, measured.reference_seconds),
        )
    ]
    return (texts[0], texts[1]), (measured.speedup, measured.spread())


@pytest.mark.parametrize("connections", list(WRITES))
def test_durable_writes(
    benchmark: Any, table: Table, folder: Path, connections: int  # noqa: F811
) -> None:
    what = f"durable writes, 3 nodes, {connections} connections"
    kind = file_system(folder)
    if kind in ("tmpfs", "ramfs", ""):
        table.missing(what, "disk", f"{folder} is on {kind or 'an unknown file system'}")
        return
    if shutil.which("etcd") is None:
        table.missing(what, "etcd", "etcd is not installed (apt-get install etcd-server)")
        return
    write_keys(folder, KEYS)
    with seafoam_cluster(folder) as (leader, _), etcd_cluster(folder) as etcd:
        texts, ratio = compare(benchmark, folder, (leader, etcd), connections)
    table.add(faster_row(what, texts, ratio, RATIO_MIN if connections == 64 else None), benchmark)


def test_durable_writes_through_a_follower(
    benchmark: Any, table: Table, folder: Path  # noqa: F811
) -> None:
    write_keys(folder, KEYS)
    with seafoam_cluster(folder) as (leader, follower):
        texts, ratio = compare(benchmark, folder, (follower, leader), 64)
    what = "durable writes through a follower, 64 connections"
    table.add(faster_row(what, texts, ratio, FOLLOWER_RATIO_MIN), benchmark)


def test_failover(benchmark: Any, table: Table, folder: Path) -> None:  # noqa: F811
    took: list[float] = []
    with Cluster(folder / "seafoam") as cluster:
        cluster.start()

        def kill() -> tuple[tuple[()], dict[str, object]]:
            cluster.start()
            cluster.wait_until_equal()
            took.append(seconds_without_a_leader(cluster, len(took)))
            return (), {}

        # pytest-benchmark's clock would count the restarts; ours stands between.
        benchmark.pedantic(lambda: None, setup=kill, rounds=KILLS)
    ordered = sorted(took)
    benchmark.extra_info["seconds"] = took
    p98 = ordered[-(-len(ordered) * 98 // 100) - 1]
    half = statistics.median(ordered)
    what = f"kill -9 of the leader to the first acknowledged write, {KILLS} times"
    table.add(Row(what, f"least {ordered[0]:.2f} s, most {ordered[-1]:.2f} s"), benchmark)
    table.add(bound_row(f"{what}: p50", f"{half:.2f} s", (half, MEDIAN_SECONDS_MAX),
                        f"<= {MEDIAN_SECONDS_MAX} s"), benchmark)
    table.add(bound_row(f"{what}: p98", f"{p98:.2f} s", (p98, P98_SECONDS_MAX),
                        f"<= {P98_SECONDS_MAX} s"), benchmark)


def seconds_without_a_leader(cluster: Cluster, number: int) -> float:
    """From the signal to the first answer to a write that was sent to a survivor behind it."""
    leader, survivors = cluster.leader(), cluster.followers()
    answered: list[float] = []
    connections = [connected(node) for node in survivors]
    is_answered = threading.Event()
    body = json.dumps({"key": f"failover/{number}", "value": 1, "timeout_ms": 20_000})

    def write(connection: http.client.HTTPConnection) -> None:
        connection.request("POST", "/set", body)
        response = connection.getresponse()
        text = response.read()
        answered.append(time.perf_counter())
        is_answered.set()
        assert response.status == 200, text

    began = time.perf_counter()
    os.kill(leader.process.pid, signal.SIGKILL)
    threads = [threading.Thread(target=write, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    assert is_answered.wait(PATIENCE_SECONDS), "no write was acknowledged"
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    leader.process.wait()
    for connection in connections:
        connection.close()
    return answered[0] - began


def connected(node: ClusterNode) -> http.client.HTTPConnection:
    """A connection that is there already."""
    connection = http.client.HTTPConnection(node.address, timeout=PATIENCE_SECONDS)
    connection.connect()
    return connection
