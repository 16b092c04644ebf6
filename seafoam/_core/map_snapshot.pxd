# The state of the shared map at one moment, read by another thread while writes go on.
#
# Owns the list of the entries' places, which bucket has been saved, and what the reading thread is
# about to hand out. Must never copy an entry on the writer's thread, make a write wait for more
# than a block's copying (and that only where the snapshot ends), or change a word of the map.
#
# Two threads: the writer's (begin, walk, save, close, give_way) and one that reads (next_block).
#
#   begin      the arena pins every entry there is
#   save       a bucket's places, 4 bytes a key, are appended to the list: by walk, bucket by
#              bucket, or by a write just before the first change to a bucket that is not saved
#   read       next_block copies the entries at the places that are on the list, in its order
#   end        close, or give_way where a write finds no other memory: nothing is pinned any more
#
# Why what is read is the map at begin, no more and no less:
#
#   M1  A bucket's bit is set when its places are on the list, and no word of its chain changes
#       before that: put, insert, remove and split save it first. Evacuation, which changes a slot
#       too, does not happen while the arena pins.
#   M2  A bucket that was made by a split after begin counts as saved: what is in it came from its
#       parent, which was saved before the split, or was written after begin.
#   M3  A place on the list holds the same entry until the end: arena.pxd, A4.
#
# What the two threads share, and how:
#
#   _saved_count   Written by: the writer, release, behind the places it counts and the links of
#                  their chunks. Read by: the reading thread, acquire, before it reads those, and
#                  entries, which stood there before their places did.
#   _read_count    Written by: the reading thread, release, when it is done with so many places.
#                  Read by: the writer, acquire, before it frees the chunks below that.
#   _is_walked, _is_lost   0, then 1. Written by: the writer, release, behind the last places.
#                  Read by: anybody, acquire.
#   _lock          Held by the reading thread from its look at _is_open until its last look at the
#                  list or an entry; by the writer while it ends the snapshot. _is_open changes
#                  under it, and nothing is freed or unpinned before that. Nobody who holds it
#                  waits for anything, the GIL included.
#
# All else belongs to one of the two threads. Entries and places are thus read plainly: nothing
# writes them while they are read.

from cpython.pythread cimport PyThread_type_lock
from libc.stdint cimport uint32_t, uint64_t

from seafoam._core.arena cimport Arena
from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.map_layout cimport MapView

cdef enum:
    # So that a chunk is 64 KiB, which malloc has at hand.
    SAVED_CHUNK_COUNT = 16382

# Places in the order in which they were saved.
cdef struct SavedChunk:
    SavedChunk* next
    uint32_t places[SAVED_CHUNK_COUNT]

cdef class MapSnapshot:
    # constant while it is open
    cdef Arena _arena                   # keeps the mapping, too
    cdef MapView _view
    cdef uint64_t _bucket_count         # at begin
    cdef PyThread_type_lock _lock
    # the writer's
    cdef uint64_t* _saved_bits          # one for each bucket there was at begin
    cdef uint64_t _walked_count         # buckets that walk has been at
    cdef SavedChunk* _first             # of the list
    cdef uint64_t _first_end_count      # places up to its end
    cdef SavedChunk* _last
    cdef uint32_t _last_count           # places in it
    # the writer's too; whoever reads them is the other thread
    cdef bint _is_open
    cdef uint64_t _saved_count
    cdef uint32_t _is_walked
    cdef uint32_t _is_lost
    # the reading thread's
    cdef SavedChunk* _reading           # NULL before the first
    cdef uint32_t _reading_count        # places of it that were read
    cdef uint64_t _read_count
    cdef seafoam_buffer _block
    cdef uint64_t _handed_out_count

    # Called by the writer alone, on its thread.
    cdef int open(self, Arena arena, const MapView* view, uint64_t bucket_count,
                  uint64_t pin_generation) except -1
    # Before the first change to a bucket; while it is open. It may have given way afterwards.
    cdef void save(self, uint64_t* bucket) noexcept nogil
    # Ends it for want of memory.
    cdef void give_way(self) noexcept nogil

    # inner workings
    cdef bint _append(self, uint32_t place) noexcept nogil
    cdef bint _add_chunk(self) noexcept nogil
    cdef void _walk(self, uint64_t bucket_count) noexcept nogil
    cdef void _end(self) noexcept nogil
    cdef int _fill(self, uint32_t sequence, size_t bytes_max) noexcept nogil
    cdef int _copy(self, uint32_t place) noexcept nogil
    cdef uint32_t _next_place(self, uint64_t left_count) noexcept nogil
