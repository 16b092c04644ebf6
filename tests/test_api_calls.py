"""Each call of the API, row by row, on a real node.

The node is a process of its own with its data on disk. Each test's name is the promise it holds
the node to.
"""

from __future__ import annotations

import json
import re

import pytest

from api_support import error_of, scan_all, version_of
from seafoam._core import limits
from seafoam._core.map import MapWriter
from support import post, request

# Requests and answers


def test_requests_and_answers_are_json_and_utf_8(client, key):
    body = f'{{"key":{json.dumps(key)},"value":"größer ☃ \U0001f30a"}}'
    assert client.call("set", body.encode()).status == 200
    answer = client.call("get", {"key": key})
    assert '"größer ☃ \U0001f30a"'.encode() in answer.body


def test_answers_are_application_json(client):
    for data in (post("get", {"key": "a"}), post("get", b"x"), request("GET", "/status"),
                 request("GET", "/livez"), request("GET", "/readyz"), request("GET", "/nowhere"),
                 request("GET", "/openapi.json"), post("scan", {})):
        client.send(data)
        answer = client.receive()
        assert answer.headers["content-type"] == "application/json"
        json.loads(answer.body)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "?"])
def test_the_requests_content_type_is_ignored(client, key, content_type):
    answer = client.call("set", {"key": key, "value": 1}, content_type=content_type)
    assert answer.status == 200
    assert client.call("get", {"key": key}, content_type=content_type).json["value"] == 1


# POST /get


def test_get_answers_value_in_reply_to_and_version(client, key):
    index = client.call("set", {"key": key, "value": {"a": [1, None]}}).json["index"]
    answer = client.call("get", {"key": key, "msg_id": 0})
    assert answer.status == 200
    assert answer.body == b'{"value":{"a":[1,null]},"in_reply_to":0,"version":%d}' % index


def test_get_of_a_missing_key_is_404_key_not_found(client, key):
    answer = client.call("get", {"key": key, "msg_id": 3})
    assert (answer.status, answer.code) == (404, "key_not_found")
    assert set(answer.json) == {"error", "in_reply_to"}
    assert answer.json["in_reply_to"] == 3


def test_get_of_keys_answers_values_found_and_versions(client, key):
    index = client.call("set", {"key": key, "value": {"x": 1}}).json["index"]
    answer = client.call("get", {"keys": [key, key + "-"], "msg_id": 0})
    assert answer.status == 200
    assert answer.body == (
        b'{"values":[{"x":1},null],"found":[true,false],"versions":[%d,0],"in_reply_to":0}' % index
    )


def test_a_null_that_is_stored_is_told_from_one_that_is_not(client, key):
    client.call("set", {"key": key, "value": None})
    assert client.call("get", {"key": key}).json["value"] is None
    answer = client.call("get", {"keys": [key, key + "-"]}).json
    assert (answer["values"], answer["found"]) == ([None, None], [True, False])


def test_get_takes_1_to_10000_keys(client, key):
    most = limits.KEYS_PER_READ_MAX
    answer = client.call("get", {"keys": [f"{key}{at}" for at in range(most)]})
    assert (answer.status, len(answer.json["found"])) == (200, most)
    for keys in ([], [key] * (most + 1)):
        assert client.call("get", {"keys": keys}).code == "bad_request"


def test_duplicate_keys_are_answered_in_place_and_never_404(client, key):
    client.call("set", {"key": key, "value": 5})
    other = key + "-"
    assert client.call("get", {"keys": [other, key, other, key]}).json["values"] == [
        None, 5, None, 5]
    assert client.call("get", {"keys": [other]}).status == 200


# POST /set


def test_set_answers_in_reply_to_and_index(client, key):
    answer = client.call("set", {"key": key, "value": {"id": 0}, "msg_id": 7})
    assert answer.status == 200
    assert re.fullmatch(rb'\{"in_reply_to":7,"index":[0-9]+\}', answer.body)


def test_set_if_absent_is_409_key_exists_where_there_is_one(client, key):
    body = {"key": key, "value": 1, "if_absent": True, "msg_id": 1}
    assert client.call("set", body).status == 200
    answer = client.call("set", {**body, "value": 2})
    assert error_of(answer) == (409, "key_exists", "no")
    assert answer.json["in_reply_to"] == 1
    assert client.call("get", {"key": key}).json["value"] == 1


def test_set_if_absent_false_is_a_plain_set(client, key):
    for value in (1, 2):
        assert client.call("set", {"key": key, "value": value, "if_absent": False}).status == 200
    assert client.call("get", {"key": key}).json["value"] == 2


# POST /cas


def test_cas_answers_in_reply_to_new_value_and_index(client, key):
    client.call("set", {"key": key, "value": "bar"})
    body = {"key": key, "old_value": "bar", "new_value": {"n": 1}, "msg_id": 2}
    answer = client.call("cas", body)
    assert answer.status == 200
    assert re.fullmatch(rb'\{"in_reply_to":2,"new_value":\{"n":1\},"index":[0-9]+\}', answer.body)
    assert client.call("get", {"key": key}).json["value"] == {"n": 1}


def test_cas_by_old_version(client, key):
    index = client.call("set", {"key": key, "value": 1}).json["index"]
    body = {"key": key, "old_version": index, "new_value": 2}
    assert client.call("cas", body).status == 200
    assert client.call("cas", body).code == "cas_mismatch"
    assert client.call("get", {"key": key}).json["value"] == 2


def test_cas_takes_exactly_one_of_old_value_and_old_version(client, key):
    client.call("set", {"key": key, "value": 1})
    for old in ({}, {"old_value": 1, "old_version": 1}):
        answer = client.call("cas", {"key": key, "new_value": 2, **old})
        assert error_of(answer) == (400, "bad_request", "no")
        assert "old_value" in answer.json["error"]["message"]


def test_cas_of_a_missing_key_is_404_key_not_found(client, key):
    for old in ({"old_value": None}, {"old_version": 1}):
        answer = client.call("cas", {"key": key, "new_value": 2, **old})
        assert error_of(answer) == (404, "key_not_found", "no")


@pytest.mark.parametrize("old", [{"old_value": "other"}, {"old_version": 1}])
def test_cas_mismatch_carries_current_value_and_version(client, key, old):
    index = client.call("set", {"key": key, "value": ["now"]}).json["index"]
    answer = client.call("cas", {"key": key, "new_value": 2, "msg_id": 9, **old})
    assert error_of(answer) == (409, "cas_mismatch", "no")
    assert answer.json["error"]["current_value"] == ["now"]
    assert answer.json["error"]["current_version"] == index
    assert answer.json["in_reply_to"] == 9
    assert client.call("get", {"key": key}).json["version"] == index


@pytest.mark.parametrize(("stored", "old"), [
    ("1", "1.0"), ("100", "1e2"), ("0", "-0"), ("null", "null"), ('"\\u0041"', '"A"'),
    ('{"a":1,"b":2}', '{"b":2,"a":1.00}'), ("[1,2]", "[ 1 , 2 ]"),
    ('{"a":1,"a":2}', '{"a":2}'),
])
def test_cas_compares_as_json(client, key, stored, old):
    client.call("set", f'{{"key":{json.dumps(key)},"value":{stored}}}'.encode())
    body = f'{{"key":{json.dumps(key)},"old_value":{old},"new_value":0}}'
    assert client.call("cas", body.encode()).status == 200


@pytest.mark.parametrize(("stored", "old"), [
    ("1", "true"), ("1", '"1"'), ("null", "0"), ("[1,2]", "[2,1]"), ('{"a":1}', '{"a":1,"b":1}'),
    ("100000000000000000000000000001", "1e29"), ("1.0000000000000000000001", "1"),
])
def test_cas_tells_apart_what_is_different_json(client, key, stored, old):
    client.call("set", f'{{"key":{json.dumps(key)},"value":{stored}}}'.encode())
    body = f'{{"key":{json.dumps(key)},"old_value":{old},"new_value":0}}'
    assert client.call("cas", body.encode()).code == "cas_mismatch"


# POST /delete


def test_delete_answers_key_deleted_and_index(client, key):
    client.call("set", {"key": key, "value": 1})
    answer = client.call("delete", {"key": key, "msg_id": 0})
    assert answer.status == 200
    wanted = rb'\{"in_reply_to":0,"key":%b,"deleted":true,"index":[0-9]+\}'
    assert re.fullmatch(wanted % re.escape(json.dumps(key)).encode(), answer.body)
    assert client.call("get", {"key": key}).status == 404


@pytest.mark.parametrize("more", [{}, {"error_if_not_key": False}])
def test_delete_of_a_missing_key_says_so(client, key, more):
    answer = client.call("delete", {"key": key, **more})
    assert (answer.status, answer.json["deleted"]) == (200, False)
    assert answer.json["index"] > 0


def test_delete_of_a_missing_key_is_404_where_that_is_asked_for(client, key):
    answer = client.call("delete", {"key": key, "error_if_not_key": True, "msg_id": 1})
    assert error_of(answer) == (404, "key_not_found", "no")
    assert answer.json["in_reply_to"] == 1
    client.call("set", {"key": key, "value": 1})
    assert client.call("delete", {"key": key, "error_if_not_key": True}).json["deleted"] is True


# POST /batch


def test_batch_answers_results_in_reply_to_and_index(client, key):
    ops = [{"op": "get", "key": key}, {"op": "set", "key": key, "value": 1}]
    answer = client.call("batch", {"ops": ops, "msg_id": 5})
    assert answer.status == 200
    assert list(answer.json) == ["results", "in_reply_to", "index"]
    assert [result["status"] for result in answer.json["results"]] == [404, 200]


def test_operations_run_in_order_and_each_sees_those_before_it(client, key):
    ops = [
        {"op": "set", "key": key, "value": 1}, {"op": "get", "key": key},
        {"op": "cas", "key": key, "old_value": 1, "new_value": 2}, {"op": "get", "key": key},
        {"op": "delete", "key": key}, {"op": "get", "key": key},
        {"op": "set", "key": key, "value": 3, "if_absent": True},
    ]
    answer = client.call("batch", {"ops": ops})
    index = answer.json["index"]
    results = answer.json["results"]
    assert results[0] == {"index": index, "status": 200}
    assert results[1] == {"value": 1, "version": index, "status": 200}
    assert results[2] == {"new_value": 2, "index": index, "status": 200}
    assert results[3] == {"value": 2, "version": index, "status": 200}
    assert results[4] == {"key": key, "deleted": True, "index": index, "status": 200}
    assert results[5]["error"]["code"] == "key_not_found"
    assert results[6] == {"index": index, "status": 200}


def test_a_failed_operation_undoes_nothing(client, key):
    other = key + "-"
    client.call("set", {"key": key, "value": 0})
    index = version_of(client, key)
    ops = [
        {"op": "set", "key": other, "value": 1},
        {"op": "cas", "key": key, "old_value": 5, "new_value": 6},
        {"op": "set", "key": key, "value": 7, "if_absent": True},
        {"op": "delete", "key": key + "--", "error_if_not_key": True},
        {"op": "set", "key": other, "value": 2},
    ]
    results = client.call("batch", {"ops": ops}).json["results"]
    assert [result["status"] for result in results] == [200, 409, 409, 404, 200]
    assert results[1]["error"] == {
        "code": "cas_mismatch", "message": results[1]["error"]["message"], "applied": "no",
        "current_value": 0, "current_version": index,
    }
    assert [results[at]["error"]["code"] for at in (2, 3)] == ["key_exists", "key_not_found"]
    assert client.call("get", {"keys": [key, other]}).json["values"] == [0, 2]


def test_each_result_is_the_calls_own_body_with_status_and_without_in_reply_to(client, key):
    ops = [{"op": "set", "key": key, "value": 1}, {"op": "get", "key": key}]
    results = client.call("batch", {"ops": ops, "msg_id": 8}).json["results"]
    own = [client.call("set", {"key": key, "value": 1}), client.call("get", {"key": key})]
    for result, alone in zip(results, own, strict=True):
        assert set(result) == {*alone.json, "status"}
        assert result["status"] == alone.status


@pytest.mark.parametrize(("bad", "code"), [
    ({"op": "set", "key": "k"}, "bad_request"),
    ({"op": "set", "key": "", "value": 1}, "bad_request"),
    ({"op": "put", "key": "k", "value": 1}, "bad_request"),
    ({"op": 1, "key": "k"}, "bad_request"),
    ({"key": "k", "value": 1}, "bad_request"),
    ({"op": "get", "keys": ["k"]}, "bad_request"),
    ({"op": "get", "key": "k", "msg_id": 1}, "bad_request"),
    ({"op": "set", "key": "k", "value": 1, "timeout_ms": 5}, "bad_request"),
    ({"op": "delete", "key": "k", "error_if_not_key": None}, "bad_request"),
    ({"op": "batch", "ops": []}, "bad_request"),
    ([], "bad_request"),
    ({"op": "set", "key": "k" * 1025, "value": 1}, "too_large"),
    ({"op": "set", "key": "k", "value": "x" * (1 << 20)}, "too_large"),
])
def test_one_invalid_operation_refuses_the_batch_and_nothing_is_applied(client, key, bad, code):
    body = {"ops": [{"op": "set", "key": key, "value": 1}, bad], "msg_id": 4}
    answer = client.call("batch", body)
    assert error_of(answer) == (400 if code == "bad_request" else 413, code, "no")
    assert answer.json["error"]["message"].startswith("ops[1]: ")
    assert answer.json["in_reply_to"] == 4
    assert client.call("get", {"key": key}).status == 404


def test_a_batch_with_a_write_is_one_log_entry(client, key):
    before = client.call("set", {"key": key, "value": 0}).json["index"]
    ops = [{"op": "set", "key": f"{key}{at}", "value": at} for at in range(100)]
    answer = client.call("batch", {"ops": ops})
    assert answer.json["index"] == before + 1
    versions = client.call("get", {"keys": [op["key"] for op in ops]}).json["versions"]
    assert set(versions) == {before + 1}


def test_a_batch_without_a_write_has_no_index_and_makes_no_entry(client, key):
    index = client.call("set", {"key": key, "value": 1}).json["index"]
    ops = [{"op": "get", "key": key}, {"op": "get", "key": key + "-"}]
    answer = client.call("batch", {"ops": ops, "msg_id": 1})
    assert list(answer.json) == ["results", "in_reply_to"]
    assert answer.json["results"][0] == {"value": 1, "version": index, "status": 200}
    assert answer.json["results"][1]["error"]["code"] == "key_not_found"
    assert "applied" not in answer.json["results"][1]["error"]
    assert client.call("set", {"key": key, "value": 2}).json["index"] == index + 1


def test_a_batch_has_1_to_10000_operations(client, key):
    most = limits.OPS_PER_BATCH_MAX
    ops = [{"op": "set", "key": f"{key}{at % 10}", "value": at} for at in range(most)]
    answer = client.call("batch", {"ops": ops})
    assert (answer.status, len(answer.json["results"])) == (200, most)
    for count in (0, most + 1):
        answer = client.call("batch", {"ops": [{"op": "get", "key": key}] * count})
        assert (answer.status, answer.code) == (400, "bad_request")


def test_a_batch_takes_a_writes_fields_only_with_a_write(client, key):
    reads, writes = [{"op": "get", "key": key}], [{"op": "delete", "key": key}]
    assert client.call("batch", {"ops": writes, "timeout_ms": 100}).status == 200
    answer = client.call("batch", {"ops": reads, "timeout_ms": 100})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert "timeout_ms" in answer.json["error"]["message"]


# POST /scan


@pytest.fixture
def shelf(client):
    """200 keys under one prefix, and some that only look like it."""
    keys = [f"shelf/{at:03}" for at in range(200)]
    ops = [{"op": "set", "key": key, "value": {"n": key}} for key in [*keys, "shelf", "shel/"]]
    assert client.call("batch", {"ops": ops}).status == 200
    return keys


def test_scan_misses_no_key_that_stays(client, shelf):
    for limit in (1, 7, 199, 200, 10_000):
        keys, _, pages = scan_all(client, prefix="shelf/", limit=limit)
        assert sorted(keys) == shelf
        assert pages <= 200 // limit + 2


def test_next_is_absent_at_the_end(client, shelf):
    answer = client.call("scan", {"prefix": "shelf/", "limit": 10_000})
    assert list(answer.json) == ["keys"]
    assert "next" in client.call("scan", {"prefix": "shelf/", "limit": 10}).json
    assert client.call("scan", {"prefix": "no key begins so"}).json == {"keys": []}


def test_scan_gives_values_only_if_asked(client, shelf):
    keys, values, _ = scan_all(client, prefix="shelf/", limit=50, values=True)
    assert sorted(keys) == shelf
    assert values == [{"n": key} for key in keys]
    assert "values" not in client.call("scan", {"values": False, "limit": 1}).json


def test_all_fields_of_scan_are_optional(client, shelf):
    answer = client.call("scan", {})
    assert answer.status == 200
    assert len(answer.json["keys"]) <= limits.SCAN_LIMIT_DEFAULT
    same = {"prefix": "", "after": "", "limit": limits.SCAN_LIMIT_DEFAULT, "values": False}
    assert client.call("scan", same).body == answer.body
    assert client.call("scan", {"limit": 1, "msg_id": 4}).json["in_reply_to"] == 4


@pytest.mark.parametrize("after", [
    "x", "!", "0" * 16, "a.b.c", "é", ".", "A" * 22, "-_" * 20, "A" * 1387, "A" * 100_000,
])
def test_a_next_that_no_answer_gave_is_refused(client, after):
    answer = client.call("scan", {"after": after, "msg_id": 1})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert "after" in answer.json["error"]["message"]
    assert answer.json["in_reply_to"] == 1


def test_a_next_that_is_damaged_or_of_another_prefix_is_refused(client, shelf):
    after = client.call("scan", {"prefix": "shelf/", "limit": 10}).json["next"]
    assert client.call("scan", {"prefix": "shelf/", "after": after}).status == 200
    swapped = after[:9] + ("B" if after[9] == "A" else "A") + after[10:]
    for body in ({"prefix": "shelf/", "after": swapped}, {"prefix": "shelf/", "after": after[:-1]},
                 {"prefix": "shel", "after": after}, {"after": after}):
        answer = client.call("scan", body)
        assert (answer.status, answer.code) == (400, "bad_request")


def test_a_next_of_another_cluster_is_wrong_cluster(client):
    other = MapWriter(b"another cluster!", max_logical_bytes=1 << 20, start_id=1)
    for at in range(10):
        other.set(f"{at}", b"1", 1)
    answer = client.call("scan", {"after": other.reader().scan(limit=5)[2]})
    assert (answer.status, answer.code) == (409, "wrong_cluster")


@pytest.mark.parametrize("limit", [0, 10_001, -1, 1.5, "1", None])
def test_scan_takes_a_limit_of_1_to_10000(client, limit):
    answer = client.call("scan", {"limit": limit})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert "limit" in answer.json["error"]["message"]


# GET


def test_status_says_what_the_node_is(client, node, key):
    client.call("set", {"key": key, "value": 1})
    status = client.ask("GET", "/status").json
    assert re.fullmatch("[0-9a-f]{16}", status["node_id"])
    assert re.fullmatch("[0-9a-f]{16}", status["cluster_id"])
    assert status["role"] == "leader" and status["term"] >= 1
    assert status["leader"]["node_id"] == status["node_id"]
    assert status["leader"]["http"] == node.address
    assert status["applied_index"] <= status["commit_index"]
    assert status["keys"] >= 1 and status["memory_bytes"] > 0
    assert status["members"] == [{**status["leader"], "role": "voter"}]
    assert status["version"]


@pytest.mark.parametrize(("path", "body"), [
    ("/livez", {"status": "alive"}), ("/readyz", {"status": "ready"}),
])
def test_livez_and_readyz(client, path, body):
    answer = client.ask("GET", path)
    assert (answer.status, answer.json) == (200, body)


def test_openapi_json_is_served(client):
    answer = client.ask("GET", "/openapi.json")
    assert answer.status == 200
    assert answer.json["openapi"].startswith("3.1")


@pytest.mark.parametrize("path", ["/status", "/livez", "/readyz", "/openapi.json"])
def test_head_works_where_get_does(client, path):
    head, get = client.ask("HEAD", path), client.ask("GET", path)
    assert (head.status, head.body) == (200, b"")
    assert abs(int(head.headers["content-length"]) - len(get.body)) < 20
    assert set(head.headers) == set(get.headers)
