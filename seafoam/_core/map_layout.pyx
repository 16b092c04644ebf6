# cython: cdivision=True
"""What the shared map looks like in memory: making and checking a segment's header.

See map_layout.pxd for the picture. Divisions are C's, by constants.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from seafoam._core.limits cimport ENTRY_OVERHEAD_BYTES, KEY_BYTES_MIN
from seafoam._core.segment cimport OWNER_OFFSET_BYTES, Segment

from seafoam.errors import ensure

cdef enum:
    # Windows of the arena (arena.pxd); it is made of whole ones.
    ARENA_STEP_BYTES = 4194304
    # Room in the arena beside twice the quota: what evacuation leaves (16 MiB), the window being
    # emptied and the one being filled, the quarantine, and half-empty slabs of every class.
    ARENA_SPARE_BYTES = 100663296
    UNIT_SHIFT_MIN = 4
    UNIT_SHIFT_MAX = 14

cdef MapHeader _example
ensure(<size_t>(<uint8_t*>&_example.owner - <uint8_t*>&_example) == OWNER_OFFSET_BYTES,
       "the owner's mark is not where segments have it")
ensure(sizeof(MapHeader) <= HEADER_BYTES, "the header is over its page")


cdef inline uint64_t round_up(uint64_t length_bytes, uint64_t step_bytes) noexcept nogil:
    return (length_bytes + step_bytes - 1) // step_bytes * step_bytes


cdef void layout_write(MapHeader* header, uint64_t max_logical_bytes) noexcept nogil:
    cdef uint64_t arena_bytes = round_up(2 * max_logical_bytes + ARENA_SPARE_BYTES,
                                         ARENA_STEP_BYTES)
    cdef uint64_t key_count = max_logical_bytes // (ENTRY_OVERHEAD_BYTES + KEY_BYTES_MIN)
    cdef uint64_t bucket_bytes = round_up(
        (key_count // KEYS_PER_BUCKET + FIRST_BUCKET_COUNT) * BUCKET_BYTES, BUCKET_STEP_BYTES)
    # A twentieth of the buckets have an overflow line; a quarter is room for bad luck.
    cdef uint64_t overflow_bytes = round_up(bucket_bytes // 4, BUCKET_STEP_BYTES)
    header.layout_version = LAYOUT_VERSION
    header.page_table_offset_bytes = HEADER_BYTES
    header.bucket_offset_bytes = (
        HEADER_BYTES + round_up(arena_bytes // PAGE_BYTES * 8, HEADER_BYTES))
    header.overflow_offset_bytes = header.bucket_offset_bytes + bucket_bytes
    # Slots of the arena are aligned to units, which a whole page is for every unit allowed.
    header.arena_offset_bytes = round_up(header.overflow_offset_bytes + overflow_bytes, PAGE_BYTES)
    header.size_bytes = header.arena_offset_bytes + arena_bytes
    header.unit_shift = UNIT_SHIFT_MIN
    while header.size_bytes >> header.unit_shift > <uint64_t>0xffffffff:
        header.unit_shift += 1
    header.magic = map_magic()


cdef uint64_t layout_bytes(uint64_t max_logical_bytes) noexcept nogil:
    cdef MapHeader header
    layout_write(&header, max_logical_bytes)
    return header.size_bytes


cdef int layout_check(Segment segment) except -1:
    cdef MapHeader* header = <MapHeader*>segment.base
    cdef uint64_t page_count
    if header.magic != map_magic():
        raise ValueError("the descriptor holds no Seafoam map")
    if header.layout_version != LAYOUT_VERSION:
        raise ValueError(f"the map has layout version {header.layout_version}; this program reads "
                         f"version {LAYOUT_VERSION}")
    page_count = (segment.size_bytes - header.arena_offset_bytes) >> PAGE_SHIFT
    if not (header.size_bytes == segment.size_bytes
            and UNIT_SHIFT_MIN <= header.unit_shift <= UNIT_SHIFT_MAX
            and HEADER_BYTES <= header.page_table_offset_bytes < header.bucket_offset_bytes
            < header.overflow_offset_bytes < header.arena_offset_bytes < segment.size_bytes
            and (header.page_table_offset_bytes | header.bucket_offset_bytes
                 | header.overflow_offset_bytes | header.arena_offset_bytes) % HEADER_BYTES == 0
            and header.bucket_offset_bytes - header.page_table_offset_bytes >= 8 * page_count
            and header.owner.word_offset_bytes < sizeof(header.owner) - 4):
        raise ValueError("the map's header contradicts itself: it is damaged, or foreign")
    return 0


def hash_of(bytes seed not None, bytes key not None):
    """The map's hash of a key under a seed of 16 bytes: SipHash-1-3.

    Source: J.-P. Aumasson and D. J. Bernstein, "SipHash: a fast short-input PRF".
    """
    cdef uint64_t words[2]
    if len(seed) != 16:
        raise ValueError(f"a seed has 16 bytes, not {len(seed)}")
    memcpy(words, PyBytes_AS_STRING(seed), 16)
    return hash_key(words, <const uint8_t*>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))


def slots_with_tag(bytes tags not None, int tag):
    """The slots among ten one-byte tags that have this one, as the reader finds them."""
    cdef uint64_t words[2]
    cdef uint64_t matches
    if len(tags) != BUCKET_SLOT_COUNT or not 0 <= tag <= 255:
        raise ValueError("a bucket has ten tags of one byte")
    words[1] = ~<uint64_t>0
    memcpy(words, PyBytes_AS_STRING(tags), BUCKET_SLOT_COUNT)
    matches = matching_slots(words[0], words[1], <uint8_t>tag)
    found = []
    while matches != 0:
        found.append(slot_of_match(matches))
        matches &= matches - 1
    return found


def bucket_of(uint64_t key_hash, uint64_t bucket_count):
    """The bucket of a hash in a table of so many buckets (linear hashing)."""
    if bucket_count == 0:
        raise ValueError("a table has a bucket")
    return bucket_index_of(key_hash, bucket_count)
