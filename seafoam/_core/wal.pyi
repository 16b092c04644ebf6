from collections.abc import Iterable

from seafoam._core.message import Entry, HardState
from seafoam.errors import DataDamaged

class Damage(DataDamaged):
    segment_number: int
    offset: int
    reason: str
    def __init__(self, segment_number: int, offset: int, reason: str) -> None: ...

class Recovery:
    entries: list[Entry]
    hard_state: HardState
    node_id: int
    segment_number: int
    offset: int
    generation: int
    marked: tuple[int, int]
    data_end: tuple[int, int]
    stale: list[tuple[int, int, int]]
    @property
    def torn(self) -> tuple[int, int] | None: ...

class WalBatch:
    writes: list[tuple[int, int, bytes]]
    end: tuple[int, int]

class WalWriter:
    node_id: int
    segment_number: int
    offset: int
    segment_bytes: int
    def __init__(self, recovery: Recovery, segment_bytes: int = ...) -> None: ...
    def append(self, entries: list[Entry], hard_state: HardState | None) -> WalBatch: ...
    def idle_marker(self) -> WalBatch | None: ...
    def synced_to(self, position: tuple[int, int]) -> None: ...

def segment_name(segment_number: int) -> str: ...
def first_segment(node_id: int, generation: int) -> bytes: ...
def recover(segments: Iterable[tuple[int, bytes]], node_id: int) -> Recovery: ...
