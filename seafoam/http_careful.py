"""The careful half of reading HTTP/1.1: every request that `_core.http` does not recognise.

Owns the judgement of one connection's bytes: each request becomes a `Request` or a `Refusal`, in
order. It does no I/O, knows no route, builds no answer, and never guesses: where two readings of
the same bytes are possible, the connection ends.

How it works. The stream is cut into units that are judged whole: a head, a chunk's size line, the
end of a chunk, a trailer section, and the stretches of body between them. A unit is bounded while
it arrives, its line ends are checked, and only then llhttp (through httptools, no lenient flag
set) sees it. So a verdict never depends on how the network cut the bytes, and nothing llhttp
holds can grow. Where a guard here and llhttp differ on where a message ends, the request is
refused. Each request gets a fresh llhttp parser: no state of one can leak into the next.

What llhttp 9.4 lets through without a lenient flag, and the guards stop: any number of CRs and
LFs before the request line, several spaces inside it, HTTP/0.9 and HTTP/2.0, `Transfer-Encoding`
in HTTP/1.0, codings before `chunked`, chunk extensions of any length. Bare CR and LF, folded lines
and control bytes are refused by both; the guard sees them before the unit is whole, so that a TLS
handshake on the wrong port is answered at once and not after the timeout.

Decisions, where the RFCs leave a choice:

* an absolute target's host stands for Host's, which must be there and well-formed all the same
  (RFC 9112 sections 3.2 and 3.2.2);
* one empty line before a request line is ignored (RFC 9112 section 2.2), a second is refused;
* `Upgrade` is ignored, as RFC 9110 section 7.8 allows: Java's client sends it with every first
  request. CONNECT is refused and ends the connection, for what follows it is not HTTP;
* chunk extensions are refused: the length a server "ought to limit" (RFC 9112 section 7.1.1) is
  zero here, for nothing uses them but attacks on proxies that read them differently;
* trailers are read and dropped, and count with the head against HEAD_BYTES_MAX;
* an `Expect` other than 100-continue is refused as 400, for the error table has no 417; a refused
  request that waits for 100 ends the connection, for its body may come or not.

Invariants: between two feeds a connection holds at most one body and HEAD_BYTES_MAX bytes more;
after an event that closes, nothing is accepted and no event comes; at a boundary every byte fed
belongs to a request already given back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from seafoam._core.http import Hosts
from seafoam._core.limits import BODY_BYTES_MAX, BODY_CHUNKS_MAX, HEAD_BYTES_MAX
from seafoam.errors import CODES

__all__ = ["CarefulParser", "ContinueWanted", "Event", "Refusal", "Request", "target_of"]

# Twenty digits are all of 64 bits.
_LENGTH = re.compile(rb"[0-9]{1,20}")

# Sixteen digits are all of 64 bits; leading zeros are allowed within them.
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_CHUNK_LINE_BEGUN = re.compile(rb"[0-9A-Fa-f]{0,16}\r?")
_CHUNK_LINE_BYTES_MAX = 18

# One space each, a target of visible ASCII, and no other version (RFC 9112 section 3).
_REQUEST_LINE = re.compile(rb"([A-Z-]+) ([!-~]+) HTTP/(1\.[01])\r\n")

# The absolute form of a target (RFC 9112 section 3.2.2): whose it is, and the rest. One with
# another scheme than this server speaks stays as it is, and no route is called that.
_ABSOLUTE = re.compile(rb"http://([^/?#]*)(.*)", re.IGNORECASE)

# What no head or trailer section may contain, whole or not: a CR without its LF, an LF without
# its CR, a line that continues the one before, any other control byte but a tab.
_BAD_BYTES = re.compile(rb"\r(?=[^\n])|(?<!\r)\n|\r\n[ \t]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

# llhttp stops at a request that asks for another protocol. A name of the same length that means
# nothing keeps everything else about the line checked.
_UPGRADE_NAME = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
_IGNORED_NAME = b"\r\nignored:"


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request. `target` is as sent, with its query, but without the host of an absolute
    one; `cluster` is its Seafoam-Cluster."""

    method: str
    target: str
    body: bytes
    keep_alive: bool
    http_version: str
    cluster: str | None


@dataclass(frozen=True, slots=True)
class ContinueWanted:
    """The client waits for `100 Continue` before it sends the body; the request comes later."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request to be answered with an error; after one that closes, nothing more is accepted.

    `head_only` says that it was a HEAD, so that the answer has no body. `target` is what it was
    sent to, "" where its head could not be read.
    """

    http_status: int
    code: str
    message: str
    close: bool
    head_only: bool
    target: str


Event = Request | ContinueWanted | Refusal


class _Fault(Exception):
    """A request that cannot be read to its end: it is refused and the connection ends."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class _Message:
    """What llhttp reports about one request."""

    __slots__ = ("body", "head_whole", "headers", "keeps_body", "whole")

    def __init__(self) -> None:
        self.headers: dict[bytes, list[bytes]] = {}
        self.body = bytearray()
        self.keeps_body = True
        self.head_whole = False
        self.whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers arrive here too, behind the head.
        if not self.head_whole:
            self.headers.setdefault(name.lower(), []).append(value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self.head_whole = True

    def on_body(self, piece: bytes) -> None:
        if self.keeps_body:
            self.body += piece

    def on_message_complete(self) -> None:
        self.whole = True

    def values(self, name: bytes) -> list[bytes]:
        """The values of the headers called `name` (lower-case), in order."""
        return self.headers.get(name, [])


def _parted(target: bytes) -> tuple[bytes | None, str]:
    """The host that a target names, if any, and the rest."""
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        return None, target.decode("ascii")
    path = absolute[2].decode("ascii")
    return absolute[1], path if path.startswith("/") else "/" + path


def target_of(begun: bytes | bytearray) -> str:
    """Where a request that has begun to arrive is sent; "" before its first line is whole."""
    line = _REQUEST_LINE.match(begun, 0, HEAD_BYTES_MAX)
    return "" if line is None else _parted(line[2])[1]


class CarefulParser:
    """Turns one connection's bytes into requests and refusals, in order.

    `hosts` are the names the node answers to; a body may have `body_bytes_max` bytes.
    """

    def __init__(self, hosts: Hosts, body_bytes_max: int = BODY_BYTES_MAX) -> None:
        self._hosts = hosts
        self._body_bytes_max = body_bytes_max
        self._held = bytearray()
        self._closed = False
        self._begin_request()

    @property
    def mid_request(self) -> bool:
        """Whether a part of a request has arrived and its rest has not."""
        if self._closed:
            return False
        return bool(self._held) or self._awaited is not CarefulParser._take_head

    @property
    def target(self) -> str:
        """Where the request that is arriving is sent; "" before its first line is whole."""
        return self._target if self._head_bytes else target_of(self._held)

    @property
    def at_boundary(self) -> bool:
        """Whether the next byte begins a request, so that any parser may take over."""
        return not self._closed and not self.mid_request

    def feed(self, data: bytes) -> list[Event]:
        """Take what has arrived and return what it completes."""
        events: list[Event] = []
        if not self._closed:
            self._held += data
            self._read_held(events)
        if self._closed:
            self._held.clear()
        return events

    def _read_held(self, events: list[Event]) -> None:
        try:
            while not self._closed and self._awaited(self, events):
                pass
        except _Fault as fault:
            if not self._head_bytes:
                self._read_line(self._held)
            self._refuse(events, fault.code, fault.message, close=True)

    # -- the head ---------------------------------------------------------------------------

    def _begin_request(self) -> None:
        self._awaited: Callable[[CarefulParser, list[Event]], bool] = CarefulParser._take_head
        self._scanned_bytes = 0
        self._skipped_line = False
        self._method = ""
        self._target = ""
        self._authority: bytes | None = None
        self._http_version = ""
        self._head_bytes = 0
        self._message = _Message()
        self._parser = httptools.HttpRequestParser(self._message)
        self._left_bytes = 0
        self._body_bytes = 0
        self._chunk_count = 0
        self._refusal: tuple[str, str] | None = None

    def _take_head(self, events: list[Event]) -> bool:
        if self._held.startswith(b"\r\n"):
            if self._skipped_line:
                raise _Fault("bad_request", "Empty lines stand before the request; send none.")
            self._skipped_line = True
            del self._held[:2]
            return True
        head = self._take_section(HEAD_BYTES_MAX)
        if head is None:
            return False
        self._head_bytes = len(head)
        if not self._read_line(head):
            raise _Fault(
                "bad_request",
                "The request line is not a method, a target and HTTP/1.1 with one space between.",
            )
        if self._method == "CONNECT":
            raise _Fault("bad_request", "This server is no proxy; send the request itself.")
        has_body = self._read_framing(_UPGRADE_NAME.sub(_IGNORED_NAME, head))
        self._refusal = self._judge_head()
        self._message.keeps_body = self._refusal is None
        if has_body:
            self._answer_expectation(events)
        else:
            self._finish(events)
        return True

    def _read_line(self, head: bytes | bytearray) -> bool:
        """Take what the request line says; whether it is one, and whole."""
        line = _REQUEST_LINE.match(head, 0, HEAD_BYTES_MAX)
        if line is None:
            return False
        self._method = line[1].decode("ascii")
        self._authority, self._target = _parted(line[2])
        self._http_version = line[3].decode("ascii")
        return True

    def _take_section(self, bytes_max: int) -> bytes | None:
        """The lines up to the first empty one, once they are whole; checked as they arrive."""
        held = self._held
        end = held.find(b"\r\n\r\n", self._scanned_bytes, bytes_max)
        section_bytes = end + 4 if end >= 0 else min(len(held), bytes_max)
        if _BAD_BYTES.search(held, self._scanned_bytes, section_bytes):
            raise _Fault(
                "bad_request",
                "A header line is folded, ends in a bare CR or LF, or has a control byte in it; "
                "end each line with CR LF.",
            )
        if end >= 0:
            self._scanned_bytes = 0
            return self._take(section_bytes)
        if len(held) >= bytes_max:
            raise _Fault(
                "headers_too_large",
                f"Request line, headers and trailers have more than {HEAD_BYTES_MAX} bytes; "
                "send fewer or shorter ones.",
            )
        # The last three bytes may be the beginning of what ends the section or spoils it.
        self._scanned_bytes = max(section_bytes - 3, 0)
        return None

    def _read_framing(self, head: bytes) -> bool:
        """Let llhttp read the head, and decide how the body is framed; whether there is one."""
        self._feed_llhttp(head)
        message = self._message
        lengths = message.values(b"content-length")
        codings = message.values(b"transfer-encoding")
        if codings:
            if lengths:
                raise _Fault("bad_request", "Content-Length and chunks exclude each other.")
            if self._http_version == "1.0":
                raise _Fault("bad_request", "HTTP/1.0 has no Transfer-Encoding; send a length.")
            if [coding.lower() for coding in codings] != [b"chunked"]:
                raise _Fault("bad_request", 'The only Transfer-Encoding understood is "chunked".')
            self._awaited = CarefulParser._take_chunk_line
        elif lengths:
            if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
                raise _Fault("bad_request", "Content-Length must be one decimal number.")
            self._count_body(int(lengths[0]))
            self._left_bytes = int(lengths[0])
            self._awaited = CarefulParser._take_body
        if len(message.values(b"host")) > 1:
            raise _Fault("bad_request", "There are two Host headers; send one.")
        has_body = bool(codings) or self._left_bytes > 0
        self._check_whole(not has_body)
        return has_body

    def _judge_head(self) -> tuple[str, str] | None:
        """Code and message of what is wrong with a request whose framing is plain, if anything."""
        message = self._message
        hosts = message.values(b"host")
        if not hosts and self._http_version != "1.0":
            return "bad_request", "There is no Host header; HTTP/1.1 requires it."
        # Where the target names a host, what Host says must be one, and means nothing else.
        named = hosts if self._authority is None else [self._authority]
        if "malformed" in map(self._hosts.judge, hosts + named):
            return "bad_request", "Host is not a host name or address with an optional port."
        if "foreign" in map(self._hosts.judge, named):
            return (
                "forbidden",
                "Host is neither an IP address, localhost nor a name this node advertises; "
                "use one of those, or start the node with that name.",
            )
        own = [scheme + host for host in named for scheme in (b"http://", b"https://")]
        if any(origin not in own for origin in message.values(b"origin")):
            return "forbidden", "The request comes from another site's web page (see Origin)."
        if any(coding.lower() != b"identity" for coding in message.values(b"content-encoding")):
            return "bad_request", "The body is compressed (Content-Encoding); send it plain."
        if len(message.values(b"seafoam-cluster")) > 1:
            return "bad_request", "There are two Seafoam-Cluster headers; send one."
        return None

    def _answer_expectation(self, events: list[Event]) -> None:
        # RFC 9110 section 10.1.1: in HTTP/1.0 an expectation is ignored.
        expectations = self._message.values(b"expect")
        if not expectations or self._http_version == "1.0":
            return
        if self._refusal is not None:
            raise _Fault(*self._refusal)
        if any(expectation.lower() != b"100-continue" for expectation in expectations):
            raise _Fault("bad_request", 'The only Expect understood is "100-continue".')
        events.append(ContinueWanted())

    # -- the body ---------------------------------------------------------------------------

    def _count_body(self, more_bytes: int) -> None:
        self._body_bytes += more_bytes
        if self._body_bytes > self._body_bytes_max:
            raise _Fault(
                "too_large",
                f"The body has more than {self._body_bytes_max} bytes; send it in several "
                "requests.",
            )

    def _take_body(self, events: list[Event]) -> bool:
        piece = self._take(self._left_bytes)
        if not piece:
            return False
        self._left_bytes -= len(piece)
        self._feed_llhttp(piece)
        self._check_whole(self._left_bytes == 0)
        if self._left_bytes == 0:
            self._finish(events)
        return True

    def _take_chunk_line(self, events: list[Event]) -> bool:
        line = _CHUNK_LINE.match(self._held)
        if line is None:
            if _CHUNK_LINE_BEGUN.fullmatch(self._held, 0, _CHUNK_LINE_BYTES_MAX):
                return False
            raise _Fault(
                "bad_request",
                "A chunk does not begin with its size in hexadecimal digits and CR LF; chunk "
                "extensions are not understood.",
            )
        size_bytes = int(line[1], 16)
        self._chunk_count += 1
        # The last chunk, which is empty, is not counted.
        if size_bytes and self._chunk_count > BODY_CHUNKS_MAX:
            raise _Fault(
                "too_large",
                f"The body comes in more than {BODY_CHUNKS_MAX} chunks; send larger ones.",
            )
        self._count_body(size_bytes)
        self._left_bytes = size_bytes
        self._feed_llhttp(self._take(line.end()))
        self._check_whole(False)
        self._awaited = CarefulParser._take_chunk if size_bytes else CarefulParser._take_trailers
        return True

    def _take_chunk(self, events: list[Event]) -> bool:
        piece = self._take(self._left_bytes)
        if not piece:
            return False
        self._left_bytes -= len(piece)
        self._feed_llhttp(piece)
        self._check_whole(False)
        if self._left_bytes == 0:
            self._awaited = CarefulParser._take_chunk_end
        return True

    def _take_chunk_end(self, events: list[Event]) -> bool:
        if len(self._held) < 2:
            return False
        self._feed_llhttp(self._take(2))
        self._awaited = CarefulParser._take_chunk_line
        return True

    def _take_trailers(self, events: list[Event]) -> bool:
        if self._held.startswith(b"\r\n"):
            trailers: bytes | None = self._take(2)
        else:
            # The empty line that ends the body is no trailer, and not counted.
            trailers = self._take_section(HEAD_BYTES_MAX - self._head_bytes + 2)
        if trailers is None:
            return False
        self._feed_llhttp(trailers)
        self._check_whole(True)
        self._finish(events)
        return True

    # -- what all of them use ---------------------------------------------------------------

    def _take(self, bytes_max: int) -> bytes:
        piece = bytes(self._held[:bytes_max])
        del self._held[:bytes_max]
        return piece

    def _feed_llhttp(self, unit: bytes) -> None:
        try:
            self._parser.feed_data(unit)
        except httptools.HttpParserError as error:
            raise _Fault("bad_request", f"The request is not valid HTTP/1.1: {error}.") from None

    def _check_whole(self, whole: bool) -> None:
        """Refuse a request whose end llhttp sees elsewhere than the guards do."""
        if self._message.whole is not whole:
            raise _Fault("bad_request", "The request's length can be read in two ways.")

    def _finish(self, events: list[Event]) -> None:
        message = self._message
        keep_alive = self._wants_keep_alive()
        if self._refusal is not None:
            code, text = self._refusal
            self._refuse(events, code, text, close=not keep_alive)
        else:
            clusters = message.values(b"seafoam-cluster")
            events.append(
                Request(
                    method=self._method,
                    target=self._target,
                    body=bytes(message.body),
                    keep_alive=keep_alive,
                    http_version=self._http_version,
                    cluster=clusters[0].decode("latin-1") if clusters else None,
                )
            )
            self._closed = not keep_alive
        self._begin_request()

    def _wants_keep_alive(self) -> bool:
        """RFC 9112 section 9.3: close wins, and HTTP/1.0 must ask."""
        options = {
            option.strip(b" \t").lower()
            for value in self._message.values(b"connection")
            for option in value.split(b",")
        }
        if b"close" in options:
            return False
        return self._http_version != "1.0" or b"keep-alive" in options

    def _refuse(self, events: list[Event], code: str, text: str, *, close: bool) -> None:
        status = CODES[code].http_status
        events.append(Refusal(status, code, text, close, self._method == "HEAD", self._target))
        self._closed = close
