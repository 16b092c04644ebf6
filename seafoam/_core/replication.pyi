from seafoam._core.log import RaftLog

class Replication:
    def __init__(self, node_id: int, term: int, log: RaftLog) -> None: ...
