"""The API's limits, at each and one past it, on a real node.

The node is a process of its own with its data on disk. Each test's name is the promise it holds
the node to.
"""

from __future__ import annotations

import json

import pytest

from api_support import VALID, error_of, scan_all, version_of
from seafoam._core import limits
from support import request

# Limits, at and one past


def test_a_key_has_1_to_1024_bytes_of_utf_8_after_unescaping(client):
    for good in ("k" * 1024, "é" * 512, "\U0001f30a" * 256):
        assert client.call("set", {"key": good, "value": 1}).status == 200  # sent escaped
        raw = json.dumps({"key": good}, ensure_ascii=False).encode()
        assert client.call("get", raw).status == 200
        assert client.call("get", {"keys": [good]}).json["found"] == [True]
        assert client.call("delete", {"key": good}).json["deleted"] is True
    for bad in ("k" * 1025, "é" * 512 + "k", "\U0001f30a" * 257):
        for name, body in (
            ("set", {"key": bad, "value": 1}), ("get", {"key": bad}), ("get", {"keys": [bad]}),
            ("delete", {"key": bad}), ("cas", {"key": bad, "old_value": 1, "new_value": 1}),
            ("scan", {"prefix": bad}),
        ):
            answer = client.call(name, body)
            assert (answer.status, answer.code) == (413, "too_large"), name
    for name, body in (("set", {"key": "", "value": 1}), ("get", {"key": ""}),
                       ("get", {"keys": ["a", ""]}), ("delete", {"key": ""})):
        assert client.call(name, body).code == "bad_request"


def test_a_value_has_1_mib_after_compaction(client, key):
    most = limits.VALUE_BYTES_MAX
    body = '{"key":"%s","value": [ "%s" , 1 ] }'
    fits = body % (key, "x" * (most - 6))
    assert client.call("set", fits.encode()).status == 200
    assert len(client.call("get", {"key": key}).json["value"][0]) == most - 6
    answer = client.call("set", (body % (key, "x" * (most - 5))).encode())
    assert error_of(answer) == (413, "too_large", "no")
    one_past = "y" * (most - 1)
    for name, more in (
        ("set", {"value": one_past}), ("cas", {"old_value": 1, "new_value": one_past}),
        ("cas", {"old_value": one_past, "new_value": 1}),
    ):
        assert client.call(name, {"key": key, **more}).code == "too_large"
    cas = {"key": key, "old_version": version_of(client, key), "new_value": "y" * (most - 2)}
    assert client.call("cas", cas).status == 200


def test_a_value_nests_to_512(client, key):
    def nested(depth):
        return "[" * depth + "]" * depth

    for name, body in (
        ("set", '{"key":"%s","value":%s}'),
        ("cas", '{"key":"%s","new_value":1,"old_value":%s}'),
        ("batch", '{"ops":[{"op":"set","key":"%s","value":%s}]}'),
    ):
        assert client.call(name, (body % (key, nested(512))).encode()).status == 200
        answer = client.call(name, (body % (key, nested(513))).encode())
        assert error_of(answer) == (400, "bad_request", "no")


def test_a_body_has_8_mib_and_one_past_it_is_413_and_close(client, key):
    head = b'{"key":"%b","value":1' % key.encode()
    most = limits.BODY_BYTES_MAX
    body = head + b" " * (most - len(head) - 1) + b"}"
    assert len(body) == most
    assert client.call("set", body).status == 200
    answer = client.call("set", b" " + body)
    assert (answer.status, answer.code) == (413, "too_large")
    assert answer.headers["connection"] == "close"
    assert client.at_end()


def test_a_head_of_16_kib_is_read_and_one_past_it_is_431_and_close(client):
    bare = len(request("GET", "/livez", x_pad=""))
    most = limits.HEAD_BYTES_MAX
    assert client.ask("GET", "/livez", x_pad="x" * (most - bare)).status == 200
    client.send(request("GET", "/livez", x_pad="x" * (most - bare + 1)))
    answer = client.receive()
    assert (answer.status, answer.code) == (431, "headers_too_large")
    assert answer.headers["connection"] == "close"
    assert client.at_end()


@pytest.fixture
def big(client, key):
    """A key whose value takes 1 MiB."""
    client.call("set", {"key": key, "value": "x" * (limits.VALUE_BYTES_MAX - 2)})
    return key


def test_an_answer_past_64_mib_is_413_for_get(client, big):
    assert client.call("get", {"keys": [big] * 63, "msg_id": 1}).status == 200
    answer = client.call("get", {"keys": [big] * 64, "msg_id": 1})
    assert (answer.status, answer.code, answer.json["in_reply_to"]) == (413, "too_large", 1)
    # Through the careful half as well.
    assert client.call("get", {"keys": [big] * 64}, x_unknown="1").body == client.call(
        "get", {"keys": [big] * 64}).body


def test_an_answer_of_exactly_64_mib_is_given(client, big, key):
    small = key + "-"
    frame = len(client.call("get", {"keys": [big] * 63 + [small]}).body) - 4  # without the null
    room = limits.ANSWER_BYTES_MAX - frame
    for text_bytes, status in ((room, 200), (room + 1, 413)):
        client.call("set", {"key": small, "value": "y" * (text_bytes - 2)})
        index = version_of(client, small)
        # "true" for "false", and a version of several digits for 0.
        trim = len(str(index)) - 1 - 1
        client.call("set", {"key": small, "value": "y" * (text_bytes - 2 - trim)})
        assert len(str(version_of(client, small))) == len(str(index))
        for headers in ({}, {"x_unknown": "1"}):
            answer = client.call("get", {"keys": [big] * 63 + [small]}, **headers)
            assert answer.status == status
            assert status == 413 or len(answer.body) == limits.ANSWER_BYTES_MAX


@pytest.mark.parametrize("with_write", [False, True])
def test_in_a_batch_that_operations_result_is_413_and_the_rest_stands(
    client, key, big, with_write
):
    small = key + "-"
    client.call("set", {"key": small, "value": 1})
    client.call("set", {"key": big, "value": "x" * (limits.VALUE_BYTES_MAX - 2000)})
    ops = [{"op": "get", "key": big}] * 66 + [{"op": "get", "key": small}]
    if with_write:
        ops.append({"op": "set", "key": small, "value": 2})
    answer = client.call("batch", {"ops": ops})
    assert answer.status == 200
    assert len(answer.body) <= limits.ANSWER_BYTES_MAX
    statuses = [result["status"] for result in answer.json["results"]]
    assert statuses[:67] == [200] * 64 + [413] * 2 + [200]
    assert answer.json["results"][65]["error"]["code"] == "too_large"
    assert client.call("get", {"key": small}).json["value"] == (2 if with_write else 1)


@pytest.mark.parametrize("with_write", [False, True])
def test_in_a_batch_the_values_have_64_mib_less_192_bytes_an_operation(
    client, key, big, with_write
):
    last, small = key + "+", key + "-"
    client.call("set", {"key": small, "value": 1})
    ops = [{"op": "get", "key": big}] * 64 + [{"op": "get", "key": last},
                                              {"op": "get", "key": small}]
    if with_write:
        ops.append({"op": "set", "key": small + "-", "value": 2})
    room = limits.ANSWER_BYTES_MAX - limits.RESULT_FRAME_BYTES * len(ops)
    left = room - 63 * limits.VALUE_BYTES_MAX
    for text_bytes, statuses in ((left - 1, [200, 200]), (left, [200, 413]),
                                 (left + 1, [413, 200])):
        client.call("set", {"key": last, "value": "y" * (text_bytes - 2)})
        answer = client.call("batch", {"ops": ops})
        assert answer.status == 200 and len(answer.body) <= limits.ANSWER_BYTES_MAX
        got = [result["status"] for result in answer.json["results"]]
        assert got[:66] == [200] * 63 + [413] + statuses


def test_in_a_batch_what_it_repeats_of_its_request_comes_before_values(client, key, big):
    text = "x" * (limits.VALUE_BYTES_MAX - 2)
    client.call("set", {"key": key + "+", "value": 0})
    ops = [{"op": "get", "key": big}] * 63
    ops += [{"op": "cas", "key": key + "+", "old_value": 0, "new_value": text}]
    ops += [{"op": "cas", "key": key + "+", "old_value": text, "new_value": text}] * 3
    answer = client.call("batch", {"ops": ops})
    assert answer.status == 200 and len(answer.body) <= limits.ANSWER_BYTES_MAX
    results = answer.json["results"]
    assert [result["status"] for result in results] == [200] * 59 + [413] * 4 + [200] * 4
    assert all(result["new_value"] == text for result in results[63:])


def test_scan_ends_its_page_early_where_the_answer_would_pass_64_mib(client, key):
    text = "x" * (limits.VALUE_BYTES_MAX - 2)
    for first in range(0, 70, 7):
        ops = [{"op": "set", "key": f"{key}/{at}", "value": text}
               for at in range(first, first + 7)]
        assert client.call("batch", {"ops": ops}).status == 200
    answer = client.call("scan", {"prefix": f"{key}/", "values": True})
    assert answer.status == 200 and len(answer.body) <= limits.ANSWER_BYTES_MAX
    assert "next" in answer.json and len(answer.json["keys"]) >= 16
    keys, values, _ = scan_all(client, prefix=f"{key}/", values=True)
    assert sorted(keys) == sorted(f"{key}/{at}" for at in range(70))
    assert all(len(value) == len(text) for value in values)
    ops = [{"op": "delete", "key": key} for key in keys]
    assert client.call("batch", {"ops": ops}).status == 200


@pytest.mark.parametrize("timeout_ms", [0, 60_001, -5, 1.5, "100", None, True])
def test_timeout_ms_is_1_to_60000(client, key, timeout_ms):
    for name in ("set", "cas", "delete", "batch"):
        answer = client.call(name, {**VALID[name], "timeout_ms": timeout_ms})
        assert error_of(answer) == (400, "bad_request", "no")
        assert "timeout_ms" in answer.json["error"]["message"]
    for good in (1000, 60_000):
        body = {"key": key, "value": 1, "timeout_ms": good}
        assert client.call("set", body).status == 200
