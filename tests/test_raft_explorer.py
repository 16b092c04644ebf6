"""Random walks of three and five machines; the soak walks more of them, and further."""

import os
from collections import Counter

import pytest

from raft_cluster import Cluster
from raft_explorer import Broken, Checker, walk_of

SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
GROUPS = 10
WALKS = 300 if SOAK else 5
EVENTS = 20_000 if SOAK else 4000
#: What the walks must have met, all together: a walk past all dangers shows nothing.
WANTED = ("leaders", "commits", "truncations", "crashes with unsynced writes", "reads", "fetches",
          "configurations", "refused changes", "transfers", "logs dropped", "snapshots sent",
          "snapshots failed", "restores", "late restores", "tails kept", "bases")

met: Counter[str] = Counter()


@pytest.mark.parametrize("group", range(GROUPS))
def test_no_walk_breaks_a_promise(group):
    """3 and 5 nodes, with and without changes of members; logs kept, let go of and dropped."""
    for seed in range(1 + group * WALKS, 1 + (group + 1) * WALKS):
        try:
            met.update(walk_of(seed).run(EVENTS))
        except Exception as error:
            raise AssertionError(f"walk {seed}: python tests/raft_explorer.py {seed} {EVENTS}"
                                 ) from error


def test_the_walks_met_what_they_are_for():
    if not met:
        pytest.skip("no walk was asked for")
    print(dict(met))
    assert [name for name in WANTED if met[name] == 0] == []


def test_a_walk_is_the_same_each_time():
    def lines(seed):
        walk, told = walk_of(seed), []
        walk.cluster.tell = told.append
        walk.run(500)
        return told

    assert lines(6) == lines(6) != lines(7)


def test_the_checker_sees_a_second_leader():
    cluster = Cluster([1, 2, 3])
    checker = Checker(cluster)
    cluster.elect(1)
    checker.after_event()
    checker.leader_of[2] = 3
    with pytest.raises(Broken, match="term 2 has two leaders"):
        checker.after_event()


def test_the_checker_sees_a_leader_that_lacks_a_committed_entry():
    cluster = Cluster([1, 2, 3])
    checker = Checker(cluster)
    checker.committed[2] = 1
    cluster.elect(1)
    with pytest.raises(Broken, match="leader 1 of term 2 lacks 2@1"):
        checker.after_event()


def test_the_checker_sees_a_commit_without_a_majority():
    cluster = Cluster([1, 2, 3])
    checker = Checker(cluster)
    leader = cluster.elect(1)
    for node_id in (2, 3):
        cluster[node_id].disk.entries.pop()
    with pytest.raises(Broken, match=r"committed with \[1\] only"):
        checker.after_event()
    assert leader.raft.log.commit_index == 2
