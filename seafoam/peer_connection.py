"""One connection between two nodes: frames in, frames out, for Raft or for calls.

Owns one socket, what waits to be sent on it, the calls on it that are not answered, and when it
ends. Knows nothing of who may speak to whom: its owner decides that when the other side has said
hello, and again whenever it says something new. Must never hold more than its bounds, however the
other side behaves, and never let a byte of it do more than end this connection.

    who dialled                         who was called
        HELLO  ------------------------->   the owner admits it, or refuses
               <-------------------------   HELLO
        the owner admits it, or refuses
        raft:  messages  -------------->
        calls: calls     -------------->
               <-------------------------   answers
        either way: probes and their answers, a hello that says something new, a refusal

Invariants:
  K1  What waits is counted: beyond PEER_QUEUE_BYTES_MAX a message is dropped, a call fails unsent,
      and a connection on which answers no longer fit ends.
  K2  While the socket holds bytes it cannot get rid of, no more are given to it; where it gets rid
      of none for a while, the connection ends. So a heartbeat waits for a frame or two at most.
  K3  A call is answered once: with the answer, or with whether a byte of it was handed over.
  K4  While PEER_CALLS_MAX of the other side's calls, or as many bytes of them as may wait, are
      unanswered, nothing more is read.
  K5  All that is sent within one turn of the loop is handed to the socket together.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast

from seafoam._core.limits import (
    PEER_CALLS_MAX,
    PEER_FRAME_BYTES_MAX,
    PEER_GREETING_MS,
    PEER_PAYLOAD_BYTES_MAX,
    PEER_PROBE_MS,
    PEER_QUEUE_BYTES_MAX,
    PEER_REDIAL_MS_MAX,
    PEER_REDIAL_MS_MIN,
    PEER_STALL_MS,
)
from seafoam._core.message import Message
from seafoam._core.wire_peer import (
    CHANNEL_ORDERED,
    CONNECTION_CALLS,
    CONNECTION_RAFT,
    FRAME_CALL,
    FRAME_CALL_ANSWER,
    FRAME_HEADER_BYTES,
    FRAME_HELLO,
    FRAME_PART,
    FRAME_PROBE,
    FRAME_PROBE_ANSWER,
    FRAME_RAFT,
    FRAME_REFUSAL,
    PART_BYTES_MAX,
    REFUSED_BYTES,
    WHOLE_BYTES_MAX,
    Frame,
    FrameReader,
    FrameWriter,
    Hello,
    channel_of,
    message_bytes,
)
from seafoam.errors import PeerRefused
from seafoam.ports import CallFailed

__all__ = ["ConnectionEnded", "OnAnswer", "Owner", "PeerConnection", "Timings"]

OnAnswer = Callable[[bytes | CallFailed], None]

#: How long a refused node may take to read why.
LINGER_SECONDS = 1.0
#: What the frame and the call id add to a payload.
CALL_EXTRA_BYTES = FRAME_HEADER_BYTES + 8


class ConnectionEnded(ConnectionError):
    """A connection has ended; says why, in words that go behind the other side's name."""


class Timings(NamedTuple):
    """How patient a node is with others, in seconds; limits.pxd has the reasons."""

    greeting_seconds: float = PEER_GREETING_MS / 1000
    stall_seconds: float = PEER_STALL_MS / 1000
    probe_seconds: float = PEER_PROBE_MS / 1000
    redial_seconds_min: float = PEER_REDIAL_MS_MIN / 1000
    redial_seconds_max: float = PEER_REDIAL_MS_MAX / 1000


class Owner(Protocol):
    """What a connection tells, and to whom. A PeerRefused raised here ends the connection."""

    timings: Timings

    def on_message(self, connection: PeerConnection, message: Message) -> None: ...

    def on_call(
        self, connection: PeerConnection, payload: bytes, answer: Callable[[bytes], None]
    ) -> None: ...

    def on_changed(self, connection: PeerConnection) -> None:
        """The other side has said another hello."""

    def on_opened(self, connection: PeerConnection) -> None:
        """Its socket is there, and nothing more is known of it."""

    def on_ended(self, connection: PeerConnection) -> None:
        """Its socket is gone; `connection.end` says why. Once, for each that was opened."""


class PeerConnection(asyncio.Protocol):
    """The protocol of one socket, dialled (with its own hello) or accepted (without)."""

    __slots__ = (
        "_call_id", "_calls", "_closing", "_flush_is_due", "_is_closing", "_is_paused", "_loop",
        "_ordered", "_ordered_offset", "_owner", "_probes", "_prompt", "_reader", "_sent_call_id",
        "_stall", "_transport", "_unanswered_bytes", "_unanswered_count", "_unsent_bytes",
        "_writer", "end", "ending", "has_dialled", "heard", "hello", "own_hello", "peer",
        "queued_bytes", "refused",
    )

    def __init__(
        self, owner: Owner, loop: asyncio.AbstractEventLoop, own_hello: Hello | None = None
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader()
        self._writer = FrameWriter()
        self.has_dialled = own_hello is not None
        self.own_hello = own_hello
        #: What the other side said last; `heard` waits for the first time.
        self.hello: Hello | None = None
        self.heard: asyncio.Future[Hello] = loop.create_future()
        #: Host and port at the other end of the socket.
        self.peer = ""
        #: Why it ends, in words that go behind the other side's name; "" while it lasts. From
        #: then on nothing is taken; the socket may live a little longer.
        self.end = ""
        self.ending: asyncio.Future[None] = loop.create_future()
        #: Where one side refused the other.
        self.refused: PeerRefused | None = None
        # Output: what goes first and what keeps its order, each with its bytes (K1).
        self._prompt: deque[tuple[int, Callable[..., bytes], tuple[Any, ...]]] = deque()
        self._ordered: deque[tuple[int, Message]] = deque()
        self._ordered_offset = 0   # of the first of these: how much of it was sent in parts
        self.queued_bytes = 0
        self._flush_is_due = False
        self._is_paused = False
        self._unsent_bytes = 0     # in the socket when that was last looked at
        self._stall: asyncio.TimerHandle | None = None
        # Calls of this side, and of the other.
        self._call_id = 0
        self._sent_call_id = 0
        self._calls: dict[int, OnAnswer] = {}
        self._unanswered_count = 0
        self._unanswered_bytes = 0
        self._probes: list[asyncio.Future[bool]] = []
        self._is_closing = False
        self._closing: asyncio.TimerHandle | None = None

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(0)
        address = self._transport.get_extra_info("peername") or ("?", 0)
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.peer = f"{host}:{address[1]}"
        _set_options(self._transport.get_extra_info("socket"), self._owner.timings)
        self._owner.on_opened(self)
        if self.own_hello is not None:
            self._put(self._writer.hello, self.own_hello)

    def data_received(self, data: bytes) -> None:
        if self._is_closing:
            return
        try:
            self._reader.feed(data)
            self._take()
        except PeerRefused as refused:
            self.refuse(refused)

    def eof_received(self) -> bool:
        if not self._is_closing:
            try:
                self._reader.end()
            except PeerRefused as refused:
                self._end(str(refused), refused if self.hello is not None else None)
            else:
                self._end("closed the connection")
        return False

    def pause_writing(self) -> None:
        self._is_paused = True
        self._watch()

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it ended"
        self._end(f"lost the connection: {reason}")
        for timer in (self._stall, self._closing):
            if timer is not None:
                timer.cancel()
        self._prompt.clear()
        self._ordered.clear()
        self.queued_bytes = 0
        self._owner.on_ended(self)

    # -- greeting and ending ---------------------------------------------------------------------

    def say_hello(self, own_hello: Hello) -> None:
        """The answer to who dialled, which is thereby admitted; or, later, what has changed."""
        is_first = self.own_hello is None
        self.own_hello = own_hello
        self._put(self._writer.hello, own_hello)
        if is_first:
            # Whatever follows belongs to the session.
            self._flush()
            self._open()

    def refuse(self, refused: PeerRefused) -> None:
        """Tell the other side why, behind what waits, and end."""
        if self._is_closing:
            return
        self._flush()
        self._end(str(refused), refused)
        if self._transport is not None:
            self._transport.write(
                self._writer.refusal(refused.code, str(refused), refused.running_ms))
            # With unread bytes in the socket, closing it would take the sentence back.
            self._transport.write_eof()
            self._transport.resume_reading()
            self._close_later(LINGER_SECONDS)

    def close(self, reason: str) -> None:
        """End in order: what waits is sent first, as far as the other side takes it."""
        if not self._is_closing:
            self._flush()
            self._end(reason)
            self._close()

    def abort(self, reason: str) -> None:
        """End at once."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def probe(self) -> asyncio.Future[bool]:
        """Whether the other side still answers; False once the connection has ended."""
        answered: asyncio.Future[bool] = self._loop.create_future()
        if self._is_closing:
            answered.set_result(False)
        else:
            self._probes.append(answered)
            self._put(self._writer.probe)
        return answered

    def _open(self) -> None:
        own, theirs = self.own_hello, self.hello
        if own is None or theirs is None:
            return
        self._writer.open(own.nonce, theirs.nonce)
        types = [FRAME_PROBE, FRAME_PROBE_ANSWER]
        if self.has_dialled:
            types += [FRAME_CALL_ANSWER] if own.kind == CONNECTION_CALLS else []
        elif own.kind == CONNECTION_RAFT:
            types += [FRAME_RAFT, FRAME_PART]
        else:
            types += [FRAME_CALL]
        self._reader.open(theirs.nonce, own.nonce, tuple(types))

    def _end(self, reason: str, refused: PeerRefused | None = None) -> None:
        """The first reason stands."""
        self._is_closing = True
        if not self.end:
            self.end, self.refused = reason, refused
            self.ending.set_result(None)
            self._loop.call_soon(self._fail_calls)
            self._settle_probes(False)
        if not self.heard.done():
            self.heard.set_exception(refused or ConnectionEnded(reason))
            self.heard.exception()  # it is no loss where nobody waits for it

    def _fail_calls(self) -> None:
        calls, self._calls = self._calls, {}
        for call_id, on_answer in calls.items():
            on_answer(CallFailed(was_sent=call_id <= self._sent_call_id))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()
            # What the socket still holds is not waited for for long.
            self._close_later(self._owner.timings.stall_seconds)

    def _close_later(self, seconds: float) -> None:
        if self._transport is not None and self._closing is None:
            self._closing = self._loop.call_later(seconds, self._transport.abort)

    # -- input -----------------------------------------------------------------------------------

    def _take(self) -> None:
        while not (self._is_closing or self._is_full):
            frame = self._reader.next()
            if frame is None:
                return
            self._take_frame(frame)
        if self._is_full and self._transport is not None:
            self._transport.pause_reading()

    @property
    def _is_full(self) -> bool:
        return (self._unanswered_count >= PEER_CALLS_MAX
                or self._unanswered_bytes > PEER_QUEUE_BYTES_MAX - PEER_PAYLOAD_BYTES_MAX)

    def _take_frame(self, frame: Frame) -> None:
        body = frame.body
        if frame.type == FRAME_RAFT:
            self._owner.on_message(self, cast(Message, body))
        elif frame.type == FRAME_CALL:
            self._take_call(frame.call_id, cast(bytes, body))
        elif frame.type == FRAME_CALL_ANSWER:
            self._take_answer(frame.call_id, cast(bytes, body))
        elif frame.type == FRAME_HELLO:
            self._take_hello(cast(Hello, body))
        elif frame.type == FRAME_PROBE:
            self._put(self._writer.probe_answer)
        elif frame.type == FRAME_PROBE_ANSWER:
            # One for each that was asked, in order: what was answered before this one was asked
            # does not say that anybody is there still.
            self._settle_probes(True, 1)
        elif frame.type == FRAME_REFUSAL:
            refusal = cast(PeerRefused, body)
            sentence = f"refuses this node, which {refusal}"
            self._end(sentence, PeerRefused(
                refusal.code, sentence, running_ms=refusal.running_ms))
            self._close()

    def _take_hello(self, hello: Hello) -> None:
        before = self.hello
        if before is None:
            if self.own_hello is not None and hello.kind != self.own_hello.kind:
                raise PeerRefused(REFUSED_BYTES, "answers for another kind of connection")
            # A program that echoes, or a socket that the system has connected to itself, would
            # else be taken for this node.
            if self.own_hello is not None and hello.nonce == self.own_hello.nonce:
                raise PeerRefused(REFUSED_BYTES, "sends back what it is sent")
            self.hello = hello
            self._open()
            if not self.heard.done():
                self.heard.set_result(hello)
            return
        if self.own_hello is None:
            raise PeerRefused(REFUSED_BYTES, "says hello twice")
        if (hello.kind, hello.node_id, hello.start_id, hello.nonce) != (
            before.kind, before.node_id, before.start_id, before.nonce
        ):
            raise PeerRefused(REFUSED_BYTES, "has become another node")
        self.hello = hello
        self._owner.on_changed(self)

    def _take_call(self, call_id: int, payload: bytes) -> None:
        payload_bytes = len(payload)
        self._unanswered_count += 1
        self._unanswered_bytes += payload_bytes
        is_answered = False

        def answer(answer_payload: bytes) -> None:
            nonlocal is_answered
            if is_answered:
                raise ValueError(f"call {call_id} has its answer")
            is_answered = True
            was_full = self._is_full
            self._unanswered_count -= 1
            self._unanswered_bytes -= payload_bytes
            if self._is_closing:
                return
            answer_bytes = len(answer_payload) + CALL_EXTRA_BYTES
            if self._fits(answer_bytes):
                self._put(self._writer.call_answer, call_id, answer_payload, cost=answer_bytes)
            else:
                self.abort("does not take the answers to its calls")
            if was_full and not self._is_full:
                self._loop.call_soon(self._read_on)

        self._owner.on_call(self, payload, answer)

    def _read_on(self) -> None:
        if self._is_closing or self._transport is None:
            return
        self._transport.resume_reading()
        try:
            self._take()
        except PeerRefused as refused:
            self.refuse(refused)

    def _take_answer(self, call_id: int, payload: bytes) -> None:
        on_answer = self._calls.pop(call_id, None) if call_id <= self._sent_call_id else None
        if on_answer is None:
            raise PeerRefused(REFUSED_BYTES, f"answers call {call_id}, which nobody waits for")
        on_answer(payload)

    def _settle_probes(self, is_there: bool, count: int | None = None) -> None:
        """The oldest that wait, or all of them."""
        probes = self._probes[:count]
        del self._probes[:count]
        for probe in probes:
            if not probe.done():
                probe.set_result(is_there)

    # -- output ----------------------------------------------------------------------------------

    def send(self, message: Message) -> bool:
        """A message of Raft; False where it was dropped."""
        size_bytes = message_bytes(message)
        if self._is_closing or size_bytes > PEER_PAYLOAD_BYTES_MAX or not self._fits(size_bytes):
            return False
        if channel_of(message) == CHANNEL_ORDERED:
            self._ordered.append((size_bytes, message))
            self.queued_bytes += size_bytes
            self._flush_soon()
        else:
            self._put(self._writer.whole, message, cost=size_bytes)
        return True

    def call(self, payload: bytes, on_answer: OnAnswer) -> None:
        """Ask; `on_answer` is called once, never from within."""
        cost_bytes = len(payload) + CALL_EXTRA_BYTES
        if (self._is_closing or len(payload) > PEER_PAYLOAD_BYTES_MAX
                or len(self._calls) >= PEER_CALLS_MAX or not self._fits(cost_bytes)):
            self._loop.call_soon(on_answer, CallFailed(was_sent=False))
            return
        self._call_id += 1
        self._calls[self._call_id] = on_answer
        self._put(self._pack_call, self._call_id, payload, cost=cost_bytes)

    def _pack_call(self, call_id: int, payload: bytes) -> bytes:
        self._sent_call_id = call_id
        return self._writer.call(call_id, payload)

    def _fits(self, more_bytes: int) -> bool:
        return self.queued_bytes + more_bytes <= PEER_QUEUE_BYTES_MAX

    def _put(self, pack: Callable[..., bytes], *arguments: Any, cost: int = 64) -> None:
        if self._is_closing:
            return
        if not self._fits(cost):
            self.abort("does not take what is sent to it")
            return
        self._prompt.append((cost, pack, arguments))
        self.queued_bytes += cost
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not (self._flush_is_due or self._is_paused):
            self._flush_is_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Hand over what waits, a frame of the greatest length at a time (K2)."""
        self._flush_is_due = False
        while (self._prompt or self._ordered) and not (self._is_paused or self._is_closing):
            frames: list[bytes] = []
            left_bytes = PEER_FRAME_BYTES_MAX
            while left_bytes > 0 and (self._prompt or self._ordered):
                frame = self._next_frame()
                frames.append(frame)
                left_bytes -= len(frame)
            if self._transport is not None:
                self._transport.write(frames[0] if len(frames) == 1 else b"".join(frames))

    def _next_frame(self) -> bytes:
        if self._prompt:
            cost_bytes, pack, arguments = self._prompt.popleft()
            self.queued_bytes -= cost_bytes
            return pack(*arguments)
        size_bytes, message = self._ordered[0]
        if size_bytes <= WHOLE_BYTES_MAX:
            frame = self._writer.whole(message)
        else:
            frame = self._writer.part(message, self._ordered_offset)
            self._ordered_offset += PART_BYTES_MAX
            if self._ordered_offset < size_bytes:
                return frame
            self._ordered_offset = 0
        self._ordered.popleft()
        self.queued_bytes -= size_bytes
        return frame

    def _watch(self) -> None:
        """While the socket holds bytes, look whether it gets rid of some (K2)."""
        if self._transport is None:
            return
        self._unsent_bytes = self._transport.get_write_buffer_size()
        self._stall = self._loop.call_later(self._owner.timings.stall_seconds, self._look)

    def _look(self) -> None:
        self._stall = None
        if self._transport is None or not self._is_paused:
            return
        if self._transport.get_write_buffer_size() < self._unsent_bytes:
            self._watch()
        else:
            self.abort("takes nothing of what is sent to it")


def _set_options(opened: Any, timings: Timings) -> None:
    """Small frames leave at once; a silent network is noticed; the kernel holds little unsent."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stall_seconds = max(1, round(timings.stall_seconds))
    for name, value in (
        ("TCP_KEEPIDLE", stall_seconds),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", stall_seconds),
        ("TCP_USER_TIMEOUT", stall_seconds * 1000),
        ("TCP_NOTSENT_LOWAT", PEER_FRAME_BYTES_MAX),
    ):
        if hasattr(socket, name):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
