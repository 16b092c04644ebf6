"""Doors for a node under test: a clock that stands still, a disk that syncs when told to, and a
network that keeps what it is given."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace

from seafoam._core.message import ENTRY_FOUNDING, Entry, HardState, Message
from seafoam._core.wire import encode_founding
from seafoam.ports import CallFailed

NODE_ID = 0xA1
SEED = bytes(range(16))


class ManualClock:
    """Time moves only by `advance`; what is due runs in order of time, then of asking."""

    def __init__(self) -> None:
        self._now_ns = 0
        self._count = 0
        self._soon: deque[Callable[[], None]] = deque()
        self._later: list[tuple[int, int, SimpleNamespace]] = []

    def now_ns(self) -> int:
        return self._now_ns

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> SimpleNamespace:
        timer = SimpleNamespace(callback=callback)

        def cancel() -> None:
            timer.callback = None

        timer.cancel = cancel
        self._count += 1
        due_ns = self._now_ns + int(seconds * 1e9)
        heapq.heappush(self._later, (due_ns, self._count, timer))
        return timer

    def run(self) -> None:
        """Everything that is due now."""
        while self._soon:
            self._soon.popleft()()

    def advance(self, seconds: float) -> None:
        end_ns = self._now_ns + int(seconds * 1e9)
        self.run()
        while self._later and self._later[0][0] <= end_ns:
            self._now_ns, _, timer = heapq.heappop(self._later)
            if timer.callback is not None:
                timer.callback()
            self.run()
        self._now_ns = end_ns


class MemoryDisk:
    """Keeps what it is given; nothing is durable before `sync`."""

    def __init__(self) -> None:
        self.node_id = NODE_ID
        self.start_id = 1
        self.full = False
        self.retries_count = 0
        self.snapshot = None
        self.log_bytes = 0
        self.first_index = 1
        self.appended: list[tuple[list[Entry], HardState | None]] = []
        self._waiting: deque[Callable[[], None]] = deque()

    def append(self, entries, hard_state, on_durable, base=None) -> None:
        self.appended.append((list(entries), hard_state))
        self._waiting.append(on_durable)

    def sync(self) -> int:
        """Everything handed over so far is durable now; how many reports that made."""
        waiting, self._waiting = self._waiting, deque()
        for on_durable in waiting:
            on_durable()
        return len(waiting)

    def read_entries(self, first_index: int, last_index: int, bytes_max: int) -> list[Entry]:
        log: dict[int, Entry] = {}
        for entries, _ in self.appended:
            for entry in entries:
                log = {index: held for index, held in log.items() if index < entry.index}
                log[entry.index] = entry
        found = [log[index] for index in range(first_index, last_index + 1)]
        while len(found) > 1 and sum(len(entry.data) for entry in found) > bytes_max:
            found.pop()
        return found

    def has_room(self, more_bytes: int) -> bool:
        return not self.full

    def retry_prepare(self) -> None:
        self.retries_count += 1

    def status(self) -> dict[str, object]:
        return {"syncs": 0}


class MemoryNetwork:
    """Keeps what is sent; answers of calls are the test's."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.sent: list[tuple[int, Message]] = []
        self.calls: list[tuple[int, bytes, Callable[[bytes | CallFailed], None]]] = []

    def keep(self, addresses) -> None:
        self.kept = [*addresses]

    def send(self, node_id: int, message: Message) -> None:
        self.sent.append((node_id, message))

    def call(self, node_id: int, payload: bytes, on_answer) -> None:
        self.calls.append((node_id, payload, on_answer))

    def http_address(self, node_id: int) -> str:
        return ""


def founding_entry() -> Entry:
    members = [(NODE_ID, "127.0.0.1:3010")]
    return Entry(1, 1, ENTRY_FOUNDING, encode_founding(0xC1, SEED, members))


def recovery_of(entries=None, hard_state=None) -> SimpleNamespace:
    """What a disk that holds these would have recovered; by default a fresh founding."""
    return SimpleNamespace(
        entries=entries or [founding_entry()], hard_state=hard_state or HardState(1, 0, 1)
    )
