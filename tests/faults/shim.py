"""The environment in which a program's calls on files are recorded or fail, and what is recorded.

Owns what of shim.c Python must know: its variables, the layout of a record, the kinds of calls.
Never believes a trace that ends in the middle of a record unless the program was killed.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import builds

__all__ = [
    "Event", "Fault", "Kind", "environment_for", "kill_before", "mark", "read_trace",
    "why_not_here",
]

HEADER = struct.Struct("<IIQQqqIIIIII")
BEGIN = 0


class Kind(IntEnum):
    """As enum kind of shim.c."""

    MARK = 0
    CREATE = 1
    WRITE = 2
    SYNC = 3
    RENAME = 4
    UNLINK = 5
    RMDIR = 6
    MKDIR = 7
    RESERVE = 8
    TRUNCATE = 9
    LOOK = 10


@dataclass(frozen=True)
class Fault:
    """What becomes of the calls from number `at` on, `count` of them, of `kinds` (all if empty).

    `mode` is "fail" (with `error`), "short", "kill-before" or "kill-after".
    """

    mode: str
    at: int
    error: int = 0
    count: int = 1
    kinds: str = ""


@dataclass(frozen=True)
class Event:
    """A call that begins or ends, or a mark, whose text is `data`."""

    kind: Kind
    is_begin: bool
    call_id: int
    inode: int
    offset: int
    result: int
    error: int
    is_new: int
    path: str
    new_path: str
    data: bytes


def why_not_here() -> str:
    """Why there can be no shim on this machine; empty where there can."""
    if sys.platform != "linux":
        return "calls are intercepted on Linux only"
    try:
        builds.build_shim()
    except FileNotFoundError as error:
        return f"there is no compiler: {error}"
    return ""


def environment_for(
    root: Path, *, trace: Path | None = None, fault: Fault | None = None, sync_us: int = 0
) -> dict[str, str]:
    """What is to be added to the environment of a program that works below `root`."""
    added = {"LD_PRELOAD": str(builds.build_shim()), "FAULTS_ROOT": str(root.resolve()),
             "FAULTS_SYNC_US": str(sync_us)}
    if trace is not None:
        added["FAULTS_TRACE"] = str(trace)
    if fault is not None:
        added |= {"FAULTS_MODE": fault.mode, "FAULTS_AT": str(fault.at),
                  "FAULTS_COUNT": str(fault.count), "FAULTS_ERRNO": str(fault.error)}
        if fault.kinds:
            added["FAULTS_KINDS"] = fault.kinds
    return added


def mark(text: str) -> None:
    """In the recorded program: a line of its own between the calls."""
    ctypes.CDLL(None).faults_mark(os.fsencode(text))


def kill_before(kinds: str, number: int) -> None:
    """In a program under the shim: its call of this number from now on is the one it dies at."""
    ctypes.CDLL(None).faults_kill_before(os.fsencode(kinds), ctypes.c_uint64(number))


def read_trace(path: Path) -> Iterator[Event]:
    """What a program did, in order; a record that a kill cut off is left out."""
    data = path.read_bytes()
    at = 0
    while at + HEADER.size <= len(data):
        (kind, phase, call_id, inode, offset, result, error, is_new,
         *lengths, _) = HEADER.unpack_from(data, at)
        at += HEADER.size
        parts = []
        for length in lengths:
            parts.append(data[at:at + length])
            at += length
        if at > len(data):
            return
        yield Event(Kind(kind), phase == BEGIN, call_id, inode, offset, result, error, is_new,
                    os.fsdecode(parts[0]), os.fsdecode(parts[1]), parts[2])
