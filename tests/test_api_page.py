"""docs/api.md is true: its examples give the answers it shows, its tables name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from processes import NodeProcess
from seafoam import api
from seafoam._core import limits
from seafoam.errors import CODES
from support import Client

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(
    r"curl -d '(?P<body>[^']*)'\s+(?:\\\n\s*)?"
    r"http://127\.0\.0\.1:3000/(?P<name>\w+)\n(?P<answer>.+)"
)


def test_the_examples_give_the_answers_shown(tmp_path):
    examples = list(EXAMPLE.finditer(PAGE))
    assert len(examples) == PAGE.count("curl -d")
    assert {example["name"] for example in examples} == set(api.CALLS)
    with NodeProcess(tmp_path / "data") as node:
        host, _, port = node.address.rpartition(":")
        with Client((host, int(port))) as client:
            for example in examples:
                answer = client.call(example["name"], example["body"].encode())
                assert answer.body.decode() == example["answer"], example["body"]


def test_the_error_shown_is_what_is_answered():
    shown = re.search(r'```json\n(\{"error".*)\n', PAGE)
    assert shown is not None
    with pytest.raises(api.CallRefused) as refused:
        api.parse("set", b'{"key":"k","vlaue":1,"msg_id":7}')
    assert refused.value.answer.body.decode() == shown[1]


def test_every_code_is_in_the_table_with_its_status():
    told = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert {code: int(status) for status, code in told} == {
        code: row.http_status for code, row in CODES.items()}


@pytest.mark.parametrize("name", api.CALLS)
def test_every_field_is_told(name):
    with pytest.raises(api.CallRefused) as refused:
        api.parse(name, b'{"no such field":1}')
    message = json.loads(refused.value.answer.body)["error"]["message"]
    for field in message.partition("it takes ")[2].split(", "):
        assert f"`{field}`" in PAGE


def test_limits_are_as_told():
    for told, limit in (
        ("1 to 1,024 bytes", limits.KEY_BYTES_MAX == 1024 and limits.KEY_BYTES_MIN == 1),
        ("1 MiB of text, nested 512 deep",
         limits.VALUE_BYTES_MAX == 1 << 20 and limits.JSON_DEPTH_MAX == 512),
        ("| body | 8 MiB |", limits.BODY_BYTES_MAX == 8 << 20),
        ("| chunks of a chunked body | 65,536 |", limits.BODY_CHUNKS_MAX == 65_536),
        ("64 MiB less 192 bytes for each operation", limits.RESULT_FRAME_BYTES == 192),
        ("| answer | 64 MiB;", limits.ANSWER_BYTES_MAX == 64 << 20),
        ("| 10,000 |", limits.KEYS_PER_READ_MAX == limits.OPS_PER_BATCH_MAX
         == limits.SCAN_LIMIT_MAX == limits.CONNECTIONS_MAX == 10_000),
        ("| request line and headers | 16 KiB |", limits.HEAD_BYTES_MAX == 16 << 10),
        ("| 128;", limits.CONNECTION_REQUESTS_MAX == 128),
        ("| 256 MiB in all;", limits.IN_FLIGHT_BYTES_MAX == 256 << 20),
        ("not whole 30 s after", limits.REQUEST_TIMEOUT_MS == 30_000),
        ("| `timeout_ms` | 5000 | how long to wait, 1 to 60,000",
         (limits.TIMEOUT_MS_MIN, limits.TIMEOUT_MS_DEFAULT, limits.TIMEOUT_MS_MAX)
         == (1, 5000, 60_000)),
        ("| `limit` | 1000 |", limits.SCAN_LIMIT_DEFAULT == 1000),
    ):
        assert told in PAGE and limit, told
