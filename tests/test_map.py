"""The shared map against a dict: every operation, every size, both sides."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from map_support import new_writer, sized
from seafoam._core import limits
from seafoam._core.map import MapReader, MapWriter

KEY_MAX, VALUE_MAX = limits.KEY_BYTES_MAX, limits.VALUE_BYTES_MAX


def everything(reader: MapReader) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    after: str | None = ""
    while after is not None:
        keys, values, after = reader.scan(after=after, limit=777, values=True)
        assert values is not None and not found.keys() & set(keys)
        found.update(zip(keys, values, strict=True))
    return found


def agrees(writer: MapWriter, reader: MapReader, model: dict[bytes, bytes]) -> None:
    """The map is exactly the model, by every way to read it."""
    writer.verify()
    assert writer.keys == reader.keys == len(model)
    assert writer.logical_bytes == sum(
        len(key) + len(value) + limits.ENTRY_OVERHEAD_BYTES for key, value in model.items())
    keys = list(model)
    for first in range(0, len(keys), 5000):
        part = keys[first:first + 5000]
        assert reader.get_many(part) == [model[key] for key in part]
    for key in keys[:500]:
        assert reader.get(key) == writer.get(key) == model[key]
    assert everything(reader) == model


def test_an_empty_map() -> None:
    writer = new_writer()
    reader = writer.reader()
    agrees(writer, reader, {})
    assert reader.get("a") is None and reader.get_versioned("a") is None
    assert reader.get_many([]) == [] and reader.get_many_versioned(["a"]) == ([None], [0])
    assert writer.get("a") is None and writer.version("a") is None
    assert not writer.delete("a")
    assert reader.scan() == ([], None, None)
    assert (reader.applied_index, reader.applying_index) == (0, 0)


def test_set_get_delete() -> None:
    writer = new_writer()
    reader = writer.reader()
    writer.set("key", b"one", 1)
    assert reader.get("key") == reader.get(b"key") == b"one"
    assert reader.get_versioned("key") == (b"one", 1)
    writer.set("key", b"two", 2)
    assert reader.get_versioned("key") == (b"two", 2) and writer.version("key") == 2
    assert reader.get_many_versioned(["key", "other", "key"]) == (
        [b"two", None, b"two"], [2, 0, 2])
    assert writer.delete("key") and not writer.delete("key")
    assert reader.get("key") is None
    agrees(writer, reader, {})


def test_an_empty_value_is_a_value() -> None:
    writer = new_writer()
    writer.set("key", b"", 1)
    assert writer.reader().get("key") == b"" and writer.get("key") == b""
    assert writer.reader().get_many(["key", "none"]) == [b"", None]


def test_keys_are_utf_8_and_str_and_bytes_are_the_same() -> None:
    writer = new_writer()
    reader = writer.reader()
    for key in ("ä", "日本", "a\0b", " ", "\U0001f300"):
        writer.set(key, key.encode() + b"!", 1)
        assert reader.get(key) == reader.get(key.encode()) == writer.get(key.encode())
    assert reader.get("a") is None and reader.get("a\0") is None
    for wrong in (1, None, bytearray(b"a"), ["a"]):
        with pytest.raises(TypeError, match="a key is str or bytes"):
            reader.get(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="a key is str or bytes"):
            reader.get_many(["a", wrong])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="a key is str or bytes"):
            writer.set(wrong, b"", 1)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        reader.get("\ud800")


@pytest.mark.parametrize("key_bytes", [*range(1, 40), KEY_MAX - 1, KEY_MAX])
def test_keys_that_differ_in_one_byte(key_bytes: int) -> None:
    """Every byte of a key counts, wherever words begin and end; so does its length."""
    writer = new_writer()
    reader = writer.reader()
    luck = random.Random(key_bytes)
    key = luck.randbytes(key_bytes)
    model = {key: b"value of the key"}
    for at in {*range(min(key_bytes, 40)), key_bytes - 1}:
        changed = bytearray(key)
        changed[at] ^= 1 << luck.randrange(8)
        model[bytes(changed)] = b"differs at %d" % at
    for shorter in (key[:-1], key + b"\0", key + key[:1]):
        if 1 <= len(shorter) <= KEY_MAX:
            model[shorter] = b"of length %d" % len(shorter)
    for name, value in model.items():
        writer.set(name, value, 1)
    agrees(writer, reader, model)


def test_values_of_every_length_and_alignment() -> None:
    """Copies merge words by shifting: key lengths give the eight alignments."""
    writer = new_writer()
    reader = writer.reader()
    luck = random.Random(5)
    lengths = [*range(80), 127, 128, 129, 255, 256, 257, 2047, 2048, 2049, 4095, 4096, 4097]
    for key_bytes in range(1, 10):
        for length in lengths:
            key, value = luck.randbytes(key_bytes), luck.randbytes(length)
            writer.set(key, value, 1)
            assert reader.get(key) == writer.get(key) == value
            assert reader.get_many([key]) == [value]


@pytest.mark.parametrize("length", [
    65536 - 40, 65536, 65537, 81920, 262144, 262145, 16384 * 5, VALUE_MAX - 1, VALUE_MAX])
def test_large_values(length: int) -> None:
    writer = new_writer()
    reader = writer.reader()
    value = random.Random(length).randbytes(length)
    writer.set("k" * 1024, value, 1)
    assert reader.get("k" * 1024) == value
    writer.set("k" * 1024, value[::-1], 2)
    assert reader.get_many(["k" * 1024, "k" * 1024]) == [value[::-1]] * 2
    agrees(writer, reader, {b"k" * 1024: value[::-1]})


def test_limits_are_inclusive_and_one_past_is_refused() -> None:
    writer = new_writer()
    reader = writer.reader()
    writer.set("k" * KEY_MAX, b"1", 1)
    for key, value in ((b"", b""), (b"k" * (KEY_MAX + 1), b""), (b"k", bytes(VALUE_MAX + 1))):
        with pytest.raises(ValueError, match="1 to 1024 bytes, a value at most 1048576"):
            writer.set(key, value, 2)
    # No such key can be, so a read of one finds nothing.
    assert reader.get("") is None and reader.get("k" * (KEY_MAX + 1)) is None
    assert reader.get("k" * 100_000) is None and writer.get("k" * 100_000) is None
    assert reader.get_many(["", "k" * (KEY_MAX + 1), "k" * KEY_MAX]) == [None, None, b"1"]
    assert not writer.delete("") and not writer.delete("k" * (KEY_MAX + 1))
    agrees(writer, reader, {b"k" * KEY_MAX: b"1"})


def test_random_operations_of_all_sizes_against_a_dict() -> None:
    luck = random.Random(6)
    writer = new_writer(128 << 20)
    reader = writer.reader()
    model: dict[bytes, bytes] = {}
    for version in range(1, sized(30_000, 600_000)):
        key = b"key%d" % luck.randrange(3000)
        if luck.random() < 0.3:
            assert writer.delete(key) == (model.pop(key, None) is not None)
            continue
        length = int(2 ** (luck.random() * 14))
        if luck.random() < 0.003:
            length = luck.randrange(VALUE_MAX + 1)
        model[key] = luck.randbytes(length)
        writer.set(key, model[key], version)
        assert reader.get_versioned(key) == (model[key], version)
        if version % 5000 == 0:
            agrees(writer, reader, model)
    agrees(writer, reader, model)
    for key in list(model):
        assert writer.delete(key)
    agrees(writer, reader, {})
    assert writer.live_bytes == 0


OPERATIONS = st.lists(
    st.tuples(
        st.integers(0, 30),
        st.one_of(st.none(), st.integers(0, 700), st.sampled_from([2029, 65000, 70_000])),
    ),
    max_size=120,
)


@settings(max_examples=sized(60, 3000), deadline=None,
          suppress_health_check=[HealthCheck.too_slow])
@given(OPERATIONS, st.sampled_from([0, 1, 7, 1024]))
def test_any_operations_against_a_dict(
    operations: list[tuple[int, int | None]], quarantine: int
) -> None:
    writer = new_writer(quarantine_entries=quarantine)
    reader = writer.reader()
    model: dict[bytes, bytes] = {}
    for version, (number, length) in enumerate(operations, 1):
        key = b"k" * (number % 5 + 1) + b"%d" % number
        if length is None:
            assert writer.delete(key) == (model.pop(key, None) is not None)
        else:
            model[key] = (b"%d/%d " % (number, version) * (length // 3 + 1))[:length]
            writer.set(key, model[key], version)
    agrees(writer, reader, model)
    writer.close()


def test_the_modules_names() -> None:
    """The layers above know the classes by this module."""
    from seafoam._core import map as shared_map

    assert shared_map.__all__ == ["MapReader", "MapSnapshot", "MapWriter"]
    assert type(new_writer()) is shared_map.MapWriter
    assert type(new_writer().begin_snapshot()) is shared_map.MapSnapshot
    assert type(new_writer().reader()) is shared_map.MapReader
