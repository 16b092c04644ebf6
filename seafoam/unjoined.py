"""What stands in for a node that is in no cluster yet, so that clients get an answer.

Owns an empty map and nothing else. Must never take a write or show a value: every call is refused
with `no_leader` at once, and says what the node waits for.
"""

from __future__ import annotations

from collections.abc import Callable

from seafoam._core.map import MapReader, MapWriter
from seafoam._core.store import CommandResult
from seafoam._core.wire import HASH_SEED_BYTES
from seafoam.errors import Refusal

__all__ = ["UnjoinedNode"]

NO_CLUSTER_ID = f"{0:016x}"
#: The smallest there is: nothing is ever put into it.
MAP_BYTES = 1 << 20


class UnjoinedNode:
    """A node before its cluster. `waiting_for` tells what is missing, in a sentence or not at all.
    """

    def __init__(
        self, node_id: int, start_id: int, http_address: str, peer_address: str,
        waiting_for: Callable[[], str],
    ) -> None:
        self.node_id = f"{node_id:016x}"
        self.cluster_id = NO_CLUSTER_ID
        self.http_address = http_address
        self._peer_address = peer_address
        self._waiting_for = waiting_for
        self._writer = MapWriter(
            bytes(HASH_SEED_BYTES), max_logical_bytes=MAP_BYTES, start_id=start_id
        )
        self.reader: MapReader = self._writer.reader()

    def submit(
        self,
        command: bytes,
        timeout_ms: int,
        on_outcome: Callable[[CommandResult | Refusal], None],
    ) -> None:
        """Refuse a write at once, whatever it is and however long it would wait."""
        refusal = self.refuse_reads()
        refusal.applied = "no"
        on_outcome(refusal)

    def refuse_reads(self) -> Refusal:
        """Why nothing is read here."""
        return Refusal("no_leader", self._sentence())

    def readiness(self) -> Refusal:
        """Why it should get no traffic."""
        return Refusal("not_ready", self._sentence())

    def members(self) -> list[dict[str, str]]:
        """Nobody."""
        return []

    def status(self) -> dict[str, object]:
        """What `/status` says of it."""
        return {
            "node_id": self.node_id,
            "cluster_id": self.cluster_id,
            "role": "unjoined",
            "term": 0,
            "leader": None,
            "commit_index": 0,
            "applied_index": 0,
            "keys": 0,
            "memory_bytes": 0,
            "members": [],
            "peer": self._peer_address,
            "waiting_for": self._waiting_for(),
        }

    def close(self) -> None:
        """Let the map go."""
        self._writer.close()

    def _sentence(self) -> str:
        waiting_for = self._waiting_for()
        return f"the node is in no cluster yet: {waiting_for}" if waiting_for else (
            "the node is in no cluster yet")
