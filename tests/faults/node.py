"""A node as `python -m seafoam` starts it, whose segments are small and whose patience is short.

`python -m faults.node server ...`: it rotates after some hundred writes, so that few seconds of
load meet every call that a node ever makes on its files.
"""

from __future__ import annotations

import sys

from seafoam import disk, node
from seafoam.cli import client_main

SEGMENT_BYTES = 64 * 1024

if __name__ == "__main__":
    assert disk.FileDisk.__init__.__kwdefaults__ is not None
    disk.FileDisk.__init__.__kwdefaults__["segment_bytes"] = SEGMENT_BYTES
    node.ROOM_RETRY_SECONDS = 0.05
    sys.argv[0] = "seafoam"
    client_main()
