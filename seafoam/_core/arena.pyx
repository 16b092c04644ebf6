# cython: cdivision=True
"""Where entries live: the writer's allocator. See arena.pxd for what it owns and its invariants.

Divisions are C's: every divisor is a size class's slot size, which is never zero.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from seafoam._core.atomics cimport (
    fence_release, load_relaxed_u64, store_release_u64, store_then_fence_u64,
)
from seafoam._core.map_layout cimport (
    PAGE_BYTES, PAGE_SHIFT, MapView, count_leading_zeros, count_trailing_zeros,
)
from seafoam._core.segment cimport Segment
from seafoam._core.status cimport STATUS_OK

from seafoam.errors import ensure

cdef enum:
    # Reserved at once. 2 MiB, the most that is allowed, takes most of a millisecond.
    STEP_PAGE_COUNT = 16
    TABLE_STEP_BYTES = 4096
    SMALL_SLOT_BYTES_MAX = 2048
    SLAB_SLOT_BYTES_MAX = 65536
    SLAB_PAGE_COUNT = 16
    # 512 slots of 32 bytes fill a page.
    FREE_WORD_COUNT = 8
    QUARANTINE_BYTES_MAX = 8388608
    # Evacuation: when it begins, and what a window must hold at most for it to be worth while.
    SCATTERED_BYTES_MIN = 16777216
    VICTIM_BYTES_MAX = 3670016
    # After one that could not be finished, or for which there was no window.
    PAUSE_BYTES = 1048576
    # Loose places that a write frees at a time where there is no other memory.
    LOOSE_STEP_COUNT = 4096
    # One part in so many is left while entries are pinned.
    PINNED_LEAVES_PART = 16

cdef uint32_t NO_PAGE = 0xffffffff


cdef inline uint32_t class_of(size_t entry_bytes) noexcept nogil:
    # The size class of an entry that a slab takes; classes below 2 are empty.
    cdef uint32_t exponent
    if entry_bytes <= 256:
        return <uint32_t>(entry_bytes + 15) >> 4
    exponent = 63 - count_leading_zeros(entry_bytes - 1)
    return 17 + (exponent - 8) * 8 + (<uint32_t>(entry_bytes - 1) >> (exponent - 3)) - 8


cdef inline size_t class_bytes(uint32_t class_index) noexcept nogil:
    # The largest entry of a class, before rounding to units.
    cdef uint32_t exponent
    if class_index <= 16:
        return 16 * class_index
    exponent = 8 + (class_index - 17) // 8
    return <size_t>((class_index - 17) % 8 + 9) << (exponent - 3)


cdef class Arena:
    """The writer's allocator; Python sees its totals only."""

    def __cinit__(self):
        self._victim = NO_PAGE

    cdef int open(self, Segment segment, const MapView* view, uint32_t quarantine_limit_count
                  ) except -1:
        """Takes over the arena of a segment whose header is laid out and nothing else."""
        cdef uint64_t page_limit_count = (
            (view.header.size_bytes - view.arena_offset_bytes) >> PAGE_SHIFT)
        cdef uint64_t window_limit_count = page_limit_count // WINDOW_PAGE_COUNT
        self._segment = segment
        self._view = view[0]
        self._page_limit_count = <uint32_t>(window_limit_count * WINDOW_PAGE_COUNT)
        self._quarantine_limit_count = quarantine_limit_count
        self._pages = <Page*>calloc(page_limit_count, sizeof(Page))
        self._free_slots = <uint64_t*>calloc(page_limit_count, FREE_WORD_COUNT * 8)
        self._windows = <Window*>calloc(window_limit_count + 1, sizeof(Window))
        self._quarantine = <uint32_t*>calloc(<size_t>quarantine_limit_count + 1, 4)
        if (self._pages == NULL or self._free_slots == NULL or self._windows == NULL
                or self._quarantine == NULL):
            raise MemoryError("no memory for the map's own bookkeeping")
        self._make_classes()
        store_release_u64(&view.header.arena_end_bytes, view.arena_offset_bytes)
        return 0

    def __dealloc__(self):
        free(self._pages)
        free(self._free_slots)
        free(self._windows)
        free(self._quarantine)
        self._free_chunks(self._held)
        self._free_chunks(self._loose)

    cdef void _free_chunks(self, PlaceChunk* chunk) noexcept nogil:
        cdef PlaceChunk* below
        while chunk != NULL:
            below = chunk.below
            free(chunk)
            chunk = below

    cdef void _make_classes(self) noexcept nogil:
        cdef uint64_t unit_bytes = <uint64_t>1 << self._view.unit_shift
        cdef SizeClass* size_class
        cdef uint32_t index
        for index in range(<uint32_t>CLASS_COUNT):
            size_class = &self._classes[index]
            size_class.partial_page = NO_PAGE
            if index < 2 or index == CLASS_SPAN:
                continue
            # Slots begin at units, so their size is a multiple of one.
            size_class.slot_bytes = <uint32_t>(
                (class_bytes(index) + unit_bytes - 1) & ~(unit_bytes - 1))
            size_class.page_count = (
                1 if size_class.slot_bytes <= SMALL_SLOT_BYTES_MAX else SLAB_PAGE_COUNT)
            size_class.slot_count = size_class.page_count * PAGE_BYTES // size_class.slot_bytes

    # --- handing out -----------------------------------------------------------------------

    cdef uint32_t allocate(self, size_t entry_bytes) noexcept nogil:
        cdef uint32_t place = self._take(entry_bytes)
        if place == 0 and self._quarantine_count != 0:
            # Waiting is for readers' speed; a write matters more.
            self._drain(0)
            place = self._take(entry_bytes)
        while place == 0 and self.free_loose(LOOSE_STEP_COUNT) != 0:
            place = self._take(entry_bytes)
        return place

    cdef uint32_t _take(self, size_t entry_bytes) noexcept nogil:
        cdef uint32_t page, page_count
        cdef uint64_t offset_bytes
        if entry_bytes <= SLAB_SLOT_BYTES_MAX:
            return self._take_slot(class_of(entry_bytes))
        page_count = <uint32_t>((entry_bytes + PAGE_BYTES - 1) >> PAGE_SHIFT)
        if page_count > WINDOW_PAGE_COUNT:
            return 0
        page = self._take_pages(page_count)
        if page == NO_PAGE:
            return 0
        self._lay_out(page, page_count, CLASS_SPAN)
        self._pages[page].page_count = page_count
        self._windows[page // WINDOW_PAGE_COUNT].live_bytes += page_count * PAGE_BYTES
        self.live_bytes += page_count * PAGE_BYTES
        offset_bytes = self._view.arena_offset_bytes + (<uint64_t>page << PAGE_SHIFT)
        return <uint32_t>(offset_bytes >> self._view.unit_shift)

    cdef uint32_t _take_slot(self, uint32_t class_index) noexcept nogil:
        cdef SizeClass* size_class = &self._classes[class_index]
        cdef uint32_t page = size_class.partial_page
        cdef uint32_t slot = 0
        cdef uint64_t* word
        cdef uint64_t offset_bytes
        if page == NO_PAGE:
            page = self._take_pages(size_class.page_count)
            if page == NO_PAGE:
                return 0
            self._lay_out(page, size_class.page_count, class_index)
        word = self._free_slots + <size_t>page * FREE_WORD_COUNT
        while word[0] == 0:
            word += 1
            slot += 64
        slot += count_trailing_zeros(word[0])
        word[0] &= word[0] - 1
        self._pages[page].free_count -= 1
        if self._pages[page].free_count == 0:
            self._list_remove(page)
        self._windows[page // WINDOW_PAGE_COUNT].live_bytes += size_class.slot_bytes
        self.live_bytes += size_class.slot_bytes
        offset_bytes = (self._view.arena_offset_bytes + (<uint64_t>page << PAGE_SHIFT)
                        + <uint64_t>slot * size_class.slot_bytes)
        return <uint32_t>(offset_bytes >> self._view.unit_shift)

    cdef uint32_t _take_pages(self, uint32_t page_count) noexcept nogil:
        # The lowest window that has room, so that windows above it may become empty.
        cdef uint32_t index = self._lowest_window
        cdef uint32_t window_count, page
        cdef bint is_lowest = True
        while True:
            window_count = (self._page_count + WINDOW_PAGE_COUNT - 1) // WINDOW_PAGE_COUNT
            while index < window_count:
                if is_lowest and self._windows[index].free_page_count != 0:
                    self._lowest_window = index
                    is_lowest = False
                if (self._windows[index].free_run_count >= page_count
                        and not self._windows[index].is_closed):
                    page = self._find_run(index, page_count)
                    if page != NO_PAGE:
                        self._mark_pages(page, page_count, True)
                        return page
                index += 1
            if not self._reserve_more():
                return NO_PAGE
            index = (self._page_count - 1) // WINDOW_PAGE_COUNT

    cdef uint32_t _find_run(self, uint32_t window_index, uint32_t page_count) noexcept nogil:
        cdef const uint64_t* used = &self._windows[window_index].used[0]
        cdef uint32_t first = 0, page
        cdef uint32_t step = SLAB_PAGE_COUNT if page_count == SLAB_PAGE_COUNT else 1
        while first + page_count <= WINDOW_PAGE_COUNT:
            page = first
            while page < first + page_count and not used[page >> 6] >> (page & 63) & 1:
                page += 1
            if page == first + page_count:
                return window_index * WINDOW_PAGE_COUNT + first
            first = (page + step) & ~(step - 1)
        return NO_PAGE

    cdef bint _reserve_more(self) noexcept nogil:
        cdef uint32_t window_index = self._page_count // WINDOW_PAGE_COUNT
        cdef Window* window = &self._windows[window_index]
        cdef uint64_t offset_bytes = (
            self._view.arena_offset_bytes + (<uint64_t>self._page_count << PAGE_SHIFT))
        cdef int word
        if self._page_count + STEP_PAGE_COUNT > self._page_limit_count:
            return False
        if self.pin_generation != 0 and not self._leaves_room():
            return False
        if self._page_count + STEP_PAGE_COUNT > self._table_page_count:
            if self._segment.reserve(
                    self._view.header.page_table_offset_bytes + 8 * <size_t>self._table_page_count,
                    TABLE_STEP_BYTES) != STATUS_OK:
                return False
            self._table_page_count += TABLE_STEP_BYTES // 8
        if self._segment.reserve(offset_bytes, STEP_PAGE_COUNT * PAGE_BYTES) != STATUS_OK:
            return False
        if self._page_count % WINDOW_PAGE_COUNT == 0:
            for word in range(4):
                window.used[word] = ~<uint64_t>0
        self._mark_pages(self._page_count, STEP_PAGE_COUNT, False)
        self._page_count += STEP_PAGE_COUNT
        store_release_u64(&self._view.header.arena_end_bytes,
                          offset_bytes + STEP_PAGE_COUNT * PAGE_BYTES)
        return True

    cdef bint _leaves_room(self) noexcept nogil:
        # Whether another step leaves what is not for a snapshot's sake.
        cdef uint64_t limit_bytes = self._segment.reserve_limit_bytes
        return (self._page_count + STEP_PAGE_COUNT
                <= self._page_limit_count - self._page_limit_count // PINNED_LEAVES_PART
                and self._segment.reserved_bytes + STEP_PAGE_COUNT * PAGE_BYTES
                <= limit_bytes - limit_bytes // PINNED_LEAVES_PART)

    cdef void _mark_pages(self, uint32_t page, uint32_t page_count, bint used) noexcept nogil:
        # Pages of one window, that change from free to used or back.
        cdef uint32_t window_index = page // WINDOW_PAGE_COUNT
        cdef Window* window = &self._windows[window_index]
        cdef uint32_t bit = page % WINDOW_PAGE_COUNT
        cdef uint32_t end = bit + page_count
        if window.free_page_count == WINDOW_PAGE_COUNT:
            self._empty_window_count -= 1
        while bit < end:
            window.used[bit >> 6] ^= <uint64_t>1 << (bit & 63)
            bit += 1
        if used:
            window.free_page_count -= <uint16_t>page_count
        else:
            window.free_page_count += <uint16_t>page_count
            if window_index < self._lowest_window:
                self._lowest_window = window_index
        if window.free_page_count == WINDOW_PAGE_COUNT:
            self._empty_window_count += 1
        self._measure_window(window)

    cdef void _measure_window(self, Window* window) noexcept nogil:
        cdef uint32_t bit, run_count = 0, longest_count = 0
        for bit in range(<uint32_t>WINDOW_PAGE_COUNT):
            if window.used[bit >> 6] >> (bit & 63) & 1:
                run_count = 0
            else:
                run_count += 1
                if run_count > longest_count:
                    longest_count = run_count
        window.free_run_count = <uint16_t>longest_count

    cdef void _lay_out(self, uint32_t page, uint32_t page_count, uint32_t class_index
                       ) noexcept nogil:
        cdef uint32_t slot_count = self._classes[class_index].slot_count
        cdef uint64_t* word = self._free_slots + <size_t>page * FREE_WORD_COUNT
        cdef uint32_t index
        for index in range(page, page + page_count):
            self._pages[index].class_index = <uint16_t>class_index
            self._pages[index].page_count = 0
        if class_index == CLASS_SPAN:
            return
        self._pages[page].free_count = <uint16_t>slot_count
        while slot_count >= 64:
            word[0] = ~<uint64_t>0
            word += 1
            slot_count -= 64
        if slot_count != 0:
            word[0] = (<uint64_t>1 << slot_count) - 1
        self._list_push(page)

    # --- taking back -----------------------------------------------------------------------

    cdef uint32_t release(self, uint32_t place) noexcept nogil:
        cdef uint32_t slot_bytes = self._slot_bytes(place)
        cdef uint32_t last
        if self._evacuation_pause_bytes <= slot_bytes:
            self._evacuation_pause_bytes = 0
        else:
            self._evacuation_pause_bytes -= slot_bytes
        if self._quarantine_limit_count == 0:
            self._free(place)
            return slot_bytes
        self._drain(self._quarantine_limit_count - 1)
        last = (self._quarantine_first + self._quarantine_count) % self._quarantine_limit_count
        self._quarantine[last] = place
        self._quarantine_count += 1
        self._quarantine_bytes += slot_bytes
        while self._quarantine_bytes > QUARANTINE_BYTES_MAX:
            self._drain(self._quarantine_count - 1)
        return slot_bytes

    cdef void release_moved(self, uint32_t place) noexcept nogil:
        self._free(place)

    cdef void _drain(self, uint32_t limit_count) noexcept nogil:
        # The oldest go first, until limit_count are left.
        cdef uint32_t place
        while self._quarantine_count > limit_count:
            place = self._quarantine[self._quarantine_first]
            self._quarantine_first = (self._quarantine_first + 1) % self._quarantine_limit_count
            self._quarantine_count -= 1
            self._quarantine_bytes -= self._slot_bytes(place)
            self._free(place)

    cdef void _free(self, uint32_t place) noexcept nogil:
        cdef uint64_t offset_bytes = (
            (<uint64_t>place << self._view.unit_shift) - self._view.arena_offset_bytes)
        cdef uint32_t page = self._first_page(<uint32_t>(offset_bytes >> PAGE_SHIFT))
        cdef Page* first = &self._pages[page]
        cdef Window* window = &self._windows[page // WINDOW_PAGE_COUNT]
        cdef SizeClass* size_class = &self._classes[first.class_index]
        cdef uint32_t slot_bytes = self._slot_bytes(place)
        cdef uint32_t slot
        window.live_bytes -= slot_bytes
        self.live_bytes -= slot_bytes
        if first.class_index == CLASS_SPAN:
            self._drop_pages(page, first.page_count)
            return
        slot = <uint32_t>(offset_bytes - (<uint64_t>page << PAGE_SHIFT)) // slot_bytes
        self._free_slots[<size_t>page * FREE_WORD_COUNT + (slot >> 6)] |= (
            <uint64_t>1 << (slot & 63))
        first.free_count += 1
        if first.free_count == 1 and not window.is_closed:
            self._list_push(page)
        if first.free_count == size_class.slot_count:
            if not window.is_closed:
                self._list_remove(page)
            self._drop_pages(page, size_class.page_count)

    cdef void _drop_pages(self, uint32_t page, uint32_t page_count) noexcept nogil:
        # The generations move now, not when the pages are used again: a later page of a span may
        # be, long before the one in which an entry of the span begins, whose generation is what
        # a reader that still copies that entry looks at (map_protocol, P3). The fence before them
        # is for P4: who loads a new generation does not see a slot still name what was here.
        cdef uint64_t* generation
        cdef uint32_t index
        fence_release()
        for index in range(page, page + page_count):
            generation = self._view.page_generations + index
            store_then_fence_u64(generation, load_relaxed_u64(generation) + 1)
            self._pages[index].class_index = 0
        self._mark_pages(page, page_count, False)

    cdef void _list_push(self, uint32_t page) noexcept nogil:
        cdef SizeClass* size_class = &self._classes[self._pages[page].class_index]
        self._pages[page].previous_page = NO_PAGE
        self._pages[page].next_page = size_class.partial_page
        if size_class.partial_page != NO_PAGE:
            self._pages[size_class.partial_page].previous_page = page
        size_class.partial_page = page

    cdef void _list_remove(self, uint32_t page) noexcept nogil:
        cdef Page* removed = &self._pages[page]
        if removed.previous_page == NO_PAGE:
            self._classes[removed.class_index].partial_page = removed.next_page
        else:
            self._pages[removed.previous_page].next_page = removed.next_page
        if removed.next_page != NO_PAGE:
            self._pages[removed.next_page].previous_page = removed.previous_page

    # --- what a snapshot pins ------------------------------------------------------------------

    cdef void pin(self, uint64_t generation) noexcept nogil:
        if self._victim != NO_PAGE:
            self.end_evacuation()
        self.pin_generation = generation

    cdef bint hold(self, uint32_t place) noexcept nogil:
        cdef PlaceChunk* chunk = self._held
        if chunk == NULL or chunk.place_count == CHUNK_PLACE_COUNT:
            chunk = <PlaceChunk*>malloc(sizeof(PlaceChunk))
            if chunk == NULL:
                return False
            chunk.place_count = 0
            chunk.below = self._held
            if self._held == NULL:
                self._held_bottom = chunk
            self._held = chunk
        chunk.places[chunk.place_count] = place
        chunk.place_count += 1
        self.held_count += 1
        return True

    cdef void unpin(self) noexcept nogil:
        self.pin_generation = 0
        if self._held != NULL:
            self._held_bottom.below = self._loose
            self._loose = self._held
            self._held = NULL

    cdef uint32_t free_loose(self, uint32_t limit_count) noexcept nogil:
        cdef PlaceChunk* chunk
        cdef uint32_t freed_count = 0
        while freed_count < limit_count and self._loose != NULL:
            chunk = self._loose
            chunk.place_count -= 1
            self._free(chunk.places[chunk.place_count])
            self.held_count -= 1
            freed_count += 1
            if chunk.place_count == 0:
                self._loose = chunk.below
                free(chunk)
        return freed_count

    # --- what a place is ---------------------------------------------------------------------

    cdef uint32_t _first_page(self, uint32_t page) noexcept nogil:
        # Slabs of several pages begin at a multiple of their size; other places are first pages.
        cdef uint32_t class_index = self._pages[page].class_index
        if self._classes[class_index].page_count == SLAB_PAGE_COUNT:
            return page & ~<uint32_t>(SLAB_PAGE_COUNT - 1)
        return page

    cdef uint32_t _slot_bytes(self, uint32_t place) noexcept nogil:
        cdef uint64_t offset_bytes = (
            (<uint64_t>place << self._view.unit_shift) - self._view.arena_offset_bytes)
        cdef Page* page = &self._pages[offset_bytes >> PAGE_SHIFT]
        if page.class_index == CLASS_SPAN:
            return page.page_count * PAGE_BYTES
        return self._classes[page.class_index].slot_bytes

    cdef bint is_allocated(self, uint32_t place) noexcept nogil:
        # Whether this is exactly a place that was handed out and not taken back.
        cdef uint64_t offset_bytes = <uint64_t>place << self._view.unit_shift
        cdef uint32_t page, first, class_index
        cdef uint64_t slot
        if offset_bytes < self._view.arena_offset_bytes:
            return False
        offset_bytes -= self._view.arena_offset_bytes
        if offset_bytes >> PAGE_SHIFT >= self._page_count:
            return False
        page = <uint32_t>(offset_bytes >> PAGE_SHIFT)
        class_index = self._pages[page].class_index
        if class_index == 0:
            return False
        if class_index == CLASS_SPAN:
            return offset_bytes & (PAGE_BYTES - 1) == 0 and self._pages[page].page_count != 0
        first = self._first_page(page)
        offset_bytes -= <uint64_t>first << PAGE_SHIFT
        if offset_bytes % self._classes[class_index].slot_bytes != 0:
            return False
        slot = offset_bytes // self._classes[class_index].slot_bytes
        return (slot < self._classes[class_index].slot_count
                and not self._free_slots[<size_t>first * FREE_WORD_COUNT + (slot >> 6)]
                >> (slot & 63) & 1)

    # --- evacuation ----------------------------------------------------------------------------

    cdef uint64_t arena_bytes(self) noexcept nogil:
        return <uint64_t>self._page_count * PAGE_BYTES

    cdef uint64_t scattered_bytes(self) noexcept nogil:
        return (self.arena_bytes() - <uint64_t>self._empty_window_count * WINDOW_BYTES
                - self.live_bytes)

    cdef bint begin_evacuation(self) noexcept nogil:
        cdef uint32_t index, page, victim = NO_PAGE
        cdef uint32_t least_bytes = VICTIM_BYTES_MAX
        if self._victim != NO_PAGE:
            return True
        if self.pin_generation != 0 or self._loose != NULL:
            # Loose places cannot be moved, and soon need not be.
            return False
        if (self._evacuation_pause_bytes != 0
                or self.scattered_bytes() <= self.live_bytes // 2 + SCATTERED_BYTES_MIN):
            return False
        for index in range(self._page_count // WINDOW_PAGE_COUNT):
            if (self._windows[index].free_page_count != WINDOW_PAGE_COUNT
                    and self._windows[index].live_bytes < least_bytes):
                least_bytes = self._windows[index].live_bytes
                victim = index
        if victim == NO_PAGE:
            self._evacuation_pause_bytes = PAUSE_BYTES
            return False
        for page in range(victim * WINDOW_PAGE_COUNT, (victim + 1) * WINDOW_PAGE_COUNT):
            if (self._pages[page].class_index != 0 and self._first_page(page) == page
                    and self._pages[page].class_index != CLASS_SPAN
                    and self._pages[page].free_count != 0):
                self._list_remove(page)
        self._windows[victim].is_closed = True
        self._victim = victim
        self._victim_page = victim * WINDOW_PAGE_COUNT
        self._victim_slot = 0
        return True

    cdef uint32_t next_moving(self, uint32_t* slot_budget_count) noexcept nogil:
        cdef uint32_t end = (self._victim + 1) * WINDOW_PAGE_COUNT
        cdef uint32_t page, slot
        cdef SizeClass* size_class
        cdef uint64_t offset_bytes
        while self._victim_page < end and slot_budget_count[0] != 0:
            slot_budget_count[0] -= 1
            page = self._victim_page
            size_class = &self._classes[self._pages[page].class_index]
            slot = self._victim_slot
            offset_bytes = self._view.arena_offset_bytes + (<uint64_t>page << PAGE_SHIFT)
            if self._pages[page].class_index == CLASS_SPAN:
                self._victim_page += self._pages[page].page_count
                return <uint32_t>(offset_bytes >> self._view.unit_shift)
            # Behind a page that no span has, or that another has emptied, comes the next page.
            if self._pages[page].class_index == 0 or slot == size_class.slot_count:
                self._victim_page += (
                    1 if self._pages[page].class_index == 0 else size_class.page_count)
                self._victim_slot = 0
                continue
            self._victim_slot += 1
            if not self._free_slots[<size_t>page * FREE_WORD_COUNT + (slot >> 6)] >> (
                    slot & 63) & 1:
                offset_bytes += <uint64_t>slot * size_class.slot_bytes
                return <uint32_t>(offset_bytes >> self._view.unit_shift)
        return 0

    cdef bint evacuation_is_over(self) noexcept nogil:
        return self._victim_page >= (self._victim + 1) * WINDOW_PAGE_COUNT

    cdef void end_evacuation(self) noexcept nogil:
        # What was not moved waits in the quarantine, or there was no memory to move it to.
        cdef Window* window = &self._windows[self._victim]
        cdef uint32_t page
        if window.live_bytes != 0:
            self._drain(0)
        window.is_closed = False
        self.evacuated_window_count += 1
        if window.live_bytes != 0:
            self._evacuation_pause_bytes = PAUSE_BYTES
            self.evacuated_window_count -= 1
        for page in range(self._victim * WINDOW_PAGE_COUNT,
                          (self._victim + 1) * WINDOW_PAGE_COUNT):
            if (self._pages[page].class_index != 0 and self._first_page(page) == page
                    and self._pages[page].class_index != CLASS_SPAN
                    and self._pages[page].free_count != 0):
                self._list_push(page)
        self._victim = NO_PAGE

    # --- for tests and for doubts --------------------------------------------------------------

    cdef int verify(self, set places) except -1:
        """Raises InvariantBroken unless exactly these places are handed out, and those that wait
        in the quarantine, held or loose."""
        cdef uint32_t index, page, first, waiting_count = 0
        cdef uint64_t live_bytes = 0
        cdef uint32_t live_count = 0
        cdef uint32_t class_index
        places = set(places)
        for index in range(self._quarantine_count):
            places.add(self._quarantine[
                (self._quarantine_first + index) % self._quarantine_limit_count])
            waiting_count += 1
        ensure(self.pin_generation != 0 or self._held == NULL, "places are held for nobody")
        self._add_chunks(self._held, places)
        self._add_chunks(self._loose, places)
        for place in places:
            ensure(self.is_allocated(place), f"place {place} is in use and not handed out")
            live_bytes += self._slot_bytes(place)
        ensure(live_bytes == self.live_bytes, "the arena's live bytes were miscounted")
        for page in range(self._page_count):
            class_index = self._pages[page].class_index
            first = self._first_page(page)
            if class_index == CLASS_SPAN:
                live_count += self._pages[page].page_count != 0
            elif class_index != 0 and first == page:
                live_count += self._classes[class_index].slot_count - self._pages[page].free_count
        ensure(live_count == len(places), f"{live_count} places are handed out, of which "
                                          f"{len(places)} are known ({waiting_count} wait)")
        self._verify_windows()
        return 0

    cdef int _add_chunks(self, const PlaceChunk* chunk, set places) except -1:
        cdef uint32_t index
        while chunk != NULL:
            for index in range(chunk.place_count):
                ensure(chunk.places[index] not in places, "a place waits that is in use")
                places.add(chunk.places[index])
            chunk = chunk.below
        return 0

    cdef int _verify_windows(self) except -1:
        cdef uint32_t index, page, class_index, empty_count = 0
        cdef uint32_t used_count
        cdef uint64_t live_bytes = 0
        for index in range(self._page_count // WINDOW_PAGE_COUNT):
            used_count = 0
            for page in range(index * WINDOW_PAGE_COUNT, (index + 1) * WINDOW_PAGE_COUNT):
                used_count += self._pages[page].class_index != 0
            ensure(used_count + self._windows[index].free_page_count == WINDOW_PAGE_COUNT,
                   f"window {index}'s pages were miscounted")
            empty_count += used_count == 0
        ensure(empty_count == self._empty_window_count, "the empty windows were miscounted")
        for index in range((self._page_count + WINDOW_PAGE_COUNT - 1) // WINDOW_PAGE_COUNT):
            live_bytes += self._windows[index].live_bytes
        ensure(live_bytes == self.live_bytes, "the windows' live bytes were miscounted")
        for class_index in range(<uint32_t>CLASS_COUNT):
            page = self._classes[class_index].partial_page
            while page != NO_PAGE:
                ensure(self._pages[page].free_count != 0 and not
                       self._windows[page // WINDOW_PAGE_COUNT].is_closed,
                       f"page {page} is in a list that it should not be in")
                page = self._pages[page].next_page
        return 0
