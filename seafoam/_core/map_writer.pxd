# The shared map's one writer.
#
# Owns the segment it creates, every word in it but the owner's mark, and which bucket holds what.
# Must never be used by two threads at once, change a word of a chain while its sequence is even,
# publish an entry that is not whole, or repair what a dead writer left half done.
#
# Order of one write, with what each step is for:
#
#   begin     applying_index, then a release fence: no reader sees a value of an index above it
#   fill      generation 0 and a release fence, the words, the generation (release)
#   change    sequence odd and a release fence, slots and tags, sequence even (release)
#   release   the entry that was replaced goes to the arena's quarantine
#   end       applied_index (release): who sees it sees the write
#
# While a snapshot is open, `change` is preceded by saving the bucket, and `release` holds what the
# snapshot needs; map_snapshot.pxd says why that is enough.
#
# After that, a bounded step of housekeeping: buckets split so that they keep KEYS_PER_BUCKET keys
# on average, what a snapshot held is freed, and sparse windows of the arena are emptied.
#
# Splitting bucket p into p and q, in an order in which no reader misses a key that stays:
#
#   1. q is filled; its bucket_count cannot be seen yet.    readers find all keys in p
#   2. bucket_count = q + 1 (release)                       in p or, filled, in q
#   3. p's sequence is odd; p keeps its half, one level up; p's sequence is even
#                                                           a reader still at p sees the level
#
# The writer reads plainly what only it writes; sequences and generations, which readers touch in a
# ThreadSanitizer build, through atomics like everyone.

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.arena cimport Arena
from seafoam._core.map_layout cimport MapView, Probe
from seafoam._core.map_snapshot cimport MapSnapshot
from seafoam._core.segment cimport Segment

# A value in place: valid until the next write.
cdef struct ValueView:
    const uint8_t* value
    size_t value_bytes
    uint64_t version

# Where a key is, or the entry of that place.
cdef struct Spot:
    uint64_t* bucket
    uint64_t* line              # of the bucket's chain
    uint64_t* previous_line     # the one before it, or NULL
    uint32_t slot
    uint32_t place

# A slot's content, while a chain is rewritten.
cdef struct Slot:
    uint32_t place
    uint8_t tag

@cython.final                   # so that begin and the like can be called without the GIL
cdef class MapWriter:
    cdef readonly Segment segment
    cdef readonly Arena arena
    cdef MapView _view
    cdef bint _is_closed
    # the table
    cdef uint64_t key_count
    cdef readonly uint64_t bucket_count
    cdef uint64_t _bucket_reserved_count
    cdef uint64_t _split_again_key_count    # after a split that found no memory
    # overflow lines: those in use are numbered up to _line_count, less the free ones
    cdef uint32_t* _free_lines              # a stack of numbers
    cdef uint32_t _free_line_count
    cdef uint32_t _line_count
    cdef uint32_t _line_reserved_count
    # entries
    cdef uint64_t _generation               # the last one given
    cdef uint64_t _key_value_bytes
    cdef uint64_t* _scratch                 # one entry while it is put together
    cdef Slot* _staying                     # one chain, while it is split
    cdef Slot* _moving
    # the last snapshot; open exactly while the arena pins
    cdef MapSnapshot _snapshot
    # the log entry that is being applied
    cdef uint64_t _index
    cdef bint _is_open
    cdef bint _writes_many
    cdef uint64_t _multi_sequence

    # Announce a log entry, and its end. An index below the last one is a broken invariant, as is
    # a second begin without an end. writes_many: several keys, which multi-key reads see together.
    cpdef int begin(self, uint64_t index, bint writes_many=*) except -1 nogil
    cpdef int end(self) except -1 nogil

    # OK; NO_MEMORY and TOO_LARGE (nothing has changed); DETACHED after close.
    cdef int put(self, const uint8_t* key, size_t key_bytes, const uint8_t* value,
                 size_t value_bytes, uint64_t version) noexcept nogil
    # OK, NOT_FOUND, DETACHED.
    cdef int remove(self, const uint8_t* key, size_t key_bytes) noexcept nogil
    # OK, NOT_FOUND.
    cdef int find(self, const uint8_t* key, size_t key_bytes, ValueView* out) noexcept nogil
    cdef uint64_t logical_byte_count(self) noexcept nogil

    cpdef void set_commit_index(self, uint64_t index) noexcept nogil
    cpdef void set_term(self, uint64_t term) noexcept nogil
    cpdef void set_role(self, uint64_t role) noexcept nogil
    cpdef void set_node_state(self, uint64_t node_state) noexcept nogil

    # inner workings
    cdef void _save(self, uint64_t* bucket) noexcept nogil
    cdef uint32_t _allocate(self, size_t entry_bytes) noexcept nogil
    cdef uint32_t _release(self, uint32_t place) noexcept nogil
    cdef int _load(self, const uint8_t* at, size_t left_bytes) noexcept nogil
    cdef int _open(self, bytes hash_seed, uint64_t start_id, uint64_t segment_generation
                   ) except -1
    cdef bint _find_spot(self, const Probe* probe, Spot* spot) noexcept nogil
    cdef bint _find_place(self, uint64_t hash, uint32_t place, Spot* spot) noexcept nogil
    cdef bint _find_free(self, uint64_t hash, Spot* spot) noexcept nogil
    cdef void _fill_entry(self, uint32_t place, size_t entry_bytes) noexcept nogil
    cdef int _insert(self, uint64_t hash, uint32_t place) noexcept nogil
    cdef uint32_t _take_line(self) noexcept nogil
    cdef void _drop_line(self, uint32_t line_number) noexcept nogil
    cdef bint _reserve_bucket(self, uint64_t index) noexcept nogil
    cdef bint _has_lines(self, uint32_t line_count) noexcept nogil
    cdef bint _split(self) noexcept nogil
    cdef void _fill_chain(self, uint64_t* line, const Slot* slots, uint32_t slot_count,
                          uint32_t level) noexcept nogil
    cdef void _keep_house(self, size_t released_bytes) noexcept nogil
    cdef int _move(self, uint32_t place) noexcept nogil
