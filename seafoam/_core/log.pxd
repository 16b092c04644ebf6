# The Raft log as the machine sees it: entries that are not yet on disk, not yet committed or not
# yet applied, and the positions that separate them.
#
# Owns the entries above `applied_index`; what was applied is on disk and in the map, and is let
# go. Must never touch the disk, never reorder, never let an entry that is durable and committed
# be replaced.
#
#      applied_index <= applying_index <= min(commit_index, durable_index)
#      commit_index  <= last_index,  durable_index <= written_index <= last_index
#
#      applied    applying     durable      written        last
#   -----|------------|-----------|------------|-------------|
#        | handed to  | may be    | handed to  | not handed  |
#        | apply      | committed | the disk   | out yet     |

from libc.stdint cimport uint64_t

from seafoam._core.message cimport Entry

cdef class RaftLog:
    cdef list _entries                      # those at first_index .. last_index, in order
    cdef uint64_t _before_term              # term of the entry at first_index - 1; 0 for none
    # First entry still held; applied_index + 1.
    cdef readonly uint64_t first_index
    # Last entry appended.
    cdef readonly uint64_t last_index
    # Last entry handed to the disk; what follows goes out with the next Ready.
    cdef readonly uint64_t written_index
    # Last entry the disk has reported synced.
    cdef readonly uint64_t durable_index
    # Last entry known to be on a majority of disks.
    cdef readonly uint64_t commit_index
    # Last entry handed out for apply, and last one reported applied.
    cdef readonly uint64_t applying_index
    cdef readonly uint64_t applied_index

    # change
    cdef Entry append(self, uint64_t term, int kind, bytes data)
    cdef list take_unwritten(self)
    cdef list take_committed(self, size_t entry_count)
    cdef bint durable_to(self, uint64_t index) except -1
    cdef bint commit_to(self, uint64_t index) except -1
    cdef bint applied_to(self, uint64_t index) except -1
    # look
    cdef uint64_t last_term(self)
    cdef uint64_t term_of(self, uint64_t index) except? 0
    cdef bint has_unwritten(self)
    cdef bint has_committed(self)
