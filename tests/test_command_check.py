"""What of a command from elsewhere is let into the log: whatever is, can be applied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seafoam._core import json
from seafoam._core.command_check import check_command
from seafoam._core.limits import VALUE_BYTES_MAX
from seafoam._core.map import MapWriter
from seafoam._core.message import ENTRY_COMMAND, Entry
from seafoam._core.store import Store
from seafoam._core.wire import HASH_SEED_BYTES, Operation, encode_command, stamp_command
from seafoam.errors import DataDamaged, StartError

DEEP = b"[" * 512 + b"]" * 512
TEXTS = [b"1", b"{not json", b"{}", b" 1", b"1 ", b'{"a": 1}', b"\xff", b"[1,]", b'"\xed\xa0\x80"',
         b"1e1000001", b"-0", b"nul", DEEP, b"[" + DEEP + b"]", b'"x"' * 2,
         b'"' + b"x" * (VALUE_BYTES_MAX - 2) + b'"', b'"' + b"x" * (VALUE_BYTES_MAX - 1)]


def is_value(text):
    """As a node that is asked by a client would have put it."""
    try:
        return json.compact(text) == text
    except json.JsonError:
        return False


def is_let_in(*operations):
    try:
        check_command(stamp_command(encode_command(list(operations)), 1, 2))
    except DataDamaged as error:
        assert "no UTF-8 or a value that is no JSON" in str(error)
        return False
    return True


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:12]))
def test_values_are_compact_json_wherever_they_stand(text):
    sound = Operation.set(b"k", b"1")
    for operation in (Operation.set(b"k", text), Operation.cas(b"k", text, old_version=1),
                      Operation.cas(b"k", text, old_value=b"1"),
                      Operation.cas(b"k", b"1", old_value=text)):
        assert is_let_in(operation) == is_value(text)
        assert is_let_in(sound, operation, sound) == is_value(text)


@pytest.mark.parametrize(("key", "is_sound"), [
    (b"k", True), ("größe\0 😀".encode(), True), (b"\xff", False), (b"k\xc3", False),
    (b"\xed\xa0\x80", False), (b"\xc0\x80", False), (b"k" * 1023 + b"\xf0", False),
])
def test_keys_are_utf8_in_every_operation(key, is_sound):
    for operation in (Operation.get(key), Operation.set(key, b"1"), Operation.delete(key),
                      Operation.cas(key, b"1", old_value=b"1")):
        assert is_let_in(operation) == is_sound


def test_what_is_no_command_is_refused():
    command = encode_command([Operation.set(b"k", b"1")])
    for damaged in (b"", command[:-1], command + b"x"):
        with pytest.raises(DataDamaged):
            check_command(damaged)
    with pytest.raises(StartError):
        check_command(bytes((command[0] + 1,)) + command[1:])


@given(st.data())
def test_what_is_let_in_is_applied(data):
    """Whatever has become of a sound command on its way: refused, or applied without fail."""
    text = st.sampled_from([b"1", b"[1,2]", b'{"a":"b"}', b'"x"'])
    operation = st.one_of(
        st.builds(Operation.set, st.just(b"k"), text),
        st.builds(lambda value, old: Operation.cas(b"k", value, old_value=old), text, text))
    command = bytearray(encode_command(data.draw(st.lists(operation, min_size=1, max_size=3))))
    for at in data.draw(st.lists(st.integers(0, len(command) - 1), max_size=3)):
        command[at] = data.draw(st.integers(0, 255))
    try:
        check_command(bytes(command))
    except (DataDamaged, StartError):
        return
    writer = MapWriter(bytes(HASH_SEED_BYTES), max_logical_bytes=1 << 20, start_id=1)
    try:
        store = Store(writer)
        for index, entry in enumerate((encode_command([Operation.set(b"k", b"1")]), command), 1):
            store.apply(Entry(index, 1, ENTRY_COMMAND, bytes(entry)))
    finally:
        writer.close()
