"""Snapshots on real processes: taken under load, read at a start, and sent to members that are
too far behind for the log."""

from __future__ import annotations

import threading

import pytest

from cluster_support import Cluster, wait_until
from processes import NodeProcess, call

#: The least there may be: a snapshot after every few hundred writes.
OFTEN = ("--snapshot-log", "64K")
#: Some segments' worth, so that the front of the log can go.
SEGMENTS_BYTES = 3 * 64 * 1024 * 1024
LARGE = "x" * 1_000_000


def snapshot(node):
    return node.ask("/status")[1]["snapshot"]


def write(node, count, *, prefix="key", value="v" * 300):
    """Writes one after another on one connection; what they leave."""
    connection = node.connect()
    held = {}
    for at in range(count):
        name = f"{prefix} {at % 200}"
        held[name] = [at, value]
        status, answer = call(connection, "/set", {"key": name, "value": held[name]})
        assert status == 200, answer
    connection.close()
    return held


def test_a_node_starts_from_its_snapshot_and_the_log_behind_it(tmp_path):
    with NodeProcess(tmp_path / "data", *OFTEN) as node:
        held = write(node, 1_000)
        wait_until(lambda: snapshot(node)["taken"] >= 2, lambda: node.said)
        held |= write(node, 30, prefix="behind")
        index = node.ask("/status")[1]["applied_index"]
        versions = node.call("/get", {"keys": sorted(held)})[1]["versions"]
        node.kill()
        node.start()
        assert snapshot(node)["index"] > 0
        answer = node.call("/get", {"keys": sorted(held)})[1]
        assert dict(zip(sorted(held), answer["values"], strict=True)) == held
        assert answer["versions"] == versions
        assert node.ask("/status")[1]["applied_index"] >= index


def test_writes_and_reads_go_on_while_snapshots_are_taken(tmp_path):
    with NodeProcess(tmp_path / "data", *OFTEN) as node:
        failed = []

        def read():
            connection = node.connect()
            while not failed and not done.is_set():
                status, answer = call(connection, "/get", {"keys": ["key 1", "key 2"]})
                if status != 200:
                    failed.append(answer)
            connection.close()

        done = threading.Event()
        reader = threading.Thread(target=read)
        reader.start()
        held = write(node, 1_500)
        done.set()
        reader.join()
        assert not failed
        assert snapshot(node)["taken"] >= 3
        assert node.get_many(sorted(held)) == [held[key] for key in sorted(held)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("cluster") / "nodes") as cluster:
        for node in cluster.nodes:
            node._more = ("--snapshot-log", "32M")
        yield cluster.start()


def fill(node):
    """So much that the front of every log can go; what it leaves."""
    connection = node.connect()
    for at in range(SEGMENTS_BYTES // len(LARGE)):
        status, answer = call(connection, "/set", {"key": f"large {at % 20}", "value": LARGE})
        assert status == 200, answer
    connection.close()


def test_a_member_that_is_too_far_behind_is_sent_a_snapshot(cluster):
    leader = cluster.leader()
    behind = next(node for node in cluster.nodes if node is not leader)
    leader.set("before", 1)
    behind.kill()
    fill(leader)
    leader.set("after", 2)
    leader.wait_until_it_says("snapshot at index")
    behind.start()
    behind.wait_until_it_says("installing a snapshot at index")
    index = leader.set("last", 3)
    wait_until(lambda: behind.status["applied_index"] >= index, lambda: behind.said[-20:])
    held = cluster.wait_until_equal()
    assert (held["before"], held["after"], held["last"]) == (1, 2, 3)
    assert len(list((leader.data_dir / "wal").iterdir())) < 6, "the log's front goes"
    # It goes on from there, also after a kill.
    behind.kill()
    behind.start()
    assert cluster.wait_until_equal()["after"] == 2
    assert behind.set("through it", 4) > index


def test_a_wiped_member_comes_back_by_a_snapshot(cluster):
    leader = cluster.leader()
    wiped = next(node for node in cluster.nodes if node is not leader)
    wiped.kill()
    wiped.wipe()
    wiped.start()
    wiped.wait_until_it_says("installing a snapshot at index")
    cluster.wait_until_members(3)
    cluster.wait_until_equal()


def test_a_snapshot_on_its_way_survives_the_end_of_its_leader(cluster):
    """Whoever leads next sends its own."""
    leader = cluster.leader()
    behind = next(node for node in cluster.nodes if node is not leader)
    behind.kill()
    behind.wipe()
    behind.launch()
    leader.wait_until_it_says("needs a snapshot", len(leader.said) - 1)
    leader.kill()
    leader.launch()
    behind.wait_until_it_says("installing a snapshot at index")
    for node in cluster.nodes:
        node.wait_until_ready()
    cluster.wait_until_equal()
