"""The command line of the crash points: so many distinct images from a seed on, and what came up.

Owns a folder for the images, on memory where there is some, and, for runs that go on where one
was stopped, a state file: the next seed, what was seen, and the images' hashes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from crash.opener import Opener
from crash.plants import PLANTS
from crash.recording import Recording, Violation
from faults.shim import why_not_here

__all__ = ["Campaign", "main", "run"]

#: Of one recording: fewer from more of them see more than many from one.
IMAGES_A_RECORDING = 400
MEMORY = Path("/dev/shm")
HASH_BYTES = 8


@dataclass
class Campaign:
    """What was done so far."""

    next_seed: int = 1
    plants: tuple[str, ...] = ()
    seen: Counter[str] = field(default_factory=Counter)
    hashes: set[bytes] = field(default_factory=set)

    def save(self, path: Path) -> None:
        new = path.with_suffix(".new")
        hashes = b"".join(sorted(self.hashes)).hex()
        new.write_text(json.dumps([self.next_seed, self.seen, hashes]), encoding="ascii")
        new.rename(path)

    @classmethod
    def load(cls, path: Path) -> Campaign:
        if not path.exists():
            return cls()
        next_seed, seen, hexes = json.loads(path.read_text(encoding="ascii"))
        hashes = bytes.fromhex(hexes)
        return cls(next_seed, seen=Counter(seen), hashes={
            hashes[at:at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)})


def run(campaign: Campaign, images_count: int, state: Path | None = None) -> None:
    """Until so many distinct images were opened; Violation where one is not as it must be."""
    while len(campaign.hashes) < images_count:
        _run_seed(campaign, images_count)
        campaign.next_seed += 1
        if state is not None:
            campaign.save(state)


def _run_seed(campaign: Campaign, images_count: int) -> None:
    """A recording that begins on an empty disk, and one that begins where a crash left one."""
    seed = campaign.next_seed
    begin = None
    for _ in range(2):
        with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
            recording = Recording(seed, Path(folder), begin, campaign.plants)
            opener = Opener(Path(folder))
            try:
                recording.check(min(IMAGES_A_RECORDING, images_count - len(campaign.hashes)),
                                opener, campaign.hashes)
            finally:
                opener.close()
            campaign.seen += recording.seen
        if not recording.torn or len(campaign.hashes) >= images_count:
            return
        begin = Random(seed).choice(recording.torn)
        campaign.seen["recordings that begin with a torn tail"] += 1


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--images", type=int, default=3000, help="how many distinct ones")
    parser.add_argument("--seed", type=int, default=0, help="the first, or the next of --state")
    parser.add_argument("--state", type=Path, help="a file to go on from, and to go on with")
    parser.add_argument("--plant", action="append", default=[], choices=sorted(PLANTS),
                        help="a bug for the recorded program")
    options = parser.parse_args(arguments)
    reason = why_not_here()
    if reason:
        print(f"not run: {reason}")
        return 2
    campaign = Campaign.load(options.state) if options.state else Campaign()
    campaign.plants = tuple(options.plant)
    campaign.next_seed = options.seed or campaign.next_seed
    began = time.monotonic()
    try:
        run(campaign, options.images, options.state)
    except Violation as violation:
        print(f"{len(campaign.hashes)} images opened; then: {violation}")
        return 1
    for name, count in sorted(campaign.seen.items()):
        print(f"{count:9} {name}")
    print(f"{len(campaign.hashes)} distinct images, all as they must be, "
          f"{time.monotonic() - began:.1f} s")
    return 0
