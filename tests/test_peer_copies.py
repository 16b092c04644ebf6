"""Two that run with one node id: who is refused, and which of them is told to end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from peer_support import TIMINGS, Station, Stranger, lines, pair, run, turn
from seafoam._core.wire_peer import (
    CONNECTION_CALLS,
    CONNECTION_RAFT,
    FRAME_PROBE,
    REFUSED_CLUSTER,
    REFUSED_COPY,
)


@pytest.fixture(autouse=True)
def said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="seafoam")


def test_a_copy_of_a_node_that_answers_is_refused_by_the_others(caplog):
    async def test() -> None:
        async with Station(1) as one, Station(2) as first, Station(2, start_id=2) as copy:
            await asyncio.gather(one.reach(first), first.reach(one))
            await one.first("called", 2)
            one.peers.keep([first.address, copy.address])
            _, address, code, sentence = await one.first("refused")
            assert (address, code) == (copy.address, REFUSED_COPY)
            assert sentence == (
                f"{copy.address} runs on a copy of the data of node 0000000000000002, which is "
                f"running as {first.address}")
            copy.peers.keep([one.address])
            _, address, code, sentence = await copy.first("refused", one.address)
            assert code == REFUSED_COPY
            assert "refuses this node, which runs on a copy of the data of node" in sentence
            assert await one.ask(2, b"x") == b"re:x"
            assert not one.all("lost") and not first.all("lost")

    run(test)
    assert len(lines(caplog, "runs on a copy")) >= 2


async def aged(station: Station) -> None:
    """Let a millisecond pass, so that the station is older than what comes next."""
    loop = asyncio.get_running_loop()
    since = loop.time()
    await turn(lambda: loop.time() > since + 0.002)


async def is_told_again(station: Station) -> None:
    """Until it has been refused twice more."""
    before = len(station.all("refused"))
    await station.until(lambda: len(station.all("refused")) >= before + 2)


def test_a_copy_of_oneself_is_refused_on_both_sides_and_the_later_one_is_told():
    """Whoever of the two dials the other."""
    async def test() -> None:
        async with Station(1) as one:
            await aged(one)
            async with Station(1, start_id=2) as copy:
                one.peers.keep([copy.address])
                assert (await one.first("refused"))[2] == REFUSED_COPY
                await is_told_again(one)
                copy.peers.keep([one.address])
                _, address, sentence = await copy.first("copy")
                assert address == one.address
                assert sentence == (
                    f"{one.address} refuses this node, which runs on a copy of the data of node "
                    f"0000000000000001, which is running as {one.address}")
                assert (await copy.first("refused", one.address))[2] == REFUSED_COPY
                await is_told_again(one)
                assert not one.all("copy"), "the first never is"

    run(test)


def test_the_first_is_not_told_of_a_copy_that_others_know_for_less_long():
    """The copy has reached somebody first, while the first was away from it."""
    async def test() -> None:
        async with Station(2) as first:
            await aged(first)
            async with Station(1) as one, Station(2, start_id=2) as copy:
                await copy.reach(one)
                first.peers.keep([one.address])
                await is_told_again(first)
                assert not first.all("copy")
                first.peers.keep([])
                third = Station(3)
                async with third:
                    await first.reach(third)
                    await third.first("called", 2)
                    # It is known to have been there since now: longer than one that comes later.
                    await aged(third)
                    async with Station(2, start_id=3) as late:
                        late.peers.keep([third.address])
                        assert (await late.first("copy"))[1] == third.address

    run(test)


def test_nobody_ends_for_one_that_is_in_no_cluster():
    async def test() -> None:
        async with Station(1, cluster_id=0) as one:
            await aged(one)
            async with Station(1, start_id=2) as other:
                other.peers.keep([one.address])
                await other.first("refused")
                await is_told_again(other)
                assert not other.all("copy")
        async with Station(3) as two, Station(1, cluster_id=0) as one:
            await one.reach(two)
            await aged(one)
            async with Station(1, start_id=2) as other:
                other.peers.keep([two.address])
                await other.first("refused")
                await is_told_again(other)
                assert not other.all("copy")

    run(test)


def test_one_node_id_in_two_clusters_is_two_clusters():
    async def test() -> None:
        async with Station(1) as one:
            await aged(one)
            async with Station(1, start_id=2, cluster_id=0xC2) as other:
                other.peers.keep([one.address])
                assert (await other.first("refused"))[2] == REFUSED_CLUSTER
                await is_told_again(other)
                assert not other.all("copy")

    run(test)


def test_an_answer_from_before_it_was_asked_is_no_sign_of_life():
    """The first answered and is gone; what it said is still on its way when the next comes."""
    async def test() -> None:
        async with Station(1) as one:
            raft, calls = [await (await Stranger.dial(one)).greet(
                one, kind, node_id=2, proves=False) for kind in (CONNECTION_RAFT,
                                                                 CONNECTION_CALLS)]
            for stranger in (raft, calls):
                assert (await stranger.next()).type == FRAME_PROBE
            async with Station(2, start_id=2) as two:
                two.peers.keep([one.address])
                for stranger in (raft, calls):
                    assert (await stranger.next()).type == FRAME_PROBE
                    stranger.send(stranger.writer.probe_answer())
                    stranger.close()
                await two.first("hello")
                assert not two.all("refused")

    run(test)


def test_a_start_whose_predecessor_does_not_answer_takes_its_place():
    """The predecessor's connections are there, but nobody is behind them."""
    async def test() -> None:
        timings = TIMINGS._replace(probe_seconds=0.05)
        async with Station(1, timings=timings) as one:
            raft, calls = await pair(one, node_id=2, peer_address="old:1")
            await one.first("called", 2, "old:1")
            async with Station(2, start_id=2) as two:
                await two.reach(one)
                await one.first("called", 2, two.address)
                for stranger in (raft, calls):
                    assert (await stranger.next()).type == FRAME_PROBE
                    assert await stranger.next() is None
                    stranger.close()

    run(test)


def test_a_start_whose_predecessor_goes_while_it_is_asked_takes_its_place():
    async def test() -> None:
        async with Station(1) as one:
            raft, calls = await pair(one, node_id=2)
            await one.first("called", 2)
            async with Station(2, start_id=2) as two:
                two.peers.keep([one.address])
                for stranger in (raft, calls):
                    assert (await stranger.next()).type == FRAME_PROBE
                    stranger.close()
                await two.first("hello")

    run(test)
