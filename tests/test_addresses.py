"""What is an address of a node, and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seafoam.addresses import is_address, is_host_name, shown, split_address
from seafoam.errors import AddressRefused


@pytest.mark.parametrize(("address", "host", "port"), [
    ("127.0.0.1:5010", "127.0.0.1", 5010), ("[::1]:1", "::1", 1),
    ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535), ("localhost:05010", "localhost", 5010),
    ("db_1.example.:9", "db_1.example.", 9), ("a" * 63 + ".example:9", "a" * 63 + ".example", 9),
])
def test_an_address_is_a_host_and_a_port(address, host, port):
    assert split_address(address) == (host, port) and is_address(address)


@pytest.mark.parametrize(("address", "words"), [
    ("", "is not HOST:PORT"), ("nowhere", "is not HOST:PORT"), (":5", "is not HOST:PORT"),
    ("h:", "from 1 to 65535"), ("h:x", "from 1 to 65535"), ("h:0", "from 1 to 65535"),
    ("h:65536", "from 1 to 65535"), ("h:٣", "from 1 to 65535"), ("h:5\n", "from 1 to 65535"),
    ("h:" + "1" * 5000, "from 1 to 65535"), ("::1:5", "in brackets"), ("[::x]:5", "no IPv6"),
    ("[127.0.0.1]:5", "no IPv6"), ("[::1%\n]:5", "zone"), ("[::1%" + "z" * 300 + "]:5", "zone"),
    ("a..b:1", "neither a host name"), (".lan:1", "neither a host name"),
    ("a" * 64 + ".example:1", "neither a host name"), (".:1", "neither a host name"),
    ("two words:1", "neither a host name"), ("x\n\x1b[31m:1", "neither a host name"),
    (".x" * 200 + ":1", "neither a host name"), ("höhle:1", "neither a host name"),
])
def test_what_is_none_is_refused_in_one_printable_line(address, words):
    with pytest.raises(AddressRefused, match=words) as caught:
        split_address(address)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200
    assert not is_address(address)


@given(st.text() | st.from_regex(r"\[?[a-z0-9.:%_-]*\]?:[0-9]+", fullmatch=True))
def test_anything_at_all_is_an_address_that_can_be_dialled_or_refused(text):
    try:
        host, port = split_address(text)
    except AddressRefused:
        return
    assert 1 <= port <= 65535 and text.isprintable() and len(text.encode()) <= 512
    assert ":" in host or host.encode("idna")


def test_a_name_has_no_empty_and_no_long_parts():
    assert is_host_name("seafoam-0.seafoam") and is_host_name("xn--hhle-5qa.example.")
    assert not any(map(is_host_name, ("", ".", "a..b", ".lan", "a" * 64, "a..", "a:1")))


def test_what_is_shown_is_short():
    assert shown("a:1") == "'a:1'" and len(shown("\n" * 1000)) < 200
