# cython: cdivision=True
"""The shared map's one writer. See map_writer.pxd for what it owns and the order of its writes.

Divisions are C's, by constants.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from seafoam._core.arena cimport Arena
from seafoam._core.atomics cimport (
    load_relaxed_u64, store_relaxed_u8, store_relaxed_u32, store_relaxed_u64,
    store_release_u64, store_then_fence_u64,
)
from seafoam._core.limits cimport (
    ENTRY_OVERHEAD_BYTES, KEY_BYTES_MAX, KEY_BYTES_MIN, VALUE_BYTES_MAX,
)
from seafoam._core.map_layout cimport (
    BUCKET_BYTES, BUCKET_SHIFT, BUCKET_SLOT_COUNT, BUCKET_STEP_BYTES, CHAIN_LINE_COUNT_MAX,
    ENTRY_HEADER_BYTES, FIRST_BUCKET_COUNT, KEY_LENGTH_BITS, KEYS_PER_BUCKET, LEVEL_OFFSET_BYTES,
    SLOTS_OFFSET_BYTES, MapHeader, MapView, Probe, bucket_index_of, count_leading_zeros, hash_key,
    layout_bytes, layout_write, slot_of_match, tag_of, view_open,
)
from seafoam._core.map_reader cimport MapReader
from seafoam._core.map_snapshot cimport MapSnapshot
from seafoam._core.map_verify cimport verify_buckets
from seafoam._core.map_words cimport (
    change_begin, change_end, entry_at, entry_bytes_of, every_slot, key_bytes_of, line_at,
    line_overflow, slot_place, slot_tag, slots_with_tag, value_bytes_of,
)
from seafoam._core.segment cimport Segment
from seafoam._core.status cimport (
    STATUS_DAMAGED, STATUS_DETACHED, STATUS_NO_MEMORY, STATUS_NOT_FOUND, STATUS_OK,
    STATUS_TOO_LARGE,
)
from seafoam._core.wire_snapshot cimport DataEntry, get_data_entry

from seafoam._core.segment import machine_memory_bytes
from seafoam.errors import DataDamaged, Detached, InvariantBroken, ensure

cdef enum:
    # Two a write catch up after a split that had to wait for memory.
    SPLITS_PER_WRITE_MAX = 2
    SPLIT_WAIT_KEY_COUNT = 4096
    FIRST_LEVEL = 6
    LINE_STEP_BYTES = 16384
    # Evacuation in one write: slots looked at, and bytes moved beside four times those released.
    MOVING_SLOT_COUNT = 16
    MOVING_BYTES = 4096
    # Of what a snapshot held, freed by one write; far more than one write can have released.
    LOOSE_PLACE_COUNT = 32
    QUARANTINE_ENTRIES_DEFAULT = 1024


@cython.final
cdef class MapWriter:
    """The shared map's one writer; the thread that makes it must live as long as it does.

    `hash_seed` is 16 bytes, the same on every node of a cluster; `max_logical_bytes` bounds the
    sum over keys of key, value and ENTRY_OVERHEAD_BYTES, and with it the address space;
    `reserve_limit_bytes` bounds the memory (default: three quarters of the machine's). Replaced
    entries wait until `quarantine_entries` later ones were replaced. Raises ValueError, OSError,
    MemoryError.
    """

    def __init__(self, bytes hash_seed not None, *, uint64_t max_logical_bytes, uint64_t start_id,
                 uint32_t quarantine_entries=QUARANTINE_ENTRIES_DEFAULT,
                 uint64_t segment_generation=1, reserve_limit_bytes=None):
        if self.segment is not None:
            raise TypeError("a MapWriter is made once")
        if len(hash_seed) != 16:
            raise ValueError(f"hash_seed has {len(hash_seed)} bytes; it must have 16")
        if not 1 <= max_logical_bytes <= 1 << 40:
            raise ValueError(
                f"max_logical_bytes is {max_logical_bytes}; it must be 1 to {1 << 40}")
        if reserve_limit_bytes is None:
            reserve_limit_bytes = machine_memory_bytes() * 3 // 4
        self.segment = Segment.create(layout_bytes(max_logical_bytes), reserve_limit_bytes)
        layout_write(<MapHeader*>self.segment.base, max_logical_bytes)
        self._open(hash_seed, start_id, segment_generation)
        self.arena = Arena()
        self.arena.open(self.segment, &self._view, quarantine_entries)

    cdef int _open(self, bytes hash_seed, uint64_t start_id, uint64_t segment_generation
                   ) except -1:
        cdef MapHeader* header = <MapHeader*>self.segment.base
        cdef uint64_t index
        memcpy(header.hash_seed, PyBytes_AS_STRING(hash_seed), 16)
        header.start_id = start_id
        header.segment_generation = segment_generation
        view_open(&self._view, self.segment.base)
        self._scratch = <uint64_t*>malloc(
            ENTRY_HEADER_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 8)
        self._staying = <Slot*>calloc(CHAIN_LINE_COUNT_MAX * BUCKET_SLOT_COUNT, sizeof(Slot))
        self._moving = <Slot*>calloc(CHAIN_LINE_COUNT_MAX * BUCKET_SLOT_COUNT, sizeof(Slot))
        self._free_lines = <uint32_t*>calloc(self._view.overflow_limit_count, 4)
        if (self._scratch == NULL or self._staying == NULL or self._moving == NULL
                or self._free_lines == NULL or not self._reserve_bucket(FIRST_BUCKET_COUNT - 1)):
            raise MemoryError("no memory for an empty map")
        for index in range(<uint64_t>FIRST_BUCKET_COUNT):
            store_relaxed_u8(
                self._view.buckets + index * BUCKET_BYTES + LEVEL_OFFSET_BYTES, FIRST_LEVEL)
        self.bucket_count = FIRST_BUCKET_COUNT
        store_release_u64(&header.bucket_count, FIRST_BUCKET_COUNT)
        return 0

    def __del__(self):
        # Readers keep the segment; they must see that nobody writes it any more.
        if self.segment is not None:
            self.close()

    def __dealloc__(self):
        free(self._scratch)
        free(self._staying)
        free(self._moving)
        free(self._free_lines)

    # --- log entries -------------------------------------------------------------------------

    cpdef int begin(self, uint64_t index, bint writes_many=False) except -1 nogil:
        """Announce the writes of a log entry; `writes_many` where it has several keys."""
        if self._is_open or index < self._index:
            with gil:
                raise InvariantBroken(
                    f"the map was told to apply entry {index} after {self._index}")
        self._index = index
        self._is_open = True
        self._writes_many = writes_many
        store_then_fence_u64(&self._view.header.applying_index, index)
        if writes_many:
            self._multi_sequence += 1
            store_then_fence_u64(&self._view.header.multi_sequence, self._multi_sequence)
        return 0

    cpdef int end(self) except -1 nogil:
        """Announce that the writes of the log entry that was begun are done."""
        if not self._is_open:
            with gil:
                raise InvariantBroken("the map was told of the end of an entry that has not begun")
        if self._writes_many:
            self._multi_sequence += 1
            store_release_u64(&self._view.header.multi_sequence, self._multi_sequence)
        store_release_u64(&self._view.header.applied_index, self._index)
        self._is_open = False
        return 0

    # --- writes ------------------------------------------------------------------------------

    cdef int put(self, const uint8_t* key, size_t key_bytes, const uint8_t* value,
                 size_t value_bytes, uint64_t version) noexcept nogil:
        cdef size_t entry_bytes = ENTRY_HEADER_BYTES + key_bytes + value_bytes
        cdef size_t released_bytes = 0
        cdef Probe probe
        cdef Spot spot
        cdef uint32_t place
        cdef int status
        if self._is_closed:
            return STATUS_DETACHED
        if not KEY_BYTES_MIN <= key_bytes <= KEY_BYTES_MAX or value_bytes > VALUE_BYTES_MAX:
            return STATUS_TOO_LARGE
        probe.key = key
        probe.key_bytes = key_bytes
        probe.hash = hash_key(self._view.seed, key, key_bytes)
        place = self._allocate(entry_bytes)
        if place == 0:
            return STATUS_NO_MEMORY
        self._scratch[(entry_bytes - 1) // 8] = 0
        self._scratch[1] = version
        self._scratch[2] = value_bytes << KEY_LENGTH_BITS | key_bytes
        memcpy(<uint8_t*>self._scratch + ENTRY_HEADER_BYTES, key, key_bytes)
        memcpy(<uint8_t*>self._scratch + ENTRY_HEADER_BYTES + key_bytes, value, value_bytes)
        self._fill_entry(place, entry_bytes)
        if self._find_spot(&probe, &spot):
            self._key_value_bytes -= entry_bytes_of(entry_at(&self._view, spot.place))
            self._save(spot.bucket)
            change_begin(spot.bucket)
            store_relaxed_u32(slot_place(spot.line, spot.slot), place)
            change_end(spot.bucket)
            released_bytes = self._release(spot.place)
        else:
            status = self._insert(probe.hash, place)
            if status != STATUS_OK:
                self.arena.release(place)
                return status
        self._key_value_bytes += entry_bytes
        self._keep_house(released_bytes)
        return STATUS_OK

    cdef int remove(self, const uint8_t* key, size_t key_bytes) noexcept nogil:
        cdef Probe probe
        cdef Spot spot
        cdef uint32_t line_number = 0
        if self._is_closed:
            return STATUS_DETACHED
        probe.key = key
        probe.key_bytes = key_bytes
        probe.hash = hash_key(self._view.seed, key, key_bytes)
        if not self._find_spot(&probe, &spot):
            return STATUS_NOT_FOUND
        self._key_value_bytes -= entry_bytes_of(entry_at(&self._view, spot.place))
        self._save(spot.bucket)
        change_begin(spot.bucket)
        # The place is zeroed with the tag: a lenient reader must never pair it with a later tag.
        store_relaxed_u8(slot_tag(spot.line, spot.slot), 0)
        store_relaxed_u32(slot_place(spot.line, spot.slot), 0)
        if spot.previous_line != NULL and slots_with_tag(spot.line, 0) == every_slot():
            line_number = line_overflow(spot.previous_line)[0]
            store_relaxed_u32(line_overflow(spot.previous_line), line_overflow(spot.line)[0])
            self._drop_line(line_number)
        change_end(spot.bucket)
        self.key_count -= 1
        store_relaxed_u64(&self._view.header.key_count, self.key_count)
        self._keep_house(self._release(spot.place))
        return STATUS_OK

    # --- what a snapshot needs of a write (map_snapshot.pxd) ---------------------------------

    cdef void _save(self, uint64_t* bucket) noexcept nogil:
        if self.arena.pin_generation != 0:
            self._snapshot.save(bucket)

    cdef uint32_t _allocate(self, size_t entry_bytes) noexcept nogil:
        cdef uint32_t place = self.arena.allocate(entry_bytes)
        if place == 0 and self.arena.pin_generation != 0:
            self._snapshot.give_way()
            place = self.arena.allocate(entry_bytes)
        return place

    cdef uint32_t _release(self, uint32_t place) noexcept nogil:
        # How many bytes evacuation may count on: none of what is held.
        if load_relaxed_u64(<uint64_t*>entry_at(&self._view, place)) < self.arena.pin_generation:
            if self.arena.hold(place):
                return 0
            self._snapshot.give_way()
        return self.arena.release(place)

    cdef void _fill_entry(self, uint32_t place, size_t entry_bytes) noexcept nogil:
        # From the scratch entry, whose first word is not used. Nobody can find the place yet.
        cdef uint64_t* words = <uint64_t*>entry_at(&self._view, place)
        cdef size_t word_count = (entry_bytes + 7) // 8
        cdef size_t index
        self._generation += 1
        store_then_fence_u64(words, 0)
        for index in range(1, word_count):
            store_relaxed_u64(words + index, self._scratch[index])
        store_release_u64(words, self._generation)

    cdef int _insert(self, uint64_t hash, uint32_t place) noexcept nogil:
        cdef Spot spot
        cdef uint64_t* fresh_line
        cdef uint32_t line_number = 0
        if not self._find_free(hash, &spot):
            line_number = self._take_line() if spot.line != NULL else 0
            if line_number == 0:
                return STATUS_NO_MEMORY
            fresh_line = line_at(&self._view, line_number)
            store_relaxed_u32(slot_place(fresh_line, 0), place)
            store_relaxed_u8(slot_tag(fresh_line, 0), tag_of(hash))
        self._save(spot.bucket)
        change_begin(spot.bucket)
        if line_number != 0:
            store_relaxed_u32(line_overflow(spot.line), line_number)
        else:
            store_relaxed_u32(slot_place(spot.line, spot.slot), place)
            store_relaxed_u8(slot_tag(spot.line, spot.slot), tag_of(hash))
        change_end(spot.bucket)
        self.key_count += 1
        store_relaxed_u64(&self._view.header.key_count, self.key_count)
        return STATUS_OK

    # --- finding -----------------------------------------------------------------------------

    cdef bint _find_spot(self, const Probe* probe, Spot* spot) noexcept nogil:
        cdef uint64_t matches
        cdef const uint8_t* entry
        spot.bucket = <uint64_t*>(self._view.buckets + (
            bucket_index_of(probe.hash, self.bucket_count) << BUCKET_SHIFT))
        spot.previous_line = NULL
        spot.line = spot.bucket
        while spot.line != NULL:
            matches = slots_with_tag(spot.line, tag_of(probe.hash))
            while matches != 0:
                spot.slot = slot_of_match(matches)
                spot.place = slot_place(spot.line, spot.slot)[0]
                entry = entry_at(&self._view, spot.place)
                if (key_bytes_of(entry) == probe.key_bytes
                        and memcmp(entry + ENTRY_HEADER_BYTES, probe.key, probe.key_bytes) == 0):
                    return True
                matches &= matches - 1
            spot.previous_line = spot.line
            spot.line = line_at(&self._view, line_overflow(spot.line)[0])
        return False

    cdef bint _find_place(self, uint64_t hash, uint32_t place, Spot* spot) noexcept nogil:
        # The slot that names a place whose key has this hash.
        cdef uint64_t matches
        spot.bucket = <uint64_t*>(self._view.buckets + (
            bucket_index_of(hash, self.bucket_count) << BUCKET_SHIFT))
        spot.previous_line = NULL
        spot.line = spot.bucket
        spot.place = place
        while spot.line != NULL:
            matches = slots_with_tag(spot.line, tag_of(hash))
            while matches != 0:
                spot.slot = slot_of_match(matches)
                if slot_place(spot.line, spot.slot)[0] == place:
                    return True
                matches &= matches - 1
            spot.line = line_at(&self._view, line_overflow(spot.line)[0])
        return False

    cdef bint _find_free(self, uint64_t hash, Spot* spot) noexcept nogil:
        # False where the chain is full: line is then its last one, or NULL if it cannot grow.
        cdef uint64_t matches
        cdef uint64_t* next_line
        cdef int line_count = 1
        spot.bucket = <uint64_t*>(self._view.buckets + (
            bucket_index_of(hash, self.bucket_count) << BUCKET_SHIFT))
        spot.line = spot.bucket
        while True:
            matches = slots_with_tag(spot.line, 0)
            if matches != 0:
                spot.slot = slot_of_match(matches)
                return True
            next_line = line_at(&self._view, line_overflow(spot.line)[0])
            if next_line == NULL:
                if line_count == CHAIN_LINE_COUNT_MAX:
                    spot.line = NULL
                return False
            spot.line = next_line
            line_count += 1

    cdef int find(self, const uint8_t* key, size_t key_bytes, ValueView* out) noexcept nogil:
        cdef Probe probe
        cdef Spot spot
        cdef const uint8_t* entry
        probe.key = key
        probe.key_bytes = key_bytes
        probe.hash = hash_key(self._view.seed, key, key_bytes)
        if not self._find_spot(&probe, &spot):
            return STATUS_NOT_FOUND
        entry = entry_at(&self._view, spot.place)
        out.value = entry + ENTRY_HEADER_BYTES + key_bytes
        out.value_bytes = value_bytes_of(entry)
        out.version = (<const uint64_t*>entry)[1]
        return STATUS_OK

    # --- overflow lines ----------------------------------------------------------------------

    cdef bint _has_lines(self, uint32_t line_count) noexcept nogil:
        # Makes sure that so many can be taken.
        cdef uint64_t wanted_count = <uint64_t>self._line_count + line_count
        if line_count <= self._free_line_count:
            return True
        wanted_count -= self._free_line_count
        if wanted_count > self._view.overflow_limit_count:
            return False
        while wanted_count > self._line_reserved_count:
            if self.segment.reserve(
                    self._view.header.overflow_offset_bytes
                    + (<size_t>self._line_reserved_count << BUCKET_SHIFT),
                    LINE_STEP_BYTES) != STATUS_OK:
                return False
            self._line_reserved_count += LINE_STEP_BYTES >> BUCKET_SHIFT
        return True

    cdef uint32_t _take_line(self) noexcept nogil:
        # An empty line's number, all zero; or 0.
        if not self._has_lines(1):
            return 0
        if self._free_line_count != 0:
            self._free_line_count -= 1
            return self._free_lines[self._free_line_count]
        self._line_count += 1
        return self._line_count

    cdef void _drop_line(self, uint32_t line_number) noexcept nogil:
        cdef uint64_t* line = line_at(&self._view, line_number)
        cdef uint32_t word
        for word in range(<uint32_t>(SLOTS_OFFSET_BYTES // 8), <uint32_t>(BUCKET_BYTES // 8)):
            store_relaxed_u64(line + word, 0)
        self._free_lines[self._free_line_count] = line_number
        self._free_line_count += 1

    # --- growth ------------------------------------------------------------------------------

    cdef bint _reserve_bucket(self, uint64_t index) noexcept nogil:
        if index >= self._view.bucket_limit_count:
            return False
        if index >= self._bucket_reserved_count:
            if self.segment.reserve(
                    self._view.header.bucket_offset_bytes
                    + (self._bucket_reserved_count << BUCKET_SHIFT),
                    BUCKET_STEP_BYTES) != STATUS_OK:
                return False
            self._bucket_reserved_count += BUCKET_STEP_BYTES >> BUCKET_SHIFT
        return True

    cdef bint _split(self) noexcept nogil:
        # One bucket more; False where there is no memory for it, and nothing has changed.
        cdef uint32_t old_level = 63 - count_leading_zeros(self.bucket_count)
        cdef uint64_t child_index = self.bucket_count
        cdef uint64_t parent_index = child_index - (<uint64_t>1 << old_level)
        cdef uint64_t* parent = <uint64_t*>(self._view.buckets + (parent_index << BUCKET_SHIFT))
        cdef uint64_t* child = <uint64_t*>(self._view.buckets + (child_index << BUCKET_SHIFT))
        cdef uint64_t* line = parent
        cdef uint64_t filled
        cdef uint32_t staying_count = 0, moving_count = 0, slot
        cdef Slot item
        cdef const uint8_t* entry
        if not self._reserve_bucket(child_index):
            return False
        self._save(parent)
        while line != NULL:
            filled = ~slots_with_tag(line, 0) & every_slot()
            while filled != 0:
                slot = slot_of_match(filled)
                filled &= filled - 1
                item.place = slot_place(line, slot)[0]
                item.tag = slot_tag(line, slot)[0]
                entry = entry_at(&self._view, item.place)
                if hash_key(self._view.seed, entry + ENTRY_HEADER_BYTES,
                            key_bytes_of(entry)) >> old_level & 1:
                    self._moving[moving_count] = item
                    moving_count += 1
                else:
                    self._staying[staying_count] = item
                    staying_count += 1
            line = line_at(&self._view, line_overflow(line)[0])
        if moving_count > BUCKET_SLOT_COUNT and not self._has_lines(
                (moving_count - 1) // BUCKET_SLOT_COUNT):
            return False
        self._fill_chain(child, self._moving, moving_count, old_level + 1)
        self.bucket_count = child_index + 1
        store_release_u64(&self._view.header.bucket_count, self.bucket_count)
        change_begin(parent)
        self._fill_chain(parent, self._staying, staying_count, old_level + 1)
        change_end(parent)
        return True

    cdef void _fill_chain(self, uint64_t* line, const Slot* slots, uint32_t slot_count,
                          uint32_t level) noexcept nogil:
        # Rewrites a chain, taking lines it needs and dropping those it does not.
        cdef uint32_t next_line = line_overflow(line)[0]
        cdef uint32_t dropped_line
        cdef uint32_t slot
        store_relaxed_u8(<uint8_t*>line + LEVEL_OFFSET_BYTES, <uint8_t>level)
        while True:
            for slot in range(<uint32_t>BUCKET_SLOT_COUNT):
                if slot < slot_count:
                    store_relaxed_u32(slot_place(line, slot), slots[slot].place)
                    store_relaxed_u8(slot_tag(line, slot), slots[slot].tag)
                else:
                    store_relaxed_u8(slot_tag(line, slot), 0)
                    store_relaxed_u32(slot_place(line, slot), 0)
            if slot_count <= BUCKET_SLOT_COUNT:
                break
            slots += BUCKET_SLOT_COUNT
            slot_count -= BUCKET_SLOT_COUNT
            if next_line == 0:
                next_line = self._take_line()
                store_relaxed_u32(line_overflow(line), next_line)
            line = line_at(&self._view, next_line)
            next_line = line_overflow(line)[0]
        store_relaxed_u32(line_overflow(line), 0)
        while next_line != 0:
            dropped_line = next_line
            next_line = line_overflow(line_at(&self._view, dropped_line))[0]
            self._drop_line(dropped_line)

    cdef void _keep_house(self, size_t released_bytes) noexcept nogil:
        cdef size_t budget_bytes = MOVING_BYTES + 4 * released_bytes
        cdef size_t moved_bytes = 0
        cdef uint32_t slot_budget_count = MOVING_SLOT_COUNT
        cdef uint32_t place
        cdef int split_count = 0, moved
        while (self.key_count > self.bucket_count * KEYS_PER_BUCKET
               and self.key_count >= self._split_again_key_count
               and split_count < SPLITS_PER_WRITE_MAX):
            if not self._split():
                self._split_again_key_count = self.key_count + SPLIT_WAIT_KEY_COUNT
            split_count += 1
        self.arena.free_loose(LOOSE_PLACE_COUNT)
        if not self.arena.begin_evacuation():
            return
        while slot_budget_count != 0 and moved_bytes < budget_bytes:
            place = self.arena.next_moving(&slot_budget_count)
            moved = self._move(place) if place != 0 else 0
            if moved < 0 or self.arena.evacuation_is_over():
                self.arena.end_evacuation()
                return
            moved_bytes += moved

    cdef int _move(self, uint32_t place) noexcept nogil:
        # Gives an entry another place; its size, 0 where no key has this place (it waits in the
        # quarantine), or -1 where there is no memory.
        cdef const uint8_t* entry = entry_at(&self._view, place)
        cdef size_t entry_bytes = entry_bytes_of(entry)
        cdef Spot spot
        cdef uint32_t new_place
        if not self._find_place(
                hash_key(self._view.seed, entry + ENTRY_HEADER_BYTES, key_bytes_of(entry)),
                place, &spot):
            return 0
        new_place = self.arena.allocate(entry_bytes)
        if new_place == 0:
            return -1
        self._scratch[(entry_bytes - 1) // 8] = 0
        memcpy(self._scratch + 1, entry + 8, entry_bytes - 8)
        self._fill_entry(new_place, entry_bytes)
        change_begin(spot.bucket)
        store_relaxed_u32(slot_place(spot.line, spot.slot), new_place)
        change_end(spot.bucket)
        self.arena.release_moved(place)
        return <int>entry_bytes

    # --- snapshots -------------------------------------------------------------------------------

    def begin_snapshot(self):
        """A MapSnapshot of what is in the map now; between two log entries, one at a time."""
        if self._is_closed:
            raise Detached("the map is closed")
        ensure(not self._is_open, "a snapshot was begun inside of a log entry")
        ensure(self.arena.pin_generation == 0, "a second snapshot was begun beside an open one")
        self._snapshot = MapSnapshot.__new__(MapSnapshot)
        self._snapshot.open(self.arena, &self._view, self.bucket_count, self._generation + 1)
        return self._snapshot

    def load_block(self, bytes payload not None):
        """Put in the entries of a snapshot's DATA payload; how many there were.

        For a map that no log entry was applied to: `begin` and `end` with the snapshot's index
        follow when all are in. Raises DataDamaged, MemoryError, Detached.
        """
        cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(payload)
        cdef size_t left_bytes = PyBytes_GET_SIZE(payload)
        cdef uint64_t before_count = self.key_count
        cdef int status = STATUS_OK
        ensure(self._index == 0, "a snapshot was loaded into a map that is in use")
        with nogil:
            status = self._load(at, left_bytes)
        if status == STATUS_DAMAGED:
            raise DataDamaged("a snapshot's block holds what is no entry, or a key that was there")
        _raise_unless_ok(status)
        return self.key_count - before_count

    cdef int _load(self, const uint8_t* at, size_t left_bytes) noexcept nogil:
        cdef DataEntry entry
        cdef uint64_t before_count
        cdef int status = STATUS_OK
        while left_bytes != 0 and status == STATUS_OK:
            status = get_data_entry(at, left_bytes, &entry)
            if status == STATUS_OK:
                before_count = self.key_count
                status = self.put(entry.key, entry.key_bytes, entry.value, entry.value_bytes,
                                  entry.version)
                at += entry.entry_bytes
                left_bytes -= entry.entry_bytes
                if status == STATUS_OK and self.key_count == before_count:
                    status = STATUS_DAMAGED
        return status

    # --- what Python sees ----------------------------------------------------------------------

    def set(self, key, bytes value not None, uint64_t version):
        """Set a key to a value (bytes), written by the log entry `version`.

        Outside of `begin` and `end` it is a log entry of its own. Raises MemoryError where the
        segment is full, ValueError where key or value are over their limits, Detached.
        """
        cdef bytes name = _key_bytes(key)
        cdef bint is_alone = not self._is_open
        if is_alone:
            self.begin(version)
        cdef int status = self.put(
            <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name),
            <const uint8_t*>PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value), version)
        if is_alone:
            self.end()
        _raise_unless_ok(status)

    def delete(self, key):
        """Remove a key; True if there was one. A log entry's part, or none: no index moves."""
        cdef bytes name = _key_bytes(key)
        cdef int status = self.remove(
            <const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        if status == STATUS_NOT_FOUND:
            return False
        _raise_unless_ok(status)
        return True

    def get(self, key):
        """A key's value (bytes), or None."""
        cdef ValueView view
        cdef bytes name = _key_bytes(key)
        if self.find(<const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &view):
            return None
        return PyBytes_FromStringAndSize(<const char*>view.value, view.value_bytes)

    def version(self, key):
        """The index of the log entry that wrote a key last, or None."""
        cdef ValueView view
        cdef bytes name = _key_bytes(key)
        if self.find(<const uint8_t*>PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name), &view):
            return None
        return view.version

    def reader(self, *, bint release_gil=False):
        """A reader of this map in this process; any number of threads may use it."""
        return MapReader.of(self.segment, release_gil)

    def close(self):
        """Mark the map dead for its readers; nothing can be written any more. Idempotent."""
        self._is_closed = True
        self.segment.close()

    cdef uint64_t logical_byte_count(self) noexcept nogil:
        return (self._key_value_bytes
                + self.key_count * <uint64_t>(ENTRY_OVERHEAD_BYTES - ENTRY_HEADER_BYTES))

    def reader_fd(self):
        """A new descriptor of the map for readers in other processes; the caller closes it."""
        return self.segment.reader_fd()

    @property
    def keys(self):
        """How many keys there are."""
        return self.key_count

    @property
    def logical_bytes(self):
        """The sum over keys of key, value and ENTRY_OVERHEAD_BYTES."""
        return self.logical_byte_count()

    @property
    def live_bytes(self):
        """The sum over keys of their entries, before rounding to size classes."""
        return self._key_value_bytes

    @property
    def arena_bytes(self):
        """What is reserved for entries."""
        return self.arena.arena_bytes()

    @property
    def reserved_bytes(self):
        """What is reserved of the whole segment."""
        return self.segment.reserved_bytes

    cpdef void set_commit_index(self, uint64_t index) noexcept nogil:
        """Let readers know the commit index."""
        store_release_u64(&self._view.header.commit_index, index)

    cpdef void set_term(self, uint64_t term) noexcept nogil:
        """Let readers know the term."""
        store_release_u64(&self._view.header.term, term)

    cpdef void set_role(self, uint64_t role) noexcept nogil:
        """Let readers know the node's role."""
        store_release_u64(&self._view.header.role, role)

    cpdef void set_node_state(self, uint64_t node_state) noexcept nogil:
        """Let readers know the node's state."""
        store_release_u64(&self._view.header.node_state, node_state)

    def verify(self):
        """Walk the whole map; raise InvariantBroken where it contradicts itself."""
        places, key_value_bytes, line_count = verify_buckets(&self._view, self.bucket_count)
        ensure(<uint64_t>len(places) == self.key_count,
               f"{len(places)} keys, {self.key_count} counted")
        ensure(key_value_bytes == self._key_value_bytes, "the entries' bytes were miscounted")
        ensure(line_count + self._free_line_count == self._line_count,
               f"{line_count} overflow lines, {self._line_count - self._free_line_count} counted")
        self.arena.verify(places)


cdef bytes _key_bytes(object key):
    if type(key) is bytes:
        return <bytes>key
    if isinstance(key, str):
        return key.encode()
    raise TypeError(f"a key is str or bytes, not {type(key).__name__}")


cdef _raise_unless_ok(int status):
    if status == STATUS_NO_MEMORY:
        raise MemoryError("the map has no memory for another entry")
    if status == STATUS_TOO_LARGE:
        raise ValueError(f"a key has {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes, a value at most "
                         f"{VALUE_BYTES_MAX}")
    if status == STATUS_DETACHED:
        raise Detached("the map is closed")
