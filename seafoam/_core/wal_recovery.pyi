from collections.abc import Iterable

from seafoam._core.message import Entry, HardState
from seafoam.errors import DataDamaged

class Damage(DataDamaged):
    segment_number: int
    offset: int
    reason: str
    def __init__(self, segment_number: int, offset: int, reason: str) -> None: ...

class EntryPlaces: ...

class Recovery:
    base: tuple[int, int]
    entries: list[Entry]
    hard_state: HardState
    must_rebase: bool
    node_id: int
    segment_number: int
    offset: int
    generation: int
    segment_bytes: int
    marked: tuple[int, int]
    data_end: tuple[int, int]
    stale: list[tuple[int, int, int]]
    unneeded: list[int]
    @property
    def torn(self) -> tuple[int, int] | None: ...
    @property
    def header(self) -> bytes: ...

def segment_name(segment_number: int) -> str: ...
def recover(
    segments: Iterable[tuple[int, bytes, int]],
    node_id: int,
    snapshot: tuple[int, int] | None = None,
) -> Recovery: ...
