"""The API's rules for bodies: msg_id, fields, values, on a real node.

The node is a process of its own with its data on disk. Each test's name is the promise it holds
the node to.
"""

from __future__ import annotations

import json

import pytest

from api_support import VALID, error_of

UINT64_MAX = (1 << 64) - 1


# msg_id


@pytest.mark.parametrize("msg_id", [0, 1, 42, 1 << 63, UINT64_MAX])
def test_msg_id_comes_back_as_in_reply_to(client, key, msg_id):
    for name, body in (
        ("set", {"key": key, "value": 1}), ("get", {"key": key}), ("get", {"keys": [key]}),
        ("cas", {"key": key, "old_value": 1, "new_value": 1}), ("scan", {"limit": 1}),
        ("batch", {"ops": [{"op": "get", "key": key}]}), ("delete", {"key": key}),
        ("get", {"key": key}), ("get", {"key": 1}), ("set", {"key": key}),
        ("nowhere", {}), ("status", {}),
    ):
        answer = client.call(name, {**body, "msg_id": msg_id})
        assert answer.json["in_reply_to"] == msg_id, (name, answer.body)
    wrong = client.call("get", {"key": key, "msg_id": msg_id}, seafoam_cluster="f" * 16)
    assert (wrong.code, wrong.json["in_reply_to"]) == ("wrong_cluster", msg_id)


def test_in_reply_to_is_absent_where_msg_id_was(client, key):
    for name, body in (("set", {"key": key, "value": 1}), ("get", {"key": key}), ("get", {})):
        assert "in_reply_to" not in client.call(name, body).json


def test_in_reply_to_is_absent_where_the_body_did_not_parse(client):
    for body in (b'{"msg_id":1', b'[{"msg_id":1}]', b'{"key":"a","msg_id":1}}', b'"msg_id"'):
        answer = client.call("get", body)
        assert (answer.status, list(answer.json)) == (400, ["error"])


@pytest.mark.parametrize("text", [
    "-1", "-0", "1.0", "1e3", "18446744073709551616", '"1"', "null", "true", "[]", "0.5",
])
def test_msg_id_is_an_integer_literal_from_0_to_2_to_the_64_less_1(client, key, text):
    for name, more in (("get", ""), ("set", ',"value":1')):
        body = f'{{"key":{json.dumps(key)},"msg_id":{text}{more}}}'
        answer = client.call(name, body.encode())
        assert (answer.status, answer.code) == (400, "bad_request")
        assert "msg_id" in answer.json["error"]["message"]
        assert "in_reply_to" not in answer.json
    assert client.call("get", {"key": key}).status == 404


# Fields

OPTIONAL = [
    ("get", "msg_id"), ("set", "if_absent"), ("set", "msg_id"), ("set", "timeout_ms"),
    ("cas", "old_version"), ("cas", "timeout_ms"), ("delete", "error_if_not_key"),
    ("delete", "timeout_ms"), ("batch", "timeout_ms"), ("batch", "msg_id"), ("scan", "prefix"),
    ("scan", "after"), ("scan", "limit"), ("scan", "values"), ("scan", "msg_id"),
]


@pytest.mark.parametrize(("name", "field"), [
    *[(name, field) for name in VALID for field in ("unknown", "Key", "value ", "")],
    ("get", "value"), ("set", "old_value"), ("delete", "value"), ("cas", "value"),
    ("cas", "if_absent"), ("scan", "key"), ("batch", "key"), ("set", "error_if_not_key"),
])
def test_an_unknown_field_is_400_and_named(client, name, field):
    answer = client.call(name, {**VALID[name], field: 1})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert json.dumps(field) in answer.json["error"]["message"]


@pytest.mark.parametrize("name", VALID)
def test_a_duplicate_field_is_400_and_named(client, name):
    field = next(iter(VALID[name]), "limit")
    inner = json.dumps({"limit": 1, **VALID[name]} if name == "scan" else VALID[name])[1:-1]
    again = json.dumps(VALID[name].get(field, 1))
    escaped = f"\\u{ord(field[0]):04x}{field[1:]}"
    for twice in (field, escaped):
        answer = client.call(name, f'{{{inner},"{twice}":{again}}}'.encode())
        assert (answer.status, answer.code) == (400, "bad_request")
        assert field in answer.json["error"]["message"]
        assert "twice" in answer.json["error"]["message"]


def test_a_duplicate_msg_id_is_400(client, key):
    answer = client.call("get", b'{"key":"k","msg_id":1,"msg_id":1}')
    assert (answer.status, answer.code) == (400, "bad_request")
    assert "in_reply_to" not in answer.json


@pytest.mark.parametrize(("name", "field"), OPTIONAL)
def test_null_for_an_optional_field_is_400(client, name, field):
    answer = client.call(name, {**VALID[name], field: None})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert field in answer.json["error"]["message"]


@pytest.mark.parametrize(("name", "field"), [
    ("set", "key"), ("set", "value"), ("cas", "key"), ("cas", "new_value"), ("cas", "old_value"),
    ("delete", "key"), ("batch", "ops"), ("get", "key"),
])
def test_a_missing_field_is_400_and_named(client, name, field):
    body = {other: value for other, value in VALID[name].items() if other != field}
    answer = client.call(name, body)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert field in answer.json["error"]["message"]


def test_a_get_takes_key_or_keys_and_not_both(client):
    for body in ({}, {"key": "a", "keys": ["b"]}):
        assert client.call("get", body).code == "bad_request"


@pytest.mark.parametrize(("name", "field", "wrong"), [
    (name, field, wrong)
    for name, field, right in [
        ("get", "key", str), ("get", "keys", list), ("set", "key", str),
        ("set", "if_absent", bool),
        ("cas", "old_version", int), ("delete", "error_if_not_key", bool), ("batch", "ops", list),
        ("scan", "prefix", str), ("scan", "after", str), ("scan", "limit", int),
        ("scan", "values", bool), ("set", "timeout_ms", int),
    ]
    for wrong in (None, True, 1, 1.5, "1", [1], {"a": 1})
    if type(wrong) is not right or wrong == [1]
])
def test_a_wrong_type_is_400_and_named(client, name, field, wrong):
    body = {**VALID[name], field: wrong}
    if field in ("keys", "old_version"):
        body.pop("key" if field == "keys" else "old_value")
    answer = client.call(name, body)
    assert (answer.status, answer.code) == (400, "bad_request")
    assert field in answer.json["error"]["message"]


@pytest.mark.parametrize("value", ["null", "true", "0", '""', "[]", "{}", '"' + "é" * 1000 + '"'])
def test_a_value_is_any_json_value_null_included(client, key, value):
    body = f'{{"key":{json.dumps(key)},"value":{value}}}'
    assert client.call("set", body.encode()).status == 200
    answer = client.call("get", {"key": key})
    assert answer.body.startswith(b'{"value":%b,' % value.encode())


# Values


def test_a_value_is_given_back_as_the_text_that_was_sent(client, key):
    text = '{"b":1.10,"a":1e400,"b":123456789012345678901234567890,"s":"\\u0041\\/","n":-0}'
    spaced = text.replace(",", " ,\n ").replace(":", " :\t")
    client.call("set", f'{{"key":{json.dumps(key)},"value": {spaced} }}'.encode())
    assert client.call("get", {"key": key}).body.startswith(b'{"value":%b,' % text.encode())


@pytest.mark.parametrize("text", [
    "{'a':1}", "NaN", "Infinity", "01", "1.", ".5", "+1", "[1,]", '{"a":1,}', "[1", '"\\ud800"',
    '"\\x"', '"\t"', "tru", "1 2", "/**/1", "1e1000001", "", '"\x00"',
])
def test_malformed_json_is_400(client, key, text):
    for name, before in (("set", ""), ("cas", '"old_value":1,')):
        field = "value" if name == "set" else "new_value"
        body = f'{{"key":{json.dumps(key)},{before}"{field}":{text}}}'
        assert error_of(client.call(name, body.encode())) == (400, "bad_request", "no")
    assert client.call("get", {"key": key}).status == 404


@pytest.mark.parametrize("raw", [
    b"\xff", b"\xc3", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
])
def test_malformed_utf_8_is_400(client, raw):
    for name, body in (
        ("set", b'{"key":"k","value":"%b"}'), ("set", b'{"key":"%b","value":1}'),
        ("get", b'{"key":"%b"}'), ("get", b'{"keys":["%b"]}'), ("scan", b'{"prefix":"%b"}'),
    ):
        assert client.call(name, body % raw).code == "bad_request"
    assert client.call("set", b'\xef\xbb\xbf{"key":"k","value":1}').code == "bad_request"
