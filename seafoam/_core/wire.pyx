"""Every byte format on disk; wire.pxd has the pictures."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from seafoam._core.buffer cimport buffer_append, buffer_free, seafoam_buffer
from seafoam._core.limits cimport (
    ENTRY_OVERHEAD_BYTES,
    KEY_BYTES_MAX,
    KEY_BYTES_MIN,
    OPS_PER_BATCH_MAX,
    VALUE_BYTES_MAX,
    WAL_RECORD_BYTES_MAX,
)
from seafoam._core.message cimport (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    ENTRY_EMPTY,
    ENTRY_FOUNDING,
)
from seafoam._core.pack cimport (
    crc32c_raw,
    get_u8,
    get_u16,
    get_u32,
    get_u64,
    put_u8,
    put_u16,
    put_u32,
    put_u64,
)
from seafoam._core.status cimport (
    STATUS_DAMAGED,
    STATUS_INVALID,
    STATUS_NO_MEMORY,
    STATUS_NOT_FOUND,
    STATUS_OK,
    STATUS_TOO_LARGE,
    STATUS_UNKNOWN_TYPE,
    STATUS_UNKNOWN_VERSION,
)

from seafoam._core.status import name_of
from seafoam.errors import DataDamaged, StartError

cdef const char* SEGMENT_MAGIC = b"SEAFOAML"
cdef const char* META_MAGIC = b"SEAFOAMM"

cdef enum:
    PREAMBLE_BYTES = 16
    COMMAND_HEAD_BYTES = 21
    COMMAND_STAMP_OFFSET = 5
    OPERATION_HEAD_BYTES = 4
    FOUNDING_HEAD_BYTES = 27
    MEMBER_HEAD_BYTES = 10
    VOTE_BYTES = 8


cdef bint are_zeros(const uint8_t* data, size_t data_bytes) noexcept nogil:
    # Comparing a block with itself, moved by one, is a memcmp: 10 GB/s and no loop of ours.
    return data_bytes == 0 or (data[0] == 0 and memcmp(data, data + 1, data_bytes - 1) == 0)


def is_blank(bytes data not None, size_t begin=0):
    """Whether there is nothing but zeros from `begin` on."""
    cdef size_t size = len(data)
    return begin >= size or are_zeros(<const uint8_t*><const char*>data + begin, size - begin)


# -- preamble ------------------------------------------------------------------------------------

cdef void _put_preamble(uint8_t* target, const char* magic, uint32_t version) noexcept nogil:
    memcpy(target, magic, 8)
    put_u32(target + 8, version)
    put_u32(target + 12, crc32c_raw(0, target, 12))


cdef int _check_preamble(const uint8_t* data, const char* magic, uint32_t version,
                         uint32_t* version_out) noexcept nogil:
    if memcmp(data, magic, 8) != 0 or crc32c_raw(0, data, 12) != get_u32(data + 12):
        return STATUS_DAMAGED
    version_out[0] = get_u32(data + 8)
    return STATUS_OK if version_out[0] == version else STATUS_UNKNOWN_VERSION


# -- segments and records ------------------------------------------------------------------------

cdef uint32_t next_generation(uint32_t generation, uint64_t next_segment_number) noexcept nogil:
    cdef uint8_t mixed[12]
    put_u32(mixed, generation)
    put_u64(mixed + 4, next_segment_number)
    return crc32c_raw(0, mixed, 12)


cdef void put_segment_header(uint8_t* target, const SegmentHeader* header) noexcept nogil:
    _put_preamble(target, SEGMENT_MAGIC, SEGMENT_VERSION)
    put_u64(target + 16, header.segment_number)
    put_u64(target + 24, header.node_id)
    put_u32(target + 32, header.generation)
    put_u64(target + 36, header.segment_bytes)
    put_u32(target + 44, crc32c_raw(0, target + 16, 28))


cdef int get_segment_header(const uint8_t* data, size_t data_bytes, SegmentHeader* header,
                            uint32_t* version_out) noexcept nogil:
    cdef int status
    if data_bytes < SEGMENT_HEADER_BYTES:
        return STATUS_NOT_FOUND if are_zeros(data, data_bytes) else STATUS_DAMAGED
    if are_zeros(data, SEGMENT_HEADER_BYTES):
        return STATUS_NOT_FOUND
    status = _check_preamble(data, SEGMENT_MAGIC, SEGMENT_VERSION, version_out)
    if status != STATUS_OK:
        return status
    if crc32c_raw(0, data + 16, 28) != get_u32(data + 44):
        return STATUS_DAMAGED
    header.segment_number = get_u64(data + 16)
    header.node_id = get_u64(data + 24)
    header.generation = get_u32(data + 32)
    header.segment_bytes = get_u64(data + 36)
    return STATUS_OK


cdef void put_record(uint8_t* target, const Record* record, uint32_t generation) noexcept nogil:
    put_u32(target + 4, <uint32_t>record.payload_bytes)
    put_u16(target + 8, <uint16_t>record.type)
    put_u16(target + 10, <uint16_t>record.kind)
    put_u32(target + 12, generation)
    put_u64(target + 16, record.index)
    put_u64(target + 24, record.term)
    if record.payload_bytes != 0:
        memcpy(target + RECORD_HEADER_BYTES, record.payload, record.payload_bytes)
    put_u32(target, crc32c_raw(0, target + 4, RECORD_HEADER_BYTES - 4 + record.payload_bytes))


cdef int get_record(const uint8_t* data, size_t data_bytes, uint32_t generation,
                    Record* record) noexcept nogil:
    cdef size_t payload_bytes
    if data_bytes < RECORD_HEADER_BYTES or are_zeros(data, RECORD_HEADER_BYTES):
        return STATUS_NOT_FOUND
    payload_bytes = get_u32(data + 4)
    if payload_bytes > WAL_RECORD_BYTES_MAX - RECORD_HEADER_BYTES:
        return STATUS_DAMAGED
    if payload_bytes > data_bytes - RECORD_HEADER_BYTES or get_u32(data + 12) != generation:
        return STATUS_DAMAGED
    if crc32c_raw(0, data + 4, RECORD_HEADER_BYTES - 4 + payload_bytes) != get_u32(data):
        return STATUS_DAMAGED
    record.type = get_u16(data + 8)
    record.kind = get_u16(data + 10)
    record.index = get_u64(data + 16)
    record.term = get_u64(data + 24)
    record.payload = data + RECORD_HEADER_BYTES
    record.payload_bytes = payload_bytes
    record.record_bytes = RECORD_HEADER_BYTES + payload_bytes
    if record.type == RECORD_ENTRY:
        if record.kind in (ENTRY_EMPTY, ENTRY_COMMAND, ENTRY_FOUNDING, ENTRY_CONFIGURATION):
            return STATUS_OK
        return STATUS_UNKNOWN_TYPE
    if record.type == RECORD_HARD_STATE:
        return STATUS_OK if record.kind == 0 and payload_bytes == VOTE_BYTES else STATUS_DAMAGED
    if record.type == RECORD_FRONT:
        return (STATUS_OK if record.kind == 0
                and payload_bytes == FRONT_BYTES - RECORD_HEADER_BYTES else STATUS_DAMAGED)
    if (record.type == RECORD_MARKER or record.type == RECORD_ROTATION
            or record.type == RECORD_BASE):
        return STATUS_OK if record.kind == 0 and payload_bytes == 0 else STATUS_DAMAGED
    return STATUS_UNKNOWN_TYPE


# -- commands ------------------------------------------------------------------------------------

cdef int command_begin(const uint8_t* data, size_t data_bytes, CommandCursor* cursor
                       ) noexcept nogil:
    if data_bytes < COMMAND_HEAD_BYTES:
        return STATUS_DAMAGED
    if get_u8(data) != COMMAND_VERSION:
        return STATUS_UNKNOWN_VERSION
    cursor.operation_count = get_u32(data + 1)
    if cursor.operation_count == 0 or cursor.operation_count > OPS_PER_BATCH_MAX:
        return STATUS_DAMAGED
    cursor.left_count = cursor.operation_count
    cursor.at = data + COMMAND_HEAD_BYTES
    cursor.end = data + data_bytes
    return STATUS_OK


# The bytes of an operation's head, which its kind and flags decide; 0 where the two do not go
# together. Used by both directions, so that they cannot disagree.
cdef size_t _operation_head_bytes(int kind, int flags) noexcept nogil:
    if kind == OPERATION_GET:
        return OPERATION_HEAD_BYTES if flags == 0 else 0
    if kind == OPERATION_SET:
        return OPERATION_HEAD_BYTES + 4 if flags & ~FLAG_IF_ABSENT == 0 else 0
    if kind == OPERATION_DELETE:
        return OPERATION_HEAD_BYTES if flags & ~FLAG_ERROR_IF_NOT_KEY == 0 else 0
    if kind == OPERATION_CAS and flags == 0:
        return OPERATION_HEAD_BYTES + 8
    if kind == OPERATION_CAS and flags == FLAG_BY_VERSION:
        return OPERATION_HEAD_BYTES + 12
    return 0


cdef inline bint _is_value_length(size_t value_bytes) noexcept nogil:
    return 1 <= value_bytes <= VALUE_BYTES_MAX  # no JSON text is empty


cdef int command_next(CommandCursor* cursor, OperationView* operation) noexcept nogil:
    cdef const uint8_t* at = cursor.at
    cdef size_t left_bytes = cursor.end - cursor.at
    cdef size_t head_bytes, body_bytes
    if cursor.left_count == 0:
        return STATUS_NOT_FOUND if left_bytes == 0 else STATUS_DAMAGED
    if left_bytes < OPERATION_HEAD_BYTES:
        return STATUS_DAMAGED
    memset(operation, 0, sizeof(OperationView))
    operation.kind = get_u8(at)
    operation.flags = get_u8(at + 1)
    operation.key_bytes = get_u16(at + 2)
    if (not OPERATION_GET <= operation.kind <= OPERATION_DELETE
            or operation.flags & ~(FLAG_IF_ABSENT | FLAG_BY_VERSION | FLAG_ERROR_IF_NOT_KEY) != 0):
        return STATUS_UNKNOWN_TYPE
    head_bytes = _operation_head_bytes(operation.kind, operation.flags)
    if head_bytes == 0 or head_bytes > left_bytes:
        return STATUS_DAMAGED
    if not KEY_BYTES_MIN <= operation.key_bytes <= KEY_BYTES_MAX:
        return STATUS_DAMAGED
    body_bytes = operation.key_bytes
    if operation.kind == OPERATION_SET or operation.kind == OPERATION_CAS:
        operation.value_bytes = get_u32(at + 4)
        if not _is_value_length(operation.value_bytes):
            return STATUS_DAMAGED
        body_bytes += operation.value_bytes
    if operation.kind == OPERATION_CAS and operation.flags & FLAG_BY_VERSION:
        operation.old_version = get_u64(at + 8)
    elif operation.kind == OPERATION_CAS:
        operation.old_value_bytes = get_u32(at + 8)
        if not _is_value_length(operation.old_value_bytes):
            return STATUS_DAMAGED
        body_bytes += operation.old_value_bytes
    if body_bytes > left_bytes - head_bytes:
        return STATUS_DAMAGED
    operation.key = at + head_bytes
    if operation.value_bytes != 0:
        operation.value = operation.key + operation.key_bytes
    if operation.old_value_bytes != 0:
        operation.old_value = operation.value + operation.value_bytes
    cursor.at = at + head_bytes + body_bytes
    cursor.left_count -= 1
    return STATUS_OK


cdef int command_put_begin(seafoam_buffer* command, size_t operation_count) noexcept nogil:
    cdef uint8_t head[COMMAND_HEAD_BYTES]
    if operation_count == 0 or operation_count > OPS_PER_BATCH_MAX:
        return STATUS_TOO_LARGE
    put_u8(head, COMMAND_VERSION)
    put_u32(head + 1, <uint32_t>operation_count)
    put_u64(head + COMMAND_STAMP_OFFSET, 0)
    put_u64(head + COMMAND_STAMP_OFFSET + 8, 0)
    if buffer_append(command, head, COMMAND_HEAD_BYTES) != 0:
        return STATUS_NO_MEMORY
    return STATUS_OK


cdef int command_put_operation(seafoam_buffer* command, const OperationView* operation
                               ) noexcept nogil:
    cdef uint8_t head[OPERATION_HEAD_BYTES + 12]
    cdef size_t head_bytes = _operation_head_bytes(operation.kind, operation.flags)
    cdef bint has_value = operation.kind == OPERATION_SET or operation.kind == OPERATION_CAS
    cdef bint by_version = (operation.flags & FLAG_BY_VERSION) != 0
    cdef bint has_old_value = operation.kind == OPERATION_CAS and not by_version
    if head_bytes == 0:
        return STATUS_INVALID
    if (operation.value_bytes != 0) != has_value:
        return STATUS_INVALID
    if (operation.old_value_bytes != 0) != has_old_value:
        return STATUS_INVALID
    if operation.old_version != 0 and not by_version:
        return STATUS_INVALID
    if not KEY_BYTES_MIN <= operation.key_bytes <= KEY_BYTES_MAX:
        return STATUS_TOO_LARGE
    if operation.value_bytes > VALUE_BYTES_MAX or operation.old_value_bytes > VALUE_BYTES_MAX:
        return STATUS_TOO_LARGE
    put_u8(head, <uint8_t>operation.kind)
    put_u8(head + 1, <uint8_t>operation.flags)
    put_u16(head + 2, <uint16_t>operation.key_bytes)
    if has_value:
        put_u32(head + 4, <uint32_t>operation.value_bytes)
    if by_version:
        put_u64(head + 8, operation.old_version)
    elif has_old_value:
        put_u32(head + 8, <uint32_t>operation.old_value_bytes)
    if (buffer_append(command, head, head_bytes) != 0
            or buffer_append(command, operation.key, operation.key_bytes) != 0
            or buffer_append(command, operation.value, operation.value_bytes) != 0
            or buffer_append(command, operation.old_value, operation.old_value_bytes) != 0):
        return STATUS_NO_MEMORY
    if command.used_bytes > WAL_RECORD_BYTES_MAX - RECORD_HEADER_BYTES:
        return STATUS_TOO_LARGE
    return STATUS_OK


cdef int command_cost_bytes(const uint8_t* data, size_t data_bytes, uint64_t* cost_bytes
                            ) noexcept nogil:
    cdef CommandCursor cursor
    cdef OperationView operation
    cdef int status = command_begin(data, data_bytes, &cursor)
    cost_bytes[0] = 0
    while status == STATUS_OK:
        status = command_next(&cursor, &operation)
        if status == STATUS_OK and operation.value_bytes != 0:
            cost_bytes[0] += operation.key_bytes + operation.value_bytes + ENTRY_OVERHEAD_BYTES
    return STATUS_OK if status == STATUS_NOT_FOUND else status


cdef class Operation:
    """One operation of a command. Keys are UTF-8, values compact JSON text; neither is checked.

    Made by `get`, `set`, `cas` and `delete`.
    """

    def __init__(self):
        raise TypeError("an Operation is made by Operation.get, set, cas or delete")

    @staticmethod
    def get(bytes key not None):
        """Read a key, in its place among the other operations."""
        return _operation(OPERATION_GET, 0, key, None, None)

    @staticmethod
    def set(bytes key not None, bytes value not None, *, bint if_absent=False):
        """Put a value; with `if_absent` only where there is no such key."""
        return _operation(OPERATION_SET, FLAG_IF_ABSENT if if_absent else 0, key, value, None)

    @staticmethod
    def cas(bytes key not None, bytes value not None, *, bytes old_value=None, old_version=None):
        """Put a value where the key holds `old_value`, or was last written at `old_version`.

        Exactly one of the two is given; else ValueError.
        """
        cdef Operation operation
        if (old_value is None) == (old_version is None):
            raise ValueError("a cas compares either with a value or with a version")
        if old_value is not None:
            return _operation(OPERATION_CAS, 0, key, value, old_value)
        operation = _operation(OPERATION_CAS, FLAG_BY_VERSION, key, value, None)
        operation.old_version = old_version
        return operation

    @staticmethod
    def delete(bytes key not None, *, bint error_if_not_key=False):
        """Remove a key; with `error_if_not_key` its absence is an error."""
        return _operation(OPERATION_DELETE, FLAG_ERROR_IF_NOT_KEY if error_if_not_key else 0,
                          key, None, None)

    def __eq__(self, other):
        cdef Operation that
        if not isinstance(other, Operation):
            return NotImplemented
        that = other
        return (self.kind == that.kind and self.flags == that.flags and self.key == that.key
                and self.value == that.value and self.old_value == that.old_value
                and self.old_version == that.old_version)

    __hash__ = None

    def __repr__(self):
        return (f"Operation(kind={self.kind} flags={self.flags} key={self.key} value={self.value} "
                f"old_value={self.old_value} old_version={self.old_version})")


cdef Operation _operation(int kind, int flags, bytes key, bytes value, bytes old_value):
    cdef Operation operation = Operation.__new__(Operation)
    operation.kind = kind
    operation.flags = flags
    operation.key = key
    operation.value = value
    operation.old_value = old_value
    return operation


def encode_command(list operations not None):
    """The bytes of a command of 1 to OPS_PER_BATCH_MAX operations.

    ValueError where the command, a key or a value is over its limit or empty.
    """
    cdef seafoam_buffer command
    cdef OperationView view
    cdef Operation operation
    cdef int status
    memset(&command, 0, sizeof(command))
    try:
        status = command_put_begin(&command, len(operations))
        for operation in operations:
            if status != STATUS_OK:
                break
            view.kind = operation.kind
            view.flags = operation.flags
            view.key = _bytes_of(operation.key, &view.key_bytes)
            view.value = _bytes_of(operation.value, &view.value_bytes)
            view.old_value = _bytes_of(operation.old_value, &view.old_value_bytes)
            view.old_version = operation.old_version
            status = command_put_operation(&command, &view)
        if status == STATUS_NO_MEMORY:
            raise MemoryError
        if status != STATUS_OK:
            raise ValueError(f"the command is {name_of(status)}: its count, a key or a value")
        return (<const char*>command.data)[:command.used_bytes]
    finally:
        buffer_free(&command)


cdef inline const uint8_t* _bytes_of(bytes data, size_t* data_bytes) noexcept:
    if data is None:
        data_bytes[0] = 0
        return NULL
    data_bytes[0] = len(data)
    return <const uint8_t*><const char*>data


cdef inline bytes _copy_of(const uint8_t* data, size_t data_bytes):
    return None if data == NULL else (<const char*>data)[:data_bytes]


def decode_command(bytes data not None):
    """The operations of a command, as a list."""
    cdef CommandCursor cursor
    cdef OperationView view
    cdef Operation operation
    cdef list operations = []
    cdef int status = command_begin(<const uint8_t*><const char*>data, len(data), &cursor)
    while status == STATUS_OK:
        status = command_next(&cursor, &view)
        if status == STATUS_OK:
            operation = _operation(view.kind, view.flags, _copy_of(view.key, view.key_bytes),
                                   _copy_of(view.value, view.value_bytes),
                                   _copy_of(view.old_value, view.old_value_bytes))
            operation.old_version = view.old_version
            operations.append(operation)
    if status != STATUS_NOT_FOUND:
        _raise_for(status, f"a command, at operation {len(operations)},")
    return operations


def stamp_command(bytes data not None, uint64_t origin_id, uint64_t number):
    """The command with the stamp by which whoever proposed it knows it again.

    `origin_id` is the proposing process's start id, `number` counts its proposals.
    """
    cdef bytes stamped = (<const char*>data)[:len(data)]
    cdef uint8_t* at = <uint8_t*><char*>stamped
    if len(data) < COMMAND_HEAD_BYTES:
        _raise_for(STATUS_DAMAGED, "a command")
    # Nobody else has seen these bytes yet.
    put_u64(at + COMMAND_STAMP_OFFSET, origin_id)
    put_u64(at + COMMAND_STAMP_OFFSET + 8, number)
    return stamped


def command_stamp(bytes data not None):
    """(origin id, number) of a command; zeros where it was never stamped."""
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    if len(data) < COMMAND_HEAD_BYTES:
        _raise_for(STATUS_DAMAGED, "a command")
    return get_u64(at + COMMAND_STAMP_OFFSET), get_u64(at + COMMAND_STAMP_OFFSET + 8)


def command_cost(bytes data not None):
    """Logical bytes that the quota must set aside before this command is proposed.

    Key, value and a fixed overhead for each set and cas; a get or delete costs nothing.
    """
    cdef uint64_t cost_bytes
    cdef int status
    status = command_cost_bytes(<const uint8_t*><const char*>data, len(data), &cost_bytes)
    if status != STATUS_OK:
        _raise_for(status, "a command")
    return cost_bytes


# -- founding and META ---------------------------------------------------------------------------

cdef class Founding:
    """What entry 1 of every log says: the cluster's id, its hash seed and its first members."""

    def __repr__(self):
        return f"Founding(cluster_id={self.cluster_id:016x} members={self.members})"


def encode_founding(uint64_t cluster_id, bytes hash_seed not None, members):
    """The bytes of a founding entry; `members` are pairs of node id and peer address.

    ValueError where the seed is not HASH_SEED_BYTES long or an address over its limit.
    """
    cdef bytearray data = bytearray(FOUNDING_HEAD_BYTES)
    cdef bytes address_utf8
    cdef uint8_t head[MEMBER_HEAD_BYTES]
    cdef uint8_t* at = data
    if len(hash_seed) != HASH_SEED_BYTES:
        raise ValueError(f"a hash seed has {HASH_SEED_BYTES} bytes")
    put_u8(at, FOUNDING_VERSION)
    put_u64(at + 1, cluster_id)
    memcpy(at + 9, <const char*>hash_seed, HASH_SEED_BYTES)
    if not 1 <= len(members) <= 0xffff:
        raise ValueError("a founding set has 1 to 65535 members")
    put_u16(at + 25, <uint16_t>len(members))
    for node_id, address in members:
        address_utf8 = address.encode()
        if not 1 <= len(address_utf8) <= ADDRESS_BYTES_MAX:
            raise ValueError(f"a peer address has 1 to {ADDRESS_BYTES_MAX} bytes")
        put_u64(head, node_id)
        put_u16(head + 8, <uint16_t>len(address_utf8))
        data += (<const char*>head)[:MEMBER_HEAD_BYTES] + address_utf8
    return bytes(data)


def decode_founding(bytes data not None):
    """What a founding entry says."""
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    cdef size_t left_bytes = len(data)
    cdef size_t address_bytes
    cdef list members = []
    cdef Founding founding
    if left_bytes >= 1 and get_u8(at) != FOUNDING_VERSION:
        _raise_for(STATUS_UNKNOWN_VERSION, "a founding entry")
    if left_bytes < FOUNDING_HEAD_BYTES or get_u16(at + 25) == 0:
        _raise_for(STATUS_DAMAGED, "a founding entry")
    founding = Founding.__new__(Founding)
    founding.cluster_id = get_u64(at + 1)
    founding.hash_seed = (<const char*>at)[9:9 + HASH_SEED_BYTES]
    left_count = get_u16(at + 25)
    at += FOUNDING_HEAD_BYTES
    left_bytes -= FOUNDING_HEAD_BYTES
    while left_count:
        address_bytes = get_u16(at + 8) if left_bytes >= MEMBER_HEAD_BYTES else 0
        if (not 1 <= address_bytes <= ADDRESS_BYTES_MAX
                or address_bytes > left_bytes - MEMBER_HEAD_BYTES):
            _raise_for(STATUS_DAMAGED, "a founding entry")
        members.append((get_u64(at), _text(at + MEMBER_HEAD_BYTES, address_bytes)))
        at += MEMBER_HEAD_BYTES + address_bytes
        left_bytes -= MEMBER_HEAD_BYTES + address_bytes
        left_count -= 1
    if left_bytes != 0:
        _raise_for(STATUS_DAMAGED, "a founding entry")
    founding.members = tuple(members)
    return founding


cdef str _text(const uint8_t* data, size_t data_bytes):
    try:
        return (<const char*>data)[:data_bytes].decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataDamaged(f"a founding entry is damaged: {error}") from None


def encode_meta(uint64_t node_id, bint begun):
    """The bytes of META."""
    cdef uint8_t data[META_BYTES]
    _put_preamble(data, META_MAGIC, META_VERSION)
    put_u64(data + 16, node_id)
    put_u32(data + 24, begun)
    put_u32(data + 28, crc32c_raw(0, data + 16, 12))
    return (<const char*>data)[:META_BYTES]


def decode_meta(bytes data not None):
    """The node id that META holds, and whether the log has begun."""
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    cdef uint32_t version = 0
    cdef int status = STATUS_DAMAGED
    if len(data) >= PREAMBLE_BYTES:
        status = _check_preamble(at, META_MAGIC, META_VERSION, &version)
    if status == STATUS_OK:
        if (len(data) != META_BYTES or crc32c_raw(0, at + 16, 12) != get_u32(at + 28)
                or get_u32(at + 24) > 1):
            status = STATUS_DAMAGED
    if status != STATUS_OK:
        _raise_for(status, f"META (version {version})" if version else "META")
    return get_u64(at + 16), get_u32(at + 24) == 1


# The one place where this module's codes become exceptions.
cdef int _raise_for(int status, str what) except -1:
    if status == STATUS_UNKNOWN_VERSION:
        raise StartError(f"{what} was written in a version that this Seafoam does not know")
    if status == STATUS_UNKNOWN_TYPE:
        raise StartError(f"{what} holds a type that this Seafoam does not know")
    raise DataDamaged(f"{what} is damaged: lengths, counts or checksum do not fit")
