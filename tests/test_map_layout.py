"""The map's layout: the hash, the arithmetic of buckets and tags, what `attach` refuses."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
import sys

import pytest

from seafoam._core.map import MapReader, MapWriter
from seafoam._core.map_layout import bucket_of, hash_of, slots_with_tag

MASK = (1 << 64) - 1


def siphash13(seed: bytes, data: bytes) -> int:
    """SipHash-1-3, written down from the paper with one and three rounds."""
    k0, k1 = struct.unpack("<QQ", seed)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D,
         k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x: int, b: int) -> int:
        return ((x << b) | (x >> (64 - b))) & MASK

    def one_round() -> None:
        v[0] = (v[0] + v[1]) & MASK
        v[1] = rotate(v[1], 13) ^ v[0]
        v[0] = rotate(v[0], 32)
        v[2] = (v[2] + v[3]) & MASK
        v[3] = rotate(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & MASK
        v[3] = rotate(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & MASK
        v[1] = rotate(v[1], 17) ^ v[2]
        v[2] = rotate(v[2], 32)

    whole = len(data) & ~7
    last = data[whole:].ljust(7, b"\0") + bytes([len(data) & 255])
    for word in struct.unpack(f"<{whole // 8 + 1}Q", data[:whole] + last):
        v[3] ^= word
        one_round()
        v[0] ^= word
    v[2] ^= 255
    for _ in range(3):
        one_round()
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def test_the_hash_is_siphash_1_3() -> None:
    luck = random.Random(1)
    for length in [*range(70), 255, 256, 1024]:
        seed, data = luck.randbytes(16), luck.randbytes(length)
        assert hash_of(seed, data) == siphash13(seed, data)


@pytest.mark.skipif(sys.hash_info.algorithm != "siphash13", reason="this Python hashes otherwise")
def test_the_hash_is_what_another_implementation_gives() -> None:
    """CPython hashes bytes with SipHash-1-3 too; with PYTHONHASHSEED=0 under a zero seed."""
    told = subprocess.run(
        [sys.executable, "-c",
         "print(*(hash(bytes(range(n))) & (1 << 64) - 1 for n in range(1, 100)))"],
        env={**os.environ, "PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True,
    ).stdout.split()
    assert [hash_of(bytes(16), bytes(range(n))) for n in range(1, 100)] == [int(x) for x in told]


def test_a_seed_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        hash_of(bytes(15), b"")


def test_tags_are_matched_exactly() -> None:
    """Bytes beside a match must not disturb it: the neighbours of zero bytes are the hard case."""
    luck = random.Random(2)
    for _ in range(5000):
        tags = bytes(luck.choice([0, 1, 2, 127, 128, 129, 254, 255]) for _ in range(10))
        for tag in (0, 1, 127, 128, 255):
            expected = {at for at, byte in enumerate(tags) if byte == tag}
            found = slots_with_tag(tags, tag)
            assert set(found) == expected and len(found) == len(expected)
    with pytest.raises(ValueError):
        slots_with_tag(bytes(9), 0)


def test_linear_hashing_moves_half_of_one_bucket_at_a_time() -> None:
    luck = random.Random(3)
    hashes = [luck.getrandbits(64) for _ in range(300)]
    for count in range(1, 200):
        parent = count - (1 << count.bit_length() - 1)
        for value in hashes:
            before, after = bucket_of(value, count), bucket_of(value, count + 1)
            assert before < count
            assert after == before or (before == parent and after == count)
    with pytest.raises(ValueError):
        bucket_of(0, 0)


# --- what attach refuses ---


def header_of_a_map() -> tuple[bytearray, int]:
    """The first page of a real map, and its segment's size."""
    writer = MapWriter(bytes(16), max_logical_bytes=1 << 20, start_id=1)
    descriptor = writer.reader_fd()
    page = bytearray(os.pread(descriptor, 4096, 0))
    os.close(descriptor)
    writer.close()
    return page, writer.segment.size_bytes


def attach_to(page: bytes, size: int) -> None:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.pwrite(descriptor, page, 0)
        os.ftruncate(descriptor, size)
        fcntl.fcntl(descriptor, 1033, 0x0002 | 0x0004)
        MapReader.attach(descriptor)
    finally:
        os.close(descriptor)


pytestmark_linux = pytest.mark.skipif(sys.platform != "linux", reason="memfd is Linux's")


@pytestmark_linux
def test_a_header_that_is_whole_is_taken() -> None:
    attach_to(*header_of_a_map())


@pytestmark_linux
def test_garbage_and_foreign_memory_are_refused() -> None:
    with pytest.raises(ValueError, match="holds no Seafoam map"):
        attach_to(bytes(4096), 1 << 20)
    with pytest.raises(ValueError, match="holds no Seafoam map"):
        attach_to(random.Random(4).randbytes(4096), 1 << 20)


@pytestmark_linux
def test_another_layout_version_is_named() -> None:
    page, size = header_of_a_map()
    page[8:12] = struct.pack("<I", 7)
    with pytest.raises(ValueError, match=r"has layout version 7; this program reads version \d+"):
        attach_to(page, size)


@pytestmark_linux
@pytest.mark.parametrize("grown", [-4096, 4096])
def test_a_segment_of_another_size_than_its_header_says_is_refused(grown: int) -> None:
    page, size = header_of_a_map()
    with pytest.raises(ValueError, match="contradicts itself"):
        attach_to(page, size + grown)


@pytestmark_linux
def test_no_header_with_one_word_changed_leads_out_of_the_segment() -> None:
    """Whatever stands in the constant part: refused, or a reader that stays within the mapping."""
    page, size = header_of_a_map()
    names = {12: "unit shift", 40: "page table", 48: "buckets", 56: "overflow", 64: "arena",
             136: "owner's word"}
    for offset, name in names.items():
        for value in (0, 1, 4096, size, size + 4096, 1 << 40, MASK):
            changed = bytearray(page)
            if offset == 12:
                changed[12:16] = struct.pack("<I", value & 0xFFFFFFFF)
            else:
                changed[offset:offset + 8] = struct.pack("<Q", value)
            if changed == page:
                continue
            if name == "owner's word" and value < 64:
                attach_to(changed, size)
                continue
            with pytest.raises(ValueError, match="contradicts itself"):
                attach_to(changed, size)


@pytestmark_linux
def test_a_size_that_is_a_page_short_of_a_header_is_refused() -> None:
    page, _ = header_of_a_map()
    with pytest.raises(ValueError):
        attach_to(page[:100], 100)
