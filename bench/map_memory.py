"""The memory of a map with COUNT small keys, measured in a process that has done nothing else.

    python map_memory.py COUNT

Prints two figures in bytes: what the kernel counts for the map's file, and by how much the
process's private memory grew. A process with a past would refill memory it had freed before, and
hide the second.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from seafoam._core.map import MapWriter


def private_bytes() -> int:
    """This process's private memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc/self/status has no RssAnon")


def main() -> None:
    count = int(sys.argv[1])
    before_bytes = private_bytes()
    writer = MapWriter(bytes(16), max_logical_bytes=256 << 20, start_id=1)
    for index in range(count):
        writer.begin(index + 1)
        writer.set(b"key:%08d" % index, b"%08d" % index, index + 1)
        writer.end()
    descriptor = writer.reader_fd()
    print(os.fstat(descriptor).st_blocks * 512, private_bytes() - before_bytes)


if __name__ == "__main__":
    main()
