# Readers of the shared map: any number, in any process, in any thread.
#
# Owns nothing shared. Must never write shared memory or return what map_protocol did not validate;
# the object is not changed by reading but for its counters, so several threads may use one.
#
# A read ends within READ_ATTEMPTS_MAX attempts. From LENIENT_ATTEMPTS on, a single key's hit is
# taken by the entry's generation alone, and the processor is offered to others between attempts,
# the writer among them. A read of several keys accepts only sequences: it is one point in time.
#
# Why a multi-key read is one point in time: each key's value was validated under its bucket's
# sequence. A pass over all of them begins after the last copy; if it finds every sequence as
# recorded, then all those values stood there together when the pass began, for each sequence was
# the same before that moment and after it. The multi sequence, even and unchanged from before the
# pass to behind it, says that no entry that writes several keys was half applied then.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.map_layout cimport MapView
from seafoam._core.map_scan cimport ScanPage
from seafoam._core.segment cimport Segment

cdef struct ReadItem:
    # in
    const uint8_t* key
    size_t key_bytes
    # out; the value's place is counted from the buffer's beginning
    bint found
    uint64_t version
    size_t value_start
    size_t value_bytes
    # the reader's own
    uint64_t hash
    const uint64_t* bucket_line
    uint64_t sequence
    size_t room_bytes           # kept in the buffer at value_start

# What a multi-key read carries along.
cdef struct ManyState:
    seafoam_buffer* out
    size_t found_bytes          # of all values found
    size_t max_value_bytes
    size_t reread_count
    bint is_unmoved

cdef class MapReader:
    cdef readonly Segment segment
    cdef MapView _view
    cdef readonly bint releases_gil
    # Counters of this object alone. Written by: its threads, relaxed, so a few may be lost where
    # several retry at once. Read by: Python, relaxed.
    cdef uint64_t _retry_count
    cdef uint64_t _contended_count

    @staticmethod
    cdef MapReader of(Segment segment, bint releases_gil)

    # Appends the value to out. OK, NOT_FOUND, CONTENDED, DETACHED, NO_MEMORY.
    cdef int get_into(self, const uint8_t* key, size_t key_bytes, seafoam_buffer* out,
                      uint64_t* version) noexcept nogil
    # All keys at one point in time; values are appended to out. Found or not is in the items: OK,
    # CONTENDED, DETACHED, NO_MEMORY, TOO_LARGE (the values found are more than max_value_bytes).
    cdef int get_many_into(self, ReadItem* items, size_t item_count, seafoam_buffer* out,
                           size_t max_value_bytes) noexcept nogil
    # One page, each key as it was at some time during the call. OK, CONTENDED, DETACHED,
    # NO_MEMORY.
    cdef int scan_into(self, ScanPage* page, seafoam_buffer* out) noexcept nogil

    # An answer's index is the applying index, loaded after its copies.
    cdef uint64_t applying_index_now(self) noexcept nogil
    cdef uint64_t applied_index_now(self) noexcept nogil
    cdef bint is_alive(self) noexcept nogil

    # inner workings
    cdef int _outcome(self, int status, int attempt_count) noexcept nogil
    cdef int _read_item(self, ReadItem* item, seafoam_buffer* out) noexcept nogil
    cdef int _read_all(self, ReadItem* items, size_t item_count, ManyState* state) noexcept nogil
    cdef int _reread_moved(self, ReadItem* items, size_t item_count, ManyState* state
                           ) noexcept nogil
    cdef object _fetch(self, object key, uint64_t* version)
    cdef tuple _read_many(self, object keys, size_t max_value_bytes, bint with_versions)
