# Walking the whole shared map in pages, while it is written and while it grows.
#
# Owns the order of a scan and the text of its cursors. Must never write shared memory, or return
# what map_protocol did not validate.
#
# The order is that of the hash with its bits reversed, ties by key. A bucket at level l holds the
# hashes that end in its index, so reversed they are one range of 2^(64 - l) positions, whatever
# the number of buckets; a split cuts a range in two. A scan goes from range to range, each read
# under its bucket's sequence. So a key that stays is met exactly once, wherever it moves in the
# meantime, and a position means the same in every map with the same seed, however large.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.map_layout cimport MapView
from seafoam._core.map_protocol cimport BucketReference, EntryReference

# One key of a page; places are counted from the buffer's beginning.
cdef struct ScanItem:
    uint64_t position           # the hash, reversed: the order of a scan
    uint64_t version
    size_t key_start
    size_t key_bytes
    size_t value_start
    size_t value_bytes

cdef struct ScanPage:
    # in: where the last page ended (keys at or before it are left out), what to give
    uint64_t position
    const uint8_t* after_key
    size_t after_key_bytes
    const uint8_t* prefix
    size_t prefix_bytes
    bint with_values
    size_t limit_count
    size_t max_bytes            # of keys and values; one is always given
    # out; items has room for limit_count. is_end: there is nothing behind this page. Otherwise the
    # next page begins behind the last item where the page is_full, else at next_position.
    ScanItem* items
    size_t item_count
    size_t given_bytes
    uint64_t next_position
    bint is_end
    bint is_full

# A key of the bucket at hand.
cdef struct Candidate:
    uint64_t position
    EntryReference entry

# Fills a page; appends to out. OK, CONTENDED (nothing is known), NO_MEMORY. attempt_count is
# increased by the attempts that were in vain.
cdef int scan_page(const MapView* view, ScanPage* page, seafoam_buffer* out,
                   uint64_t* attempt_count) noexcept nogil

# The text that stands for "behind this key", or, without a key, "from this position on", in a scan
# of the keys with this prefix; and back. Raises Refusal: wrong_cluster for a text that was given
# under another seed, bad_request for one that is damaged, made up or of another prefix.
cdef str cursor_text(const MapView* view, bytes prefix, uint64_t position, bytes key)
cdef tuple cursor_parts(const MapView* view, bytes prefix, str text)
