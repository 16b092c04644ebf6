"""What the map's tests share: a writer of a usual size, values that say whose they are.

A value made by `stamped` repeats its key and version from end to end, so that any piece of another
value in it is seen. Readers in other processes report through their exit status.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from seafoam._core.map import MapWriter

SEED = bytes(range(16))
#: Larger counts where they are wanted (make soak).
SOAK = os.environ.get("SEAFOAM_SOAK") == "1"


def sized(usual: int, soak: int) -> int:
    return soak if SOAK else usual


def new_writer(max_logical_bytes: int = 64 << 20, **options: Any) -> MapWriter:
    """An empty map; options are MapWriter's."""
    return MapWriter(SEED, max_logical_bytes=max_logical_bytes, start_id=1, **options)


def stamped(key: str, version: int, value_bytes: int) -> bytes:
    """The only right value of this key at this version and of this length."""
    stamp = f"<{key}@{version}>".encode()
    return (stamp * (value_bytes // len(stamp) + 1))[:value_bytes]


def in_child(work: Callable[[], None]) -> int:
    """Runs `work` in a forked process; returns its id. The exit status is 0 if it ended well."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return child


def wait_for(children: list[int]) -> None:
    """Fails unless every child ended well."""
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    assert not failed, f"{len(failed)} of {len(children)} readers failed; see their tracebacks"
