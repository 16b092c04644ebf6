# The write-ahead log: records in, bytes and where they belong out. wal_recovery.pxd: the way back.
#
# Owns the log's positions. Must never do I/O, read a clock or draw a number: the disk writes what
# `append` returns, in order, and says by `synced_to` what it synced.
#
# The log is a row of segments, numbered from 1 without a gap; a record never spans two. A batch is
# what one `append` returns. It begins with a marker: the position up to which everything was
# synced when the batch was made. Then come a base, where a snapshot takes the place of the whole
# log, entries, and the hard state, so that in a batch torn anywhere no commit index covers an
# entry that is not there. Where a record does not fit its segment any more, a rotation record, for
# which there always is room, leads to the next.
#
#     segment 1                                  segment 2                      segment 3
#     +--------+--------+-------+---+----------+ +--------+-------+-------+---+ +--------+-------+
#     | header | marker | entry |...| rotation | | header | front | entry |...| | header | 0 0 ..|
#     +--------+--------+-------+---+----------+ +--------+-------+-------+---+ +--------+-------+
#                                        names -->                                prepared
#
# A segment's front says again what whoever does not read the segments before it must know: the
# last entry's index and term, and the hard state. So segments can go, the first of them first,
# once a snapshot that is durable holds what their entries did.
#
# Whoever writes the batches makes a segment ready, its length and its header durable, before it
# writes any of a batch that belongs there (wire.pxd has the steps). So of a segment that is behind
# the log's end, a crash leaves nothing, zeros, half a header, or a whole header in a file of its
# whole length: everything else is damage, and so is a segment that is named and not there.

from libc.stdint cimport uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.message cimport Entry, HardState
from seafoam._core.wal_recovery cimport EntryPlaces
from seafoam._core.wire cimport Record

# The bytes of one append.
cdef class WalBatch:
    cdef readonly list writes               # (segment, offset, bytes), in the order of writing
    cdef readonly tuple end                 # (segment, offset) behind the last of them

cdef class WalWriter:
    # where the next record belongs
    cdef readonly uint64_t node_id
    cdef readonly uint64_t segment_number
    cdef readonly uint64_t offset
    cdef readonly uint64_t segment_bytes    # of the segments that come
    cdef uint64_t _end_offset               # where a rotation record goes at the latest
    cdef uint32_t _generation
    # positions: reported synced; named by the last marker; behind the last record but markers
    cdef tuple _synced
    cdef tuple _marked
    cdef tuple _data_end
    cdef tuple _base_end                    # behind the last base that this writer wrote
    cdef EntryPlaces _places
    # what the next front says: of the last entry and hard state in the log as it is written
    cdef uint64_t _last_index
    cdef uint64_t _last_term
    cdef HardState _hard_state
    cdef tuple _due_base                    # what the first batch must write; None: nothing
    # bytes of the batch in the making that belong to this segment from _piece_offset on
    cdef seafoam_buffer _piece
    cdef uint64_t _piece_offset

    # write
    cpdef WalBatch append(self, list entries, HardState hard_state, tuple base=*)
    cpdef WalBatch idle_marker(self)
    # learn
    cpdef synced_to(self, tuple position)
    # drop
    cpdef list droppable(self, uint64_t index)
    cpdef dropped(self, uint64_t segment_number)
    cpdef uint64_t bytes_behind(self, uint64_t index)
    # read back
    cpdef list read(self, uint64_t first_index, uint64_t last_index, size_t bytes_max,
                    object read_segment)

    cdef int _begin_batch(self, list writes) except -1
    cdef int _put_base(self, list writes, tuple base) except -1
    cdef int _put_entry(self, list writes, Entry entry) except -1
    cdef int _put_hard_state(self, list writes, HardState hard_state) except -1
    cdef int _add_front(self) except -1
    cdef int _put(self, list writes, Record* record) except -1
    cdef int _add(self, Record* record) except -1
    cdef int _rotate(self, list writes) except -1
    cdef int _flush(self, list writes) except -1
    cdef WalBatch _batch(self, list writes)
    cdef Entry _decode(self, bytes data, size_t at, uint64_t index, uint64_t place)
