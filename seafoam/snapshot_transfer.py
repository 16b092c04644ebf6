"""A snapshot's way from a leader to a member whose log ends before the leader's begins.

Owns what is under way of that, on both sides. Knows the machine, which says who needs one, and
carries the disk's files in pieces; reads nothing of what they hold. Must never call a snapshot
installed before the node's state is that snapshot's, or later.

    leader   needs -> asks how much is there -> a piece after another -> asks now and then -> told
    member            nothing, or a part kept    written in order         reads it into a map    ^
                      from an earlier attempt                             installs it -----------'

Invariants:
  T1  One piece is under way to a member: it is sent the next when it has written the last.
  T2  What was received counts only once the whole file is found to be as it was written.
  T3  A member takes pieces only from the leader of its present term.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from seafoam._core.progress import PROGRESS_SNAPSHOT
from seafoam._core.raft import ROLE_FOLLOWER, ROLE_LEADER, Raft
from seafoam.calls import (
    STAGE_INSTALLED,
    STAGE_INSTALLING,
    STAGE_WANTED,
    BadCall,
    Elsewhere,
    Piece,
    Progress,
    decode_piece,
    decode_piece_answer,
    encode_elsewhere,
    encode_piece,
    encode_progress,
    encode_refused,
)
from seafoam.errors import DataDamaged, Refusal, StartError
from seafoam.ports import CallFailed, Clock, Disk, Network, SnapshotInfo

__all__ = ["PIECE_BYTES", "SnapshotReceiver", "SnapshotSender"]

#: Of a file in one call: a heartbeat on the same wire does not wait long behind it.
PIECE_BYTES = 131_072
#: How soon a member that reads its snapshot is asked again whether it is done.
INSTALLING_SECONDS = 0.05
#: How soon one that did not answer is tried again.
RETRY_SECONDS = 0.5

logger = logging.getLogger("seafoam.snapshots")


class SnapshotSender:
    """The leader's side, for all members."""

    def __init__(self, raft: Raft, disk: Disk, clock: Clock, network: Network,
                 on_change: Callable[[], None]) -> None:
        self._raft = raft
        self._disk = disk
        self._clock = clock
        self._network = network
        self._on_change = on_change
        # Members that are sent one, each with the term in which that began.
        self._busy: dict[int, int] = {}
        self.sent_count = 0

    def begin(self, node_id: int) -> None:
        """A member needs a snapshot."""
        if self._busy.get(node_id) == self._raft.term:
            return
        self._busy[node_id] = self._raft.term
        logger.info("member %016x needs a snapshot", node_id)
        self._ask(node_id, self._raft.term, None)

    def _is_wanted(self, node_id: int, term: int) -> bool:
        raft = self._raft
        progress = raft.progress_of(node_id)
        return (
            raft.role == ROLE_LEADER and raft.term == term and self._busy.get(node_id) == term
            and progress is not None and progress.state == PROGRESS_SNAPSHOT
        )

    def _ask(self, node_id: int, term: int, wanted: tuple[SnapshotInfo, int] | None) -> None:
        """Send a member what it wants: its first piece is empty, and asks what that is."""
        if not self._is_wanted(node_id, term):
            self._end(node_id, term)
            return
        info, offset = wanted or (self._disk.snapshot, 0)
        if info is None:
            self._later(RETRY_SECONDS, node_id, term, None)
            return
        data = b""
        if wanted is not None and offset < info.size_bytes:
            data = self._disk.read_snapshot(info.file_id, offset, PIECE_BYTES)
            if not data:
                # A newer one has taken its place.
                self._ask(node_id, term, None)
                return
        piece = Piece(term, info.file_id, info.index, info.term, info.size_bytes, offset, data)
        self._network.call(
            node_id, encode_piece(piece), partial(self._on_answer, node_id, term, info))

    def _on_answer(
        self, node_id: int, term: int, info: SnapshotInfo, answer: bytes | CallFailed
    ) -> None:
        try:
            said = Elsewhere("") if isinstance(answer, CallFailed) else decode_piece_answer(answer)
        except BadCall as error:
            logger.warning("what member %016x says of a snapshot makes no sense: %s", node_id,
                           error)
            said = Elsewhere("")
        if not isinstance(said, Progress):
            self._later(RETRY_SECONDS, node_id, term, None)
        elif said.stage == STAGE_WANTED:
            self._ask(node_id, term, (info, min(said.value, info.size_bytes)))
        elif said.stage == STAGE_INSTALLING:
            self._later(INSTALLING_SECONDS, node_id, term, (info, info.size_bytes))
        else:
            self._installed(node_id, term, said.value)

    def _installed(self, node_id: int, term: int, index: int) -> None:
        is_wanted = self._is_wanted(node_id, term)
        self._end(node_id, term)
        if is_wanted:
            self.sent_count += 1
            logger.info("member %016x has a snapshot at index %d", node_id, index)
            self._raft.snapshot_sent(node_id, index)
            self._on_change()

    def _end(self, node_id: int, term: int) -> None:
        """Nothing is under way any more; whoever needs one again is sent one again."""
        if self._busy.get(node_id) == term:
            del self._busy[node_id]

    def _later(self, seconds: float, node_id: int, term: int,
               wanted: tuple[SnapshotInfo, int] | None) -> None:
        self._clock.call_later(seconds, partial(self._ask, node_id, term, wanted))


class SnapshotReceiver:
    """A member's side. `on_ready` is told of a snapshot that is here, whole and durable; it is
    being installed until `done` is said."""

    def __init__(
        self, raft: Raft, disk: Disk, on_ready: Callable[[SnapshotInfo], None]
    ) -> None:
        self._raft = raft
        self._disk = disk
        self._on_ready = on_ready
        # Of the file that is being checked or installed; 0: none.
        self._file_id = 0
        self.received_count = 0

    def handle(self, from_id: int, payload: bytes) -> bytes:
        """The answer to a piece of a snapshot; raises BadCall where it is none."""
        piece = decode_piece(payload)
        raft = self._raft
        if (piece.term != raft.term or raft.role != ROLE_FOLLOWER
                or raft.leader_id not in (0, from_id)):
            return encode_elsewhere(Elsewhere(""))
        if raft.log.applied_index >= piece.index:
            return encode_progress(Progress(STAGE_INSTALLED, piece.index))
        if self._file_id:
            return encode_progress(Progress(STAGE_INSTALLING, 0))
        try:
            wanted = self._disk.receive_snapshot(
                piece.file_id, piece.offset, piece.data, piece.size_bytes)
        except Refusal as refusal:
            return encode_refused(refusal)
        except DataDamaged as error:
            raise BadCall(str(error)) from None
        if wanted < piece.size_bytes:
            return encode_progress(Progress(STAGE_WANTED, wanted))
        self._file_id = piece.file_id
        self._disk.finish_receiving(piece.file_id, self._on_checked)
        return encode_progress(Progress(STAGE_INSTALLING, 0))

    def _on_checked(self, found: SnapshotInfo | StartError) -> None:
        if isinstance(found, StartError):
            # It was written down as it came: what was sent, or this disk, is at fault. Once more.
            logger.error("a snapshot that was received cannot be used: %s", found)
            self._file_id = 0
            return
        self.received_count += 1
        self._on_ready(found)

    def done(self) -> None:
        """What was ready is installed, or of no use any more."""
        self._file_id = 0
