"""Scanning: pages, prefixes, cursors that mean the same in every map, and nothing missed."""

from __future__ import annotations

import base64
import random

import pytest

from map_support import SEED, new_writer, sized
from seafoam._core import limits
from seafoam._core.map import MapReader, MapWriter
from seafoam._core.map_layout import hash_of
from seafoam._core.pack import crc32c
from seafoam.errors import Refusal


def pages(reader: MapReader, prefix: str | bytes = b"", limit: int = 100, **more: int
          ) -> list[bytes]:
    found: list[bytes] = []
    after: str | None = ""
    while after is not None:
        keys, _, after = reader.scan(prefix, after, limit, False, **more)
        assert len(keys) <= limit
        found += keys
    return found


def filled(count: int, **options: int) -> MapWriter:
    writer = new_writer(**options)
    for number in range(count):
        writer.set(f"key/{number}", b"%d" % number, 1)
    return writer


@pytest.mark.parametrize("limit", [1, 2, 7, 100, 10_000])
def test_pages_of_every_size_give_every_key_once(limit: int) -> None:
    writer = filled(3000)
    found = pages(writer.reader(), limit=limit)
    assert len(found) == 3000 and set(found) == {b"key/%d" % n for n in range(3000)}


def test_a_page_says_whether_it_is_the_last() -> None:
    """Where the last page ends with the last key, there is no further, empty page."""
    writer = filled(10)
    reader = writer.reader()
    keys, values, after = reader.scan(limit=10)
    assert len(keys) == 10 and values is None and after is None
    assert reader.scan(limit=9)[2] is not None


def test_values_come_with_their_keys() -> None:
    writer = filled(500)
    keys, values, _ = writer.reader().scan(values=True)
    assert values is not None and [b"key/" + value for value in values] == keys


def test_the_order_is_the_reversed_hashs() -> None:
    writer = filled(2000)
    found = pages(writer.reader())
    positions = [int(f"{hash_of(SEED, key):064b}"[::-1], 2) for key in found]
    assert positions == sorted(positions)


@pytest.mark.parametrize(("prefix", "count"), [
    ("key/1", 111), (b"key/1", 111), ("key/999", 1), ("key/1000", 0), ("", 1000), ("k", 1000),
    ("key/" + "9" * 1100, 0), ("\0", 0)])
def test_prefixes(prefix: str | bytes, count: int) -> None:
    writer = filled(1000)
    reader = writer.reader()
    wanted = prefix.encode() if isinstance(prefix, str) else prefix
    for limit in (1, 10, 1000):
        found = pages(reader, prefix, limit=limit)
        assert len(found) == count and all(key.startswith(wanted) for key in found)


def test_a_page_ends_before_it_is_too_large_but_never_without_a_key() -> None:
    writer = new_writer()
    for number in range(50):
        writer.set(f"{number:04}", bytes(996), 1)
    reader = writer.reader()
    for max_bytes, count in ((10_000, 10), (9999, 9), (1000, 1), (1, 1), (0, 1)):
        after: str | None = ""
        seen: list[bytes] = []
        while after is not None:
            keys, _, after = reader.scan(after=after, values=True, max_bytes=max_bytes)
            assert len(keys) == count or after is None
            seen += keys
        assert len(seen) == len(set(seen)) == 50
    assert len(reader.scan(max_bytes=100)[0]) == 25  # only keys count where only keys are given


def test_a_sparse_prefix_costs_one_page_only_so_much() -> None:
    """A page may be empty before the end: it looks at a bounded number of buckets."""
    writer = filled(100_000, max_logical_bytes=128 << 20)
    writer.set("rare", b"", 1)
    reader = writer.reader()
    assert pages(reader, "rare") == [b"rare"]
    page_count, after = 0, ""
    while after is not None:
        after = reader.scan("rare", after)[2]
        page_count += 1
    assert page_count == 2  # 20,000 buckets, 16,384 a page


@pytest.mark.parametrize("limit", [0, limits.SCAN_LIMIT_MAX + 1])
def test_limits_of_a_page(limit: int) -> None:
    writer = filled(1)
    with pytest.raises(ValueError, match="must be 1 to 10000"):
        writer.reader().scan(limit=limit)


def test_types() -> None:
    writer = filled(1)
    reader = writer.reader()
    for wrong in (1, None, ["a"]):
        with pytest.raises(TypeError):
            reader.scan(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            reader.scan(after=wrong)  # type: ignore[arg-type]


# --- cursors ---


def test_a_cursor_means_the_same_in_a_map_of_another_size() -> None:
    """Page after page from another node: one is small, one has grown tenfold before."""
    small, large = filled(5000), new_writer()
    for number in range(50_000):
        large.set(f"gone/{number}", b"", 1)
    for number in range(50_000):
        large.delete(f"gone/{number}")
    for number in range(5000):
        large.set(f"key/{number}", b"", 1)
    assert large.bucket_count > 5 * small.bucket_count
    readers = [small.reader(), large.reader()]
    for limit in (1, 13, 500):
        found: list[bytes] = []
        after: str | None = ""
        turn = 0
        while after is not None and len(found) < 6000:
            keys, _, after = readers[turn % 2].scan(after=after, limit=limit)
            found += keys
            turn += 1
        assert len(found) == len(set(found)) == 5000


def test_cursors_are_checked() -> None:
    writer = filled(100)
    reader = writer.reader()
    good = reader.scan(limit=5)[2]
    assert good is not None
    for wrong in (
        "x", "0", good[:-1], good[1:], good + "A", good + "AAAA", good + "=", good + "\n",
        " " + good, good[:-1] + "*", good[:22], "\uff10" + good[1:], "A" * 22, "A" * 1387,
        "A" * 1388, "\0", "é", "\ud800",
    ):
        with pytest.raises(Refusal, match="unchanged") as refused:
            reader.scan(after=wrong)
        assert refused.value.code == "bad_request"
    assert reader.scan(after=good, limit=5)[0]


def test_a_cursor_that_is_damaged_anywhere_is_refused() -> None:
    writer = filled(100)
    reader = writer.reader()
    good = reader.scan(limit=5)[2]
    assert good is not None
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for at, letter in enumerate(good):
        for other in letters.replace(letter, ""):
            with pytest.raises(Refusal) as refused:
                reader.scan(after=good[:at] + other + good[at + 1:])
            assert refused.value.code == "bad_request"


def test_a_cursor_of_another_prefix_is_refused() -> None:
    writer = filled(100_000, max_logical_bytes=128 << 20)
    reader = writer.reader()
    # The first ends at a key, the second between two buckets.
    for own, others in ((b"key/", (b"", b"key", b"key/1", b"kez/")),
                        (b"none", (b"", b"nono", b"none\0"))):
        after = reader.scan(own, limit=5)[2]
        assert after is not None
        reader.scan(own, after)
        for other in others:
            with pytest.raises(Refusal, match="same prefix") as refused:
                reader.scan(other, after)
            assert refused.value.code == "bad_request"


def test_a_cursor_that_was_made_up_is_refused() -> None:
    """Whole in itself and of this cluster, but its key does not stand where it says."""
    writer = filled(100)
    reader = writer.reader()
    good = reader.scan(limit=5)[2]
    assert good is not None
    data = bytearray(base64.urlsafe_b64decode(good + "=" * (-len(good) % 4)))
    data[8] ^= 1
    data[:4] = crc32c(bytes(data[4:])).to_bytes(4, "little")
    with pytest.raises(Refusal, match="made up") as refused:
        reader.scan(after=base64.urlsafe_b64encode(data).decode().rstrip("="))
    assert refused.value.code == "bad_request"


def test_a_cursor_of_another_cluster_is_refused() -> None:
    other = MapWriter(bytes(16), max_logical_bytes=1 << 20, start_id=1)
    for number in range(100):
        other.set(f"key/{number}", b"", 1)
    after = other.reader().scan(limit=5)[2]
    writer = filled(100)
    with pytest.raises(Refusal) as refused:
        writer.reader().scan(after=after)
    assert refused.value.code == "wrong_cluster"


def test_fuzzed_cursors_are_refused() -> None:
    luck = random.Random(8)
    writer = filled(200)
    reader = writer.reader()
    letters = "0123456789abcdefABCXYZ-_.=+/ "
    after = reader.scan(limit=7)[2]
    assert after is not None
    for _ in range(sized(5000, 200_000)):
        text = list(after)
        for _ in range(luck.randrange(1, 4)):
            text[luck.randrange(len(text))] = luck.choice(letters)
        if "".join(text) == after:
            continue
        with pytest.raises(Refusal) as refused:
            reader.scan(after="".join(text))
        assert refused.value.code == "bad_request"


# --- while the map is written ---


@pytest.mark.parametrize("limit", [1, 3, 50])
def test_no_key_that_stays_is_missed_between_writes(limit: int) -> None:
    """Writes between pages: growth by the tenfold, churn, deletes; staying keys come once."""
    luck = random.Random(limit)
    writer = filled(300)
    reader = writer.reader()
    staying = {b"key/%d" % number for number in range(300)}
    found: list[bytes] = []
    after: str | None = ""
    number = 0
    while after is not None:
        keys, _, after = reader.scan(after=after, limit=limit)
        found += keys
        for _ in range(20 if number < 5000 else 0):
            number += 1
            writer.set(f"new/{number}", b"x" * luck.randrange(300), 1)
            writer.set(f"key/{luck.randrange(300)}", b"y" * luck.randrange(300), 1)
            if luck.random() < 0.5:
                writer.delete(f"new/{luck.randrange(number) + 1}")
    assert staying <= set(found)
    assert len([key for key in found if key in staying]) == 300
    assert len(found) == len(set(found))
