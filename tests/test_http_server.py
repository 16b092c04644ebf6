"""The door as a whole: starting, its figures, and stopping in order."""

from __future__ import annotations

import errno
import resource
import socket

import pytest

from seafoam.http_connection import LINGER_SECONDS
from seafoam.http_server import DESCRIPTORS_RESERVED_COUNT, REFUSED_COUNT_MAX, _descriptors_for
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


def test_the_date_is_of_this_second():
    from email.utils import parsedate_to_datetime
    from time import time

    with Bench() as bench, bench.client() as client:
        client.send(request("GET", "/livez"))
        told = parsedate_to_datetime(client.receive().headers["date"]).timestamp()
        assert abs(told - time()) < PATIENCE_SECONDS


def test_connections_are_bounded_by_open_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        few = DESCRIPTORS_RESERVED_COUNT + REFUSED_COUNT_MAX + 10
        assert _descriptors_for(5) == 5
        resource.setrlimit(resource.RLIMIT_NOFILE, (few - 100, hard))
        assert _descriptors_for(10) == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_listens_on_what_it_is_given():
    with Bench() as bench:
        with socket.create_connection(bench.address, timeout=PATIENCE_SECONDS):
            bench.when(lambda: bench.http.stats()["connections"] == 1)
        bench.when(lambda: bench.http.stats()["connections"] == 0)
