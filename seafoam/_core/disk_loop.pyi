from typing import NamedTuple

FAILURE_NAMES: dict[int, str]

class DiskCounters(NamedTuple):
    batches_count: int
    writes_count: int
    syncs_count: int
    written_bytes: int
    last_sync_ns: int
    longest_sync_ns: int
    total_sync_ns: int

class DiskFailure(NamedTuple):
    call: str
    fd: int
    reason: str

class DiskLoop:
    @property
    def wake_fd(self) -> int: ...
    def submit(self, writes: list[tuple[int, int, bytes]]) -> int: ...
    def completed(self) -> int: ...
    def failure(self) -> DiskFailure | None: ...
    def stop(self) -> None: ...
    def counters(self) -> DiskCounters: ...
