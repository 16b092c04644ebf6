# The write-ahead log read back: what a log holds, and what may be believed of it.
#
# Owns what recovery believes, and the places of entries. Must never do I/O, trust a length that it
# has read, or hold more than one segment's bytes. wal.pxd draws the log; wire.pxd its bytes.
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

from libc.stdint cimport uint32_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.message cimport HardState
from seafoam._core.wire cimport Record, SegmentHeader

cdef enum:
    FIRST_SEGMENT_NUMBER = 1

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

cdef bytes header_bytes(const SegmentHeader* header)
cdef bytes payload_of(const Record* record)
