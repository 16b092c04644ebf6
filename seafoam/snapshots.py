"""A node's snapshots: when one is taken, and how one becomes a map.

Owns the snapshot that is being taken, and the pace of both. Knows neither files nor messages: the
disk writes what it is given, and `snapshot_transfer` carries files between nodes. Must never take
one in the middle of an entry, nor let go of a log that the disk's newest snapshot does not reach.

Invariants:
  S1  A snapshot is the state behind one applied entry: it is begun between two, and the map keeps
      what it was then for as long as it is open.
  S2  The log is dropped only after a snapshot behind it is durable, and no further than that one's
      index; a log that members still need is kept, but no further back than to the one before.
  S3  A map that is being made from a snapshot is nobody's until it is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from seafoam._core import limits
from seafoam._core.map import MapWriter
from seafoam._core.map_snapshot import MapSnapshot
from seafoam._core.raft import Raft
from seafoam._core.wire_snapshot import SnapshotHead
from seafoam.membership import Membership
from seafoam.ports import Disk, SnapshotHandle, SnapshotInfo

__all__ = ["MapMaking", "Snapshots"]

#: Buckets walked in one turn: some tens of microseconds.
BUCKETS_PER_TURN = 1_024
#: One that could not be written is tried again once the log has grown by so much of the bound.
RETRY_DIVISOR = 8

logger = logging.getLogger("seafoam.snapshots")


class _Source:
    """A snapshot on its way to the disk (`ports.SnapshotSource`)."""

    def __init__(self, head: SnapshotHead, snapshot: MapSnapshot) -> None:
        self.head = head
        self.next_block = snapshot.next_block
        self._snapshot = snapshot

    @property
    def is_walked(self) -> bool:
        return bool(self._snapshot.is_walked)

    @property
    def key_count(self) -> int:
        return int(self._snapshot.key_count)


class Snapshots:
    """Takes snapshots of one node's state, and drops the log behind them.

    One is due when the log behind the last holds `log_bytes_min`, and as much as that file.
    """

    def __init__(
        self,
        disk: Disk,
        raft: Raft,
        membership: Membership,
        founding: bytes,
        log_bytes_min: int = limits.SNAPSHOT_LOG_BYTES,
    ) -> None:
        self._disk = disk
        self._raft = raft
        self._membership = membership
        self._founding = founding
        self._log_bytes_min = log_bytes_min
        self._due_bytes = 0
        self._open: MapSnapshot | None = None
        # The disk writes one at a time, and hears later that one was given up.
        self._is_saving = False
        # Of the snapshot before the newest, for members that lag (S2).
        self._earlier_index = 0
        self._taken_count = 0

    def consider(self, writer: MapWriter) -> bool:
        """Between two entries: take one if it is due, walk on with it; whether to come again."""
        if self._open is None:
            if self._is_saving or self._disk.log_bytes < self._due_at_bytes():
                return False
            self._begin(writer)
        return self._open is not None and not self._open.walk(BUCKETS_PER_TURN)

    def _due_at_bytes(self) -> int:
        newest = self._disk.snapshot
        size_bytes = newest.size_bytes if newest is not None else 0
        return max(self._log_bytes_min, size_bytes, self._due_bytes)

    def _begin(self, writer: MapWriter) -> None:
        log = self._raft.log
        index = log.applied_index
        newest = self._disk.snapshot
        if newest is not None and index <= newest.index:
            return
        snapshot = writer.begin_snapshot()
        self._open = snapshot
        self._is_saving = True
        # Unlike any other's: a start takes one at an index once, and starts differ.
        file_id = (self._disk.start_id + index) % (1 << 64) or 1
        head = SnapshotHead(
            file_id, index, log.term_of(index), self._founding, self._membership.encode())
        logger.info("taking a snapshot at index %d, of %d keys", index, writer.keys)
        self._disk.save_snapshot(
            _Source(head, snapshot), lambda saved: self._on_saved(snapshot, saved))

    def _on_saved(self, snapshot: MapSnapshot, saved: SnapshotInfo | None) -> None:
        snapshot.close()
        self._is_saving = False
        if self._open is snapshot:
            self._open = None
        if saved is None:
            self._due_bytes = self._disk.log_bytes + self._log_bytes_min // RETRY_DIVISOR
            return
        self._due_bytes = 0
        self._taken_count += 1
        logger.info("snapshot at index %d: %d bytes", saved.index, saved.size_bytes)
        self.drop_log(saved)

    def drop_log(self, newest: SnapshotInfo) -> None:
        """Let go of what of the log nobody needs any more, now that this is the newest."""
        needed_index = newest.index
        if not self._all_hold(newest.index):
            needed_index = self._earlier_index
        self._earlier_index = newest.index
        # The entry at the snapshot's index stays: whoever is sent that snapshot goes on behind it.
        self._disk.drop_log(needed_index)
        self._raft.dropped_to(self._disk.first_index - 1)

    def _all_hold(self, index: int) -> bool:
        """Whether all other members are known to hold everything up to `index`."""
        own_id = self._raft.node_id
        others = [node_id for node_id in self._membership.addresses if node_id != own_id]
        found = [self._raft.progress_of(node_id) for node_id in others]
        return all(progress is not None and progress.match_index >= index for progress in found)

    def forget(self) -> None:
        """The map is given up for another: what was being taken of it is void."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def status(self) -> dict[str, object]:
        """What `/status` says of snapshots."""
        newest = self._disk.snapshot
        return {
            "index": newest.index if newest is not None else 0,
            "size_bytes": newest.size_bytes if newest is not None else 0,
            "is_being_taken": self._open is not None,
            "taken": self._taken_count,
            "log_bytes": self._disk.log_bytes,
        }


class MapMaking:
    """A map that is made from a snapshot, a block at a time (S3)."""

    def __init__(self, handle: SnapshotHandle, make_writer: Callable[[], MapWriter]) -> None:
        self.head = handle.head
        self.writer = make_writer()
        self._handle = handle
        self._payloads = iter(handle)

    def step(self) -> bool:
        """Take over a block more; whether that was the last. Raises DataDamaged."""
        payload = next(self._payloads, None)
        if payload is not None:
            self.writer.load_block(payload)
            return False
        self._handle.close()
        self.writer.begin(self.head.index)
        self.writer.end()
        return True

    def close(self) -> None:
        """Give the map up."""
        self._handle.close()
        self.writer.close()
