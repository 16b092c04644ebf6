"""The API as its page promises it: a test for each row and each sentence, on a real node.

The node is a process of its own with its data on disk. Each test's first line is the promise it
holds the node to. What is not built is refused; those tests are at the end.
"""

from __future__ import annotations

import json
import re

import pytest

from processes import NodeProcess
from seafoam._core import limits
from support import Client, post, request

UINT64_MAX = (1 << 64) - 1


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    with NodeProcess(tmp_path_factory.mktemp("node") / "data") as node:
        yield node


@pytest.fixture
def client(node):
    host, _, port = node.address.rpartition(":")
    with Client((host, int(port))) as client:
        yield client


@pytest.fixture
def key(request):
    """A key of the test's own."""
    return request.node.name


def version_of(client, key):
    return client.call("get", {"key": key}).json["version"]


def error_of(answer):
    return answer.status, answer.code, answer.json["error"].get("applied")


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


@pytest.fixture(scope="module")
def shelf(node):
    """200 keys under one prefix, and some that only look like it."""
    host, _, port = node.address.rpartition(":")
    with Client((host, int(port))) as client:
        keys = [f"shelf/{at:03}" for at in range(200)]
        ops = [{"op": "set", "key": key, "value": {"n": key}} for key in [*keys, "shelf", "shel/"]]
        assert client.call("batch", {"ops": ops}).status == 200
    return keys


def scan_all(client, **body):
    keys, values, after, pages = [], [], "", 0
    while True:
        answer = client.call("scan", {**body, "after": after})
        assert answer.status == 200, answer.body
        keys += answer.json["keys"]
        values += answer.json.get("values", [])
        pages += 1
        if "next" not in answer.json:
            return keys, values, pages
        after = answer.json["next"]


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


@pytest.mark.parametrize(("after", "code"), [
    *[(after, "bad_request") for after in ("x", "!", "0" * 16, "a.b.c", "é", ".", "F" * 16 + ".",
                                           "f" * 16 + ".%%", "0" * 16 + "." + "A" * 1367)],
    *[("0" * 16 + "." + key, "wrong_cluster") for key in ("A", "YQ", "-_-_", "A" * 1366)],
])
def test_a_next_that_no_answer_gave_is_refused(client, after, code):
    answer = client.call("scan", {"after": after, "msg_id": 1})
    assert (answer.status, answer.code) == (400 if code == "bad_request" else 409, code)
    assert answer.json["in_reply_to"] == 1


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

VALID = {
    "get": {"key": "k"},
    "set": {"key": "k", "value": 1},
    "cas": {"key": "k", "old_value": 1, "new_value": 2},
    "delete": {"key": "k"},
    "batch": {"ops": [{"op": "set", "key": "k", "value": 1}]},
    "scan": {},
}
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
    ops = [{"op": "get", "key": big}] * 65 + [{"op": "get", "key": small}]
    if with_write:
        ops.append({"op": "set", "key": small, "value": 2})
    answer = client.call("batch", {"ops": ops})
    assert answer.status == 200
    assert len(answer.body) <= limits.ANSWER_BYTES_MAX
    statuses = [result["status"] for result in answer.json["results"]]
    assert statuses[:66] == [200] * 63 + [413] * 2 + [200]
    assert answer.json["results"][64]["error"]["code"] == "too_large"
    assert client.call("get", {"key": small}).json["value"] == (2 if with_write else 1)


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


# Headers


def test_seafoam_index_is_on_every_answer_and_never_falls(client, key):
    highest = 0
    for data in (
        post("set", {"key": key, "value": 1}), post("get", {"key": key}), post("get", b"nonsense"),
        post("get", {"key": key}, x_unknown="1"), request("GET", "/status"),
        request("GET", "/nowhere"), request("GET", "/set"), post("scan", {}),
        post("delete", {"key": key}), post("get", {"key": key}),
        post("get", {"key": key}, seafoam_cluster="x"), request("GET", "/livez"),
    ):
        client.send(data)
        index = client.receive().index
        assert index >= highest
        highest = index


def test_a_writes_seafoam_index_is_at_least_its_own(client, key):
    for name, body in (
        ("set", {"key": key, "value": 1}), ("delete", {"key": key}),
        ("batch", {"ops": [{"op": "set", "key": key, "value": 2}]}),
        ("cas", {"key": key, "old_value": 2, "new_value": 3}),
    ):
        answer = client.call(name, body)
        assert answer.index >= answer.json["index"]


def test_a_read_shows_no_version_above_its_seafoam_index(client, key):
    client.call("set", {"key": key, "value": 1})
    for body in ({"key": key}, {"keys": [key]}):
        answer = client.call("get", body)
        versions = answer.json.get("versions", [answer.json.get("version")])
        assert answer.index >= max(versions)


def test_seafoam_cluster_is_the_clusters_id(client):
    answer = client.ask("GET", "/status")
    assert answer.headers["seafoam-cluster"] == answer.json["cluster_id"]


def test_a_request_may_name_its_cluster(client, key):
    own = client.ask("GET", "/livez").headers["seafoam-cluster"]
    assert client.call("set", {"key": key, "value": 1}, seafoam_cluster=own).status == 200
    assert client.call("get", {"key": key}, seafoam_cluster=own).json["value"] == 1


@pytest.mark.parametrize("other", ["0" * 16, "f" * 16, "nonsense", ""])
def test_another_cluster_is_409_wrong_cluster_and_nothing_is_executed(client, key, other):
    answer = client.call("set", {"key": key, "value": 1}, seafoam_cluster=other)
    assert error_of(answer) == (409, "wrong_cluster", "no")
    assert client.call("get", {"key": key}).status == 404
    for data in (post("get", {"key": key}, seafoam_cluster=other),
                 request("GET", "/status", seafoam_cluster=other)):
        client.send(data)
        answer = client.receive()
        assert (answer.code, "applied" in answer.json["error"]) == ("wrong_cluster", False)


def test_date_is_on_every_answer(client):
    pattern = r"\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT"
    assert re.fullmatch(pattern, client.ask("GET", "/livez").headers["date"])


# Errors


def test_an_error_has_code_message_and_applied_on_calls_with_a_write_alone(client, key):
    read, write = client.call("get", {"key": 1}), client.call("set", {"key": 1})
    assert set(read.json["error"]) == {"code", "message"}
    assert set(write.json["error"]) == {"code", "message", "applied"}
    assert write.json["error"]["applied"] == "no"


@pytest.mark.parametrize("path", [
    "/", "/nowhere", "/get/", "/Get", "/get?x=1", "/status?", "//get", "/get%20", "/%67et", "*",
    "/livez/x", "/get#x",
])
def test_an_unknown_path_or_a_query_string_is_404_no_such_route(client, path):
    for method in ("GET", "POST"):
        answer = client.ask(method, path, b"{}" if method == "POST" else b"")
        assert (answer.status, answer.code) == (404, "no_such_route"), (method, path)


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_another_method_is_405_with_allow(client, name, method):
    answer = client.ask(method, f"/{name}")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert answer.code == "method_not_allowed"
    assert client.ask("GET", "/livez").status == 200


@pytest.mark.parametrize("path", ["/status", "/livez", "/readyz", "/openapi.json"])
def test_post_where_get_belongs_is_405_with_allow(client, path):
    answer = client.ask("POST", path, b"{}")
    assert (answer.status, answer.code, answer.headers["allow"]) == (
        405, "method_not_allowed", "GET, HEAD")


def test_a_request_from_another_sites_page_is_403_forbidden(client, key):
    for headers in ({"origin": "http://elsewhere.example"}, {"origin": "null"},
                    {"host": "elsewhere.example"}, {"host": "localhost.elsewhere.example"}):
        client.send(post("set", {"key": key, "value": 1}, **headers))
        answer = client.receive()
        assert (answer.status, answer.code) == (403, "forbidden")
        assert not any(name.startswith("access-control") for name in answer.headers)
    assert client.call("get", {"key": key}).status == 404


def test_a_request_from_its_own_page_is_answered(client, key):
    for host in ("localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:3000"):
        for origin in ({}, {"origin": f"http://{host}"}, {"origin": f"https://{host}"}):
            client.send(post("get", {"key": key}, host=host, **origin))
            assert client.receive().status == 404


# What is not built is refused


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/session"), ("GET", "/members"), ("POST", "/members/add"), ("GET", "/metrics"),
    ("POST", "/members/remove"), ("POST", "/members/promote"), ("POST", "/members/transfer"),
    ("POST", "/members/target"), ("GET", "/"),
])
def test_a_route_that_is_not_built_is_no_such_route(client, method, path):
    answer = client.ask(method, path, b'{"msg_id":0}' if method == "POST" else b"")
    assert (answer.status, answer.code) == (404, "no_such_route")


@pytest.mark.parametrize("name", VALID)
@pytest.mark.parametrize(("field", "value"), [
    ("client_id", "c"), ("consistency", "local"), ("consistency", "linearizable"),
    ("max_staleness_ms", 100), ("min_index", 0),
])
def test_a_field_that_is_not_built_is_an_unknown_one(client, name, field, value):
    answer = client.call(name, {**VALID[name], field: value, "msg_id": 1})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert field in answer.json["error"]["message"]


@pytest.mark.parametrize("name", ["get", "scan"])
def test_reads_take_no_timeout_ms(client, name):
    answer = client.call(name, {**VALID[name], "timeout_ms": 100})
    assert (answer.status, answer.code) == (400, "bad_request")
    assert "timeout_ms" in answer.json["error"]["message"]
