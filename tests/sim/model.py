"""What the state machine must do, said again in Python, and what every key held at every index.

Owns the expected results and values. Knows nothing of the store. Values are texts that are equal
as JSON only where they are equal as bytes.
"""

from __future__ import annotations

from bisect import bisect_right

from seafoam._core.limits import ENTRY_OVERHEAD_BYTES
from seafoam._core.wire import (
    FLAG_BY_VERSION,
    FLAG_ERROR_IF_NOT_KEY,
    FLAG_IF_ABSENT,
    OPERATION_CAS,
    OPERATION_DELETE,
    OPERATION_GET,
    OPERATION_SET,
    Operation,
    decode_command,
)

__all__ = ["Model", "Result", "Value"]

#: What is at a key: its text and the index that wrote it; None where there is nothing.
Value = tuple[bytes, int] | None
#: Code, value, version, deleted: as the store's `OperationResult`.
Result = tuple[str | None, bytes | None, int, bool]


class Model:
    """The map after each entry, from the first on."""

    def __init__(self) -> None:
        self._now: dict[bytes, tuple[bytes, int]] = {}
        # key -> the indexes at which it changed, and what it was from there on
        self._indexes: dict[bytes, list[int]] = {}
        self._values: dict[bytes, list[Value]] = {}

    def apply(self, index: int, command: bytes) -> list[Result]:
        """The results of a command, which stands at `index`."""
        return [self._perform(operation, index) for operation in decode_command(command)]

    def at(self, index: int, key: bytes) -> Value:
        """What was at a key once everything up to `index` was applied."""
        place = bisect_right(self._indexes.get(key, []), index)
        return self._values[key][place - 1] if place else None

    def all_at(self, index: int) -> dict[bytes, Value]:
        """Everything there was once everything up to `index` was applied."""
        held = {key: self.at(index, key) for key in self._values}
        return {key: value for key, value in held.items() if value is not None}

    def all_at_end(self) -> dict[bytes, tuple[bytes, int]]:
        """Everything there is after the last entry."""
        return dict(self._now)

    @property
    def bytes_at_end(self) -> int:
        """The logical bytes of everything there is after the last entry."""
        return sum(len(key) + len(value) + ENTRY_OVERHEAD_BYTES
                   for key, (value, _) in self._now.items())

    def _put(self, key: bytes, value: Value, index: int) -> None:
        if value is None:
            del self._now[key]
        else:
            self._now[key] = value
        self._indexes.setdefault(key, []).append(index)
        self._values.setdefault(key, []).append(value)

    def _perform(self, operation: Operation, index: int) -> Result:
        found = self._now.get(operation.key)
        if operation.kind == OPERATION_DELETE:
            if found is None:
                is_error = operation.flags & FLAG_ERROR_IF_NOT_KEY
                return ("key_not_found" if is_error else None), None, 0, False
            self._put(operation.key, None, index)
            return None, None, 0, True
        if operation.kind == OPERATION_GET:
            return (None, *found, False) if found else ("key_not_found", None, 0, False)
        if operation.kind == OPERATION_CAS:
            if found is None:
                return "key_not_found", None, 0, False
            is_same = found[0] == operation.old_value
            if operation.flags & FLAG_BY_VERSION:
                is_same = found[1] == operation.old_version
            if not is_same:
                return "cas_mismatch", *found, False
        elif operation.kind != OPERATION_SET:
            raise ValueError(f"no such operation: {operation.kind}")
        elif operation.flags & FLAG_IF_ABSENT and found is not None:
            return "key_exists", None, found[1], False
        assert operation.value is not None
        self._put(operation.key, (operation.value, index), index)
        return None, None, index, False
