"""A snapshot's bytes: there and back, in any pieces, and nothing else is believed."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gil import ran_inside
from seafoam._core import limits, wire_snapshot
from seafoam._core.pack import crc32c
from seafoam._core.wire_snapshot import (
    SNAPSHOT_PAYLOAD_BYTES_MAX,
    SnapshotCheck,
    SnapshotHead,
    encode_head,
    encode_tail,
)
from seafoam.errors import DataDamaged, StartError
from snapshot_support import (
    DATA,
    HEAD,
    PREAMBLE,
    TAIL,
    Item,
    block,
    data_block,
    head_block,
    items_of,
    payload_of,
    snapshot_file,
    tail_block,
)

ITEMS: list[list[Item]] = [
    [(b"a", b"1", 3), ("größe".encode(), b'{"x":[1,2]}', 1000)],
    [(b"k" * 1024, b"", 0)],
]
SMALL = snapshot_file(ITEMS)
#: Where SMALL's blocks begin, and where it ends.
STARTS = [16, 16 + 16 + 47]
STARTS += [STARTS[1] + len(data_block(1, ITEMS[0]))]
STARTS += [STARTS[2] + len(data_block(2, ITEMS[1]))]


def read(data: bytes, piece_bytes: int = 1 << 20) -> tuple[SnapshotCheck, list[list[Item]]]:
    blocks: list[list[Item]] = []
    check = SnapshotCheck(lambda payload: blocks.append(items_of(payload)))
    for at in range(0, len(data), piece_bytes):
        check.feed(data[at:at + piece_bytes])
    check.finish()
    return check, blocks


def damage(data: bytes) -> str:
    with pytest.raises(DataDamaged) as caught:
        read(data)
    return str(caught.value)


def test_the_head_and_the_tail_are_as_drawn() -> None:
    head = SnapshotHead(0xf11e, 1000, 7, b"founding", b"members")
    assert encode_head(head) == PREAMBLE + head_block(0xf11e, 1000, 7, b"founding", b"members")
    assert encode_tail(3, 5, 0xf11e) == tail_block(3, 5, 0xf11e)


def test_the_figures_are_as_drawn() -> None:
    assert wire_snapshot.SNAPSHOT_VERSION == 1
    assert (wire_snapshot.SNAPSHOT_PREAMBLE_BYTES, wire_snapshot.SNAPSHOT_BLOCK_HEADER_BYTES,
            wire_snapshot.SNAPSHOT_ENTRY_HEADER_BYTES) == (16, 16, 14)
    assert (wire_snapshot.SNAPSHOT_BLOCK_HEAD, wire_snapshot.SNAPSHOT_BLOCK_DATA,
            wire_snapshot.SNAPSHOT_BLOCK_TAIL) == (HEAD, DATA, TAIL)
    assert limits.SNAPSHOT_BLOCK_BYTES - 1 + 14 + 1024 + (1 << 20) == SNAPSHOT_PAYLOAD_BYTES_MAX


def test_a_head_is_a_plain_record() -> None:
    head = SnapshotHead(1, 2, 3, b"f", b"m")
    assert repr(head) == ("SnapshotHead(file_id=0000000000000001 index=2 term=3 founding=b'f' "
                          "membership=b'm')")
    assert head == SnapshotHead(1, 2, 3, b"f", b"m") != SnapshotHead(1, 2, 3, b"f", b"n")
    assert head != "head"
    with pytest.raises(AttributeError):
        head.index = 5


def test_a_head_has_a_bound_and_reaches_it() -> None:
    most = SNAPSHOT_PAYLOAD_BYTES_MAX - 32
    head = SnapshotHead(1, 2, 3, b"f" * (most - 1), b"m")
    check, _ = read(encode_head(head) + encode_tail(1, 0, 1))
    assert check.head == head
    with pytest.raises(ValueError, match="founding and membership"):
        encode_head(SnapshotHead(1, 2, 3, b"f" * most, b"m"))


@pytest.mark.parametrize("piece_bytes", [1, 2, 15, 16, 17, 100, 1 << 20])
def test_what_is_written_is_read_again_in_any_pieces(piece_bytes: int) -> None:
    check, blocks = read(SMALL, piece_bytes)
    assert blocks == ITEMS and check.key_count == 3
    assert check.head == SnapshotHead(0xf11e, 1000, 7, b"founding", b"members")


def test_the_head_is_known_once_it_has_come_and_blocks_once_they_are_whole() -> None:
    blocks: list[bytes] = []
    check = SnapshotCheck(blocks.append)
    check.feed(SMALL[:STARTS[1] - 1])
    assert check.head is None
    check.feed(SMALL[STARTS[1] - 1:STARTS[2] - 1])
    assert check.head is not None and blocks == [] and check.key_count == 0
    check.feed(SMALL[STARTS[2] - 1:STARTS[3]])
    assert blocks == [payload_of(items) for items in ITEMS] and check.key_count == 3


def test_an_empty_state_is_a_head_and_a_tail() -> None:
    check, blocks = read(snapshot_file([]))
    assert (check.key_count, blocks) == (0, [])


def test_without_a_listener_it_only_checks() -> None:
    check = SnapshotCheck()
    check.feed(SMALL)
    check.finish()
    assert check.key_count == 3


def test_every_flipped_bit_is_found() -> None:
    for at in range(len(SMALL)):
        for bit in range(8):
            data = bytearray(SMALL)
            data[at] ^= 1 << bit
            begin = max([0, *(start for start in STARTS if start <= at)])
            assert f"offset {begin}:" in damage(bytes(data))


def test_every_cut_is_found() -> None:
    for end in range(len(SMALL)):
        begin = max([0, *(start for start in STARTS if start <= end)])
        assert f"offset {begin}:" in damage(SMALL[:end])


def test_nothing_may_stand_behind_the_tail() -> None:
    assert f"offset {len(SMALL)}:" in damage(SMALL + b"\0")
    assert f"offset {len(SMALL)}:" in damage(SMALL + SMALL)


def test_a_later_version_is_named_as_that() -> None:
    later = b"SEAFOAMS" + struct.pack("<I", 2)
    later += struct.pack("<I", crc32c(later))
    with pytest.raises(StartError, match="version 2") as caught:
        read(later + SMALL[16:])
    assert not isinstance(caught.value, DataDamaged)


FIRST = head_block(5, 1000, 7, b"", b"")
ONE = data_block(1, [(b"a", b"1", 1)])


@pytest.mark.parametrize("blocks", [
    [FIRST, tail_block(1, 0, 6)],                                    # another file's tail
    [FIRST, tail_block(1, 1, 5)],                                    # a key is missing
    [FIRST, ONE, tail_block(2, 0, 5)],
    [FIRST, ONE, ONE, tail_block(3, 2, 5)],                          # a block comes twice
    [FIRST, data_block(2, [(b"a", b"1", 1)]), tail_block(2, 1, 5)],  # a block is missing
    [ONE, tail_block(2, 1, 5)],                                      # no head
    [data_block(0, [(b"a", b"1", 1)]), tail_block(1, 1, 5)],
    [tail_block(0, 0, 5)],
    [FIRST, block(HEAD, 1, FIRST[16:]), tail_block(2, 0, 5)],        # two heads
    [FIRST, block(DATA, 1, b""), tail_block(2, 0, 5)],               # no block is empty
    [FIRST, block(4, 1, b"x"), tail_block(2, 0, 5)],                 # no such type
    [FIRST, block(0, 1, b"x"), tail_block(2, 0, 5)],
    [FIRST, block(TAIL, 1, struct.pack("<QQ", 0, 5) + b"\0")],
    [FIRST, block(TAIL, 1, struct.pack("<QQ", 0, 5)[:-1])],
    [block(HEAD, 0, FIRST[16:] + b"\0"), tail_block(1, 0, 5)],
    [block(HEAD, 0, FIRST[16:-1]), tail_block(1, 0, 5)],
    [block(HEAD, 0, struct.pack("<QQQII", 5, 1, 1, 2**32 - 1, 0)), tail_block(1, 0, 5)],
    [block(HEAD, 0, struct.pack("<QQQII", 5, 1, 1, 1, 0)), tail_block(1, 0, 5)],
    [block(HEAD, 0, struct.pack("<QQQII", 5, 1, 1, 0, 2**32 - 1)), tail_block(1, 0, 5)],
])
def test_blocks_that_do_not_make_a_file(blocks: list[bytes]) -> None:
    damage(PREAMBLE + b"".join(blocks))


@pytest.mark.parametrize("payload", [
    payload_of([(b"", b"1", 1)]),                           # an empty key
    payload_of([(b"k" * 1025, b"1", 1)]),
    payload_of([(b"k", b"1" * (2**20 + 1), 1)]),
    payload_of([(b"k", b"1", 1001)]),                       # of an index the snapshot has not
    payload_of([(b"k", b"1", 1)]) + b"\0",                  # cut within an entry's lengths
    payload_of([(b"k", b"1", 1)])[:-1],                     # within its bytes
    struct.pack("<HIQ", 1, 2**32 - 1, 1) + b"k",
    struct.pack("<HIQ", 2**16 - 1, 0, 1) + b"k",
])
def test_entries_that_cannot_be(payload: bytes) -> None:
    damage(PREAMBLE + FIRST + block(DATA, 1, payload) + tail_block(2, 1, 5))


def test_the_largest_block_is_taken_and_nothing_larger_is_waited_for() -> None:
    """A length that cannot be is refused when it is read, not when so many bytes have come."""
    filler = (b"f", b"1" * (limits.SNAPSHOT_BLOCK_BYTES - 1 - 15), 1)
    items = [filler, (b"k" * 1024, b"v" * (1 << 20), 1)]
    assert len(payload_of(items)) == SNAPSHOT_PAYLOAD_BYTES_MAX
    assert read(snapshot_file([items]))[1] == [items]
    check = SnapshotCheck()
    check.feed(PREAMBLE + FIRST)
    with pytest.raises(DataDamaged):
        check.feed(struct.pack("<IIB3xI", 0, SNAPSHOT_PAYLOAD_BYTES_MAX + 1, DATA, 1))


def test_a_check_that_failed_stays_failed() -> None:
    blocks: list[bytes] = []
    check = SnapshotCheck(blocks.append)
    flipped = SMALL[:STARTS[1] + 40] + b"\xff" + SMALL[STARTS[1] + 41:]
    for data in (flipped, SMALL, b""):
        with pytest.raises(DataDamaged, match=f"offset {STARTS[1]}:"):
            check.feed(data)
    with pytest.raises(DataDamaged, match=f"offset {STARTS[1]}:"):
        check.finish()
    assert blocks == []


def test_what_a_listener_raises_comes_through() -> None:
    def refuse(payload: bytes) -> None:
        raise KeyError("no")

    with pytest.raises(KeyError, match="no"):
        SnapshotCheck(refuse).feed(SMALL)


def test_another_thread_runs_while_a_block_is_checked() -> None:
    data = snapshot_file([[(b"k", b"v" * (1 << 20), 1)]] * 8)
    assert ran_inside(lambda: SnapshotCheck().feed(data), 200)


KEYS = st.binary(min_size=1, max_size=40)
BLOCKS = st.lists(st.lists(st.tuples(KEYS, st.binary(max_size=60), st.integers(0, 1000)),
                           min_size=1, max_size=5), max_size=4)


@settings(max_examples=300, deadline=None)
@given(BLOCKS, st.integers(1, 200), st.integers(0, 2**64 - 1))
def test_any_items_in_any_pieces(blocks: list[list[Item]], piece_bytes: int, file_id: int) -> None:
    check, found = read(snapshot_file(blocks, file_id=file_id), piece_bytes)
    assert found == blocks and check.head is not None and check.head.file_id == file_id


def test_anything_else_is_our_error_and_nothing_worse() -> None:
    """Bytes that were changed and then given right checksums: only sense can refuse them."""
    luck = random.Random(5)
    refused = 0
    for _ in range(20_000):
        payload = bytearray(payload_of(luck.choice(ITEMS)))
        for _ in range(luck.randrange(1, 4)):
            payload[luck.randrange(min(len(payload), 40))] = luck.randrange(256)
        data = PREAMBLE + FIRST + block(DATA, 1, bytes(payload)) + tail_block(2, 1, 5)
        try:
            _, blocks = read(data)
        except DataDamaged:
            refused += 1
            continue
        assert payload_of(blocks[0]) == bytes(payload)
    assert 0 < refused < 20_000


#: A whole file, byte for byte: what was once written must be readable for ever.
PINNED = bytes.fromhex("""
    534541464f414d53010000003d376d0dbe277b702f0000000100000000000000
    08070605040302010900000000000000020000000000000008000000666f756e
    64696e67070000006d656d6265727376ffb11b10000000020000000100000001
    000100000003000000000000006131324d4c0f10000000030000000200000001
    000000000000000807060504030201
""")


def test_the_bytes_never_change() -> None:
    assert snapshot_file([[(b"a", b"1", 3)]], file_id=0x0102030405060708, index=9,
                         term=2) == PINNED
    assert read(PINNED)[1] == [[(b"a", b"1", 3)]]
