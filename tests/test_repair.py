"""`seafoam repair`: what it keeps of a lone node's data, and what it moves aside of any."""

from __future__ import annotations

import asyncio
import os
import pty
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from disk_rig import Rig
from processes import NodeProcess, environment, seafoam, server_refuses
from seafoam import repair
from seafoam._core.message import ENTRY_CONFIGURATION, Entry
from seafoam._core.wal import segment_name
from seafoam._core.wire import encode_founding, encode_meta
from seafoam._core.wire_change import MemberChange, encode_changes
from seafoam._core.wire_snapshot import SnapshotHead
from seafoam.data_directory import META, DataDirectory
from seafoam.errors import DataDamaged, StartError
from seafoam.founding_store import FOUNDING, FoundingStore
from seafoam.founding_wire import Held, Record
from seafoam.membership_wire import ROLE_VOTER, MembershipRecord, encode_membership
from snapshot_rig import Source, put
from wal_log import hard

SEGMENT_BYTES = 8 * 1024
LAST_INDEX = 120
SOAK = bool(os.environ.get("SEAFOAM_SOAK"))
SPOILT_COUNT = 3000 if SOAK else 50
HASH_SEED = bytes(16)


def on_loop(test):
    return asyncio.run(test())


def source(node_id: int, index: int, members: list[int]) -> Source:
    made = Source(index, 1)
    made.head = SnapshotHead(
        0xF00, index, 1, encode_founding(7, HASH_SEED, [(node_id, "a:1")]),
        encode_membership(MembershipRecord(
            1, 3, [(member, ROLE_VOTER, f"a:{member}") for member in sorted(members)], [])))
    return made


def promised(path: Path) -> int:
    """A directory whose node has promised itself to a founder, and is in no cluster; its id."""
    node_id, _ = started(path)
    founding = encode_founding(7, HASH_SEED, [(node_id, "a:1"), (9, "b:1")])
    FoundingStore(path, node_id).save(Record(0, Held(9, 1, founding), False))
    return node_id


def made(
    path: Path, *, others: tuple[int, ...] = (), snapshot: int = 0, joins: int = 0,
    only_promises: bool = False,
) -> int:
    """A node's directory, founded with others, if any; its id.

    Entry `joins` configures another node.
    """
    if only_promises:
        return promised(path)

    async def test() -> int:
        rig = Rig(path, SEGMENT_BYTES)
        rig.open()
        node_id = rig.disk.node_id
        founding = encode_founding(7, HASH_SEED, [(node_id, "a:1"), *((o, "b:1") for o in others)])
        FoundingStore(path, node_id).save(Record(1, Held(node_id, 1, founding), True))
        rig.disk.found(founding)
        rig.next_index = 2
        for index in range(2, LAST_INDEX + 1):
            if index == joins:
                change = encode_changes([MemberChange(1, node_id ^ 1, "c:1")])
                rig.next_index += 1
                rig.disk.append([Entry(index, 1, ENTRY_CONFIGURATION, change)], hard(1, index - 1),
                                lambda at=index: rig.durable.append(at))
            else:
                rig.append(hard_state=hard(1, index, vote=node_id))
            if index % 10 == 0:
                await rig.settled()
        await rig.settled()
        if snapshot:
            results: list[object] = []
            rig.disk.save_snapshot(source(node_id, snapshot, [node_id]), results.append)
            await rig.until(lambda: results)
            rig.disk.drop_log(snapshot)
            await rig.until(lambda: not (path / "wal" / segment_name(1)).exists())
        rig.disk.close()
        return node_id

    return on_loop(test)


def started(path: Path):
    """(node id, what is recovered) as by a node that starts there, and ends."""
    async def test():
        rig = Rig(path, SEGMENT_BYTES)
        recovery = rig.open()
        try:
            FoundingStore(path, rig.disk.node_id).load()
            return rig.disk.node_id, recovery
        finally:
            rig.disk.close()

    return on_loop(test)


def repaired(path: Path):
    """The plan, and where things went."""
    with repair.held(path, SEGMENT_BYTES) as directory:
        plan = repair.examine(directory)
        return plan, repair.carry_out(directory, plan) if plan.is_needed else None


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != "LOCK"}


def last_of(recovery) -> int:
    return recovery.entries[-1].index if recovery.entries else recovery.base[0]


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def check_all_is_there(before: dict[str, bytes], path: Path, aside: Path) -> None:
    """Every byte that was there is in its place, or was moved."""
    here, there = files(path), files(aside)
    for name, data in before.items():
        if here.get(name) == data or there.get(name) == data:
            continue
        rest = b""
        header = there.pop(f"{name}.header", b"")
        found = [key for key in there if key.startswith(f"{name}.from-")]
        end = len(data)
        if found:
            end, rest = int(found[0].rpartition("-")[2]), there[found[0]]
        kept = header + here[name][len(header):end]
        assert (kept + rest).rstrip(b"\0") == data.rstrip(b"\0"), name


def spoil(path: Path, generator: random.Random) -> str:
    """Flip a bit of, or cut, any file; which."""
    name, data = generator.choice(sorted(files(path).items()))
    written = data.rstrip(b"\0")
    at = generator.randrange(len(written)) if written else 0
    if written and generator.random() < 0.8:
        flip(path / name, at, generator.randrange(8))
        return f"{name} flipped at {at}"
    os.truncate(path / name, at)
    return f"{name} cut at {at}"


@pytest.mark.parametrize("snapshot", [0, 70])
def test_a_lone_node_starts_on_what_is_whole(tmp_path, snapshot):
    """Whatever a bit flip or a cut has spoilt: a prefix is kept, and no byte is gone."""
    generator = random.Random(snapshot)
    node_id = made(tmp_path / "whole", snapshot=snapshot)
    entries = {entry.index: entry for entry in started(tmp_path / "whole")[1].entries}
    kept = {"cut": 0, "all": 0, "nothing wrong": 0}
    for count in range(SPOILT_COUNT):
        path = tmp_path / str(count)
        shutil.copytree(tmp_path / "whole", path)
        what = spoil(path, generator)
        before = files(path)
        plan, aside = repaired(path)
        if aside is None:
            assert files(path) == before, what
            started(path)
            kept["nothing wrong"] += 1
            shutil.rmtree(path)
            continue
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        for name, data in before.items():
            (copy / name).parent.mkdir(exist_ok=True)
            (copy / name).write_bytes(data)
        with pytest.raises(DataDamaged):
            started(copy)
        shutil.rmtree(copy)
        check_all_is_there(before, path, aside)
        new_id, recovery = started(path)
        assert (new_id != node_id) == plan.moves_all, what
        last = last_of(recovery)
        for entry in recovery.entries:
            assert entries.get(entry.index, entry) == entry, what
        assert [e.index for e in recovery.entries] == list(range(recovery.base[0] + 1, last + 1))
        assert any(f"the last entry that is kept is {last}" in w for w in plan.words) or last == 0
        assert repaired(path)[1] is None, "once is enough"
        kept["all" if plan.moves_all else "cut"] += 1
        shutil.rmtree(path)
    assert kept["cut"] > SPOILT_COUNT // 4 and kept["nothing wrong"], kept
    assert kept["all"] < SPOILT_COUNT // 4, kept


def test_a_cut_keeps_all_before_the_damage_and_says_what_is_lost(tmp_path):
    made(tmp_path / "d")
    flip(tmp_path / "d" / "wal" / segment_name(2), 3000)
    plan, aside = repaired(tmp_path / "d")
    last = last_of(started(tmp_path / "d")[1])
    assert f"entries from {last + 1} to {LAST_INDEX}, and any later ones, are lost" in plan.words
    assert 20 < last < LAST_INDEX and not plan.moves_all
    assert f"{segment_name(2)} is damaged at offset" in plan.damages[0]
    assert aside is not None and (aside / "wal" / segment_name(3)).exists()


def test_a_lost_header_costs_nothing(tmp_path):
    made(tmp_path / "d")
    for number in (1, 2):
        flip(tmp_path / "d" / "wal" / segment_name(number), 34)
        plan, _ = repaired(tmp_path / "d")
        assert "no entry is known that would be lost" in plan.words
        assert last_of(started(tmp_path / "d")[1]) == LAST_INDEX


def test_a_damaged_meta_is_made_anew_from_the_log(tmp_path):
    node_id = made(tmp_path / "d")
    (tmp_path / "d" / META).write_bytes(b"")
    _, aside = repaired(tmp_path / "d")
    assert started(tmp_path / "d")[0] == node_id
    assert aside is not None and files(aside) == {META: b""}


def test_a_snapshot_alone_is_enough(tmp_path):
    path = tmp_path / "d"
    node_id = made(path, snapshot=70)
    for file in sorted((path / "wal").iterdir()):
        file.write_bytes(b"\1" * 100)
    plan, _ = repaired(path)
    # The lost records may have named others.
    assert plan.moves_all
    shutil.rmtree(path)
    made(path, snapshot=70)
    for file in sorted((path / "wal").iterdir()):
        os.truncate(file, 0)
    plan, _ = repaired(path)
    assert not plan.moves_all and started(path)[1].base == (70, 1)
    assert started(path)[0] != node_id, "another directory"


def test_a_damaged_snapshot_goes_where_the_log_reaches(tmp_path):
    path = tmp_path / "d"
    node_id = made(path)
    newer = source(node_id, LAST_INDEX, [node_id])
    snapshot = put(path / "snapshots", newer, newer.file()[:-3])
    # The node mends that by itself, for the log says that all of it is committed.
    assert repaired(path)[1] is None
    newer.head = SnapshotHead(1, LAST_INDEX + 9, 1, newer.head.founding, newer.head.membership)
    snapshot = put(path / "snapshots", newer, newer.file()[:-3])
    plan, aside = repaired(path)
    assert f"{snapshot} is moved aside" in plan.words and aside is not None
    assert f"entries from {LAST_INDEX + 1} to {LAST_INDEX + 9}, and any later ones, are lost" \
        in plan.words
    assert last_of(started(path)[1]) == LAST_INDEX
    assert (aside / "snapshots" / snapshot.name).read_bytes() == newer.file()[:-3]


@pytest.mark.parametrize("how", ["founded", "joined before", "joined behind", "vote", "snapshot"])
def test_of_a_larger_clusters_member_everything_is_moved_aside(tmp_path, how):
    path = tmp_path / "d"
    joins = {"joined before": 5, "joined behind": LAST_INDEX - 5}.get(how, 0)
    node_id = made(path, others=(9,) if how == "founded" else (), joins=joins)
    if how == "snapshot":
        whole = source(node_id, 100, [node_id, 9])
        put(path / "snapshots", whole)
    if how == "vote":
        async def vote():
            rig = Rig(path, SEGMENT_BYTES)
            rig.open()
            rig.append(hard_state=hard(2, 2 + LAST_INDEX - 2, vote=9))
            await rig.settled()
            rig.disk.close()
        on_loop(vote)
    flip(path / "wal" / segment_name(3), 3000)
    if how == "snapshot":
        flip(path / "wal" / segment_name(4), 3000)
        flip(path / META, 20)
    before = files(path)
    plan, aside = repaired(path)
    assert plan.moves_all and "in a cluster with others" in plan.words[0]
    assert aside is not None and files(aside) == before
    new_id, recovery = started(path)
    assert new_id != node_id and not recovery.entries


def test_where_nothing_says_whose_it_is_everything_is_moved_aside(tmp_path):
    path = tmp_path / "d"
    made(path)
    (path / FOUNDING).unlink()
    flip(path / "wal" / segment_name(1), 48 + 40)
    plan, _ = repaired(path)
    assert plan.moves_all and "nothing whole says" in plan.words[0]
    assert "has lost its data then, unless what is moved aside is put back" in plan.words[1]
    assert started(path)[1].entries == []


def test_a_damaged_configuration_may_have_named_another(tmp_path):
    """Only its type, kind and generation are left: that is enough not to go on alone."""
    path = tmp_path / "d"
    made(path, joins=60)
    for file in sorted((path / "wal").iterdir()):
        at = file.read_bytes().find(b"c:1")
        if at >= 0:
            flip(file, at)
    plan, _ = repaired(path)
    assert plan.moves_all and "nothing whole says" in plan.words[0]


STEPS = ("_move", "_keep", "_overwrite", "_make_aside", "blank", "write_meta", "create_segment")


class Crash(Exception):
    """The power went."""


def crash_at(monkeypatch, step: int) -> None:
    left = [step]

    def crashing(function):
        def called(*arguments):
            if not left[0]:
                raise Crash
            left[0] -= 1
            return function(*arguments)
        return called

    for name in STEPS:
        owner = repair if name.startswith("_") else DataDirectory
        monkeypatch.setattr(owner, name, crashing(getattr(owner, name)))


def spoil_middle(path: Path) -> None:
    flip(path / "wal" / segment_name(2), 3000)


def spoil_founding(path: Path) -> None:
    flip(path / FOUNDING, 30)


def spoil_snapshot_and_log(path: Path) -> None:
    for file in sorted((path / "wal").iterdir()):
        os.truncate(file, 0)


def spoil_header_and_meta(path: Path) -> None:
    flip(path / "wal" / segment_name(1), 3)
    flip(path / META, 3)
    flip(path / FOUNDING, 3)


CASES = [(spoil_middle, {}), (spoil_middle, {"others": (9,)}), (spoil_header_and_meta, {}),
         (spoil_snapshot_and_log, {"snapshot": 70}), (spoil_founding, {"only_promises": True})]


@pytest.mark.parametrize(("spoiling", "how"), CASES)
def test_a_crash_at_any_step_is_gone_on_from(tmp_path, monkeypatch, spoiling, how):
    node_id = made(tmp_path / "whole", **how)
    spoiling(tmp_path / "whole")
    before = files(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "done")
    plan, _ = repaired(tmp_path / "done")
    wanted = last_of(started(tmp_path / "done")[1])
    step, is_done = 0, False
    while not is_done:
        path = tmp_path / str(step)
        shutil.copytree(tmp_path / "whole", path)
        with monkeypatch.context() as patch:
            crash_at(patch, step)
            try:
                repaired(path)
                is_done = True
            except Crash:
                pass
        copy = tmp_path / f"{step}-started"
        shutil.copytree(path, copy)
        try:
            new_id, recovery = started(copy)
            assert last_of(recovery) == wanted and (new_id != node_id) == plan.moves_all
        except StartError:
            assert not is_done
        repaired(path)
        assert last_of(started(path)[1]) == wanted
        there = {data for found in path.glob("damaged-*") for data in files(found).values()}
        assert not plan.moves_all or set(before.values()) <= there
        step += 1
    assert step > 3


def test_what_is_no_data_directory_or_is_in_use_is_refused(tmp_path):
    (tmp_path / "mine").write_bytes(b"")
    with pytest.raises(StartError, match="no Seafoam data directory"), repair.held(tmp_path):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
    made(tmp_path / "d")
    (tmp_path / "d" / META).write_bytes(encode_meta(5, begun=True))
    before = files(tmp_path / "d")
    with pytest.raises(StartError, match="belongs to node"):
        repaired(tmp_path / "d")
    assert files(tmp_path / "d") == before


def answered(path: Path, answer: bytes) -> tuple[int, str]:
    """Exit status and words of the verb, asked on a terminal."""
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    try:
        done = subprocess.run([sys.executable, "-m", "seafoam", "repair", str(path)], stdin=theirs,
                              capture_output=True, env=environment(), timeout=60)
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, (done.stdout + done.stderr).decode()


def test_the_verb_asks_and_a_node_names_it(tmp_path):
    path = tmp_path / "a b"
    with NodeProcess(path) as node:
        for at in range(20):
            assert node.call("/set", {"key": f"k{at}", "value": at})[0] == 200
        status, _, said = seafoam("repair", str(path))
        assert status == 4 and f"is in use by process {node.process.pid}" in said
        node.stop()
    before = files(path)
    assert seafoam("repair", str(path)) == (0, "nothing is damaged, and nothing was changed\n", "")
    flip(path / "wal" / segment_name(1), 1500)
    assert f"; `seafoam repair '{path}'` says what can be kept" in server_refuses(path)
    before = files(path)
    status, printed, said = seafoam("repair", str(path))
    assert status == 1 and said == "seafoam: nothing was changed; --yes does it without asking\n"
    assert "is damaged at offset" in printed and "the last entry that is kept is" in printed
    status, said = answered(path, b"n\n")
    assert status == 1 and "[y/N]" in said and files(path) == before
    status, said = answered(path, b"y\n")
    assert status == 0 and "done; what was moved aside is in" in said
    with NodeProcess(path) as node:
        values = node.get_many([f"k{at}" for at in range(20)])
        count = 20 - values.count(None)
        assert 0 < count < 20 and values[:count] == list(range(count))
        assert node.stop() == 0
    status, _, said = seafoam("repair", str(tmp_path / "none"), "--yes")
    assert status == 4 and "no Seafoam data directory" in said
