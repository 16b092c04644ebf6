"""The bytes of a snapshot; wire_snapshot.pxd has the pictures."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from seafoam._core.buffer cimport buffer_append, buffer_free
from seafoam._core.limits cimport KEY_BYTES_MAX, KEY_BYTES_MIN, VALUE_BYTES_MAX
from seafoam._core.pack cimport (
    crc32c_raw, get_u16, get_u32, get_u64, put_u8, put_u16, put_u32, put_u64,
)
from seafoam._core.status cimport (
    STATUS_DAMAGED, STATUS_NEED_MORE, STATUS_NO_MEMORY, STATUS_OK, STATUS_UNKNOWN_VERSION,
)

from seafoam.errors import DataDamaged, StartError

cdef const char* MAGIC = b"SEAFOAMS"

cdef enum:
    HEAD_FIXED_BYTES = 32
    TAIL_BYTES = 16
    # Of a SnapshotCheck: what its bytes are the beginning of.
    STAGE_PREAMBLE = 0
    STAGE_HEADER = 1
    STAGE_PAYLOAD = 2
    STAGE_END = 3


# -- packing -------------------------------------------------------------------------------------

cdef void put_block_header(uint8_t* block, uint32_t block_type, uint32_t sequence,
                           size_t payload_bytes) noexcept nogil:
    put_u32(block + 4, <uint32_t>payload_bytes)
    put_u32(block + 8, block_type)
    put_u32(block + 12, sequence)
    put_u32(block, crc32c_raw(0, block + 4, SNAPSHOT_BLOCK_HEADER_BYTES - 4 + payload_bytes))


cdef void put_entry_header(uint8_t* target, size_t key_bytes, size_t value_bytes,
                           uint64_t version) noexcept nogil:
    put_u16(target, <uint16_t>key_bytes)
    put_u32(target + 2, <uint32_t>value_bytes)
    put_u64(target + 6, version)


cdef int get_data_entry(const uint8_t* data, size_t left_bytes, DataEntry* entry) noexcept nogil:
    if left_bytes < SNAPSHOT_ENTRY_HEADER_BYTES:
        return STATUS_DAMAGED
    entry.key_bytes = get_u16(data)
    entry.value_bytes = get_u32(data + 2)
    if (not KEY_BYTES_MIN <= entry.key_bytes <= KEY_BYTES_MAX
            or entry.value_bytes > VALUE_BYTES_MAX):
        return STATUS_DAMAGED
    entry.entry_bytes = SNAPSHOT_ENTRY_HEADER_BYTES + entry.key_bytes + entry.value_bytes
    if entry.entry_bytes > left_bytes:
        return STATUS_DAMAGED
    entry.version = get_u64(data + 6)
    entry.key = data + SNAPSHOT_ENTRY_HEADER_BYTES
    entry.value = entry.key + entry.key_bytes
    return STATUS_OK


cdef bytes _block(uint32_t block_type, uint32_t sequence, bytes payload):
    cdef bytearray block = bytearray(SNAPSHOT_BLOCK_HEADER_BYTES) + payload
    put_block_header(block, block_type, sequence, len(payload))
    return bytes(block)


# -- head and tail -------------------------------------------------------------------------------

cdef class SnapshotHead:
    """What a snapshot says of itself: which file, of which log entry, and who the cluster is.

    `founding` is the data of the log's entry 1, `membership` whatever stands for the members at
    `index`; neither is looked into.
    """

    def __init__(self, uint64_t file_id, uint64_t index, uint64_t term, bytes founding not None,
                 bytes membership not None):
        self.file_id = file_id
        self.index = index
        self.term = term
        self.founding = founding
        self.membership = membership

    def __eq__(self, other):
        cdef SnapshotHead that
        if not isinstance(other, SnapshotHead):
            return NotImplemented
        that = other
        return (self.file_id == that.file_id and self.index == that.index
                and self.term == that.term and self.founding == that.founding
                and self.membership == that.membership)

    __hash__ = None

    def __repr__(self):
        return (f"SnapshotHead(file_id={self.file_id:016x} index={self.index} term={self.term} "
                f"founding={self.founding} membership={self.membership})")


def encode_head(SnapshotHead head not None):
    """The first bytes of a snapshot: the preamble and the head's block, sequence 0.

    ValueError where founding and membership are larger than a block's payload may be.
    """
    cdef uint8_t preamble[SNAPSHOT_PREAMBLE_BYTES]
    cdef uint8_t fixed[HEAD_FIXED_BYTES]
    if len(head.founding) + len(head.membership) > SNAPSHOT_PAYLOAD_BYTES_MAX - HEAD_FIXED_BYTES:
        raise ValueError("founding and membership are over what a snapshot's head may hold")
    memcpy(preamble, MAGIC, 8)
    put_u32(preamble + 8, SNAPSHOT_VERSION)
    put_u32(preamble + 12, crc32c_raw(0, preamble, 12))
    put_u64(fixed, head.file_id)
    put_u64(fixed + 8, head.index)
    put_u64(fixed + 16, head.term)
    put_u32(fixed + 24, <uint32_t>len(head.founding))
    put_u32(fixed + 28, <uint32_t>len(head.membership))
    return (<const char*>preamble)[:SNAPSHOT_PREAMBLE_BYTES] + _block(
        SNAPSHOT_BLOCK_HEAD, 0,
        (<const char*>fixed)[:28] + head.founding + (<const char*>fixed)[28:32] + head.membership)


def encode_tail(uint32_t sequence, uint64_t key_count, uint64_t file_id):
    """The last block of a snapshot; `sequence` is one more than that of the block before it."""
    cdef uint8_t payload[TAIL_BYTES]
    put_u64(payload, key_count)
    put_u64(payload + 8, file_id)
    return _block(SNAPSHOT_BLOCK_TAIL, sequence, (<const char*>payload)[:TAIL_BYTES])


cdef SnapshotHead _decode_head(const uint8_t* data, size_t data_bytes):
    # None where it is damaged.
    cdef size_t founding_bytes, membership_bytes
    if data_bytes < HEAD_FIXED_BYTES:
        return None
    founding_bytes = get_u32(data + 24)
    if founding_bytes > data_bytes - HEAD_FIXED_BYTES:
        return None
    membership_bytes = get_u32(data + 28 + founding_bytes)
    if membership_bytes != data_bytes - HEAD_FIXED_BYTES - founding_bytes:
        return None
    return SnapshotHead(
        get_u64(data), get_u64(data + 8), get_u64(data + 16),
        (<const char*>data)[28:28 + founding_bytes],
        (<const char*>data)[HEAD_FIXED_BYTES + founding_bytes:data_bytes])


# -- checking ------------------------------------------------------------------------------------

cdef class SnapshotCheck:
    """Reads a snapshot in any pieces and finds every byte that is not as it was written.

    `on_block`, if there is one, is called with each DATA block's payload, once that is checked and
    in the file's order. `head` is None until its block has come; `key_count` counts the entries of
    the blocks so far. Only when `finish` returns has all of the file been seen. Raises
    DataDamaged with the offset of the block, StartError where a later version wrote the file.
    """

    def __init__(self, on_block=None):
        self._on_block = on_block
        self._wanted_bytes = SNAPSHOT_PREAMBLE_BYTES

    def __dealloc__(self):
        buffer_free(&self._held)

    def feed(self, bytes data not None):
        """Take the file's next bytes, however many there are."""
        cdef const uint8_t* at = <const uint8_t*><const char*>data
        cdef size_t left_bytes = len(data)
        while True:
            if self._status == STATUS_OK:
                with nogil:
                    self._status = self._take(&at, &left_bytes)
            if self._status == STATUS_NEED_MORE:
                self._status = STATUS_OK
                return
            if self._status == STATUS_OK:
                self._hand_on()
            if self._status != STATUS_OK:
                self._fail()

    def finish(self):
        """Raise DataDamaged unless what was fed is a whole snapshot."""
        if self._status == STATUS_OK and self._stage != STAGE_END:
            self._status = STATUS_DAMAGED
        if self._status != STATUS_OK:
            self._fail()

    cdef int _take(self, const uint8_t** data, size_t* left_bytes) noexcept nogil:
        # OK: _held is a whole block in order, to be handed on; NEED_MORE: the data is used up.
        cdef size_t piece_bytes
        cdef int status = STATUS_NEED_MORE
        while left_bytes[0] != 0 and status == STATUS_NEED_MORE:
            if self._stage == STAGE_END:
                return STATUS_DAMAGED
            piece_bytes = min(left_bytes[0], self._wanted_bytes - self._held.used_bytes)
            if buffer_append(&self._held, data[0], piece_bytes) != 0:
                return STATUS_NO_MEMORY
            data[0] += piece_bytes
            left_bytes[0] -= piece_bytes
            if self._held.used_bytes == self._wanted_bytes:
                status = self._look()
        return status

    cdef int _look(self) noexcept nogil:
        # At what was wanted. NEED_MORE: it is in order, and more is wanted now.
        cdef const uint8_t* held = self._held.data
        if self._stage == STAGE_PREAMBLE:
            if memcmp(held, MAGIC, 8) != 0 or crc32c_raw(0, held, 12) != get_u32(held + 12):
                return STATUS_DAMAGED
            self._version = get_u32(held + 8)
            if self._version != SNAPSHOT_VERSION:
                return STATUS_UNKNOWN_VERSION
            self._go_on()
            return STATUS_NEED_MORE
        if self._stage == STAGE_HEADER:
            return self._look_at_header()
        if crc32c_raw(0, held + 4, self._wanted_bytes - 4) != get_u32(held):
            return STATUS_DAMAGED
        if get_u32(held + 8) == SNAPSHOT_BLOCK_DATA:
            return self._look_at_data()
        if get_u32(held + 8) == SNAPSHOT_BLOCK_TAIL:
            return self._look_at_tail()
        return STATUS_OK

    cdef int _look_at_header(self) noexcept nogil:
        # The checksum comes with the payload; until then no more than a bound is believed.
        cdef const uint8_t* held = self._held.data
        cdef size_t payload_bytes = get_u32(held + 4)
        cdef uint32_t block_type = get_u32(held + 8)
        cdef bint fits
        if block_type == SNAPSHOT_BLOCK_HEAD:
            fits = payload_bytes >= HEAD_FIXED_BYTES
        elif block_type == SNAPSHOT_BLOCK_TAIL:
            fits = payload_bytes == TAIL_BYTES
        else:
            fits = block_type == SNAPSHOT_BLOCK_DATA and payload_bytes != 0
        if (not fits or payload_bytes > SNAPSHOT_PAYLOAD_BYTES_MAX
                or get_u32(held + 12) != self._sequence
                or (self._sequence == 0) != (block_type == SNAPSHOT_BLOCK_HEAD)):
            return STATUS_DAMAGED
        self._stage = STAGE_PAYLOAD
        self._wanted_bytes = SNAPSHOT_BLOCK_HEADER_BYTES + payload_bytes
        return STATUS_NEED_MORE

    cdef int _look_at_data(self) noexcept nogil:
        cdef const uint8_t* at = self._held.data + SNAPSHOT_BLOCK_HEADER_BYTES
        cdef size_t left_bytes = self._wanted_bytes - SNAPSHOT_BLOCK_HEADER_BYTES
        cdef DataEntry entry
        while left_bytes != 0:
            if (get_data_entry(at, left_bytes, &entry) != STATUS_OK
                    or entry.version > self.head.index):
                return STATUS_DAMAGED
            at += entry.entry_bytes
            left_bytes -= entry.entry_bytes
            self.key_count += 1
        return STATUS_OK

    cdef int _look_at_tail(self) noexcept nogil:
        cdef const uint8_t* payload = self._held.data + SNAPSHOT_BLOCK_HEADER_BYTES
        if get_u64(payload) != self.key_count or get_u64(payload + 8) != self.head.file_id:
            return STATUS_DAMAGED
        return STATUS_OK

    cdef void _go_on(self) noexcept nogil:
        # To the next block.
        self._offset_bytes += self._held.used_bytes
        self._held.used_bytes = 0
        self._stage = STAGE_HEADER
        self._wanted_bytes = SNAPSHOT_BLOCK_HEADER_BYTES

    cdef int _hand_on(self) except -1:
        # The block that _held is, after which the next one begins.
        cdef const uint8_t* payload = self._held.data + SNAPSHOT_BLOCK_HEADER_BYTES
        cdef size_t payload_bytes = self._held.used_bytes - SNAPSHOT_BLOCK_HEADER_BYTES
        cdef uint32_t block_type = get_u32(self._held.data + 8)
        cdef bytes data = None
        if block_type == SNAPSHOT_BLOCK_HEAD:
            self.head = _decode_head(payload, payload_bytes)
            if self.head is None:
                self._status = STATUS_DAMAGED
                return 0
        elif block_type == SNAPSHOT_BLOCK_DATA and self._on_block is not None:
            data = (<const char*>payload)[:payload_bytes]
        self._go_on()
        self._sequence += 1
        if block_type == SNAPSHOT_BLOCK_TAIL:
            self._stage = STAGE_END
        if data is not None:
            self._on_block(data)
        return 0

    # The one place where this module's codes become exceptions.
    cdef int _fail(self) except -1:
        if self._status == STATUS_UNKNOWN_VERSION:
            raise StartError(f"the snapshot was written in version {self._version}, which this "
                             "Seafoam does not know")
        if self._status == STATUS_NO_MEMORY:
            raise MemoryError("no memory for a block of a snapshot")
        raise DataDamaged(f"the snapshot is damaged at offset {self._offset_bytes}: what begins "
                          "there is not all there, or not as it was written")
