# Every byte format on disk: the log's segments and records, what a log entry holds, META.
#
# Owns the pictures of the bytes (below), their versions and their checks. Must never do I/O, trust
# a length or a count it has read, or read past the bytes it was given. Whoever needs a format asks
# here; nobody else packs or unpacks.
#
# All integers are little-endian. CRC is CRC32C. Encoders and decoders are `noexcept nogil` and
# return a Status; the Python functions of this module turn it into an exception: DataDamaged for
# bytes that cannot be, StartError for a version or type that a later Seafoam must have written.
#
# PREAMBLE: the first 16 bytes of a file, the same in all versions, so that a flipped bit in the
# version is damage and a later version is refused by its name.
#
#    0         8         12       16
#    +---------+---------+--------+
#    | magic   | version | crc    |   crc over bytes 0-11
#    +---------+---------+--------+
#
# SEGMENT HEADER: the first 48 bytes of a log segment.
#
#    0          16        24        32           36              44    48
#    +----------+---------+---------+------------+---------------+-----+
#    | preamble | segment | node id | generation | segment bytes | crc |   crc over bytes 16-43
#    +----------+---------+---------+------------+---------------+-----+
#
#   generation     stands in every record of the segment and is made from the one before it (the
#                  first is drawn at random when the directory is made), so that what an older file
#                  left in the same blocks, or a client wrote into a value, is no record.
#   segment bytes  how long the file is: it has that length, durably, before it has a header, and
#                  a header before it has a record. A shorter file with a header was cut.
#
# A segment's life, each step durable before the next begins: no file; the whole length, zeros;
# the header; then, together, the rotation record in the segment before that leads to it and the
# first records behind the header.
#
# RECORD: 32 bytes and a payload. Zeros where a record would begin are the end of the records.
#
#    0     4               8      10     12           16      24      32
#    +-----+---------------+------+------+------------+-------+-------+---------+
#    | crc | payload bytes | type | kind | generation | index | term  | payload |
#    +-----+---------------+------+------+------------+-------+-------+---------+
#                                             crc over everything behind it, payload included
#
#    type          kind       index           term     payload
#    1 entry       Entry's    entry's index   its term the entry's data
#    2 hard state  0          commit index    term     the vote, 8 bytes
#    3 marker      0          segment number  offset   none; everything before (segment, offset)
#                                                      was synced when this was written
#    4 rotation    0          next segment    offset   none; the last record of its segment: the
#                                                      records go on there, behind the header
#    5 base        0          entry's index   its term none; a snapshot is durable that holds this
#                                                      entry and all before it: they are no part
#                                                      of the log any more, it goes on behind it
#    6 front       0          entry's index   its term 24 bytes: term, vote and commit index of
#                                                      the last hard state; the entry is the last
#                                                      before this segment. Zeros: there was none
#
#   A front is the first record of every segment but number 1, so that the segments before any one
#   can go once a snapshot covers their entries. (Logs of earlier versions have segments without.)
#   There is always room for a rotation record behind the others. The next segment's header is
#   durable before it is written, so one that has none then was lost or cut, not torn.
#
# META: made once a data directory is whole, and once more when its log has begun.
#
#    0          16        24      28    32
#    +----------+---------+-------+-----+
#    | preamble | node id | begun | crc |   crc over bytes 16-27
#    +----------+---------+-------+-----+
#
#   begun  0 until the log's first entry or hard state is synced, then 1, before anybody is told:
#          from then on a log without either has lost it.
#
# COMMAND: data of an entry of kind ENTRY_COMMAND. The record's CRC covers it.
#
#    0         1       5           13       21
#    +---------+-------+-----------+--------+-----------+-----------+
#    | version | count | origin id | number | operation | operation | ...
#    +---------+-------+-----------+--------+-----------+-----------+
#
#   origin id, number   by which the node that was asked knows its own entry when it applies it,
#                       whoever was leader; apply itself never looks at them
#
#   operation: kind, flags, and the lengths first, so that a reader checks them before it follows
#   any; then the bytes in the same order. [] is there only where its condition holds.
#
#    +---------+----------+--------------+------------------+----------------------------+
#    | kind u8 | flags u8 | key bytes u16| [value bytes u32]| [old value bytes u32       |
#    |         |          |              |  set, cas        |  or old version u64]  cas  |
#    +---------+----------+--------------+------------------+----------------------------+
#    | key | [value] | [old value] |
#    +-----+---------+-------------+
#
# FOUNDING: data of an entry of kind ENTRY_FOUNDING.
#
#    0         1            9           25      27
#    +---------+------------+-----------+-------+---------+---------------+---------+
#    | version | cluster id | hash seed | count | node id | address bytes | address | ...
#    +---------+------------+-----------+-------+---------+---------------+---------+
#     u8        u64          16 bytes    u16     u64       u16             UTF-8

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer

cpdef enum:
    SEGMENT_VERSION = 1
    META_VERSION = 1
    COMMAND_VERSION = 1
    FOUNDING_VERSION = 1

    SEGMENT_HEADER_BYTES = 48
    RECORD_HEADER_BYTES = 32
    # A front, header and payload.
    FRONT_BYTES = 56
    META_BYTES = 32
    HASH_SEED_BYTES = 16

    RECORD_ENTRY = 1
    RECORD_HARD_STATE = 2
    RECORD_MARKER = 3
    RECORD_ROTATION = 4
    RECORD_BASE = 5
    RECORD_FRONT = 6

    OPERATION_GET = 1
    OPERATION_SET = 2
    OPERATION_CAS = 3
    OPERATION_DELETE = 4

    FLAG_IF_ABSENT = 1         # set
    FLAG_BY_VERSION = 2        # cas: old_version, not old_value
    FLAG_ERROR_IF_NOT_KEY = 4  # delete

    # A host name has at most 253 bytes, in brackets or with a port a few more.
    ADDRESS_BYTES_MAX = 512

# -- segments and records ------------------------------------------------------------------------

cdef struct SegmentHeader:
    uint64_t segment_number
    uint64_t node_id
    uint32_t generation
    uint64_t segment_bytes

cdef struct Record:
    uint32_t type
    uint32_t kind
    uint64_t index
    uint64_t term
    const uint8_t* payload       # inside the bytes it was read from
    size_t payload_bytes
    size_t record_bytes          # header and payload

# The generation of the segment that follows one with this generation.
cdef uint32_t next_generation(uint32_t generation, uint64_t next_segment_number) noexcept nogil
# `target` has room for SEGMENT_HEADER_BYTES.
cdef void put_segment_header(uint8_t* target, const SegmentHeader* header) noexcept nogil
# OK; NOT_FOUND: zeros, a file without a header yet; DAMAGED; UNKNOWN_VERSION (version_out says
# which).
cdef int get_segment_header(const uint8_t* data, size_t data_bytes, SegmentHeader* header,
                            uint32_t* version_out) noexcept nogil
# `target` has room for RECORD_HEADER_BYTES + record.payload_bytes, whatever record.record_bytes.
cdef void put_record(uint8_t* target, const Record* record, uint32_t generation) noexcept nogil
# OK; NOT_FOUND: zeros or too few bytes for a header, the end of the records; DAMAGED;
# UNKNOWN_TYPE: whole and of this generation, but of a type or kind unknown here (in `record`).
cdef int get_record(const uint8_t* data, size_t data_bytes, uint32_t generation,
                    Record* record) noexcept nogil
# Whether every byte is zero.
cdef bint are_zeros(const uint8_t* data, size_t data_bytes) noexcept nogil

# -- commands ------------------------------------------------------------------------------------

# One operation of a command. The pointers are into the command's own bytes and live as long.
# What the kind and flags do not have is NULL or 0.
cdef struct OperationView:
    int kind
    int flags
    const uint8_t* key
    size_t key_bytes
    const uint8_t* value
    size_t value_bytes
    const uint8_t* old_value
    size_t old_value_bytes
    uint64_t old_version

cdef struct CommandCursor:
    size_t operation_count       # as the command says; what is there may be less
    const uint8_t* at
    const uint8_t* end
    size_t left_count

# OK; DAMAGED; UNKNOWN_VERSION.
cdef int command_begin(const uint8_t* data, size_t data_bytes, CommandCursor* cursor
                       ) noexcept nogil
# OK; NOT_FOUND: that was the last, and the command ends there; DAMAGED; UNKNOWN_TYPE: a kind or
# a flag that no operation here has.
cdef int command_next(CommandCursor* cursor, OperationView* operation) noexcept nogil
# Appends the head of a command of so many operations. OK; NO_MEMORY; TOO_LARGE.
cdef int command_put_begin(seafoam_buffer* command, size_t operation_count) noexcept nogil
# Appends one operation. OK; NO_MEMORY; TOO_LARGE; INVALID: flags or parts that the kind has not.
cdef int command_put_operation(seafoam_buffer* command, const OperationView* operation
                               ) noexcept nogil
# What the quota must set aside before the command is proposed. OK; else as the cursor's.
cdef int command_cost_bytes(const uint8_t* data, size_t data_bytes, uint64_t* cost_bytes
                            ) noexcept nogil

cdef class Operation:
    cdef readonly int kind
    cdef readonly int flags
    cdef readonly bytes key
    cdef readonly bytes value          # None for get and delete
    cdef readonly bytes old_value      # None but for a cas by value
    cdef readonly uint64_t old_version

# -- founding ------------------------------------------------------------------------------------

cdef class Founding:
    cdef readonly uint64_t cluster_id
    cdef readonly bytes hash_seed
    cdef readonly tuple members        # (node id, peer address), in the order of the entry
