"""One recorded run of the disk, cut everywhere: the disks that may be left, each opened once.

Owns the order in which images are drawn: in rounds over all cuts, so that however few are wanted,
every boundary has its share. An image that comes of several cuts is opened once and judged at
each of them. The same seed draws the same images of the same trace; a trace itself differs from
one recording to the next, as the disk's threads meet differently.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from random import Random

import builds
from crash.filesystem import (
    Change,
    FileSystem,
    Image,
    Survival,
    all_of,
    drawn,
    materialise,
    none_of,
    up_to,
)
from crash.history import Found, History
from crash.opener import Opener
from crash.workload import DATA
from faults.shim import Event, Kind, environment_for, read_trace

__all__ = ["Recording", "Violation"]

ROUNDS_MAX = 60
#: A round that finds fewer new images than this part of its cuts is the last.
YIELD_MIN = 0.1
#: Of a disk, what says only which process used it last.
UNIMPORTANT = f"{DATA}/LOCK"
PAGE_BYTES, SECTOR_BYTES = 4096, 512
SECONDS_MAX = 120
#: A sync takes so long, so that several batches are under way at once.
SYNC_US = 1000


class Violation(Exception):
    """A disk that may be left, and what is wrong with what a start makes of it."""


class Recording:
    """What one run did, and what has been made of it so far."""

    def __init__(
        self, seed: int, workspace: Path, begin: tuple[Image, Found] | None = None,
        plants: tuple[str, ...] = (),
    ) -> None:
        """`begin`: what is on the disk when it begins, and what a start finds there.

        `plants` are bugs of the recorded program.
        """
        self.seed = seed
        self._begin = begin
        self._root = workspace / "recorded"
        self._root.mkdir()
        if begin is not None:
            materialise(begin[0], self._root)
        # The numbers of its inodes are the trace's.
        self._begun = FileSystem(self._root)
        self.events = _record([str(self._root.resolve()), str(seed), *plants],
                              self._root, workspace / "trace")
        self.found: dict[bytes, Found] = {}
        self.torn: list[tuple[Image, Found]] = []
        self.seen: Counter[str] = Counter()
        self._count_calls()

    def _count_calls(self) -> None:
        self.seen["recordings"] += 1
        for event in self.events:
            if event.kind == Kind.MARK:
                self.seen[f"said {json.loads(event.data)['what']}"] += 1
            elif not event.is_begin:
                self.seen[f"calls {event.kind.name.lower()}"] += 1

    def check(self, images_count: int, opener: Opener, hashes: set[bytes]) -> int:
        """Open so many more distinct images, fewer where there are no more; how many.

        `hashes` are those that were opened before, by whomever. Violation says what is wrong.
        """
        opened_count = 0
        for number in range(ROUNDS_MAX):
            self._filesystem = copy.deepcopy(self._begun)
            before, cuts_count = opened_count, 0
            for cut, survival, history in self._cuts(number):
                cuts_count += 1
                image = self._filesystem.image(survival)
                key = hash_of(image)
                found = self.found.get(key)
                if found is None:
                    if key in hashes:
                        continue
                    found = self.found[key] = opener.open(image)
                    hashes.add(key)
                    opened_count += 1
                    self._note(image, found)
                wrong = history.judge(found)
                if wrong:
                    raise Violation(f"seed {self.seed}, cut before event {cut} of "
                                    f"{len(self.events)}, round {number}: {wrong}")
                if opened_count >= images_count:
                    return opened_count
            if opened_count - before < cuts_count * YIELD_MIN:
                break
        return opened_count

    def _note(self, image: Image, found: Found) -> None:
        self.seen["images"] += 1
        self.seen["images with a torn tail"] += found.torn
        self.seen["images with no log"] += found.moment.length == 0
        if found.torn and len(self.torn) < 100:
            self.torn.append((image, found))

    def _cuts(self, number: int) -> Iterator[tuple[int, Survival, History]]:
        """Every moment at which the disk may be another than before, with one survival each."""
        history = History()
        if self._begin is not None:
            history.begin_with(self._begin[1])
        luck = Random(self.seed << 8 | number)
        for at, event in enumerate(self.events):
            if event.kind == Kind.MARK:
                history.follow(event.data)
                continue
            if event.kind == Kind.LOOK:
                continue
            # Cut before it: by now everything is said that was said before.
            pending = self._filesystem.pending()
            if pending or event.is_begin:
                yield at, _survival([change for _, change in pending], luck), history
            self._filesystem.follow(event)
        yield len(self.events), all_of(), history
        yield len(self.events), none_of(), history


def _survival(pending: list[Change], luck: Random) -> Survival:
    """What is left of what is not synced."""
    kind = luck.choice(("none", "all", "pages", "pages", "sectors", "sectors", "torn", "prefix"))
    names = [change for change in pending if change.names]
    if names and luck.random() < 0.5:
        kind = luck.choice(("names", "names and contents"))
    if kind in ("none", "all") or not pending:
        return all_of() if kind == "all" else none_of()
    if kind == "pages":
        return drawn(luck, PAGE_BYTES)
    if kind == "sectors":
        return drawn(luck, SECTOR_BYTES)
    change = luck.choice(pending)
    if kind == "torn":
        written = luck.choice([c for c in pending if c.data] or [change])
        torn_bytes = luck.randrange(len(written.data) + 1) if written.data else None
        return up_to(written.order, torn_bytes=torn_bytes)
    if kind == "prefix":
        return up_to(change.order)
    # Each name by itself, the contents whole or not at all, or as of a moment.
    kept = {change.order for change in names if luck.random() < 0.5}
    order = luck.choice((1 << 62, -1)) if kind == "names" else change.order
    return up_to(order, names=lambda c: c.order in kept)


def hash_of(image: Image) -> bytes:
    """What tells one disk from another."""
    whole = blake2b(digest_size=8)
    for path, data in image.items():
        if path == UNIMPORTANT:
            data = b""
        whole.update(f"{path} {-1 if data is None else len(data)} ".encode())
        whole.update((data or b"").rstrip(b"\0"))
    return whole.digest()


def _record(arguments: list[str], root: Path, trace: Path) -> list[Event]:
    done = subprocess.run(
        [sys.executable, "-m", "crash.workload", *arguments],
        cwd=builds.ROOT / "tests", capture_output=True, text=True, timeout=SECONDS_MAX,
        env={**os.environ, **environment_for(root, trace=trace, sync_us=SYNC_US),
             "PYTHONPATH": os.pathsep.join([str(builds.ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    if done.returncode != 0:
        raise Violation(f"the recorded program {' '.join(arguments)} ends with "
                        f"{done.returncode}:\n{done.stderr[-3000:]}")
    return list(read_trace(trace))
