"""The membership as a snapshot holds it: the members at its index, as bytes.

Owns this format. Must never trust a length or a count, and never give back a membership that no
log could have led to.

    0         1                  9        11      13
    +---------+------------------+--------+-------+--------+-----+---------------+------------+---
    | version | configured index | target | count | member | ... | removed count | removed id | ...
    +---------+------------------+--------+-------+--------+-----+---------------+------------+---
     u8        u64                u16      u16                    u32             u64

    member: node id u64, role u8 (1 voter, 2 learner), address bytes u16, the address in UTF-8

The configured index is that of the entry whose configuration is in force. Integers are
little-endian; ids ascend. The file around it has the checksum.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from seafoam._core.wire import ADDRESS_BYTES_MAX
from seafoam.errors import DataDamaged, StartError

__all__ = ["ROLE_LEARNER", "ROLE_VOTER", "MembershipRecord", "decode_membership",
           "encode_membership"]

MEMBERSHIP_VERSION = 1
ROLE_VOTER, ROLE_LEARNER = 1, 2

_HEAD = struct.Struct("<BQHH")
_MEMBER = struct.Struct("<QBH")
_COUNT = struct.Struct("<I")
_ID = struct.Struct("<Q")


class MembershipRecord(NamedTuple):
    """Who is in the cluster: `members` are (node id, role, address)."""

    configured_index: int
    target_voters: int
    members: list[tuple[int, int, str]]
    removed_ids: list[int]


def encode_membership(record: MembershipRecord) -> bytes:
    """The bytes of a membership."""
    parts = [_HEAD.pack(MEMBERSHIP_VERSION, record.configured_index, record.target_voters,
                        len(record.members))]
    for node_id, role, address in sorted(record.members):
        text = address.encode()
        parts.append(_MEMBER.pack(node_id, role, len(text)) + text)
    parts.append(_COUNT.pack(len(record.removed_ids)))
    parts += [_ID.pack(node_id) for node_id in sorted(record.removed_ids)]
    return b"".join(parts)


def decode_membership(data: bytes) -> MembershipRecord:
    """The membership that these bytes spell.

    DataDamaged where they cannot, StartError where a later Seafoam wrote them.
    """
    if data[:1] and data[0] != MEMBERSHIP_VERSION:
        raise StartError(f"the snapshot's membership has version {data[0]}, and this Seafoam "
                         f"knows version {MEMBERSHIP_VERSION}: a later one wrote it")
    try:
        record = _decode(data)
    except (struct.error, UnicodeDecodeError):
        raise _damaged("it is cut short or is no text") from None
    ids = [node_id for node_id, _, _ in record.members]
    voters = [role for _, role, _ in record.members if role == ROLE_VOTER]
    all_ids = ids + record.removed_ids
    if not voters or 0 in all_ids or len(set(all_ids)) != len(all_ids):
        raise _damaged("no log could have led to it")
    if encode_membership(record) != data:
        raise _damaged("it is not in the form in which it is written")
    return record


def _decode(data: bytes) -> MembershipRecord:
    _, configured_index, target_voters, count = _HEAD.unpack_from(data)
    at = _HEAD.size
    members = []
    for _ in range(count):
        node_id, role, address_bytes = _MEMBER.unpack_from(data, at)
        at += _MEMBER.size
        if role not in (ROLE_VOTER, ROLE_LEARNER) or not 0 < address_bytes <= ADDRESS_BYTES_MAX:
            raise _damaged(f"member {node_id:016x} has role {role}, {address_bytes} bytes of "
                           f"address")
        members.append((node_id, role, data[at:at + address_bytes].decode()))
        at += address_bytes
    (removed_count,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    if at + removed_count * _ID.size != len(data):
        raise _damaged("its length is wrong")
    removed_ids = [node_id for (node_id,) in _ID.iter_unpack(data[at:])]
    return MembershipRecord(configured_index, target_voters, members, removed_ids)


def _damaged(reason: str) -> DataDamaged:
    return DataDamaged(f"the snapshot's membership is damaged: {reason}")
