"""One connection between nodes: what it holds, what it drops, and when it ends."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest

from peer_support import CLUSTER, TIMINGS, Station, Stranger, address_of, listen, run, turn
from seafoam._core.limits import (
    PEER_CALLS_MAX,
    PEER_FRAME_BYTES_MAX,
    PEER_PAYLOAD_BYTES_MAX,
    PEER_QUEUE_BYTES_MAX,
)
from seafoam._core.message import ENTRY_COMMAND, MESSAGE_APPEND, MESSAGE_HEARTBEAT, Entry, Message
from seafoam._core.wire_peer import (
    CONNECTION_CALLS,
    CONNECTION_RAFT,
    FRAME_CALL,
    FRAME_CALL_ANSWER,
    FRAME_PART,
    FRAME_PROBE,
    FRAME_PROBE_ANSWER,
    FRAME_RAFT,
    Hello,
    message_bytes,
)
from seafoam.ports import CallFailed


@asynccontextmanager
async def reached(**changes):
    """A station that has reached a stranger; and the stranger's ends, for Raft and for calls."""
    with listen() as listener:
        async with Station(1, timings=TIMINGS._replace(**changes)) as one:
            one.peers.keep([address_of(listener)])
            ends = []
            for kind in (CONNECTION_RAFT, CONNECTION_CALLS):
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
                # A small limit, so that what the test does not read stays in the sockets.
                end = Stranger(*await asyncio.open_connection(sock=accepted, limit=4096))
                theirs = (await end.next()).body
                end.hello = Hello(kind, 2, 1, cluster_id=CLUSTER, nonce=5, peer_address="s:1")
                end.send(end.writer.hello(end.hello))
                end.open(theirs.nonce)
                ends.append(end)
            await one.first("hello")
            try:
                yield one, ends[0], ends[1]
            finally:
                for end in ends:
                    end.close()


def append(size: int, index: int = 1) -> Message:
    return Message(MESSAGE_APPEND, 1, 2, 1, index=index - 1, log_term=min(index - 1, 1),
                   entries=(Entry(index, 1, ENTRY_COMMAND, bytes(size)),))


def contact(station: Station):
    (found,) = station.peers._contacts.values()
    return found


# -- what waits ---------------------------------------------------------------------------------


def test_messages_beyond_the_bound_are_dropped_and_a_peer_that_takes_nothing_is_cut():
    async def test() -> None:
        async with reached(stall_seconds=0.2) as (one, _, _):
            connection = contact(one).raft
            kept = []
            for at in range(1, 9):
                kept.append(connection.send(append(16_000_000, at)))
                assert connection.queued_bytes <= PEER_QUEUE_BYTES_MAX
            assert kept == [True] * 4 + [False] * 4
            assert connection.send(Message(MESSAGE_HEARTBEAT, 1, 2, 1))  # there is room for that
            await one.first("lost")
            assert connection.end == "takes nothing of what is sent to it"
            assert connection.queued_bytes == 0 and not connection.send(append(1))

    run(test)


def test_the_bound_is_inclusive_and_what_is_sent_makes_room():
    async def test() -> None:
        async with reached() as (one, raft, _):
            connection = contact(one).raft
            connection._is_paused = True  # as if the socket took nothing
            # In the order of sending: four that fill the queue to the last byte.
            sizes = [PEER_PAYLOAD_BYTES_MAX] * 3
            sizes.append(PEER_QUEUE_BYTES_MAX - sum(sizes))
            head_bytes = message_bytes(append(0))
            for at, size in enumerate(sizes, 1):
                room = min(size - head_bytes, 16_777_184)  # the largest entry
                assert connection.send(append(room, at))
            left = PEER_QUEUE_BYTES_MAX - connection.queued_bytes - head_bytes
            assert not connection.send(append(left + 1, 5))
            assert connection.send(append(left, 5))
            assert connection.queued_bytes == PEER_QUEUE_BYTES_MAX
            connection.resume_writing()
            received = [(await raft.next()).body.entries[0].index for _ in range(5)]
            assert received == [1, 2, 3, 4, 5]
            assert connection.queued_bytes == 0

    run(test)


def test_calls_beyond_the_bound_fail_at_once_unsent_and_a_loss_tells_the_two_apart():
    async def test() -> None:
        async with reached() as (one, _, calls):
            connection = contact(one).calls
            outcomes: dict[int, object] = {}

            def asked(at: int, size: int) -> None:
                connection.call(bytes(size), lambda outcome: outcomes.__setitem__(at, outcome))

            asked(0, 16_000_000)
            await turn(lambda: connection._is_paused)
            for at in range(1, 6):
                asked(at, 16_000_000)
            asked(6, PEER_PAYLOAD_BYTES_MAX + 1)
            assert not outcomes, "never from within"
            assert await one.ask(2, bytes(16_000_000)) == CallFailed(was_sent=False)
            assert outcomes == dict.fromkeys((5, 6), CallFailed(was_sent=False))
            calls.close()
            await one.first("lost")
            assert outcomes.pop(0) == CallFailed(was_sent=True)
            assert outcomes == dict.fromkeys(range(1, 7), CallFailed(was_sent=False))

    run(test)


def test_a_call_too_large_for_a_frame_is_not_sent():
    async def test() -> None:
        async with reached() as (one, _, calls):
            too_large = bytes(PEER_PAYLOAD_BYTES_MAX + 1)
            assert await one.ask(2, too_large) == CallFailed(was_sent=False)
            asked = asyncio.ensure_future(one.ask(2, b"x"))
            call = await calls.next()
            assert (call.call_id, call.body) == (1, b"x")
            calls.send(calls.writer.call_answer(1, b"y"))
            assert await asked == b"y"

    run(test)


def test_a_message_too_large_for_anyone_is_dropped():
    async def test() -> None:
        async with reached() as (one, raft, _):
            entries = tuple(Entry(at, 1, ENTRY_COMMAND, bytes(9_000_000)) for at in (1, 2))
            assert not contact(one).raft.send(Message(MESSAGE_APPEND, 1, 2, 1, entries=entries))
            assert contact(one).raft.send(append(1))
            assert len((await raft.next()).body.entries) == 1

    run(test)


def test_what_was_sent_in_the_turn_in_which_a_connection_is_closed_still_leaves():
    async def test() -> None:
        async with reached() as (one, raft, _):
            connection = contact(one).raft
            connection.send(append(1))
            connection.close("is closed by the test")
            assert (await raft.next()).body == append(1)
            assert await raft.next() is None

    run(test)


def test_a_call_fails_behind_the_turn_in_which_its_connection_ends():
    async def test() -> None:
        async with reached() as (one, _, _):
            outcomes: list[object] = []
            one.peers.call(2, b"x", outcomes.append)
            contact(one).calls.abort("is ended by the test")
            assert not outcomes
            await one.first("lost")
            assert outcomes == [CallFailed(was_sent=False)]

    run(test)


def test_unanswered_calls_are_bounded_in_number():
    async def test() -> None:
        async with reached() as (one, _, calls):
            outcomes: list[object] = []
            for _ in range(PEER_CALLS_MAX):
                one.peers.call(2, b"", outcomes.append)
            assert await one.ask(2, b"") == CallFailed(was_sent=False)
            call = await calls.next()
            assert (call.type, call.call_id) == (FRAME_CALL, 1)
            calls.send(calls.writer.call_answer(1, b"a"))
            await turn(lambda: outcomes)
            asked = asyncio.ensure_future(one.ask(2, b"room again"))
            while call.body != b"room again":
                call = await calls.next()
            calls.send(calls.writer.call_answer(call.call_id, b"b"))
            assert await asked == b"b" and outcomes == [b"a"]

    run(test)


def test_a_slow_peer_that_takes_something_is_not_cut():
    async def test() -> None:
        async with reached() as (one, _, _):
            connection = contact(one).raft
            connection.send(append(16_000_000))
            await turn(lambda: connection._is_paused)
            connection._stall.cancel()
            connection._unsent_bytes += 1  # as if a byte had left since the last look
            connection._look()
            assert not connection.end and connection._stall is not None
            connection._stall.cancel()
            connection._look()
            assert connection.end == "takes nothing of what is sent to it"
            await one.first("lost")

    run(test)


def test_heartbeats_pass_what_waits_and_appends_keep_their_order():
    async def test() -> None:
        async with reached() as (one, raft, _):
            beat = Message(MESSAGE_HEARTBEAT, 1, 2, 1)
            contact(one).raft.send(append(1_000_000))
            contact(one).raft.send(append(5, 2))
            contact(one).raft.send(beat)
            assert (await raft.next()).body == beat
            assert [(await raft.next()).body.index for _ in range(2)] == [0, 1]

    run(test)


class CountingTransport:
    """A transport of which every write is kept."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


def test_what_is_sent_in_one_turn_is_one_write_and_none_is_longer_than_a_frame_or_two():
    async def test() -> None:
        async with reached() as (one, raft, _):
            connection = contact(one).raft
            connection._transport = counting = CountingTransport(connection._transport)
            beats = [Message(MESSAGE_HEARTBEAT, 1, 2, 1, context=at) for at in range(50)]
            for beat in beats:
                connection.send(beat)
            assert counting.writes == []
            assert [(await raft.next()).body for _ in beats] == beats
            assert len(counting.writes) == 1
            connection.send(append(3_000_000))
            assert len((await raft.next()).body.entries[0].data) == 3_000_000
            assert max(map(len, counting.writes)) <= 2 * PEER_FRAME_BYTES_MAX

    run(test)


# -- what the other side asks -------------------------------------------------------------------


def test_reading_stops_at_the_bound_of_unanswered_calls(monkeypatch):
    monkeypatch.setattr("seafoam.peer_connection.PEER_CALLS_MAX", 4)

    async def test() -> None:
        async with Station(1) as one:
            held = []
            one.answers = lambda payload, answer: held.append(answer)
            caller = await (await Stranger.dial(one)).greet(one, CONNECTION_CALLS)
            caller.send(b"".join(caller.writer.call(at, b"%d" % at) for at in range(1, 11)))
            await one.until(lambda: len(held) == 4)
            (connection,) = one.peers._connections
            assert connection._reader.held_bytes > 0
            assert not connection._transport.is_reading()
            held[1](b"second")
            await one.until(lambda: len(held) == 5)
            answer = await caller.next()
            assert (answer.type, answer.call_id, answer.body) == (FRAME_CALL_ANSWER, 2, b"second")
            for at in (0, 2, 3, 4):
                held[at](b"")
            for at in range(5, 10):
                await one.until(lambda at=at: len(held) > at)
                held[at](b"")
            assert sorted([(await caller.next()).call_id for _ in range(9)]) == [
                1, 3, 4, 5, 6, 7, 8, 9, 10]
            assert connection._unanswered_count == connection._unanswered_bytes == 0
            assert connection._transport.is_reading()
            caller.close()

    run(test)


def test_reading_stops_at_the_bound_of_their_bytes():
    async def test() -> None:
        async with Station(1) as one:
            held = []
            one.answers = lambda payload, answer: held.append(answer)
            caller = await (await Stranger.dial(one)).greet(one, CONNECTION_CALLS)
            for at in range(1, 6):
                caller.send(caller.writer.call(at, bytes(PEER_PAYLOAD_BYTES_MAX)))
            await one.until(lambda: len(held) == 3)
            (connection,) = one.peers._connections
            assert connection._is_full
            held[0](b"")
            await one.until(lambda: len(held) == 4)
            caller.close()

    run(test)


def test_a_bad_frame_behind_the_bound_is_refused_when_it_is_reached(monkeypatch):
    monkeypatch.setattr("seafoam.peer_connection.PEER_CALLS_MAX", 1)

    async def test() -> None:
        async with Station(1) as one:
            held = []
            one.answers = lambda payload, answer: held.append(answer)
            caller = await (await Stranger.dial(one)).greet(one, CONNECTION_CALLS)
            caller.send(caller.writer.call(1, b"") + b"x" * 14)
            await one.until(lambda: held)
            held[0](b"answered")
            assert (await caller.next()).body == b"answered"
            assert "sent a frame of type 120" in await caller.refusal()

    run(test)


def test_a_caller_that_does_not_take_its_answers_is_cut():
    async def test() -> None:
        async with Station(1) as one:
            held = []
            one.answers = lambda payload, answer: held.append(answer)
            caller = await (await Stranger.dial(one)).greet(one, CONNECTION_CALLS)
            caller.send(b"".join(caller.writer.call(at, b"") for at in range(1, 9)))
            await one.until(lambda: len(held) == 8)
            (connection,) = one.peers._connections
            for answer in held:
                answer(bytes(16_000_000))
            assert connection.end == "does not take the answers to its calls"
            caller.close()

    run(test)


@pytest.mark.parametrize("call_ids", [(7,), (1, 1), (0,)])
def test_an_answer_that_nobody_waits_for_is_refused(call_ids):
    async def test() -> None:
        async with reached() as (one, _, calls):
            asked = asyncio.ensure_future(one.ask(2, b"x"))
            assert (await calls.next()).call_id == 1
            for call_id in call_ids:
                calls.send(calls.writer.call_answer(call_id, b"y"))
            assert f"answers call {call_ids[-1]}, which nobody" in (await one.first("refused"))[3]
            assert await asked == (b"y" if 1 in call_ids else CallFailed(was_sent=True))

    run(test)


def test_a_call_that_was_not_handed_over_cannot_be_answered():
    async def test() -> None:
        async with reached() as (one, _, calls):
            connection = contact(one).calls
            connection._is_paused = True
            asked = asyncio.ensure_future(one.ask(2, b"x"))
            await asyncio.sleep(0)
            calls.send(calls.writer.call_answer(1, b"y"))
            await one.first("refused")
            assert await asked == CallFailed(was_sent=False)

    run(test)


# -- greeting -----------------------------------------------------------------------------------


def test_hello_comes_once_until_it_is_answered():
    async def test() -> None:
        async with Station(1, timings=TIMINGS) as one:
            rival = await (await Stranger.dial(one)).greet(one, node_id=2)
            caller = await Stranger.dial(one)
            # It waits for the rival, which is asked whether it still is there.
            caller.hello = Hello(CONNECTION_RAFT, 2, 9, cluster_id=CLUSTER, nonce=1,
                                 peer_address="c:1")
            caller.send(caller.writer.hello(caller.hello))
            assert (await rival.next()).type == FRAME_PROBE
            caller.send(caller.writer.hello(caller.hello))
            assert await caller.refusal() == "says hello twice"
            rival.close()

    run(test)


def test_the_answer_must_be_for_the_same_kind_of_connection():
    async def test() -> None:
        with listen() as listener:
            async with Station(1) as one:
                one.peers.keep([address_of(listener)])
                accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
                end = Stranger(*await asyncio.open_connection(sock=accepted))
                assert (await end.next()).body.kind == CONNECTION_RAFT
                end.send(end.writer.hello(Hello(CONNECTION_CALLS, 2, 1, cluster_id=CLUSTER,
                                                nonce=5, peer_address="s:1")))
                assert "answers for another kind" in (await one.first("refused"))[3]
                end.close()

    run(test)


@pytest.mark.parametrize(("kind", "frame_type"), [
    (CONNECTION_RAFT, FRAME_CALL), (CONNECTION_CALLS, FRAME_RAFT), (CONNECTION_CALLS, FRAME_PART),
    (CONNECTION_RAFT, FRAME_CALL_ANSWER), (CONNECTION_CALLS, FRAME_CALL_ANSWER),
])
def test_each_kind_of_connection_carries_its_own_only(kind, frame_type):
    async def test() -> None:
        async with Station(1) as one:
            caller = await (await Stranger.dial(one)).greet(one, kind)
            writer = caller.writer
            caller.send({
                FRAME_CALL: lambda: writer.call(1, b""),
                FRAME_CALL_ANSWER: lambda: writer.call_answer(1, b""),
                FRAME_RAFT: lambda: writer.whole(append(1)),
                FRAME_PART: lambda: writer.part(append(300_000), 0),
            }[frame_type]())
            assert "which has no place here" in await caller.refusal()

    run(test)


def test_nothing_but_answers_comes_back():
    async def test() -> None:
        for send in (lambda raft, calls: raft.send(raft.writer.whole(append(1))),
                     lambda raft, calls: raft.send(raft.writer.call_answer(1, b"")),
                     lambda raft, calls: calls.send(calls.writer.call(1, b""))):
            async with reached() as (one, raft, calls):
                send(raft, calls)
                assert "which has no place here" in (await one.first("refused"))[3]

    run(test)


def test_a_probe_is_answered_on_either_kind_and_from_either_side():
    async def test() -> None:
        async with reached() as (one, raft, calls):
            for end in (raft, calls):
                end.send(end.writer.probe())
                assert (await end.next()).type == FRAME_PROBE_ANSWER
            caller = await (await Stranger.dial(one)).greet(one)
            caller.send(caller.writer.probe())
            assert (await caller.next()).type == FRAME_PROBE_ANSWER
            caller.close()

    run(test)


def test_a_connection_that_has_ended_answers_no_probe():
    async def test() -> None:
        async with reached() as (one, raft, _):
            connection = contact(one).raft
            asked = connection.probe()
            assert (await raft.next()).type == FRAME_PROBE
            raft.close()
            assert await asked is False and await connection.probe() is False
            await one.first("lost")

    run(test)


# -- the socket ---------------------------------------------------------------------------------


def test_small_frames_leave_at_once_and_a_silent_network_is_noticed():
    async def test() -> None:
        async with reached(stall_seconds=5.0) as (one, _, _):
            opened = contact(one).raft._transport.get_extra_info("socket")
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 5000

    run(test)


def test_a_refused_stranger_that_stays_is_cut_off(monkeypatch):
    monkeypatch.setattr("seafoam.peer_connection.LINGER_SECONDS", 0.05)

    async def test() -> None:
        async with Station(1) as one:
            stranger = await Stranger.dial(one)
            stranger.send(b"garbage")
            assert (await stranger.next()).body is not None
            await asyncio.wait_for(one.peers._all_ended.wait(), 5)
            stranger.close()

    run(test)
