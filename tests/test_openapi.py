"""`/openapi.json` and the node agree: nothing is described that is not so, nothing is left out.

schemathesis asks a real node what the description allows and what it does not, and compares every
answer with it. The rest is what it cannot know: that the limits are the limits and the errors are
all there.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from seafoam import api
from seafoam._core import limits
from seafoam.errors import CODES
from seafoam.openapi import CURSOR, document

SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
DESCRIPTION = json.loads(document())
PAGES = ("/status", "/members", "/livez", "/readyz", "/openapi.json")


schema = schemathesis.openapi.from_dict(DESCRIPTION)
# Asked to wait one millisecond, a node may well say that it was not enough.
schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "4xx", "504"]
# A key's limit is in bytes: more than a schema can say, and refused by a status of its own.
schema.config.checks.positive_data_acceptance.expected_statuses = [
    "2xx", "404", "409", "413", "504"]
schema.config.checks.negative_data_rejection.expected_statuses = [
    "400", "404", "405", "409", "413"]


@schema.parametrize()
@settings(
    max_examples=500 if SOAK else 20, deadline=None, derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_as_described(case, node):
    case.body = without_invented_cursor(with_integers(case.body))
    case.call_and_validate(base_url=f"http://{node.address}")


def test_what_is_served_is_what_is_described(node):
    with urllib.request.urlopen(f"http://{node.address}/openapi.json") as answer:
        assert answer.read() == document()


def with_integers(value):
    """JSON Schema calls 1.0 an integer; the API takes integer literals only (see docs/api.md)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: with_integers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [with_integers(part) for part in value]
    return value


def without_invented_cursor(body):
    """A schema says what a cursor looks like; only a node can make one."""
    if isinstance(body, dict) and re.fullmatch(CURSOR["pattern"], str(body.get("after", ""))):
        return {name: part for name, part in body.items() if name != "after"}
    return body


def test_every_route_is_described_and_no_other():
    assert set(DESCRIPTION["paths"]) == {f"/{name}" for name in api.CALLS} | set(PAGES)
    for path, methods in DESCRIPTION["paths"].items():
        assert set(methods) == ({"get", "head"} if path in PAGES else {"post"})


def codes_of(path, method):
    for status, response in DESCRIPTION["paths"][path][method]["responses"].items():
        if status != "200" and "content" in response:
            schema = response["content"]["application/json"]["schema"]
            for code in schema["properties"]["error"]["properties"]["code"]["enum"]:
                assert str(CODES[code].http_status) == status
                yield code


def test_every_error_is_described_somewhere_with_its_status():
    told = {code for path, methods in DESCRIPTION["paths"].items()
            for method in methods for code in codes_of(path, method)}
    # These two are answers to what no path describes.
    assert told == set(CODES) - {"no_such_route", "method_not_allowed"}


@pytest.mark.parametrize("name", api.CALLS)
def test_every_call_can_be_refused_by_what_stands_before_it(name):
    told = set(codes_of(f"/{name}", "post"))
    assert told >= {"bad_request", "forbidden", "wrong_cluster", "too_large", "overloaded",
                    "request_timeout", "headers_too_large", "shutting_down"}
    assert ("timeout" in told) == (name in api.WRITES)
    assert ("starting" in told) == (name in ("get", "scan", "batch"))


def body_of(name):
    return DESCRIPTION["paths"][f"/{name}"]["post"]["requestBody"]["content"][
        "application/json"]["schema"]


def test_limits_are_the_limits():
    many = body_of("get")["oneOf"][1]["properties"]["keys"]
    assert (many["minItems"], many["maxItems"]) == (1, limits.KEYS_PER_READ_MAX)
    for variant in body_of("batch")["oneOf"]:
        ops = variant["properties"]["ops"]
        assert (ops["minItems"], ops["maxItems"]) == (1, limits.OPS_PER_BATCH_MAX)
    properties = body_of("set")["properties"]
    assert properties["key"]["x-max-bytes"] == limits.KEY_BYTES_MAX
    assert properties["value"]["x-max-bytes"] == limits.VALUE_BYTES_MAX
    assert properties["msg_id"]["maximum"] == (1 << 64) - 1
    timeout = properties["timeout_ms"]
    assert (timeout["minimum"], timeout["maximum"], timeout["default"]) == (
        limits.TIMEOUT_MS_MIN, limits.TIMEOUT_MS_MAX, limits.TIMEOUT_MS_DEFAULT)
    limit = body_of("scan")["properties"]["limit"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (
        1, limits.SCAN_LIMIT_MAX, limits.SCAN_LIMIT_DEFAULT)


@pytest.mark.parametrize("name", api.CALLS)
def test_every_field_the_api_takes_is_described(name):
    """The fields an unknown one's refusal lists are the ones the description has."""
    with pytest.raises(api.CallRefused) as refused:
        api.parse(name, b'{"no such field":1}')
    message = json.loads(refused.value.answer.body)["error"]["message"]
    listed = set(message.partition("it takes ")[2].split(", "))
    variants = body_of(name).get("oneOf", [body_of(name)])
    assert listed == {field for variant in variants for field in variant["properties"]}
