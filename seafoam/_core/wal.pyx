"""The write-ahead log's writer, as pure functions; wal.pxd draws the log."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.buffer cimport buffer_free, buffer_reserve
from seafoam._core.limits cimport WAL_RECORD_BYTES_MAX, WAL_SEGMENT_BYTES
from seafoam._core.message cimport Entry, HardState
from seafoam._core.pack cimport get_u32, put_u64
from seafoam._core.status cimport STATUS_DAMAGED, STATUS_OK
from seafoam._core.wal_recovery cimport FIRST_SEGMENT_NUMBER, Recovery, header_bytes, payload_of
from seafoam._core.wire cimport (
    FRONT_BYTES,
    RECORD_BASE,
    RECORD_ENTRY,
    RECORD_FRONT,
    RECORD_HARD_STATE,
    RECORD_HEADER_BYTES,
    RECORD_MARKER,
    RECORD_ROTATION,
    SEGMENT_HEADER_BYTES,
    Record,
    SegmentHeader,
    get_record,
    get_segment_header,
    next_generation,
    put_record,
)

from seafoam._core import wal_recovery
from seafoam._core.wal_recovery import Damage, recover, segment_name
from seafoam.errors import ensure

__all__ = [
    "Damage",
    "Recovery",
    "WalBatch",
    "WalWriter",
    "first_segment",
    "next_segment",
    "recover",
    "segment_name",
]

# An import of a name that is cimported too would leave it out of the module.
globals()["Recovery"] = wal_recovery.Recovery

cdef enum:
    # The piece is given back after a batch that made it larger than this.
    PIECE_BYTES_KEPT = 1048576
    # Entries that are read back are read so much at a time: no less than a page, which costs
    # nothing, and no more than a message between nodes takes.
    READ_BYTES_MIN = 4096
    READ_BYTES_MAX = 262144


cdef class WalBatch:
    """The bytes of one append, and where each piece of them belongs."""

    def __repr__(self):
        pieces = " ".join(f"{number}:{offset}+{len(data)}" for number, offset, data in self.writes)
        return f"WalBatch({pieces} end={self.end[0]}:{self.end[1]})"


def first_segment(uint64_t node_id, uint32_t generation, uint64_t segment_bytes):
    """The header with which a new log begins; `generation` is drawn by the caller."""
    cdef SegmentHeader header
    header.segment_number = FIRST_SEGMENT_NUMBER
    header.node_id = node_id
    header.generation = generation
    header.segment_bytes = segment_bytes
    return header_bytes(&header)


def next_segment(bytes header not None, uint64_t segment_bytes):
    """The header of the segment behind the one that begins with `header`."""
    cdef SegmentHeader next
    cdef uint32_t version = 0
    ensure(get_segment_header(<const uint8_t*><const char*>header, len(header), &next, &version)
           == STATUS_OK, "a segment's header is needed to make the next")
    next.segment_number += 1
    next.generation = next_generation(next.generation, next.segment_number)
    next.segment_bytes = segment_bytes
    return header_bytes(&next)


# -- writing -------------------------------------------------------------------------------------

cdef class WalWriter:
    """Turns entries and hard states into bytes, from where a recovery ended.

    Everything the recovery read must have been made durable, and its stale bytes zeroed.
    """

    def __cinit__(self, Recovery recovery not None, uint64_t segment_bytes=WAL_SEGMENT_BYTES):
        self.node_id = recovery.node_id
        self.segment_number = recovery.segment_number
        self.offset = recovery.offset
        self.segment_bytes = segment_bytes
        self._end_offset = recovery.segment_bytes - RECORD_HEADER_BYTES
        self._generation = recovery.generation
        self._synced = (recovery.segment_number, recovery.offset)
        self._marked = recovery.marked
        self._data_end = recovery.data_end
        ensure(recovery._places is not None, "a writer went on from this recovery already")
        self._places, recovery._places = recovery._places, None
        self._last_index, self._last_term = recovery._written_last
        self._hard_state = recovery._written_state
        self._due_base = recovery.base if recovery.must_rebase else None
        self._base_end = (0, 0)

    def __dealloc__(self):
        buffer_free(&self._piece)

    @property
    def first_index(self):
        """The first entry that can be read back, or else the next to be appended."""
        return self._places.first_index

    @property
    def room_bytes(self):
        """What of records still fits the segment that is being written."""
        return self._end_offset - self.offset

    cpdef WalBatch append(self, list entries, HardState hard_state, tuple base=None):
        """The bytes of a batch: a marker, the base, the entries, and then the hard state.

        `base` is (index, term) where a snapshot, which must be durable, takes the place of all
        that the log holds; the entries go on behind it. It and the hard state may be None.
        """
        cdef list writes = []
        cdef Entry entry
        self._begin_batch(writes)
        if self._due_base is not None:
            self._put_base(writes, self._due_base)
            self._due_base = None
        if base is not None:
            self._put_base(writes, base)
        for entry in entries:
            self._put_entry(writes, entry)
        if hard_state is not None:
            self._put_hard_state(writes, hard_state)
        if entries or hard_state is not None or base is not None:
            self._data_end = (self.segment_number, self.offset)
        return self._batch(writes)

    cpdef WalBatch idle_marker(self):
        """The one marker an idle log writes after its last sync; None where it says nothing new.

        Without it a flip in the last batch before a quiet night would look like tearing.
        """
        cdef list writes = []
        if self._synced < self._data_end or self._marked >= self._data_end:
            return None
        self._begin_batch(writes)
        return self._batch(writes)

    cpdef synced_to(self, tuple position):
        """Everything before this position, the `end` of a batch, is on disk now."""
        ensure(self._synced <= position <= (self.segment_number, self.offset),
               f"synced to {position}, but {self._synced} was synced and the log ends at "
               f"{(self.segment_number, self.offset)}")
        self._synced = position

    # -- records ---------------------------------------------------------------------------------

    cdef int _begin_batch(self, list writes) except -1:
        cdef Record record
        self._piece_offset = self.offset
        if self.segment_number != FIRST_SEGMENT_NUMBER and self.offset == SEGMENT_HEADER_BYTES:
            self._add_front()  # a crash left the segment without it
        _fill(&record, RECORD_MARKER, self._synced)
        self._put(writes, &record)
        self._marked = self._synced
        return 0

    cdef int _put_base(self, list writes, tuple base) except -1:
        cdef Record record
        cdef HardState before = self._hard_state
        ensure(base[0] >= before.commit_index and base[0] > 0 and base[1] > 0,
               f"entry {before.commit_index} is committed: no log can go on behind {base}")
        _fill(&record, RECORD_BASE, base)
        self._put(writes, &record)
        self._places.reset(base[0] + 1)
        self._last_index, self._last_term = base
        self._hard_state = HardState(before.term, before.vote, base[0])
        self._base_end = (self.segment_number, self.offset)
        return 0

    cdef int _put_entry(self, list writes, Entry entry) except -1:
        cdef Record record
        ensure(self._places.first_index <= entry.index <= self._places.last_index() + 1,
               f"entry {entry.index} cannot follow entry {self._places.last_index()}")
        record.type = RECORD_ENTRY
        record.kind = entry.kind
        record.index = entry.index
        record.term = entry.term
        record.payload = <const uint8_t*><const char*>entry.data
        record.payload_bytes = len(entry.data)
        self._put(writes, &record)
        self._places.put(entry.index, self.segment_number,
                         self.offset - RECORD_HEADER_BYTES - record.payload_bytes)
        self._last_index = entry.index
        self._last_term = entry.term
        return 0

    cdef int _put_hard_state(self, list writes, HardState hard_state) except -1:
        cdef Record record
        cdef uint8_t vote[8]
        put_u64(vote, hard_state.vote)
        record.type = RECORD_HARD_STATE
        record.kind = 0
        record.index = hard_state.commit_index
        record.term = hard_state.term
        record.payload = vote
        record.payload_bytes = sizeof(vote)
        self._put(writes, &record)
        self._hard_state = hard_state
        return 0

    cdef int _add_front(self) except -1:
        cdef Record record
        cdef uint8_t state[FRONT_BYTES - RECORD_HEADER_BYTES]
        put_u64(state, self._hard_state.term)
        put_u64(state + 8, self._hard_state.vote)
        put_u64(state + 16, self._hard_state.commit_index)
        record.type = RECORD_FRONT
        record.kind = 0
        record.index = self._last_index
        record.term = self._last_term
        record.payload = state
        record.payload_bytes = sizeof(state)
        return self._add(&record)

    cdef int _put(self, list writes, Record* record) except -1:
        cdef size_t record_bytes = RECORD_HEADER_BYTES + record.payload_bytes
        ensure(record_bytes <= WAL_RECORD_BYTES_MAX,
               f"a record of {record_bytes} bytes does not fit the log")
        if record_bytes > self._end_offset - self.offset:
            self._rotate(writes)
            ensure(record_bytes <= self._end_offset - self.offset,
                   f"a record of {record_bytes} bytes does not fit a segment")
        return self._add(record)

    cdef int _add(self, Record* record) except -1:
        cdef size_t record_bytes = RECORD_HEADER_BYTES + record.payload_bytes
        if buffer_reserve(&self._piece, record_bytes) != 0:
            raise MemoryError
        put_record(self._piece.data + self._piece.used_bytes, record, self._generation)
        self._piece.used_bytes += record_bytes
        self.offset += record_bytes
        return 0

    cdef int _rotate(self, list writes) except -1:
        cdef Record record
        _fill(&record, RECORD_ROTATION, (self.segment_number + 1, SEGMENT_HEADER_BYTES))
        self._add(&record)
        self._flush(writes)
        self.segment_number += 1
        self._generation = next_generation(self._generation, self.segment_number)
        self._places._generations.append(self._generation)
        self._end_offset = self.segment_bytes - RECORD_HEADER_BYTES
        self._piece_offset = SEGMENT_HEADER_BYTES
        self.offset = SEGMENT_HEADER_BYTES
        return self._add_front()

    cdef int _flush(self, list writes) except -1:
        if self._piece.used_bytes != 0:
            writes.append((self.segment_number, self._piece_offset,
                           (<const char*>self._piece.data)[:self._piece.used_bytes]))
        self._piece.used_bytes = 0
        if self._piece.capacity_bytes > PIECE_BYTES_KEPT:
            buffer_free(&self._piece)
        return 0

    cdef WalBatch _batch(self, list writes):
        cdef WalBatch batch = WalBatch.__new__(WalBatch)
        self._flush(writes)
        batch.writes = writes
        batch.end = (self.segment_number, self.offset)
        return batch

    # -- dropping --------------------------------------------------------------------------------

    cpdef list droppable(self, uint64_t index):
        """The numbers of the segments that a snapshot at `index` makes unnecessary, in order.

        They hold no entry that is not below `index`, and what the log needs without them is
        synced. They may be removed, durably and each before the next.
        """
        cdef uint64_t limit, place
        if self._due_base is not None or self._synced < self._base_end:
            return []  # what the log holds may contradict the snapshot
        # The front of the one that is then the first must be there.
        limit = self._synced[0]
        if self._synced[1] <= SEGMENT_HEADER_BYTES:
            limit -= 1
        index = max(index, self._places.first_index)
        if index <= self._places.last_index():
            place = self._places.of(index)
            limit = min(limit, place >> 32)
            if (place >> 32, place & 0xffffffff) >= self._synced:
                return []
        if limit < self._places.fronts_from:
            return []
        return list(range(self._places.first_segment, limit))

    cpdef dropped(self, uint64_t segment_number):
        """This segment and all before it are going: nothing is read from them any more."""
        ensure(segment_number < self.segment_number, "the segment that is written to stays")
        self._places.drop_to(segment_number)

    cpdef uint64_t bytes_behind(self, uint64_t index):
        """How much log there is behind the entry at `index`, as far as it is kept."""
        cdef uint64_t place
        index = max(index + 1, self._places.first_index)
        if index > self._places.last_index():
            return 0
        place = self._places.of(index)
        return ((self.segment_number - (place >> 32)) * self.segment_bytes
                + self.offset - (place & 0xffffffff))

    # -- reading back ----------------------------------------------------------------------------

    cpdef list read(self, uint64_t first_index, uint64_t last_index, size_t bytes_max,
                    object read_segment):
        """Entries from `first_index` to at most `last_index`, as many as are on disk and fit.

        Their records take at most `bytes_max` bytes, but one is always read; that one must be on
        disk. `read_segment(segment, offset, bytes)` gives bytes of a file, fewer at its end only.
        Raises Damage where they are not what was written.
        """
        cdef list entries = []
        cdef bytes data = b""
        cdef uint64_t synced = <uint64_t>self._synced[0] << 32 | <uint64_t>self._synced[1]
        cdef uint64_t index, place, begin = 0
        cdef size_t left_bytes = bytes_max
        cdef size_t record_bytes
        ensure(first_index <= last_index and self._places.of(first_index) < synced,
               f"entries {first_index} to {last_index} are not on disk")
        for index in range(first_index, min(last_index, self._places.last_index()) + 1):
            place = self._places.of(index)
            if place >= synced:
                break
            if place < begin or place + RECORD_HEADER_BYTES > begin + <uint64_t>len(data):
                begin = place
                data = _read(read_segment, place, RECORD_HEADER_BYTES, left_bytes)
            record_bytes = _record_bytes(data, place - begin)
            if entries and record_bytes > left_bytes:
                break
            if place + record_bytes > begin + <uint64_t>len(data):
                begin = place
                data = _read(read_segment, place, record_bytes, left_bytes)
            entries.append(self._decode(data, place - begin, index, place))
            left_bytes -= min(left_bytes, record_bytes)
        return entries

    cdef Entry _decode(self, bytes data, size_t at, uint64_t index, uint64_t place):
        cdef Record record
        cdef uint64_t number = place >> 32
        cdef uint32_t generation = self._places.generation_of(number)
        cdef int status = STATUS_DAMAGED
        if at < <size_t>len(data):
            status = get_record(<const uint8_t*><const char*>data + at, len(data) - at,
                                generation, &record)
        if status != STATUS_OK or record.type != RECORD_ENTRY or record.index != index:
            raise Damage(number, place & 0xffffffff, f"entry {index} is not there any more")
        return Entry(record.index, record.term, record.kind, payload_of(&record))


cdef bytes _read(object read_segment, uint64_t place, size_t least_bytes, size_t most_bytes):
    cdef size_t size = most_bytes
    if size > <size_t>READ_BYTES_MAX:
        size = READ_BYTES_MAX
    if size < <size_t>READ_BYTES_MIN:
        size = READ_BYTES_MIN
    if size < least_bytes:
        size = least_bytes
    return read_segment(place >> 32, place & 0xffffffff, size)


cdef inline void _fill(Record* record, uint32_t record_type, tuple position):
    # A record that is nothing but two numbers.
    record.type = record_type
    record.kind = 0
    record.index = position[0]
    record.term = position[1]
    record.payload = NULL
    record.payload_bytes = 0


# How long the record at a place says it is; no longer than one can be. Only its checksum will
# tell whether that is true.
cdef size_t _record_bytes(bytes data, size_t at) noexcept:
    cdef size_t record_bytes = RECORD_HEADER_BYTES
    if at + record_bytes <= <size_t>len(data):
        record_bytes += get_u32(<const uint8_t*><const char*>data + at + 4)
    return record_bytes if record_bytes < <size_t>WAL_RECORD_BYTES_MAX else WAL_RECORD_BYTES_MAX
