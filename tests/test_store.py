"""The state machine: each operation, batches as one step, determinism against a plain model."""

from __future__ import annotations

import random

import pytest

from seafoam._core import json_equal, limits
from seafoam._core.map import MapWriter
from seafoam._core.message import ENTRY_COMMAND, ENTRY_EMPTY, ENTRY_FOUNDING, Entry
from seafoam._core.store import Store
from seafoam._core.wire import (
    FLAG_BY_VERSION,
    FLAG_IF_ABSENT,
    OPERATION_CAS,
    OPERATION_DELETE,
    OPERATION_SET,
    Operation,
    decode_command,
    encode_command,
)
from seafoam.errors import CapacityExceeded, InvariantBroken


class Rig:
    def __init__(self, max_logical_bytes=1 << 26):
        self.map = MapWriter(bytes(16), max_logical_bytes=max_logical_bytes, start_id=1)
        self.store = Store(self.map)
        self.index = 0

    def apply(self, *operations):
        self.index += 1
        entry = Entry(self.index, 1, ENTRY_COMMAND, encode_command(list(operations)))
        result = self.store.apply(entry)
        assert result.index == self.index and len(result.results) == len(operations)
        return result.results if len(operations) > 1 else result.results[0]


@pytest.fixture
def rig():
    return Rig()


def test_set_writes_and_overwrites_with_the_entrys_index_as_version(rig):
    for value in (b"1", b'{"a":[1,2]}', b"null"):
        assert rig.apply(Operation.set(b"k", value)).code is None
        got = rig.apply(Operation.get(b"k"))
        assert (got.code, got.value, got.version) == (None, value, rig.index - 1)


def test_set_if_absent(rig):
    assert rig.apply(Operation.set(b"k", b"1", if_absent=True)).code is None
    assert rig.apply(Operation.set(b"k", b"2", if_absent=True)).code == "key_exists"
    assert rig.map.get(b"k") == b"1" and rig.map.version(b"k") == 1


def test_get_of_nothing(rig):
    got = rig.apply(Operation.get(b"k"))
    assert (got.code, got.value, got.version) == ("key_not_found", None, 0)


@pytest.mark.parametrize(
    ("held", "old"),
    [(b"1", b"1.0"), (b"-0", b"0"), (b'{"a":1,"b":2}', b'{"b":2,"a":1e0}'), (b'"\\u0041"', b'"A"'),
     (b"null", b"null")],
)
def test_cas_compares_as_json(rig, held, old):
    rig.apply(Operation.set(b"k", held))
    assert rig.apply(Operation.cas(b"k", b'"new"', old_value=old)).code is None
    assert rig.map.get(b"k") == b'"new"' and rig.map.version(b"k") == 2


@pytest.mark.parametrize(("held", "old"), [(b"1", b"true"), (b"[1,2]", b"[2,1]"), (b"0", b"null")])
def test_cas_mismatch_tells_what_is_there(rig, held, old):
    rig.apply(Operation.set(b"k", held))
    result = rig.apply(Operation.cas(b"k", b'"new"', old_value=old))
    assert (result.code, result.value, result.version) == ("cas_mismatch", held, 1)
    assert rig.map.get(b"k") == held


def test_cas_by_version(rig):
    rig.apply(Operation.set(b"k", b"1"))
    result = rig.apply(Operation.cas(b"k", b"2", old_version=7))
    assert (result.code, result.value, result.version) == ("cas_mismatch", b"1", 1)
    assert rig.apply(Operation.cas(b"k", b"2", old_version=1)).code is None
    assert rig.map.get(b"k") == b"2"


def test_cas_of_nothing(rig):
    assert rig.apply(Operation.cas(b"k", b"1", old_value=b"null")).code == "key_not_found"
    assert rig.apply(Operation.cas(b"k", b"1", old_version=0)).code == "key_not_found"
    assert rig.map.get(b"k") is None


def test_delete(rig):
    rig.apply(Operation.set(b"k", b"1"))
    assert rig.apply(Operation.delete(b"k")).deleted is True
    missing = rig.apply(Operation.delete(b"k"))
    assert (missing.code, missing.deleted) == (None, False)
    assert rig.apply(Operation.delete(b"k", error_if_not_key=True)).code == "key_not_found"
    assert rig.map.keys == 0 and rig.map.logical_bytes == 0


def test_each_operation_of_a_batch_sees_those_before_it_and_a_failure_undoes_nothing(rig):
    results = rig.apply(
        Operation.set(b"a", b"1"),
        Operation.get(b"a"),
        Operation.cas(b"a", b"2", old_value=b"7"),
        Operation.cas(b"a", b"3", old_version=1),
        Operation.delete(b"a"),
        Operation.set(b"a", b"4", if_absent=True),
        Operation.get(b"b"),
    )
    assert [result.code for result in results] == [
        None, None, "cas_mismatch", None, None, None, "key_not_found"
    ]
    assert results[1].value == b"1" and results[4].deleted
    assert rig.map.get(b"a") == b"4" and rig.map.version(b"a") == 1


def test_what_one_commands_results_hold_is_bounded_and_all_of_it_is_carried_out(rig):
    value = b'"' + b"x" * (limits.VALUE_BYTES_MAX - 2) + b'"'
    rig.apply(Operation.set(b"k", value))
    fitting = limits.ANSWER_BYTES_MAX // limits.VALUE_BYTES_MAX - 1
    results = rig.apply(
        *[Operation.get(b"k")] * fitting,
        Operation.get(b"k"),
        Operation.cas(b"k", b"1", old_version=99),
        Operation.set(b"k", b"2"),
        Operation.cas(b"k", b"3", old_value=b"2"),
    )
    codes = [result.code for result in results]
    assert codes == [None] * fitting + ["too_large", "too_large", None, None]
    assert rig.map.get(b"k") == b"3"


def test_each_operation_has_room_for_its_frame_and_the_values_have_the_rest(rig):
    value = b'"' + b"x" * (limits.VALUE_BYTES_MAX - 2) + b'"'
    count = 66
    room_bytes = limits.ANSWER_BYTES_MAX - count * limits.RESULT_FRAME_BYTES
    last_bytes = room_bytes % limits.VALUE_BYTES_MAX
    rig.apply(Operation.set(b"k", value), Operation.set(b"small", b"1"))
    for more, code in ((0, None), (1, "too_large")):
        last = b'"' + b"y" * (last_bytes - 2 + more) + b'"'
        rig.apply(Operation.set(b"last", last), Operation.set(b"other", last))
        results = rig.apply(
            *[Operation.get(b"k")] * 63, Operation.get(b"k"),
            Operation.cas(b"last", b"1", old_version=9), Operation.get(b"small"),
        )
        codes = [result.code for result in results]
        assert codes[:63] == [None] * 63
        assert codes[63] == "too_large", "a larger value than there is room for takes none of it"
        assert codes[64] == (code or "cas_mismatch")
        assert codes[65] == ("too_large" if code is None else None)


def test_what_one_command_compares_is_bounded_and_a_cas_past_it_is_not_carried_out(rig):
    value = b'"' + b"x" * (limits.VALUE_BYTES_MAX - 2) + b'"'
    rig.apply(Operation.set(b"k", value), Operation.set(b"small", b"1"))
    fitting = limits.COMPARED_BYTES_MAX // (limits.VALUE_BYTES_MAX + 1)
    results = rig.apply(
        *[Operation.cas(b"k", b"2", old_value=b"1")] * fitting,
        Operation.cas(b"k", b"2", old_value=value),
        Operation.cas(b"k", b"2", old_version=9),
        Operation.cas(b"small", b"2", old_value=b"1"),
    )
    codes = [result.code for result in results]
    assert codes == ["cas_mismatch"] * fitting + ["too_large", "cas_mismatch", None]
    assert rig.map.get(b"k") == value and rig.map.get(b"small") == b"2"


def test_entries_without_a_command_move_the_applied_position(rig):
    for kind in (ENTRY_FOUNDING, ENTRY_EMPTY):
        rig.index += 1
        assert rig.store.apply(Entry(rig.index, 1, kind, b"")) is None
    assert rig.store.applied_index == 2 and rig.map.reader().applied_index == 2


@pytest.mark.parametrize("index", [0, 1, 3])
def test_an_entry_out_of_order_breaks_an_invariant(rig, index):
    rig.apply(Operation.set(b"k", b"1"))
    with pytest.raises(InvariantBroken, match="cannot follow applied index 1"):
        rig.store.apply(Entry(index, 1, ENTRY_EMPTY, b""))


@pytest.mark.parametrize("data", [b"", b"\xff", b"garbage that is no command"])
def test_a_command_that_is_none_breaks_an_invariant(rig, data):
    with pytest.raises(InvariantBroken, match="the command of entry 1"):
        rig.store.apply(Entry(1, 1, ENTRY_COMMAND, data))


def test_a_map_that_cannot_hold_an_entry_is_named_with_the_remedy():
    rig = Rig(max_logical_bytes=1 << 20)
    value = b'"' + b"x" * 900_000 + b'"'
    with pytest.raises(CapacityExceeded, match="a larger --max-memory"):
        for number in range(10_000):
            rig.apply(Operation.set(b"k%d" % number, value))


def random_operation(chance: random.Random) -> Operation:
    key = b"k%d" % chance.randrange(12)
    value = chance.choice([b"1", b"1.0", b"2", b"null", b'"x"', b"[1]", b'{"a":1}'])
    kind = chance.randrange(6)
    if kind == 0:
        return Operation.get(key)
    if kind == 1:
        return Operation.set(key, value)
    if kind == 2:
        return Operation.set(key, value, if_absent=True)
    if kind == 3:
        return Operation.cas(key, value, old_value=chance.choice([b"1", b"null", b"[1.0]"]))
    if kind == 4:
        return Operation.cas(key, value, old_version=chance.randrange(40))
    return Operation.delete(key, error_if_not_key=chance.random() < 0.5)


@pytest.mark.parametrize("seed", range(20))
def test_any_sequence_agrees_with_a_plain_model_and_with_another_replica(seed):
    chance = random.Random(seed)
    commands = [
        encode_command([random_operation(chance) for _ in range(chance.choice([1, 1, 1, 5]))])
        for _ in range(300)
    ]
    replicas = [Rig(), Rig()]
    answers = []
    for rig in replicas:
        answers.append([
            repr(rig.store.apply(Entry(number + 1, 1, ENTRY_COMMAND, command)))
            for number, command in enumerate(commands)
        ])
    assert answers[0] == answers[1]
    model = replay(commands)
    for key in (b"k%d" % number for number in range(12)):
        expected = model.get(key)
        for rig in replicas:
            got = (rig.map.get(key), rig.map.version(key))
            assert got == (expected or (None, None))


def replay(commands):
    """The same commands on a dict of key to (value, version)."""
    model = {}
    for index, command in enumerate(commands, 1):
        for operation in decode_command(command):
            held = model.get(operation.key)
            if operation.kind == OPERATION_DELETE:
                model.pop(operation.key, None)
            elif operation.kind == OPERATION_SET:
                if held is None or not operation.flags & FLAG_IF_ABSENT:
                    model[operation.key] = (operation.value, index)
            elif operation.kind == OPERATION_CAS and held is not None:
                is_equal = (
                    held[1] == operation.old_version
                    if operation.flags & FLAG_BY_VERSION
                    else json_equal.equal(held[0], operation.old_value)
                )
                if is_equal:
                    model[operation.key] = (operation.value, index)
    return model
