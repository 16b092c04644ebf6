"""The doors through which a node meets the world, as protocols.

Owns the contracts and no behaviour. Must never import what implements them: a node is written
against these alone, so that a simulator can stand in for the clock, the disk and the network.
Everything runs on one thread, the event loop's; no method blocks on a sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from seafoam._core.message import Entry, HardState, Message
from seafoam._core.wire_snapshot import SnapshotHead
from seafoam.errors import StartError

__all__ = [
    "CallFailed",
    "Clock",
    "Disk",
    "Network",
    "SnapshotHandle",
    "SnapshotInfo",
    "SnapshotSource",
    "Timer",
]


class Timer(Protocol):
    """A callback that is still to come."""

    def cancel(self) -> None:
        """It will not be called, unless it has been; may be said again."""


class Clock(Protocol):
    """Time, and what is to happen in it."""

    def now_ns(self) -> int:
        """Nanoseconds since some fixed moment; never goes back."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call once the code that runs now has given the loop back, in the order of asking."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call once this many seconds have passed, or a little later; never from within."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """A whole, durable snapshot file: the state at `index`, whose entry is of `term`."""

    file_id: int
    index: int
    term: int
    size_bytes: int
    path: Path


class SnapshotSource(Protocol):
    """A snapshot that is being taken, as whoever writes it down sees it, on one other thread."""

    @property
    def head(self) -> SnapshotHead:
        """What the file begins with."""

    @property
    def is_walked(self) -> bool:
        """Whether everything is there; until then, more may come."""

    @property
    def key_count(self) -> int:
        """Keys given out so far."""

    def next_block(self, sequence: int, bytes_max: int) -> bytes:
        """The next data block of the file, empty where there is none at this moment.

        Raises SnapshotLost where the state is not there any more.
        """


class SnapshotHandle(Protocol):
    """A snapshot file that is being read, from its beginning to its end."""

    @property
    def head(self) -> SnapshotHead:
        """What the file begins with."""

    def __iter__(self) -> Iterator[bytes]:
        """The insides of its data blocks, each once, checked on the way. Raises DataDamaged."""

    def close(self) -> None:
        """No more of it; may be said again."""


class Disk(Protocol):
    """A node's log on disk, from behind what its recovery returned, and its snapshots."""

    @property
    def node_id(self) -> int:
        """The node's id: made once with the data directory, kept in it."""

    @property
    def start_id(self) -> int:
        """Another number for each start, so that two runs are never taken for one."""

    @property
    def full(self) -> bool:
        """There may be no room for another write: refuse it before proposing it.

        Becomes true while there still is room for what was accepted before, for terms and votes;
        becomes false by itself once `retry_prepare` finds room.
        """

    def has_room(self, more_bytes: int) -> bool:
        """Whether the reserve would still be there after so much more was appended."""

    @property
    def log_bytes(self) -> int:
        """What of the log a start would read behind the newest snapshot."""

    @property
    def snapshot(self) -> SnapshotInfo | None:
        """The newest snapshot that is whole and durable."""

    def append(
        self,
        entries: list[Entry],
        hard_state: HardState | None,
        on_durable: Callable[[], None],
        base: tuple[int, int] | None = None,
    ) -> None:
        """Write these behind everything appended before; returns at once.

        With a `base`, the index and term of a durable snapshot, the log begins anew behind it:
        nothing before counts any more.

        `on_durable` is called, in the order of appends and never from within this call, when the
        entries, the hard state and everything before them would survive a loss of power. Appends
        made while the disk is busy share its next sync. What is appended while there is no room
        waits, and is durable only when it is.

        After a failure nothing is called any more, whatever had been appended: the failure went
        to the handler that the disk was made with, once, and the process must end. An append
        after that raises DiskFailed.
        """

    def read_entries(self, first_index: int, last_index: int, bytes_max: int) -> list[Entry]:
        """Entries from `first_index` on, to `last_index` at most: those of them that are durable.

        As many as `bytes_max` bytes of records hold, but one at least; `first_index` must be
        durable. Waits for the disk where the system does not remember what was written.
        DataDamaged names the file and the offset of what is not as it was written; DiskFailed
        where it cannot be read.
        """

    @property
    def first_index(self) -> int:
        """The first entry that can be read back."""

    def drop_log(self, index: int) -> None:
        """Entries before `index` are not needed any more; whole segments of such go, in time.

        `first_index` says at once what cannot be read from here on.
        """

    def save_snapshot(
        self, source: SnapshotSource, on_saved: Callable[[SnapshotInfo | None], None]
    ) -> None:
        """Write a snapshot down, beside the log and slowly enough not to delay it.

        `on_saved` is called once, never from within: with the snapshot, which is durable and the
        newest from then on, older ones being gone; or with None where there was no room for it, or
        its source was lost.
        """

    def open_snapshot(self, info: SnapshotInfo) -> SnapshotHandle:
        """Read one that is on the disk."""

    def read_snapshot(self, file_id: int, offset: int, bytes_max: int) -> bytes:
        """A piece of a snapshot's file; empty where there is no such file any more."""

    def receive_snapshot(self, file_id: int, offset: int, data: bytes, size_bytes: int) -> int:
        """Write down a piece of another node's snapshot; the offset that is wanted next.

        What is not that offset's is passed over. What was received since the start counts; the
        beginning of another file ends that of the one before. DataDamaged for a length that no
        snapshot has, Refusal where there is no room.
        """

    def finish_receiving(
        self, file_id: int, on_ready: Callable[[SnapshotInfo | StartError], None]
    ) -> None:
        """Check what was received as a whole, and make it this node's newest, durably.

        `on_ready` is called once, never from within, with the newest there is then; or with what
        is wrong, and then nothing of it is left.
        """

    def retry_prepare(self) -> None:
        """Where there was no room for what comes next, look again; returns at once.

        For a timer, and whether `full` or not: `has_room` may be false long before.
        """

    def status(self) -> dict[str, object]:
        """What `/status` says of the disk."""


class CallFailed(NamedTuple):
    """A call that was not answered; where it was not sent, nobody has seen it."""

    was_sent: bool


class Network(Protocol):
    """The other nodes."""

    def keep(self, addresses: Iterable[str]) -> None:
        """Stay connected to these peer addresses, and to no others."""

    def send(self, node_id: int, message: Message) -> None:
        """A message of Raft, which may be lost, doubled or late; returns at once."""

    def call(
        self, node_id: int, payload: bytes, on_answer: Callable[[bytes | CallFailed], None]
    ) -> None:
        """Ask a node; calls to one node arrive in order, if at all, each once.

        `on_answer` is called once, never from within this call.
        """

    def http_address(self, node_id: int) -> str:
        """HOST:PORT where clients reach that node; empty where it has not been heard of."""
