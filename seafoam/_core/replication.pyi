from seafoam._core.log import RaftLog
from seafoam._core.outbox import Outbox

class Replication:
    def __init__(self, node_id: int, term: int, log: RaftLog, out: Outbox) -> None: ...
