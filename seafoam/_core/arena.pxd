# Where entries live: the writer's allocator over the arena of a segment.
#
# Owns the arena's pages, their generations in shared memory, and all bookkeeping about free space,
# which is private memory: nothing a reader could see or a bug of a reader's could harm. Must never
# hand out memory that is not reserved, hand out a slot twice, give pages up without moving
# their generations, or touch an entry's content.
#
# A window is 256 pages of 16 KiB; no span of pages crosses its end. A span is a slab of one page
# (slots up to 2 KiB), a slab of 16 pages on a multiple of 16 (slots up to 64 KiB), or one entry in
# as many whole pages as it needs. Size classes go by 16 bytes to 256, then by an eighth.
#
# Free space that is scattered over windows in use (slots in half-empty slabs, pages between spans)
# is gathered by evacuation: the window with the least in it is closed, so that nothing new goes
# there; the map moves what it still refers to, a little with each write; then the whole window is
# free again, in one piece. It begins when scattered space exceeds half of what is live and 16 MiB,
# which keeps the arena within twice what is live and 64 MiB.
#
# A snapshot pins the entries that are there when it begins. While it is open none of them moves,
# so no window is evacuated; those that are released are held, not freed. When it ends, what is
# held is loose: it is freed a few places at a time, or as many as it takes where a write finds no
# other memory. While entries are pinned the arena leaves a sixteenth of its room, and of the
# segment's memory, unreserved: the snapshot must give way before there is nothing left for what
# follows it.
#
# Invariants:
#   A1  live_bytes is the sum over windows of window.live_bytes, and that the sum of the slots and
#       spans handed out there, those that wait in the quarantine, held or loose included.
#   A2  A slab is in its class's list exactly while it has a free slot and its window is open.
#   A3  A released place is not handed out before the quarantine has let it go, nor, in a closed
#       window, before that window is open again.
#   A4  While pin_generation is not 0, no entry of a lower generation that was handed out when it
#       was set is moved or freed. Held places are there only then.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from seafoam._core.map_layout cimport MapView
from seafoam._core.segment cimport Segment

cdef enum:
    WINDOW_PAGE_COUNT = 256
    WINDOW_BYTES = 4194304
    # One more than the classes of slabs; that one more is the spans of whole pages.
    CLASS_COUNT = 82
    CLASS_SPAN = 81
    # So that a chunk of places is 64 KiB.
    CHUNK_PLACE_COUNT = 16381

# A stack of places, in chunks: growing it copies nothing, so that no write waits for that.
cdef struct PlaceChunk:
    PlaceChunk* below
    uint32_t place_count
    uint32_t places[CHUNK_PLACE_COUNT]

cdef struct Page:
    uint16_t class_index        # 0: no span has this page
    # of a span's first page:
    uint16_t free_count         # of a slab: slots that can be handed out
    uint32_t page_count         # of a span of whole pages; 0 at its other pages
    uint32_t next_page          # the class's list of slabs with free slots, or NO_PAGE
    uint32_t previous_page

cdef struct Window:
    uint64_t used[4]            # one bit a page, 1 also where it is not reserved yet
    uint32_t live_bytes
    uint16_t free_page_count
    uint16_t free_run_count     # pages of the longest run of free ones
    bint is_closed

cdef struct SizeClass:
    uint32_t slot_bytes
    uint32_t slot_count         # of one slab
    uint32_t page_count         # of one slab
    uint32_t partial_page       # head of the list, or NO_PAGE

cdef class Arena:
    cdef Segment _segment       # keeps the mapping
    cdef MapView _view
    cdef SizeClass _classes[CLASS_COUNT]
    # private, one for each page or window of the address space; touched only as far as reserved
    cdef Page* _pages
    cdef uint64_t* _free_slots  # 8 words a page, one bit a slot; a slab's are at its first page
    cdef Window* _windows
    cdef uint32_t _page_limit_count
    cdef uint32_t _page_count           # reserved
    cdef uint32_t _table_page_count     # pages whose generations are reserved
    cdef uint32_t _lowest_window        # no window below has a free page
    cdef uint32_t _empty_window_count
    # quarantine: a ring of places
    cdef uint32_t* _quarantine
    cdef uint32_t _quarantine_limit_count
    cdef uint32_t _quarantine_first
    cdef uint32_t _quarantine_count
    cdef uint64_t _quarantine_bytes
    # a snapshot's: entries of a generation below are pinned; 0 where none is
    cdef readonly uint64_t pin_generation
    cdef PlaceChunk* _held              # the top; the bottom is kept so that all can be put on
    cdef PlaceChunk* _held_bottom       # top of what is loose
    cdef PlaceChunk* _loose
    cdef readonly uint64_t held_count   # places held or loose
    # evacuation
    cdef uint32_t _victim               # the closed window's index, or NO_PAGE
    cdef uint32_t _victim_page          # where its walk stands
    cdef uint32_t _victim_slot
    cdef uint64_t _evacuation_pause_bytes   # to be released before the next one begins
    # totals
    cdef readonly uint64_t live_bytes
    cdef readonly uint64_t evacuated_window_count

    # A place of at least entry_bytes, or 0 where there is no memory, the quarantine's included.
    cdef uint32_t allocate(self, size_t entry_bytes) noexcept nogil
    # Gives a place back, through the quarantine; returns its size.
    cdef uint32_t release(self, uint32_t place) noexcept nogil
    # Gives a place of the closed window back: its window's emptying is its quarantine.
    cdef void release_moved(self, uint32_t place) noexcept nogil

    # Pins the entries of lower generations; ends an evacuation. At most one at a time.
    cdef void pin(self, uint64_t generation) noexcept nogil
    # Takes a place that a pinned entry has back, to be freed later. False where there is no memory
    # for that, and nothing has changed.
    cdef bint hold(self, uint32_t place) noexcept nogil
    # What was pinned is not any more, and what was held is loose.
    cdef void unpin(self) noexcept nogil
    # Frees so many loose places, or all; how many there were.
    cdef uint32_t free_loose(self, uint32_t limit_count) noexcept nogil

    # Evacuation: begin_evacuation says whether there is one; next_moving gives the places in the
    # closed window one by one, 0 at the end (or at the end of the slot budget, which it counts
    # down); end_evacuation opens the window, empty or not.
    cdef bint begin_evacuation(self) noexcept nogil
    cdef uint32_t next_moving(self, uint32_t* slot_budget_count) noexcept nogil
    cdef bint evacuation_is_over(self) noexcept nogil
    cdef void end_evacuation(self) noexcept nogil

    cdef uint64_t arena_bytes(self) noexcept nogil
    cdef uint64_t scattered_bytes(self) noexcept nogil
    cdef bint is_allocated(self, uint32_t place) noexcept nogil
    cdef int verify(self, set places) except -1

    cdef int open(self, Segment segment, const MapView* view, uint32_t quarantine_limit_count
                  ) except -1

    # inner workings
    cdef void _free_chunks(self, PlaceChunk* chunk) noexcept nogil
    cdef bint _leaves_room(self) noexcept nogil
    cdef void _make_classes(self) noexcept nogil
    cdef uint32_t _take(self, size_t entry_bytes) noexcept nogil
    cdef uint32_t _take_slot(self, uint32_t class_index) noexcept nogil
    cdef uint32_t _take_pages(self, uint32_t page_count) noexcept nogil
    cdef uint32_t _find_run(self, uint32_t window_index, uint32_t page_count) noexcept nogil
    cdef bint _reserve_more(self) noexcept nogil
    cdef void _mark_pages(self, uint32_t page, uint32_t page_count, bint used) noexcept nogil
    cdef void _measure_window(self, Window* window) noexcept nogil
    cdef void _lay_out(self, uint32_t page, uint32_t page_count, uint32_t class_index
                       ) noexcept nogil
    cdef void _drop_pages(self, uint32_t page, uint32_t page_count) noexcept nogil
    cdef void _list_push(self, uint32_t page) noexcept nogil
    cdef void _list_remove(self, uint32_t page) noexcept nogil
    cdef uint32_t _first_page(self, uint32_t page) noexcept nogil
    cdef uint32_t _slot_bytes(self, uint32_t place) noexcept nogil
    cdef void _free(self, uint32_t place) noexcept nogil
    cdef void _drain(self, uint32_t limit_count) noexcept nogil
    cdef int _add_chunks(self, const PlaceChunk* chunk, set places) except -1
    cdef int _verify_windows(self) except -1
