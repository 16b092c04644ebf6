"""The bytes of views and founding records: golden, round trips, and nothing trusted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seafoam._core.pack import crc32c
from seafoam._core.wire import encode_founding
from seafoam.errors import DataDamaged, StartError, ViewRefused
from seafoam.founding_wire import (
    NEIGHBOURS_MAX,
    Held,
    Named,
    Record,
    View,
    decode_record,
    decode_view,
    encode_record,
    encode_view,
)

SEED = bytes(range(16))
FOUNDING = encode_founding(0xC1, SEED, [(1, "a:1"), (2, "b:2")])
VIEW = View(2, 7, 3, 0, "b:2", 4, Held(1, 9, FOUNDING),
            (Named("a:1", 1, "a:1"), Named("c:3")), ((1, "a:1"),))
GOLDEN = bytes.fromhex(
    "01" "0200000000000000" "0700000000000000" "0300000000000000" "0000000000000000"
    "0400000000000000" "0300" "623a32"
    "01" "0100000000000000" "0900000000000000" + len(FOUNDING).to_bytes(4, "little").hex()
    + FOUNDING.hex()
    + "0200" "0300" "613a31" "0100000000000000" "0300" "613a31"
    "0300" "633a33" "0000000000000000" "0000"
    "0100" "0100000000000000" "0300" "613a31"
)

ids = st.integers(1, 2**64 - 1)
numbers = st.integers(0, 2**64 - 1)
addresses = st.text("abc.:[]0123é", min_size=1, max_size=40)


@st.composite
def proposals(draw, number=ids):
    members = draw(st.dictionaries(ids, addresses, min_size=1, max_size=5))
    founding = encode_founding(draw(ids), draw(st.binary(min_size=16, max_size=16)),
                               list(members.items()))
    return Held(draw(st.sampled_from(sorted(members))), draw(number), founding)


@st.composite
def views(draw):
    node_id, number = draw(ids), draw(numbers)
    held = draw(st.none() | proposals())
    if held is not None and held.founder_id == node_id:
        number = held.number
    named = draw(st.dictionaries(addresses, st.none() | st.tuples(ids, addresses), max_size=5))
    callers = draw(st.dictionaries(ids, addresses, max_size=5))
    return View(node_id, draw(ids), draw(ids), draw(numbers), draw(addresses), number, held,
                tuple(Named(at, *(who or ())) for at, who in named.items()),
                tuple(callers.items()))


def test_golden_view():
    assert encode_view(VIEW) == GOLDEN
    assert decode_view(GOLDEN) == VIEW


def test_golden_record():
    preamble = b"SEAFOAMF" + (1).to_bytes(4, "little")
    body = (bytes.fromhex("0200000000000000" "0400000000000000" "01" "01"
                          "0100000000000000" "0900000000000000")
            + len(FOUNDING).to_bytes(4, "little") + FOUNDING)
    data = (preamble + crc32c(preamble).to_bytes(4, "little")
            + body + crc32c(body).to_bytes(4, "little"))
    record = Record(4, Held(1, 9, FOUNDING), is_founded=True)
    assert encode_record(2, record) == data
    assert decode_record(data, 2) == record


@given(views())
def test_a_view_comes_back_as_it_went(view):
    assert decode_view(encode_view(view)) == view


@given(ids, numbers, st.none() | proposals(), st.booleans())
def test_a_record_comes_back_as_it_went(node_id, number, held, is_founded):
    record = Record(number, held, is_founded and held is not None)
    assert decode_record(encode_record(node_id, record), node_id) == record


@given(st.binary(max_size=200))
def test_any_bytes_are_a_view_or_refused(data):
    try:
        view = decode_view(data)
    except ViewRefused as error:
        assert str(error).startswith("a node's view was refused: ")
    else:
        assert encode_view(view) == data


@given(views(), st.data())
def test_a_view_with_a_changed_byte_is_another_view_or_refused(view, data):
    changed = bytearray(encode_view(view))
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        assert encode_view(decode_view(bytes(changed))) == bytes(changed)
    except ViewRefused:
        pass


@pytest.mark.parametrize("end", range(len(GOLDEN)))
def test_a_view_cut_short_is_refused(end):
    with pytest.raises(ViewRefused):
        decode_view(GOLDEN[:end])


def changed(**fields) -> bytes:
    return encode_view(View(**{**VIEW.__dict__, **fields}))


def founding(*members: tuple[int, str], cluster_id: int = 0xC1) -> bytes:
    return encode_founding(cluster_id, SEED, list(members))


@pytest.mark.parametrize(("data", "words"), [
    (b"\2" + GOLDEN[1:], "version 2; known is 1"),
    (GOLDEN + b"\0", "1 bytes follow its end"),
    (changed(node_id=0), "a node id, start id or sequence is 0"),
    (changed(start_id=0), "a node id, start id or sequence is 0"),
    (changed(sequence=0), "a node id, start id or sequence is 0"),
    (changed(address=""), "an address of 0 bytes is none"),
    (changed(address="x" * 513), "an address of 513 bytes is none"),
    (changed(address="a\n:1"), "cannot be printed"),
    (changed(named=(Named("a:1", 1, ""),)), "an answer without a node"),
    (changed(named=(Named("a:1", 0, "a:1"),)), "an answer without a node"),
    (changed(named=(Named("a:1"), Named("a:1"))), "an address is named twice"),
    (changed(named=tuple(Named(f"a:{at}") for at in range(NEIGHBOURS_MAX + 1))),
     f"there may be {NEIGHBOURS_MAX}"),
    (changed(callers=((0, "a:1"),)), "a caller is named twice, or is node 0"),
    (changed(callers=((1, "a:1"), (1, "b:1"))), "a caller is named twice, or is node 0"),
    (changed(node_id=1), "another proposal than its latest"),
    (changed(held=Held(1, 0, FOUNDING)), "a proposal has number 0"),
    (changed(held=Held(1, 9, founding((1, "a:1"), cluster_id=0))), "founds cluster 0"),
    (changed(held=Held(3, 9, FOUNDING)), "leaves out its founder"),
    (changed(held=Held(1, 9, founding((1, "a:1"), (1, "b:1")))), "names a node twice"),
    (changed(held=Held(1, 9, founding((1, "a:1"), (0, "b:1")))), "or names a node 0"),
    (changed(held=Held(1, 9, FOUNDING[:-1])), "a founding entry is damaged"),
    (changed(held=Held(1, 9, b"\2" + FOUNDING[1:])), "version that this Seafoam does not know"),
    (changed(held=Held(1, 9, bytes(70_000))), "70000 bytes is too large"),
    (GOLDEN.replace(b"\3\0b:2\1", b"\3\0b:2\2", 1), "a flag of it is 2"),
    (GOLDEN.replace(b"b:2", b"b\xff2", 1), "no UTF-8"),
])
def test_a_view_that_makes_no_sense_is_refused_in_words(data, words):
    with pytest.raises(ViewRefused, match=words):
        decode_view(data)


def test_the_largest_view_fits_a_frame_between_nodes():
    places = [f"{at:0512d}" for at in range(NEIGHBOURS_MAX)]
    members = tuple((at + 1, place) for at, place in enumerate(places))
    view = View(1, 1, 1, 0, places[0], 1, Held(1, 1, founding(*members)),
                tuple(Named(place, at, place) for at, place in members), members)
    data = encode_view(view)
    assert decode_view(data) == view
    assert len(data) < 192 * 1024


def test_every_changed_byte_of_a_record_is_noticed():
    data = encode_record(2, Record(4, Held(1, 9, FOUNDING)))
    for at in range(len(data)):
        for bit in (1, 0x80):
            broken = bytearray(data)
            broken[at] ^= bit
            with pytest.raises(DataDamaged):
                decode_record(bytes(broken), 2)
    for end in range(len(data)):
        with pytest.raises(DataDamaged):
            decode_record(data[:end], 2)
    with pytest.raises(DataDamaged):
        decode_record(data + b"\0", 2)


def sealed(version: int, body: bytes) -> bytes:
    preamble = b"SEAFOAMF" + version.to_bytes(4, "little")
    return (preamble + crc32c(preamble).to_bytes(4, "little") + body
            + crc32c(body).to_bytes(4, "little"))


def test_a_record_that_cannot_be_used_is_refused_by_name():
    with pytest.raises(StartError, match="version 2, which this Seafoam does not know"):
        decode_record(sealed(2, b""), 2)
    with pytest.raises(StartError, match=r"belongs to node 0*2, and this directory to 0*3"):
        decode_record(encode_record(2, Record(1)), 3)
    with pytest.raises(DataDamaged, match="that a cluster was founded, but not which"):
        decode_record(sealed(1, bytes(16) + b"\1\0"), 0)
    with pytest.raises(DataDamaged, match="bytes follow"):
        decode_record(sealed(1, bytes(16) + b"\0\0\0"), 0)
