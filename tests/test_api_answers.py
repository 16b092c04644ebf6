"""The API's headers and errors, and the refusal of what is not built, on a real node.

The node is a process of its own with its data on disk. Each test's name is the promise it holds
the node to.
"""

from __future__ import annotations

import re

import pytest

from api_support import VALID, error_of
from support import post, request

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
        # Without a body, a batch is taken for one that writes.
        is_write = name not in ("get", "keys", "scan")
        assert answer.json["error"].get("applied") == ("no" if is_write else None)
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


def test_an_absolute_target_is_answered_as_its_path(client, node, key):
    client.call("set", {"key": key, "value": 1})
    body = b'{"key":"%b"}' % key.encode()
    answer = client.ask("POST", f"http://{node.address}/get", body)
    assert (answer.status, answer.json["value"]) == (200, 1)
    assert client.ask("GET", "http://localhost/livez").status == 200
    for target, status, code in (
        ("http://elsewhere.example/get", 403, "forbidden"),
        ("http://localhost/nowhere", 404, "no_such_route"),
        ("http://localhost/get?x=1", 404, "no_such_route"),
        ("https://localhost/get", 404, "no_such_route"),
        ("http://localhost", 404, "no_such_route"),
    ):
        answer = client.ask("POST", target, body)
        assert (answer.status, answer.code) == (status, code), target
    assert client.ask("GET", "http://localhost/set").headers["allow"] == "POST"


# What is not built is refused


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/session"), ("POST", "/members/add"), ("GET", "/metrics"),
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
