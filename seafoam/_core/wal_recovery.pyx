"""What a log holds, read from its segments; wal_recovery.pxd states what may be believed."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memmove

from seafoam._core.buffer cimport buffer_free, buffer_reserve
from seafoam._core.message cimport (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    ENTRY_FOUNDING,
    Entry,
    HardState,
)
from seafoam._core.pack cimport get_u64
from seafoam._core.status cimport (
    STATUS_DAMAGED,
    STATUS_OK,
    STATUS_UNKNOWN_TYPE,
    STATUS_UNKNOWN_VERSION,
)
from seafoam._core.wire cimport (
    RECORD_BASE,
    RECORD_ENTRY,
    RECORD_FRONT,
    RECORD_HEADER_BYTES,
    RECORD_MARKER,
    RECORD_ROTATION,
    SEGMENT_HEADER_BYTES,
    Record,
    SegmentHeader,
    are_zeros,
    command_cost_bytes,
    get_record,
    get_segment_header,
    next_generation,
    put_segment_header,
)

from seafoam._core.wire import decode_founding
from seafoam._core.wire_change import decode_changes
from seafoam.errors import DataDamaged, StartError, ensure


def segment_name(uint64_t segment_number):
    """The file name of a segment; in the order of names as in that of numbers."""
    return f"{segment_number:016x}.wal"


class Damage(DataDamaged):
    """Bytes that were synced are not what was written, or not there."""

    def __init__(self, segment_number, offset, reason):
        super().__init__(f"{segment_name(segment_number)} is damaged at offset {offset}: {reason}")
        self.segment_number = segment_number
        self.offset = offset
        self.reason = reason


cdef class EntryPlaces:
    """Where the record of each entry begins; wal_recovery.pxd explains the rest."""

    def __cinit__(self):
        self._generations = []
        self.first_index = 1
        self.first_segment = FIRST_SEGMENT_NUMBER

    def __dealloc__(self):
        buffer_free(&self._packed)

    cdef uint64_t last_index(self) noexcept:
        return self.first_index + self._packed.used_bytes // sizeof(uint64_t) - 1

    cdef uint64_t of(self, uint64_t index) except? 0:
        ensure(self.first_index <= index <= self.last_index(),
               f"entry {index} is not among {self.first_index} to {self.last_index()}")
        return (<uint64_t*>self._packed.data)[index - self.first_index]

    cdef int put(self, uint64_t index, uint64_t segment_number, uint64_t offset) except -1:
        if (index < self.first_index or index > self.last_index() + 1
                or (segment_number | offset) >> 32 != 0):
            ensure(False, f"entry {index} behind {self.last_index()} at {segment_number}:{offset}")
        self._packed.used_bytes = (index - self.first_index) * sizeof(uint64_t)
        if buffer_reserve(&self._packed, sizeof(uint64_t)) != 0:
            raise MemoryError
        (<uint64_t*>self._packed.data)[index - self.first_index] = segment_number << 32 | offset
        self._packed.used_bytes += sizeof(uint64_t)
        return 0

    cdef void reset(self, uint64_t first_index) noexcept:
        buffer_free(&self._packed)
        self.first_index = first_index

    cdef uint32_t generation_of(self, uint64_t segment_number) except? 0:
        return self._generations[segment_number - self.first_segment]

    cdef int drop_to(self, uint64_t segment_number) except -1:
        cdef uint64_t* places = <uint64_t*>self._packed.data
        cdef size_t count = self._packed.used_bytes // sizeof(uint64_t)
        cdef size_t gone_count = 0
        if segment_number < self.first_segment:
            return 0
        while gone_count < count and places[gone_count] >> 32 <= segment_number:
            gone_count += 1
        if gone_count != 0:
            memmove(places, places + gone_count, (count - gone_count) * sizeof(uint64_t))
            self._packed.used_bytes -= gone_count * sizeof(uint64_t)
            self.first_index += gone_count
        del self._generations[:segment_number + 1 - self.first_segment]
        self.first_segment = segment_number + 1
        return 0


cdef class Recovery:
    """What a log holds, and where it goes on; wal_recovery.pxd explains the fields."""

    @property
    def torn(self):
        """(segment, offset) of the torn tail, or None where the log ends cleanly."""
        return (self.segment_number, self.offset) if self.stale else None

    @property
    def header(self):
        """The header of the segment in which the log goes on."""
        cdef SegmentHeader header
        header.segment_number = self.segment_number
        header.node_id = self.node_id
        header.generation = self.generation
        header.segment_bytes = self.segment_bytes
        return header_bytes(&header)

    def __repr__(self):
        return (f"Recovery(base={self.base[0]}:{self.base[1]} entries={len(self.entries)} "
                f"hard_state={self.hard_state} "
                f"end={self.segment_number}:{self.offset} torn={self.torn})")


cdef bytes header_bytes(const SegmentHeader* header):
    cdef uint8_t data[SEGMENT_HEADER_BYTES]
    put_segment_header(data, header)
    return (<const char*>data)[:SEGMENT_HEADER_BYTES]


# -- recovery ------------------------------------------------------------------------------------

def recover(segments, node_id, snapshot=None):
    """What a log holds: a `Recovery`.

    `segments` yields (number, bytes, length of the file) in the order of numbers, one file at a
    time so that memory holds no more than one; the bytes may end where no more were ever written.
    `node_id` is whose log it must be. `snapshot` is (index, term) of a snapshot that is durable,
    beside which the log need not be whole; then `segments` is iterated again where that may help.
    Raises Damage, or StartError where another version or another node wrote it.
    """
    cdef uint64_t begin_number = 0
    first_damage = None
    while True:
        try:
            return _read_from(segments, node_id, snapshot, begin_number)
        except Damage as damage:
            first_damage = first_damage or damage
            begin_number = _next_front(segments, node_id, snapshot,
                                       max(damage.segment_number, begin_number))
        if begin_number == 0:
            raise first_damage


cdef Recovery _read_from(segments, uint64_t node_id, tuple snapshot, uint64_t begin_number):
    cdef _Reader reader = _Reader.__new__(_Reader)
    cdef Recovery recovery
    cdef list unneeded = []
    reader.node_id = node_id
    # Without a snapshot nothing can have been dropped.
    reader.first_number = reader.expected_number = (
        FIRST_SEGMENT_NUMBER if snapshot is None else 0)
    for number, data, file_bytes in segments:
        if number < begin_number:
            unneeded.append(number)
        else:
            reader.feed(number, data, file_bytes)
    recovery = reader.finish(snapshot)
    recovery.unneeded = unneeded
    return recovery


# The first segment behind a damaged one from which the snapshot leads on (W8); 0: there is none.
cdef uint64_t _next_front(segments, uint64_t node_id, tuple snapshot, uint64_t damaged_number
                          ) except? 0:
    cdef SegmentHeader header
    cdef Record record
    cdef uint32_t version = 0
    cdef const uint8_t* start
    cdef size_t size
    if snapshot is None:
        return 0
    for number, data, _ in segments:
        start = <const uint8_t*><const char*>(<bytes>data)
        size = len(data)
        if number > damaged_number and size > SEGMENT_HEADER_BYTES and (
                get_segment_header(start, size, &header, &version) == STATUS_OK
                and header.node_id == node_id and header.segment_number == number
                and get_record(start + SEGMENT_HEADER_BYTES, size - SEGMENT_HEADER_BYTES,
                               header.generation, &record) == STATUS_OK
                and record.type == RECORD_FRONT and record.index <= <uint64_t>snapshot[0]):
            return number
    return 0


cdef bytes payload_of(const Record* record):
    return (<const char*>record.payload)[:record.payload_bytes]


cdef int _members_status(object decode, bytes data) except -1:
    try:
        decode(data)
    except DataDamaged:
        return STATUS_DAMAGED
    except StartError:
        return STATUS_UNKNOWN_VERSION
    return STATUS_OK


cdef class _Reader:
    # Reads the segments of one log in order; holds what was believed so far.
    cdef uint64_t node_id
    # What the records said: the entry before the first (of term 0 where that is not known), those
    # behind it, and the last hard state. Where the base stands, should there be no snapshot of it.
    cdef uint64_t base_index
    cdef uint64_t base_term
    cdef tuple base_place
    cdef list entries
    cdef uint64_t last_term
    cdef uint64_t term
    cdef uint64_t vote
    cdef uint64_t commit_index
    # Where records end so far, and what that segment's header says.
    cdef uint64_t segment_number
    cdef uint64_t offset
    cdef uint32_t generation
    cdef uint64_t segment_bytes
    # The segment that came first, the one that must come next, and its generation.
    cdef uint64_t first_number
    cdef uint64_t expected_number
    cdef uint32_t expected_generation
    # The highest position that a marker names, wherever it was found; and one of the log's own.
    cdef uint64_t marked_number
    cdef uint64_t marked_offset
    cdef tuple own_marked
    cdef tuple data_end
    # Where something is bad or missing, should a marker say that it was whole; and why.
    cdef tuple suspect
    # The log goes on in the next segment: that is the first, or a rotation record leads there.
    cdef bint is_due
    cdef list stale
    cdef EntryPlaces places

    def __cinit__(self):
        self.entries = []
        self.stale = []
        self.places = EntryPlaces.__new__(EntryPlaces)
        self.own_marked = (0, 0)
        self.data_end = (0, 0)
        self.is_due = True

    cdef int feed(self, uint64_t number, bytes data, uint64_t file_bytes) except -1:
        cdef const uint8_t* start = <const uint8_t*><const char*>data
        cdef SegmentHeader header
        cdef bint has_header
        if self.first_number == 0:
            self.first_number = self.expected_number = number
        if number != self.expected_number:
            raise Damage(self.expected_number, 0,
                         f"there is no such segment; {segment_name(number)} stands in its place")
        has_header = self._check_header(number, start, len(data), &header)
        if has_header and file_bytes < header.segment_bytes:
            raise Damage(number, file_bytes, f"the file ends here, and it had "
                                             f"{header.segment_bytes} bytes when it was made")
        self.expected_number = number + 1
        if self.is_due:
            self.is_due = False
            self.segment_number = number
            self.generation = header.generation
            self.segment_bytes = header.segment_bytes
            self.places._generations.append(header.generation)
            self.offset = SEGMENT_HEADER_BYTES
            self._read(start, len(data))
        else:
            self._search(number, start, len(data), SEGMENT_HEADER_BYTES if has_header else 0)
        self.expected_generation = next_generation(self.expected_generation, number + 1)
        return 0

    # Whether a segment has its header; only one behind the log's end may be without. Another's
    # name means that files were exchanged, and what is missing before the end may be in here.
    cdef bint _check_header(self, uint64_t number, const uint8_t* start, size_t size,
                            SegmentHeader* header) except -1:
        cdef uint32_t version = 0
        cdef int status = get_segment_header(start, size, header, &version)
        if status == STATUS_UNKNOWN_VERSION:
            raise StartError(f"{segment_name(number)} is of version {version}, "
                             f"which this Seafoam does not know")
        if status != STATUS_OK:
            # Records are written only behind a header that is durable.
            if self.is_due or (size > SEGMENT_HEADER_BYTES and not are_zeros(
                    start + SEGMENT_HEADER_BYTES, size - SEGMENT_HEADER_BYTES)):
                raise Damage(number, 0, "its header is not whole")
            return False
        if header.node_id != self.node_id:
            raise StartError(f"{segment_name(number)} belongs to node {header.node_id:016x}, "
                             f"this is node {self.node_id:016x}")
        if header.segment_number != number:
            raise Damage(number, 0, f"it is a copy of {segment_name(header.segment_number)}")
        if number == self.first_number:
            self.places.first_segment = self.places.fronts_from = number
            self.expected_generation = header.generation
        if header.generation != self.expected_generation:
            raise Damage(number, 0, "it is not the continuation of the segment before it")
        return True

    # Takes the records of a segment, from behind its header to the first that is not whole.
    cdef int _read(self, const uint8_t* start, size_t size) except -1:
        cdef Record record
        cdef uint64_t data_end = 0
        cdef int status
        while True:
            status = get_record(start + self.offset, size - self.offset, self.generation, &record)
            if self.offset == SEGMENT_HEADER_BYTES:
                self._check_front(status, &record)
            if status != STATUS_OK:
                break
            if record.type == RECORD_ROTATION:
                self._take_rotation(&record)
                break
            if record.type == RECORD_MARKER:
                self._take_marker(&record)
                self.offset += record.record_bytes
                continue
            if record.type == RECORD_ENTRY:
                self._take_entry(&record)
            elif record.type == RECORD_FRONT:
                self._take_front(&record)
            elif record.type == RECORD_BASE:
                self._take_base(&record)
            else:
                self._take_hard_state(&record)
            self.offset += record.record_bytes
            data_end = self.offset
        if data_end != 0:
            self.data_end = (self.segment_number, data_end)
        if status == STATUS_UNKNOWN_TYPE:
            self._is_of_later(f"a record of type {record.type} and kind {record.kind}")
        if status == STATUS_DAMAGED:
            self.suspect = (self.segment_number, self.offset, "a record is not whole")
        if self.is_due:
            return 0  # what follows the end of a segment that was left means nothing
        if self.offset + RECORD_HEADER_BYTES > self.segment_bytes:
            self._contradicts("the records leave no room for one that leads to the next segment")
        self._search(self.segment_number, start, size, self.offset)
        return 0

    cdef inline uint64_t _last_index(self) noexcept:
        return self.base_index + <uint64_t>len(self.entries)

    # What must be the first record of a segment: the very first cannot be read without its front.
    cdef int _check_front(self, int status, const Record* record) except -1:
        cdef bint has_front = status == STATUS_OK and record.type == RECORD_FRONT
        if self.segment_number == FIRST_SEGMENT_NUMBER or has_front:
            return 0
        if self.segment_number == self.first_number and status != STATUS_UNKNOWN_TYPE:
            self._contradicts("it does not say what was before it, and the segments before it are "
                              "not there")
        if status == STATUS_OK:
            self.places.fronts_from = self.segment_number + 1
        return 0

    cdef int _take_front(self, const Record* record) except -1:
        cdef uint64_t term = get_u64(record.payload)
        cdef uint64_t vote = get_u64(record.payload + 8)
        cdef uint64_t commit_index = get_u64(record.payload + 16)
        if (self.offset != SEGMENT_HEADER_BYTES or commit_index > record.index
                or self.segment_number == FIRST_SEGMENT_NUMBER):
            self._contradicts("a segment's front is where none can be")
        if self.segment_number != self.first_number and (
                record.index != self._last_index() or record.term != self.last_term
                or term != self.term or vote != self.vote or commit_index != self.commit_index):
            self._contradicts("it does not go on where the segment before it ends")
        if self.segment_number == self.first_number:
            self._begin_behind(record, (self.segment_number - 1, 0, "there is no such segment"))
            self.term = term
            self.vote = vote
            self.commit_index = commit_index
        return 0

    cdef int _take_base(self, const Record* record) except -1:
        if record.index == 0 or record.term == 0 or record.index < self.commit_index:
            self._contradicts(f"entry {self.commit_index} is committed, and the log goes on "
                              f"behind entry {record.index} of term {record.term}")
        self._begin_behind(record, (self.segment_number, self.offset,
                                    f"the log goes on behind entry {record.index}"))
        self.commit_index = record.index
        return 0

    cdef int _begin_behind(self, const Record* record, tuple place) except -1:
        self.base_index = record.index
        self.base_term = record.term
        self.base_place = place
        self.entries = []
        self.last_term = record.term
        self.places.reset(record.index + 1)
        return 0

    # Forgets the entries from an index on; also some that stood in segments which are gone.
    cdef int _cut_from(self, uint64_t index) except -1:
        if index > self.base_index:
            del self.entries[index - self.base_index - 1:]
        else:
            self.entries = []
            self.base_index = index - 1
            self.base_term = 0
            self.places.reset(index)
        self.last_term = (<Entry>self.entries[-1]).term if self.entries else self.base_term
        return 0

    cdef int _take_entry(self, Record* record) except -1:
        cdef uint64_t last_index = self._last_index()
        if record.index == 0 or record.index > last_index + 1:
            self._contradicts(f"entry {record.index} cannot follow entry {last_index}")
        if record.index <= last_index:
            if record.index <= self.commit_index:
                self._contradicts(f"entry {record.index} is committed and cannot be replaced")
            self._cut_from(record.index)
        if record.term < self.last_term:
            self._contradicts(f"entry {record.index} is of term {record.term}, "
                              f"the one before it of term {self.last_term}")
        self._check_data(record)
        self.last_term = record.term
        self.places.put(record.index, self.segment_number, self.offset)
        self.entries.append(Entry(record.index, record.term, record.kind,
                                  payload_of(record)))
        return 0

    # What apply would only meet after the start, with no sentence for it.
    cdef int _check_data(self, Record* record) except -1:
        cdef uint64_t cost_bytes
        cdef int status = STATUS_OK
        if record.kind == ENTRY_COMMAND:
            status = command_cost_bytes(record.payload, record.payload_bytes, &cost_bytes)
        elif record.kind == ENTRY_FOUNDING:
            status = _members_status(decode_founding, payload_of(record))
        elif record.kind == ENTRY_CONFIGURATION:
            status = _members_status(decode_changes, payload_of(record))
        elif record.payload_bytes != 0:
            status = STATUS_DAMAGED
        if status == STATUS_UNKNOWN_VERSION or status == STATUS_UNKNOWN_TYPE:
            self._is_of_later(f"in entry {record.index} a version or an operation")
        if status != STATUS_OK:
            self._contradicts(f"the data of entry {record.index} are not what its kind holds")
        return 0

    cdef int _take_hard_state(self, Record* record) except -1:
        cdef uint64_t vote = get_u64(record.payload)
        if record.term < self.term or record.index < self.commit_index:
            self._contradicts(f"term {record.term} and commit index {record.index} go back behind "
                              f"term {self.term} and commit index {self.commit_index}")
        if record.index > self._last_index():
            self._contradicts(f"entry {record.index} is committed, but the log ends at entry "
                              f"{self._last_index()}")
        if record.term == self.term and self.vote != 0 and vote != self.vote:
            self._contradicts(f"the vote of term {self.term} changes")
        self.term = record.term
        self.vote = vote
        self.commit_index = record.index
        return 0

    cdef int _take_rotation(self, Record* record) except -1:
        if record.index != self.segment_number + 1 or record.term != SEGMENT_HEADER_BYTES:
            self._contradicts(f"a rotation leads to {segment_name(record.index)} at offset "
                              f"{record.term}")
        self.offset += record.record_bytes
        self.is_due = True
        return 0

    cdef int _take_marker(self, Record* record) except -1:
        if not self._mark(record, self.segment_number, self.offset):
            self._contradicts(f"a marker names {segment_name(record.index)} at offset "
                              f"{record.term}, which had not been written yet")
        self.own_marked = max(self.own_marked, (record.index, record.term))
        return 0

    # Remembers what a marker at a position names; False where it names what comes after itself.
    cdef bint _mark(self, Record* record, uint64_t number, uint64_t offset) noexcept:
        if record.index > number or (record.index == number and record.term > offset):
            return False
        if record.index > self.marked_number:
            self.marked_number = record.index
            self.marked_offset = record.term
        elif record.index == self.marked_number and record.term > self.marked_offset:
            self.marked_offset = record.term
        return True

    cdef int _contradicts(self, str reason) except -1:
        raise Damage(self.segment_number, self.offset, reason)

    cdef int _is_of_later(self, str what) except -1:
        raise StartError(f"{segment_name(self.segment_number)} holds {what} at offset "
                         f"{self.offset} that this Seafoam does not know: a later one wrote it")

    # Looks behind the end: for markers at any byte (W2), and for what must be zeroed (W3).
    cdef int _search(self, uint64_t number, const uint8_t* start, size_t size, uint64_t begin
                     ) except -1:
        cdef Record record
        cdef size_t offset = begin
        cdef size_t end = size
        if begin >= size or are_zeros(start + begin, size - begin):
            return 0
        while start[end - 1] == 0:
            end -= 1
        self.stale.append((number, begin, end))
        # The stale bytes may end inside a record's last zeros.
        while offset < end and size - offset >= RECORD_HEADER_BYTES:
            if start[offset + 8] == RECORD_MARKER:
                if get_record(start + offset, RECORD_HEADER_BYTES, self.expected_generation,
                              &record) == STATUS_OK and record.type == RECORD_MARKER:
                    self._mark(&record, number, offset)
            offset += 1
        return 0

    cdef Recovery finish(self, tuple snapshot):
        cdef Recovery recovery
        if self.is_due:
            raise Damage(self.expected_number or FIRST_SEGMENT_NUMBER, 0,
                         "there is no such segment")
        if ((self.marked_number, self.marked_offset) > (self.segment_number, self.offset)):
            number, offset, reason = self.suspect or (
                self.segment_number, self.offset, "records that were synced are not there")
            raise Damage(number, offset, reason)
        recovery = Recovery.__new__(Recovery)
        recovery._written_last = (self._last_index(), self.last_term)
        recovery._written_state = HardState(self.term, self.vote, self.commit_index)
        self._set_beside(recovery, snapshot)
        recovery.entries = self.entries
        if self.last_term > self.term:
            self.term = self.last_term
            self.vote = 0
        recovery.hard_state = HardState(self.term, self.vote,
                                        max(self.commit_index, recovery.base[0]))
        recovery.node_id = self.node_id
        recovery.segment_number = self.segment_number
        recovery.offset = self.offset
        recovery.generation = self.generation
        recovery.segment_bytes = self.segment_bytes
        recovery.marked = self.own_marked
        recovery.data_end = self.data_end
        recovery.stale = self.stale
        recovery._places = self.places
        return recovery

    # What of the log is left beside a snapshot (W7).
    cdef int _set_beside(self, Recovery recovery, tuple snapshot) except -1:
        cdef uint64_t index = snapshot[0] if snapshot is not None else 0
        cdef uint64_t term = snapshot[1] if snapshot is not None else 0
        cdef uint64_t own_term = 0
        if self.base_place is not None and (index == 0 or self.base_index > index):
            number, offset, what = self.base_place
            raise Damage(number, offset, f"{what}, and no snapshot has what was before")
        if index == self.base_index:
            own_term = self.base_term or term
        elif index <= self._last_index():
            own_term = (<Entry>self.entries[index - self.base_index - 1]).term
        recovery.base = (index, term)
        recovery.must_rebase = own_term != term
        if not recovery.must_rebase:
            del self.entries[:index - self.base_index]
            return 0
        if index <= self.commit_index:
            place = self.places.of(index) if index > self.base_index else 0
            raise Damage(place >> 32 or self.first_number, place & 0xffffffff,
                         f"entry {index} is committed in term {own_term}, and a snapshot has it "
                         f"in term {term}")
        self.entries = []
        self.last_term = term
        self.places.reset(index + 1)
        return 0
