"""Power cuts at every call of the disk: it starts, and nothing reported durable is lost."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

import builds
from crash.filesystem import FileSystem, all_of, drawn, none_of, up_to
from crash.plants import PLANTS
from crash.recording import Violation
from crash.runner import Campaign, run
from faults.shim import Event, Kind, why_not_here

SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
IMAGES_COUNT = 100_000 if SOAK else 3000
#: The dearest plant needs some thousand.
PLANTED_IMAGES_COUNT = 20_000
#: Goes on where a long run was stopped; removed when it is done.
STATE = builds.ROOT / "build" / "crash-points.json"

#: What must have come up, lest a cut be none.
HAPPENINGS = [
    "calls create", "calls mkdir", "calls rename", "calls reserve", "calls sync", "calls write",
    "images with a torn tail", "images with no log", "recordings that begin with a torn tail",
    "said closed", "said durable", "said saved",
]

needs_shim = pytest.mark.skipif(bool(why_not_here()), reason=why_not_here())


@needs_shim
def test_every_disk_that_a_power_cut_leaves_starts_with_all_that_was_durable() -> None:
    campaign = Campaign.load(STATE) if SOAK else Campaign()
    run(campaign, IMAGES_COUNT, STATE if SOAK else None)
    for name, count in sorted(campaign.seen.items()):
        print(f"{count:9} {name}")
    print(f"{len(campaign.hashes)} distinct images")
    assert [name for name in HAPPENINGS if not campaign.seen[name]] == []
    if SOAK:
        STATE.unlink()


@needs_shim
@pytest.mark.parametrize("plant", PLANTS if SOAK else [
    "directories_are_not_synced", "durable_is_said_before_the_sync", "headers_are_not_synced"])
def test_a_planted_bug_is_found(plant: str) -> None:
    campaign = Campaign(plants=(plant,))
    with pytest.raises(Violation) as caught:
        run(campaign, PLANTED_IMAGES_COUNT)
    print(f"{plant}: found with {len(campaign.hashes)} images: {str(caught.value)[:300]}")


def test_a_campaign_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    campaign = Campaign(next_seed=7, hashes={b"12345678", bytes(8)})
    campaign.seen["images"] = 2
    campaign.save(tmp_path / "state")
    assert Campaign.load(tmp_path / "state") == campaign
    assert Campaign.load(tmp_path / "none") == Campaign()


# -- the model of a file system ------------------------------------------------------------------


class Script:
    """A file system that follows calls made up by a test."""

    def __init__(self, root: Path) -> None:
        self.filesystem = FileSystem(root)
        self._inode = root.stat().st_ino
        self._root_inode = self._inode
        self._call_id = 0

    def begin(self, kind: Kind, path: str = "", *, inode: int = 0, offset: int = 0,
              new_path: str = "", data: bytes = b"") -> Event:
        self._call_id += 1
        event = Event(kind, True, self._call_id, inode, offset, 0, 0, 0, path, new_path, data)
        self.filesystem.follow(event)
        return event

    def end(self, begun: Event, *, result: int = 0, inode: int = 0, is_new: int = 0) -> None:
        self.filesystem.follow(Event(
            begun.kind, False, begun.call_id, inode or begun.inode, begun.offset, result, 0,
            is_new, begun.path, begun.new_path, b""))

    def create(self, path: str) -> int:
        self._inode += 1
        self.end(self.begin(Kind.CREATE, path), inode=self._inode, is_new=1)
        return self._inode

    def write(self, inode: int, offset: int, data: bytes) -> None:
        self.end(self.begin(Kind.WRITE, inode=inode, offset=offset, data=data), result=len(data))

    def sync(self, inode: int = 0) -> None:
        self.end(self.begin(Kind.SYNC, inode=inode or self._root_inode))

    def rename(self, path: str, new_path: str) -> None:
        self.end(self.begin(Kind.RENAME, path, new_path=new_path))

    def left(self) -> list[dict[str, bytes | None]]:
        """What a power cut leaves when it leaves nothing unsynced, and when everything."""
        return [self.filesystem.image(survival) for survival in (none_of(), all_of())]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_a_file_s_sync_covers_its_bytes_and_not_its_name(script: Script) -> None:
    inode = script.create("a")
    script.write(inode, 0, b"abc")
    script.sync(inode)
    assert script.left() == [{}, {"a": b"abc"}]
    script.sync()
    assert script.left() == [{"a": b"abc"}] * 2


def test_a_directory_s_sync_covers_names_and_not_what_is_behind_them(script: Script) -> None:
    inode = script.create("a")
    script.write(inode, 2, b"abc")
    script.sync()
    assert script.left() == [{"a": b""}, {"a": b"\0\0abc"}]


def test_a_sync_covers_what_had_ended_when_it_began_once_it_ends(script: Script) -> None:
    inode = script.create("a")
    script.sync()
    script.write(inode, 0, b"1")
    late = script.begin(Kind.WRITE, inode=inode, offset=1, data=b"2")
    sync = script.begin(Kind.SYNC, inode=inode)
    script.end(late, result=1)
    assert script.left() == [{"a": b""}, {"a": b"12"}]
    script.end(sync)
    assert script.left() == [{"a": b"1"}, {"a": b"12"}]


def test_a_sync_that_fails_covers_nothing(script: Script) -> None:
    inode = script.create("a")
    script.sync()
    script.write(inode, 0, b"1")
    script.end(script.begin(Kind.SYNC, inode=inode), result=-1)
    assert script.left()[0] == {"a": b""}


def test_a_rename_is_one_change_that_may_be_lost(script: Script) -> None:
    old = script.create("a")
    script.write(old, 0, b"old")
    script.sync(old)
    new = script.create("a.new")
    script.write(new, 0, b"new")
    script.sync(new)
    script.sync()
    script.rename("a.new", "a")
    assert script.left() == [{"a": b"old", "a.new": b"new"}, {"a": b"new"}]
    script.sync()
    assert script.left() == [{"a": b"new"}] * 2


def test_names_and_contents_survive_apart(script: Script) -> None:
    inodes = [script.create(name) for name in "abc"]
    for inode in inodes:
        script.write(inode, 0, b"1")
    luck = Random(1)
    images = [script.filesystem.image(drawn(luck, 512)) for _ in range(5000)]
    kinds = {tuple(sorted(image.items())) for image in images}
    # Each file is not there, or there and empty, of one zero, or whole.
    assert len(kinds) == 4 ** 3


def test_a_block_has_one_of_the_states_it_had_since_the_sync(script: Script) -> None:
    inode = script.create("a")
    script.sync()
    script.write(inode, 0, b"1" * 1024)
    script.write(inode, 256, b"2" * 512)
    luck = Random(1)
    contents = {script.filesystem.image(drawn(luck, 512)).get("a") for _ in range(1000)}
    first = {bytes(512), b"1" * 512, b"1" * 256 + b"2" * 256}
    second = {bytes(512), b"1" * 512, b"2" * 256 + b"1" * 256}
    assert {c for c in contents if c} == {a + b for a in first for b in second}


def test_a_write_is_torn_anywhere(script: Script) -> None:
    inode = script.create("a")
    script.sync()
    script.write(inode, 0, b"123")
    ((_, change),) = script.filesystem.pending()
    image = script.filesystem.image(up_to(change.order, torn_bytes=2))
    assert image == {"a": b"12"}


def test_a_failed_call_changes_nothing_and_a_short_write_little(script: Script) -> None:
    inode = script.create("a")
    script.end(script.begin(Kind.UNLINK, "a"), result=-1)
    script.end(script.begin(Kind.WRITE, inode=inode, data=b"123"), result=1)
    script.end(script.begin(Kind.WRITE, inode=inode, offset=1, data=b"456"), result=-1)
    assert script.left() == [{}, {"a": b"1"}]


def test_a_number_that_is_used_again_is_another_inode(script: Script) -> None:
    inode = script.create("a")
    script.write(inode, 0, b"old")
    script.end(script.begin(Kind.UNLINK, "a"))
    script.end(script.begin(Kind.CREATE, "b"), inode=inode, is_new=1)
    script.write(inode, 0, b"new")
    assert script.left() == [{}, {"b": b"new"}]
