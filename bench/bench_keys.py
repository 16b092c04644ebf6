"""Keys, values and the loops over them, the same for every process of the map's bench."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

#: Keys of one get_many, as the design's figure has it.
BATCH = 100


def key_of(index: int) -> str:
    """The key of number `index`: 12 bytes, a usual length."""
    return f"key:{index:08d}"


def value_of(index: int) -> bytes:
    """The value stored under `key_of(index)`: 42 bytes of JSON text."""
    return b'{"id":"%08d","name":"seafoam %08d"}' % (index, index)


def fresh_keys(luck: random.Random, key_count: int, count: int) -> list[str]:
    """`count` keys drawn from the first `key_count`, as new strings.

    New, because a string keeps its hash once it was computed: `dict.get` with a string that was
    looked up before skips what a program that has just received a key must do.
    """
    return [key_of(index) for index in luck.choices(range(key_count), k=count)]


def batches(keys: Sequence[str], size: int) -> list[list[str]]:
    """`keys` cut into lists of `size`."""
    return [list(keys[start : start + size]) for start in range(0, len(keys), size)]


def get_all(get: Callable[[str], object], keys: Sequence[str]) -> None:
    """One `get` after the other."""
    for key in keys:
        get(key)


def get_many_all(get_many: Callable[[list[str]], object], key_lists: Sequence[list[str]]) -> None:
    """One `get_many` after the other."""
    for keys in key_lists:
        get_many(keys)
