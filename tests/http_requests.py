"""Requests for the tests of both HTTP parsers: made by a seeded generator, fed in every way.

Owns no assertion. What it makes is a pure function of the generator that is passed in.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from seafoam._core.http import Hosts
from seafoam.http_careful import CarefulParser, ContinueWanted, Event, Refusal, Request

SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
NAMES = ("db.example", "example.com", "www.example.com")
HOSTS = Hosts(NAMES)
ROUTES = ("get", "set", "cas", "delete", "batch", "scan")

HOST_VALUES = (
    b"localhost", b"localhost:3000", b"LocalHost:80", b"127.0.0.1:3000", b"10.1.2.3", b"[::1]",
    b"[::1]:3000", b"[2001:db8::7]:1", b"db.example", b"DB.Example:3000", b"0.0.0.0:65535",
)
#: Headers a plain request may have beside the two it must.
HARMLESS = (
    b"Accept: */*", b"accept-encoding: gzip, deflate", b"Accept-Language: *",
    b"User-Agent: curl/7.88.1", b"USER-AGENT:x", b"Content-Type: application/json",
    b"Cache-Control: no-cache", b"Connection: keep-alive", b"connection:Keep-Alive",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    b"tracestate: a=b", b"X-Request-Id: 7", b"Sec-Fetch-Mode: cors", b"Accept:",
)
#: What a mutation puts in: the bytes and lines that mean something to some parser.
PIECES = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b"\0", b"\x0b", b"\x7f", b"\x80",
    b"\xff", b",", b";", b"-", b"+", b"0", b"1", b"x", b"/", b"?", b"#", b"[", b"]", b"@", b".",
    b"Host: localhost\r\n", b"Host: evil.test\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 00\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive, x\r\n", b"Expect: 100-continue\r\n", b"Origin: null\r\n",
    b"Origin: http://localhost\r\n", b"Seafoam-Cluster: 0123456789abcdef\r\n",
    b"Content-Encoding: gzip\r\n", b"Upgrade: h2c\r\n", b"Authorization: Bearer x\r\n",
    b" folded: line\r\n", b"X-Other: 1\r\n", b"Content-Length : 3\r\n", b"HTTP/1.0", b"HTTP/1.1",
    b"GET ", b"POST ", b"5\r\nhello\r\n", b"0\r\n\r\n",
)


def plain_request(rng: random.Random) -> tuple[bytes, str, bytes]:
    """A request the fast parser must accept: its bytes, its target and its body."""
    route = rng.choice(ROUTES)
    body = bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 13, 40))))
    length = str(len(body)).zfill(rng.choice((1, 1, 1, 3, 7))).encode()
    lines = [
        rng.choice((b"Host: ", b"host:", b"HOST:  ")) + rng.choice(HOST_VALUES),
        rng.choice((b"Content-Length: ", b"content-length:", b"CONTENT-length:  ")) + length,
        *rng.choices(HARMLESS, k=rng.randrange(6)),
    ]
    rng.shuffle(lines)
    lines = [line + rng.choice((b"", b"", b"", b" ", b"  ")) for line in lines]
    head = b"POST /%s HTTP/1.1\r\n" % route.encode() + b"".join(line + b"\r\n" for line in lines)
    return head + b"\r\n" + body, "/" + route, body


def chunked_request(rng: random.Random) -> bytes:
    """A request whose body comes in chunks, some of its framing unusual or wrong."""
    parts = [b"POST /set HTTP/1.1\r\nHost: localhost\r\n"]
    if rng.random() < 0.2:
        parts.append(b"Expect: 100-continue\r\n")
    parts.append(b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(rng.randrange(4)):
        data = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 20)))
        size = rng.choice(("%x", "%X", "0%x", "%016x")) % len(data)
        parts += [size.encode(), b"\r\n", data, b"\r\n"]
    parts.append(rng.choice((b"0\r\n", b"000\r\n")))
    parts += rng.choices((b"Etag: 1\r\n", b"Host: evil.test\r\n"), k=rng.randrange(3))
    return b"".join(parts) + b"\r\n"


def mutated(rng: random.Random, data: bytes) -> bytes:
    """`data` with one to three bytes or pieces put in, taken out, doubled or changed."""
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 5, 20)))
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:at] + data[at:end] + data[at:]
        elif kind == 3:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1:]
        elif kind == 4:
            data = data[:at] + rng.choice(PIECES) + data[end:]
        else:
            # In front of a line, where a whole header line is most likely to be read as one.
            start = data.find(b"\r\n", at) + 2
            data = data[:start] + rng.choice(PIECES) + data[start:]
    return data


def in_pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """`data` cut at random places, or into single bytes."""
    if rng.random() < 0.3:
        return [data[at:at + 1] for at in range(len(data))]
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def careful(*pieces: bytes, hosts: Hosts = HOSTS, body_bytes_max: int = 1000) -> list[Event]:
    """What a fresh careful parser makes of the pieces."""
    parser = CarefulParser(hosts, body_bytes_max)
    return [event for piece in pieces for event in parser.feed(piece)]


def verdict(events: list[Event]) -> str:
    """The events in the words of tests/data/http/published.txt."""
    words = []
    for event in events:
        if isinstance(event, Request):
            body = event.body.decode("latin-1")
            end = "" if event.keep_alive else " close"
            words.append(f"{event.method} {event.target}|{body}{end}")
        elif isinstance(event, Refusal):
            words.append(f"{event.http_status}" + "!" * event.close)
        elif isinstance(event, ContinueWanted):
            words.append("continue")
    return " ; ".join(words) or "wait"


def published() -> list[tuple[str, str, str, bytes]]:
    """Suite, name, verdict and bytes of every published case."""
    cases = []
    path = Path(__file__).parent / "data" / "http" / "published.txt"
    for line in path.read_text(encoding="ascii").splitlines():
        if not line.startswith("#"):
            suite, name, expected, escaped = line.split("\t")
            data = escaped.encode("ascii").decode("unicode_escape").encode("latin-1")
            cases.append((suite, name, expected, data))
    return cases
