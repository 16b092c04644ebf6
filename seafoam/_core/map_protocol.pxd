# How a reader reads shared memory: every load of it, and every check before its result is used.
#
# Owns nothing. Must never write shared memory, wait for the writer, use an offset or a length from
# shared memory before it is range-checked, or report what was not validated. One attempt is one
# call of map_locate, for a hit followed by copies and one confirmation; map_reader retries.
#
# Why an answer can be trusted, given one writer that makes a bucket's sequence odd (relaxed store,
# release fence) before it changes any word of the chain, and even (release) after:
#
#   P1  What is copied between two equal, even looks at a sequence (load_acquire, then
#       validate_load) is what stood there between two changes. That makes a miss true, if the
#       bucket was the key's: its level says so, and stands under the same sequence. Without that
#       look, a split between loading bucket_count and the sequence would be a false miss.
#   P2  A slot read under such a sequence led to a live entry: before publishing it, the writer
#       filled it. map_locate validates the sequence after comparing the key, so that generation
#       and page generation, loaded before that, are those of a live entry of this key. The
#       generation is stored as a release when the entry is whole, and loaded as an acquire:
#       key and lengths are never older than it.
#   P3  Before an entry's memory is used again, its generation becomes 0, or, where its pages were
#       given up, their generations have moved, each with a release fence behind it. So a copy
#       after which both are still the same (validate_load) holds no later word. It is accepted
#       even where the sequence has moved, which a neighbour's write does: a long copy never
#       starves.
#   P4  When the writer sleeps in the middle of a change, a bucket stays odd. A lenient attempt
#       then takes a hit without the sequence, if the slot still names the entry after its
#       generation and key were read (acquire fence, second look), and by P3. The fence makes that
#       look at least as new as the tag and the generation: so the entry was published and in this
#       slot. That a removed key's slot is zeroed keeps a new tag from meeting a forgotten place.
#       A miss is never taken so.
#   P5  Places, lengths and chain links are checked against what is reserved before they are
#       followed: a torn one ends the attempt.

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from seafoam._core.atomics cimport (
    load_acquire_u64, load_relaxed_u32, load_relaxed_u64, validate_load_u32, validate_load_u64,
)
from seafoam._core.limits cimport VALUE_BYTES_MAX
from seafoam._core.map_layout cimport (
    BUCKET_SHIFT, CHAIN_LINE_COUNT_MAX, ENTRY_HEADER_BYTES, KEY_LENGTH_BITS, LEVEL_OFFSET_BYTES,
    OVERFLOW_OFFSET_BYTES, PAGE_SHIFT, SLOTS_OFFSET_BYTES, TAGS_OFFSET_BYTES, MapView, Probe,
    bucket_index_of, level_mask, matching_slots, own_tail, own_word, slot_of_match, tag_of,
)
from seafoam._core.status cimport STATUS_CONTENDED, STATUS_NOT_FOUND, STATUS_OK

# An entry in shared memory and what must not have moved when its copy is done.
cdef struct EntryReference:
    const uint64_t* words
    const uint64_t* page_generation_word
    uint64_t generation
    uint64_t page_generation
    uint64_t version
    uint32_t key_bytes
    uint32_t value_bytes

# A bucket and the sequence under which it was read.
cdef struct BucketReference:
    const uint64_t* line
    uint64_t sequence
    uint8_t level               # the bucket's keys share the low bits of their hash, this many
    bint is_settled             # even, and the bucket was the key's

cdef struct Found:
    BucketReference bucket
    EntryReference entry

# --- entries -----------------------------------------------------------------------------------

cdef inline bint entry_open(
        const MapView* view, uint32_t place, EntryReference* entry) noexcept nogil:
    # False where the place or the lengths cannot be an entry's, or it is being made.
    cdef uint64_t offset_bytes = <uint64_t>place << view.unit_shift
    cdef uint64_t end_bytes = load_relaxed_u64(&view.header.arena_end_bytes)
    cdef uint32_t lengths
    if (offset_bytes < view.arena_offset_bytes
            or offset_bytes + ENTRY_HEADER_BYTES + 4 > end_bytes):
        return False
    entry.words = <const uint64_t*>(view.base + offset_bytes)
    entry.page_generation_word = (
        view.page_generations + ((offset_bytes - view.arena_offset_bytes) >> PAGE_SHIFT))
    entry.page_generation = load_relaxed_u64(entry.page_generation_word)
    entry.generation = load_acquire_u64(entry.words)
    entry.version = load_relaxed_u64(entry.words + 1)
    lengths = <uint32_t>load_relaxed_u64(entry.words + 2)
    entry.key_bytes = lengths & ((1 << KEY_LENGTH_BITS) - 1)
    entry.value_bytes = lengths >> KEY_LENGTH_BITS
    return (entry.generation != 0 and entry.value_bytes <= VALUE_BYTES_MAX
            and offset_bytes + ENTRY_HEADER_BYTES + entry.key_bytes + entry.value_bytes
            <= end_bytes)

cdef inline bint entry_has_key(const EntryReference* entry, const Probe* probe) noexcept nogil:
    # The key begins four bytes into the third word.
    cdef const uint64_t* word = entry.words + 2
    cdef const uint8_t* key = probe.key
    cdef size_t left_bytes = probe.key_bytes
    cdef uint64_t low, high
    if entry.key_bytes != left_bytes:
        return False
    low = load_relaxed_u64(word)
    while left_bytes >= 8:
        word += 1
        high = load_relaxed_u64(word)
        if (low >> 32 | high << 32) != own_word(key):
            return False
        low = high
        key += 8
        left_bytes -= 8
    if left_bytes == 0:
        return True
    low >>= 32
    if left_bytes > 4:
        low |= load_relaxed_u64(word + 1) << 32
    return low & ((<uint64_t>1 << (8 * left_bytes)) - 1) == own_tail(key, left_bytes)

cdef inline void copy_out(
        const uint64_t* words, size_t offset_bytes, uint8_t* target, size_t copy_bytes
        ) noexcept nogil:
    # Bytes of an entry, from any offset, to private memory; loads no word without a byte of them.
    cdef const uint64_t* word = words + (offset_bytes >> 3)
    cdef uint32_t shift = 8 * <uint32_t>(offset_bytes & 7)
    cdef uint64_t low, high
    if copy_bytes == 0:
        return
    low = load_relaxed_u64(word)
    if shift == 0:
        while copy_bytes >= 8:
            memcpy(target, &low, 8)
            word += 1
            target += 8
            copy_bytes -= 8
            if copy_bytes == 0:
                return
            low = load_relaxed_u64(word)
    while copy_bytes >= 8:
        word += 1
        high = load_relaxed_u64(word)
        low = low >> shift | high << (64 - shift)
        memcpy(target, &low, 8)
        low = high
        target += 8
        copy_bytes -= 8
    if copy_bytes == 0:
        return
    low >>= shift
    if shift + 8 * copy_bytes > 64:
        low |= load_relaxed_u64(word + 1) << (64 - shift)
    memcpy(target, &low, copy_bytes)

cdef inline void copy_value(const EntryReference* entry, uint8_t* target) noexcept nogil:
    copy_out(entry.words, ENTRY_HEADER_BYTES + entry.key_bytes, target, entry.value_bytes)

cdef inline bint entry_is_intact(const EntryReference* entry) noexcept nogil:
    # P3: nothing that was copied from the entry is newer than the entry.
    return (validate_load_u64(entry.words) == entry.generation
            and validate_load_u64(entry.page_generation_word) == entry.page_generation)

# --- buckets -----------------------------------------------------------------------------------

cdef inline bint bucket_open(
        const MapView* view, uint64_t hash, BucketReference* bucket) noexcept nogil:
    # False where the header's count is not one of this segment.
    cdef uint64_t index = bucket_index_of(hash, load_acquire_u64(&view.header.bucket_count))
    cdef uint64_t rest
    if index >= view.bucket_limit_count:
        return False
    bucket.line = <const uint64_t*>(view.buckets + (index << BUCKET_SHIFT))
    bucket.sequence = load_acquire_u64(bucket.line)
    rest = load_relaxed_u64(bucket.line + TAGS_OFFSET_BYTES // 8 + 1)
    bucket.level = <uint8_t>(rest >> (8 * (LEVEL_OFFSET_BYTES & 7)))
    bucket.is_settled = bucket.sequence & 1 == 0 and hash & level_mask(bucket.level) == index
    return True

cdef inline bint bucket_is_unmoved(const BucketReference* bucket) noexcept nogil:
    # P1: all that was copied under the bucket's sequence stood there at one moment.
    return bucket.is_settled and validate_load_u64(bucket.line) == bucket.sequence

cdef inline uint32_t overflow_of(uint64_t tags_and_rest) noexcept nogil:
    return <uint32_t>(tags_and_rest >> (8 * (OVERFLOW_OFFSET_BYTES & 7)))

cdef inline const uint64_t* line_at(const MapView* view, uint32_t line_number) noexcept nogil:
    # An overflow line by its number, counted from 1; NULL where the region has no such line.
    if line_number == 0 or line_number > view.overflow_limit_count:
        return NULL
    return <const uint64_t*>(
        view.overflow_lines + (<uint64_t>(line_number - 1) << BUCKET_SHIFT))

cdef inline const uint32_t* slot_word(const uint64_t* line, uint32_t slot) noexcept nogil:
    return <const uint32_t*>(line + SLOTS_OFFSET_BYTES // 8) + slot

# --- one attempt to find a key -----------------------------------------------------------------

cdef inline int map_locate(
        const MapView* view, const Probe* probe, Found* found, bint is_lenient) noexcept nogil:
    # OK: found.entry is this key's, and was live (P2, or P4 where lenient); copy, then confirm.
    # NOT_FOUND: there is no such key (P1). CONTENDED: nothing is known, try again.
    cdef const uint64_t* line
    cdef const uint32_t* slot
    cdef uint64_t rest, matches
    cdef uint32_t place
    cdef int line_count = 0
    if not bucket_open(view, probe.hash, &found.bucket):
        return STATUS_CONTENDED
    if not found.bucket.is_settled and not is_lenient:
        return STATUS_CONTENDED
    line = found.bucket.line
    while line != NULL:
        rest = load_relaxed_u64(line + TAGS_OFFSET_BYTES // 8 + 1)
        matches = matching_slots(
            load_relaxed_u64(line + TAGS_OFFSET_BYTES // 8), rest, tag_of(probe.hash))
        while matches != 0:
            slot = slot_word(line, slot_of_match(matches))
            place = load_relaxed_u32(slot)
            if not entry_open(view, place, &found.entry):
                return STATUS_CONTENDED
            if entry_has_key(&found.entry, probe):
                if bucket_is_unmoved(&found.bucket):
                    return STATUS_OK
                if is_lenient and validate_load_u32(slot) == place:
                    return STATUS_OK
                return STATUS_CONTENDED
            matches &= matches - 1
        line = line_at(view, overflow_of(rest))
        line_count += 1
        if line_count == CHAIN_LINE_COUNT_MAX and line != NULL:
            return STATUS_CONTENDED
    return STATUS_NOT_FOUND if bucket_is_unmoved(&found.bucket) else STATUS_CONTENDED

cdef inline bint map_confirm(const Found* found) noexcept nogil:
    # After the copy of a single key's value: P1, else P3.
    return bucket_is_unmoved(&found.bucket) or entry_is_intact(&found.entry)
