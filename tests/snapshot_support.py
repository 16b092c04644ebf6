"""A snapshot's bytes, made and taken apart a second time, from the pictures in wire_snapshot.pxd.

Nothing here comes from the module under test, so that the two can disagree.
"""

from __future__ import annotations

import struct

from seafoam._core.pack import crc32c

#: (key, value, version), as a snapshot has them.
Item = tuple[bytes, bytes, int]

PREAMBLE = b"SEAFOAMS" + struct.pack("<I", 1)
PREAMBLE += struct.pack("<I", crc32c(PREAMBLE))
HEAD, DATA, TAIL = 1, 2, 3


def block(kind: int, sequence: int, payload: bytes) -> bytes:
    """A block as it should be, whatever is in it."""
    rest = struct.pack("<IB3xI", len(payload), kind, sequence) + payload
    return struct.pack("<I", crc32c(rest)) + rest


def head_block(file_id: int, index: int, term: int, founding: bytes, membership: bytes) -> bytes:
    return block(HEAD, 0, (
        struct.pack("<QQQI", file_id, index, term, len(founding)) + founding
        + struct.pack("<I", len(membership)) + membership))


def payload_of(items: list[Item]) -> bytes:
    """What a DATA block of these items holds."""
    return b"".join(struct.pack("<HIQ", len(key), len(value), version) + key + value
                    for key, value, version in items)


def data_block(sequence: int, items: list[Item]) -> bytes:
    return block(DATA, sequence, payload_of(items))


def tail_block(sequence: int, key_count: int, file_id: int) -> bytes:
    return block(TAIL, sequence, struct.pack("<QQ", key_count, file_id))


def items_of(payload: bytes) -> list[Item]:
    """The items of a DATA block's payload, which must end with the last one."""
    items = []
    at = 0
    while at < len(payload):
        key_bytes, value_bytes, version = struct.unpack_from("<HIQ", payload, at)
        at += 14
        items.append((payload[at:at + key_bytes],
                      payload[at + key_bytes:at + key_bytes + value_bytes], version))
        at += key_bytes + value_bytes
    assert at == len(payload)
    return items


def snapshot_file(blocks: list[list[Item]], *, file_id: int = 0xf11e, index: int = 1000,
                  term: int = 7) -> bytes:
    """A whole snapshot with these DATA blocks."""
    parts = [PREAMBLE, head_block(file_id, index, term, b"founding", b"members")]
    parts += [data_block(sequence, items) for sequence, items in enumerate(blocks, 1)]
    parts.append(tail_block(len(blocks) + 1, sum(map(len, blocks)), file_id))
    return b"".join(parts)
