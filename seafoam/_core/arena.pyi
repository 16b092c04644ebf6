"""Stub of the arena: the writer's allocator, of which Python sees two totals."""

class Arena:
    @property
    def live_bytes(self) -> int: ...
    @property
    def evacuated_window_count(self) -> int: ...
