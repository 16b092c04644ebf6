"""The doors through which a node meets the world, as protocols.

Owns the contracts and no behaviour. Must never import what implements them: a node is written
against these alone, so that a simulator can stand in for the clock, the disk and the network.
Everything runs on one thread, the event loop's; no method blocks on a sync.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from seafoam._core.message import Entry, HardState, Message

__all__ = ["CallFailed", "Clock", "Disk", "Network", "SnapshotInfo", "Timer"]


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


@dataclass(frozen=True)
class SnapshotInfo:
    """A snapshot on this node's disk, whole and durable."""

    file_id: int
    index: int
    term: int
    size_bytes: int
    path: Path


class Disk(Protocol):
    """A node's log on disk, from behind what its recovery returned."""

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

    def append(
        self, entries: list[Entry], hard_state: HardState | None, on_durable: Callable[[], None]
    ) -> None:
        """Write these behind everything appended before; returns at once.

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
