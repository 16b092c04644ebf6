"""What one machine's disk holds in tests of several `Raft`s: a log of records, and a snapshot.

Writes wait for `sync`; a crash loses unsynced records one by one from the end. What a start finds
(`recovered`) is judged beside the snapshot as a real disk judges it. A disk that is asked for what
it cannot have raises.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from seafoam._core.confchange import Configuration
from seafoam._core.message import Durable, Entry, HardState, Message


@dataclass(frozen=True)
class Base:
    """A record: all before it is superseded, entries go on behind this one."""

    index: int
    term: int


@dataclass(frozen=True)
class Snapshot:
    """All that was applied up to an index; here, the entries themselves are the state."""

    index: int
    term: int
    applied: tuple[Entry, ...]
    configuration: Configuration
    configured_index: int

    @property
    def base(self) -> Base:
        return Base(self.index, self.term)


@dataclass
class Log:
    """Entries behind a base."""

    base: Base = Base(0, 0)
    entries: list[Entry] = field(default_factory=list)

    def copy(self) -> Log:
        return Log(self.base, list(self.entries))

    @property
    def last_index(self) -> int:
        return self.base.index + len(self.entries)

    def at(self, index: int) -> Entry | None:
        if self.base.index < index <= self.last_index:
            return self.entries[index - self.base.index - 1]
        return None

    def term_at(self, index: int) -> int:
        if index == self.base.index:
            return self.base.term
        entry = self.at(index)
        assert entry is not None, f"no entry {index} in {self}"
        return entry.term

    def put(self, record: Entry | Base) -> None:
        if isinstance(record, Base):
            self.base, self.entries = record, []
            return
        assert self.base.index < record.index <= self.last_index + 1, f"{record} leaves a gap"
        self.entries[record.index - self.base.index - 1:] = [record]

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry at an index is here with this term, or one above its base."""
        return index < self.base.index or (
            index <= self.last_index and self.term_at(index) == term)

    def drop(self, index: int) -> None:
        """Entries up to this one are not here any more."""
        index = min(index, self.last_index)
        if index > self.base.index:
            base = Base(index, self.term_at(index))
            del self.entries[:index - self.base.index]
            self.base = base

    def beside(self, snapshot: Snapshot | None) -> Log:
        """What of this log is worth anything beside that snapshot."""
        if snapshot is None:
            assert self.base.index == 0, "the log begins later than the data"
            return self.copy()
        assert self.base.index <= snapshot.index, "a gap between snapshot and log"
        if not self.holds(snapshot.index, snapshot.term):
            return Log(snapshot.base)
        return Log(snapshot.base, self.entries[snapshot.index - self.base.index:])


class Disk:
    """What one node has written: records that are synced, and writes that are not yet."""

    def __init__(self, entries: list[Entry], hard_state: HardState) -> None:
        self.log = Log(entries=entries)
        self.hard_state = hard_state
        self.snapshot: Snapshot | None = None
        #: (entries, hard state, report, messages that wait for it); a base may precede the entries
        self.writes: list[tuple[list, HardState | None, Durable, list[Message]]] = []

    @property
    def entries(self) -> list[Entry]:
        """The synced ones, from the first that was not dropped on."""
        return self.log.entries

    def _keep(self, record: Entry | Base | HardState) -> None:
        if isinstance(record, HardState):
            self.hard_state = record
        else:
            self.log.put(record)

    def sync(self) -> tuple[Durable, list[Message]]:
        entries, hard_state, report, waiting = self.writes.pop(0)
        for entry in entries:
            self._keep(entry)
        if hard_state is not None:
            self._keep(hard_state)
        return report, waiting

    def unsynced_records(self) -> list[Entry | Base | HardState]:
        return [record for entries, hard_state, _, _ in self.writes
                for record in (*entries, *([hard_state] if hard_state else []))]

    def crash(self, survivors: int) -> None:
        """The first so many unsynced records had reached the disk, the others had not."""
        records = self.unsynced_records()
        self.writes = []
        for record in records[:survivors]:
            self._keep(record)
        last_term = self.log.term_at(self.log.last_index)
        if last_term > self.hard_state.term:  # as recovery does: its hard state was torn off
            self.hard_state = HardState(last_term, 0, self.hard_state.commit_index)

    def recovered(self) -> Log:
        """What a start would find of what is synced: the log behind the snapshot, if there is one.
        """
        return self.log.beside(self.snapshot)

    def safe_index(self) -> int:
        """The last entry that a start would find, in the log or in the snapshot."""
        if self.snapshot is None:
            return self.log.last_index
        if self.log.holds(*_place(self.snapshot)):
            return max(self.log.last_index, self.snapshot.index)
        return self.snapshot.index

    def start(self) -> Log:
        """The same; the disk's own log goes on from it."""
        found = self.recovered()
        if self.snapshot is not None and not self.log.holds(*_place(self.snapshot)):
            self.log = found.copy()
        return found

    def written_log(self) -> Log:
        """The log as it will be once all is synced."""
        log = self.log.copy()
        for entries, _, _, _ in self.writes:
            for entry in entries:
                log.put(entry)
        return log

    def written(self) -> list[Entry]:
        return self.written_log().entries

    def read(self, first: int, last: int) -> list[Entry]:
        log = self.written_log()
        found = [log.at(index) for index in range(first, last + 1)]
        assert found and None not in found, f"{first}..{last} is not on disk: {log}"
        return found  # type: ignore[return-value]

    def drop(self, index: int) -> None:
        """Let go of entries up to this one, which the snapshot has."""
        assert self.snapshot is not None and index < self.snapshot.index
        self.log.drop(index)


def _place(snapshot: Snapshot) -> tuple[int, int]:
    return snapshot.index, snapshot.term
