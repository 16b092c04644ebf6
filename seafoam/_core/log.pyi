from seafoam._core.message import Entry

class RaftLog:
    kept_bytes_max: int
    dropped_index: int
    configuring: list[int]
    first_index: int
    last_index: int
    written_index: int
    durable_index: int
    commit_index: int
    recorded_commit_index: int
    applying_index: int
    applied_index: int
    def __init__(
        self,
        entries: list[Entry],
        commit_index: int,
        kept_bytes_max: int = ...,
        base: tuple[int, int] = ...,
    ) -> None: ...
    def term_of(self, index: int) -> int: ...
