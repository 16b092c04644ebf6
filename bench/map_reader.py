"""A reader in a process of its own: attaches to a map's descriptor and reads when told.

    python map_reader.py FD CORE KEY_COUNT SEED

Commands, one a line on standard input, each answered with one line:

    prepare METHOD COUNT    draw COUNT keys (fresh strings) for METHOD: get or get_many
    go                      read them all; answers the seconds it took

Drawing is apart from reading so that the clock of whoever gives the commands sees only reads.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time

from bench_keys import BATCH, batches, fresh_keys, get_all, get_many_all
from seafoam._core.map import MapReader


def main() -> None:
    descriptor, core, key_count, seed = map(int, sys.argv[1:])
    os.sched_setaffinity(0, {core})
    gc.disable()
    reader = MapReader.attach(descriptor)
    luck = random.Random(seed)
    function, items = get_all, []
    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "prepare":
            keys = fresh_keys(luck, key_count, int(arguments[1]))
            function = get_many_all if arguments[0] == "get_many" else get_all
            items = batches(keys, BATCH) if function is get_many_all else keys
            print("ready", flush=True)
        else:
            start = time.perf_counter()
            function(getattr(reader, "get_many" if function is get_many_all else "get"), items)
            print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
