"""The API's description for machines: `/openapi.json`.

Owns the text, made from the same limits and the same error table that the server works with, so
that neither can say what the other does not do. Must never describe what is not built.

What a schema cannot say is in the descriptions: that lengths count bytes of UTF-8, and that a
batch's answer has one result an operation.
"""

from __future__ import annotations

from typing import Any

import orjson

from seafoam._core import limits
from seafoam.errors import CODES
from seafoam.version import VERSION

__all__ = ["document"]

Schema = dict[str, Any]

UINT64_MAX = (1 << 64) - 1
#: orjson writes integers to 2^64-1, so the bound can be exact.
MSG_ID: Schema = {
    "type": "integer", "minimum": 0, "maximum": UINT64_MAX,
    "description": "Comes back as in_reply_to, in errors too.",
}
INDEX: Schema = {"type": "integer", "minimum": 0, "maximum": UINT64_MAX}
#: A key's bound is in bytes, which no keyword of JSON Schema counts: a maxLength of as many
#: characters would let keys through that are too large.
KEY: Schema = {
    "type": "string", "minLength": 1, "x-max-bytes": limits.KEY_BYTES_MAX,
    "description": f"{limits.KEY_BYTES_MIN} to {limits.KEY_BYTES_MAX} bytes of UTF-8 after "
    "unescaping; a longer one is too_large.",
}
VALUE: Schema = {
    "x-max-bytes": limits.VALUE_BYTES_MAX,
    "description": f"Any JSON value, null included: up to {limits.VALUE_BYTES_MAX} bytes of text "
    f"without insignificant whitespace, nested up to {limits.JSON_DEPTH_MAX} deep. It is kept "
    "and given back as that text.",
}
TIMEOUT_MS: Schema = {
    "type": "integer", "minimum": limits.TIMEOUT_MS_MIN, "maximum": limits.TIMEOUT_MS_MAX,
    "default": limits.TIMEOUT_MS_DEFAULT,
    "description": "How long the write may wait. Before it is proposed its end is no_leader and "
    'applied "no", afterwards timeout and "unknown".',
}
CURSOR: Schema = {
    "type": "string", "pattern": r"^([0-9A-Za-z_-]{22,1387})?$",
    "description": "The next of an earlier answer with the same prefix, from any node of the "
    "cluster; empty to begin. One of another cluster is refused as wrong_cluster.",
}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _const(text: str) -> Schema:
    return {"type": "string", "const": text}


def _array(items: Schema, least: int, most: int) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


BOOLEAN: Schema = {"type": "boolean", "default": False}
REPLY: dict[str, Schema] = {"msg_id": MSG_ID}
WRITE: dict[str, Schema] = {"msg_id": MSG_ID, "timeout_ms": TIMEOUT_MS}

GET = {"key": KEY}
SET = ({"key": KEY, "value": VALUE}, {"if_absent": BOOLEAN})
CAS_BY_VALUE = {"key": KEY, "old_value": VALUE, "new_value": VALUE}
CAS_BY_VERSION = {"key": KEY, "old_version": INDEX, "new_value": VALUE}
DELETE = ({"key": KEY}, {"error_if_not_key": BOOLEAN})


def _requests() -> dict[str, Schema]:
    get_operation = _object({"op": _const("get"), **GET})
    write_operations = [
        _object({"op": _const("set"), **SET[0]}, SET[1]),
        _object({"op": _const("cas"), **CAS_BY_VALUE}),
        _object({"op": _const("cas"), **CAS_BY_VERSION}),
        _object({"op": _const("delete"), **DELETE[0]}, DELETE[1]),
    ]
    operations_max = limits.OPS_PER_BATCH_MAX
    any_operation: Schema = {"oneOf": [get_operation, *write_operations]}
    with_write = _array(any_operation, 1, operations_max)
    # "Not all are gets": tools that make examples do so at once, and take minutes for `contains`.
    with_write["not"] = {"items": {"properties": {"op": {"const": "get"}}}}
    return {
        "get": {"oneOf": [
            _object(GET, REPLY),
            _object({"keys": _array(KEY, 1, limits.KEYS_PER_READ_MAX)}, REPLY),
        ]},
        "set": _object(SET[0], {**SET[1], **WRITE}),
        "cas": {"oneOf": [_object(CAS_BY_VALUE, WRITE), _object(CAS_BY_VERSION, WRITE)]},
        "delete": _object(DELETE[0], {**DELETE[1], **WRITE}),
        "batch": {"oneOf": [
            _object({"ops": _array(get_operation, 1, operations_max)}, REPLY),
            _object({"ops": with_write}, WRITE),
        ]},
        "scan": _object({}, {
            "prefix": {
                "type": "string", "default": "", "x-max-bytes": limits.KEY_BYTES_MAX,
                "description": "What the keys begin with; as long as a key at most.",
            },
            "after": {**CURSOR, "default": ""},
            "limit": {
                "type": "integer", "minimum": 1, "maximum": limits.SCAN_LIMIT_MAX,
                "default": limits.SCAN_LIMIT_DEFAULT,
            },
            "values": BOOLEAN,
            **REPLY,
        }),
    }


def _error(codes: list[str], *, more: dict[str, Schema] | None = None) -> Schema:
    return _object({
        "code": {"type": "string", "enum": codes},
        "message": {"type": "string"},
    }, {"applied": {"type": "string", "enum": ["no", "unknown"]}, **(more or {})})


CAS_FOUND: dict[str, Schema] = {"current_value": VALUE, "current_version": INDEX}
IN_REPLY_TO: dict[str, Schema] = {"in_reply_to": MSG_ID}


def _answers() -> dict[str, Schema]:
    status = {"status": {"type": "integer", "const": 200}}
    get_one = {"value": VALUE, "version": INDEX}
    set_done = {"index": INDEX}
    cas_done = {"new_value": VALUE, "index": INDEX}
    delete_done = {"key": KEY, "deleted": {"type": "boolean"}, "index": INDEX}
    failed_codes = ["key_not_found", "key_exists", "cas_mismatch", "too_large"]
    failed = _object({
        "error": _error(failed_codes, more=CAS_FOUND),
        "status": {"type": "integer", "enum": [404, 409, 413]},
    })
    results = {"anyOf": [
        _object({**done, **status}) for done in (get_one, set_done, cas_done, delete_done)
    ] + [failed]}
    keys_max = limits.KEYS_PER_READ_MAX
    return {
        "get": {"oneOf": [
            _object(get_one, IN_REPLY_TO),
            _object({
                "values": _array(VALUE, 1, keys_max),
                "found": _array({"type": "boolean"}, 1, keys_max),
                "versions": _array(INDEX, 1, keys_max),
            }, IN_REPLY_TO),
        ]},
        "set": _object(set_done, IN_REPLY_TO),
        "cas": _object(cas_done, IN_REPLY_TO),
        "delete": _object(delete_done, IN_REPLY_TO),
        "batch": _object(
            {"results": _array(results, 1, limits.OPS_PER_BATCH_MAX)},
            {"index": INDEX, **IN_REPLY_TO},
        ),
        "scan": _object(
            {"keys": _array(KEY, 0, limits.SCAN_LIMIT_MAX)},
            {"values": _array(VALUE, 0, limits.SCAN_LIMIT_MAX), "next": CURSOR, **IN_REPLY_TO},
        ),
    }


READ_CODES = ["bad_request", "forbidden", "wrong_cluster", "request_timeout", "too_large",
              "overloaded", "headers_too_large", "no_leader", "starting", "shutting_down"]
WRITE_CODES = ["bad_request", "forbidden", "wrong_cluster", "request_timeout", "too_large",
               "overloaded", "headers_too_large", "no_leader", "shutting_down", "timeout",
               "disk_full", "quota_exceeded"]
PAGE_CODES = ["bad_request", "forbidden", "wrong_cluster", "request_timeout", "overloaded",
              "headers_too_large", "too_large"]

#: call -> what it does, and the codes it can be refused with.
CALLS: dict[str, tuple[str, list[str]]] = {
    "get": ("Read one key, or several as they were at one point in time.",
            [*READ_CODES, "key_not_found"]),
    "set": ("Write a key, or create it with if_absent.", [*WRITE_CODES, "key_exists"]),
    "cas": ("Replace a key's value if it is the one, or the version, that is expected.",
            [*WRITE_CODES, "key_not_found", "cas_mismatch"]),
    "delete": ("Remove a key.", [*WRITE_CODES, "key_not_found"]),
    "batch": ("Carry out operations in order as one uninterrupted step.",
              [*WRITE_CODES, "starting"]),
    "scan": ("List keys, page by page, in no particular order.", READ_CODES),
}


def _headers() -> Schema:
    return {
        "Seafoam-Index": {
            "description": "The highest log index the answer may show.",
            "required": True,
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
        },
        "Seafoam-Cluster": {
            "description": "The cluster's id, 16 hexadecimal digits.",
            "required": True,
            "schema": {"type": "string", "pattern": "^[0-9a-f]{16}$"},
        },
    }


def _response(description: str, schema: Schema, status: int = 200) -> Schema:
    headers = _headers()
    if status == 503:
        headers["Retry-After"] = {
            "description": "Seconds to wait before trying again.", "required": True,
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
        }
    return {
        "description": description,
        "headers": headers,
        "content": {"application/json": {"schema": schema}},
    }


def _refusals(codes: list[str]) -> dict[str, Schema]:
    """The error responses by HTTP status, each with the codes it can carry there."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(CODES[code].http_status, []).append(code)
    found = {}
    for status, there in sorted(by_status.items()):
        description = " ".join(f"`{code}`: {CODES[code].meaning}" for code in there)
        more = CAS_FOUND if "cas_mismatch" in there else None
        schema = _object({"error": _error(there, more=more)}, IN_REPLY_TO)
        found[str(status)] = _response(description, schema, status)
    return found


CLUSTER_HEADER: Schema = {
    "name": "Seafoam-Cluster", "in": "header", "required": False,
    "description": "Refuse the request (wrong_cluster) unless the node is of this cluster.",
    "schema": {"type": "string"},
}


def _paths() -> dict[str, Schema]:
    requests, answers = _requests(), _answers()
    paths: dict[str, Schema] = {}
    for name, (summary, codes) in CALLS.items():
        paths[f"/{name}"] = {"post": {
            "operationId": name,
            "summary": summary,
            "parameters": [CLUSTER_HEADER],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": requests[name]}},
            },
            "responses": {"200": _response("Done.", answers[name]), **_refusals(codes)},
        }}
    for path, (summary, schema, codes) in _pages().items():
        for method in ("get", "head"):
            found = {"200": _response("Yes.", schema), **_refusals([*PAGE_CODES, *codes])}
            if method == "head":
                for response in found.values():
                    del response["content"]
            paths.setdefault(path, {})[method] = {
                "operationId": f"{method}_{path.strip('/').replace('.', '_')}",
                "summary": summary,
                "parameters": [CLUSTER_HEADER],
                "responses": found,
            }
    return paths


def _pages() -> dict[str, tuple[str, Schema, list[str]]]:
    text: Schema = {"type": "string"}
    node_id: Schema = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
    place = {"node_id": node_id, "peer": text, "http": text}
    leader: Schema = {"oneOf": [{"type": "null"}, _object(place)]}
    member = _object({**place, "role": {"type": "string", "enum": ["voter", "learner"]}})
    members: Schema = {"type": "array", "items": member}
    status = _object({
        "node_id": node_id,
        "cluster_id": node_id,
        "version": text,
        "role": {"type": "string", "enum": [
            "leader", "follower", "candidate", "learner", "unjoined",
        ]},
        "term": INDEX,
        "leader": leader,
        "commit_index": INDEX,
        "applied_index": INDEX,
        "keys": INDEX,
        "memory_bytes": INDEX,
        "members": members,
    })
    # Figures of single parts, for people; they come and go.
    status["additionalProperties"] = True
    return {
        "/status": ("What the node is and where it stands.", status, []),
        "/members": ("Who is in the cluster, as this node has applied it.",
                     _object({"members": members, "index": INDEX}), []),
        "/livez": ("Whether the process answers.", _object({"status": _const("alive")}), []),
        "/readyz": ("Whether the node should get traffic.", _object({"status": _const("ready")}),
                    ["not_ready"]),
        "/openapi.json": ("This description.", {"type": "object"}, []),
    }


def document() -> bytes:
    """The OpenAPI document as JSON text."""
    return orjson.dumps({
        "openapi": "3.1.0",
        "info": {
            "title": "Seafoam",
            "version": VERSION,
            "summary": "A JSON key-value store whose reads are as fast as the machine.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": _paths(),
    })
