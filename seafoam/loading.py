"""Loads documents, one a line, in batches.

Owns what a line must be and how far a load has come. A line is ``{"key": ..., "value": ...}``,
exactly these two fields, within the limits of keys and values; blank lines are skipped. The first
line that is none of this ends the load, after everything before it has been stored; so does the
node's first refusal. Must never lose track: whoever is told that a load stopped is told which
lines are acknowledged, and of which it is not known.

One batch is one log entry and one answer, so it is stored whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from seafoam._core import json, limits
from seafoam.client import CallRefused, Connection, NodeUnreachable
from seafoam.errors import SeafoamError

__all__ = ["LoadStopped", "load_lines"]

#: Operations and bytes of one batch: enough that a sync is shared by many, few enough that other
#: clients' requests fit in between.
BATCH_OPERATIONS = 250
BATCH_BYTES = 256 * 1024
#: A line with the largest value and much whitespace fits; what is longer is no document.
LINE_BYTES_MAX = limits.BODY_BYTES_MAX


class LoadStopped(SeafoamError):
    """A load ended before its file did. Its cause, where there is one, is the node's refusal."""


class BadLine(SeafoamError):
    """A line that cannot be stored; the message is the reason."""


def load_lines(
    connection: Connection, file: IO[bytes], progress: Callable[[int], object]
) -> int:
    """Store every line of `file`; how many documents that were.

    `progress` is called with the number of bytes of the lines that were acknowledged since its
    last call. Raises `LoadStopped`, for a KeyboardInterrupt too, since that as well must be told
    how far the load came.
    """
    load = _Load(connection, progress)
    try:
        try:
            for line in iter(lambda: file.readline(LINE_BYTES_MAX + 1), b""):
                load.take(line)
        except BadLine as bad:
            load.send()
            raise LoadStopped(f"line {load.line + 1}: {bad}; {load.position()}") from None
        load.send()
    except CallRefused as refused:
        load.in_doubt = refused.applied != "no"
        raise LoadStopped(f"{refused}; {load.position()}") from refused
    except NodeUnreachable as lost:
        load.in_doubt = lost.sent
        raise LoadStopped(f"{lost}; {load.position()}") from lost
    except KeyboardInterrupt:
        raise LoadStopped(f"interrupted; {load.position()}") from None
    return load.stored_count


class _Load:
    """How far a load has come: the lines that are stored, and behind them those that wait."""

    def __init__(self, connection: Connection, progress: Callable[[int], object]) -> None:
        self._connection = connection
        self._progress = progress
        self._operations: list[bytes] = []
        self._operations_bytes = 0
        self._lines_bytes = 0
        #: The last line that was taken, and the last one that is stored; the first line is 1.
        self.line = 0
        self._stored_line = 0
        self.stored_count = 0
        #: Whether the lines that wait have been sent, and their answer has not come.
        self.in_doubt = False

    def take(self, line: bytes) -> None:
        """Put a line behind those that wait; they are sent first where it does not fit."""
        operation = _operation(line) if line.strip() else b""
        full = len(self._operations) == BATCH_OPERATIONS
        if full or self._operations_bytes + len(operation) > BATCH_BYTES:
            self.send()
        if operation:
            self._operations.append(operation)
            self._operations_bytes += len(operation)
        self._lines_bytes += len(line)
        self.line += 1

    def send(self) -> None:
        """Store the lines that wait."""
        if self._operations:
            self.in_doubt = True
            self._connection.post("/batch", b'{"ops":[' + b",".join(self._operations) + b"]}")
            self.in_doubt = False
        self.stored_count += len(self._operations)
        self._stored_line = self.line
        self._progress(self._lines_bytes)
        self._operations = []
        self._operations_bytes = self._lines_bytes = 0

    def position(self) -> str:
        """Which lines are stored, for whoever has to go on from there."""
        stored = f"lines 1 to {self._stored_line} are stored" if self._stored_line else \
            "no line is stored"
        if not self.in_doubt:
            return f"{stored}, and none after them" if self._stored_line else stored
        return (f"{stored}; whether lines {self._stored_line + 1} to {self.line} are "
                f"is not known (all of them or none)")


def _operation(line: bytes) -> bytes:
    """The operation of a batch that stores the document of a line."""
    if len(line) > LINE_BYTES_MAX:
        raise BadLine(f"it is longer than {LINE_BYTES_MAX} bytes")
    try:
        fields = json.fields(line)
    except json.JsonError as error:
        raise BadLine(str(error)) from None
    found: dict[str, bytes] = {}
    for name, kind, text in fields:
        if name not in ("key", "value"):
            raise BadLine(f"the field {name!r} is unknown; a line has \"key\" and \"value\"")
        if name in found:
            raise BadLine(f"the field {name!r} is there twice")
        if name == "key" and kind != "string":
            raise BadLine("the key is not a string")
        found[name] = text
    for name in ("key", "value"):
        if name not in found:
            raise BadLine(f"the field {name!r} is missing")
    key_bytes = len(json.unescape(found["key"][1:-1]))
    if not limits.KEY_BYTES_MIN <= key_bytes <= limits.KEY_BYTES_MAX:
        raise BadLine(f"the key has {key_bytes} bytes; it must have {limits.KEY_BYTES_MIN} to "
                      f"{limits.KEY_BYTES_MAX}")
    if len(found["value"]) > limits.VALUE_BYTES_MAX:
        raise BadLine(f"the value has {len(found['value'])} bytes; it may have "
                      f"{limits.VALUE_BYTES_MAX}")
    return b'{"op":"set","key":' + found["key"] + b',"value":' + found["value"] + b"}"
