from collections.abc import Callable

from seafoam._core.message import Entry, HardState
from seafoam._core.wal_recovery import Damage as Damage
from seafoam._core.wal_recovery import Recovery as Recovery
from seafoam._core.wal_recovery import recover as recover
from seafoam._core.wal_recovery import segment_name as segment_name

__all__ = [
    "Damage",
    "Recovery",
    "WalBatch",
    "WalWriter",
    "first_segment",
    "next_segment",
    "recover",
    "segment_name",
]

class WalBatch:
    writes: list[tuple[int, int, bytes]]
    end: tuple[int, int]

class WalWriter:
    node_id: int
    segment_number: int
    offset: int
    segment_bytes: int
    @property
    def first_index(self) -> int: ...
    @property
    def room_bytes(self) -> int: ...
    def __init__(self, recovery: Recovery, segment_bytes: int = ...) -> None: ...
    def append(
        self,
        entries: list[Entry],
        hard_state: HardState | None,
        base: tuple[int, int] | None = None,
    ) -> WalBatch: ...
    def idle_marker(self) -> WalBatch | None: ...
    def synced_to(self, position: tuple[int, int]) -> None: ...
    def droppable(self, index: int) -> list[int]: ...
    def dropped(self, segment_number: int) -> None: ...
    def bytes_behind(self, index: int) -> int: ...
    def read(
        self,
        first_index: int,
        last_index: int,
        bytes_max: int,
        read_segment: Callable[[int, int, int], bytes],
    ) -> list[Entry]: ...

def first_segment(node_id: int, generation: int, segment_bytes: int) -> bytes: ...
def next_segment(header: bytes, segment_bytes: int) -> bytes: ...
