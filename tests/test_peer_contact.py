"""One address: what it may be, who answers there, and when it is dialled again."""

from __future__ import annotations

import asyncio
import logging
import random
import socket

import pytest

from peer_support import TIMINGS, Station, address_of, lines, listen, run, turn, unused_address
from seafoam._core.wire_peer import REFUSED_BYTES
from seafoam.peer_contact import Contact, within
from seafoam.peers import Identity, Peers
from seafoam.ports import CallFailed


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="seafoam")


def test_oneself_is_recognised_and_not_kept_connected(caplog):
    async def test() -> None:
        async with Station(1) as one:
            alias = one.address.replace("127.0.0.1", "localhost")
            one.peers.keep([one.address, alias])
            for address in (one.address, alias):
                assert (await one.first("hello", address))[2] == 1
            assert isinstance(await one.ask(1, b"x"), CallFailed)
            assert isinstance(await one.ask(alias, b"x"), CallFailed)
            assert not one.all("called")

    run(test)
    assert len(lines(caplog, "is this node itself")) == 2
    assert len(caplog.records) == 2


def test_what_sends_back_what_it_is_sent_is_not_oneself(caplog):
    """An echo, or a socket that was connected to itself: both say this node's own hello."""
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def test() -> None:
        listener = listen()
        async with Station(1) as one, await asyncio.start_server(echo, sock=listener):
            one.peers.keep([address_of(listener)])
            refused = await one.first("refused", address_of(listener), REFUSED_BYTES)
            assert refused[3].endswith("sends back what it is sent")
            assert not one.all("hello") and not one.all("called")

    run(test)
    assert len(lines(caplog, "sends back")) == 1


def test_a_second_name_of_a_node_needs_no_connections_but_takes_over(caplog):
    async def test() -> None:
        # Only a reason to look again ends the wait between two looks at an alias.
        patient = TIMINGS._replace(redial_seconds_max=3600.0)
        async with Station(1, timings=patient) as one, Station(2) as two:
            alias = two.address.replace("127.0.0.1", "localhost")
            await one.reach(two)
            one.peers.keep([two.address, alias])
            assert (await one.first("hello", alias))[2] == 2
            assert await one.ask(alias, b"x") == b"re:x"
            # Only now is it told under which it is called.
            assert sum(c.has_dialled for c in one.peers._connections if not c.end) == 2
            one.told.clear()
            one.peers.keep([alias])
            await one.first("hello", alias)
            assert await one.ask(2, b"y") == b"re:y"

    run(test)
    assert len(lines(caplog, "which is reached as 127.0.0.1")) == 1


@pytest.mark.parametrize(("address", "words"), [
    ("nowhere", "'nowhere' is not HOST:PORT"), ("h:0", "'h:0' has the port '0'"),
    ("[::x]:5", "no IPv6 address"), ("a..b:1", "neither a host name"), (".lan:1", "'.lan'"),
    ("a" * 64 + ":1", "neither a host name"), ("x y\n\x1b[31mz", "is not HOST:PORT"),
    ("h" * 60 + ".x" * 600 + ":1", "neither a host name"),
])
def test_what_is_no_address_is_said(address, words):
    async def test() -> None:
        async with Station(1) as one:
            one.peers.keep([address])
            *refused, sentence = await one.first("refused")
            assert refused == ["refused", address, REFUSED_BYTES]
            assert words in sentence and sentence.isprintable() and len(sentence) < 400

    run(test)


def test_a_name_that_the_codec_of_names_refuses_is_said():
    async def test() -> None:
        async with Station(1) as one:
            async def resolve(name, number, **kind):
                raise UnicodeError("label empty or too long")

            one.peers._loop = _Proxy(one.peers._loop, getaddrinfo=resolve)
            one.peers.keep(["odd:1"])
            assert await one.first("refused") == (
                "refused", "odd:1", REFUSED_BYTES,
                "odd:1 does not resolve: label empty or too long")

    run(test)


def test_a_name_that_does_not_resolve_is_tried_again(caplog):
    async def test() -> None:
        async with Station(1) as one, Station(2) as two:
            host, _, port = two.address.rpartition(":")
            loop = one.peers._loop
            attempts = []

            async def resolve(name, number, **kind):
                attempts.append(name)
                if len(attempts) <= 3:
                    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
                return await loop.getaddrinfo(host, number, **kind)

            one.peers._loop = _Proxy(loop, getaddrinfo=resolve)
            one.peers.keep([f"soon:{port}"])
            assert (await one.first("hello"))[1:3] == (f"soon:{port}", 2)
            sentence = f"soon:{port} does not resolve: Name or service not known"
            assert one.all("unreachable") == [("unreachable", f"soon:{port}", sentence)] * 3

    run(test)
    assert len(lines(caplog, "does not resolve")) == 1


class _Proxy:
    """A loop of which some methods are another's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, **changed: object) -> None:
        self.__dict__.update(changed)
        self._loop = loop

    def __getattr__(self, name: str) -> object:
        return getattr(self._loop, name)


def test_a_node_that_is_not_there_is_dialled_until_it_is(caplog):
    async def test() -> None:
        async with Station(1) as one:
            with listen() as reserved:
                address = address_of(reserved)
            one.peers.keep([address])
            await one.until(lambda: len(one.all("unreachable")) >= 3)
            assert one.all("unreachable")[0][2] == (
                f"{address} cannot be reached: Connection refused")
            assert isinstance(await one.ask(address, b"x"), CallFailed)
            late = Station(2)
            late.listener.close()
            host, _, port = address.rpartition(":")
            late.listener = socket.create_server((host, int(port)))
            async with late:
                await one.first("hello", address)

    run(test)
    assert len(lines(caplog, "cannot be reached")) == 1


def test_what_is_not_wanted_any_more_is_left(caplog):
    async def test() -> None:
        async with Station(1) as one, Station(2) as two:
            dead = unused_address()
            await one.reach(two)
            one.peers.keep([dead])
            one.beat(2)
            assert await one.ask(2, b"x") == CallFailed(was_sent=False)
            assert await one.ask(two.address, b"x") == CallFailed(was_sent=False)
            await one.first("unreachable", dead)
            one.peers.keep([])
            assert not one.peers._contacts and not one.all("lost") and not two.all("message")
            await turn(lambda: not two.peers._connections)

    run(test)


def test_a_dialler_that_is_stopped_half_way_leaves_nothing_behind():
    async def test() -> None:
        async with Station(1) as one, Station(2) as two:
            loop = one.peers._loop
            entered, gate = asyncio.Event(), asyncio.Event()

            async def slow(*arguments, **options):
                entered.set()
                await gate.wait()
                return await loop.create_connection(*arguments, **options)

            one.peers._loop = _Proxy(loop, create_connection=slow)
            one.peers.keep([two.address])
            await entered.wait()
            stopped = asyncio.ensure_future(one.peers.stop())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not stopped.done()
            gate.set()
            await stopped
            assert not one.peers._connections and not two.all("called")

    run(test)


def test_who_calls_is_called_at_once(caplog):
    """One waits an hour between attempts; two's call ends the wait."""
    async def test() -> None:
        async with Station(1) as one:
            two = Station(2)
            two.listener.close()
            one.peers.keep([two.address])
            one.peers._contacts[two.address]._wait_seconds = 3600.0
            await one.first("unreachable")
            host, _, port = two.address.rpartition(":")
            two.listener = socket.create_server((host, int(port)))
            async with two:
                await two.reach(one)
                await one.first("hello", two.address)

    run(test)


def test_a_caller_that_nobody_keeps_is_logged_once_as_it_comes_and_goes(caplog):
    async def test() -> None:
        async with Station(1) as one:
            async with Station(2) as two:
                await two.reach(one)
                await one.first("called")
            assert isinstance(await one.ask(2, b"x"), CallFailed)

    run(test)
    assert len(lines(caplog, "is node 0000000000000002, and has called")) == 1
    assert len(lines(caplog, "(node 0000000000000002) closed the connection")) == 1


def test_waits_between_attempts_double_within_their_bounds_and_are_the_same_for_one_seed():
    waits = {}

    async def test(seed: int) -> None:
        loop = asyncio.get_running_loop()
        peers = Peers(Identity(1, 1, 0, "a:1", ""), None, loop, luck=random.Random(seed))
        contact = Contact(peers, loop, "nowhere")
        contact._fail = lambda *_: None
        waits.setdefault(seed, []).append([await contact._visit() for _ in range(8)])

    for seed in (1, 1, 2):
        run(lambda seed=seed: test(seed))
    assert waits[1][0] == waits[1][1] != waits[2][0]
    for at, seconds in enumerate(waits[1][0]):
        longest = min(0.1 * 2**at, 2.0)
        assert longest / 2 <= seconds <= longest


def test_who_is_cancelled_as_the_work_is_done_ends_all_the_same():
    async def test() -> None:
        for turns in range(6):
            work = asyncio.get_running_loop().create_future()

            async def wait(work: asyncio.Future[None] = work) -> None:
                await within(30.0, _awaited(work))
                await within(30.0, asyncio.Event().wait())

            task = asyncio.ensure_future(wait())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            work.set_result(None)
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test)


async def _awaited(work: asyncio.Future[None]) -> None:
    await work


def test_work_that_takes_too_long_is_ended():
    async def test() -> None:
        ended = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(True)

        with pytest.raises(asyncio.TimeoutError):
            await within(0.001, work())
        assert ended == [True]

    run(test)
