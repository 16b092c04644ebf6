# Where the writer's side finds the words of its own buckets and entries.
#
# Owns nothing. For the thread that writes the map and, within what a snapshot pins, for the one
# that reads that snapshot: places, lengths and line numbers are believed, and read plainly. A
# reader of the shared map believes none of them; map_protocol is its way in.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.atomics cimport load_relaxed_u64, store_release_u64, store_then_fence_u64
from seafoam._core.map_layout cimport (
    BUCKET_SHIFT, ENTRY_HEADER_BYTES, KEY_LENGTH_BITS, OVERFLOW_OFFSET_BYTES, SLOTS_OFFSET_BYTES,
    TAGS_OFFSET_BYTES, MapView, matching_slots,
)

# --- a bucket's chain, between its odd and its even sequence ------------------------------------

cdef inline void change_begin(uint64_t* bucket) noexcept nogil:
    store_then_fence_u64(bucket, load_relaxed_u64(bucket) + 1)

cdef inline void change_end(uint64_t* bucket) noexcept nogil:
    store_release_u64(bucket, load_relaxed_u64(bucket) + 1)

# --- the words of a bucket or an overflow line ---------------------------------------------------

cdef inline uint64_t every_slot() noexcept nogil:
    # What matching_slots gives where all ten match.
    return <uint64_t>0x0101010101010303

cdef inline uint32_t* slot_place(uint64_t* line, uint32_t slot) noexcept nogil:
    return <uint32_t*>(line + SLOTS_OFFSET_BYTES // 8) + slot

cdef inline uint8_t* slot_tag(uint64_t* line, uint32_t slot) noexcept nogil:
    return <uint8_t*>line + TAGS_OFFSET_BYTES + slot

cdef inline uint32_t* line_overflow(uint64_t* line) noexcept nogil:
    return <uint32_t*>(<uint8_t*>line + OVERFLOW_OFFSET_BYTES)

cdef inline uint64_t slots_with_tag(uint64_t* line, uint8_t tag) noexcept nogil:
    return matching_slots(line[TAGS_OFFSET_BYTES // 8], line[TAGS_OFFSET_BYTES // 8 + 1], tag)

cdef inline uint8_t* entry_at(const MapView* view, uint32_t place) noexcept nogil:
    return view.base + (<uint64_t>place << view.unit_shift)

cdef inline uint32_t entry_lengths(const uint8_t* entry) noexcept nogil:
    return (<const uint32_t*>entry)[4]

cdef inline size_t key_bytes_of(const uint8_t* entry) noexcept nogil:
    return entry_lengths(entry) & ((1 << KEY_LENGTH_BITS) - 1)

cdef inline size_t value_bytes_of(const uint8_t* entry) noexcept nogil:
    return entry_lengths(entry) >> KEY_LENGTH_BITS

cdef inline size_t entry_bytes_of(const uint8_t* entry) noexcept nogil:
    return ENTRY_HEADER_BYTES + key_bytes_of(entry) + value_bytes_of(entry)

cdef inline uint64_t* line_at(const MapView* view, uint32_t line_number) noexcept nogil:
    if line_number == 0:
        return NULL
    return <uint64_t*>(view.overflow_lines + (<uint64_t>(line_number - 1) << BUCKET_SHIFT))
