"""Clusters that are founded in every order, and written to while their leaders are killed.

Short by default; with SEAFOAM_SOAK=1 each takes minutes. The prints say what was done.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import time

from cluster_load import Load
from cluster_support import Cluster, wait_until

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
FOUNDINGS = 30 if SOAK else 2
DELAY_SECONDS_MAX = 5.0 if SOAK else 0.4
LEADER_KILLS = 100 if SOAK else 3
#: Acknowledged writes between two kills.
WRITES_MIN, WRITES_MAX = (50, 600) if SOAK else (30, 150)
PAUSES = 30 if SOAK else 1
#: Acknowledged writes while a node stands still: some seconds of them.
PAUSED_WRITES = 1500


def test_in_any_order_with_any_delays_and_a_kill_in_between_they_found_one_cluster(tmp_path):
    orders = list(itertools.permutations(range(3)))
    took = []
    for number in range(FOUNDINGS):
        luck = random.Random(number)
        with Cluster(tmp_path / str(number)) as cluster:
            start_in_order(cluster, orders[number * 5 % 6], luck)
            began = time.monotonic()
            for node in cluster.nodes:
                node.wait_until_ready()
            took.append(time.monotonic() - began)
            cluster.wait_until_members(3)
            statuses = [node.status for node in cluster.nodes]
            assert len({status["cluster_id"] for status in statuses}) == 1, cluster.tail()
            logs = "".join(path.read_text() for path in cluster.folder.glob("*.log"))
            entered = set(re.findall(r"cluster ([0-9a-f]{16}); its data is in", logs))
            assert entered == {statuses[0]["cluster_id"]}, "never two, not for a moment"
            for at, node in enumerate(cluster.nodes):
                node.set(f"k{at}", number)
            assert cluster.wait_until_equal() == {f"k{at}": number for at in range(3)}
    print(f"{FOUNDINGS} foundings with a kill and a restart in each, one cluster of three voters "
          f"each; all served {max(took):.1f} s after the last start or restart, at the latest")


def start_in_order(cluster, order, luck):
    """Start all, each after a delay, and kill and restart one of them somewhere in between."""
    delays = [0.0, *(luck.uniform(0, DELAY_SECONDS_MAX) for _ in order[1:])]
    starts = list(zip(itertools.accumulate(delays), order, strict=True))
    victim_at, victim = starts[luck.randrange(3)]
    killed_at = victim_at + luck.uniform(0, DELAY_SECONDS_MAX + 4.0)
    again_at = killed_at + luck.uniform(0, 2.0 if SOAK else 0.3)
    plan = [(at, "launch", node) for at, node in starts]
    plan += [(killed_at, "kill", victim), (again_at, "launch", victim)]
    began = time.monotonic()
    for at, what, node in sorted(plan):
        time.sleep(max(0.0, began + at - time.monotonic()))  # delays are what is tried here
        getattr(cluster.nodes[node], what)()


def test_no_acknowledged_write_is_lost_by_kills_of_the_leader(tmp_path):
    luck = random.Random(1)
    with Cluster(tmp_path / "nodes") as cluster:
        cluster.start()
        with Load(cluster.nodes, seed=2) as load:
            for number in range(LEADER_KILLS):
                load.wait_for(luck.randrange(WRITES_MIN, WRITES_MAX))
                kill_the_leader(cluster, load, luck)
                if SOAK and number % 10 == 9:
                    print(f"{number + 1} kills: {dict(load.outcomes)}", flush=True)
            load.wait_for(WRITES_MIN)
            cluster.kill()
        cluster.start()
        found = cluster.wait_until_equal()
        load.check(found)
        term = cluster.leader().status["term"]
    outcomes = load.outcomes
    print(f"{LEADER_KILLS} kills of the leader and one of all three, term {term}: "
          f"{outcomes['done']} writes acknowledged, none lost; {outcomes['no']} certainly not "
          f"applied, none found; {outcomes['unknown']} unknown; {len(found)} keys, equal on all")
    assert outcomes["done"] >= LEADER_KILLS * WRITES_MIN and outcomes["unknown"] > 0
    assert term > LEADER_KILLS


def kill_the_leader(cluster, load, luck):
    """Writes go on without it; then it comes back, and is waited for or not."""
    leader = cluster.leader()
    leader.kill()
    load.forget()
    load.wait_for(luck.choice([1, 20]))
    leader.launch()
    if luck.random() < 0.7:
        leader.wait_until_ready()
    else:
        wait_until(lambda: leader.try_ask("/livez")[0] == 200, lambda: cluster.tail())


def test_a_leader_that_stands_still_under_load_is_followed_by_another_and_steps_down(tmp_path):
    with Cluster(tmp_path / "nodes") as cluster:
        cluster.start()
        apart = cluster.followers()
        with Load(cluster.nodes, seed=3, apart=apart) as load:
            for _ in range(PAUSES):
                leader, apart[:] = cluster.leader(), cluster.followers()
                load.wait_for(WRITES_MIN)
                term, first_line = leader.status["term"], len(leader.said)
                with leader.paused():
                    load.forget()
                    load.wait_for(PAUSED_WRITES)
                    between = [node.status for node in apart]
                assert [status["role"] for status in between].count("leader") == 1
                assert all(status["term"] > term for status in between)
                line = leader.wait_until_it_says(r"(follower|leader) in term", first_line)
                assert "follower in term" in line and int(line.split()[-1]) > term
                load.wait_for(WRITES_MIN)
        print_outcomes("leader", cluster, load)


def test_a_follower_that_stands_still_under_load_catches_up(tmp_path):
    with Cluster(tmp_path / "nodes") as cluster:
        cluster.start()
        apart = cluster.followers()
        with Load(cluster.nodes, seed=4, apart=apart) as load:
            for at in range(PAUSES):
                paused = cluster.followers()[at % 2]
                apart[:] = [node for node in cluster.nodes if node is not paused]
                load.wait_for(WRITES_MIN)
                with paused.paused():
                    load.forget()
                    load.wait_for(PAUSED_WRITES)
                load.wait_for(WRITES_MIN)
        print_outcomes("follower", cluster, load)


def print_outcomes(whose, cluster, load):
    """What is left of the writes, which must be what it should, and equal on all nodes."""
    found = cluster.wait_until_equal()
    load.check(found)
    outcomes = load.outcomes
    print(f"{PAUSES} times the {whose} stood still: {outcomes['done']} writes acknowledged, none "
          f"lost; {outcomes['no']} certainly not applied, none found; {outcomes['unknown']} "
          f"unknown; {len(found)} keys, equal on all")
    assert outcomes["done"] >= PAUSES * PAUSED_WRITES
