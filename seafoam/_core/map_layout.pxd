# What the shared map looks like in memory: the bytes that one writer lays out and readers in other
# processes understand. Owns structures, the hash, the arithmetic from a key to its place, and the
# header's making and checking. Must never touch shared memory but the constant part of the header:
# map_writer and arena write the rest, map_protocol reads it.
#
# A segment, each region beginning on a page:
#
#   +--------+--------------------+-----------------+------------------+------------------------+
#   | header | page generations   | primary buckets | overflow lines   | arena of entries       |
#   +--------+--------------------+-----------------+------------------+------------------------+
#     4 KiB    8 bytes for each     64 bytes each     64 bytes each      pages of 16 KiB, in
#              arena page                                                windows of 4 MiB
#
# All regions have their whole address space from the start and are reserved piece by piece from
# their beginning. Places are offsets in units of 1 << unit_shift bytes from the segment's start,
# so that 32 bits reach 64 GiB with units of 16 bytes; unit 0 is the header and so means "none".
#
# A bucket, and an overflow line, is one cache line:
#
#   0        8                                        48               58      60         64
#   +--------+----------------------------------------+----------------+---+---+----------+
#   |sequence| 10 slots: where each entry is, 4 bytes | 10 tags, 1 byte| l | - | overflow |
#   +--------+----------------------------------------+----------------+---+---+----------+
#
# A tag is eight bits of the key's hash that choose no bucket; 0 is an empty slot, whose place is
# 0 too. l is the level: the bucket holds the keys whose hash ends in its index, in that many
# bits. overflow counts lines from 1; 0 ends the chain. The sequence of the bucket covers its whole
# chain; it is odd while the chain changes. A line of a chain leaves its own sequence at 0.
#
# Overflow lines have a region of their own, not a size class of the arena: the arena moves its
# entries to make room, and lines would have to be found and moved with them.
#
# An entry, in a slot of its size class:
#
#   0            8         16                                  20
#   +------------+---------+-----------------------------------+-----+-------+- - - - -+
#   | generation | version | value_bytes << 11 | key_bytes     | key | value | unused  |
#   +------------+---------+-----------------------------------+-----+-------+- - - - -+
#
# generation is never the same twice in a segment, and 0 while the entry is made. A page's
# generation moves whenever the page's span is given up: together they tell whether the words that
# were copied are still those of the entry that was found, also where value bytes of another
# entry now stand where the generation stood.
#
# Words are read and written in 64 bits and merged by shifting: bytes are little-endian.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from seafoam._core.segment cimport OwnerMark, Segment

cdef extern from *:
    """
    #if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "the shared map merges words by shifting and needs a little-endian machine"
    #endif
    #define seafoam_prefetch(address) __builtin_prefetch((address), 0, 3)
    """
    int count_trailing_zeros "__builtin_ctzll"(uint64_t word) nogil
    uint64_t swap_bytes "__builtin_bswap64"(uint64_t word) nogil
    int count_leading_zeros "__builtin_clzll"(uint64_t word) nogil
    void prefetch "seafoam_prefetch"(const void* address) nogil

cdef enum:
    LAYOUT_VERSION = 1
    HEADER_BYTES = 4096
    BUCKET_BYTES = 64
    BUCKET_SHIFT = 6
    BUCKET_SLOT_COUNT = 10
    # Within a bucket: where the words with the tags begin, and their parts.
    SLOTS_OFFSET_BYTES = 8
    TAGS_OFFSET_BYTES = 48
    LEVEL_OFFSET_BYTES = 58
    OVERFLOW_OFFSET_BYTES = 60
    # What both sides follow of a chain. With a seeded hash and buckets half full a chain of three
    # lines is already rare; this is for a table that was not allowed to grow.
    CHAIN_LINE_COUNT_MAX = 64
    PAGE_SHIFT = 14
    PAGE_BYTES = 16384
    ENTRY_HEADER_BYTES = 20
    KEY_LENGTH_BITS = 11
    # Where a map's table begins.
    FIRST_BUCKET_COUNT = 64
    # Half of a bucket's slots: about one bucket in twenty has an overflow line, whatever the
    # phase of the table's growth, and a key costs 13 bytes of bucket.
    KEYS_PER_BUCKET = 5
    # Regions of lines are made of whole steps of reservation.
    BUCKET_STEP_BYTES = 65536

cdef struct MapHeader:
    # --- constant: written before any reader has the segment ---------------------------------
    uint64_t magic
    uint32_t layout_version
    uint32_t unit_shift
    uint64_t segment_generation
    uint64_t start_id
    uint64_t size_bytes
    uint64_t page_table_offset_bytes
    uint64_t bucket_offset_bytes
    uint64_t overflow_offset_bytes
    uint64_t arena_offset_bytes
    uint64_t hash_seed[2]
    uint64_t spare[5]
    # --- the owner's sign of life; segment.pxd says who touches it and how (128 bytes in) ------
    OwnerMark owner
    uint64_t spare_behind_owner[6]
    # --- moves as the map grows (256 bytes in) -------------------------------------------------
    # How many buckets can be reached. Written by: the writer, release, once the new bucket is
    # filled. Read by: readers, acquire, before any bucket: so they find the bucket filled.
    uint64_t bucket_count
    # How far the arena is reserved, from the segment's start; beyond it a reader would allocate
    # memory by looking. Written by: the writer, release, before any entry there is published.
    # Read by: readers, relaxed, behind the bucket's sequence (acquire), which publishes the entry.
    uint64_t arena_end_bytes
    uint64_t spare_behind_growth[6]
    # --- moves with each log entry (320 bytes in) ------------------------------------------------
    # Odd while an entry that writes several keys is being applied. Written by: the writer; odd as
    # a relaxed store and a release fence, even as a release. Read by: multi-key reads; acquire
    # before a pass over their sequences, and again behind an acquire fence after it.
    uint64_t multi_sequence
    # The index of the log entry whose writes began last, or have ended. Written by: the writer,
    # relaxed store and release fence, before its first write. Read by: whoever answers with an
    # index, after its copy was validated (an acquire fence): at least as new as what was copied.
    uint64_t applying_index
    # The index whose writes are all done. Written by: the writer, release, after the last write.
    # Read by: readers, acquire: who sees n sees everything up to n.
    uint64_t applied_index
    # Keys in the map. Written by: the writer, relaxed, for people to look at. Read: relaxed.
    uint64_t key_count
    uint64_t spare_behind_positions[4]
    # --- moves when Raft moves (384 bytes in) ---------------------------------------------------
    # Written by: the writer, release. Read by: readers, acquire. Each stands for itself.
    uint64_t commit_index
    uint64_t term
    uint64_t role
    uint64_t node_state

# Everything a reader or the writer needs to find its way, in one place of its own memory.
cdef struct MapView:
    uint8_t* base
    MapHeader* header
    uint64_t* page_generations
    uint8_t* buckets
    uint8_t* overflow_lines
    uint64_t seed[2]
    uint64_t arena_offset_bytes
    uint64_t bucket_limit_count         # how many the region has room for
    uint64_t overflow_limit_count
    uint32_t unit_shift

# A key on its way in: the caller's bytes, and what they hash to.
cdef struct Probe:
    const uint8_t* key
    size_t key_bytes
    uint64_t hash

# How large a segment is that holds so many logical bytes (limits.pxd: ENTRY_OVERHEAD_BYTES).
cdef uint64_t layout_bytes(uint64_t max_logical_bytes) noexcept nogil
# Writes the constant part of a header but what names the map: seed, start id, generation.
cdef void layout_write(MapHeader* header, uint64_t max_logical_bytes) noexcept nogil
# Raises ValueError unless the segment holds a map that this version can read.
cdef int layout_check(Segment segment) except -1

cdef inline uint64_t map_magic() noexcept nogil:
    return <uint64_t>0x70616d6d616f6673     # "sfoammap"

cdef inline void view_open(MapView* view, uint8_t* base) noexcept nogil:
    # The header's offsets must have been checked, or be one's own.
    cdef MapHeader* header = <MapHeader*>base
    view.base = base
    view.header = header
    view.page_generations = <uint64_t*>(base + header.page_table_offset_bytes)
    view.buckets = base + header.bucket_offset_bytes
    view.overflow_lines = base + header.overflow_offset_bytes
    view.seed[0] = header.hash_seed[0]
    view.seed[1] = header.hash_seed[1]
    view.arena_offset_bytes = header.arena_offset_bytes
    view.bucket_limit_count = (
        (header.overflow_offset_bytes - header.bucket_offset_bytes) >> BUCKET_SHIFT)
    view.overflow_limit_count = (
        (header.arena_offset_bytes - header.overflow_offset_bytes) >> BUCKET_SHIFT)
    view.unit_shift = header.unit_shift

# --- words of somebody's own memory, of any alignment ------------------------------------------

cdef inline uint64_t own_word(const uint8_t* source) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, source, 8)
    return word

cdef inline uint64_t own_tail(const uint8_t* source, size_t tail_bytes) noexcept nogil:
    # Up to seven bytes as a word, the others zero; reads nothing beyond them.
    cdef uint64_t word = 0
    cdef uint32_t half
    cdef size_t done_bytes = 0
    if tail_bytes & 4:
        memcpy(&half, source, 4)
        word = half
        done_bytes = 4
    while done_bytes < tail_bytes:
        word |= <uint64_t>source[done_bytes] << (8 * done_bytes)
        done_bytes += 1
    return word

# --- the hash: SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", with one
# compression and three finalization rounds) ------------------------------------------------------

cdef inline uint64_t rotate_left(uint64_t word, int bit_count) noexcept nogil:
    return (word << bit_count) | (word >> (64 - bit_count))

cdef inline void siphash_round(uint64_t* v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotate_left(v[1], 13) ^ v[0]
    v[3] = rotate_left(v[3], 16) ^ v[2]
    v[0] = rotate_left(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotate_left(v[1], 17) ^ v[2]
    v[3] = rotate_left(v[3], 21) ^ v[0]
    v[2] = rotate_left(v[2], 32)

cdef inline uint64_t hash_key(
        const uint64_t* seed, const uint8_t* key, size_t key_bytes) noexcept nogil:
    cdef uint64_t v[4]
    cdef uint64_t word
    cdef const uint8_t* end = key + (key_bytes & ~<size_t>7)
    v[0] = seed[0] ^ <uint64_t>0x736f6d6570736575
    v[1] = seed[1] ^ <uint64_t>0x646f72616e646f6d
    v[2] = seed[0] ^ <uint64_t>0x6c7967656e657261
    v[3] = seed[1] ^ <uint64_t>0x7465646279746573
    while key != end:
        word = own_word(key)
        v[3] ^= word
        siphash_round(v)
        v[0] ^= word
        key += 8
    word = own_tail(key, key_bytes & 7) | <uint64_t>key_bytes << 56
    v[3] ^= word
    siphash_round(v)
    v[0] ^= word
    v[2] ^= 0xff
    siphash_round(v)
    siphash_round(v)
    siphash_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]

cdef inline uint64_t swap_bits(uint64_t word, uint64_t mask, int distance) noexcept nogil:
    return ((word >> distance) & mask) | ((word & mask) << distance)

cdef inline uint64_t reverse_bits(uint64_t word) noexcept nogil:
    word = swap_bits(word, <uint64_t>0x5555555555555555, 1)
    word = swap_bits(word, <uint64_t>0x3333333333333333, 2)
    word = swap_bits(word, <uint64_t>0x0f0f0f0f0f0f0f0f, 4)
    return swap_bytes(word)

# --- from a hash to a bucket and a tag ---------------------------------------------------------

cdef inline uint64_t level_mask(uint32_t level) noexcept nogil:
    return (<uint64_t>1 << (level & 63)) - 1

cdef inline uint64_t bucket_index_of(uint64_t hash, uint64_t bucket_count) noexcept nogil:
    # Linear hashing: buckets below the split pointer, and their new halves, use one more bit.
    cdef uint64_t mask = (<uint64_t>2 << (63 - count_leading_zeros(bucket_count))) - 1
    cdef uint64_t index = hash & mask
    if index >= bucket_count:
        index &= mask >> 1
    return index

cdef inline uint8_t tag_of(uint64_t hash) noexcept nogil:
    cdef uint8_t tag = <uint8_t>(hash >> 56)
    return tag if tag != 0 else 1

cdef inline uint64_t equal_bytes(uint64_t word, uint8_t tag) noexcept nogil:
    # The top bit of each byte that equals the tag; exact, no byte borrows from its neighbour.
    cdef uint64_t low = <uint64_t>0x7f7f7f7f7f7f7f7f
    word ^= <uint64_t>0x0101010101010101 * tag
    return ~(((word & low) + low) | word | low)

cdef inline uint64_t matching_slots(
        uint64_t tags, uint64_t tags_and_rest, uint8_t tag) noexcept nogil:
    # One bit for each slot with this tag, to be taken apart by slot_of_match.
    return (equal_bytes(tags, tag) >> 7) | ((equal_bytes(tags_and_rest, tag) & 0x8080) >> 6)

cdef inline uint32_t slot_of_match(uint64_t matches) noexcept nogil:
    # Slot i below 8 is bit 8 i; slots 8 and 9 are bits 1 and 9.
    cdef uint32_t bit = count_trailing_zeros(matches)
    return (bit >> 3) + ((bit & 1) << 3)
