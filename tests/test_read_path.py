"""The short way of a read: it answers what seafoam/api.py answers, and it stops in time."""

from __future__ import annotations

import json
import os
import random
import sys
import threading

import pytest

from http_requests import HOSTS, PIECES, plain_request
from seafoam import api
from seafoam._core import limits
from seafoam._core.http import Responder
from seafoam._core.map import MapWriter
from seafoam._core.read_path import (
    MANY_BYTES_MAX,
    STOP_CAREFUL,
    STOP_END,
    STOP_FULL,
    STOP_NEED_MORE,
    STOP_OTHER,
    ReadPath,
)
from seafoam.errors import CODES, Detached, Refusal
from support import post

SOAK = os.environ.get("SEAFOAM_SOAK") == "1"
STOPS = {STOP_END, STOP_CAREFUL, STOP_FULL, STOP_NEED_MORE, STOP_OTHER}
KEYS = ["a", "b", "key", "ключ", "\x01\x02", 'quo"te', "back\\slash", "k" * 1024, "\U0001f30a"]


class Rig:
    """A map, and both ways to answer a read of it."""

    def __init__(self) -> None:
        self.writer = MapWriter(bytes(16), max_logical_bytes=1 << 28, start_id=1)
        self.reader = self.writer.reader()
        self.responder = Responder()
        self.responder.set_date(b"Sun, 22 Nov 2026 21:54:07 GMT")
        self.responder.set_cluster("00000000000000c1")
        errors = {code: api.error_start(code, CODES[code].meaning)
                  for code in ("key_not_found", "overloaded")}
        self.path = ReadPath(self.reader, HOSTS, self.responder, errors)
        self.index = 0

    def put(self, key: str, value: bytes) -> None:
        self.index += 1
        self.writer.begin(self.index)
        self.writer.set(key.encode(), value, self.index)
        self.writer.end()

    def by_api(self, body: bytes) -> bytes:
        """The response api.py leads to."""
        try:
            call = api.parse("get", body)
            try:
                answer = call.answer(self.reader)
            except Refusal as refusal:
                answer = api.error_answer(refusal, call.msg_id)
        except api.CallRefused as refused:
            answer = refused.answer
        body = b"".join([answer.body, *answer.rest])
        return self.responder.response(answer.http_status, body, self.reader.applying_index)


@pytest.fixture
def rig():
    rig = Rig()
    for at, key in enumerate(KEYS[:7]):
        rig.put(key, json.dumps({"at": at, "text": key * at}, ensure_ascii=False).encode())
    rig.put("big", b'"%b"' % (b"x" * (limits.VALUE_BYTES_MAX - 2)))
    return rig


def served(rig, data):
    answers = rig.path.serve(data)
    assert rig.path.stop in STOPS
    return answers


# What it answers


BODIES = [
    '{"key":"a"}', ' { "key" : "a" } ', '{"key":"a","msg_id":0}', '{"msg_id":7,"key":"a"}',
    '{"key":"nope"}', '{"key":"nope","msg_id":18446744073709551615}', '{"key":"\\u0061"}',
    '{"key":"\\u043a\\u043b\\u044e\\u0447"}', '{"key":"ключ"}', '{"key":"\\u0001\\u0002"}',
    '{"key":"quo\\"te"}', '{"key":"back\\\\slash","msg_id":1}', '{"key":"big"}',
    '{"keys":["a"]}', '{"keys":["a","nope","a","b"],"msg_id":3}',
    '{"keys":[ "\\u0061" , "quo\\"te","\\u0001\\u0002" ] }', '{"msg_id":1,"keys":["a","a"]}',
    '{"key":"%s"}' % ("k" * 1024), '{"keys":["%s"]}' % ("k" * 1024),
    '{"key":"%s"}' % ("\\u006b" * 1024),
]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_plain_read_is_answered_as_by_api(rig, body):
    data = post("get", body.encode())
    assert served(rig, data) == rig.by_api(body.encode())
    assert (rig.path.stop, rig.path.used_bytes) == (STOP_END, len(data))


NOT_PLAIN = [
    "{}", '{"key":"a","keys":["a"]}', '{"key":"a","key":"a"}', '{"keys":["a"],"keys":["a"]}',
    '{"key":1}', '{"key":null}', '{"key":""}', '{"keys":[]}', '{"keys":["a",1]}', '{"keys":[""]}',
    '{"keys":"a"}', '{"key":["a"]}', '{"key":"a","msg_id":-1}', '{"key":"a","msg_id":1.0}',
    '{"key":"a","msg_id":18446744073709551616}', '{"key":"a","msg_id":null}',
    '{"key":"a","other":1}', '{"k\\u0065y":"a"}', '{"key":"a","msg_id":1,"msg_id":1}', "", "[]",
    '{"key":"%s"}' % ("k" * 1025), '{"keys":["a","%s"]}' % ("k" * 1025), '{"key":"a"', "nonsense",
    '{"key":"\\ud800"}', '{"key":"a"}x', '{"KEY":"a"}', '{"key":"a","msg_id":"1"}',
    '{"keys":[["a"]]}', '{"keys":["a"],"timeout_ms":1}',
]


@pytest.mark.parametrize("body", NOT_PLAIN, ids=range(len(NOT_PLAIN)))
def test_what_is_not_plain_is_left_to_api(rig, body):
    data = post("get", body.encode())
    assert served(rig, data) == b""
    assert (rig.path.stop, rig.path.name, rig.path.used_bytes) == (STOP_OTHER, "get", 0)
    assert data[rig.path.head_bytes:rig.path.call_bytes] == body.encode()


def test_ten_thousand_keys_are_answered_and_one_more_is_left_to_api(rig):
    most = limits.KEYS_PER_READ_MAX
    body = json.dumps({"keys": ["a", "nope"] * (most // 2)}).encode()
    assert served(rig, post("get", body)) == rig.by_api(body)
    body = json.dumps({"keys": ["a"] * (most + 1)}).encode()
    assert served(rig, post("get", body)) == b""
    assert rig.path.stop == STOP_OTHER


def test_values_that_are_large_together_are_left_to_api(rig):
    """It hands them on without copying them once more, and knows the limit of an answer."""
    rig.put("half", b"1" * (MANY_BYTES_MAX // 2))
    rig.put("one", b"1")
    fits = json.dumps({"keys": ["half", "nope", "half"], "msg_id": 5}).encode()
    assert served(rig, post("get", fits)) == rig.by_api(fits)
    for keys in (["half", "one", "half"], ["big"], ["big"] * 1_000):
        assert served(rig, post("get", json.dumps({"keys": keys}).encode())) == b""
        assert (rig.path.stop, rig.path.used_bytes) == (STOP_OTHER, 0)


def test_fuzzed_bodies_are_answered_as_by_api_or_left_to_it(rig):
    count = 1_000_000 if SOAK else 8_000
    luck = random.Random(31)
    seeds = [body.encode() for body in BODIES + NOT_PLAIN if len(body) < 100]
    pieces = [b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"0", b"1", b" ", b"a", b"key",
              b"keys", b"msg_id", b"null", b"true", b"\xc3\xa9", b"\xff", b"\\u0061", b"\0"]
    answered = 0
    for _ in range(count):
        body = bytearray(luck.choice(seeds))
        for _ in range(luck.randrange(3)):
            at = luck.randrange(len(body) + 1)
            body[at:at + luck.randrange(3)] = luck.choice(pieces)
        data = post("get", bytes(body))
        answer = served(rig, data)
        if rig.path.stop == STOP_OTHER:
            assert (answer, rig.path.used_bytes) == (b"", 0)
        else:
            assert answer == rig.by_api(bytes(body)), body
            assert (rig.path.stop, rig.path.used_bytes) == (STOP_END, len(data))
            answered += 1
    assert answered > count // 10


def test_random_reads_of_a_changing_map_are_answered_as_by_api(rig):
    luck = random.Random(32)
    for at in range(100_000 if SOAK else 2_000):
        if luck.random() < 0.3:
            rig.put(luck.choice(KEYS), json.dumps([at] * luck.randrange(9)).encode())
        ask: dict[str, object] = {"key": luck.choice(KEYS)} if luck.random() < 0.5 else {
            "keys": luck.choices([*KEYS, "nope"], k=luck.randrange(1, 9))}
        if luck.random() < 0.5:
            ask["msg_id"] = luck.randrange(1 << 64)
        body = json.dumps(ask, ensure_ascii=luck.random() < 0.5).encode()
        assert served(rig, post("get", body)) == rig.by_api(body)


# Where it stops


def test_many_requests_are_answered_in_order_in_one_pass(rig):
    bodies = [b'{"key":"a","msg_id":%d}' % at for at in range(500)]
    answers = served(rig, b"".join(post("get", body) for body in bodies))
    assert answers == b"".join(rig.by_api(body) for body in bodies)
    assert rig.path.stop == STOP_END
    assert rig.path.answered_count == 500


@pytest.mark.parametrize(("last", "stop", "name"), [
    (b"", STOP_END, ""),
    (b"POST /g", STOP_NEED_MORE, ""),
    (post("get", b'{"key":"a"}')[:-1], STOP_NEED_MORE, "get"),
    (post("set", b'{"key":"a","value":1}')[:-5], STOP_NEED_MORE, "set"),
    (post("set", b'{"key":"a","value":1}'), STOP_OTHER, "set"),
    (post("cas", b"{}"), STOP_OTHER, "cas"),
    (post("delete", b"{}"), STOP_OTHER, "delete"),
    (post("batch", b"{}"), STOP_OTHER, "batch"),
    (post("scan", b"{}"), STOP_OTHER, "scan"),
    (post("get", b"{}"), STOP_OTHER, "get"),
    (b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", STOP_CAREFUL, ""),
    (post("get", b"{}", origin="http://localhost"), STOP_CAREFUL, ""),
    (b"\0", STOP_CAREFUL, ""),
])
def test_it_stops_at_the_first_request_that_is_not_for_it(rig, last, stop, name):
    read = post("get", b'{"key":"a"}')
    for after in (b"", read):
        if after and stop == STOP_NEED_MORE:
            continue
        data = read * 3 + last + (after if last else b"")
        answers = served(rig, data)
        assert answers == rig.by_api(b'{"key":"a"}') * 3
        assert rig.path.used_bytes == 3 * len(read)
        assert (rig.path.stop, rig.path.name) == (stop, name)
        if stop == STOP_OTHER:
            assert rig.path.call_bytes == len(last)
        if name and stop == STOP_NEED_MORE:
            assert rig.path.call_bytes > len(last)


def test_parse_answers_nothing(rig):
    read = post("get", b'{"key":"a"}')
    rig.path.parse(read + read)
    assert (rig.path.stop, rig.path.name) == (STOP_OTHER, "get")
    assert (rig.path.used_bytes, rig.path.call_bytes) == (0, len(read))
    assert rig.path.answered_count == 0


def test_a_pass_ends_when_its_answers_are_many(rig):
    read = post("get", b'{"key":"big"}')
    data = read * 10
    answers, passes = b"", 0
    while data:
        answers += served(rig, data)
        assert rig.path.stop == (STOP_FULL if len(data) > len(read) else STOP_END)
        data = data[rig.path.used_bytes:]
        passes += 1
    assert passes == 10
    assert answers == rig.by_api(b'{"key":"big"}') * 10


def test_every_prefix_and_every_cut_gives_the_same_answers(rig):
    data = b"".join(post("get", body.encode()) for body in BODIES[:9])
    whole = served(rig, data)
    for cut in range(len(data)):
        first = served(rig, data[:cut])
        used = rig.path.used_bytes
        assert rig.path.stop in (STOP_NEED_MORE, STOP_END)
        assert rig.path.stop == STOP_END or rig.path.call_bytes > cut - used
        assert first + served(rig, data[used:]) == whole


def test_a_bytearray_will_do(rig):
    data = post("get", b'{"key":"a"}')
    assert served(rig, bytearray(data)) == served(rig, data)
    with pytest.raises(TypeError):
        rig.path.serve(memoryview(data))


def test_fuzzed_streams_end_in_a_stop_and_nothing_else(rig):
    luck = random.Random(33)
    for _ in range(200_000 if SOAK else 4_000):
        stream = bytearray()
        for _ in range(luck.randrange(1, 5)):
            stream += (plain_request(luck)[0] if luck.random() < 0.3
                       else post("get", luck.choice(BODIES[:12]).encode()))
        for _ in range(luck.randrange(4)):
            at = luck.randrange(len(stream))
            stream[at:at + luck.randrange(3)] = luck.choice(PIECES)
        answers = served(rig, bytes(stream))
        assert 0 <= rig.path.used_bytes <= len(stream)
        assert (rig.path.used_bytes == 0) == (answers == b"")


# The index, and what it may not do


def test_the_index_is_the_one_that_is_being_applied(rig):
    rig.writer.begin(41)
    rig.writer.set(b"a", b"1", 41)
    assert b"\r\nSeafoam-Index: 41\r\n" in served(rig, post("get", b'{"key":"a"}'))
    rig.writer.end()


def test_no_answer_shows_a_version_above_its_index():
    """P2, while another thread writes as fast as it can."""
    rig = Rig()
    stop = threading.Event()
    for key in ("a", "b"):
        rig.put(key, b"0")

    def write() -> None:
        while not stop.is_set():
            rig.put("a", b"%d" % rig.index)
            rig.put("b", b"%d" % rig.index)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        data = (post("get", b'{"key":"a"}') + post("get", b'{"keys":["b","a"]}')) * 20
        for _ in range(20_000 if SOAK else 300):
            for head, body in responses(served(rig, data)):
                if body.startswith(b'{"error"'):
                    continue  # overloaded: the writer was stopped in the middle of a change
                answer = json.loads(body)
                index = int(head.split(b"Seafoam-Index: ")[1].split(b"\r\n")[0])
                assert index >= max(answer.get("versions", [answer.get("version")]))
    finally:
        stop.set()
        writer.join()


def responses(stream):
    while stream:
        head, _, rest = stream.partition(b"\r\n\r\n")
        length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        yield head, rest[:length]
        stream = rest[length:]


def test_it_runs_without_the_gil(rig):
    """Another thread runs while passes do: nothing else lets it, for it is given no turn."""
    data = post("get", json.dumps({"keys": ["k" * 1_000] * 8_000}).encode())
    begin, moved = threading.Event(), []

    def move() -> None:
        begin.wait()
        moved.append(None)

    other = threading.Thread(target=move)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        begin.set()
        before = len(moved)
        for _ in range(1_000):  # the system may take its time to wake the other
            served(rig, data)
            if moved:
                break
        after = len(moved)
    finally:
        sys.setswitchinterval(interval)
        other.join()
    assert (before, after) == (0, 1)


def test_a_closed_map_is_detached(rig):
    rig.writer.close()
    with pytest.raises(Detached):
        rig.path.serve(post("get", b'{"key":"a"}'))
    with pytest.raises(Detached):
        rig.path.serve(post("get", b'{"keys":["a"]}'))
