"""What a request means: routes, methods, clusters, load, and the response an answer becomes."""

from __future__ import annotations

import json

import pytest

from seafoam import api
from seafoam._core.http import Hosts
from seafoam.api_answer import Answer
from seafoam.errors import Refusal
from seafoam.http_budget import Budget
from seafoam.http_service import Page, Service
from support import CLUSTER_ID, HeldNode


@pytest.fixture
def service():
    node = HeldNode()
    return Service(node, Hosts(), Budget(1000), lambda status: {**status, "more": 1}, b"{}")


def code_of(plan):
    assert isinstance(plan, Answer)
    return json.loads(plan.body)["error"]["code"]


def test_a_read_is_a_page_and_a_write_is_to_propose(service):
    assert isinstance(service.plan("POST", "/get", b'{"key":"a"}', None), Page)
    assert isinstance(service.plan("POST", "/scan", b"{}", CLUSTER_ID), Page)
    assert isinstance(service.plan("POST", "/delete", b'{"key":"a"}', None), api.Write)
    assert isinstance(service.plan("GET", "/status", b"", None), Page)
    assert isinstance(service.plan("HEAD", "/livez", b"", None), Page)


def test_what_is_refused_before_the_body_is_read_keeps_its_msg_id(service):
    body = b'{"key":"a","value":1,"msg_id":3}'
    for method, target, cluster in (
        ("POST", "/nowhere", None), ("PUT", "/set", None), ("POST", "/set", "other"),
    ):
        answer = service.plan(method, target, body, cluster)
        assert json.loads(answer.body)["in_reply_to"] == 3


def test_a_cluster_is_compared_before_anything_is_parsed(service):
    assert code_of(service.plan("POST", "/set", b"nonsense", "other")) == "wrong_cluster"
    assert code_of(service.plan("POST", "/set", b"nonsense", CLUSTER_ID)) == "bad_request"


def test_reads_are_refused_while_the_node_may_not_serve_them(service):
    service.node.refusal = Refusal("starting", "not yet")
    for name, body in (("get", b'{"key":"a","msg_id":1}'), ("scan", b'{"msg_id":1}'),
                       ("batch", b'{"ops":[{"op":"get","key":"a"}],"msg_id":1}')):
        plan = service.plan_call(name, body)
        answer = plan.perform()
        assert (answer.http_status, code_of(answer)) == (503, "starting")
        assert json.loads(answer.body)["in_reply_to"] == 1
    assert service.is_shut
    ready = service.plan("GET", "/readyz", b"", None).perform()
    assert (ready.http_status, code_of(ready)) == (503, "not_ready")
    assert service.plan("GET", "/livez", b"", None).perform().http_status == 200
    service.node.refusal = None
    assert not service.is_shut


def test_a_spent_budget_refuses_calls_and_not_pages(service):
    service.budget.charge(1001)
    assert service.is_shut
    assert code_of(service.plan_call("get", b'{"key":"a"}')) == "overloaded"
    assert isinstance(service.plan("GET", "/status", b"", None), Page)
    service.budget.charge(-1)
    assert not service.is_shut


def applied_of(plan):
    assert isinstance(plan, Answer)
    return json.loads(plan.body)["error"].get("applied")


READS = b'"ops":[{"op":"get","key":"a"},{"key":"b","op":"\\u0067et"}]'
WRITES = b'"ops":[{"op":"get","key":"a"},{"op":"delete","key":"b"}]'


@pytest.mark.parametrize(("body", "applied"), [
    (READS, None), (b'"ops":[]', None), (WRITES, "no"), (b'"ops":1', "no"), (b'"ops":[1]', "no"),
    (b"", "no"), (READS + b"," + READS, "no"), (b'"ops":[{"key":"a"}]', "no"),
    (b'"ops":[{"op":"get","op":"get","key":"a"}]', "no"), (b'"ops":[{"op":1}]', "no"),
    (b'"ops":[' + b"[" * 513 + b"]" * 513 + b"]", "no"), (b'"ops":[{"op":"get"', "no"),
])
def test_a_batch_that_is_refused_says_applied_unless_it_only_reads(service, body, applied):
    body = b"{" + body + (b',"no such field":1}' if body else b'"no such field":1}')
    assert applied_of(service.plan_call("batch", body)) == applied
    assert applied_of(service.plan("POST", "/batch", body, "other")) == applied
    service.budget.charge(1001)
    assert code_of(service.plan_call("batch", body)) == "overloaded"
    assert applied_of(service.plan_call("batch", body)) == applied


def test_a_batch_that_only_reads_is_refused_as_a_read(service):
    def code_and_applied(body):
        plan = service.plan_call("batch", b"{%b}" % body)
        plan = plan if isinstance(plan, Answer) else plan.perform()
        return code_of(plan), applied_of(plan)

    assert code_and_applied(b'%b,"timeout_ms":5' % READS) == ("bad_request", None)
    long = b"k" * 1025
    assert code_and_applied(READS.replace(b'"a"', b'"%b"' % long)) == ("too_large", None)
    assert code_and_applied(b'"ops":[%b{}]' % (b'{"op":"get","key":"a"},' * 10_000)) == (
        "bad_request", "no")
    many = b",".join([b'{"op":"get","key":"a"}'] * 10_001)
    assert code_and_applied(b'"ops":[%b]' % many) == ("bad_request", None)
    service.node.refusal = Refusal("starting", "not yet")
    assert code_and_applied(READS) == ("starting", None)


def test_the_servers_part_stands_in_status(service):
    answer = service.plan("GET", "/status", b"", None).perform()
    assert json.loads(answer.body)["more"] == 1


def test_503_asks_to_try_again_later_and_405_names_the_methods(service):
    [busy] = service.respond(api.error_answer(Refusal("no_leader", "none")))
    assert b"\r\nRetry-After: 1\r\n" in busy
    [wrong] = service.respond(service.plan("GET", "/set", b"", None), target="/set")
    assert b"\r\nAllow: POST\r\n" in wrong
    [wrong] = service.respond(service.plan("POST", "/status", b"{}", None), target="/status")
    assert b"\r\nAllow: GET, HEAD\r\n" in wrong
    assert b"Retry-After" not in wrong


def test_a_response_to_head_has_the_length_and_not_the_body(service):
    answer = Answer(200, b'{"a":1}')
    [head] = service.respond(answer, head_only=True)
    assert head.endswith(b"\r\n\r\n") and b"\r\nContent-Length: 7\r\n" in head
    assert service.respond(answer) == [head + answer.body]


def test_a_large_response_stays_in_pieces_and_has_the_length_of_all(service):
    answer = Answer(200, b"[1,", (b"2" * 100_000, b"]"))
    start, *rest = service.respond(answer)
    assert tuple(rest) == answer.rest
    assert start.endswith(b"\r\n\r\n[1,") and b"\r\nContent-Length: 100004\r\n" in start
    [head] = service.respond(answer, head_only=True)
    assert head + b"[1," == start


def test_a_long_path_is_not_repeated_whole(service):
    answer = service.plan("GET", "/" + "x" * 10_000, b"", None)
    assert len(answer.body) < 300
