"""The simulator holds what it should, replays what it did, and notices what it must not miss."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from seafoam.node import STATE_SERVING, Node
from seafoam.writes import Writes
from sim.clock import MILLISECOND, Timeline
from sim.disk import DiskImage, SimDisk
from sim.invariants import Violation
from sim.model import Model
from sim.runner import MUST_HAPPEN, Verdict, run_seed

ROOT = Path(__file__).resolve().parent.parent
SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
SEEDS = range(1, 2001 if SOAK else 41)
EVENTS_COUNT = 20_000


def pinned() -> list[tuple[int, int, int]]:
    lines = (ROOT / "tests" / "sim" / "pinned.txt").read_text(encoding="utf-8").splitlines()
    cases = [line.split("#")[0].split() for line in lines]
    return [(int(seed), int(nodes), int(events)) for seed, nodes, events in filter(None, cases)]


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    """What happened in the seeds that ran so far."""
    return Counter()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_cluster_holds_and_heals(seed: int, seen: Counter[str]) -> None:
    verdict = run_seed(seed, events_count=EVENTS_COUNT)
    seen += verdict.seen
    assert not verdict.violation, str(verdict)


def test_everything_that_can_happen_happened(seen: Counter[str]) -> None:
    if seen["events"] < len(SEEDS) * EVENTS_COUNT:
        pytest.skip("not all seeds were run")
    assert [name for name in MUST_HAPPEN if not seen[name]] == []


@pytest.mark.parametrize(("seed", "nodes", "events"), pinned())
def test_what_failed_once_holds(seed: int, nodes: int, events: int) -> None:
    verdict = run_seed(seed, nodes, events)
    assert not verdict.violation, str(verdict)


def test_a_seed_is_the_same_run_in_every_process() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-m", "tests.sim", "--seed", "5", "--steps", "8000", "--talk"],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert said[0] == said[1] and "trace" in said[0]


def test_another_seed_is_another_run() -> None:
    hashes = [run_seed(seed, 3, 500).trace_hash for seed in (1, 2)]
    assert hashes[0] != hashes[1]


# -- what it must notice -------------------------------------------------------------------------

def first_violation() -> Verdict:
    """The first run of a few that does not hold."""
    verdicts = (run_seed(seed, 3, 10_000) for seed in range(1, 11))
    return next(verdict for verdict in verdicts if verdict.violation)


def test_it_notices_what_leaves_before_its_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out = Node._carry_out

    def hasty(self: Node, ready) -> None:
        self._send(ready.messages_after_durable)
        ready.messages_after_durable.clear()
        carry_out(self, ready)

    monkeypatch.setattr(Node, "_carry_out", hasty)
    assert "before" in first_violation().violation


def test_it_notices_reads_that_go_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(self: Node, on_serving) -> None:
        start(self, on_serving)
        self._state = STATE_SERVING

    start = Node.start
    monkeypatch.setattr(Node, "start", hasty)
    assert "was committed when it started" in first_violation().violation


def test_it_notices_a_no_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    expire = Writes._expire

    def sure(self: Writes, write) -> None:
        write.given_term = None
        expire(self, write)

    monkeypatch.setattr(Writes, "_expire", sure)
    assert "certainly none" in first_violation().violation


def test_it_notices_a_disk_that_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskImage, "sync", lambda self: self._dirty.clear())
    with pytest.raises(Violation, match="gone"):  # at once: of the founding itself nothing is left
        first_violation()


def test_it_notices_a_report_of_what_is_not_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimDisk, "_begin", lambda self: self._report(
        [self._queued.popleft() for _ in range(len(self._queued))]))
    assert "before the sync" in first_violation().violation or \
        "before it is synced" in first_violation().violation


# -- its parts -----------------------------------------------------------------------------------

class Somebody:
    is_dead = False
    paused_until_ns = 0


def test_time_goes_on_in_the_order_of_asking_and_stands_still_for_the_paused() -> None:
    timeline, paused, dead, done = Timeline(), Somebody(), Somebody(), []
    for number, owner in enumerate((None, paused, dead, paused)):
        timeline.at(10, owner, "", lambda number=number: done.append(number))
    timeline.at(5, None, "", lambda: done.append("first"))
    timeline.at(20, None, "", lambda: done.append("last"))
    timeline.at(7, None, "", lambda: done.append("never")).cancel()
    paused.paused_until_ns, dead.is_dead = 15 * MILLISECOND, True
    while event := timeline.next():
        event.action()
    assert done == ["first", 0, "last", 1, 3] and timeline.now_ns == 15 * MILLISECOND


def test_the_model_remembers_every_index() -> None:
    from seafoam._core.wire import Operation, encode_command
    model = Model()
    assert model.apply(2, encode_command([Operation.set(b"k", b"1")])) == [(None, None, 2, False)]
    assert model.apply(5, encode_command([
        Operation.cas(b"k", b"2", old_value=b"3"), Operation.delete(b"k"), Operation.get(b"k"),
    ])) == [("cas_mismatch", b"1", 2, False), (None, None, 0, True),
            ("key_not_found", None, 0, False)]
    assert [model.at(index, b"k") for index in (1, 2, 4, 5)] == [
        None, (b"1", 2), (b"1", 2), None]
