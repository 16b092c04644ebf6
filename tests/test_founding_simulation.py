"""Foundings in a world that goes wrong: never two clusters, and one in the end.

A seed that fails is replayed exactly by `run_seed(seed)`. SEAFOAM_SOAK=1 runs many more.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from itertools import permutations

import pytest

import founding_planted
import founding_support
import test_founding
from founding_world import Host, Violation, World, run_seed
from seafoam.founding import Founding

SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
SEEDS = 60_000 if SOAK else 500
#: What must have happened in the seeds that are run; else they show nothing.
HAPPENED = ("Found", "Adopt", "Join", "proposed", "promised", "aborted", "released", "crashes",
            "crashes at a write", "cuts", "lost", "doubled")
PORTS = (3010, 5010, 6010)
#: Each planted bug that worlds catch soon, and a seed not far before one that does.
PLANTED = {
    "PromisesWithoutDisk": 10,
    "TellsBeforeWritten": 1130,
    "DecidesBeforeAllPromised": 487,
    "ReleasesWithoutWord": 363,
    "CountsAnewAfterStart": 703,
    "ProposesWhatIsNotThere": 0,
    "NeverAborts": 0,
    "FoundsBeforeWritten": 0,
    "AnybodyFounds": 385,
}


def test_random_worlds_end_in_one_cluster(capsys):
    counts: Counter[str] = Counter()
    for seed in range(SEEDS):
        try:
            counts += run_seed(seed).counts
        except Exception as error:
            raise Violation(f"seed {seed}: {error}") from error
    with capsys.disabled():
        print(f"\n{SEEDS} foundings: {dict(sorted(counts.items()))}")
    assert [what for what in HAPPENED if not counts[what]] == []


def test_the_same_seed_is_the_same_run():
    for seed in range(0, 40, 3):
        one, other = run_seed(seed), run_seed(seed)
        assert (one.now_ms, one.counts, one.founded) == (other.now_ms, other.counts, other.founded)


def three_hosts(ids=(0xA1, 0xB2, 0xC3)) -> list[Host]:
    """The three commands of the example: the last two name themselves and not the first."""
    peers = ("127.0.0.1:5010", "127.0.0.1:6010")
    return [Host(node_id, (f"127.0.0.1:{port}",), peers)
            for node_id, port in zip(ids, PORTS, strict=True)]


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("ids", list(permutations((0xA1, 0xB2, 0xC3))))
def test_three_commands_in_any_order_with_any_delays_are_one_cluster(order, ids):
    for delays in ((0, 0), (0, 5000), (5000, 5000), (1900, 2100), (2600, 300)):
        hosts = three_hosts(ids)
        world = World(hosts)
        at_ms = 0
        for rank, delay_ms in zip(order, (0, *delays), strict=True):
            at_ms += delay_ms
            world.later(at_ms, partial(world.start, hosts[rank]))
        world.run_until(at_ms)
        world.settle(4000)
        assert len(world.founded) == 1


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_kill_and_a_restart_at_any_moment_change_nothing(order):
    for kill_ms in range(0, 4200, 70 if SOAK else 350):
        for victim in range(3):
            hosts = three_hosts()
            world = World(hosts, kill_ms)
            for rank, at in enumerate(order):
                world.later(rank * 400, partial(world.start, hosts[at]))
            world.later(kill_ms, partial(world.crash, hosts[victim]))
            world.run_until(kill_ms)
            world.settle(12_000)
            assert len(world.founded) == 1


def test_lists_without_a_common_node_may_found_two_clusters():
    """What the guarantee asks for is needed: here, two pairs name only each other."""
    hosts = [Host(at, (f"n{at}:1",), (f"n{at ^ 1}:1",)) for at in (2, 3, 4, 5)]
    world = World(hosts)
    for host in hosts:
        world.start(host)
    with pytest.raises(Violation, match="two clusters were founded"):
        world.settle()


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_caught(name):
    planted = getattr(founding_planted, name)
    assert issubclass(planted, Founding)
    first = PLANTED[name]
    for seed in range(first, first + 1200):
        try:
            run_seed(seed, planted)
        except Violation:
            return
    pytest.fail(f"{name} passed 1200 seeds")


@pytest.mark.parametrize(("name", "sentence"), [
    ("PromisesTwice", test_founding.test_there_is_one_promise_whoever_else_proposes),
    ("ReleasesByOldWord",
     test_founding.test_an_older_word_of_the_same_run_that_comes_late_releases_nobody),
])
def test_a_planted_bug_that_takes_too_many_worlds_is_caught_by_its_sentence(
        name, sentence, monkeypatch):
    sentence()
    monkeypatch.setattr(founding_support, "Founding", getattr(founding_planted, name))
    with pytest.raises(AssertionError):
        sentence()


def test_no_planted_bug_is_left_out():
    kinds = {name for name, kind in vars(founding_planted).items()
             if isinstance(kind, type) and issubclass(kind, Founding) and kind is not Founding}
    assert kinds == {*PLANTED, "PromisesTwice", "ReleasesByOldWord"}
