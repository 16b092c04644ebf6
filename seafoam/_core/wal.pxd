# The write-ahead log: records in, bytes and where they belong out; bytes in, records out.
#
# Owns the log's positions and what recovery may believe. Must never do I/O, read a clock or draw a
# number: the disk writes what `append` returns, in order, and says by `synced_to` what it synced.
#
# The log is a row of segments, numbered from 1 without a gap; a record never spans two. A batch is
# what one `append` returns. It begins with a marker: the position up to which everything was
# synced when the batch was made. Then come entries, then the hard state, so that in a batch torn
# anywhere no commit index covers an entry that is not there. Where a record does not fit its
# segment any more, a rotation record, for which there always is room, leads to the next.
#
#     segment 1                                            segment 2            segment 3
#     +--------+--------+-------+-----+-------+----------+ +--------+-------+ +--------+---------+
#     | header | marker | entry | ... | entry | rotation | | header | ...  0| | header | 0 0 ... |
#     +--------+--------+-------+-----+-------+----------+ +--------+-------+ +--------+---------+
#                                                  names -->                    prepared
#
# Whoever writes the batches makes a segment ready, its length and its header durable, before it
# writes any of a batch that belongs there (wire.pxd has the steps). So of a segment that is behind
# the log's end, a crash leaves nothing, zeros, half a header, or a whole header in a file of its
# whole length: everything else is damage, and so is a segment that is named and not there.
#
# What recovery believes, in this order:
#   W1  Records follow one another from the first segment's header on, each whole by its checksum
#       and of its segment's generation. The first that is not is where the log ends; a rotation
#       record is where it goes on in the next segment, which must be there.
#   W2  Where a marker anywhere, also behind that end, names a later position, that position was
#       synced: what is bad is damage, and nothing is recovered. Else it is a torn tail and is cut.
#   W3  What was cut is overwritten with zeros, durably, before anything is written: a record
#       behind the end could otherwise join on to new ones (`Recovery.stale` says where). Headers
#       stay, as they are made before the records behind them.
#   W4  A whole record that contradicts those before it (a gap in the indexes, a term that goes
#       back, a second vote in a term, a committed entry replaced) is damage wherever it stands:
#       tearing cannot make one.
#       So are data that no entry of that kind can hold; a version, kind or operation unknown here
#       was written by a later Seafoam, and the log is refused as a whole.
#   W5  An entry at or below the last index replaces the log from there on, as it did in memory.
#   W6  The term is at least the last entry's. An entry can outlive a torn hard state of its term;
#       a vote of that term was then never synced, so none was answered, and there is none.
#
# Limits of this: a flip anywhere behind the highest marked position looks like tearing, and cuts
# what follows it. A batch's marker says what was synced when the batch was made, so under load,
# where batches queue up behind a sync, that is several batches, acknowledged ones among them; of
# an idle log it is nothing. A disk that corrupts what it does not write is noticed, not mended.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.message cimport Entry, HardState
from seafoam._core.wire cimport Record

# Where the record of each entry begins, from entry 1 on, in eight bytes each; and the generation
# of each segment, which the record must have. Kept by recovery and by every append; an entry that
# replaces the tail takes the places of all behind it. Positions only grow, so an entry whose place
# is before what is synced is on disk, and one that is being replaced is not read.
cdef class EntryPlaces:
    cdef seafoam_buffer _packed             # segment << 32 | offset, as uint64_t
    cdef list _generations                  # of segment 1 and on
    cdef uint64_t count(self) noexcept
    cdef uint64_t of(self, uint64_t index) except? 0
    cdef int put(self, uint64_t index, uint64_t segment_number, uint64_t offset) except -1

# What a log holds, and where it goes on. One writer goes on from it.
cdef class Recovery:
    cdef readonly list entries
    cdef readonly HardState hard_state      # zeros where none was written
    cdef readonly uint64_t node_id
    cdef readonly uint64_t segment_number   # where the next record belongs
    cdef readonly uint64_t offset
    cdef readonly uint32_t generation
    cdef readonly uint64_t segment_bytes    # how long the file of segment_number is
    cdef readonly tuple marked              # the highest position that a marker of the log names
    cdef readonly tuple data_end            # (segment, offset) behind the last record but markers
    # (segment, begin, end): bytes behind the end that are not zero; W3 wants them zeroed.
    cdef readonly list stale
    cdef EntryPlaces _places                # None once a writer has them

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
    cdef EntryPlaces _places
    # bytes of the batch in the making that belong to this segment from _piece_offset on
    cdef seafoam_buffer _piece
    cdef uint64_t _piece_offset

    # write
    cpdef WalBatch append(self, list entries, HardState hard_state)
    cpdef WalBatch idle_marker(self)
    # learn
    cpdef synced_to(self, tuple position)
    # read back
    cpdef list read(self, uint64_t first_index, uint64_t last_index, size_t bytes_max,
                    object read_segment)

    cdef int _put(self, list writes, Record* record) except -1
    cdef int _add(self, Record* record) except -1
    cdef int _put_marker(self, list writes) except -1
    cdef int _rotate(self, list writes) except -1
    cdef int _flush(self, list writes) except -1
    cdef WalBatch _batch(self, list writes)
    cdef Entry _decode(self, bytes data, size_t at, uint64_t index, uint64_t place)
