"""One client connection: bytes in, answers out, in order.

Owns the order of a connection's requests and answers, the bytes it holds, and when it ends. Knows
nothing of what a request means; `http_service` tells. Must never hold more than its bounds,
however the client behaves, and never answer a request before the ones that came before it.

How it works. Bytes are served straight from what the socket brought while nothing is held and
nothing is unanswered (`_core/read_path`, one call for all the reads in it). Whatever that leaves
goes through `_advance`, which takes one request at a time:

    bytes -> read path (only while nothing is unanswered)     -> sent
          -> plainly valid call, or CarefulParser -> a plan:
                 an answer      -> stands in line
                 a write        -> proposed at once, stands in line until its outcome; where its
                                   answer may be large, once there is room for that
                 a read         -> waits until the line is empty, is then performed

Invariants:
  C1  `_line` holds what is unanswered, oldest first; answers are sent from its front only. At most
      CONNECTION_REQUESTS_MAX stand in it.
  C2  A read is performed only while `_line` is empty, and nothing behind it is taken before.
  C3  While nothing more can be taken, at most READ_AHEAD_BYTES are held before reading stops.
  C4  Every byte charged to the budget or reserved is given back: on the way, or in
      `connection_lost`; a write's, whatever becomes of the connection, at its outcome.
  C5  After an answer that closes, nothing more is taken; what still arrives is dropped for a
      moment, so that the client can read the answer before the connection is gone.
  C6  While the socket takes no more, no answer is handed to it; what stands in line is charged.
  C7  No large answer is begun in a turn of the loop that others' have spent (`http_turns`).
  C8  A connection that is not busy is known as idle to its door, which may end it at any time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import NamedTuple, Protocol, cast

from seafoam import api
from seafoam._core import limits
from seafoam._core.http import CONTINUE
from seafoam._core.read_path import STOP_CAREFUL, STOP_NEED_MORE, STOP_OTHER
from seafoam._core.store import CommandResult
from seafoam.api_answer import Answer
from seafoam.errors import CODES, Refusal
from seafoam.http_careful import CarefulParser, ContinueWanted, Event, Request, target_of
from seafoam.http_service import Page, Plan, Service
from seafoam.http_turns import LARGE_BYTES, Turns

__all__ = ["Connection", "Door"]

#: What is read ahead of the requests that can be taken; also the pieces in which the careful
#: parser is fed, so that the requests it finds are bounded too.
READ_AHEAD_BYTES = 65_536
#: How long, and for how many bytes, a closing connection goes on reading. A client that is cut off
#: while it still sends gets a reset, which makes it lose the answer.
LINGER_SECONDS = 2.0
LINGER_BYTES_MAX = 64 * 1024 * 1024
#: A connection gives the loop back after this long, between two requests: other connections,
#: heartbeats and the disk's reports wait no longer for what a client sends at once.
SLICE_SECONDS = 0.002


class Door(Protocol):
    """What a connection asks of its server."""

    service: Service
    turns: Turns
    loop: asyncio.AbstractEventLoop
    request_timeout_seconds: float
    is_draining: bool
    unsent: set[Connection]

    def opened(self, connection: Connection) -> bool: ...

    def idle(self, connection: Connection) -> None: ...

    def busy(self, connection: Connection) -> None: ...

    def still_idle(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...

    def on_fatal(self, error: BaseException) -> None: ...


class _Exchange:
    """A request that was taken, until its response is sent."""

    __slots__ = ("closes", "response", "response_bytes")

    def __init__(self, response: list[bytes] | None = None, *, closes: bool = False) -> None:
        self.closes = closes
        self.response: list[bytes] | None = None
        self.response_bytes = 0
        if response is not None:
            self.fill(response)

    def fill(self, response: list[bytes]) -> None:
        """The response is there."""
        self.response = response
        self.response_bytes = sum(map(len, response))


class _Manner(NamedTuple):
    """How a request wants to be answered."""

    closes: bool = False
    head_only: bool = False
    target: str = ""
    keeps_1_0: bool = False


class _Waiting(NamedTuple):
    """A read behind a write (C2)."""

    perform: Callable[[], Answer]
    manner: _Manner
    held_bytes: int


class _Asked(NamedTuple):
    """A write whose answer there is no room for yet."""

    write: api.Write
    manner: _Manner
    exchange: _Exchange
    deadline_seconds: float
    body_bytes: int


_PLAIN = _Manner()


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    __slots__ = (
        "_asked", "_call_name", "_careful", "_careful_bytes", "_door", "_events", "_flush_is_due",
        "_held_bytes", "_is_advancing", "_is_busy", "_is_closing", "_is_ended", "_is_lingering",
        "_is_lost", "_is_sliced", "_is_unsent", "_line", "_line_bytes", "_linger_bytes",
        "_need_bytes", "_path", "_sent_seconds", "_serve", "_service", "_skip_bytes", "_tail",
        "_taken_count", "_timer", "_timer_mark", "_transport", "_unsent_bytes", "_waiting",
    )

    def __init__(self, door: Door) -> None:
        self._door = door
        self._service = door.service
        self._path = door.service.read_path
        self._serve = door.service.read_path.serve
        self._transport: asyncio.Transport
        # Input: what arrived and was not taken, and what is known of it.
        self._tail = bytearray()
        self._need_bytes = 1       # fewer in `_tail` are no whole request
        self._call_name = ""       # the call that begins `_tail`, where its head is whole
        self._skip_bytes = 0       # of a refused body, still to come
        self._careful: CarefulParser | None = None
        self._careful_bytes = 0    # of the request it is in the middle of
        self._events: deque[Event] = deque()
        self._waiting: _Waiting | None = None
        self._asked: _Asked | None = None
        # Output, oldest first (C1).
        self._line: deque[_Exchange] = deque()
        self._flush_is_due = False
        # What is charged to the budget (C4).
        self._held_bytes = 0
        self._line_bytes = 0       # of the responses that stand in line
        self._unsent_bytes = 0
        self._sent_seconds = 0.0   # when the socket last took some of them
        # For an incomplete request, or for lingering.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_mark = 0
        self._taken_count = 0
        self._linger_bytes = 0
        # Where the connection stands.
        self._is_busy = False      # one of the above is not empty: the short way is shut
        self._is_advancing = False
        self._is_sliced = False    # it has had its time, and goes on in a turn of its own
        self._is_unsent = False    # the socket takes no more at the moment
        self._is_ended = False     # the client has sent its last byte
        self._is_closing = False   # nothing is taken any more (C5)
        self._is_lingering = False
        self._is_lost = False

    # -- what the loop calls ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Tells at once when the socket takes no more, so that every byte that waits is counted.
        self._transport.set_write_buffer_limits(0)
        if not self._door.opened(self):
            response = self._service.respond(api.error_answer(api.overloaded()), close=True)
            self._stand_in_line(_Exchange(response, closes=True))
            self._flush()
            self._settle(False)

    def data_received(self, data: bytes) -> None:
        try:
            if not (self._is_busy or self._service.is_shut or self._door.turns.is_spent):
                answers = self._serve(data)
                if answers:
                    self._send_plain(answers)
                used_bytes = self._path.used_bytes
                if used_bytes == len(data):
                    self._door.still_idle(self)
                    return
                data = data[used_bytes:]
            self._take_in(data)
        except Exception as error:
            self._door.on_fatal(error)

    def eof_received(self) -> bool:
        """Half-closed: what was asked is still answered, then the connection ends."""
        self._is_ended = True
        if not self._is_busy or (self._is_closing and not self._line):
            return False
        self._go_on()
        return True

    def pause_writing(self) -> None:
        self._is_unsent = self._is_busy = True
        self._sent_seconds = self._door.loop.time()
        self._door.unsent.add(self)
        self._count_unsent(self._transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._is_unsent = False
        self._door.unsent.discard(self)
        self._count_unsent(0)
        self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_lost = self._is_closing = True
        self._stop_timer()
        self._drop_input()
        self._count_unsent(0)
        self._count_held(0)
        self._count_line(-self._line_bytes)
        self._drop_asked()
        self._door.unsent.discard(self)
        self._door.closed(self)

    # -- what the server calls -------------------------------------------------------------------

    def renew(self) -> None:
        """The server serves another node from here on."""
        self._service = self._door.service
        self._path = self._service.read_path
        self._serve = self._path.serve

    def drain(self) -> None:
        """Take what has begun to arrive, answer it, and end."""
        self._is_busy = True
        self._go_on()

    def take_turn(self) -> None:
        """Its turn to answer has come."""
        self._go_on()

    def end_idle(self) -> bool:
        """End, to make room for another, if nothing is held or unanswered; whether so."""
        if self._is_busy:
            return False
        self._is_busy = self._is_closing = True
        self._transport.close()
        return True

    def abort(self) -> None:
        """End now, whatever is unanswered."""
        if not self._is_lost:
            self._is_closing = True
            self._transport.abort()

    @property
    def peer(self) -> str:
        """Who is at the other end, for the log."""
        address = self._transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if address else "a client"

    @property
    def charged_bytes(self) -> int:
        """What the connection itself holds of the budget."""
        return self._held_bytes + self._line_bytes + self._unsent_bytes

    def stalled_seconds(self) -> float:
        """For how long the socket has taken nothing of what is to be sent."""
        unsent_bytes = self._transport.get_write_buffer_size()
        now_seconds = self._door.loop.time()
        if unsent_bytes != self._unsent_bytes:
            self._sent_seconds = now_seconds
            self._count_unsent(unsent_bytes)
        return now_seconds - self._sent_seconds

    # -- input -----------------------------------------------------------------------------------

    def _take_in(self, data: bytes) -> None:
        if self._is_closing:
            self._linger_bytes += len(data)
            if self._linger_bytes > LINGER_BYTES_MAX:
                self.abort()
            return
        if self._skip_bytes:
            skipped_bytes = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped_bytes
            data = data[skipped_bytes:]
        self._tail += data
        self._advance()

    def _go_on(self) -> None:
        """Something outside has changed: send and take what can be."""
        self._flush_is_due = False
        if self._is_lost:
            return
        try:
            self._flush()
            self._advance()
        except Exception as error:
            self._door.on_fatal(error)

    def _advance(self) -> None:
        """Take requests while there are any and the line has room."""
        if self._is_advancing:
            return
        self._is_advancing = True
        wants_input = self._is_sliced = False
        slice_end_seconds = monotonic() + SLICE_SECONDS
        while not (wants_input or self._is_unsent or self._is_closing or self._asked):
            if self._door.turns.is_spent:
                self._is_sliced = True
                self._door.turns.wait(self)
                break
            if self._waiting is not None:
                if self._line:
                    break
                perform, manner, _ = self._waiting
                self._waiting = None
                self._stand_in_line(
                    _Exchange(self._respond(perform(), manner), closes=manner.closes)
                )
            elif len(self._line) >= limits.CONNECTION_REQUESTS_MAX:
                break
            else:
                wants_input = not self._step()
            self._flush()
            if not wants_input and monotonic() >= slice_end_seconds:
                self._is_sliced = True
                self._door.loop.call_soon(self._go_on)
                break
        self._is_advancing = False
        self._settle(wants_input)

    def _step(self) -> bool:
        """Take what comes next; False where that needs more input."""
        if self._events:
            self._take_event(self._events.popleft())
            return True
        if self._careful is not None:
            if not self._careful.at_boundary:
                return self._feed_careful(self._careful)
            self._careful = None
            self._careful_bytes = 0
        if len(self._tail) < self._need_bytes:
            return self._shed_body()
        return self._take_plain()

    def _take_plain(self) -> bool:
        tail, path = self._tail, self._path
        if self._line or self._service.is_shut or self._door.is_draining:
            path.parse(tail)
        else:
            answers = self._serve(tail)
            if answers:
                self._send_plain(answers)
                self._taken_count += 1
            del tail[:path.used_bytes]
        self._need_bytes = 1
        if path.stop == STOP_OTHER:
            call_bytes = path.call_bytes
            body = bytes(memoryview(tail)[path.head_bytes:call_bytes])
            del tail[:call_bytes]
            self._carry_out(self._service.plan_call(path.name, body), _PLAIN, len(body))
            return True
        if path.stop == STOP_CAREFUL:
            self._careful, self._call_name = CarefulParser(self._service.hosts), ""
            return self._feed_careful(self._careful)
        if path.stop == STOP_NEED_MORE:
            self._need_bytes, self._call_name = path.call_bytes, path.name
            return self._shed_body()
        return bool(tail)

    def _shed_body(self) -> bool:
        """Refuse a large body before it is here, where there is no room for it; whether so.

        Its bytes are dropped as they come, and the connection stays.
        """
        missing_bytes = self._need_bytes - len(self._tail)
        if missing_bytes < READ_AHEAD_BYTES or not self._service.budget.is_spent:
            return False
        self._tail.clear()
        self._skip_bytes = missing_bytes
        self._need_bytes = 1
        self._carry_out(api.refuse_unread(api.overloaded(), self._call_name), _PLAIN, 0)
        return True

    def _feed_careful(self, parser: CarefulParser) -> bool:
        if self._careful_bytes > READ_AHEAD_BYTES and self._service.budget.is_spent:
            # The parser holds a body as long as it is not whole, and cannot skip it.
            answer = api.refuse_unread(api.overloaded(), parser.target)
            self._carry_out(answer, _Manner(closes=True), 0)
            return True
        piece = bytes(memoryview(self._tail)[:READ_AHEAD_BYTES])
        if not piece:
            return False
        del self._tail[:READ_AHEAD_BYTES]
        self._events.extend(parser.feed(piece))
        self._careful_bytes = self._careful_bytes + len(piece) if parser.mid_request else 0
        return True

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Request):
            keeps_1_0 = event.keep_alive and event.http_version == "1.0"
            manner = _Manner(
                not event.keep_alive, event.method == "HEAD", event.target, keeps_1_0
            )
            plan = self._service.plan(event.method, event.target, event.body, event.cluster)
            self._carry_out(plan, manner, len(event.body))
        elif isinstance(event, ContinueWanted):
            self._stand_in_line(_Exchange([CONTINUE]))
        else:
            answer = api.refuse_unread(Refusal(event.code, event.message), event.target)
            self._carry_out(answer, _Manner(event.close, event.head_only), 0)

    # -- carrying out ----------------------------------------------------------------------------

    def _carry_out(self, plan: Plan, manner: _Manner, body_bytes: int) -> None:
        self._taken_count += 1
        if self._door.is_draining:
            manner = manner._replace(closes=True)
        if isinstance(plan, Answer):
            self._stand_in_line(_Exchange(self._respond(plan, manner), closes=manner.closes))
        elif isinstance(plan, Page):
            self._waiting = _Waiting(plan.perform, manner, body_bytes)
        else:
            self._propose(plan, manner, body_bytes)

    def _propose(self, write: api.Write, manner: _Manner, body_bytes: int) -> None:
        exchange = _Exchange(closes=manner.closes)
        self._service.budget.charge(body_bytes)
        deadline_seconds = self._door.loop.time() + write.timeout_ms / 1000
        asked = _Asked(write, manner, exchange, deadline_seconds, body_bytes)
        self._stand_in_line(exchange)
        read_bytes = write.read_bytes_max
        if not read_bytes or self._service.budget.reserve(read_bytes):
            self._submit(asked, read_bytes, write.timeout_ms)
            return
        self._asked = asked
        timer = self._door.loop.call_later(write.timeout_ms / 1000, self._give_up_asking, asked)

        def on_room() -> bool:
            timer.cancel()
            if self._asked is not asked:
                return False
            # In a turn of its own: this one may be in the middle of sending.
            self._door.loop.call_soon(self._propose_asked, asked, read_bytes)
            return True

        self._service.budget.wait(read_bytes, on_room)

    def _propose_asked(self, asked: _Asked, reserved_bytes: int) -> None:
        if self._asked is not asked:
            self._service.budget.release(reserved_bytes)
            return
        self._asked = None
        left_ms = round((asked.deadline_seconds - self._door.loop.time()) * 1000)
        self._submit(asked, reserved_bytes, max(left_ms, limits.TIMEOUT_MS_MIN))
        self._go_on()

    def _submit(self, asked: _Asked, reserved_bytes: int, timeout_ms: int) -> None:
        def on_outcome(outcome: CommandResult | Refusal) -> None:
            budget = self._service.budget
            if not self._is_lost:
                self._fill(asked, outcome)
            budget.charge(-asked.body_bytes)
            if reserved_bytes:
                budget.release(reserved_bytes)

        self._service.node.submit(asked.write.command, timeout_ms, on_outcome)

    def _fill(self, asked: _Asked, outcome: CommandResult | Refusal) -> None:
        """A write has its outcome: its place in line gets its response."""
        if isinstance(outcome, Refusal):
            answer = api.error_answer(outcome, asked.write.msg_id)
        else:
            answer = asked.write.answer(outcome)
        asked.exchange.fill(self._respond(answer, asked.manner))
        self._count_line(asked.exchange.response_bytes)
        self._on_change()

    def _give_up_asking(self, asked: _Asked) -> None:
        """No room for its answer was found in time. It was not proposed."""
        if self._asked is asked:
            self._drop_asked()
            if not self._is_lost:
                refusal = api.overloaded()
                refusal.applied = "no"
                self._fill(asked, refusal)

    def _drop_asked(self) -> None:
        if self._asked is not None:
            self._service.budget.charge(-self._asked.body_bytes)
            self._asked = None

    def _respond(self, answer: Answer, manner: _Manner) -> list[bytes]:
        return self._service.respond(
            answer, close=manner.closes, head_only=manner.head_only, target=manner.target,
            keeps_1_0=manner.keeps_1_0,
        )

    # -- output ----------------------------------------------------------------------------------

    def _stand_in_line(self, exchange: _Exchange) -> None:
        self._line.append(exchange)
        self._count_line(exchange.response_bytes)
        if exchange.closes:
            self._is_closing = True
            self._drop_input()

    def _on_change(self) -> None:
        """A write has its outcome. Of several in one turn, all are sent together."""
        if self._is_advancing or self._flush_is_due:
            return
        if len(self._line) == 1:
            self._go_on()
        else:
            self._flush_is_due = True
            self._door.loop.call_soon(self._go_on)

    def _flush(self) -> None:
        """Hand the answers that are ready at the front of the line to the socket (C6)."""
        line = self._line
        joined: list[bytes] = []
        while line and not self._is_unsent and (response := line[0].response) is not None:
            response_bytes = line.popleft().response_bytes
            self._count_line(-response_bytes)
            if response_bytes < LARGE_BYTES:
                joined += response
                continue
            if joined:
                self._write([b"".join(joined)])
            self._write(response)
            self._door.turns.spend(response_bytes)
            joined = []
        if joined:
            self._write([b"".join(joined)])

    def _write(self, pieces: list[bytes]) -> None:
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)
        if self._is_unsent:
            self._count_unsent(self._transport.get_write_buffer_size())

    def _send_plain(self, answers: bytes) -> None:
        """What the read path has answered; the line is empty."""
        self._transport.write(answers)
        if len(answers) >= LARGE_BYTES:
            self._door.turns.spend(len(answers))

    # -- where it stands -------------------------------------------------------------------------

    def _settle(self, wants_input: bool) -> None:
        """Bring reading, the timer, the budget and the end in line with what is held."""
        if self._is_lost:
            return
        held_bytes = len(self._tail) + self._careful_bytes
        if self._waiting is not None:
            held_bytes += self._waiting.held_bytes
        for event in self._events:
            held_bytes += len(event.body) if isinstance(event, Request) else 0
        self._count_held(held_bytes)
        is_partial = bool(held_bytes or self._skip_bytes)
        if self._is_closing:
            self._read_on()
            if not self._line and not self._is_lingering:
                self._linger()
        elif wants_input and (self._is_ended or (self._door.is_draining and not is_partial)):
            if not self._line:
                self._is_closing = True
                self._transport.close()
        else:
            self._watch(wants_input and is_partial)
            if not wants_input and len(self._tail) > READ_AHEAD_BYTES:
                self._transport.pause_reading()
            else:
                self._read_on()
        self._is_busy = bool(
            is_partial or self._careful or self._line or self._is_unsent or self._is_closing
            or self._is_sliced or self._door.is_draining
        )
        if self._is_busy:
            self._door.busy(self)
        else:
            self._door.idle(self)

    def _read_on(self) -> None:
        if not self._is_ended:
            self._transport.resume_reading()

    def _watch(self, is_partial: bool) -> None:
        """Let the time of an incomplete request run from its first byte."""
        if self._timer is not None and not (is_partial and self._timer_mark == self._taken_count):
            self._stop_timer()
        if is_partial and self._timer is None:
            self._timer_mark = self._taken_count
            self._timer = self._door.loop.call_later(
                self._door.request_timeout_seconds, self._give_up
            )

    def _give_up(self) -> None:
        self._timer = None
        refusal = Refusal("request_timeout", CODES["request_timeout"].meaning)
        target = self._careful.target if self._careful else target_of(self._tail)
        answer = api.refuse_unread(refusal, target)
        response = None if self._skip_bytes else self._respond(answer, _Manner(closes=True))
        if response is None:
            # It has its answer already.
            self._is_closing = True
            self._drop_input()
        else:
            self._stand_in_line(_Exchange(response, closes=True))
        self._go_on()

    def _linger(self) -> None:
        """Everything is answered: say so, and let the client read before the socket is gone."""
        self._is_lingering = True
        self._stop_timer()
        if self._is_ended:
            self._transport.close()
            return
        self._transport.write_eof()
        self._timer = self._door.loop.call_later(LINGER_SECONDS, self._end_linger)

    def _end_linger(self) -> None:
        # What is unsent bounds itself: the server cuts a socket that takes nothing.
        if self._transport.get_write_buffer_size():
            self._timer = self._door.loop.call_later(LINGER_SECONDS, self._end_linger)
        else:
            self._transport.close()

    def _drop_input(self) -> None:
        self._tail.clear()
        self._events.clear()
        self._careful = None
        self._careful_bytes = 0
        self._skip_bytes = 0
        self._waiting = None

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count_held(self, held_bytes: int) -> None:
        if held_bytes != self._held_bytes:
            self._service.budget.charge(held_bytes - self._held_bytes)
            self._held_bytes = held_bytes

    def _count_line(self, more_bytes: int) -> None:
        self._line_bytes += more_bytes
        self._service.budget.charge(more_bytes)

    def _count_unsent(self, unsent_bytes: int) -> None:
        self._service.budget.charge(unsent_bytes - self._unsent_bytes)
        self._unsent_bytes = unsent_bytes
