"""Every error of Seafoam: its code, its HTTP status, its gRPC status and its exception.

Owns the one table (`CODES`) from which the HTTP server, the documentation and the clients read.
A code that is not in the table cannot be answered: `Refusal` looks it up when it is made. Must
never import another module of the project, so that every layer may raise what is defined here.

Three kinds of failure are kept apart: the other side's fault (a code of the 400s), ours or the
moment's (429, 503, 504, 507), and a broken invariant, which ends the process (`ensure`).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "CODES",
    "CapacityExceeded",
    "CasMismatch",
    "Code",
    "ConfigurationRefused",
    "DataDamaged",
    "Detached",
    "DiskFailed",
    "DiskWentBack",
    "InvariantBroken",
    "KeyExists",
    "KeyNotFound",
    "PeerRefused",
    "Refusal",
    "SeafoamError",
    "SnapshotLost",
    "StartError",
    "ViewRefused",
    "ensure",
]


class Code(NamedTuple):
    """One row of the error table."""

    http_status: int
    grpc_status: str
    meaning: str


#: code -> its row. The only codes a client can ever see.
CODES: dict[str, Code] = {
    "bad_request": Code(400, "INVALID_ARGUMENT", "The request breaks a rule, which is named."),
    "forbidden": Code(403, "PERMISSION_DENIED", "Another site's page, or a foreign Host name."),
    "key_not_found": Code(404, "NOT_FOUND", "There is no such key."),
    "no_such_route": Code(404, "NOT_FOUND", "There is no such path."),
    "method_not_allowed": Code(405, "INVALID_ARGUMENT", "The path takes others; see Allow."),
    "request_timeout": Code(408, "DEADLINE_EXCEEDED", "The request did not arrive whole in time."),
    "cas_mismatch": Code(409, "ABORTED", "The key holds another value or version."),
    "key_exists": Code(409, "ALREADY_EXISTS", "The key is there already, and if_absent was set."),
    "wrong_cluster": Code(409, "ABORTED", "The request names another cluster than this node's."),
    "too_large": Code(413, "RESOURCE_EXHAUSTED", "A key, value, body or answer is over a limit."),
    "overloaded": Code(429, "RESOURCE_EXHAUSTED", "Too much is in flight; try again later."),
    "headers_too_large": Code(431, "RESOURCE_EXHAUSTED", "Request line and headers are too long."),
    "no_leader": Code(503, "UNAVAILABLE", "No leader is known; try again later."),
    "starting": Code(503, "UNAVAILABLE", "The node is starting and may not answer reads yet."),
    "not_ready": Code(503, "UNAVAILABLE", "The node is up but should not get traffic yet."),
    "shutting_down": Code(503, "UNAVAILABLE", "The node is stopping."),
    "timeout": Code(504, "DEADLINE_EXCEEDED", "The write was proposed; its outcome is not known."),
    "disk_full": Code(507, "RESOURCE_EXHAUSTED", "The disk has no room for writes; reads go on."),
    "quota_exceeded": Code(507, "RESOURCE_EXHAUSTED", "The quota is used up; deletes go on."),
}


class SeafoamError(Exception):
    """The base of every exception Seafoam raises on purpose."""


class Refusal(SeafoamError):
    """A call that is answered with an error of the table.

    `applied` is ``"no"`` where it is certain that no log entry was or will be made of the call or
    the state machine refused it, ``"unknown"`` otherwise, and None for calls without a write.
    """

    def __init__(self, code: str, message: str, *, applied: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.applied = applied
        self.http_status = CODES[code].http_status


class KeyNotFound(SeafoamError, KeyError):
    """There is no such key."""

    def __str__(self) -> str:
        # KeyError prints the repr of its argument, which quotes a sentence.
        return str(self.args[0]) if self.args else ""


class KeyExists(SeafoamError):
    """The key is there already."""


class CasMismatch(SeafoamError):
    """The key holds another value or version than the caller expected."""


class Detached(SeafoamError):
    """The map has no live writer: the node ended, was replaced, or has not started yet."""


class StartError(SeafoamError):
    """A node cannot start; the message is the one sentence an operator needs."""


class AddressRefused(SeafoamError):
    """A text that is no address of a node; says why."""


class DataDamaged(StartError):
    """Bytes on disk that were once whole are not; the message names the file and the offset."""


class ViewRefused(SeafoamError):
    """What another node says of itself while a cluster is founded is no sound view."""


class PeerRefused(SeafoamError):
    """What another node sent, or who it is, is refused; says what it did, after its name.

    `code` is one of the REFUSED_ numbers of `seafoam._core.wire_peer`. `running_ms` is for how
    long, at least, the one has been running of which the other is a copy; 0 where there is none
    or that is not known.
    """

    def __init__(self, code: int, sentence: str, *, running_ms: int = 0) -> None:
        super().__init__(sentence)
        self.code = code
        self.running_ms = running_ms


class DiskFailed(SeafoamError):
    """A write or sync failed. It is never retried: the node must stop."""


class DiskWentBack(SeafoamError):
    """The log ends before what this node once acknowledged. Its word counts: it must stop."""


class CapacityExceeded(SeafoamError):
    """This machine cannot hold a committed entry. It cannot be skipped: the node must stop."""


class SnapshotLost(SeafoamError):
    """A snapshot of the map was closed, or gave its memory back to a write that needed it."""


class ConfigurationRefused(SeafoamError):
    """A membership that cannot be, or a change that may not be made to it; says which rule."""


class InvariantBroken(SeafoamError):
    """Something that cannot happen did. Ends the process: going on would risk the data."""


def ensure(condition: object, message: str) -> None:
    """Raise `InvariantBroken` unless `condition` holds (unlike ``assert``, also under -O)."""
    if not condition:
        raise InvariantBroken(message)
