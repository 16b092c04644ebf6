"""One connection: order, bounds, half-closing, timing out and ending, on a real socket.

The node behind the server lets a write go when a test says so (support.HeldNode).
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading

import pytest

from seafoam import http_connection
from seafoam._core import limits
from seafoam.errors import Refusal
from seafoam.http_connection import LINGER_BYTES_MAX, READ_AHEAD_BYTES
from support import Bench, Client, post, request

MIB = 1 << 20


@pytest.fixture
def bench():
    with Bench() as bench:
        yield bench


@pytest.fixture
def client(bench):
    with bench.client() as client:
        yield client


def hold(bench):
    bench.call(setattr, bench.node, "holds", True)


def wait_for_writes(bench, count):
    """Until `count` writes stand at the node; how many do."""
    bench.when(lambda: len(bench.node.held) >= count)
    return len(bench.node.held)


# Order


def test_answers_come_in_order_whatever_the_requests_are(client):
    client.send(
        post("set", {"key": "a", "value": 1, "msg_id": 0}) + post("get", {"key": "a", "msg_id": 1})
        + request("GET", "/livez") + post("get", b"{") + post("delete", {"key": "a", "msg_id": 4})
        + request("GET", "/nowhere") + post("get", {"key": "a", "msg_id": 6})
    )
    answers = [client.receive() for _ in range(7)]
    assert [answer.status for answer in answers] == [200, 200, 200, 400, 200, 404, 404]
    assert [answers[at].json.get("in_reply_to") for at in (0, 1, 4, 6)] == [0, 1, 4, 6]


def test_a_read_behind_a_write_waits_for_it(bench, client):
    hold(bench)
    client.send(post("set", {"key": "a", "value": 1}) + post("get", {"key": "a"}))
    wait_for_writes(bench, 1)
    bench.call(bench.node.release, 1)
    assert client.receive().status == 200
    assert client.receive().json["value"] == 1


def test_writes_are_proposed_back_to_back(bench, client):
    hold(bench)
    client.send(b"".join(post("set", {"key": "a", "value": at}) for at in range(50)))
    assert wait_for_writes(bench, 50) == 50
    bench.call(bench.node.release, 50)
    assert [client.receive().json["index"] for _ in range(50)] == [*range(1, 51)]


def test_a_write_behind_a_read_does_not_overtake_it(bench, client):
    hold(bench)
    client.send(
        post("set", {"key": "a", "value": 1}) + post("get", {"key": "a"})
        + post("set", {"key": "a", "value": 2}) + post("get", {"key": "a"})
    )
    assert wait_for_writes(bench, 1) == 1
    bench.call(bench.node.release, 1)
    assert [client.receive().status, client.receive().json["value"]] == [200, 1]
    assert wait_for_writes(bench, 1) == 1
    bench.call(bench.node.release, 1)
    assert [client.receive().status, client.receive().json["value"]] == [200, 2]


def test_every_kind_of_read_waits_behind_a_write(bench, client):
    reads = [
        post("get", {"keys": ["a"]}), post("get", {"key": "a", "msg_id": 1}),
        post("scan", {"values": True}), post("batch", {"ops": [{"op": "get", "key": "a"}]}),
        post("get", {"key": "a"}, seafoam_cluster=bench.node.cluster_id),
        request("GET", "/status"),
    ]
    hold(bench)
    for at, read in enumerate(reads, 1):
        client.send(post("set", {"key": "a", "value": f"v{at}"}) + read)
        wait_for_writes(bench, 1)
        bench.call(bench.node.release, 1)
        assert client.receive().json["index"] == at
        answer = client.receive()
        shown = b'"applied_index":%d' % at if at == len(reads) else b'"v%d"' % at
        assert shown in answer.body


def test_an_error_behind_a_write_waits_for_it_too(bench, client):
    hold(bench)
    client.send(post("set", {"key": "a", "value": 1}) + post("set", {"key": 5}))
    wait_for_writes(bench, 1)
    bench.call(bench.node.release, 1)
    assert [client.receive().status for _ in range(2)] == [200, 400]


def test_a_write_that_is_refused_at_once_keeps_its_place(bench, client):
    hold(bench)
    client.send(post("set", {"key": "a", "value": 1}))
    wait_for_writes(bench, 1)
    refusal = Refusal("quota_exceeded", "no room", applied="no")
    bench.call(setattr, bench.node, "refusal", refusal)
    client.send(post("set", {"key": "b", "value": 1, "msg_id": 1}))
    bench.when(lambda: len(bench.node.timeouts_ms) == 2)
    bench.call(setattr, bench.node, "refusal", None)
    bench.call(bench.node.release, 1)
    assert client.receive().json == {"index": 1}
    assert client.receive().json == {
        "error": {"code": "quota_exceeded", "message": "no room", "applied": "no"},
        "in_reply_to": 1,
    }


@pytest.mark.parametrize("pieces", ["whole", "torn"])
def test_ten_thousand_pipelined_requests_see_their_own_writes(bench, pieces):
    """Sets, gets, unusual requests and errors in any order, cut anywhere."""
    luck = random.Random(20)
    model, wanted, sent = {}, [], []
    for at in range(10_000):
        key = f"key{luck.randrange(40)}"
        kind = luck.choice(["set"] * 8 + ["get"] * 12 + ["careful", "bad", "delete"])
        if kind == "set":
            model[key] = at
            sent.append(post("set", {"key": key, "value": at, "msg_id": at}))
            wanted.append((200, None))
        elif kind == "delete":
            wanted.append((200, None))
            model.pop(key, None)
            sent.append(post("delete", {"key": key, "msg_id": at}))
        elif kind == "bad":
            sent.append(post("set", {"key": key, "valeu": 1, "msg_id": at}))
            wanted.append((400, None))
        else:
            headers = {"x_unknown": "1"} if kind == "careful" else {}
            sent.append(post("get", {"key": key, "msg_id": at}, **headers))
            wanted.append((200, model[key]) if key in model else (404, None))
    stream = b"".join(sent)
    with bench.client() as client:
        client.socket.setblocking(True)
        answers = exchange(client, stream, len(wanted), luck if pieces == "torn" else None)
    for at, (answer, (status, value)) in enumerate(zip(answers, wanted, strict=True)):
        assert (answer.status, answer.json["in_reply_to"]) == (status, at)
        assert value is None or answer.json["value"] == value


def exchange(client: Client, stream: bytes, count: int, luck: random.Random | None):
    """Send `stream` from a thread of its own, whole or in random pieces, and read the answers."""
    def send() -> None:
        at = 0
        while at < len(stream):
            size = luck.randrange(1, 3000) if luck else len(stream)
            client.send(stream[at:at + size])
            at += size

    sender = threading.Thread(target=send)
    sender.start()
    answers = [client.receive() for _ in range(count)]
    sender.join()
    return answers


def test_requests_may_arrive_byte_by_byte(client):
    stream = (
        post("set", {"key": "a", "value": [1]}) + post("get", {"key": "a"})
        + request("GET", "/livez") + post("get", {"key": "a"}, x_unknown="1")
        + post("get", {"key": "a"})
    )
    for at in range(len(stream)):
        client.send(stream[at:at + 1])
    assert [client.receive().status for _ in range(5)] == [200] * 5


def test_a_large_body_in_small_pieces(client):
    body = b'{"key":"a","value":"%b"}' % (b"x" * (MIB - 100))
    stream = post("set", body)
    for at in range(0, len(stream), 1400):
        client.send(stream[at:at + 1400])
    assert client.receive().status == 200
    assert len(client.call("get", {"key": "a"}).json["value"]) == MIB - 100


def test_it_works_on_the_standard_event_loop_too():
    with Bench(loop=asyncio) as bench, bench.client() as client:
        client.send(post("set", {"key": "a", "value": 1}) + post("get", {"key": "a"}))
        assert [client.receive().status for _ in range(2)] == [200, 200]
        client.socket.shutdown(socket.SHUT_WR)
        assert client.at_end()


# Bounds


def test_no_more_requests_are_taken_than_may_be_in_flight(bench, client):
    hold(bench)
    count = limits.CONNECTION_REQUESTS_MAX
    client.send(b"".join(post("set", {"key": "a", "value": at}) for at in range(count + 1)))
    assert wait_for_writes(bench, count) == count
    bench.call(bench.node.release, 1)
    assert client.receive().json["index"] == 1
    assert wait_for_writes(bench, count) == count
    bench.call(bench.node.release, count)
    assert [client.receive().json["index"] for _ in range(count)] == [*range(2, count + 2)]


def test_reading_stops_while_requests_are_in_flight(bench, client):
    """What is not read stays with the client: its send buffer fills."""
    hold(bench)
    client.send(post("set", {"key": "a", "value": 1}))
    client.socket.settimeout(0.2)
    body = b'{"key":"a","value":"%b"}' % (b"x" * 60_000)
    read = post("get", {"key": "a"})
    sent_bytes = 0
    with pytest.raises(TimeoutError):
        client.send(read)
        while sent_bytes < 64 * MIB:
            sent_bytes += client.socket.send(post("set", body))
    held = bench.call(lambda: bench.http.stats()["in_flight_bytes"])
    assert held < 8 * READ_AHEAD_BYTES
    bench.call(setattr, bench.node, "holds", False)
    bench.call(bench.node.release, 1)


def test_a_client_that_never_reads_holds_bounded_memory(bench):
    """Answers of 64 MiB are asked for; no more is made than fits the socket and one pass."""
    with bench.client() as writer, bench.client() as client:
        for at in range(4):
            writer.call("set", b'{"key":"big%d","value":"%b"}' % (at, b"x" * (MIB - 10)))
        client.socket.settimeout(0.2)
        ask = post("get", {"keys": [f"big{at}" for at in range(4)]})
        with pytest.raises(TimeoutError):
            for _ in range(10_000):
                client.send(ask * 100)
        held = bench.call(lambda: bench.http.stats()["in_flight_bytes"])
        assert 0 < held < 16 * MIB
        # It can come to its senses.
        client.socket.settimeout(30)
        for _ in range(8):
            assert client.receive().status == 200
        assert writer.call("get", {"key": "big0"}).status == 200


def test_large_answers_reach_a_slow_reader_whole(bench, client):
    for at in range(8):
        client.call("set", b'{"key":"big%d","value":"%d%b"}' % (at, at, b"x" * (MIB - 10)))
    client.send(post("get", {"keys": [f"big{at % 8}" for at in range(32)]}) * 2)
    for _ in range(2):
        values = client.receive().json["values"]
        assert [value[0] for value in values] == [str(at % 8) for at in range(32)]
    bench.when(lambda: bench.http.stats()["in_flight_bytes"] == 0)


# Time


@pytest.fixture
def hasty():
    """A server that waits 100 ms for a request."""
    with Bench(request_timeout_ms=100) as bench:
        yield bench


@pytest.mark.parametrize(("begun", "applied"), [
    (b"P", None),
    (b"POST /set HTTP/1.1\r", None),
    (b"POST /set HTTP/1.1\r\nHost: loc", "no"),
    (b"POST /batch HTTP/1.1\r\n", "no"),
    (b"POST http://localhost/delete HTTP/1.1\r\n", "no"),
    (b"\r\nPOST /cas HTTP/1.0\r\n", "no"),
    (b"POST /get HTTP/1.1\r\nHost: loc", None),
    (b"POST /set HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "no"),
    (b"POST /set HTTP/1.1\r\nHost: localhost\r\nExpect: x\r\nContent-Length: 5", "no"),
    (post("set", {"key": "a", "value": 1})[:-1], "no"),
    (post("get", {"key": "a"})[:-1], None),
    (request("GET", "/livez")[:-2], None),
    (b"POST /get HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", None),
])
def test_an_incomplete_request_times_out_and_closes(hasty, begun, applied):
    with hasty.client() as client:
        client.send(begun)
        answer = client.receive()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert answer.json["error"].get("applied") == applied
        assert answer.headers["connection"] == "close"
        assert client.at_end()


def test_the_time_runs_from_the_first_byte_not_the_last(hasty):
    with hasty.client() as client:
        stream = post("get", {"key": "x" * 500})
        answered = False
        for at in range(len(stream) - 1):
            client.send(stream[at:at + 1])
            client.socket.settimeout(0.01)
            try:
                client._fill()
                answered = True
                break
            except TimeoutError:
                continue
        client.socket.settimeout(30)
        assert answered and client.receive().status == 408


def only_connection(bench):
    (connection,) = bench.http._connections
    return connection


def test_each_request_has_its_own_time(bench, client):
    """The time of one that is answered does not run on for the next."""
    read = post("get", {"key": "a"})
    client.send(read[:10])
    bench.when(lambda: any(connection._timer for connection in bench.http._connections))
    first = bench.call(lambda: only_connection(bench)._timer)
    client.send(read[10:] + read[:10])
    assert client.receive().status == 404
    second = bench.call(lambda: only_connection(bench)._timer)
    assert second is not None and second is not first and first.cancelled()
    client.send(read[10:])
    assert client.receive().status == 404
    assert bench.call(lambda: only_connection(bench)._timer) is None


def test_an_idle_connection_does_not_time_out(hasty):
    with hasty.client() as idle, hasty.client() as busy:
        assert idle.call("get", {"key": "a"}).status == 404
        busy.send(b"P")
        assert busy.receive().status == 408  # more time than a request has passed by now
        assert idle.call("get", {"key": "a"}).status == 404


def test_a_write_that_takes_long_does_not_time_out_what_stands_behind_it(hasty):
    hold(hasty)
    with hasty.client() as client, hasty.client() as clock:
        client.send(post("set", {"key": "a", "value": 1}) + post("get", {"key": "a"}))
        wait_for_writes(hasty, 1)
        clock.send(b"P")
        assert clock.receive().status == 408
        hasty.call(hasty.node.release, 1)
        assert [client.receive().status for _ in range(2)] == [200, 200]


def test_a_timeout_behind_a_write_comes_after_its_answer(hasty):
    hold(hasty)
    with hasty.client() as client, hasty.client() as clock:
        client.send(post("set", {"key": "a", "value": 1}) + b"POST /g")
        wait_for_writes(hasty, 1)
        for _ in range(2):
            with hasty.client() as clock:
                clock.send(b"P")
                assert clock.receive().status == 408
        hasty.call(hasty.node.release, 1)
        assert [client.receive().status for _ in range(2)] == [200, 408]
        assert client.at_end()


# The end


def test_many_requests_at_once_give_the_loop_back_between_them(bench, client, monkeypatch):
    """What another connection, a timer or the disk waits for comes in between."""
    monkeypatch.setattr(http_connection, "SLICE_SECONDS", 0)
    turns, seen = [], []
    status = bench.node.status

    def counted():
        bench.loop.call_soon(turns.append, None)
        seen.append(len(turns))
        return status()

    bench.node.status = counted
    client.send(request("GET", "/status") * 50 + post("get", {"key": "none"}))
    answers = [client.receive().status for _ in range(51)]
    assert answers == [200] * 50 + [404]
    assert seen == [*range(50)]


def test_a_half_closed_connection_gets_its_answers(bench, client):
    hold(bench)
    client.send(post("set", {"key": "a", "value": 1}) + post("get", {"key": "a"}) + b"POST /ge")
    client.socket.shutdown(socket.SHUT_WR)
    wait_for_writes(bench, 1)
    bench.call(bench.node.release, 1)
    assert [client.receive().status for _ in range(2)] == [200, 200]
    assert client.at_end()


def test_half_closing_an_idle_connection_ends_it(client):
    assert client.call("get", {"key": "a"}).status == 404
    client.socket.shutdown(socket.SHUT_WR)
    assert client.at_end()


def test_a_client_that_vanishes_leaves_nothing_behind(bench):
    hold(bench)
    for _ in range(20):
        client = bench.client()
        client.send(post("set", {"key": "a", "value": 1}) * 3 + post("get", {"key": "a"}) + b"PO")
        wait_for_writes(bench, 3)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
        bench.when(lambda: bench.http.stats()["connections"] == 0)
        bench.call(bench.node.release, 3)
    assert bench.call(lambda: bench.http.stats()["in_flight_bytes"]) == 0


def test_a_request_that_asks_for_it_is_the_last_one(client):
    client.send(post("get", {"key": "a"}, connection="close") + post("get", {"key": "a"}))
    answer = client.receive()
    assert (answer.status, answer.headers["connection"]) == (404, "close")
    assert client.at_end()


def test_http_1_0_ends_unless_it_asks_not_to(bench):
    body = b'{"key":"a"}'
    head = b"POST /get HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
    with bench.client() as client:
        client.send(head + b"\r\n" + body)
        assert client.receive().status == 404
        assert client.at_end()
    with bench.client() as client:
        client.send((head + b"Connection: keep-alive\r\n\r\n" + body) * 2)
        for _ in range(2):
            answer = client.receive()
            assert (answer.status, answer.headers["connection"]) == (404, "keep-alive")


@pytest.mark.parametrize(("sent", "status", "code"), [
    (b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
     400, "bad_request"),
    (b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "bad_request"),
    (b"POST /get HTTP/1.1\nHost: localhost\n\n", 400, "bad_request"),
    (b"POST /get HTTP/1.1\r\nHost: localhost\r\n folded\r\n\r\n", 400, "bad_request"),
    (b"POST /get HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     400, "bad_request"),
    (b"\x16\x03\x01\x02\x00\x01\x00", 400, "bad_request"),
    (b"POST /get HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000, 431, "headers_too_large"),
    (b"POST /set HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388609\r\n\r\n",
     413, "too_large"),
])
def test_what_closes(client, sent, status, code):
    client.send(post("get", {"key": "a"}) + sent)
    assert client.receive().status == 404
    answer = client.receive()
    assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")
    assert client.at_end()


@pytest.mark.parametrize("headers", [
    {"origin": "http://elsewhere"}, {"content_encoding": "gzip"}, {"host": "elsewhere.example"},
])
def test_a_write_that_is_refused_for_its_head_says_that_it_was_not_applied(client, headers):
    client.send(post("set", {"key": "a", "value": 1}, **headers))
    assert client.receive().json["error"]["applied"] == "no"
    client.send(post("get", {"key": "a"}, **headers))
    assert "applied" not in client.receive().json["error"]


@pytest.mark.parametrize(("name", "applied"), [("set", "no"), ("batch", "no"), ("get", None)])
def test_a_head_that_is_too_long_says_that_a_write_was_not_applied(client, name, applied):
    client.send(b"POST /%b HTTP/1.1\r\nX: " % name.encode() + b"x" * 20_000)
    answer = client.receive()
    assert (answer.status, answer.json["error"].get("applied")) == (431, applied)


def test_a_body_of_20_mib_is_refused_and_the_answer_can_be_read(client):
    client.send(request("POST", "/set").replace(b"Content-Length: 0", b"Content-Length: 20971520"))
    client.send(b"x" * (20 * MIB))
    answer = client.receive()
    assert (answer.status, answer.code) == (413, "too_large")
    assert answer.json["error"]["applied"] == "no"
    assert client.at_end()


def test_a_closing_connection_reads_no_more_than_its_bound(client):
    client.send(b"\x00")
    with pytest.raises((ConnectionError, BrokenPipeError)):
        for _ in range(2 * LINGER_BYTES_MAX // MIB):
            client.send(b"x" * MIB)


def test_errors_keep_the_connection(client):
    sent = [
        (post("get", b"nonsense"), 400), (post("get", {"key": "k"}), 404),
        (request("GET", "/nowhere"), 404), (request("GET", "/set"), 405),
        (post("set", {"key": "k" * 1025, "value": 1}), 413),
        (post("get", {"key": "k"}, seafoam_cluster="0" * 16), 409),
        (post("get", {"key": "k"}, origin="http://elsewhere"), 403),
        (request("POST", "/get", b"{}", host="elsewhere.example"), 403),
        (post("get", {"key": "k"}, content_encoding="gzip"), 400),
    ]
    for data, status in sent * 2:
        client.send(data)
        answer = client.receive()
        assert answer.status == status
        assert "connection" not in answer.headers


def test_expect_continue_is_answered_in_its_turn(bench, client):
    body = b'{"key":"a","value":2}'
    hold(bench)
    client.send(post("set", {"key": "a", "value": 1}))
    wait_for_writes(bench, 1)
    client.send(b"POST /set HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body))
    bench.call(bench.node.release, 1)
    assert [client.receive().status for _ in range(2)] == [200, 100]
    client.send(body)
    wait_for_writes(bench, 1)
    bench.call(bench.node.release, 1)
    assert client.receive().json == {"index": 2}
    client.send(b"POST /set HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                b"Content-Length: 9000000\r\n\r\n")
    assert client.receive().status == 413


def test_the_careful_way_gives_way_to_the_short_one_again(bench, client):
    assert client.call("get", {"key": "a"}, x_unknown="1").status == 404
    before = bench.call(lambda: bench.http.stats()["plain_reads"])
    assert client.call("get", {"key": "a"}).status == 404
    assert bench.call(lambda: bench.http.stats()["plain_reads"]) == before + 1
    assert not bench.call(lambda: only_connection(bench)._is_busy)


# A broken invariant


def test_an_exception_ends_the_process_and_answers_nobody():
    bench = Bench()
    with pytest.raises(AssertionError, match="broken on purpose"), bench:
        bench.call(setattr, bench.node, "status", lambda: 1 / 0 and {})
        with bench.client() as client:
            client.send(request("GET", "/status"))
            assert client.at_end()
        bench.fatal[0].args = ("broken on purpose",)
