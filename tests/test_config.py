"""Settings: what is refused, in which words, and what the defaults are."""

from pathlib import Path

import pytest

from seafoam import config
from seafoam.config import (
    MEMORY_BYTES_MIN,
    Settings,
    map_limit_bytes,
    memory_bytes_available,
)
from seafoam.errors import StartError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"http_port": 65536, "peer_port": 1}, "HTTP_PORT is 65536"),
        ({"http_port": -1, "peer_port": 1}, "HTTP_PORT is -1"),
        ({"http_port": 1, "peer_port": 70000}, "PEER_PORT is 70000"),
        ({"http_port": 7, "peer_port": 7}, "both 7; two are needed"),
        ({"http_port": 0, "peer_port": 0}, "add --data-dir"),
        ({"http_port": 1, "peer_port": 2, "host": "example.org"}, "localhost or an IP address"),
        ({"http_port": 1, "peer_port": 2, "host": "0.0.0.0"}, "add --insecure"),
        ({"http_port": 1, "peer_port": 2, "host": "::"}, "add --insecure"),
        ({"http_port": 1, "peer_port": 2, "host": "0.0.0.0", "insecure": True}, "--advertise"),
        ({"http_port": 1, "peer_port": 2, "host": "::", "insecure": True}, "--advertise"),
        ({"http_port": 1, "peer_port": 2, "advertise": "0.0.0.0"}, "--advertise is '0.0.0.0'"),
        ({"http_port": 1, "peer_port": 2, "advertise": "::"}, "--advertise is '::'"),
        ({"http_port": 1, "peer_port": 2, "advertise": "node4..example"}, "--advertise is 'node4"),
        ({"http_port": 1, "peer_port": 2, "advertise": "a" * 64}, "--advertise is 'aaa"),
        ({"http_port": 1, "peer_port": 2, "advertise": "fe80::1%\n"}, "--advertise is 'fe80"),
        ({"http_port": 1, "peer_port": 2, "peers": ("a..b:1",)}, "PEER 'a..b:1' names 'a..b'"),
        ({"http_port": 1, "peer_port": 2, "peers": (".lan:1",)}, "neither a host name"),
        ({"http_port": 1, "peer_port": 2, "peers": ("a" * 64 + ".b:1",)}, "neither a host name"),
        ({"http_port": 1, "peer_port": 2, "max_memory_bytes": 5}, "--max-memory is 5 bytes"),
        ({"http_port": 1, "peer_port": 2, "max_memory_bytes": 1 << 50}, "--max-memory is"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(settings, words):
    with pytest.raises(StartError, match=words) as caught:
        Settings(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_flag(host):
    assert Settings(1, 2, host=host).host == host


def test_any_address_is_allowed_when_said_aloud():
    assert Settings(1, 2, host="0.0.0.0", insecure=True, advertise="db.example").insecure
    assert Settings(1, 2, host="192.0.2.1", insecure=True).insecure


def test_the_data_directory_is_named_after_the_peer_port(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert Settings(3000, 3010).data_path == tmp_path / "seafoam-data" / "3010"
    assert Settings(3000, 0, data_dir=Path("here")).data_path == tmp_path / "here"


def test_the_quota_is_no_more_than_the_memory_holds(monkeypatch):
    monkeypatch.setattr(config, "memory_bytes_available", lambda: 8 << 30)
    assert map_limit_bytes() == 6 << 30
    assert Settings(1, 2, max_memory_bytes=3 << 30).quota_bytes == 3 << 30
    with pytest.raises(StartError) as caught:
        Settings(1, 2, max_memory_bytes=(3 << 30) + 1)
    sentence = str(caught.value)
    assert sentence.endswith(f"must be between {MEMORY_BYTES_MIN} and {3 << 30}")
    assert f"the {8 << 30} bytes of memory" in sentence and "\n" not in sentence


def test_the_least_quota_is_allowed_however_little_there_is(monkeypatch):
    monkeypatch.setattr(config, "memory_bytes_available", lambda: MEMORY_BYTES_MIN)
    assert Settings(1, 2, max_memory_bytes=MEMORY_BYTES_MIN).quota_bytes == MEMORY_BYTES_MIN
    assert Settings(1, 2).quota_bytes == MEMORY_BYTES_MIN


def test_the_quota_is_a_quarter_of_the_memory():
    assert Settings(1, 2).quota_bytes == max(MEMORY_BYTES_MIN, memory_bytes_available() // 4)
    assert Settings(1, 2, max_memory_bytes=1 << 28).quota_bytes == 1 << 28
