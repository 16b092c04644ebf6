"""CRC32C against the published vectors, and the two ways of computing it against each other."""

from __future__ import annotations

import random

import pytest

from seafoam._core.pack import crc32c, crc32c_portable

#: RFC 3720, appendix B.4; the bytes there are in the order of transmission.
ISCSI_READ = bytes.fromhex(
    "01c00000000000000000000000000000140000000000040000000014000000182800000000000000"
    "0200000000000000"
)
VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (ISCSI_READ, 0xD9963A56),
    (b"123456789", 0xE3069283),
    (b"", 0),
]


@pytest.mark.parametrize("checksum", [crc32c, crc32c_portable])
@pytest.mark.parametrize(("data", "expected"), VECTORS)
def test_the_published_vectors(checksum, data, expected):
    assert checksum(data) == expected


def test_both_ways_agree_at_every_length_and_alignment():
    data = random.Random(1).randbytes(4096)
    for begin in range(9):
        for length in [*range(64), 255, 256, 257, 1000, 4000]:
            piece = memoryview(data)[begin : begin + length]
            assert crc32c(piece) == crc32c_portable(piece)


@pytest.mark.parametrize("checksum", [crc32c, crc32c_portable])
def test_a_checksum_goes_on_from_the_one_before(checksum):
    data = random.Random(2).randbytes(300)
    for cut in range(len(data) + 1):
        assert checksum(data[cut:], checksum(data[:cut])) == checksum(data)


def test_every_single_bit_matters():
    data = random.Random(3).randbytes(40)
    whole = crc32c(data)
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert crc32c(flipped) != whole
