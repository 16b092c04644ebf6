"""What an HTTP request means to this node: its route, its answer, and the bytes of its response.

Owns the routes and the checks that come before any call (method, cluster, load). Knows nothing of
connections: a request goes in as its parts, and out comes an answer, a read to perform when its
turn has come, or a write to propose. Must never execute any part of a request it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

import orjson

from seafoam import api
from seafoam._core.http import Hosts, Responder
from seafoam._core.map import MapReader
from seafoam._core.read_path import ReadPath
from seafoam._core.store import CommandResult
from seafoam.api_answer import Answer
from seafoam.errors import CODES, Refusal
from seafoam.http_budget import Budget

__all__ = ["NodeDoor", "Page", "Plan", "Service"]

#: What a read path repeats: the errors it answers by itself.
READ_PATH_CODES = ("key_not_found", "overloaded")
#: Seconds a client is asked to wait where the node cannot serve at the moment.
RETRY_AFTER = b"Retry-After: 1\r\n"
#: Without it a client of HTTP/1.0 waits for the connection's end (RFC 9112, appendix C.2.2).
KEEP_ALIVE = b"Connection: keep-alive\r\n"
READ_METHODS = ("GET", "HEAD")


class NodeDoor(Protocol):
    """What this layer asks of a node."""

    reader: MapReader
    node_id: str
    cluster_id: str

    def submit(
        self,
        command: bytes,
        timeout_ms: int,
        on_outcome: Callable[[CommandResult | Refusal], None],
    ) -> None: ...

    def refuse_reads(self) -> Refusal | None: ...

    def readiness(self) -> Refusal | None: ...

    def status(self) -> dict[str, object]: ...

    def members(self) -> list[dict[str, str]]: ...


class Page(NamedTuple):
    """A request that only looks: `perform` it once every earlier one of its connection is
    answered."""

    perform: Callable[[], Answer]


#: What comes of a request: its answer, something to look up in its turn, or something to propose,
#: which may be done behind earlier writes that wait for their outcome.
Plan = Answer | Page | api.Write


class Service:
    """One node's routes and everything they answer with.

    `status_parts` gives what the server adds to `/status`; `openapi` is the text of
    `/openapi.json`.
    """

    def __init__(
        self,
        node: NodeDoor,
        hosts: Hosts,
        budget: Budget,
        status_parts: Callable[[dict[str, object]], dict[str, object]],
        openapi: bytes,
    ) -> None:
        self.node = node
        self.hosts = hosts
        self.budget = budget
        self.responder = Responder()
        self.responder.set_cluster(node.cluster_id)
        errors = {code: api.error_start(code, CODES[code].meaning) for code in READ_PATH_CODES}
        self.read_path = ReadPath(node.reader, hosts, self.responder, errors)
        self._status_parts = status_parts
        self._openapi = Answer(200, openapi)
        self._pages: dict[str, Callable[[], Answer]] = {
            "/status": self._status,
            "/members": self._members,
            "/livez": lambda: Answer(200, b'{"status":"alive"}'),
            "/readyz": self._readyz,
            "/openapi.json": lambda: self._openapi,
        }

    @property
    def is_shut(self) -> bool:
        """Whether reads may not go the short way at this moment, for some reason or other."""
        budget = self.budget
        return budget.used_bytes > budget.bytes_max or self.node.refuse_reads() is not None

    # -- from a request to a plan ----------------------------------------------------------------

    def plan_call(self, name: str, body: bytes) -> Plan:
        """The plan for a call whose route, method and cluster are right."""
        if self.budget.is_spent:
            return api.refuse(api.overloaded(), name, body)
        try:
            call = api.parse(name, body)
        except api.CallRefused as refused:
            return refused.answer
        if isinstance(call, api.Write):
            return call
        return Page(partial(self._perform, call))

    def plan(self, method: str, target: str, body: bytes, cluster: str | None) -> Plan:
        """The plan for any request."""
        name = target[1:] if target.startswith("/") else ""
        if name not in api.CALLS and target not in self._pages:
            return api.refuse(Refusal("no_such_route", _no_route(target)), "", body)
        allowed = ("POST",) if name in api.CALLS else READ_METHODS
        if method not in allowed:
            message = f"{target} takes {' or '.join(allowed)}, not {method}"
            return api.refuse(Refusal("method_not_allowed", message), name, body)
        if cluster is not None and cluster != self.node.cluster_id:
            message = (
                f"the node is of cluster {self.node.cluster_id}, not of the one the request names"
            )
            return api.refuse(Refusal("wrong_cluster", message), name, body)
        if name in api.CALLS:
            return self.plan_call(name, body)
        return Page(self._pages[target])

    def allow(self, target: str) -> bytes:
        """The header that tells which methods a path takes."""
        methods = READ_METHODS if target in self._pages else ("POST",)
        return b"Allow: %b\r\n" % ", ".join(methods).encode()

    def _perform(self, read: api.Read) -> Answer:
        refusal = self.node.refuse_reads()
        if refusal is None:
            try:
                return read.answer(self.node.reader)
            except Refusal as error:
                refusal = error
        return api.error_answer(refusal, read.msg_id)

    # -- pages -----------------------------------------------------------------------------------

    def _status(self) -> Answer:
        return Answer(200, orjson.dumps(self._status_parts(self.node.status())))

    def _members(self) -> Answer:
        index = self.node.reader.applying_index
        return Answer(200, orjson.dumps({"members": self.node.members(), "index": index}))

    def _readyz(self) -> Answer:
        refusal = self.node.readiness()
        if refusal is not None:
            return api.error_answer(refusal)
        return Answer(200, b'{"status":"ready"}')

    # -- from an answer to bytes -----------------------------------------------------------------

    def respond(
        self,
        answer: Answer,
        *,
        close: bool = False,
        head_only: bool = False,
        keeps_1_0: bool = False,
        target: str = "",
    ) -> list[bytes]:
        """The response that carries an answer, with the index it may show; in pieces, the first
        of which is the whole where the answer is not large.

        `keeps_1_0` tells an HTTP/1.0 client that its connection stays, as it asked.
        """
        extra = b""
        if answer.http_status == 503:
            extra = RETRY_AFTER
        elif answer.http_status == 405:
            extra = self.allow(target)
        if keeps_1_0 and not close:
            extra += KEEP_ALIVE
        start = self.responder.response(
            answer.http_status, answer.body, self.node.reader.applying_index,
            close=close, head_only=head_only, extra=extra,
            more_bytes=answer.body_bytes - len(answer.body),
        )
        return [start] if head_only else [start, *answer.rest]


def _no_route(target: str) -> str:
    path, question, _ = target.partition("?")
    if question:
        return f"there is no such path: {path[:64]} with a query string"
    return f"there is no such path: {path[:64]}"
