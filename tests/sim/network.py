"""The network between the hosts: slow, lossy, and cut wherever the faults say so.

Owns what is under way. Messages of Raft are lost, doubled and overtaken; calls of one process to
another arrive in order or, once their connection broke, not at all. Hosts have addresses, and who
runs on a host changes: a message for a process that is gone may reach the next one there, if that
has the same id. Must never deliver from within `send` or `call`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from seafoam._core.message import Message
from seafoam._core.wire_peer import (
    CONNECTION_RAFT,
    FRAME_PART,
    FRAME_RAFT,
    PART_BYTES_MAX,
    WHOLE_BYTES_MAX,
    FrameReader,
    FrameWriter,
    Hello,
    message_bytes,
)
from seafoam.calls import CALL_FORWARD, call_kind
from seafoam.ports import CallFailed
from sim.clock import MICROSECOND, MILLISECOND, Timeline
from sim.invariants import Violation

if TYPE_CHECKING:
    from sim.cluster import Host, Process

__all__ = ["Network", "NetworkDoor"]

#: A call whose connection is cut is looked at again so much later, and given up after a while.
STALL_NS = 20 * MILLISECOND
GIVE_UP_NS_MAX = 2_000 * MILLISECOND
#: How long what came over a broken connection may lie unread.
HELD_NS_MAX = 700 * MILLISECOND

_OnAnswer = Callable[["bytes | CallFailed"], None]


class Network:
    """All links of a world."""

    def __init__(self, timeline: Timeline, rng: Random) -> None:
        self.seen: Counter[str] = Counter()
        self.hosts: dict[str, Host] = {}
        #: Chances of a message to be lost, doubled, delayed beyond later ones.
        self.loss = self.doubling = self.delay = 0.0
        self.delay_ns_max = 100 * MILLISECOND
        self.on_deliver: Callable[[Process], None] = lambda process: None
        self.on_send: Callable[[Process, Message], None] = lambda process, message: None
        self._timeline = timeline
        self._rng = rng
        self._wire = Wire()
        self._cut: dict[tuple[str, str], bool] = {}
        self._latency_ns_max = rng.choice((200, 2_000, 10_000)) * MICROSECOND
        self._pipes: dict[tuple[Process, Process], Pipe] = {}
        self._sent_count = 0
        self._arrived: dict[tuple[str, str], int] = {}

    # -- faults --------------------------------------------------------------------------------

    def cut(self, from_address: str, to_address: str) -> None:
        """Nothing gets from one host to the other; what is under way may get stuck too."""
        self._cut[from_address, to_address] = True
        for pipe in list(self._pipes.values()):
            ends = (pipe.caller.host.address, pipe.callee.host.address)
            if set(ends) == {from_address, to_address} and self._rng.random() < 0.5:
                self._break(pipe)

    def mend(self) -> None:
        """Everything gets everywhere."""
        self._cut.clear()

    def is_cut(self, from_address: str, to_address: str) -> bool:
        return (from_address, to_address) in self._cut

    @property
    def has_cuts(self) -> bool:
        return bool(self._cut)

    def forget(self, process: Process) -> None:
        """The process is dead: its connections break."""
        for pipe in list(self._pipes.values()):
            if process in (pipe.caller, pipe.callee):
                self._break(pipe)

    # -- messages ------------------------------------------------------------------------------

    def latency_ns(self) -> int:
        return self._rng.randrange(50 * MICROSECOND, self._latency_ns_max)

    def send(self, sender: Process, host: Host, message: Message) -> None:
        """Put a message under way, or lose it."""
        self.on_send(sender, message)
        self.seen["messages"] += 1
        way = (sender.host.address, host.address)
        if way in self._cut or self._rng.random() < self.loss:
            self.seen["messages lost"] += 1
            return
        self._sent_count += 1
        if message_bytes(message) > WHOLE_BYTES_MAX:
            self.seen["messages cut into parts"] += 1
        message = self._wire.through(message)
        copies = 1
        if self._rng.random() < self.doubling:
            self.seen["messages doubled"] += 1
            copies = 2
        for _ in range(copies):
            delay_ns = self.latency_ns()
            if self._rng.random() < self.delay:
                delay_ns += self._rng.randrange(self.delay_ns_max)
            self._timeline.after(
                delay_ns, None, f"message {message.kind} {message.from_id:x}>{message.to_id:x}",
                partial(self._deliver, way, host, message, self._sent_count),
            )

    def _deliver(
        self, way: tuple[str, str], host: Host, message: Message, number: int
    ) -> None:
        process = host.process
        if way in self._cut or process is None or process.node_id != message.to_id:
            self.seen["messages lost"] += 1
            return
        if process.paused_until_ns > self._timeline.now_ns:
            self._timeline.at(
                process.paused_until_ns, None, "message late",
                partial(self._deliver, way, host, message, number),
            )
            return
        if process.node is None:
            return
        if number < self._arrived.get(way, 0):
            self.seen["messages overtaken"] += 1
        else:
            self._arrived[way] = number
        self.on_deliver(process)
        process.network.heard(way[0])
        process.node.handle_message(message)

    # -- calls ---------------------------------------------------------------------------------

    def call(
        self, caller: Process, callee: Process | None, payload: bytes, on_answer: _OnAnswer
    ) -> None:
        """Ask; the answer comes as an event of the caller's."""
        self.seen["calls"] += 1
        if call_kind(payload) == CALL_FORWARD:
            self.seen["writes forwarded"] += 1
        way = (caller.host.address, callee.host.address if callee is not None else "")
        if callee is None or (way in self._cut and self._rng.random() < 0.5):
            self._fail_soon(caller, on_answer, was_sent=False)
            return
        pipe = self._pipes.get((caller, callee))
        if pipe is None:
            pipe = self._pipes[caller, callee] = Pipe(caller, callee)
        pipe.number += 1
        pipe.waiting[pipe.number] = on_answer
        pipe.asked.append((pipe.number, payload))
        pipe.asked_ns = max(pipe.asked_ns, self._timeline.now_ns + self.latency_ns())
        self._timeline.at(pipe.asked_ns, callee, "call", partial(self._arrive, pipe))

    def _fail_soon(self, caller: Process, on_answer: _OnAnswer, *, was_sent: bool) -> None:
        self.seen["calls failed"] += 1
        self._timeline.after(
            self._rng.randrange(1, 5 * MILLISECOND), caller, "call failed",
            partial(on_answer, CallFailed(was_sent)),
        )

    def _break(self, pipe: Pipe) -> None:
        """Of what is under way, a first part may be read by the callee yet; no answer returns."""
        self._pipes.pop((pipe.caller, pipe.callee), None)
        pipe.is_broken = True
        kept = self._rng.randint(0, len(pipe.asked))
        while len(pipe.asked) > kept:
            pipe.asked.pop()
        pipe.held_until_ns = self._timeline.now_ns + self._rng.randrange(HELD_NS_MAX)
        waiting, pipe.waiting = pipe.waiting, {}
        for on_answer in waiting.values():
            self._fail_soon(pipe.caller, on_answer, was_sent=True)

    def _stalls(self, pipe: Pipe, from_: Process, to: Process) -> bool:
        if not self.is_cut(from_.host.address, to.host.address):
            return False
        if self._rng.random() * GIVE_UP_NS_MAX < STALL_NS and not pipe.is_broken:
            self._break(pipe)
        return True

    def _arrive(self, pipe: Pipe) -> None:
        if not pipe.asked:
            return
        if pipe.is_broken and self._timeline.now_ns < pipe.held_until_ns:
            self._timeline.at(
                pipe.held_until_ns, pipe.callee, "call held", partial(self._arrive, pipe))
            return
        if self._stalls(pipe, pipe.caller, pipe.callee):
            self._timeline.after(
                STALL_NS, pipe.callee, "call stalls", partial(self._arrive, pipe))
            return
        number, payload = pipe.asked.popleft()
        callee = pipe.callee
        self.on_deliver(callee)
        if callee.node is None:
            return
        callee.node.handle_call(
            pipe.caller.node_id, payload, partial(self._answer, pipe, number))

    def _answer(self, pipe: Pipe, number: int, payload: bytes) -> None:
        pipe.answered.append((number, payload))
        pipe.answered_ns = max(pipe.answered_ns, self._timeline.now_ns + self.latency_ns())
        self._timeline.at(pipe.answered_ns, pipe.caller, "answer", partial(self._return, pipe))

    def _return(self, pipe: Pipe) -> None:
        if not pipe.answered or pipe.is_broken:
            return
        if self._stalls(pipe, pipe.callee, pipe.caller):
            self._timeline.after(
                STALL_NS, pipe.caller, "answer stalls", partial(self._return, pipe))
            return
        number, payload = pipe.answered.popleft()
        self.on_deliver(pipe.caller)
        pipe.waiting.pop(number)(payload)


class Wire:
    """Messages as bytes and back: what is delivered is what a peer would have read."""

    def __init__(self) -> None:
        self._writer, self._reader = FrameWriter(), FrameReader()
        self._reader.feed(self._writer.hello(
            Hello(CONNECTION_RAFT, 1, 1, cluster_id=1, nonce=1, peer_address="a:1")))
        self._reader.next()
        self._writer.open(1, 2)
        self._reader.open(1, 2, (FRAME_RAFT, FRAME_PART))

    def through(self, message: Message) -> Message:
        size_bytes = message_bytes(message)
        if size_bytes <= WHOLE_BYTES_MAX:
            self._reader.feed(self._writer.whole(message))
        else:
            for offset in range(0, size_bytes, PART_BYTES_MAX):
                self._reader.feed(self._writer.part(message, offset))
        frame = None
        while frame is None:
            frame = self._reader.next()
        if not isinstance(frame.body, Message) or repr(frame.body) != repr(message):
            raise Violation(f"{message} is read as {frame.body}")
        return frame.body


class Pipe:
    """The connection for calls from one process to another."""

    def __init__(self, caller: Process, callee: Process) -> None:
        self.caller = caller
        self.callee = callee
        self.is_broken = False
        self.number = 0
        self.asked: deque[tuple[int, bytes]] = deque()
        self.answered: deque[tuple[int, bytes]] = deque()
        self.waiting: dict[int, _OnAnswer] = {}
        self.asked_ns = self.answered_ns = 0
        # Once broken: what the callee has received and not read yet, it reads then.
        self.held_until_ns = 0


class NetworkDoor:
    """`seafoam.ports.Network` of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process
        self._kept: dict[str, bool] = {}
        # Who has called, and is called back: a leader may know a node that does not know it yet.
        self._callers: dict[str, bool] = {}

    def keep(self, addresses: Iterable[str]) -> None:
        self._kept = dict.fromkeys(addresses, True)

    def heard(self, address: str) -> None:
        """Somebody has called from there, and said that it is there."""
        self._callers[address] = True

    def _find(self, node_id: int) -> Process | None:
        """Who says at one of the kept addresses, or the callers', that it is that node."""
        for address in [*self._kept, *self._callers]:
            process = self._network.hosts[address].process
            if process is not None and process.node_id == node_id:
                return process
        return None

    def send(self, node_id: int, message: Message) -> None:
        process = self._find(node_id)
        if process is None:
            self._network.on_send(self._process, message)
            self._network.seen["messages lost"] += 1
        else:
            self._network.send(self._process, process.host, message)

    def call(self, node_id: int, payload: bytes, on_answer: _OnAnswer) -> None:
        self._network.call(self._process, self._find(node_id), payload, on_answer)

    def http_address(self, node_id: int) -> str:
        process = self._find(node_id)
        return process.host.http_address if process is not None else ""
