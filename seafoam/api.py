"""The calls of the API as functions of bytes: request bodies to calls, results to answer bodies.

Owns which fields a call takes together, what each answer and error looks like, and which part of a
batch an answer has no room for. Knows nothing of HTTP framing, sockets or time, so that
another protocol can share it. Values stay the JSON text they are; nothing here reads a number or
a string out of one.

Invariants:
  A1  A call that `parse` returns is valid as a whole: nothing of it is refused later for its form,
      but a scan's `after`, which only the map can read.
  A2  An unknown, duplicate or ill-typed field refuses the call and is named; none is ignored.
  A3  Every answer to a body that is a JSON object with one valid msg_id carries it, errors too.
  A4  The bytes of a /get answer are those of `_core/read_path`, which answers most of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from seafoam._core import limits
from seafoam._core.json import JsonError, fields, quote, split, uint64
from seafoam._core.map import MapReader
from seafoam._core.store import CommandResult, OperationResult
from seafoam._core.wire import (
    OPERATION_CAS,
    OPERATION_GET,
    OPERATION_SET,
    Operation,
    encode_command,
)
from seafoam.api_answer import Answer, assemble, listed
from seafoam.api_fields import (
    BATCH_FIELDS,
    CAS_FIELDS,
    DELETE_FIELDS,
    GET_FIELDS,
    KEYS_FIELDS,
    NOUNS,
    REPLY_FIELDS,
    SCAN_FIELDS,
    SET_FIELDS,
    WRITE_FIELDS,
    Check,
    Field,
    bad,
    kind_of,
    object_fields,
    require,
    shown,
    string,
    take,
)
from seafoam.errors import CODES, Refusal, ensure

__all__ = [
    "CALLS",
    "Answer",
    "CallRefused",
    "Read",
    "Write",
    "error_answer",
    "error_start",
    "overloaded",
    "parse",
    "refuse",
    "refuse_unread",
]

#: The calls, by name; an HTTP path is the name behind a slash.
CALLS = ("get", "set", "cas", "delete", "batch", "scan")
#: Calls that write; of a batch, its operations tell.
WRITES = frozenset({"set", "cas", "delete", "batch"})
#: A value stands one level below its call's own object.
CALL_DEPTH_MAX = limits.JSON_DEPTH_MAX + 1
#: A batch's operation stands in an array in an object.
BATCH_DEPTH_MAX = limits.JSON_DEPTH_MAX + limits.JSON_ENVELOPE_DEPTH
#: How often a batch of gets is read again because values grew since their sizes were looked at.
READ_ATTEMPTS_MAX = 4


class CallRefused(Exception):
    """A body that is no call; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body.decode())
        self.answer = answer


# -- errors ------------------------------------------------------------------------------------


def error_start(code: str, message: str, *, applied: str | None = None) -> bytes:
    """The body of an error without its end: ``{"error":{...}``."""
    told = b"" if applied is None else b',"applied":%b' % quote(applied)
    return b'{"error":{"code":%b,"message":%b%b}' % (quote(code), quote(message), told)


def error_answer(refusal: Refusal, msg_id: bytes | None = None) -> Answer:
    """The answer that tells of a refusal."""
    start = error_start(refusal.code, refusal.message, applied=refusal.applied)
    return Answer(refusal.http_status, start + _reply_last(msg_id) + b"}")


def _reply_first(msg_id: bytes | None) -> bytes:
    return b"" if msg_id is None else b'"in_reply_to":%b,' % msg_id


def _reply_last(msg_id: bytes | None) -> bytes:
    return b"" if msg_id is None else b',"in_reply_to":%b' % msg_id


def _msg_id_of(found: list[Field]) -> bytes | None:
    """The msg_id among the fields, where there is exactly one and it is valid."""
    given = [(kind, text) for name, kind, text in found if name == "msg_id"]
    if len(given) != 1 or given[0][0] != "number" or uint64(given[0][1]) is None:
        return None
    return given[0][1]


def _applied(name: str, found: list[Field]) -> str | None:
    """What an error tells of a call that will not be carried out; None for one that only reads.

    A batch whose operations cannot be read is taken for one that writes.
    """
    if name not in WRITES or (name == "batch" and _has_only_gets(found)):
        return None
    return "no"


def _has_only_gets(found: list[Field]) -> bool:
    arrays = [text for name, kind, text in found if name == "ops" and kind == "array"]
    return len(arrays) == 1 and all(map(_is_get, split(arrays[0])))


def _is_get(text: bytes) -> bool:
    try:
        ops = [field for field in fields(text, CALL_DEPTH_MAX) if field[0] == "op"]
        return len(ops) == 1 and string(*ops[0]) == b"get"
    except (JsonError, Refusal):
        return False


def refuse(refusal: Refusal, name: str, body: bytes) -> Answer:
    """The answer to a call of `name` that is refused for a reason outside of its body."""
    try:
        found = fields(body, BATCH_DEPTH_MAX)
    except JsonError:
        found = []
    refusal.applied = _applied(name, found)
    return error_answer(refusal, _msg_id_of(found))


def refuse_unread(refusal: Refusal, target: str) -> Answer:
    """The answer to a request that is refused before its body is here."""
    refusal.applied = _applied(target.removeprefix("/"), [])
    return error_answer(refusal)


# -- what is asked of the log or the map -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Write:
    """A call with a write: propose `command`, then ask for the `answer` to its result."""

    command: bytes
    operations: list[Operation]
    is_batch: bool
    timeout_ms: int
    msg_id: bytes | None

    @property
    def read_bytes_max(self) -> int:
        """The most that stored values can add to the answer."""
        reading = (OPERATION_GET, OPERATION_CAS)
        count = sum(operation.kind in reading for operation in self.operations)
        return min(count * limits.VALUE_BYTES_MAX, limits.ANSWER_BYTES_MAX)

    def answer(self, result: CommandResult) -> Answer:
        """The answer to what became of the command."""
        if self.is_batch:
            end = b']%b,"index":%d}' % (_reply_last(self.msg_id), result.index)
            return _batch_answer(self.operations, result.results, result.index, end)
        operation = self.operations[0]
        http_status, pieces = _outcome(operation, result.results[0], result.index, self.msg_id)
        return assemble(http_status, [*pieces, b"}"])


@dataclass(frozen=True, slots=True)
class Read:
    """A call that only reads."""

    perform: Callable[[MapReader], Answer]
    msg_id: bytes | None

    def answer(self, reader: MapReader) -> Answer:
        """Read, now. Raises Refusal where the map cannot answer at this moment."""
        try:
            return self.perform(reader)
        except Refusal as refusal:
            raise (overloaded() if refusal.code == "overloaded" else refusal) from None


Call = Read | Write


def parse(name: str, body: bytes) -> Call:
    """The call of `name` that `body` spells; raises CallRefused with the answer otherwise."""
    found: list[Field] = []
    try:
        found = object_fields(body, BATCH_DEPTH_MAX if name == "batch" else CALL_DEPTH_MAX)
        return _PARSERS[name](found)
    except Refusal as refusal:
        refusal.applied = _applied(name, found)
        raise CallRefused(error_answer(refusal, _msg_id_of(found))) from None


# -- reads -------------------------------------------------------------------------------------


def _parse_get(found: list[Field]) -> Read:
    taken = take(found, {**GET_FIELDS, **KEYS_FIELDS, **REPLY_FIELDS}, "a get")
    msg_id = taken.get("msg_id")
    if ("key" in taken) == ("keys" in taken):
        raise bad("a get needs exactly one of key and keys")
    if "key" in taken:
        key = taken["key"]
        return Read(lambda reader: _get_one(reader, key, msg_id), msg_id)
    keys = taken["keys"]
    return Read(lambda reader: _get_many(reader, keys, msg_id), msg_id)


def _get_one(reader: MapReader, key: bytes, msg_id: bytes | None) -> Answer:
    found = reader.get_versioned(key)
    if found is None:
        return error_answer(Refusal("key_not_found", CODES["key_not_found"].meaning), msg_id)
    value, version = found
    return Answer(200, b'{"value":%b,%b"version":%d}' % (value, _reply_first(msg_id), version))


def _get_many(reader: MapReader, keys: list[bytes], msg_id: bytes | None) -> Answer:
    try:
        values, versions = reader.get_many_versioned(keys, limits.ANSWER_BYTES_MAX)
    except Refusal as refusal:
        raise (_answer_too_large() if refusal.code == "too_large" else refusal) from None
    end = b'],"found":[%b],"versions":[%b]%b}' % (
        b",".join([b"false" if value is None else b"true" for value in values]),
        b",".join([b"%d" % version for version in versions]),
        _reply_last(msg_id),
    )
    shown_values = [b"null" if value is None else value for value in values]
    answer = assemble(200, [b'{"values":[', *listed(shown_values), end])
    if answer.body_bytes > limits.ANSWER_BYTES_MAX:
        raise _answer_too_large()
    return answer


def overloaded() -> Refusal:
    """What is refused for which there is no room, or no quiet moment."""
    return Refusal("overloaded", CODES["overloaded"].meaning)


def _answer_too_large() -> Refusal:
    """What a read is refused with whose answer would pass the limit."""
    return Refusal(
        "too_large",
        f"the answer would have more than {limits.ANSWER_BYTES_MAX} bytes; ask for fewer keys",
    )


def _parse_scan(found: list[Field]) -> Read:
    taken = take(found, {**SCAN_FIELDS, **REPLY_FIELDS}, "a scan")
    page = _Page(
        taken.get("prefix", b""), taken.get("after", ""),
        taken.get("limit", limits.SCAN_LIMIT_DEFAULT), taken.get("values", False),
    )
    msg_id = taken.get("msg_id")
    return Read(lambda reader: _scan(reader, page, msg_id), msg_id)


class _Page(NamedTuple):
    prefix: bytes
    after: str
    limit: int
    values: bool


def _scan(reader: MapReader, page: _Page, msg_id: bytes | None) -> Answer:
    """One page; where quoting its keys takes it past the limit, a shorter one from the same place.

    A page of one key always fits, so this ends.
    """
    limit = page.limit
    while True:
        keys, values, after = reader.scan(
            page.prefix, page.after, limit, page.values, limits.ANSWER_BYTES_MAX // 2
        )
        pieces = [b'{"keys":[%b]' % b",".join([quote(key) for key in keys])]
        if values is not None:
            pieces += [b',"values":[', *listed(values), b"]"]
        if after is not None:
            pieces.append(b',"next":%b' % quote(after))
        answer = assemble(200, [*pieces, _reply_last(msg_id) + b"}"])
        if answer.body_bytes <= limits.ANSWER_BYTES_MAX:
            return answer
        limit = max(1, len(keys) // 2)


# -- writes ------------------------------------------------------------------------------------


def _single(parse_one: Callable[[dict[str, Any]], Operation], table: dict[str, Check],
            what: str) -> Callable[[list[Field]], Write]:
    def parse_call(found: list[Field]) -> Write:
        taken = take(found, table, what)
        operation = parse_one(taken)
        timeout_ms = taken.get("timeout_ms", limits.TIMEOUT_MS_DEFAULT)
        return Write(
            encode_command([operation]), [operation], False, timeout_ms, taken.get("msg_id")
        )

    return parse_call


def _get_operation(taken: dict[str, Any]) -> Operation:
    return Operation.get(require(taken, "key", "a get"))


def _set_operation(taken: dict[str, Any]) -> Operation:
    key = require(taken, "key", "a set")
    value = require(taken, "value", "a set")
    return Operation.set(key, value, if_absent=taken.get("if_absent", False))


def _cas_operation(taken: dict[str, Any]) -> Operation:
    key = require(taken, "key", "a cas")
    value = require(taken, "new_value", "a cas")
    if ("old_value" in taken) == ("old_version" in taken):
        raise bad("a cas needs either old_value or old_version")
    return Operation.cas(
        key, value, old_value=taken.get("old_value"), old_version=taken.get("old_version")
    )


def _delete_operation(taken: dict[str, Any]) -> Operation:
    key = require(taken, "key", "a delete")
    return Operation.delete(key, error_if_not_key=taken.get("error_if_not_key", False))


# -- batches -----------------------------------------------------------------------------------


_OPERATIONS: dict[bytes, tuple[dict[str, Check], Callable[[dict[str, Any]], Operation]]] = {
    b"get": ({"op": string, **GET_FIELDS}, _get_operation),
    b"set": ({"op": string, **SET_FIELDS}, _set_operation),
    b"cas": ({"op": string, **CAS_FIELDS}, _cas_operation),
    b"delete": ({"op": string, **DELETE_FIELDS}, _delete_operation),
}


def _batch_operation(text: bytes) -> Operation:
    if kind_of(text) != "object":
        raise bad(f"it must be an object, not {NOUNS[kind_of(text)]}")
    try:
        found = fields(text, CALL_DEPTH_MAX)
    except JsonError as error:
        raise bad(f"it is not an object a batch can take: {error}") from None
    named = [(kind, value) for name, kind, value in found if name == "op"]
    if not named:
        raise bad("it needs op: get, set, cas or delete")
    op = string("op", *named[0])
    if op not in _OPERATIONS:
        raise bad(f"op is {shown(op.decode())}; it takes get, set, cas or delete")
    table, parse_one = _OPERATIONS[op]
    return parse_one(take(found, table, f"a {op.decode()} in a batch"))


def _parse_batch(found: list[Field]) -> Call:
    taken = take(found, {**BATCH_FIELDS, **WRITE_FIELDS}, "a batch")
    msg_id = taken.get("msg_id")
    operations = []
    for at, text in enumerate(require(taken, "ops", "a batch")):
        try:
            operations.append(_batch_operation(text))
        except Refusal as refusal:
            raise Refusal(refusal.code, f"ops[{at}]: {refusal.message}") from None
    if any(operation.kind != OPERATION_GET for operation in operations):
        timeout_ms = taken.get("timeout_ms", limits.TIMEOUT_MS_DEFAULT)
        return Write(encode_command(operations), operations, True, timeout_ms, msg_id)
    if "timeout_ms" in taken:
        raise bad("a batch without a write has no field timeout_ms")
    return Read(lambda reader: _read_batch(reader, operations, msg_id), msg_id)


class _Found(NamedTuple):
    """What one get of a batch without a write found; read like an OperationResult."""

    code: str | None
    value: bytes | None
    version: int
    deleted: bool = False


_TOO_LARGE = _Found("too_large", None, 0)
_Result = OperationResult | _Found


def _read_batch(reader: MapReader, operations: list[Operation], msg_id: bytes | None) -> Answer:
    found = _read_fitting(reader, [operation.key for operation in operations])
    return _batch_answer(operations, found, 0, b"]%b}" % _reply_last(msg_id))


def _read_fitting(reader: MapReader, keys: list[bytes]) -> list[_Found]:
    """All keys at one point in time, but for those whose value an answer has no room for.

    Which those are is found out beforehand, one by one; where values have grown meanwhile, again.
    """
    wanted: list[bytes | None] = [*keys]
    room_bytes = limits.ANSWER_BYTES_MAX - limits.RESULT_FRAME_BYTES * len(keys)
    for _ in range(READ_ATTEMPTS_MAX):
        asked = [key for key in wanted if key is not None]
        try:
            values, versions = reader.get_many_versioned(asked, room_bytes)
        except Refusal as refusal:
            if refusal.code != "too_large":
                raise
            wanted = _fitting_keys(reader, keys, room_bytes)
            continue
        found = iter([
            _Found("key_not_found" if value is None else None, value, version)
            for value, version in zip(values, versions, strict=True)
        ])
        return [_TOO_LARGE if key is None else next(found) for key in wanted]
    raise overloaded()


def _fitting_keys(reader: MapReader, keys: list[bytes], room_bytes: int) -> list[bytes | None]:
    """The keys, with None for each whose value finds no room behind those before it."""
    sizes: dict[bytes, int] = {}
    fitting: list[bytes | None] = []
    for key in keys:
        if key not in sizes:
            found = reader.get_versioned(key)
            sizes[key] = 0 if found is None else len(found[0])
        fits = sizes[key] <= room_bytes
        room_bytes -= sizes[key] if fits else 0
        fitting.append(key if fits else None)
    return fitting


class _Outcome(NamedTuple):
    """One operation's answer, in pieces and without the brace that ends it: a batch adds to it."""

    http_status: int
    pieces: list[bytes]


def _outcome(
    operation: Operation, result: _Result, index: int, msg_id: bytes | None
) -> _Outcome:
    if result.code is not None:
        return _failure(operation, result.code, result, msg_id)
    reply = _reply_first(msg_id)
    if operation.kind == OPERATION_GET:
        end = b',%b"version":%d' % (reply, result.version)
        return _Outcome(200, [b'{"value":', _text_of(result), end])
    if operation.kind == OPERATION_SET:
        return _Outcome(200, [b'{%b"index":%d' % (reply, index)])
    if operation.kind == OPERATION_CAS:
        start = b'{%b"new_value":' % reply
        return _Outcome(200, [start, operation.value or b"", b',"index":%d' % index])
    deleted = b"true" if result.deleted else b"false"
    text = b'{%b"key":%b,"deleted":%b,"index":%d' % (
        reply, quote(operation.key), deleted, index)
    return _Outcome(200, [text])


def _text_of(result: _Result) -> bytes:
    ensure(result.value is not None, "a result with a value holds it")
    return result.value or b""


def _failure(
    operation: Operation, code: str, result: _Result, msg_id: bytes | None
) -> _Outcome:
    if code == "too_large":
        return _no_room(operation, msg_id)
    row = CODES[code]
    applied = None if operation.kind == OPERATION_GET else "no"
    pieces = [error_start(code, row.meaning, applied=applied)]
    if code == "cas_mismatch":
        # Into the error, in front of the brace that ends it.
        pieces = [pieces[0][:-1] + b',"current_value":', _text_of(result),
                  b',"current_version":%d}' % result.version]
    return _Outcome(row.http_status, [*pieces, _reply_last(msg_id)])


def _no_room(operation: Operation, msg_id: bytes | None) -> _Outcome:
    """In place of a result whose value would take the answer past its limit."""
    applied = None if operation.kind == OPERATION_GET else "no"
    body = error_start("too_large", "The batch answers or compares too much.", applied=applied)
    return _Outcome(CODES["too_large"].http_status, [body + _reply_last(msg_id)])


def _batch_answer(
    operations: list[Operation], results: Sequence[_Result], index: int, end: bytes
) -> Answer:
    outcomes = [
        _outcome(operation, result, index, None)
        for operation, result in zip(operations, results, strict=True)
    ]
    start = b'{"results":['
    parts = [_with_status(outcome) for outcome in outcomes]
    frame_bytes = len(start) + len(end) + len(parts) - 1
    if frame_bytes + sum(map(_size_bytes, parts)) > limits.ANSWER_BYTES_MAX:
        parts = _fit(operations, parts, limits.ANSWER_BYTES_MAX - frame_bytes)
    pieces = [start, *parts[0]]
    for part in parts[1:]:
        pieces.append(b",")
        pieces += part
    return assemble(200, [*pieces, end])


def _with_status(outcome: _Outcome) -> list[bytes]:
    """A result as it stands in a batch's answer."""
    return [*outcome.pieces, b',"status":%d}' % outcome.http_status]


def _size_bytes(pieces: list[bytes]) -> int:
    return sum(map(len, pieces))


def _fit(
    operations: list[Operation], parts: list[list[bytes]], room_bytes: int
) -> list[list[bytes]]:
    """The results with as many values as there is room for, first come first served.

    Needed only where a batch repeats much of its request: its values had their room measured
    without that. Only a get's value and what a cas met are left out: both can be asked for again,
    while the other results exist nowhere else.
    """
    refused = []
    for operation, part in zip(operations, parts, strict=True):
        short = _with_status(_no_room(operation, None))
        holds_value = part[0].startswith((b'{"value":', b'{"error":'))
        is_shorter = _size_bytes(short) < _size_bytes(part)
        refused.append(short if holds_value and is_shorter else part)
    room_bytes -= sum(map(_size_bytes, refused))
    fitting = []
    for part, short in zip(parts, refused, strict=True):
        extra_bytes = _size_bytes(part) - _size_bytes(short)
        if extra_bytes <= room_bytes:
            room_bytes -= extra_bytes
            fitting.append(part)
        else:
            fitting.append(short)
    return fitting


_PARSERS: dict[str, Callable[[list[Field]], Call]] = {
    "get": _parse_get,
    "set": _single(_set_operation, {**SET_FIELDS, **WRITE_FIELDS}, "a set"),
    "cas": _single(_cas_operation, {**CAS_FIELDS, **WRITE_FIELDS}, "a cas"),
    "delete": _single(_delete_operation, {**DELETE_FIELDS, **WRITE_FIELDS}, "a delete"),
    "batch": _parse_batch,
    "scan": _parse_scan,
}
