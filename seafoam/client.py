"""One connection to one node, as the command line needs it.

Owns how a call of the API is written and its answer read. Values pass through as the text they
are, so that no number is rounded on the way. Must never send a call twice: whether a call whose
answer is lost was carried out is for the caller to find out.

The standard library's http.client is enough for one call at a time.
"""

from __future__ import annotations

import http.client
from typing import NamedTuple

from seafoam._core import json
from seafoam.errors import SeafoamError

__all__ = ["BadAddress", "CallRefused", "Connection", "NodeUnreachable", "NotANode"]


class BadAddress(SeafoamError):
    """A node's address is not HOST:PORT."""


class NodeUnreachable(SeafoamError):
    """The node cannot be reached, or did not answer in time.

    `sent` tells whether the call may have reached it, and so may have been carried out.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class NotANode(SeafoamError):
    """Something answers at the address, but not as a Seafoam node does."""


class CallRefused(SeafoamError):
    """The node's answer is an error. `code` and `applied` are the API's; `body` is all of it."""

    def __init__(self, code: str, message: str, applied: str | None, body: bytes) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.applied = applied
        self.body = body

    def detail(self, name: str) -> bytes | None:
        """The JSON text of a field of the error, such as ``current_value``."""
        return _fields(_fields(self.body)["error"]).get(name)


class Answer(NamedTuple):
    """A call's answer: its body, and the JSON text of each of the body's fields."""

    body: bytes
    fields: dict[str, bytes]

    def text(self, name: str) -> bytes:
        """The JSON text of a field that such an answer always has."""
        if name not in self.fields:
            raise NotANode(f"the node's answer has no field {name!r}")
        return self.fields[name]


class Connection:
    """A connection that is opened by the first call and kept for the next ones.

    `address` is ``HOST:PORT``, an IPv6 address in brackets; a call that has no answer after
    `timeout_seconds` raises `NodeUnreachable`.
    """

    def __init__(self, address: str, timeout_seconds: float) -> None:
        host, port = _parse_address(address)
        self.address = address
        self._timeout_seconds = timeout_seconds
        self._http = http.client.HTTPConnection(host, port, timeout=timeout_seconds)

    def close(self) -> None:
        self._http.close()

    def post(self, path: str, body: bytes) -> Answer:
        """The answer of a call that takes a body."""
        return self._call("POST", path, body)

    def get(self, path: str) -> Answer:
        """The answer of a call that takes none."""
        return self._call("GET", path, None)

    def _call(self, method: str, path: str, body: bytes | None) -> Answer:
        self._open()
        try:
            self._http.request(method, path, body)
            response = self._http.getresponse()
            text = response.read()
        except TimeoutError:
            self.close()
            raise NodeUnreachable(
                f"{self.address} did not answer within {self._timeout_seconds:g} seconds",
                sent=True,
            ) from None
        except (OSError, http.client.IncompleteRead) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise NodeUnreachable(
                f"the connection to {self.address} broke: {reason}", sent=True
            ) from None
        except http.client.HTTPException:
            self.close()
            raise NotANode(f"what answers at {self.address} does not speak HTTP") from None
        if response.headers["Seafoam-Index"] is None:
            raise NotANode(f"what answers at {self.address} is not a Seafoam node")
        return _read(self.address, response.status, text)

    def _open(self) -> None:
        if self._http.sock is not None:
            return
        try:
            self._http.connect()
        except (OSError, UnicodeError) as error:
            # An OSError's own text begins with its number; a name that cannot be a host name is
            # a UnicodeError.
            reason = getattr(error, "strerror", None) or str(error)
            raise NodeUnreachable(f"cannot reach {self.address}: {reason}", sent=False) from None


def _parse_address(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = host[1:-1]
    if address and (not colon or address.endswith("]")):
        raise BadAddress(f"{address!r} names no port; it must be HOST:PORT, as {address}:3000")
    if ":" in host and not bracketed:
        raise BadAddress(
            f"{address!r} is no address of a node; an IPv6 address stands in brackets, "
            "as [::1]:3000"
        )
    # More digits than a port has are no number that int() need be asked for.
    if not host or not port.isascii() or not port.isdigit() or len(port) > 5 \
            or not 0 < int(port) < 65536:
        raise BadAddress(f"{address!r} is no address of a node; it must be HOST:PORT")
    return host, int(port)


def _read(address: str, status: int, body: bytes) -> Answer:
    try:
        fields = _fields(body)
        if status < 400:
            return Answer(body, fields)
        error = {name: _text(value) for name, value in _fields(fields["error"]).items()
                 if name in ("code", "message", "applied")}
        refused = CallRefused(error["code"], error["message"], error.get("applied"), body)
    except (json.JsonError, KeyError):
        raise NotANode(f"{address} answers with what is no answer of this API") from None
    raise refused


def _fields(text: bytes) -> dict[str, bytes]:
    return {name: value for name, _kind, value in json.fields(text)}


def _text(literal: bytes) -> str:
    return json.unescape(literal[1:-1]).decode()
