PROGRESS_PROBE: int
PROGRESS_REPLICATE: int
PROGRESS_SNAPSHOT: int
STATE_NAMES: dict[int, str]

class Progress:
    node_id: int
    state: int
    match_index: int
    next_index: int
    told_commit_index: int
    contact_tick: int
    is_waiting: bool
    must_ask: bool
    fetching_index: int
    in_flight_count: int
    in_flight_bytes: int
    def __init__(self, node_id: int, next_index: int, tick: int) -> None: ...
