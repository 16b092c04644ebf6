"""Each call that a node makes on its files fails once, is cut short, or is the node's last."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from random import Random

import pytest

import builds
from crash.filesystem import (
    FileSystem,
    Image,
    Survival,
    all_of,
    drawn,
    materialise,
    none_of,
)
from faults.shim import Event, Fault, environment_for, read_trace, why_not_here
from processes import STOP_SECONDS_MAX, NodeProcess
from test_kill import Writer

SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
WRITERS = 4
ANSWERS_MORE = 300
#: So many large ones that several segments are needed.
SHORTAGE_WRITES = 600
EXIT_CANNOT_START, EXIT_FATAL, EXIT_KILLED = 1, 70, -9

pytestmark = pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())


class ShimmedNode(NodeProcess):
    """A node with small segments whose every call on its files is recorded, and one meddled with.

    It may end before it serves; `is_serving` says so.
    """

    module = "faults.node"

    def __init__(self, folder: Path, fault: Fault | None) -> None:
        self.root = folder / "root"
        self.root.mkdir(exist_ok=True)
        self.trace = folder / "trace"
        self.begun = FileSystem(self.root)
        paths = [str(builds.ROOT), str(builds.ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
        self.variables = {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        if fault is not None:
            self.variables |= environment_for(self.root, trace=self.trace, fault=fault)
        self.is_serving = True
        super().__init__(self.root / "data")

    def start(self) -> None:
        try:
            super().start()
        except AssertionError:
            self.is_serving = False

    def wait(self) -> int:
        """How the process ended, which it must by itself."""
        status = self.process.wait(STOP_SECONDS_MAX)
        self.listener.join()
        return status

    def left(self, survival: Survival) -> tuple[Image, list[Event]]:
        """What a power cut at the node's end leaves; and the calls that failed by then."""
        failed = []
        for event in read_trace(self.trace):
            self.begun.follow(event)
            if not event.is_begin and event.error in (errno.EIO, errno.ENOSPC, errno.EMFILE):
                failed.append(event)
        return self.begun.image(survival), failed


class Case:
    """A node under load that meets a fault, and one started on what a power cut then leaves."""

    def __init__(self, folder: Path, fault: Fault) -> None:
        self.folder, self.fault = folder, fault
        self.writers = [Writer(f"writer-{n}") for n in range(WRITERS)]
        self.node = ShimmedNode(folder, fault)
        self.was_serving = self.node.is_serving
        #: A fault that harms nothing is not noticed: whoever writes is ended then.
        self.is_harmless = False

    def load(self) -> None:
        """Write until the node has ended, or has gone on for too long."""
        answers = threading.Semaphore(0)
        threads = [threading.Thread(target=writer.write, args=(self.node, Random(n), answers))
                   for n, writer in enumerate(self.writers)]
        for thread in threads:
            thread.start()
        # Several calls make one write durable.
        left = self.fault.at + ANSWERS_MORE
        while left and any(thread.is_alive() for thread in threads):
            left -= answers.acquire(timeout=0.1)
        self.is_harmless = left == 0
        if self.is_harmless:
            self.node.kill()
        for thread in threads:
            thread.join()

    def run(self, survival: Survival) -> None:
        """All of it; what was acknowledged is there afterwards."""
        with self.node:
            if self.was_serving:
                self.load()
            self.status = self.node.wait()
        image, self.failed = self.node.left(survival)
        self.said = "".join(self.node.said)
        assert "Traceback" not in self.said, self.said
        again = self.folder / "again"
        (again / "root").mkdir(parents=True)
        materialise(image, again / "root")
        with ShimmedNode(again, None) as node:
            assert node.is_serving, (self.said, node.said)
            for writer in self.writers:
                writer.check(node)

    def check_that_it_was_said(self) -> None:
        """The last line names the call's file and the reason; the exit status is the fatal one."""
        (failed,) = self.failed
        if self.is_harmless:
            assert failed.path == "data/LOCK", failed
            return
        last = self.said.strip().splitlines()[-1]
        assert self.status == (EXIT_FATAL if "the node ends" in last else EXIT_CANNOT_START)
        assert os.strerror(self.fault.error) in last, last
        assert Path(failed.path).name.removesuffix(".new") in last, (failed, last)


def survival_for(number: int) -> Survival:
    """All that is unsynced lost, all kept, or some of it: in turn."""
    return (none_of(), all_of(), drawn(Random(number), 512))[number % 3]


#: A spread over what a start does (some fifty calls) and over what a node under load does.
SPREAD = range(1, 400) if SOAK else [2, 10, 16, 22, 27, 31, 41, 60, 131, 330]
FEW = SPREAD if SOAK else [9, 26, 47, 90, 211]


@pytest.mark.parametrize("number", SPREAD)
def test_a_call_that_fails_is_said_and_loses_nothing(tmp_path: Path, number: int) -> None:
    case = Case(tmp_path, Fault("fail", number, error=errno.EIO))
    case.run(survival_for(number))
    case.check_that_it_was_said()


@pytest.mark.parametrize("number", FEW)
def test_a_short_write_is_said_and_loses_nothing(tmp_path: Path, number: int) -> None:
    case = Case(tmp_path, Fault("short", number, kinds="write"))
    case.run(survival_for(number))
    if not case.is_harmless:
        assert case.status in (EXIT_CANNOT_START, EXIT_FATAL)
        last = case.said.strip().splitlines()[-1]
        assert "took" in last, last


@pytest.mark.parametrize("mode", ["kill-before", "kill-after"])
@pytest.mark.parametrize("number", FEW)
def test_a_node_that_dies_at_a_call_has_lost_nothing(
    tmp_path: Path, number: int, mode: str
) -> None:
    case = Case(tmp_path, Fault(mode, number))
    case.run(survival_for(number + len(mode)))
    assert (case.status, case.is_harmless) == (EXIT_KILLED, False)


@pytest.mark.parametrize(("error", "kinds"), [
    (errno.ENOSPC, "reserve"), (errno.EMFILE, "create"), (errno.EMFILE, "look")],
    ids=["no room", "no descriptor for a segment", "no descriptor for its directory"])
def test_a_shortage_is_waited_out(tmp_path: Path, error: int, kinds: str) -> None:
    # What comes before: the first two segments; the lock, META and the founding beside them.
    at = {"reserve": 3, "create": 8, "look": 22}[kinds]
    with ShimmedNode(tmp_path, Fault("fail", at, error=error, kinds=kinds, count=10)) as node:
        assert node.is_serving, node.said
        refused_count, number = 0, 0
        while number < SHORTAGE_WRITES:
            status, answer = node.call("/set", {"key": f"key/{number}", "value": "1" * 500})
            if status == 200:
                number += 1
            else:
                refused_count += 1
                assert (status, answer["error"]["code"], answer["error"]["applied"]) == (
                    507, "disk_full", "no"), answer
            assert node.call("/get", {"key": "key/0"})[0] == 200
        node.kill()
        node.wait()
    image, failed = node.left(none_of())
    print(f"{len(failed)} calls failed, {refused_count} writes refused")
    assert len(failed) == 10, [event.path for event in failed]
    again = tmp_path / "again"
    (again / "root").mkdir(parents=True)
    materialise(image, again / "root")
    with ShimmedNode(again, None) as node:
        assert None not in node.get_many([f"key/{n}" for n in range(number)])


@pytest.mark.parametrize("number", range(100 if SOAK else 3))
def test_the_power_is_cut_under_load(tmp_path: Path, number: int) -> None:
    luck = Random(number)
    case = Case(tmp_path, Fault(luck.choice(["kill-before", "kill-after"]),
                                luck.randrange(60, 600)))
    case.run(drawn(luck, luck.choice((512, 4096))))
    assert case.status == EXIT_KILLED
