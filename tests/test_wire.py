"""Byte formats: golden bytes, limits, and garbage in every decoder."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seafoam._core import limits
from seafoam._core.pack import crc32c_portable
from seafoam._core.wire import (
    ADDRESS_BYTES_MAX,
    FLAG_BY_VERSION,
    FLAG_ERROR_IF_NOT_KEY,
    FLAG_IF_ABSENT,
    META_BYTES,
    OPERATION_CAS,
    OPERATION_DELETE,
    OPERATION_GET,
    OPERATION_SET,
    Operation,
    command_cost,
    command_stamp,
    decode_command,
    decode_founding,
    decode_meta,
    encode_command,
    encode_founding,
    encode_meta,
    is_blank,
    stamp_command,
)
from seafoam.errors import DataDamaged, StartError

EXAMPLES = 20_000 if os.environ.get("SEAFOAM_SOAK") else 300
soaking = settings(max_examples=EXAMPLES, deadline=None, derandomize=True)

OPERATIONS = [
    Operation.get(b"a"),
    Operation.set("ké".encode(), b'{"id":0}', if_absent=True),
    Operation.set(b"b", b"1"),
    Operation.cas(b"c", b"2", old_value=b"null"),
    Operation.cas(b"d", b"[]", old_version=258),
    Operation.delete(b"e", error_if_not_key=True),
    Operation.delete(b"f"),
]
#: What version 1 wrote, and every later one must read: one line an operation.
COMMAND = bytes.fromhex(
    "01 07000000 0000000000000000 0000000000000000"
    "01 00 0100                     61"
    "02 01 0300 08000000            6bc3a9 7b226964223a307d"
    "02 00 0100 01000000            62 31"
    "03 00 0100 01000000 04000000   63 32 6e756c6c"
    "03 02 0100 02000000 0201000000000000 64 5b5d"
    "04 04 0100                     65"
    "04 00 0100                     66"
)
FOUNDING = bytes.fromhex(
    "01 c100000000000000 000102030405060708090a0b0c0d0e0f 0200"
    "0100000000000000 0e00 3132372e302e302e313a33303130"
    "0200000000000000 0a00 5b3a3a315d3a35303130"
)
MEMBERS = [(1, "127.0.0.1:3010"), (2, "[::1]:5010")]
SEED = bytes(range(16))
META = bytes.fromhex("534541464f414d4d 01000000 973c4fd7 efcdab8967452301 01000000 1ca72ecb")


def test_blank_is_nothing_but_zeros():
    for data in (b"", bytes(1), bytes(100)):
        assert is_blank(data)
    for at in (0, 1, 99):
        data = bytes(at) + b"\1" + bytes(99 - at)
        assert not is_blank(data)
        assert not is_blank(data, at)
        assert is_blank(data, at + 1)
        assert is_blank(data, 1000)


# -- commands -----------------------------------------------------------------------------------


def test_golden_command():
    assert encode_command(OPERATIONS) == COMMAND
    assert decode_command(COMMAND) == OPERATIONS


def test_a_stamp_tells_whose_a_command_is_and_changes_nothing_else():
    stamped = stamp_command(COMMAND, 0x0102, 2**64 - 1)
    assert stamped == COMMAND[:5] + b"\x02\x01" + bytes(6) + b"\xff" * 8 + COMMAND[21:]
    assert command_stamp(stamped) == (0x0102, 2**64 - 1)
    assert command_stamp(COMMAND) == (0, 0)
    assert decode_command(stamped) == OPERATIONS
    for cut in (b"", COMMAND[:20]):
        with pytest.raises(DataDamaged):
            command_stamp(cut)
        with pytest.raises(DataDamaged):
            stamp_command(cut, 1, 1)


def test_what_a_decoded_operation_says():
    get, put, _, by_value, by_version, delete, _ = decode_command(COMMAND)
    assert (get.kind, get.flags, get.key, get.value) == (OPERATION_GET, 0, b"a", None)
    assert (put.kind, put.flags, put.value) == (OPERATION_SET, FLAG_IF_ABSENT, b'{"id":0}')
    assert (by_value.kind, by_value.flags) == (OPERATION_CAS, 0)
    assert (by_value.value, by_value.old_value, by_value.old_version) == (b"2", b"null", 0)
    assert (by_version.flags, by_version.old_value) == (FLAG_BY_VERSION, None)
    assert by_version.old_version == 258
    assert (delete.kind, delete.flags) == (OPERATION_DELETE, FLAG_ERROR_IF_NOT_KEY)


def test_a_command_costs_what_it_may_store():
    overhead = limits.ENTRY_OVERHEAD_BYTES
    assert command_cost(COMMAND) == (3 + 8) + (1 + 1) + (1 + 1) + (1 + 2) + 4 * overhead
    assert command_cost(encode_command([Operation.get(b"a"), Operation.delete(b"b")])) == 0


keys = st.binary(min_size=1, max_size=40)
texts = st.binary(min_size=1, max_size=60)
operations = st.one_of(
    st.builds(Operation.get, keys),
    st.builds(Operation.set, keys, texts, if_absent=st.booleans()),
    st.builds(Operation.cas, keys, texts, old_value=texts),
    st.builds(Operation.cas, keys, texts, old_version=st.integers(0, 2**64 - 1)),
    st.builds(Operation.delete, keys, error_if_not_key=st.booleans()),
)


@soaking
@given(st.lists(operations, min_size=1, max_size=12))
def test_commands_come_back_as_they_were(given_operations):
    assert decode_command(encode_command(given_operations)) == given_operations


def test_limits_of_a_command_are_inclusive():
    key = b"k" * limits.KEY_BYTES_MAX
    value = b"1" * limits.VALUE_BYTES_MAX
    many = [Operation.get(b"k")] * limits.OPS_PER_BATCH_MAX
    largest = [Operation.set(key, value), Operation.cas(key, value, old_value=value)]
    for accepted in (largest, many):
        assert decode_command(encode_command(accepted)) == accepted
    for refused in (
        [],
        [*many, Operation.get(b"k")],
        [Operation.get(key + b"k")],
        [Operation.get(b"")],
        [Operation.set(b"k", value + b"1")],
        [Operation.set(b"k", b"")],
        [Operation.cas(b"k", b"1", old_value=value + b"1")],
        [Operation.cas(b"k", b"1", old_value=b"")],
        [Operation.set(b"k", value)] * 16,  # each within its limit, but no record holds them all
    ):
        with pytest.raises(ValueError, match=r"too_large|invalid"):
            encode_command(refused)


def test_a_cas_compares_with_exactly_one_thing():
    for given_arguments in ({}, {"old_value": b"1", "old_version": 1}):
        with pytest.raises(ValueError, match="either with a value or with a version"):
            Operation.cas(b"k", b"1", **given_arguments)


def test_an_operation_has_no_other_maker():
    with pytest.raises(TypeError, match=r"Operation\.get"):
        Operation()


def with_byte(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


SINGLE_SET = encode_command([Operation.set(b"k", b"1")])
#: Where a command's first operation begins.
AT = 21


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", DataDamaged, "operation 0"),
        (with_byte(COMMAND, 0, 2), StartError, "version"),
        (with_byte(SINGLE_SET, AT + 0, 5), StartError, "type"),
        (with_byte(SINGLE_SET, AT + 0, 0), StartError, "type"),
        (with_byte(SINGLE_SET, AT + 1, 8), StartError, "type"),  # a flag that nothing here has
        (with_byte(SINGLE_SET, 1, 2), DataDamaged, "operation 1"),  # says two, holds one
        (with_byte(SINGLE_SET, 1, 0), DataDamaged, "operation 0"),
        (with_byte(SINGLE_SET, AT + 1, 2), DataDamaged, "operation 0"),  # a flag that set has not
        (with_byte(SINGLE_SET, AT + 2, 0), DataDamaged, "operation 0"),  # no key
        (with_byte(SINGLE_SET, AT + 4, 0), DataDamaged, "operation 0"),  # no value
        (with_byte(SINGLE_SET, AT + 4, 2), DataDamaged, "operation 0"),  # a value past the end
        (with_byte(SINGLE_SET, AT + 7, 255), DataDamaged, "operation 0"),  # 4 GB of value
        (SINGLE_SET + b"\0", DataDamaged, "operation 1"),
    ],
)
def test_a_command_that_cannot_be_is_refused(data, error, words):
    with pytest.raises(StartError, match=words) as caught:
        decode_command(data)
    assert type(caught.value) is error
    with pytest.raises(error):
        command_cost(data)


def test_a_command_cut_anywhere_is_damaged():
    for length in range(len(COMMAND)):
        with pytest.raises(DataDamaged):
            decode_command(COMMAND[:length])


# -- founding and META --------------------------------------------------------------------------


def test_golden_founding():
    assert encode_founding(0xC1, SEED, MEMBERS) == FOUNDING
    founding = decode_founding(FOUNDING)
    assert (founding.cluster_id, founding.hash_seed) == (0xC1, SEED)
    assert founding.members == tuple(MEMBERS)


def test_a_founding_entry_cut_anywhere_is_damaged():
    for length in range(len(FOUNDING)):
        with pytest.raises(DataDamaged):
            decode_founding(FOUNDING[:length])
    with pytest.raises(DataDamaged):
        decode_founding(FOUNDING + b"\0")


def test_a_founding_entry_that_cannot_be_is_refused():
    with pytest.raises(StartError, match="version") as caught:
        decode_founding(with_byte(FOUNDING, 0, 2))
    assert not isinstance(caught.value, DataDamaged)
    for damaged in (
        with_byte(FOUNDING, 25, 0),  # no members
        with_byte(FOUNDING, 35, 0),  # no address
        with_byte(FOUNDING, 37, 0xFF),  # an address that is no UTF-8
    ):
        with pytest.raises(DataDamaged):
            decode_founding(damaged)


def test_limits_of_a_founding_entry():
    longest = "h" * ADDRESS_BYTES_MAX
    assert decode_founding(encode_founding(1, SEED, [(1, longest)])).members == ((1, longest),)
    for seed, members in (
        (SEED[1:], MEMBERS),
        (SEED, []),
        (SEED, [(1, "")]),
        (SEED, [(1, longest + "h")]),
        (SEED, [(1, "a:1")] * 65536),
    ):
        with pytest.raises(ValueError, match=r"hash seed|members|address"):
            encode_founding(1, seed, members)


def test_golden_meta():
    assert encode_meta(0x0123456789ABCDEF, begun=True) == META
    assert decode_meta(META) == (0x0123456789ABCDEF, True)


@pytest.mark.parametrize("begun", [False, True])
def test_meta_is_the_picture(begun):
    preamble = b"SEAFOAMM" + struct.pack("<I", 1)
    body = struct.pack("<QI", 7, begun)
    meta = (preamble + struct.pack("<I", crc32c_portable(preamble))
            + body + struct.pack("<I", crc32c_portable(body)))
    assert encode_meta(7, begun) == meta
    assert decode_meta(meta) == (7, begun)


def test_a_log_has_begun_or_not():
    body = struct.pack("<QI", 7, 2)
    with pytest.raises(DataDamaged):
        decode_meta(META[:16] + body + struct.pack("<I", crc32c_portable(body)))


def test_any_flip_in_meta_is_damage():
    for bit in range(META_BYTES * 8):
        flipped = with_byte(META, bit // 8, META[bit // 8] ^ 1 << bit % 8)
        with pytest.raises(DataDamaged):
            decode_meta(flipped)


def test_meta_of_another_version_is_refused_by_its_number():
    preamble = b"SEAFOAMM" + struct.pack("<I", 7)
    later = preamble + struct.pack("<I", crc32c_portable(preamble)) + b"what version 7 has to say"
    with pytest.raises(StartError, match="version 7") as caught:
        decode_meta(later)
    assert not isinstance(caught.value, DataDamaged)


def test_meta_of_another_length_is_damage():
    for data in (b"", META[:-1], META + b"\0"):
        with pytest.raises(DataDamaged):
            decode_meta(data)


# -- garbage ------------------------------------------------------------------------------------


@st.composite
def spoiled(draw, whole: bytes) -> bytes:
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        if draw(st.booleans()):
            data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
        else:
            data[at : at + 4] = struct.pack("<I", draw(st.integers(0, 2**32 - 1)))
    return bytes(data)


@pytest.mark.parametrize("decode", [decode_command, command_cost, decode_founding, decode_meta])
@soaking
@given(data=st.one_of(st.binary(max_size=200), spoiled(COMMAND), spoiled(FOUNDING), spoiled(META)))
@example(data=b"\x01\xff\xff\xff\xff")
def test_garbage_is_accepted_or_our_error(decode, data):
    try:
        decode(data)
    except StartError:
        return


@soaking
@given(data=st.one_of(spoiled(COMMAND), spoiled(SINGLE_SET)))
def test_what_a_decoder_accepts_encodes_to_the_same_bytes(data):
    try:
        decoded = decode_command(data)
    except StartError:
        return
    # Decoding passes over the stamp, encoding leaves it empty.
    assert stamp_command(encode_command(decoded), *command_stamp(data)) == data
