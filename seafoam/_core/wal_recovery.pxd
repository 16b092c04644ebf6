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
#   W7  What is in a snapshot is in no entry any more. Where the log has the snapshot's last entry,
#       of its term, what follows it stays. Where it ends before, or has there an uncommitted entry
#       of another term, nothing does, and a base record must come before anything else: what was
#       there would otherwise come to life again with what is written next.
#       A log that begins, by its first segment or by a base, behind the snapshot's last entry has
#       lost what is between; one that says another term for a committed entry contradicts it.
#   W8  Damage is mended where it is wholly before a segment that is whole, whose front names no
#       entry above the snapshot's last: the log begins there. What is read is what every record
#       before that front had left of entries above the snapshot (none), term, vote and commit
#       index; that some of those records had not been synced yet makes it no less a state that the
#       log was in.
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

# Where the record of each entry begins, from the first that is kept on, in eight bytes each; and
# the generation of each segment, which the record must have. Kept by recovery and by every append;
# an entry that replaces the tail takes the places of all behind it. Positions only grow, so an
# entry whose place is before what is synced is on disk; one that is being replaced is not read.
cdef class EntryPlaces:
    cdef seafoam_buffer _packed             # segment << 32 | offset, as uint64_t
    cdef list _generations                  # of first_segment and on
    cdef uint64_t first_index
    cdef uint64_t first_segment
    cdef uint64_t fronts_from               # this segment and those behind it have fronts, but 1
    cdef uint64_t last_index(self) noexcept
    cdef uint64_t of(self, uint64_t index) except? 0
    cdef int put(self, uint64_t index, uint64_t segment_number, uint64_t offset) except -1
    # No entry is held; the next is of this index.
    cdef void reset(self, uint64_t first_index) noexcept
    cdef uint32_t generation_of(self, uint64_t segment_number) except? 0
    # Forgets a segment and those before it.
    cdef int drop_to(self, uint64_t segment_number) except -1

# What a log holds, and where it goes on. One writer goes on from it.
cdef class Recovery:
    cdef readonly tuple base                # the snapshot's index and term, else zeros
    cdef readonly list entries              # from behind the base on
    cdef readonly HardState hard_state      # zeros where none was written; commit index >= base's
    cdef readonly bint must_rebase          # a writer's first batch has a base record (W7)
    cdef readonly uint64_t node_id
    cdef readonly uint64_t segment_number   # where the next record belongs
    cdef readonly uint64_t offset
    cdef readonly uint32_t generation
    cdef readonly uint64_t segment_bytes    # how long the file of segment_number is
    cdef readonly tuple marked              # the highest position that a marker of the log names
    cdef readonly tuple data_end            # (segment, offset) behind the last record but markers
    # (segment, begin, end): bytes behind the end that are not zero; W3 wants them zeroed.
    cdef readonly list stale
    cdef readonly list unneeded             # numbers of damaged segments, and those before (W8)
    # as the log itself has them: index and term of the last entry, the hard state
    cdef tuple _written_last
    cdef HardState _written_state
    cdef EntryPlaces _places                # None once a writer has them

cdef bytes header_bytes(const SegmentHeader* header)
cdef bytes payload_of(const Record* record)
