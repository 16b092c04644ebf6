"""The real clock keeps the contract of its port."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from seafoam.clock import LoopClock

FACTORIES = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=FACTORIES)
def loop(request):
    made = request.param()
    yield made
    made.close()


def test_time_does_not_go_back(loop):
    clock = LoopClock(loop)
    times = [clock.now_ns() for _ in range(1000)]
    assert times == sorted(times)
    assert all(isinstance(time, int) for time in times)


def test_soon_is_in_the_order_of_asking_and_never_from_within(loop):
    clock = LoopClock(loop)
    called = []

    async def main():
        for n in range(3):
            clock.call_soon(lambda n=n: called.append(n))
        assert called == []
        await asyncio.sleep(0)
        assert called == [0, 1, 2]

    loop.run_until_complete(main())


def test_later_is_not_before_its_time_and_can_be_cancelled(loop):
    clock = LoopClock(loop)
    called = []

    async def main():
        done = loop.create_future()
        begin_ns = clock.now_ns()
        clock.call_later(0.001, lambda: called.append("cancelled")).cancel()
        clock.call_later(0, lambda: called.append("at once"))
        timer = clock.call_later(0.02, lambda: done.set_result(clock.now_ns()))
        assert called == []
        # Event loops count milliseconds, and may round down by one.
        assert await done - begin_ns >= 19_000_000
        timer.cancel()
        timer.cancel()

    loop.run_until_complete(main())
    assert called == ["at once"]
