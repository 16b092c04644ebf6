"""The state of the shared map at one moment. See map_snapshot.pxd for why it is that."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock,
    WAIT_LOCK,
)
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from seafoam._core.atomics cimport (
    load_acquire_u32, load_acquire_u64, store_release_u32, store_release_u64,
)
from seafoam._core.buffer cimport buffer_free, buffer_reserve
from seafoam._core.limits cimport (
    KEY_BYTES_MAX, KEY_BYTES_MIN, SNAPSHOT_BLOCK_BYTES, VALUE_BYTES_MAX,
)
from seafoam._core.map_layout cimport (
    BUCKET_SHIFT, ENTRY_HEADER_BYTES, MapView, prefetch, slot_of_match,
)
from seafoam._core.map_words cimport (
    entry_at, every_slot, key_bytes_of, line_at, line_overflow, slot_place, slots_with_tag,
    value_bytes_of,
)
from seafoam._core.status cimport (
    STATUS_DETACHED, STATUS_INVALID, STATUS_NO_MEMORY, STATUS_NOT_FOUND, STATUS_OK,
)
from seafoam._core.wire_snapshot cimport (
    SNAPSHOT_BLOCK_DATA, SNAPSHOT_BLOCK_HEADER_BYTES, SNAPSHOT_ENTRY_HEADER_BYTES,
    put_block_header, put_entry_header,
)

from seafoam.errors import InvariantBroken, SnapshotLost

cdef enum:
    # Entries that are asked for before they are copied: they lie all over the arena.
    PREFETCH_COUNT = 8


@cython.final
cdef class MapSnapshot:
    """What was in the map when MapWriter.begin_snapshot made this.

    `walk` and `close` are for the writer's thread, `next_block` for any one thread. Until `close`
    nothing that was in the map then is given back.
    """

    def __init__(self):
        raise TypeError("a MapSnapshot is made by MapWriter.begin_snapshot")

    cdef int open(self, Arena arena, const MapView* view, uint64_t bucket_count,
                  uint64_t pin_generation) except -1:
        self._arena = arena
        self._view = view[0]
        self._bucket_count = bucket_count
        self._saved_bits = <uint64_t*>calloc((bucket_count + 63) // 64, 8)
        self._lock = PyThread_allocate_lock()
        if self._saved_bits == NULL or self._lock == NULL or not self._add_chunk():
            raise MemoryError("no memory for a snapshot's bookkeeping")
        self._is_open = True
        arena.pin(pin_generation)
        return 0

    def __dealloc__(self):
        cdef SavedChunk* chunk
        while self._first != NULL:
            chunk = self._first.next
            free(self._first)
            self._first = chunk
        free(self._saved_bits)
        buffer_free(&self._block)
        if self._lock != NULL:
            PyThread_free_lock(self._lock)

    # --- saving: the writer's thread -----------------------------------------------------------

    def walk(self, uint64_t bucket_count):
        """Save so many buckets more; True once there is nothing left to save.

        That is so, too, where the snapshot was closed or lost.
        """
        with nogil:
            self._walk(bucket_count)
        return not self._is_open or self._is_walked != 0

    cdef void _walk(self, uint64_t bucket_count) noexcept nogil:
        while self._is_open and self._walked_count < self._bucket_count and bucket_count != 0:
            self.save(<uint64_t*>(self._view.buckets + (self._walked_count << BUCKET_SHIFT)))
            self._walked_count += 1
            bucket_count -= 1
        if self._is_open and self._walked_count == self._bucket_count:
            store_release_u32(&self._is_walked, 1)

    cdef void save(self, uint64_t* bucket) noexcept nogil:
        cdef uint64_t index = <uint64_t>(<uint8_t*>bucket - self._view.buckets) >> BUCKET_SHIFT
        cdef uint64_t bit = <uint64_t>1 << (index & 63)
        cdef uint64_t filled
        if index >= self._bucket_count or self._saved_bits[index >> 6] & bit:
            return
        self._saved_bits[index >> 6] |= bit
        while bucket != NULL:
            filled = ~slots_with_tag(bucket, 0) & every_slot()
            while filled != 0:
                if not self._append(slot_place(bucket, slot_of_match(filled))[0]):
                    self.give_way()
                    return
                filled &= filled - 1
            bucket = line_at(&self._view, line_overflow(bucket)[0])

    cdef bint _append(self, uint32_t place) noexcept nogil:
        if self._last_count == SAVED_CHUNK_COUNT and not self._add_chunk():
            return False
        self._last.places[self._last_count] = place
        self._last_count += 1
        store_release_u64(&self._saved_count, self._saved_count + 1)
        return True

    cdef bint _add_chunk(self) noexcept nogil:
        cdef uint64_t read_count = load_acquire_u64(&self._read_count)
        cdef SavedChunk* chunk
        # A place read beyond a chunk's end says that its link, too, has been used for good.
        while read_count > self._first_end_count and self._first != NULL:
            chunk = self._first
            self._first = chunk.next
            self._first_end_count += SAVED_CHUNK_COUNT
            free(chunk)
        chunk = <SavedChunk*>malloc(sizeof(SavedChunk))
        if chunk == NULL:
            return False
        chunk.next = NULL
        if self._last == NULL:
            self._first = chunk
            self._first_end_count = SAVED_CHUNK_COUNT
        else:
            self._last.next = chunk
        self._last = chunk
        self._last_count = 0
        return True

    # --- the end: the writer's thread ----------------------------------------------------------

    def close(self):
        """Pin nothing any more; `next_block` raises SnapshotLost from now on. Idempotent."""
        with nogil:
            self._end()

    cdef void give_way(self) noexcept nogil:
        store_release_u32(&self._is_lost, 1)
        self._end()

    cdef void _end(self) noexcept nogil:
        cdef SavedChunk* chunk
        if not self._is_open:
            return
        PyThread_acquire_lock(self._lock, WAIT_LOCK)
        self._is_open = False
        PyThread_release_lock(self._lock)
        while self._first != NULL:
            chunk = self._first.next
            free(self._first)
            self._first = chunk
        free(self._saved_bits)
        self._saved_bits = NULL
        self._arena.unpin()

    # --- reading: one thread -------------------------------------------------------------------

    def next_block(self, uint32_t sequence, size_t bytes_max=SNAPSHOT_BLOCK_BYTES):
        """The next DATA block (bytes) of what is saved and not handed out yet, without the GIL.

        Its payload ends with the entry that brings it to `bytes_max` (1 to SNAPSHOT_BLOCK_BYTES),
        or where nothing more is saved. b"" where nothing is left at this moment: for good, if
        `is_walked` was true before the call. Raises SnapshotLost once it was closed or lost.
        """
        cdef int status
        if sequence == 0 or not 1 <= bytes_max <= SNAPSHOT_BLOCK_BYTES:
            raise ValueError("a data block has a sequence from 1 on and 1 byte to "
                             f"{SNAPSHOT_BLOCK_BYTES}")
        with nogil:
            PyThread_acquire_lock(self._lock, WAIT_LOCK)
            status = self._fill(sequence, bytes_max) if self._is_open else STATUS_DETACHED
            PyThread_release_lock(self._lock)
        if status == STATUS_OK:
            self._handed_out_count = self._read_count
            return PyBytes_FromStringAndSize(<const char*>self._block.data,
                                             self._block.used_bytes)
        buffer_free(&self._block)
        if status == STATUS_NOT_FOUND:
            return b""
        if status == STATUS_DETACHED:
            raise SnapshotLost("the map's snapshot is closed" if not self._is_lost else
                               "the map's snapshot gave its memory back to a write")
        if status == STATUS_NO_MEMORY:
            raise MemoryError("no memory for a snapshot's block")
        raise InvariantBroken("a snapshot holds a place with no entry")

    cdef int _fill(self, uint32_t sequence, size_t bytes_max) noexcept nogil:
        # A whole block. OK; NOT_FOUND: nothing is left; NO_MEMORY; INVALID.
        cdef uint64_t left_count = load_acquire_u64(&self._saved_count) - self._read_count
        cdef uint64_t read_count = self._read_count
        cdef int status = STATUS_OK
        self._block.used_bytes = 0
        if left_count == 0:
            return STATUS_NOT_FOUND
        if buffer_reserve(&self._block, SNAPSHOT_BLOCK_HEADER_BYTES) != 0:
            return STATUS_NO_MEMORY
        self._block.used_bytes = SNAPSHOT_BLOCK_HEADER_BYTES
        while (left_count != 0 and status == STATUS_OK
               and self._block.used_bytes - SNAPSHOT_BLOCK_HEADER_BYTES < bytes_max):
            status = self._copy(self._next_place(left_count))
            if status == STATUS_OK:
                self._reading_count += 1
                read_count += 1
                left_count -= 1
        # What found no memory any more can be in the next block.
        if status == STATUS_INVALID or read_count == self._read_count:
            return status
        store_release_u64(&self._read_count, read_count)
        put_block_header(self._block.data, SNAPSHOT_BLOCK_DATA, sequence,
                         self._block.used_bytes - SNAPSHOT_BLOCK_HEADER_BYTES)
        return STATUS_OK

    cdef uint32_t _next_place(self, uint64_t left_count) noexcept nogil:
        cdef uint32_t ahead
        if self._reading == NULL:
            self._reading = self._first
        elif self._reading_count == SAVED_CHUNK_COUNT:
            self._reading = self._reading.next
            self._reading_count = 0
        ahead = self._reading_count + PREFETCH_COUNT
        if left_count > PREFETCH_COUNT and ahead < SAVED_CHUNK_COUNT:
            prefetch(entry_at(&self._view, self._reading.places[ahead]))
        return self._reading.places[self._reading_count]

    cdef int _copy(self, uint32_t place) noexcept nogil:
        # An entry to the end of the block.
        cdef const uint8_t* entry = entry_at(&self._view, place)
        cdef size_t key_bytes = key_bytes_of(entry)
        cdef size_t value_bytes = value_bytes_of(entry)
        cdef uint8_t* target
        if not KEY_BYTES_MIN <= key_bytes <= KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
            return STATUS_INVALID
        if buffer_reserve(
                &self._block, SNAPSHOT_ENTRY_HEADER_BYTES + key_bytes + value_bytes) != 0:
            return STATUS_NO_MEMORY
        target = self._block.data + self._block.used_bytes
        put_entry_header(target, key_bytes, value_bytes, (<const uint64_t*>entry)[1])
        memcpy(target + SNAPSHOT_ENTRY_HEADER_BYTES, entry + ENTRY_HEADER_BYTES,
               key_bytes + value_bytes)
        self._block.used_bytes += SNAPSHOT_ENTRY_HEADER_BYTES + key_bytes + value_bytes
        return STATUS_OK

    # --- for anybody ---------------------------------------------------------------------------

    @property
    def is_walked(self):
        """Whether everything is saved: nothing follows behind the next b"" of next_block."""
        return load_acquire_u32(&self._is_walked) != 0

    @property
    def is_lost(self):
        """Whether it gave way to a write that found no other memory."""
        return load_acquire_u32(&self._is_lost) != 0

    @property
    def key_count(self):
        """How many entries were handed out."""
        return self._handed_out_count
