ENTRY_EMPTY: int
ENTRY_COMMAND: int
ENTRY_FOUNDING: int
ENTRY_CONFIGURATION: int
MESSAGE_PRE_VOTE: int
MESSAGE_PRE_VOTE_ANSWER: int
MESSAGE_VOTE: int
MESSAGE_VOTE_ANSWER: int
MESSAGE_APPEND: int
MESSAGE_APPEND_ANSWER: int
MESSAGE_HEARTBEAT: int
MESSAGE_HEARTBEAT_ANSWER: int
MESSAGE_READ_INDEX: int
MESSAGE_READ_INDEX_ANSWER: int
MESSAGE_TIMEOUT_NOW: int
MESSAGE_NAMES: dict[int, str]
VOTE_FORCED: int

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

class Message:
    kind: int
    from_id: int
    to_id: int
    term: int
    index: int
    log_term: int
    commit_index: int
    entries: tuple[Entry, ...]
    is_rejected: bool
    hint_index: int
    hint_term: int
    context: int
    def __init__(
        self,
        kind: int,
        from_id: int,
        to_id: int,
        term: int,
        *,
        index: int = 0,
        log_term: int = 0,
        commit_index: int = 0,
        entries: tuple[Entry, ...] = (),
        is_rejected: bool = False,
        hint_index: int = 0,
        hint_term: int = 0,
        context: int = 0,
    ) -> None: ...

class Durable:
    number: int
    term: int
    index: int
    log_term: int
    commit_index: int
    def __init__(
        self, number: int, term: int, index: int, log_term: int, commit_index: int
    ) -> None: ...

class ReadReady:
    context: int
    index: int
    def __init__(self, context: int, index: int) -> None: ...

class Ready:
    entries: list[Entry]
    hard_state: HardState | None
    messages: list[Message]
    messages_after_durable: list[Message]
    committed: list[Entry]
    reads: list[ReadReady]
    fetches: list[tuple[int, int]]
    snapshots: list[int]
    durable: Durable | None
