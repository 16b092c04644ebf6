from collections.abc import Iterable
from typing import Literal

VOTE_PENDING: int
VOTE_WON: int
VOTE_LOST: int

def committed_index(
    voters: Iterable[int], voters_outgoing: Iterable[int], acked: dict[int, int]
) -> int | None: ...
def vote_result(
    voters: Iterable[int], voters_outgoing: Iterable[int], votes: dict[int, bool]
) -> Literal["won", "lost", "pending"]: ...
