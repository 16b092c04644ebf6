"""Walks a map's whole table and compares it with itself; see map_verify.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.atomics cimport load_relaxed_u64
from seafoam._core.map_layout cimport (
    BUCKET_SHIFT, BUCKET_SLOT_COUNT, ENTRY_HEADER_BYTES, MapView, bucket_index_of, hash_key,
    tag_of,
)
from seafoam._core.map_words cimport (
    entry_at, entry_bytes_of, key_bytes_of, line_at, line_overflow, slot_place, slot_tag,
)

from seafoam.errors import ensure


cdef tuple verify_buckets(const MapView* view, uint64_t bucket_count):
    cdef uint64_t index, key_value_bytes = 0, line_count = 0
    cdef uint64_t* line
    cdef set places = set()
    for index in range(bucket_count):
        line = <uint64_t*>(view.buckets + (index << BUCKET_SHIFT))
        ensure(load_relaxed_u64(line) & 1 == 0, f"bucket {index} is left in a change")
        while line != NULL:
            key_value_bytes += _verify_line(view, line, index, bucket_count, places)
            line = line_at(view, line_overflow(line)[0])
            line_count += line != NULL
    return places, key_value_bytes, line_count


cdef uint64_t _verify_line(const MapView* view, uint64_t* line, uint64_t index,
                           uint64_t bucket_count, set places) except? 0:
    # Adds the places in one line of a bucket's chain; the bytes of their entries.
    cdef uint64_t hash, entry_bytes = 0
    cdef uint32_t slot, place
    cdef const uint8_t* entry
    for slot in range(<uint32_t>BUCKET_SLOT_COUNT):
        place = slot_place(line, slot)[0]
        ensure((place == 0) == (slot_tag(line, slot)[0] == 0), "a place without a tag")
        if place == 0:
            continue
        entry = entry_at(view, place)
        hash = hash_key(view.seed, entry + ENTRY_HEADER_BYTES, key_bytes_of(entry))
        ensure(bucket_index_of(hash, bucket_count) == index, "a key in a wrong bucket")
        ensure(tag_of(hash) == slot_tag(line, slot)[0], "a key under a wrong tag")
        ensure(load_relaxed_u64(<const uint64_t*>entry) != 0, "an entry without a generation")
        ensure(place not in places, f"place {place} is in two slots")
        places.add(place)
        entry_bytes += entry_bytes_of(entry)
    return entry_bytes
