"""The bytes of a change of membership; wire_change.pxd draws them."""

from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t

from seafoam._core.pack cimport get_u8, get_u16, get_u64, put_u8, put_u16, put_u64
from seafoam._core.wire cimport ADDRESS_BYTES_MAX

from seafoam.errors import DataDamaged, StartError

cdef enum:
    HEAD_BYTES = 3
    CHANGE_HEAD_BYTES = 11
    KIND_FIRST = 1
    KIND_REMOVE = 3
    KIND_LAST = 4


cdef class MemberChange:
    """One member that joins, leaves or moves."""

    def __cinit__(self, int kind, uint64_t node_id, str address not None):
        self.kind = kind
        self.node_id = node_id
        self.address = address

    def __eq__(self, other):
        cdef MemberChange that
        if not isinstance(other, MemberChange):
            return NotImplemented
        that = other
        return (self.kind == that.kind and self.node_id == that.node_id
                and self.address == that.address)

    __hash__ = None

    def __repr__(self):
        return f"MemberChange(kind={self.kind} node={self.node_id:x} address={self.address})"


cdef bint _is_well_formed(int kind, uint64_t node_id, size_t address_bytes) noexcept nogil:
    return (KIND_FIRST <= kind <= KIND_LAST and node_id != 0
            and (address_bytes == 0) == (kind == KIND_REMOVE)
            and address_bytes <= ADDRESS_BYTES_MAX)


def encode_changes(list changes not None):
    """The data of an entry that makes these changes, 1 to CHANGES_MAX of them.

    ValueError where a kind is unknown, an id 0, or an address missing, too long or superfluous.
    """
    cdef MemberChange change
    cdef bytes address
    cdef uint8_t head[CHANGE_HEAD_BYTES]
    if not 1 <= len(changes) <= CHANGES_MAX:
        raise ValueError(f"an entry holds 1 to {CHANGES_MAX} changes, not {len(changes)}")
    put_u8(head, CHANGE_VERSION)
    put_u16(head + 1, <unsigned short>len(changes))
    data = bytearray((<const char*>head)[:HEAD_BYTES])
    for change in changes:
        address = change.address.encode()
        if not _is_well_formed(change.kind, change.node_id, len(address)):
            raise ValueError(f"{change!r} cannot be written")
        put_u8(head, <uint8_t>change.kind)
        put_u64(head + 1, change.node_id)
        put_u16(head + 9, <unsigned short>len(address))
        data += (<const char*>head)[:CHANGE_HEAD_BYTES]
        data += address
    return bytes(data)


def decode_changes(bytes data not None):
    """The changes of an entry; DataDamaged or StartError (a later version's) as elsewhere."""
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    cdef size_t left_bytes = len(data), address_bytes, count
    cdef list changes = []
    if left_bytes >= 1 and get_u8(at) != CHANGE_VERSION:
        raise StartError(f"a change of membership has version {get_u8(at)}, unknown here; a later "
                         f"Seafoam wrote it")
    if left_bytes < HEAD_BYTES:
        raise DataDamaged("a change of membership is damaged")
    count = get_u16(at + 1)
    at += HEAD_BYTES
    left_bytes -= HEAD_BYTES
    if not 1 <= count <= CHANGES_MAX:
        raise DataDamaged("a change of membership is damaged")
    while count:
        if left_bytes < CHANGE_HEAD_BYTES:
            raise DataDamaged("a change of membership is damaged")
        address_bytes = get_u16(at + 9)
        if (address_bytes > left_bytes - CHANGE_HEAD_BYTES
                or not _is_well_formed(get_u8(at), get_u64(at + 1), address_bytes)):
            raise DataDamaged("a change of membership is damaged")
        try:
            address = PyUnicode_DecodeUTF8(<const char*>at + CHANGE_HEAD_BYTES, address_bytes,
                                           NULL)
        except UnicodeDecodeError:
            raise DataDamaged("a change of membership is damaged") from None
        changes.append(MemberChange(get_u8(at), get_u64(at + 1), address))
        at += CHANGE_HEAD_BYTES + address_bytes
        left_bytes -= CHANGE_HEAD_BYTES + address_bytes
        count -= 1
    if left_bytes:
        raise DataDamaged("a change of membership is damaged")
    return changes
