"""The careful HTTP parser: a test per rule, other people's cases, and everything fed in pieces."""

from __future__ import annotations

import random

import h11
import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http_requests import (
    HOSTS,
    SOAK,
    careful,
    chunked_request,
    in_pieces,
    mutated,
    plain_request,
    published,
    verdict,
)
from seafoam._core.limits import BODY_BYTES_MAX, BODY_CHUNKS_MAX, HEAD_BYTES_MAX
from seafoam.errors import CODES
from seafoam.http_careful import (
    CarefulParser,
    ContinueWanted,
    Event,
    Refusal,
    Request,
)

LOCAL = b"Host: localhost\r\n"
CHUNKED = b"POST /set HTTP/1.1\r\n" + LOCAL + b"Transfer-Encoding: chunked\r\n\r\n"


def get(*lines: bytes, target: bytes = b"/status", version: bytes = b"1.1") -> bytes:
    head = b"GET " + target + b" HTTP/" + version + b"\r\n"
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def post(body: bytes, *lines: bytes) -> bytes:
    head = b"POST /set HTTP/1.1\r\n" + LOCAL + b"Content-Length: %d\r\n" % len(body)
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def only(events: list[Event]) -> Event:
    assert len(events) == 1, events
    return events[0]


def refusal(data: bytes) -> Refusal:
    event = only(careful(data))
    assert isinstance(event, Refusal), event
    return event


# -- other people's cases -------------------------------------------------------------------------


@pytest.mark.parametrize(("expected", "data"), [
    pytest.param(expected, data, id=f"{suite} {name}")
    for suite, name, expected, data in published()
])
def test_published_case(expected: str, data: bytes) -> None:
    assert verdict(careful(data)) == expected
    assert verdict(careful(*(data[at:at + 1] for at in range(len(data))))) == expected


# -- requests -------------------------------------------------------------------------------------


def test_a_request_and_all_that_is_said_of_it() -> None:
    data = post(b"{}", b"Seafoam-Cluster:  0123456789abcdef ", b"Accept-Charset: utf-8")
    assert careful(data) == [
        Request("POST", "/set", b"{}", keep_alive=True, http_version="1.1",
                cluster="0123456789abcdef")
    ]


def test_the_target_is_given_back_as_sent() -> None:
    for target in (b"/get?key=a", b"*", b"/a%2fb#c", b"https://localhost/get", b"//x",
                   b"/" + b"a" * 9000):
        event = only(careful(get(LOCAL[:-2], target=target)))
        assert isinstance(event, Request)
        assert event.target == target.decode()


@pytest.mark.parametrize(("target", "path"), [
    (b"http://localhost/get", "/get"), (b"HTTP://LOCALHOST:3000/get", "/get"),
    (b"http://127.0.0.1:3000/get?a=b", "/get?a=b"), (b"http://[::1]:3000//x", "//x"),
    (b"http://db.example", "/"), (b"http://db.example?a", "/?a"), (b"http://localhost/#x", "/#x"),
])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_an_absolute_target_names_host_and_path(target: bytes, path: str, version: bytes) -> None:
    """Whose host is told twice is the target's (RFC 9112 section 3.2.2); one of 1.1 has a Host."""
    for host in (b"localhost", b"evil.test"):
        event = only(careful(get(b"Host: " + host, target=target, version=version)))
        assert isinstance(event, Request)
        assert event.target == path
    for wrong in ([b"Host: a b"], [] if version == b"1.1" else [b"Host:"]):
        event = only(careful(get(*wrong, target=target, version=version)))
        assert isinstance(event, Refusal)
        assert (event.code, event.target) == ("bad_request", path)


@pytest.mark.parametrize(("target", "expected"), [
    (b"http://evil.test/get", "forbidden"), (b"http://evil.test:3000", "forbidden"),
    (b"http://localhost.evil.test/", "forbidden"), (b"http://127.1/get", "forbidden"),
    (b"http:///get", "bad_request"), (b"http://user@localhost/get", "bad_request"),
    (b"http://localhost:x/get", "bad_request"), (b"http://localhost:65536/", "bad_request"),
    (b"http://[::1/get", "bad_request"), (b"http://", "bad_request"),
])
def test_an_absolute_targets_host_is_held_to_the_rule_for_hosts(
    target: bytes, expected: str
) -> None:
    assert refusal(get(LOCAL[:-2], target=target)).code == expected


@pytest.mark.parametrize(("data", "code"), [
    (b"POST /set HTTP/1.1\r\nX: " + b"x" * 20_000, "headers_too_large"),
    (b"POST http://localhost/set HTTP/1.1\r\nX: " + b"x" * 20_000, "headers_too_large"),
    (CHUNKED + b"0\r\nX: " + b"x" * 20_000, "headers_too_large"),
    (b"POST /set HTTP/1.1\r\nX: a\rb", "bad_request"),
    (CHUNKED + b"x\r\n", "bad_request"),
    (b"POST /set HTTP/1.1\r\nHost\r\n\r\n", "bad_request"),
    (b"POST /set HTTP/1.1\r\n" + LOCAL + b"Content-Length: 99999999\r\n\r\n", "too_large"),
])
def test_a_refusal_names_the_target_once_its_line_is_whole(data: bytes, code: str) -> None:
    for events in (careful(data), careful(*(data[at:at + 1] for at in range(len(data))))):
        event = only(events)
        assert isinstance(event, Refusal)
        assert (event.code, event.target) == (code, "/set")


def test_a_refusal_without_a_whole_request_line_names_no_target() -> None:
    nothing = (b"A" * 20_000, b"POST /" + b"s" * 20_000 + b" HTTP/1.1\r\n",
               b"POST /set HTTP/1.1\rx", b"POST  /set HTTP/1.1\r\n\r\n" + get(LOCAL[:-2]))
    assert [refusal(data).target for data in nothing] == [""] * 4
    assert refusal(b"HEAD /status HTTP/1.1\r\nX: " + b"x" * 20_000).head_only


def test_the_target_is_known_from_the_first_line_on() -> None:
    parser = CarefulParser(HOSTS)
    for piece, target in ((b"POST http://localhost/set HTTP/1.1\r", ""), (b"\n", "/set"),
                          (LOCAL, "/set"), (b"Content-Length: 4\r\n\r\nbo", "/set"), (b"dy", ""),
                          (b"GET /livez HTTP/1.1\r\n", "/livez")):
        parser.feed(piece)
        assert parser.target == target


def test_origin_is_compared_with_the_absolute_targets_host() -> None:
    for origin, code in ((b"http://localhost:3000", ""), (b"http://db.example", "forbidden")):
        event = only(careful(get(b"Host: db.example", b"Origin: " + origin,
                                 target=b"http://localhost:3000/get")))
        assert getattr(event, "code", "") == code


def test_pipelined_requests_come_in_order_and_before_the_faulty_one() -> None:
    good = get(LOCAL[:-2]) + post(b"one") + CHUNKED + b"3\r\ntwo\r\n0\r\n\r\n" + post(b"")
    assert verdict(careful(good)) == "GET /status| ; POST /set|one ; POST /set|two ; POST /set|"
    assert verdict(careful(good + b"GET /x HTTP/1.1\n" + good)) == (
        "GET /status| ; POST /set|one ; POST /set|two ; POST /set| ; 400!")


def test_ten_thousand_pipelined_requests() -> None:
    events = careful(get(LOCAL[:-2]) * 10_000)
    assert len(events) == 10_000
    assert all(isinstance(event, Request) for event in events)


@pytest.mark.parametrize(("version", "lines", "keep_alive"), [
    (b"1.1", [], True),
    (b"1.1", [b"Connection: keep-alive"], True),
    (b"1.1", [b"Connection: close"], False),
    (b"1.1", [b"Connection: CLOSE"], False),
    (b"1.1", [b"Connection: x,\tclose"], False),
    (b"1.1", [b"Connection: keep-alive", b"Connection: close"], False),
    (b"1.1", [b"Connection: closed"], True),
    (b"1.0", [], False),
    (b"1.0", [b"Connection: keep-alive"], True),
    (b"1.0", [b"Connection: Keep-Alive, x"], True),
    (b"1.0", [b"Connection: keep-alive, close"], False),
])
def test_who_keeps_the_connection(version: bytes, lines: list[bytes], keep_alive: bool) -> None:
    data = get(LOCAL[:-2], *lines, version=version)
    events = careful(data + data)
    assert [event.keep_alive for event in events] == ([True, True] if keep_alive else [False])
    assert [event.http_version for event in events] == [version.decode()] * len(events)


def test_http_1_0_needs_no_host_and_has_bodies_by_length() -> None:
    start = b"POST /set HTTP/1.0\r\n"
    assert verdict(careful(start + b"Content-Length: 2\r\n\r\n{}")) == "POST /set|{} close"
    assert verdict(careful(start + b"Connection: keep-alive\r\n\r\n")) == "POST /set|"


def test_one_empty_line_before_a_request_is_ignored() -> None:
    data = get(LOCAL[:-2])
    assert verdict(careful(b"\r\n" + data + b"\r\n" + data)) == "GET /status| ; GET /status|"
    for start in (b"\r\n\r\n", b"\n", b"\r", b"\n\n"):
        assert verdict(careful(start + data)) == "400!"


@pytest.mark.parametrize("line", [
    b"POST  /set HTTP/1.1", b"POST /set  HTTP/1.1", b"POST /set HTTP/1.1 ", b" POST /set HTTP/1.1",
    b"POST\t/set HTTP/1.1", b"POST /set", b"POST /set HTTP/0.9", b"POST /set HTTP/2.0",
    b"post / HTTP/1.1", b"POST /set HTTP/1.2", b"POST /set HTTP/1.10", b"POST /set http/1.1",
    b"FROB /set HTTP/1.1", b"P\xc3\x96ST / HTTP/1.1", b"POST /\xff HTTP/1.1", b"PRI * HTTP/2.0",
    b"SOURCE / ICE/1.0", b"", b"CONNECT localhost:80 HTTP/1.1", b"POST /a b HTTP/1.1",
    b"HTTP/1.1 200 OK",
])
def test_other_request_lines_are_refused(line: bytes) -> None:
    event = refusal(line + b"\r\n" + LOCAL + b"\r\n")
    assert (event.code, event.close) == ("bad_request", True)


def test_upgrade_is_ignored_and_its_body_read() -> None:
    data = post(b"body", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c",
                b"HTTP2-Settings: AAM")
    assert verdict(careful(data + data)) == "POST /set|body ; POST /set|body"
    assert verdict(careful(post(b"", b"Upgrade : h2c"))) == "400!"
    assert verdict(careful(post(b"", b"Upgrade: h2\x0bc"))) == "400!"
    trailer = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\n\r\n")
    trailer += b"0\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    assert verdict(careful(trailer + trailer)) == "POST /set| ; POST /set|"


# -- Host, Origin and what else keeps the connection ----------------------------------------------


@pytest.mark.parametrize(("lines", "expected"), [
    ([], "bad_request"),
    ([b"Host:"], "bad_request"),
    ([b"Host: local host"], "bad_request"),
    ([b"Host: localhost:x"], "bad_request"),
    ([b"Host: evil.test"], "forbidden"),
    ([b"Host: evil.test:3000"], "forbidden"),
    ([b"Host: 127.1"], "forbidden"),
    ([b"Host: localhost", b"Origin: null"], "forbidden"),
    ([b"Host: localhost", b"Origin:"], "forbidden"),
    ([b"Host: localhost", b"Origin: http://evil.test"], "forbidden"),
    ([b"Host: localhost", b"Origin: http://localhost:3000"], "forbidden"),
    ([b"Host: localhost:3000", b"Origin: http://localhost"], "forbidden"),
    ([b"Host: localhost", b"Origin: localhost"], "forbidden"),
    ([b"Host: localhost", b"Origin: http://localhost/"], "forbidden"),
    ([b"Host: localhost", b"Origin: ftp://localhost"], "forbidden"),
    ([b"Host: localhost", b"Origin: http://localhost", b"Origin: null"], "forbidden"),
    ([b"Host: localhost", b"Content-Encoding: gzip"], "bad_request"),
    ([b"Host: localhost", b"Content-Encoding: identity, gzip"], "bad_request"),
    ([b"Host: localhost", b"Content-Encoding: identity", b"Content-Encoding: br"], "bad_request"),
    ([b"Host: localhost", b"Seafoam-Cluster: a", b"Seafoam-Cluster: a"], "bad_request"),
])
@pytest.mark.parametrize("method", [b"POST", b"GET", b"HEAD"])
def test_refused_requests_whose_end_is_plain_keep_the_connection(
    lines: list[bytes], expected: str, method: bytes
) -> None:
    head = method + b" /set HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines)
    for data in (head + b"\r\n",
                 head + b"Content-Length: 4\r\n\r\nbody",
                 head + b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"):
        event, after = careful(data + get(LOCAL[:-2]))
        assert isinstance(event, Refusal)
        assert (event.code, event.close, event.head_only) == (expected, False, method == b"HEAD")
        assert isinstance(after, Request)


def test_a_refusal_closes_where_the_client_does() -> None:
    assert refusal(get(b"Host: evil.test", b"Connection: close")).close
    assert refusal(get(b"Host: evil.test", version=b"1.0")).close


def test_the_body_of_a_refused_request_is_not_kept() -> None:
    parser = CarefulParser(HOSTS)
    head = b"POST /set HTTP/1.1\r\nHost: evil.test\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES_MAX
    assert parser.feed(head) == []
    for _ in range(8):
        parser.feed(b"x" * (BODY_BYTES_MAX // 8 - 1))
    assert len(parser._message.body) == len(parser._held) == 0
    assert verdict(parser.feed(b"x" * 8)) == "403"


@pytest.mark.parametrize("origin", [b"http://localhost:3000", b"https://localhost:3000"])
def test_a_page_of_this_server_may_call_it(origin: bytes) -> None:
    assert verdict(careful(get(b"Host: localhost:3000", b"Origin: " + origin))) == "GET /status|"


def test_origin_and_host_hold_in_http_1_0_too() -> None:
    for line in (b"Host: evil.test", b"Origin: http://localhost"):
        assert refusal(get(line, version=b"1.0")).code == "forbidden"


def test_identity_is_no_encoding() -> None:
    assert verdict(careful(post(b"x", b"Content-Encoding: Identity"))) == "POST /set|x"


# -- ambiguous framing ----------------------------------------------------------------------------


@pytest.mark.parametrize("lines", [
    [b"Content-Length: 5", b"Content-Length: 5"],
    [b"Content-Length: 5", b"Content-Length: 6"],
    [b"Content-Length: 5, 5"],
    [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    [b"Transfer-Encoding: gzip, chunked"],
    [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    [b"Transfer-Encoding: identity"],
    [b"Transfer-Encoding: chunked;q=1"],
    [b"Transfer-Encoding:"],
    [b"Content-Length:"],
    [b"Content-Length: -5"],
    [b"Content-Length: 0x5"],
    [b"Content-Length: " + b"0" * 21],
    [b"Content-Length: " + b"0" * 5000],
    [b"Host: localhost"],
    [b"Content-Length : 5"],
    [b"Content-Length: 5\r\n "],
    [b"X: a\rb"],
    [b"X: a\nb"],
    [b"X: a\x00b"],
    [b"X: a\x7fb"],
    [b"X"],
    [b": a"],
])
def test_ambiguous_heads_are_400_and_close(lines: list[bytes]) -> None:
    head = b"POST /set HTTP/1.1\r\n" + LOCAL + b"".join(line + b"\r\n" for line in lines)
    event = refusal(head + b"\r\nhello" + get(LOCAL[:-2]))
    assert (event.http_status, event.code, event.close) == (400, "bad_request", True)


def test_chunks_in_http_1_0_are_400_and_close() -> None:
    assert verdict(careful(CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n")) == "400!"


@pytest.mark.parametrize("body", [
    b"5;a=b\r\nhello\r\n0\r\n\r\n", b"0;a\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\n",
    b"\r\n", b"x\r\n", b"5\nhello\r\n", b"5\rhello", b"5\r\nhello\n0\r\n", b"5\r\nhello!\r\n",
    b"5\r\nhell\r\n0\r\n\r\n", b"-5\r\n", b"+5\r\n", b"0x5\r\n", b"1" * 17, b"0" * 17,
    b"5\r\nhello\r\n\r\n", b"0\r\nX : a\r\n\r\n", b"0\r\n a: b\r\n\r\n",
    b"0\r\na: b\r\n c\r\n\r\n", b"0\r\na: b\n\r\n", b"0\r\n\n", b"0\r\na\r\n\r\n",
    b"0" * 16 + b"5\r\nhello\r\n0\r\n\r\n", b"0\r\nContent-Length: 1\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\na: \x00\r\n\r\n",
])
def test_bad_chunks_are_400_and_close(body: bytes) -> None:
    assert verdict(careful(CHUNKED + body)) == "400!"


def test_chunks_and_trailers_are_understood() -> None:
    body = b"1\r\na\r\n00A\r\n0123456789\r\n0000000000000003\r\nxyz\r\n000\r\nA: b\r\nC:\r\n\r\n"
    expected = "POST /set|a0123456789xyz ; POST /set|p"
    assert verdict(careful(CHUNKED + body + post(b"p"))) == expected


def test_trailers_change_nothing() -> None:
    trailers = b"Connection: close\r\nSeafoam-Cluster: a\r\nHost: evil.test\r\nExpect: x\r\n"
    assert careful(CHUNKED + b"0\r\n" + trailers + b"\r\n") == [
        Request("POST", "/set", b"", keep_alive=True, http_version="1.1", cluster=None)
    ]


def test_what_is_no_http_is_refused_before_it_could_end() -> None:
    assert verdict(careful(b"\x16\x03\x01")) == "400!"
    assert verdict(careful(b"GET / HTTP/1.1\r\nHost: a\n")) == "400!"
    assert verdict(careful(b"GET / HTTP/1.1\rH")) == "400!"
    assert verdict(careful(b"GET / HTTP/1.1\r\nHost: a\r\n ")) == "400!"
    assert verdict(careful(b"GET / HTTP/1.1\r\n\t")) == "400!"


# -- limits ---------------------------------------------------------------------------------------


def test_a_head_of_16_kib_is_accepted_and_one_byte_more_is_431() -> None:
    def of(head_bytes: int) -> bytes:
        return get(LOCAL[:-2], b"X: " + b"x" * (head_bytes - len(get(LOCAL[:-2], b"X: "))))

    assert verdict(careful(of(HEAD_BYTES_MAX) * 2)) == "GET /status| ; GET /status|"
    too_long = of(HEAD_BYTES_MAX + 1)
    assert verdict(careful(too_long)) == verdict(careful(too_long[:HEAD_BYTES_MAX])) == "431!"
    assert verdict(careful(too_long[:HEAD_BYTES_MAX - 1])) == "wait"
    assert refusal(b"A" * 20_000).code == "headers_too_large"
    assert verdict(careful(b"\r\n" + of(HEAD_BYTES_MAX))) == "GET /status|"


def test_trailers_count_with_the_head() -> None:
    room = HEAD_BYTES_MAX - len(CHUNKED)
    trailer = b"X: " + b"x" * (room - 5) + b"\r\n"
    assert len(trailer) == room
    assert verdict(careful(CHUNKED + b"0\r\n" + trailer + b"\r\n")) == "POST /set|"
    assert verdict(careful(CHUNKED + b"0\r\nX" + trailer + b"\r\n")) == "431!"
    full = CHUNKED.replace(b"\r\n\r\n", b"\r\n" + trailer + b"\r\n")
    assert len(full) == HEAD_BYTES_MAX
    assert verdict(careful(full + b"0\r\n\r\n")) == "POST /set|"
    assert verdict(careful(full + b"0\r\nA:\r\n\r\n")) == "431!"


def test_a_body_at_the_limit_is_accepted_and_one_byte_more_is_413_at_once() -> None:
    head = b"POST /set HTTP/1.1\r\n" + LOCAL + b"Content-Length: %d\r\n\r\n"
    for length, expected in ((10, "wait"), (11, "413!"), (10**19, "413!")):
        assert verdict(careful(head % length, body_bytes_max=10)) == expected
    body = b"x" * BODY_BYTES_MAX
    event = only(careful(head % len(body) + body, body_bytes_max=BODY_BYTES_MAX))
    assert isinstance(event, Request)
    assert event.body == body


def test_chunks_past_the_limit_are_413_before_their_data() -> None:
    for chunks, expected in ((b"4\r\nabcd\r\n6\r\n", "wait"), (b"4\r\nabcd\r\n7\r\n", "413!"),
                             (b"b\r\n", "413!"), (b"ffffffffffffffff\r\n", "413!")):
        assert verdict(careful(CHUNKED + chunks, body_bytes_max=10)) == expected


def test_a_body_of_too_many_chunks_is_413() -> None:
    full = CHUNKED + b"1\r\nx\r\n" * BODY_CHUNKS_MAX
    event = only(careful(full + b"0\r\n\r\n", body_bytes_max=BODY_BYTES_MAX))
    assert isinstance(event, Request)
    assert event.body == b"x" * BODY_CHUNKS_MAX
    assert verdict(careful(full + b"1\r\n", body_bytes_max=BODY_BYTES_MAX)) == "413!"


def test_20_mib_are_never_held() -> None:
    for head in (post(b"x")[:-1].replace(b": 1\r\n", b": 20971520\r\n"), CHUNKED + b"1400000\r\n"):
        parser = CarefulParser(HOSTS)
        assert verdict(parser.feed(head)) == "413!"
        for _ in range(20):
            assert parser.feed(b"x" * (1 << 20)) == []
        assert len(parser._held) == 0


# -- Expect ---------------------------------------------------------------------------------------


def test_expect_is_answered_before_the_body() -> None:
    parser = CarefulParser(HOSTS)
    data = post(b"body", b"Expect: 100-Continue")
    assert parser.feed(data[:-4]) == [ContinueWanted()]
    assert verdict(parser.feed(b"body")) == "POST /set|body"
    chunked = CHUNKED.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    assert verdict(careful(data + chunked + b"0\r\n\r\n")) == (
        "continue ; POST /set|body ; continue ; POST /set|")


def test_expect_without_a_body_or_in_http_1_0_asks_for_nothing() -> None:
    assert verdict(careful(post(b"", b"Expect: 100-continue"))) == "POST /set|"
    old = b"POST /set HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"
    assert verdict(careful(old)) == "POST /set|x close"


@pytest.mark.parametrize(("lines", "expected"), [
    ([b"Content-Length: 11"], "413!"),
    ([b"Content-Length: 5", b"Origin: null"], "403!"),
    ([b"Content-Length: 5", b"Content-Encoding: gzip"], "400!"),
    ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], "400!"),
    ([b"Content-Length: 5", b"Expect: x"], "400!"),
])
def test_a_refusal_is_the_answer_to_expect_and_closes(lines: list[bytes], expected: str) -> None:
    """The body may come or not: what follows on the connection could be read in two ways."""
    head = b"POST /set HTTP/1.1\r\nExpect: 100-continue\r\n" + LOCAL
    data = head + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    assert verdict(careful(data, body_bytes_max=10)) == expected


# -- state ----------------------------------------------------------------------------------------


def test_nothing_is_accepted_after_the_end() -> None:
    for last in (get(LOCAL[:-2], b"Connection: close"), b"GET / HTTP/1.1\n", b"A" * 20_000):
        parser = CarefulParser(HOSTS)
        assert parser.at_boundary
        assert len(parser.feed(last + get(LOCAL[:-2]))) == 1
        assert parser.feed(get(LOCAL[:-2])) == []
        assert not parser.at_boundary
        assert not parser.mid_request
        assert len(parser._held) == 0


@pytest.mark.parametrize("data", [
    get(LOCAL[:-2]), post(b"body"), post(b"body", b"Origin: null"),
    CHUNKED + b"3\r\nabc\r\n0\r\nA: b\r\n\r\n", CHUNKED + b"0\r\n\r\n",
])
def test_between_two_requests_is_a_boundary_and_nowhere_else(data: bytes) -> None:
    parser = CarefulParser(HOSTS)
    for _ in range(2):
        for at in range(len(data)):
            assert parser.at_boundary is (at == 0)
            assert parser.mid_request is (at != 0)
            events = parser.feed(data[at:at + 1])
            assert bool(events) is (at == len(data) - 1)
    # An empty line is no part of a request: it does not start the clock of one.
    parser.feed(b"\r\n")
    assert parser.at_boundary


class LaxParser:
    """A parser that checks nothing and believes that every message ends with its head."""

    def __init__(self, message: object) -> None:
        self._message = message

    def feed_data(self, data: bytes) -> None:
        for line in data.split(b"\r\n")[1:-2]:
            self._message.on_header(*line.split(b":", 1))
        self._message.on_headers_complete()
        self._message.on_message_complete()


@pytest.mark.parametrize(("lines", "message"), [
    ([b"Content-Length: 4"], "two ways"),
    ([b"Transfer-Encoding: chunked"], "two ways"),
    ([b"Content-Length: 0", b"Transfer-Encoding: chunked"], "exclude each other"),
    ([b"Content-Length: 0", b"Content-Length: 0"], "one decimal number"),
    ([b"Content-Length: 0,0"], "one decimal number"),
    ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], "only Transfer-Encoding"),
])
def test_the_guards_do_not_lean_on_llhttp(
    monkeypatch: pytest.MonkeyPatch, lines: list[bytes], message: str
) -> None:
    """llhttp refuses these too. Should a version of it not, the answer is the same."""
    data = b"POST /set HTTP/1.1\r\n" + b"\r\n".join([LOCAL[:-2], *lines]) + b"\r\n\r\n"
    monkeypatch.setattr(httptools, "HttpRequestParser", LaxParser)
    event = refusal(data)
    assert (event.code, event.close) == ("bad_request", True)
    assert message in event.message


def test_every_refusal_has_a_row_of_the_table_and_a_sentence() -> None:
    seen = {}
    for _, _, _, data in published():
        for event in careful(data):
            if isinstance(event, Refusal):
                seen[event.message] = event
    assert len(seen) > 12
    for message, event in seen.items():
        assert event.http_status == CODES[event.code].http_status
        assert message[0].isupper()
        assert message[-1] == "."
        assert "\n" not in message


# -- in pieces, mutated, at random ----------------------------------------------------------------


def stream(rng: random.Random) -> bytes:
    """Up to three requests in a row, most of them whole."""
    parts = []
    for _ in range(rng.randrange(1, 4)):
        part = chunked_request(rng) if rng.random() < 0.5 else plain_request(rng)[0]
        parts.append(mutated(rng, part) if rng.random() < 0.4 else part)
    return b"".join(parts)


def test_the_events_do_not_depend_on_how_the_bytes_are_cut() -> None:
    rng = random.Random(5)
    kinds: set[str] = set()
    for _ in range(100_000 if SOAK else 1_500):
        data = stream(rng)
        whole, parts = CarefulParser(HOSTS, 200), CarefulParser(HOSTS, 200)
        events = whole.feed(data)
        pieces = in_pieces(rng, data)
        assert [event for piece in pieces for event in parts.feed(piece)] == events, (data, pieces)
        assert (whole.at_boundary, whole.mid_request) == (parts.at_boundary, parts.mid_request)
        kinds |= {type(event).__name__ for event in events}
    assert kinds == {"Request", "Refusal", "ContinueWanted"}


def read_all_by_h11(data: bytes) -> list[tuple[str, str, bytes]]:
    """Method, target and body of each request, up to the first that h11 refuses or lacks."""
    requests = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    try:
        while True:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                return requests
            body = b""
            while isinstance(event := connection.next_event(), h11.Data):
                body += bytes(event.data)
            if not isinstance(event, h11.EndOfMessage):
                return requests
            requests.append((request.method.decode(), request.target.decode(), body))
            connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
            connection.send(h11.EndOfMessage())
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return requests
            connection.start_next_cycle()
    except h11.ProtocolError:
        return requests


def test_where_h11_accepts_too_it_reads_the_same_requests() -> None:
    """h11 is laxer in places and stricter in others; what both accept must be one reading."""
    rng = random.Random(6)
    agreed = 0
    for _ in range(200_000 if SOAK else 3_000):
        data = stream(rng)
        ours: list[tuple[str, str, bytes]] = []
        for event in careful(data):
            if isinstance(event, Refusal):
                break
            if isinstance(event, Request):
                ours.append((event.method, event.target, event.body))
        for mine, theirs in zip(ours, read_all_by_h11(data), strict=False):
            assert mine == theirs, data
            agreed += 1
    assert agreed > 2_000


@settings(max_examples=20_000 if SOAK else 300, derandomize=True, database=None, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([
    b"GET / HTTP/1.1\r\n", b"POST /set HTTP/1.1\r\n", LOCAL, b"\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Content-Length: 3\r\n", b"5\r\nhello\r\n", b"0\r\n",
    b"abc", b"\r\n\r\n", CHUNKED,
])), max_size=8))
def test_random_bytes_are_accepted_or_refused_and_nothing_else(pieces: list[bytes]) -> None:
    parser = CarefulParser(HOSTS, 100)
    closed = False
    for piece in pieces:
        events = parser.feed(piece)
        for event in events:
            assert not closed
            assert isinstance(event, Request | ContinueWanted | Refusal)
            closed = isinstance(event, Refusal) and event.close
            closed = closed or (isinstance(event, Request) and not event.keep_alive)
        assert parser.at_boundary + parser.mid_request + closed == 1
    assert len(parser._held) <= HEAD_BYTES_MAX
