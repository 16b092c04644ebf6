"""What connections may hold together, and what becomes of those that hold too much.

On a real socket, before a node that lets a write go when a test says so (support.HeldNode).
"""

from __future__ import annotations

import contextlib

import pytest

from seafoam.http_server import SPENT_LOOKS_MAX
from support import Bench, post

MIB = 1 << 20


def hold(bench):
    bench.call(setattr, bench.node, "holds", True)


def wait_for_writes(bench, count):
    """Until `count` writes stand at the node; how many do."""
    bench.when(lambda: len(bench.node.held) >= count)
    return len(bench.node.held)


def test_past_the_budget_requests_are_overloaded_and_recover():
    with Bench(in_flight_bytes_max=100_000) as bench:
        hold(bench)
        with bench.client() as first, bench.client() as second:
            for count, value_bytes in ((1, 90_000), (2, 15_000)):
                first.send(post("set", b'{"key":"a","value":"%b"}' % (b"x" * value_bytes)))
                wait_for_writes(bench, count)
            get = second.call("get", {"key": "a", "msg_id": 5})
            assert (get.status, get.code, get.json["in_reply_to"]) == (429, "overloaded", 5)
            assert "applied" not in get.json["error"]
            write = second.call("set", {"key": "b", "value": 1})
            assert (write.status, write.json["error"]["applied"]) == (429, "no")
            careful = second.call("get", {"key": "a"}, x_unknown="1")
            assert (careful.status, careful.code) == (429, "overloaded")
            assert second.ask("GET", "/status").status == 200
            bench.call(bench.node.release, 2)
            assert [first.receive().status for _ in range(2)] == [200, 200]
            assert second.call("get", {"key": "a"}).status == 200


def test_past_the_budget_a_large_body_is_refused_before_it_is_here():
    """Its bytes are dropped as they come, and the connection goes on."""
    with Bench(in_flight_bytes_max=100_000) as bench, bench.client() as client:
        body = b'{"key":"a","value":"%b"}' % (b"x" * 900_000)
        stream = post("set", body)
        client.send(stream[:300_000])
        answer = client.receive()
        assert (answer.status, answer.json["error"]["applied"]) == (429, "no")
        assert bench.call(lambda: bench.http.stats()["in_flight_bytes"]) == 0
        client.send(stream[300_000:] + post("get", {"key": "a"}))
        assert client.receive().status == 404


def test_past_the_budget_a_chunked_body_ends_its_connection():
    """It cannot be skipped: where it ends is only known by holding it."""
    with Bench(in_flight_bytes_max=100_000) as bench, bench.client() as client:
        client.send(b"POST /set HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"100000\r\n" + b"x" * 400_000)
        answer = client.receive()
        assert (answer.status, answer.headers["connection"]) == (429, "close")
        assert answer.json["error"]["applied"] == "no"
        assert client.at_end()


def fill(client, count):
    """`count` keys that hold nearly a mebibyte each; the operations that read them all."""
    for at in range(count):
        client.call("set", b'{"key":"big%d","value":"%b"}' % (at, b"x" * (MIB - 10)))
    return [{"op": "get", "key": f"big{at}"} for at in range(count)]


def test_answers_to_writes_that_read_stay_within_the_budget_where_nobody_reads_them():
    """Each takes 8 MiB, and a hundred of them are asked for before the first is made."""
    with (Bench(in_flight_bytes_max=32 * MIB) as bench, bench.client() as writer,
          bench.client() as client):
        ops = [*fill(writer, 8), {"op": "set", "key": "a", "value": 1}]
        hold(bench)
        client.send(post("batch", {"ops": ops}) * 100)
        assert wait_for_writes(bench, 3) == 3
        bench.call(setattr, bench.node, "holds", False)
        bench.call(bench.node.release, 3)
        bench.when(lambda: bench.http.unsent)
        assert 8 * MIB < bench.call(most_in_flight, bench) <= 32 * MIB
        for _ in range(100):
            answer = client.receive()
            assert (answer.status, len(answer.json["results"])) == (200, 9)


def most_in_flight(bench):
    return bench.http.stats()["in_flight_bytes"]


def test_writes_that_read_wait_for_room_and_keep_their_order():
    """The budget holds two such answers; all get theirs, and nobody is refused."""
    with Bench(in_flight_bytes_max=4 * MIB) as bench, contextlib.ExitStack() as stack:
        first, second, third = (stack.enter_context(bench.client()) for _ in range(3))
        fill(first, 2)
        hold(bench)
        ops = [{"op": "get", "key": "big0"}, {"op": "get", "key": "big1"},
               {"op": "set", "key": "big0", "value": 1}]
        for client in (first, second):
            client.send(post("batch", {"ops": ops}))
        assert wait_for_writes(bench, 1) == 1
        bench.when(lambda: bench.http.stats()["in_flight_bytes"] > 0)
        # What needs no room is not held up, on another connection; on this one it must wait.
        third.send(post("set", {"key": "c", "value": 3}))
        second.send(post("set", {"key": "c", "value": 2}))
        assert wait_for_writes(bench, 2) == 2
        bench.call(setattr, bench.node, "holds", False)
        bench.call(bench.node.release, 2)
        assert first.receive().json["index"] == 3
        assert [second.receive().status for _ in range(2)] == [200, 200]
        assert third.receive().status == 200
        assert third.call("get", {"key": "c"}).json["value"] == 2


def test_a_write_that_finds_no_room_in_time_is_refused_and_was_not_applied():
    with Bench(in_flight_bytes_max=MIB) as bench:
        hold(bench)
        with bench.client() as first, bench.client() as second:
            cas = {"key": "a", "old_value": 1, "new_value": 2}
            first.send(post("cas", cas))
            assert wait_for_writes(bench, 1) == 1
            answer = second.call("cas", {**cas, "timeout_ms": 1, "msg_id": 9})
            assert (answer.status, answer.code, answer.json["in_reply_to"]) == (
                429, "overloaded", 9)
            assert answer.json["error"]["applied"] == "no"
            assert bench.call(lambda: len(bench.node.timeouts_ms)) == 1
            bench.call(bench.node.release, 1)
            assert first.receive().status == 404


def test_who_waits_for_room_and_vanishes_holds_nobody_up():
    with Bench(in_flight_bytes_max=MIB) as bench:
        hold(bench)
        cas = post("cas", {"key": "a", "old_value": 1, "new_value": 2})
        with bench.client() as first, bench.client() as third:
            first.send(cas)
            assert wait_for_writes(bench, 1) == 1
            held = bench.call(most_in_flight, bench)
            with bench.client() as second:
                second.send(cas)
                bench.when(lambda: bench.http.stats()["in_flight_bytes"] > held)
            bench.when(lambda: bench.http.stats()["in_flight_bytes"] == held)
            third.send(cas)
            bench.when(lambda: bench.http.stats()["in_flight_bytes"] > held)
            bench.call(bench.node.release, 1)
            assert wait_for_writes(bench, 1) == 1
            bench.call(bench.node.release, 1)
            assert [first.receive().status, third.receive().status] == [404, 404]


def test_a_client_that_never_takes_its_answer_is_cut():
    with Bench(send_timeout_ms=0) as bench, bench.client() as writer, bench.client() as client:
        fill(writer, 8)
        client.send(post("get", {"keys": [f"big{at}" for at in range(8)] * 4}))
        bench.when(lambda: bench.http.stats()["connections_cut"] == 1)
        bench.when(lambda: bench.http.stats()["in_flight_bytes"] == 0)
        with pytest.raises((EOFError, ConnectionResetError)):
            client.receive()
        assert writer.call("get", {"key": "none"}).status == 404


def test_a_client_that_takes_its_answer_slowly_is_not_cut():
    """It takes a little between any two looks; the looks are the test's own."""
    with Bench(send_timeout_ms=10_000) as bench, bench.client() as writer:
        fill(writer, 8)
        with bench.client() as client:
            client.send(post("get", {"keys": [f"big{at}" for at in range(8)] * 4}))
            bench.when(lambda: bench.http.unsent)
            for _ in range(5):
                client._fill()
                bench.call(bench.http.relieve)
            assert bench.call(bench.http.stats)["connections_cut"] == 0
            assert client.receive().status == 200


def test_where_the_budget_stays_spent_the_largest_holder_is_cut():
    """Answers of 32 MiB that nobody reads do not shut the others out."""
    with Bench(in_flight_bytes_max=20 * MIB) as bench, bench.client() as writer:
        fill(writer, 8)
        with bench.client() as client, bench.client() as small:
            large = post("set", b'{"key":"a","value":"%b"}' % (b"x" * (MIB - 10)))
            small.send(large[:-10])
            bench.when(lambda: bench.http.stats()["in_flight_bytes"] > MIB - 200)
            client.send(post("get", {"keys": [f"big{at}" for at in range(8)] * 4}))
            bench.when(lambda: bench.http.unsent)
            assert writer.call("get", {"key": "none"}).status == 429
            for _ in range(SPENT_LOOKS_MAX):
                bench.call(bench.http.relieve)
            assert bench.call(bench.http.stats)["connections_cut"] <= 1
            bench.call(bench.http.relieve)
            bench.when(lambda: bench.http.stats()["connections_cut"] == 1)
            bench.when(lambda: bench.http.stats()["in_flight_bytes"] < 2 * MIB)
            assert writer.call("get", {"key": "none"}).status == 404
            small.send(large[-10:])
            assert small.receive().status == 200


def test_where_nobody_is_left_who_holds_anything_nobody_is_cut():
    """What clients that are gone had asked for is still under way, and is all there is."""
    with Bench(in_flight_bytes_max=1000) as bench, bench.client() as client:
        bench.call(bench.http.service.budget.charge, 1001)
        for _ in range(SPENT_LOOKS_MAX + 2):
            bench.call(bench.http.relieve)
        assert client.ask("GET", "/livez").status == 200
        client.socket.close()
        bench.when(lambda: bench.http.stats()["connections"] == 0)
        bench.call(bench.http.relieve)
        bench.call(bench.http.service.budget.charge, -1001)
        assert bench.call(bench.http.stats)["connections_cut"] == 0
