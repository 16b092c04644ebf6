ENTRY_EMPTY: int
ENTRY_COMMAND: int
ENTRY_FOUNDING: int

class Entry:
    index: int
    term: int
    kind: int
    data: bytes
    def __init__(self, index: int, term: int, kind: int, data: bytes) -> None: ...

class HardState:
    term: int
    vote: int
    commit_index: int
    def __init__(self, term: int, vote: int, commit_index: int) -> None: ...

class Durable:
    term: int
    index: int
    commit_index: int
    def __init__(self, term: int, index: int, commit_index: int) -> None: ...

class Ready:
    entries: list[Entry]
    hard_state: HardState | None
    committed: list[Entry]
    durable: Durable | None
    def __init__(
        self,
        entries: list[Entry],
        hard_state: HardState | None,
        committed: list[Entry],
        durable: Durable | None,
    ) -> None: ...
