"""The door as a whole: starting, its figures, and stopping in order."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from seafoam.http_connection import LINGER_SECONDS
from support import PATIENCE_SECONDS, Bench, post, request


def test_stats_tell_what_is_open_and_what_was_read():
    with Bench() as bench, bench.client() as client:
        client.call("get", {"key": "a"})
        stats = client.ask("GET", "/status").json["http"]
        assert (stats["connections"], stats["plain_reads"]) == (1, 1)
        assert stats["connections_max"] > 1 and stats["in_flight_bytes"] == 0


def test_stop_ends_idle_connections_at_once_and_accepts_no_more():
    with Bench() as bench, bench.client() as idle:
        assert idle.call("get", {"key": "a"}).status == 404
        bench.stop(PATIENCE_SECONDS).result(PATIENCE_SECONDS)
        assert idle.at_end()
        with pytest.raises(OSError) as refused, bench.client() as late:
            # The listening socket may close a moment after the connection was made.
            assert late.at_end()
            raise OSError(errno.ECONNREFUSED, "ended unanswered")
        assert refused.value.errno == errno.ECONNREFUSED


def test_stop_answers_what_is_in_flight_and_says_that_it_closes():
    with Bench() as bench, bench.client() as client:
        bench.call(setattr, bench.node, "holds", True)
        client.send(post("set", {"key": "a", "value": 1}))
        bench.when(lambda: len(bench.node.held) == 1)
        stopped = bench.stop(PATIENCE_SECONDS)
        bench.when(lambda: bench.http.is_draining)
        assert not stopped.done()
        bench.call(bench.node.release, 1)
        assert client.receive().json == {"index": 1}
        assert client.at_end()
        stopped.result(PATIENCE_SECONDS)


def test_stop_lets_a_request_that_has_begun_arrive():
    with Bench() as bench, bench.client() as client:
        read = post("get", {"key": "a"})
        client.send(read[:-4])
        bench.when(lambda: bench.http.stats()["in_flight_bytes"] > 0)
        stopped = bench.stop(PATIENCE_SECONDS)
        bench.when(lambda: bench.http.is_draining)
        client.send(read[-4:])
        answer = client.receive()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert client.at_end()
        client.socket.close()
        stopped.result(PATIENCE_SECONDS)


def test_stop_cuts_what_does_not_end_in_time():
    with Bench() as bench, bench.client() as client:
        bench.call(setattr, bench.node, "holds", True)
        client.send(post("set", {"key": "a", "value": 1}))
        bench.when(lambda: len(bench.node.held) == 1)
        bench.stop(0.05).result(PATIENCE_SECONDS)
        assert client.at_end()
        bench.call(bench.node.release, 1)  # the outcome finds nobody


def test_a_client_that_stays_after_its_last_answer_is_not_waited_for_long():
    with Bench() as bench, bench.client() as client:
        client.send(post("get", {"key": "a"}, connection="close"))
        assert client.receive().status == 404
        assert client.at_end()
        stopped = bench.stop(PATIENCE_SECONDS)
        stopped.result(LINGER_SECONDS + PATIENCE_SECONDS)


# Too many connections


@contextlib.contextmanager
def connected(bench, count):
    """So many more connections, opened in this order."""
    opened_count = bench.call(bench.http.stats)["connections"]
    with contextlib.ExitStack() as stack:
        clients = []
        for at in range(count):
            clients.append(stack.enter_context(bench.client()))
            bench.when(lambda at=at: bench.http.stats()["connections"] == opened_count + at + 1)
        yield clients


def is_refused(newcomer):
    answer = newcomer.receive()
    assert (answer.status, answer.code) == (429, "overloaded")
    assert answer.headers["connection"] == "close"
    return newcomer.at_end()


def test_at_the_limit_the_connection_that_is_idle_longest_makes_room():
    with Bench(connections_max=4) as bench, connected(bench, 4) as (plain, silent, careful, late):
        for client in (plain, careful, late):
            assert client.call("get", {"key": "a"}).status == 404
        assert careful.call("get", {"key": "a"}, x_unknown="1").status == 404
        assert plain.call("get", {"key": "a"}).status == 404
        # A write is idle from its answer on, not from its request.
        bench.call(setattr, bench.node, "holds", True)
        late.send(post("set", {"key": "a", "value": 1}))
        bench.when(lambda: len(bench.node.held) == 1)
        assert careful.call("get", {"key": "b"}).status == 404
        bench.call(bench.node.release, 1)
        assert late.receive().status == 200
        with contextlib.ExitStack() as newcomers:
            for gone in (silent, plain, careful, late):
                newcomer = newcomers.enter_context(bench.client())
                assert newcomer.call("get", {"key": "a"}).status == 200
                assert gone.at_end()
                stats = bench.call(bench.http.stats)
                assert stats["connections"] == 4
            assert (stats["connections_closed_idle"], stats["connections_refused"]) == (4, 0)


def test_any_number_of_clients_that_come_and_stay_is_served_one_after_the_other():
    with Bench(connections_max=3) as bench, contextlib.ExitStack() as clients:
        for _ in range(100):
            client = clients.enter_context(bench.client())
            assert client.call("set", {"key": "a", "value": 1}).status == 200
        assert bench.call(bench.http.stats)["connections_closed_idle"] == 97


def ask_for_much(client):
    client.call("set", {"key": "big", "value": "x" * 1_000_000})
    client.send(post("get", {"keys": ["big"] * 60}))


@pytest.mark.parametrize("begin", [
    lambda client: client.send(b"POST /get"),
    lambda client: client.send(post("get", {"key": "a"}, x_unknown="1")[:-1]),
    lambda client: client.send(post("set", {"key": "a", "value": 1})),
    ask_for_much,
], ids=["a request that has begun", "the same on the careful way", "an unanswered write",
        "an answer that is not taken"])
def test_a_connection_that_is_not_idle_is_not_closed_and_one_too_many_is_told_so(begin):
    with Bench(connections_max=1) as bench, connected(bench, 1) as (client,):
        if begin is not ask_for_much:
            bench.call(setattr, bench.node, "holds", True)
        begin(client)
        bench.when(lambda: bench.http.stats()["in_flight_bytes"] > 0)
        for _ in range(2):
            with bench.client() as newcomer:
                assert is_refused(newcomer)
        stats = bench.call(bench.http.stats)
        assert (stats["connections"], stats["connections_refused"]) == (1, 2)
        assert stats["connections_closed_idle"] == 0
        bench.call(lambda: bench.node.release(len(bench.node.held)))


def test_a_place_is_free_again_when_its_connection_has_ended():
    with Bench(connections_max=1) as bench:
        with connected(bench, 1) as (client,):
            client.send(b"POST /get")
            bench.when(lambda: bench.http.stats()["in_flight_bytes"] > 0)
            with bench.client() as newcomer:
                assert is_refused(newcomer)
        bench.when(lambda: bench.http.stats()["connections"] == 0)
        with bench.client() as newcomer:
            assert newcomer.call("get", {"key": "a"}).status == 404


def test_the_date_is_of_this_second():
    from email.utils import parsedate_to_datetime
    from time import time

    with Bench() as bench, bench.client() as client:
        client.send(request("GET", "/livez"))
        told = parsedate_to_datetime(client.receive().headers["date"]).timestamp()
        assert abs(told - time()) < PATIENCE_SECONDS


def test_it_listens_on_what_it_is_given():
    with Bench() as bench:
        with socket.create_connection(bench.address, timeout=PATIENCE_SECONDS):
            bench.when(lambda: bench.http.stats()["connections"] == 1)
        bench.when(lambda: bench.http.stats()["connections"] == 0)
