# The bytes of a snapshot: a file that holds a node's whole state at one index.
#
# Owns the pictures of the bytes (below), their version and their checks. Must never do I/O, trust
# a length or a count it has read, or hold more than one block of a file. The map makes the data
# blocks (map_snapshot) and takes them in (map_writer); whoever keeps or sends files passes bytes.
#
# All integers are little-endian. CRC is CRC32C. What is packed or unpacked without the GIL returns
# a Status; the Python side raises DataDamaged, with the offset of the block, for bytes that cannot
# be, and StartError for a version that a later Seafoam must have written.
#
#    file = preamble, HEAD block, DATA blocks, TAIL block; it ends with that block exactly
#
# PREAMBLE: the same in all versions, so that a flipped bit in the version is damage and a later
# version is refused by its name.
#
#    0                   8         12       16
#    +-------------------+---------+--------+
#    | magic "SEAFOAMS"  | version | crc    |   crc over bytes 0-11
#    +-------------------+---------+--------+
#
# BLOCK: its sequence counts the blocks of a file from 0, so that none is missing, there twice or
# in another's place.
#
#    0     4               8      9         12         16
#    +-----+---------------+------+---------+----------+---------+
#    | crc | payload bytes | type | 0  0  0 | sequence | payload |
#    +-----+---------------+------+---------+----------+---------+
#           crc over everything behind it, payload included
#
# HEAD: type 1, sequence 0.
#
#    0         8       16     24               28
#    +---------+-------+------+----------------+----------+------------------+------------+
#    | file id | index | term | founding bytes | founding | membership bytes | membership |
#    +---------+-------+------+----------------+----------+------------------+------------+
#     u64       u64     u64    u32                         u32
#
#   file id      which file this is: two nodes' snapshots of one index differ in their order
#   index, term  the last log entry whose effects are in here
#   founding     the data of the log's entry 1
#   membership   as whoever keeps it encodes it; not looked into here
#
# DATA: type 2. At least one entry, and no more once a payload has SNAPSHOT_BLOCK_BYTES.
#
#    0           2             6         14
#    +-----------+-------------+---------+-----+-------+-----------+-
#    | key bytes | value bytes | version | key | value | key bytes |  ...
#    +-----------+-------------+---------+-----+-------+-----------+-
#     u16         u32           u64                     the next entry
#
#   version      the index of the log entry that wrote the key last: 0 to the head's index
#
# TAIL: type 3.
#
#    0           8         16
#    +-----------+---------+
#    | key count | file id |   the file id again, so that the tail of another file is none
#    +-----------+---------+
#
# A file is believed when all of it has been seen: a SnapshotCheck takes the bytes in any pieces,
# and its finish() says so. What it has handed on before that is whole blocks of a file whose end
# may be missing.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.limits cimport KEY_BYTES_MAX, SNAPSHOT_BLOCK_BYTES, VALUE_BYTES_MAX

cpdef enum:
    SNAPSHOT_VERSION = 1

    SNAPSHOT_PREAMBLE_BYTES = 16
    SNAPSHOT_BLOCK_HEADER_BYTES = 16
    SNAPSHOT_ENTRY_HEADER_BYTES = 14
    # A payload that lacked a byte of being full, and then the largest entry.
    SNAPSHOT_PAYLOAD_BYTES_MAX = (
        SNAPSHOT_BLOCK_BYTES - 1 + SNAPSHOT_ENTRY_HEADER_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX)

    SNAPSHOT_BLOCK_HEAD = 1
    SNAPSHOT_BLOCK_DATA = 2
    SNAPSHOT_BLOCK_TAIL = 3

# One entry of a DATA payload. The pointers are into the payload and live as long.
cdef struct DataEntry:
    const uint8_t* key
    size_t key_bytes
    const uint8_t* value
    size_t value_bytes
    uint64_t version
    size_t entry_bytes          # all of it: where the next one begins

# The header in front of a payload that is there already; `block` is where the header goes.
cdef void put_block_header(uint8_t* block, uint32_t block_type, uint32_t sequence,
                           size_t payload_bytes) noexcept nogil
# `target` has room for SNAPSHOT_ENTRY_HEADER_BYTES.
cdef void put_entry_header(uint8_t* target, size_t key_bytes, size_t value_bytes,
                           uint64_t version) noexcept nogil
# The entry that begins at `data`. OK; DAMAGED.
cdef int get_data_entry(const uint8_t* data, size_t left_bytes, DataEntry* entry) noexcept nogil

cdef class SnapshotHead:
    cdef readonly uint64_t file_id
    cdef readonly uint64_t index
    cdef readonly uint64_t term
    cdef readonly bytes founding
    cdef readonly bytes membership

# Invariants:
#   C1  _held is the beginning of one block (or of the preamble), never more of it than
#       _wanted_bytes, and that never more than a header and SNAPSHOT_PAYLOAD_BYTES_MAX.
#   C2  After a failure every call fails in the same way; nothing is handed on any more.
cdef class SnapshotCheck:
    cdef readonly SnapshotHead head     # None until its block has come
    cdef readonly uint64_t key_count    # entries of whole blocks so far
    cdef object _on_block
    # what has come of the block that is not whole yet
    cdef seafoam_buffer _held
    cdef size_t _wanted_bytes           # until it can be looked at again
    cdef int _stage
    cdef uint64_t _offset_bytes         # in the file, of that block
    cdef uint32_t _sequence             # its number
    cdef int _status
    cdef uint32_t _version              # of the preamble

    cdef int _take(self, const uint8_t** data, size_t* left_bytes) noexcept nogil
    cdef int _look(self) noexcept nogil
    cdef int _look_at_header(self) noexcept nogil
    cdef int _look_at_data(self) noexcept nogil
    cdef int _look_at_tail(self) noexcept nogil
    cdef void _go_on(self) noexcept nogil
    cdef int _hand_on(self) except -1
    cdef int _fail(self) except -1
