"""A node in no cluster: every call gets its answer at once, and none of them does anything."""

from __future__ import annotations

from seafoam._core.http import Hosts
from seafoam._core.wire import Operation, encode_command
from seafoam.http_budget import Budget
from seafoam.http_service import Page, Service
from seafoam.unjoined import UnjoinedNode


def unjoined(waiting_for="waiting for 127.0.0.1:5010 (does not answer)"):
    return UnjoinedNode(0xA1, 7, "127.0.0.1:3000", "127.0.0.1:3010", lambda: waiting_for)


def test_a_write_is_refused_at_once_and_was_certainly_not_applied():
    said = []
    unjoined().submit(encode_command([Operation.set(b"k", b"1")]), 60_000, said.append)
    (refusal,) = said
    assert (refusal.code, refusal.applied) == ("no_leader", "no")
    assert "waiting for 127.0.0.1:5010" in refusal.message


def test_reads_are_refused_with_what_it_waits_for():
    assert unjoined().refuse_reads().message == (
        "the node is in no cluster yet: waiting for 127.0.0.1:5010 (does not answer)")
    assert unjoined("").refuse_reads().message == "the node is in no cluster yet"
    assert unjoined().readiness().code == "not_ready"


def test_what_it_says_over_http():
    node = unjoined()
    service = Service(node, Hosts(), Budget(1000), lambda status: status, b"{}")
    assert service.is_shut
    for name, body in (("get", b'{"key":"k"}'), ("get", b'{"keys":["k"]}'),
                       ("scan", b"{}")):
        plan = service.plan("POST", f"/{name}", body, None)
        answer = plan.perform() if isinstance(plan, Page) else plan
        assert answer.http_status == 503
    status = service.plan("GET", "/status", b"", None).perform()
    assert b'"role":"unjoined"' in status.body and b'"leader":null' in status.body
    assert service.plan("GET", "/members", b"", None).perform().body == (
        b'{"members":[],"index":0}')
    assert service.plan("GET", "/readyz", b"", None).perform().http_status == 503
    assert service.plan("GET", "/livez", b"", None).perform().http_status == 200
    node.close()
