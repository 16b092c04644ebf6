from collections.abc import Callable, Iterable

from seafoam._core.message import Entry, HardState
from seafoam.errors import DataDamaged

class Damage(DataDamaged):
    segment_number: int
    offset: int
    reason: str
    def __init__(self, segment_number: int, offset: int, reason: str) -> None: ...

class EntryPlaces: ...

class Recovery:
    entries: list[Entry]
    hard_state: HardState
    node_id: int
    segment_number: int
    offset: int
    generation: int
    segment_bytes: int
    marked: tuple[int, int]
    data_end: tuple[int, int]
    stale: list[tuple[int, int, int]]
    @property
    def torn(self) -> tuple[int, int] | None: ...
    @property
    def header(self) -> bytes: ...

class WalBatch:
    writes: list[tuple[int, int, bytes]]
    end: tuple[int, int]

class WalWriter:
    node_id: int
    segment_number: int
    offset: int
    segment_bytes: int
    @property
    def room_bytes(self) -> int: ...
    def __init__(self, recovery: Recovery, segment_bytes: int = ...) -> None: ...
    def append(self, entries: list[Entry], hard_state: HardState | None) -> WalBatch: ...
    def idle_marker(self) -> WalBatch | None: ...
    def synced_to(self, position: tuple[int, int]) -> None: ...
    def read(
        self,
        first_index: int,
        last_index: int,
        bytes_max: int,
        read_segment: Callable[[int, int, int], bytes],
    ) -> list[Entry]: ...

def segment_name(segment_number: int) -> str: ...
def first_segment(node_id: int, generation: int, segment_bytes: int) -> bytes: ...
def next_segment(header: bytes, segment_bytes: int) -> bytes: ...
def recover(segments: Iterable[tuple[int, bytes, int]], node_id: int) -> Recovery: ...
