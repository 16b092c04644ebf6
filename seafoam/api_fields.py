"""The fields of request bodies: which there are, of what type and within which limits.

Owns the rule for each field and the words of its refusal. Knows no call as a whole and no answer.
A field that its table does not name, comes twice or is of another type is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from seafoam._core import limits
from seafoam._core.json import JsonError, fields, quote, split, uint64, unescape
from seafoam.errors import Refusal

__all__ = [
    "BATCH_FIELDS",
    "CAS_FIELDS",
    "DELETE_FIELDS",
    "GET_FIELDS",
    "KEYS_FIELDS",
    "NOUNS",
    "REPLY_FIELDS",
    "SCAN_FIELDS",
    "SET_FIELDS",
    "WRITE_FIELDS",
    "Check",
    "Field",
    "bad",
    "kind_of",
    "object_fields",
    "require",
    "shown",
    "string",
    "take",
]

#: As much of a client's own text as a message repeats.
SHOWN_CHARACTERS_MAX = 64

#: Name, kind and text of a field, as `fields` finds them.
Field = tuple[str, str, bytes]
#: Checks one field and gives what it says.
Check = Callable[[str, str, bytes], Any]


def bad(message: str) -> Refusal:
    """A body breaks a rule."""
    return Refusal("bad_request", message)


def shown(text: str) -> str:
    """A client's text as a message repeats it: quoted and not too long."""
    short = text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "..."
    return quote(short).decode()


#: How a message calls a JSON kind.
NOUNS = {
    "object": "an object",
    "array": "an array",
    "string": "a string",
    "number": "a number",
    "true": "true",
    "false": "false",
    "null": "null",
}


def string(name: str, kind: str, text: bytes) -> bytes:
    """What a JSON string says, in UTF-8."""
    if kind != "string":
        raise bad(f"{name} must be a string, not {NOUNS[kind]}")
    return unescape(text[1:-1])


def _key(name: str, kind: str, text: bytes) -> bytes:
    key = string(name, kind, text)
    if len(key) < limits.KEY_BYTES_MIN:
        raise bad(f"{name} is empty; a key has 1 to {limits.KEY_BYTES_MAX} bytes")
    return _fitting_key(name, key)


def _prefix(name: str, kind: str, text: bytes) -> bytes:
    return _fitting_key(name, string(name, kind, text))


def _fitting_key(name: str, key: bytes) -> bytes:
    if len(key) > limits.KEY_BYTES_MAX:
        raise Refusal(
            "too_large", f"{name} has {len(key)} bytes; a key has at most {limits.KEY_BYTES_MAX}"
        )
    return key


def _keys(name: str, kind: str, text: bytes) -> list[bytes]:
    if kind != "array":
        raise bad(f"{name} must be an array of strings, not {NOUNS[kind]}")
    texts = split(text)
    if not 1 <= len(texts) <= limits.KEYS_PER_READ_MAX:
        raise bad(f"{name} holds {len(texts)} keys; it takes 1 to {limits.KEYS_PER_READ_MAX}")
    return [_key(f"{name}[{at}]", kind_of(item), item) for at, item in enumerate(texts)]


def _value(name: str, kind: str, text: bytes) -> bytes:
    if len(text) > limits.VALUE_BYTES_MAX:
        raise Refusal(
            "too_large",
            f"{name} has {len(text)} bytes without insignificant whitespace; "
            f"a value has at most {limits.VALUE_BYTES_MAX}",
        )
    return text


def _cursor(name: str, kind: str, text: bytes) -> str:
    return string(name, kind, text).decode()


def _flag(name: str, kind: str, text: bytes) -> bool:
    if kind not in ("true", "false"):
        raise bad(f"{name} must be true or false, not {NOUNS[kind]}")
    return kind == "true"


def _integer(name: str, kind: str, text: bytes) -> int:
    number = uint64(text) if kind == "number" else None
    if number is None:
        said = NOUNS[kind] if kind != "number" else shown(text[:SHOWN_CHARACTERS_MAX].decode())
        raise bad(
            f"{name} must be an integer from 0 to 18446744073709551615, "
            f"without fraction or exponent, not {said}"
        )
    return number


def _msg_id(name: str, kind: str, text: bytes) -> bytes:
    _integer(name, kind, text)
    return text


def _between(least: int, most: int) -> Check:
    def check(name: str, kind: str, text: bytes) -> int:
        number = _integer(name, kind, text)
        if not least <= number <= most:
            raise bad(f"{name} is {number}; it takes {least} to {most}")
        return number

    return check


def _operations(name: str, kind: str, text: bytes) -> list[bytes]:
    if kind != "array":
        raise bad(f"{name} must be an array of operations, not {NOUNS[kind]}")
    texts = split(text)
    most = limits.OPS_PER_BATCH_MAX
    if not 1 <= len(texts) <= most:
        raise bad(f"{name} holds {len(texts)} operations; it takes 1 to {most}")
    return texts


_KIND_BY_FIRST_BYTE = {
    ord("{"): "object", ord("["): "array", ord('"'): "string",
    ord("t"): "true", ord("f"): "false", ord("n"): "null",
}


def kind_of(text: bytes) -> str:
    """The kind of a JSON value, by its first byte."""
    """The kind of a checked, compact value."""
    return _KIND_BY_FIRST_BYTE.get(text[0], "number")


_TIMEOUT = _between(limits.TIMEOUT_MS_MIN, limits.TIMEOUT_MS_MAX)
REPLY_FIELDS: dict[str, Check] = {"msg_id": _msg_id}
WRITE_FIELDS: dict[str, Check] = {"msg_id": _msg_id, "timeout_ms": _TIMEOUT}
GET_FIELDS: dict[str, Check] = {"key": _key}
KEYS_FIELDS: dict[str, Check] = {"keys": _keys}
SET_FIELDS: dict[str, Check] = {"key": _key, "value": _value, "if_absent": _flag}
CAS_FIELDS: dict[str, Check] = {
    "key": _key, "old_value": _value, "old_version": _integer, "new_value": _value,
}
DELETE_FIELDS: dict[str, Check] = {"key": _key, "error_if_not_key": _flag}
SCAN_FIELDS: dict[str, Check] = {
    "prefix": _prefix, "after": _cursor, "limit": _between(1, limits.SCAN_LIMIT_MAX),
    "values": _flag,
}
BATCH_FIELDS: dict[str, Check] = {"ops": _operations}


def object_fields(body: bytes, max_depth: int) -> list[Field]:
    """The fields of a body, unchecked, in their order."""
    try:
        return fields(body, max_depth)
    except JsonError as error:
        raise bad(f"the body is not a JSON object this call can take: {error}") from None


def take(found: list[Field], table: dict[str, Check], what: str) -> dict[str, Any]:
    """The fields, each checked by its entry in `table`."""
    taken: dict[str, Any] = {}
    for name, kind, text in found:
        check = table.get(name)
        if check is None:
            raise bad(f"{what} has no field {shown(name)}; it takes {', '.join(table)}")
        if name in taken:
            raise bad(f"{name} is given twice")
        taken[name] = check(name, kind, text)
    return taken


def require(taken: dict[str, Any], name: str, what: str) -> Any:
    """The field that `what` cannot do without."""
    if name not in taken:
        raise bad(f"{what} needs {name}")
    return taken[name]
