"""An answer of the API, put together without copying what is large.

Owns when an answer is one text and when it stays in pieces. A piece that is large, which is always
a value, goes to the socket as it is: on its way through an answer, a batch and a response it would
be copied once for each, and 64 MiB copied hold the loop for some 50 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["LARGE_BYTES", "Answer", "assemble", "listed"]

#: Texts up to here are joined; copying so little costs less than handing it over apart.
LARGE_BYTES = 65_536


class Answer(NamedTuple):
    """A whole answer but for its framing: `body` and then `rest`, which only a large one has, are
    its JSON text."""

    http_status: int
    body: bytes
    rest: tuple[bytes, ...] = ()

    @property
    def body_bytes(self) -> int:
        """The length of the whole text."""
        return len(self.body) + sum(map(len, self.rest))


def assemble(http_status: int, pieces: Sequence[bytes]) -> Answer:
    """The answer whose text is these pieces together."""
    first, *rest = _gathered(pieces)
    return Answer(http_status, first, tuple(rest))


def listed(items: Sequence[bytes]) -> list[bytes]:
    """The pieces of a JSON array's inside."""
    if sum(map(len, items)) <= LARGE_BYTES:
        return [b",".join(items)]
    pieces = [b","] * (2 * len(items) - 1)
    pieces[::2] = items
    return pieces


def _gathered(pieces: Iterable[bytes]) -> list[bytes]:
    """The same text in as few pieces as do not copy a large one; one at least."""
    gathered: list[bytes] = []
    small: list[bytes] = []
    small_bytes = 0
    for piece in pieces:
        if small and small_bytes + len(piece) > LARGE_BYTES:
            gathered.append(b"".join(small))
            small, small_bytes = [], 0
        small.append(piece)
        small_bytes += len(piece)
    gathered.append(small[0] if len(small) == 1 else b"".join(small))
    return gathered
