"""The fast HTTP parser, the host rule and the answers of `_core.http`.

What the fast parser accepts is held against the careful one and against h11; what it does not
accept is only ever "careful" or "need_more".
"""

from __future__ import annotations

import ipaddress
import os
import random
import string
import subprocess
import sys

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from http_requests import (
    HARMLESS,
    HOST_VALUES,
    HOSTS,
    NAMES,
    ROUTES,
    SOAK,
    careful,
    mutated,
    plain_request,
    published,
)
from seafoam._core.http import CONTINUE, Hosts, Responder, parse_head
from seafoam._core.limits import BODY_BYTES_MAX, HEAD_BYTES_MAX
from seafoam.errors import CODES
from seafoam.http_careful import Request

SETTINGS = settings(max_examples=20_000 if SOAK else 300, derandomize=True, database=None,
                    deadline=None)

# What these clients send for POST /get with thirteen bytes, Host changed to an address.
CURL = (b"POST /get HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
        b"Content-Length: 13\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n")
CLIENTS = {
    "curl": CURL,
    "requests": (b"POST /get HTTP/1.1\r\nHost: 127.0.0.1:3000\r\n"
                 b"User-Agent: python-requests/2.32\r\nAccept-Encoding: gzip, deflate\r\n"
                 b"Accept: */*\r\nConnection: keep-alive\r\n"
                 b"Content-Length: 13\r\nContent-Type: application/json\r\n\r\n"),
    "aiohttp": (b"POST /get HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nAccept: */*\r\n"
                b"Accept-Encoding: gzip, deflate\r\nUser-Agent: Python/3.11 aiohttp/3.9\r\n"
                b"Content-Length: 13\r\nContent-Type: application/json\r\n\r\n"),
    "go": (b"POST /get HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nUser-Agent: Go-http-client/1.1\r\n"
           b"Content-Length: 13\r\nContent-Type: application/json\r\n"
           b"Accept-Encoding: gzip\r\n\r\n"),
    "node fetch": (b"POST /get HTTP/1.1\r\nhost: 127.0.0.1:3000\r\nconnection: keep-alive\r\n"
                   b"content-type: application/json\r\naccept: */*\r\naccept-language: *\r\n"
                   b"sec-fetch-mode: cors\r\nuser-agent: node\r\naccept-encoding: gzip\r\n"
                   b"content-length: 13\r\n\r\n"),
    "bench": b"POST /get HTTP/1.1\r\nHost: [::1]:3000\r\nContent-Length: 13\r\n\r\n",
}


def head(*lines: bytes, first: bytes = b"POST /get HTTP/1.1") -> bytes:
    return b"".join(line + b"\r\n" for line in (first, *lines)) + b"\r\n"


def plain(*more: bytes) -> bytes:
    return head(b"Host: localhost", b"Content-Length: 5", *more)


# -- what is plainly valid ------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_the_usual_clients_are_plain(client: str) -> None:
    data = CLIENTS[client]
    assert parse_head(data, HOSTS) == ("/get", len(data), 13)
    assert parse_head(data + b'{"key":"foo"}' + data, HOSTS) == ("/get", len(data), 13)


@pytest.mark.parametrize("route", ROUTES)
def test_each_route_is_recognised(route: str) -> None:
    data = head(b"Host: localhost", b"Content-Length: 0", first=f"POST /{route} HTTP/1.1".encode())
    assert parse_head(data, HOSTS) == (f"/{route}", len(data), 0)


@pytest.mark.parametrize("line", HARMLESS)
def test_each_harmless_header_passes(line: bytes) -> None:
    assert parse_head(plain(line), HOSTS) == ("/get", len(plain(line)), 5)
    assert parse_head(plain(line, line), HOSTS) == ("/get", len(plain(line, line)), 5)


@pytest.mark.parametrize("first", [
    b"GET /get HTTP/1.1", b"post /get HTTP/1.1", b"POST /get HTTP/1.0", b"POST /get HTTP/2.0",
    b"POST /get http/1.1", b"POST /get?a HTTP/1.1", b"POST /get/ HTTP/1.1", b"POST  /get HTTP/1.1",
    b"POST /get  HTTP/1.1", b"POST /get HTTP/1.1 ", b"POST /geT HTTP/1.1", b"POST /get",
    b"POST //get HTTP/1.1", b"POST http://localhost/get HTTP/1.1", b"POST /gets HTTP/1.1",
    b"POST /sc HTTP/1.1", b"POST /scans HTTP/1.1", b"POST /session HTTP/1.1", b"",
    b"\r\nPOST /get HTTP/1.1", b"POST /status HTTP/1.1", b"POST / HTTP/1.1", b"POST /x HTTP/1.1",
    b"PUT /set HTTP/1.1", b"HEAD /get HTTP/1.1",
])
def test_other_request_lines_are_careful(first: bytes) -> None:
    data = head(b"Host: localhost", b"Content-Length: 0", first=first)
    assert parse_head(data, HOSTS) == "careful"


@pytest.mark.parametrize("line", [
    b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Origin: http://localhost",
    b"Seafoam-Cluster: 0123456789abcdef", b"Authorization: Bearer x", b"Upgrade: h2c",
    b"Content-Encoding: identity", b"Connection: close", b"Connection: keep-alive, Upgrade",
    b"Connection:", b"Connection: keep-alives", b"Connection: keep\ralive", b"X-Unknown: 1",
    b"Cookie: a=b", b"Accepts: a", b"Accept : a", b"Accept-Encodin: a", b" Accept: a",
    b"Accept", b": a", b"\tAccept: a",
    b"Accept: \ta", b"Accept: a\tb", b"Accept: a\x00b", b"Accept: \x7f", b"Accept: \x80",
    b"Accept: a\rb", b"Accept: a\nb", b"Accept: a\nContent-Length: 6", b"Accept:\r\n folded",
    b"Content_Length: 5", b"Content\rLength: 5", b"Host: localhost", b"Content-Length: 5",
    b"Con\x14ent-type: a", b"content\rtype: a", b"x: 1",
])
def test_other_headers_are_careful(line: bytes) -> None:
    assert parse_head(plain(line), HOSTS) == "careful"
    in_front = head(line, b"Host: localhost", b"Content-Length: 5")
    assert parse_head(in_front, HOSTS) == "careful"


@pytest.mark.parametrize("length", [
    b"", b"-1", b"+1", b"1 2", b"1,1", b"0x1", b"1.0", b"1_0", b"a", b"\t1", b"1\t", b"12345678",
    b"00000001", b"8388609", b"9999999",
])
def test_other_lengths_are_careful(length: bytes) -> None:
    assert parse_head(head(b"Host: localhost", b"Content-Length: " + length), HOSTS) == "careful"


@pytest.mark.parametrize(("length", "body_bytes"), [
    (b"0", 0), (b"0000000", 0), (b"0000013", 13), (b"8388608", BODY_BYTES_MAX), (b"  7  ", 7),
])
def test_a_length_is_one_to_seven_digits(length: bytes, body_bytes: int) -> None:
    data = head(b"Host: localhost", b"Content-Length:" + length)
    assert parse_head(data, HOSTS) == ("/get", len(data), body_bytes)


@pytest.mark.parametrize("lines", [
    [b"Content-Length: 5"], [b"Host: localhost"], [],
    [b"Host: localhost", b"Host: localhost", b"Content-Length: 5"],
    [b"Host: evil.test", b"Content-Length: 5"], [b"Host:", b"Content-Length: 5"],
    [b"Host: localhost/", b"Content-Length: 5"],
])
def test_host_and_length_stand_exactly_once(lines: list[bytes]) -> None:
    assert parse_head(head(*lines), HOSTS) == "careful"


def test_values_are_printable_ascii_wherever_the_byte_stands() -> None:
    for byte in range(256):
        for at in range(26):
            value = b"x" * at + bytes([byte]) + b"x" * (25 - at)
            got = parse_head(plain(b"Accept:" + value), HOSTS)
            assert (got != "careful") is (0x20 <= byte <= 0x7e), (byte, at)


@pytest.mark.parametrize("end", [
    b"\n\r\n", b"\r\r\n", b"\n\n", b"\r\n\r\r", b"\r\n\rX", b"\r\n\n",
])
def test_other_line_ends_are_careful(end: bytes) -> None:
    data = b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nAccept: a" + end
    assert parse_head(data + b"hello", HOSTS) == "careful"


def test_a_head_of_16_kib_is_plain_and_one_byte_more_is_not() -> None:
    def of(head_bytes: int) -> bytes:
        return plain(b"User-Agent: " + b"x" * (head_bytes - len(plain(b"User-Agent: "))))

    assert parse_head(of(HEAD_BYTES_MAX), HOSTS) == ("/get", HEAD_BYTES_MAX, 5)
    assert parse_head(of(HEAD_BYTES_MAX) + b"hello", HOSTS) == ("/get", HEAD_BYTES_MAX, 5)
    assert parse_head(of(HEAD_BYTES_MAX + 1), HOSTS) == "careful"
    assert parse_head(of(HEAD_BYTES_MAX + 1)[:HEAD_BYTES_MAX], HOSTS) == "careful"
    assert parse_head(of(HEAD_BYTES_MAX + 1)[:HEAD_BYTES_MAX - 1], HOSTS) == "need_more"


@pytest.mark.parametrize("line_bytes", range(1, 30))
def test_the_16_kib_may_end_anywhere_in_a_line(line_bytes: int) -> None:
    """Where the limit cuts a name, a value or a line end, the answer is the same."""
    rest = b"Accept-Encoding: identity, gzip\r\n\r\n"
    fill = HEAD_BYTES_MAX - line_bytes - len(plain(b"User-Agent: ")) + 2
    data = plain(b"User-Agent: " + b"x" * fill)[:-2] + rest
    assert parse_head(data[:HEAD_BYTES_MAX - 1], HOSTS) == "need_more"
    assert parse_head(data[:HEAD_BYTES_MAX], HOSTS) == "careful"
    assert parse_head(data, HOSTS) == "careful"


# -- byte by byte ---------------------------------------------------------------------------------


@pytest.mark.parametrize("client", CLIENTS)
def test_every_prefix_of_a_plain_head_needs_more(client: str) -> None:
    data = CLIENTS[client]
    for end in range(len(data)):
        assert parse_head(data[:end], HOSTS) == "need_more", data[:end]


def test_a_careful_prefix_never_becomes_plain() -> None:
    """So a head fed byte by byte is judged as the head fed at once."""
    rng = random.Random(2)
    for _ in range(20_000 if SOAK else 400):
        request = plain_request(rng)[0]
        if rng.random() < 0.7:
            request = mutated(rng, request)
        whole = parse_head(request, HOSTS)
        end_of_head = whole[1] if isinstance(whole, tuple) else len(request)
        prefixes = [parse_head(request[:end], HOSTS) for end in range(end_of_head)]
        first_careful = prefixes.index("careful") if "careful" in prefixes else end_of_head
        assert set(prefixes[:first_careful]) <= {"need_more"}
        assert set(prefixes[first_careful:]) <= {"careful"}
        if first_careful < end_of_head:
            assert whole == "careful"


def test_garbage_is_careful_long_before_the_head_could_end() -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET ", b"hello", b"P\r", b"POST /g\0"):
        assert parse_head(garbage.ljust(24, b"x"), HOSTS) == "careful"
    line = b"POST /get HTTP/1.1\r\n"
    assert parse_head(line + b"x" * 16, HOSTS) == "careful"
    assert parse_head(line + b"Accept: a\n", HOSTS) == "careful"
    assert parse_head(line + b"x\r\n\r\n", HOSTS) == "careful"


# Run in a process of its own, which an over-read ends: the last byte of each input is the last
# before a page that may not be read.
AT_THE_EDGE = """
import ctypes, mmap, random
from http_requests import HOSTS, mutated, plain_request
from seafoam._core.http import parse_head

pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
assert libc.mprotect(address + mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0  # PROT_NONE
view = memoryview(pages)
rng = random.Random(8)
for count in range(300):
    data = plain_request(rng)[0]
    data = mutated(rng, data) if count % 2 else data
    for end in range(len(data) + 1):
        start = mmap.PAGESIZE - end
        view[start:mmap.PAGESIZE] = data[:end]
        got = parse_head(view[start:mmap.PAGESIZE], HOSTS)
        assert got == parse_head(data[:end], HOSTS)
print("unharmed")
"""


def test_no_byte_past_the_end_is_read() -> None:
    done = subprocess.run([sys.executable, "-c", AT_THE_EDGE], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.stdout == "unharmed\n", (done.returncode, done.stderr)


# -- the two paths, and h11 -----------------------------------------------------------------------


def read_by_h11(data: bytes) -> tuple[str, str, bytes] | None:
    """Method, target and body of the first request, or None where h11 refuses or wants more."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    body = b""
    try:
        request = connection.next_event()
        if not isinstance(request, h11.Request):
            return None
        while True:
            event = connection.next_event()
            if isinstance(event, h11.EndOfMessage):
                return request.method.decode(), request.target.decode(), body
            if not isinstance(event, h11.Data):
                return None
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return None


def check_agreement(data: bytes) -> bool:
    """Where the fast parser accepts, the careful one and h11 read the same request."""
    got = parse_head(data, HOSTS)
    if not isinstance(got, tuple):
        assert got in ("need_more", "careful")
        return False
    path, head_bytes, body_bytes = got
    assert data[:head_bytes].endswith(b"\r\n\r\n")
    request = data[:head_bytes + body_bytes].ljust(head_bytes + body_bytes, b".")
    body = request[head_bytes:]
    assert careful(request, body_bytes_max=BODY_BYTES_MAX) == [
        Request("POST", path, body, keep_alive=True, http_version="1.1", cluster=None)
    ]
    assert read_by_h11(request) == ("POST", path, body)
    return True


def test_plain_requests_are_accepted_by_both_and_by_h11() -> None:
    rng = random.Random(3)
    for _ in range(50_000 if SOAK else 1_500):
        request, target, body = plain_request(rng)
        assert parse_head(request, HOSTS) == (target, len(request) - len(body), len(body))
        assert check_agreement(request)


def test_whatever_is_accepted_of_mutated_requests_is_accepted_by_both_and_by_h11() -> None:
    rng = random.Random(4)
    count = 1_000_000 if SOAK else 20_000
    accepted = sum(check_agreement(mutated(rng, plain_request(rng)[0])) for _ in range(count))
    # Most mutations break a request; enough survive for the test to mean something.
    assert count // 20 < accepted < count // 2


def test_of_the_published_cases_none_is_accepted_by_the_fast_parser_alone() -> None:
    """Their targets are turned into a route's, so that the rest of the head is what decides."""
    accepted = 0
    for _, _, expected, data in published():
        method, _, rest = data.partition(b" ")
        target, _, rest = rest.partition(b" ")
        routed = b"POST /set " + rest if method == b"POST" and target == b"/" else data
        if check_agreement(routed):
            accepted += 1
            assert expected.startswith("POST /|")
    assert accepted >= 4


@SETTINGS
@given(st.binary(max_size=400))
def test_random_bytes_are_accepted_by_both_or_careful(data: bytes) -> None:
    check_agreement(data)
    check_agreement(b"POST /get HTTP/1.1\r\n" + data)
    check_agreement(b"POST /get HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n" + data)


@SETTINGS
@given(st.lists(st.tuples(st.sampled_from(["Accept", "Host", "Content-Length", "Connection", "X",
                                           "Transfer-Encoding", "user-agent"]),
                          st.sampled_from(["0", "5", "localhost", "keep-alive", "close", "",
                                           "chunked", " ", "evil.test", "[::1]:3000"]),
                          ), max_size=5))
def test_random_headers_are_accepted_by_both_or_careful(headers: list[tuple[str, str]]) -> None:
    check_agreement(head(*(f"{name}: {value}".encode() for name, value in headers)))


# -- the host rule --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [
    *HOST_VALUES, b"255.255.255.255", b"[::]", b"[::ffff:1.2.3.4]:80", b"localhost:", b"[::1]:",
    b"localhost:65535", b"localhost:0", b"[1111:2222:3333:4444:5555:6666:255.255.255.255]",
])
def test_own_hosts_are_allowed(value: bytes) -> None:
    assert HOSTS.judge(value) == "allowed"


@pytest.mark.parametrize("value", [
    b"evil.test", b"evil.test:3000", b"localhost.", b"localhost.evil.test",
    b"db.example.evil.test", b"xdb.example", b"example.co", b"127.0.0.1.evil.test", b"256.0.0.1",
    b"127.1", b"2130706433", b"0x7f.0.0.1", b"01.2.3.4", b"1.2.3.4.5", b"1.2.3.", b"1.2.3.04",
    b"1.2.3.1234", b"a_b", b".",
])
def test_other_names_are_foreign(value: bytes) -> None:
    assert HOSTS.judge(value) == "foreign"


@pytest.mark.parametrize("value", [
    b"", b":80", b"localhost:65536", b"localhost:123456", b"localhost:8a", b"localhost:-1", b"a b",
    b"localhost/", b"http://localhost", b"user@localhost", b"localhost, localhost", b"[::1",
    b"::1", b"[::1]x", b"[::1]:65536", b"[]", b"[127.0.0.1]", b"[::1%eth0]", b"[::1\x00]",
    b"[" + b":" * 60 + b"]", b"local\x00host", b"localhost\x00", b"caf\xc3\xa9", b"a;b",
    b"[:::]", b"[1:2:3:4:5:6:7:8:9]",
])
def test_what_is_no_host_is_malformed(value: bytes) -> None:
    assert HOSTS.judge(value) == "malformed"


def expected_verdict(value: str) -> str:
    """The host rule again, on the standard library's addresses."""
    bracketed = value.startswith("[")
    name, bracket, port = value[1:].partition("]") if bracketed else value.partition(":")
    if bracketed:
        if not bracket or (port and not port.startswith(":")):
            return "malformed"
        port = port[1:]
    # len() because int() of many digits is refused.
    if port and not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        return "malformed"
    try:
        address = ipaddress.ip_address(name)
        if (address.version == 6) is bracketed and "%" not in name:
            return "allowed"
    except ValueError:
        pass
    allowed = set(string.ascii_letters + string.digits + ".-_")
    if bracketed or not name or set(name) - allowed:
        return "malformed"
    return "allowed" if name.lower() in ("localhost", *NAMES) else "foreign"


@SETTINGS
@given(st.one_of(
    st.text("0123456789.:[]aflocahst-", max_size=20),
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.tuples(st.sampled_from(["localhost", "Example.COM", "[::1]", "1.2.3.4", "[a:b::1.2.3.4]"]),
              st.sampled_from(["", ":", ":1", ":65535", ":65536", ":000080", "x", "::", ".", "]"])
              ).map("".join),
))
def test_the_host_rule_agrees_with_the_standard_library(value: str) -> None:
    assert HOSTS.judge(value.encode()) == expected_verdict(value)


def test_advertised_names_are_checked_and_their_case_ignored() -> None:
    hosts = Hosts(["DB-1.Example", "::1", "10.0.0.1", "a" * 253])
    assert hosts.judge(b"db-1.example:3000") == hosts.judge(b"a" * 253) == "allowed"
    assert hosts.judge(b"a" * 252) == Hosts().judge(b"db-1.example") == "foreign"
    for name in ("", "a b", "a:80", "caf\u00e9", "\u212aelvin", "a" * 254, "a\x00", "\ud800"):
        with pytest.raises(ValueError, match="host name"):
            Hosts([name])


# -- answers --------------------------------------------------------------------------------------


def test_an_answer_byte_for_byte() -> None:
    responder = Responder()
    assert responder.response(200, b"{}", 7) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Seafoam-Index: 7\r\n\r\n{}")
    responder.set_date(b"Sun, 06 Nov 1994 08:49:37 GMT")
    responder.set_cluster("00000000000000af")
    assert responder.response(200, b"{}", 7) == (
        b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\nSeafoam-Index: 7\r\n"
        b"Seafoam-Cluster: 00000000000000af\r\n\r\n{}")
    answer = responder.response(405, b"{}", 0, close=True, head_only=True,
                                extra=b"Allow: POST\r\n")
    assert answer == (
        b"HTTP/1.1 405 Method Not Allowed\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\nSeafoam-Index: 0\r\n"
        b"Seafoam-Cluster: 00000000000000af\r\nConnection: close\r\nAllow: POST\r\n\r\n")
    responder.set_cluster(None)
    assert b"Seafoam-Cluster" not in responder.response(200, b"", 0)


@pytest.mark.parametrize("status", sorted({200, 401, 412, *(
    row.http_status for row in CODES.values())}))
def test_every_status_of_the_error_table_is_an_answer_to_h11(status: int) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/get", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(CONTINUE + Responder().response(status, b"[1,2]", 12))
    assert connection.next_event().status_code == 100
    answer = connection.next_event()
    assert (answer.status_code, dict(answer.headers)[b"seafoam-index"]) == (status, b"12")
    assert len(answer.reason) > 1
    assert connection.next_event().data == b"[1,2]"
    assert isinstance(connection.next_event(), h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)


@SETTINGS
@given(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 64).map(lambda bits: 2**bits - 1),
                 st.integers(0, 19).flatmap(lambda n: st.integers(10**n - 1, 10**n + 1))))
def test_numbers_are_written_in_decimal(index: int) -> None:
    assert b"\r\nSeafoam-Index: %d\r\n" % index in Responder().response(200, b"", index)


@pytest.mark.parametrize("length", [0, 9, 10, 99, 100, 101, 12345, 999_999, 1_000_000])
def test_the_length_is_the_bodys_also_without_it(length: int) -> None:
    body = b"x" * length
    answer = Responder().response(200, body, 1)
    assert b"\r\nContent-Length: %d\r\n" % length in answer
    assert Responder().response(200, body, 1, head_only=True) + body == answer
    begun = Responder().response(200, body[:7], 1, more_bytes=len(body[7:]))
    assert begun + body[7:] == answer


def test_what_no_answer_may_carry_is_refused() -> None:
    responder = Responder()
    for status in (0, 100, 201, 302, 500, 999):
        with pytest.raises(ValueError, match=f"HTTP status {status}"):
            responder.response(status, b"", 0)
    for extra in (b"Allow: POST", b"\r\n\r\n", b"Allow: POST\r\n\r\nX: 1\r\n", b"Allow: POST\n",
                  b"\r\n", b"\r\nAllow: POST\r\n"):
        with pytest.raises(ValueError, match="extra headers"):
            responder.response(200, b"", 0, extra=extra)
    for date in (b"", b"x" * 28, b"x" * 30, b"x" * 28 + b"\n"):
        with pytest.raises(ValueError, match="Date"):
            responder.set_date(date)
    for cluster_id in ("", "0" * 15, "0" * 17, "A" * 16, "g" * 16):
        with pytest.raises(ValueError, match="cluster id"):
            responder.set_cluster(cluster_id)
    for index in (-1, 2**64):
        with pytest.raises(OverflowError):
            responder.response(200, b"", index)
    assert responder.response(200, b"", 0).count(b"\r\n\r\n") == 1

