"""Walking the whole shared map in pages; map_scan.pxd says why nothing is missed."""

import binascii
import re

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from seafoam._core.atomics cimport load_relaxed_u32, load_relaxed_u64, spin_pause
from seafoam._core.buffer cimport buffer_reserve, seafoam_buffer
from seafoam._core.map_layout cimport (
    BUCKET_SLOT_COUNT, CHAIN_LINE_COUNT_MAX, ENTRY_HEADER_BYTES, KEY_LENGTH_BITS,
    TAGS_OFFSET_BYTES, MapView, hash_key, level_mask, matching_slots, reverse_bits, slot_of_match,
)
from seafoam._core.map_protocol cimport (
    BucketReference, EntryReference, bucket_is_unmoved, bucket_open, copy_out, copy_value,
    entry_is_intact, entry_open, line_at, overflow_of, slot_word,
)
from seafoam._core.pack cimport crc32c_raw
from seafoam._core.status cimport STATUS_CONTENDED, STATUS_NO_MEMORY, STATUS_OK

from seafoam.errors import Refusal

cdef extern from "sched.h" nogil:
    int sched_yield()

cdef enum:
    # A page ends after so many buckets even where its limit is not reached: a prefix that few keys
    # have must not hold a caller for the whole map. About ten milliseconds.
    BUCKETS_PER_PAGE_MAX = 16384
    ATTEMPTS_PER_BUCKET_MAX = 8192
    # From here on the processor is offered to the writer between attempts.
    PATIENT_ATTEMPTS = 64

# What matching_slots gives where all ten match.
cdef uint64_t EVERY_SLOT = 0x0101010101010303


cdef inline size_t copy_key(const EntryReference* entry, uint8_t* target) noexcept nogil:
    copy_out(entry.words, ENTRY_HEADER_BYTES, target, entry.key_bytes)
    return entry.key_bytes


cdef inline int compare_keys(const uint8_t* left, size_t left_bytes, const uint8_t* right,
                             size_t right_bytes) noexcept nogil:
    cdef int order = memcmp(left, right, left_bytes if left_bytes < right_bytes else right_bytes)
    if order != 0:
        return order
    return (left_bytes > right_bytes) - (left_bytes < right_bytes)


cdef bint is_wanted(
        const MapView* view, const ScanPage* page, Candidate* candidate) noexcept nogil:
    """Whether a key is behind the page's beginning and has its prefix; fills in its position."""
    cdef uint8_t key[1 << KEY_LENGTH_BITS]
    cdef size_t key_bytes = copy_key(&candidate.entry, key)
    candidate.position = reverse_bits(hash_key(view.seed, key, key_bytes))
    if candidate.position < page.position:
        return False
    if candidate.position == page.position and compare_keys(
            key, key_bytes, page.after_key, page.after_key_bytes) <= 0:
        return False
    return (page.prefix_bytes == 0
            or (key_bytes >= page.prefix_bytes
                and memcmp(key, page.prefix, page.prefix_bytes) == 0))


cdef bint comes_before(const Candidate* left, const Candidate* right) noexcept nogil:
    cdef uint8_t left_key[1 << KEY_LENGTH_BITS]
    cdef uint8_t right_key[1 << KEY_LENGTH_BITS]
    if left.position != right.position:
        return left.position < right.position
    return compare_keys(left_key, copy_key(&left.entry, left_key),
                        right_key, copy_key(&right.entry, right_key)) < 0


cdef int collect(const MapView* view, const ScanPage* page, const BucketReference* bucket,
                 Candidate* candidates) noexcept nogil:
    """The bucket's wanted keys, in order; their number, or -1 where the bucket moved."""
    cdef const uint64_t* line = bucket.line
    cdef uint64_t rest, filled
    cdef int count = 0, line_count = 0, at
    cdef Candidate candidate
    while line != NULL:
        rest = load_relaxed_u64(line + TAGS_OFFSET_BYTES // 8 + 1)
        filled = EVERY_SLOT & ~matching_slots(
            load_relaxed_u64(line + TAGS_OFFSET_BYTES // 8), rest, 0)
        while filled != 0:
            if not entry_open(view, load_relaxed_u32(slot_word(line, slot_of_match(filled))),
                              &candidate.entry):
                return -1
            filled &= filled - 1
            if not is_wanted(view, page, &candidate):
                continue
            at = count
            while at > 0 and comes_before(&candidate, &candidates[at - 1]):
                candidates[at] = candidates[at - 1]
                at -= 1
            candidates[at] = candidate
            count += 1
        line = line_at(view, overflow_of(rest))
        line_count += 1
        if line_count == CHAIN_LINE_COUNT_MAX and line != NULL:
            return -1
    return count if bucket_is_unmoved(bucket) else -1


cdef int append(ScanPage* page, const Candidate* candidate, seafoam_buffer* out) noexcept nogil:
    """Copies one key, validated by its entry's generation: it was live when it was collected."""
    cdef const EntryReference* entry = &candidate.entry
    cdef size_t value_bytes = entry.value_bytes if page.with_values else 0
    cdef ScanItem* item = &page.items[page.item_count]
    if buffer_reserve(out, entry.key_bytes + value_bytes):
        return STATUS_NO_MEMORY
    item.position = candidate.position
    item.version = entry.version
    item.key_start = out.used_bytes
    item.key_bytes = copy_key(entry, out.data + out.used_bytes)
    item.value_start = out.used_bytes + item.key_bytes
    item.value_bytes = value_bytes
    if page.with_values:
        copy_value(entry, out.data + item.value_start)
    if not entry_is_intact(entry):
        return STATUS_CONTENDED
    out.used_bytes += item.key_bytes + value_bytes
    page.item_count += 1
    return STATUS_OK


cdef int scan_bucket(const MapView* view, ScanPage* page, seafoam_buffer* out,
                     Candidate* candidates) noexcept nogil:
    """One attempt at the bucket of next_position, which moves behind it; page.is_full may be set.

    After anything but OK, page and buffer are as they were.
    """
    cdef size_t used_bytes = out.used_bytes, item_count = page.item_count
    cdef size_t given_bytes = page.given_bytes, size_bytes
    cdef BucketReference bucket
    cdef int count, index, status
    if (not bucket_open(view, reverse_bits(page.next_position), &bucket)
            or not bucket.is_settled):
        return STATUS_CONTENDED
    count = collect(view, page, &bucket, candidates)
    if count < 0:
        return STATUS_CONTENDED
    for index in range(count):
        size_bytes = candidates[index].entry.key_bytes
        if page.with_values:
            size_bytes += candidates[index].entry.value_bytes
        if page.item_count == page.limit_count or (
                page.item_count != 0 and page.given_bytes + size_bytes > page.max_bytes):
            page.is_full = True
            return STATUS_OK
        status = append(page, &candidates[index], out)
        if status != STATUS_OK:
            out.used_bytes = used_bytes
            page.item_count = item_count
            page.given_bytes = given_bytes
            return status
        page.given_bytes += size_bytes
    page.next_position = (page.next_position | ~<uint64_t>0 >> bucket.level) + 1
    page.is_end = page.next_position == 0
    return STATUS_OK


cdef int scan_page(const MapView* view, ScanPage* page, seafoam_buffer* out,
                   uint64_t* attempt_count) noexcept nogil:
    cdef Candidate* candidates = <Candidate*>malloc(
        CHAIN_LINE_COUNT_MAX * BUCKET_SLOT_COUNT * sizeof(Candidate))
    cdef int bucket_count = 0, attempt = 0, status = STATUS_OK
    if candidates == NULL:
        return STATUS_NO_MEMORY
    page.item_count = page.given_bytes = 0
    page.next_position = page.position
    page.is_end = page.is_full = False
    # A page that has its keys goes on until it meets another: so the last one is known.
    while not page.is_end and not page.is_full and bucket_count < BUCKETS_PER_PAGE_MAX:
        status = scan_bucket(view, page, out, candidates)
        if status == STATUS_OK:
            bucket_count += 1
            attempt = 0
            continue
        if status != STATUS_CONTENDED or attempt == ATTEMPTS_PER_BUCKET_MAX:
            break
        attempt += 1
        attempt_count[0] += 1
        spin_pause()
        if attempt > PATIENT_ATTEMPTS:
            sched_yield()
    free(candidates)
    return status


# --- cursors -----------------------------------------------------------------------------------

# A cursor's bytes, which its text has in base64url without padding:
#
#     0      4         8          16
#     | crc  | cluster | position | key ...
#
# crc, little-endian, is of the prefix and of all that stands behind it here, so that neither a
# damaged cursor nor one of a scan with another prefix is taken. cluster tells the maps of one
# seed from those of another. position is where the page ended, key its last key or nothing.
cdef enum:
    CURSOR_HEADER_BYTES = 16

_CURSOR = re.compile(r"[0-9A-Za-z_-]{22,1387}", re.ASCII)


cdef uint64_t position_of(const MapView* view, bytes key) noexcept:
    return reverse_bits(hash_key(view.seed, <const uint8_t*>PyBytes_AS_STRING(key),
                                 PyBytes_GET_SIZE(key)))


cdef bytes cluster_tag(const MapView* view):
    cdef object tag = position_of(view, b"") & <uint64_t>0xffffffff
    return tag.to_bytes(4, "little")


cdef bytes sealed(bytes prefix, bytes rest):
    cdef uint32_t crc = crc32c_raw(0, PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix))
    crc = crc32c_raw(crc, PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
    return (<object>crc).to_bytes(4, "little") + rest


cdef str cursor_text(const MapView* view, bytes prefix, uint64_t position, bytes key):
    rest = cluster_tag(view) + (<object>position).to_bytes(8, "little") + key
    text = binascii.b2a_base64(sealed(prefix, rest), newline=False).decode().rstrip("=")
    return text.replace("+", "-").replace("/", "_")


cdef bytes cursor_bytes(str text):
    """What a text in base64url stands for; nothing where it is none."""
    if _CURSOR.fullmatch(text) is None:
        return b""
    encoded = text.replace("-", "+").replace("_", "/")
    try:
        data = binascii.a2b_base64(encoded + "=" * (-len(encoded) % 4))
    except binascii.Error:
        return b""
    # The last letter may have bits that stand for nothing; only one spelling is taken.
    is_plain = binascii.b2a_base64(data, newline=False).decode().rstrip("=") == encoded
    return data if is_plain else b""


cdef tuple cursor_parts(const MapView* view, bytes prefix, str text):
    cdef bytes data = cursor_bytes(text)
    cdef bytes key = data[CURSOR_HEADER_BYTES:]
    if len(data) < CURSOR_HEADER_BYTES or sealed(prefix, data[4:]) != data:
        raise Refusal(
            "bad_request",
            "after must be empty or the next of an earlier answer with the same prefix, unchanged")
    if data[4:8] != cluster_tag(view):
        raise Refusal("wrong_cluster", "after is of a scan of another cluster")
    position = int.from_bytes(data[8:16], "little")
    if key and position_of(view, key) != position:
        raise Refusal("bad_request", "after was made up: its key is not where it says")
    return position, key
