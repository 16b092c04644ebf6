# The Raft log as the machine sees it: entries that are not yet on disk, not yet committed or not
# yet applied, some applied ones that a follower may want, and the positions that separate them.
#
# Owns the entries from `first_index` on; what comes before is on disk and in the map, and was let
# go. Must never touch the disk, never reorder, never let a committed entry be replaced.
#
# A log's base is the (index, term) of the entry before the first it holds: what a snapshot has in
# place of everything up to there; (0, 0) for a log from entry 1 on. Behind a base all positions
# stand at its index at least, for the snapshot is durable, committed, recorded and applied.
#
#      applied_index <= applying_index <= min(commit_index, durable_index)
#      commit_index  <= last_index,  durable_index <= written_index <= last_index
#
#      first   applied    applying     durable      written        last
#   -----|--------|------------|-----------|------------|-------------|
#        | kept   | handed to  | may be    | handed to  | not handed  |
#        |        | apply      | committed | the disk   | out yet     |
#
# A tail that conflicts with a leader's is cut off above commit_index; written and durable fall
# with it, and a report of the disk that is about what was cut off is none any more (`durable_to`).
#
# The disk keeps entries longer than memory does, but not for ever: of those up to `dropped_index`
# it may have none any more. What is needed of them then, a snapshot has.
#
# An entry that configures is handed out for apply only once `recorded_commit_index` covers it:
# what is in force must be known to be committed after a crash, too.

from libc.stdint cimport uint64_t

from seafoam._core.limits cimport APPEND_ENTRY_BYTES
from seafoam._core.message cimport Entry

cdef class RaftLog:
    # Positions 0.._start-1 are empty: letting go of one entry does not move all the others.
    cdef list _entries
    cdef Py_ssize_t _start
    cdef uint64_t _before_term              # term of the entry at first_index - 1; 0 for none
    cdef uint64_t _dropped_term             # term of the entry at dropped_index; 0: not known
    cdef uint64_t _kept_bytes               # of entries held though applied
    # Bound of that, of which the owner may change its mind.
    cdef public uint64_t kept_bytes_max
    # Indexes above applied_index of entries that configure, ascending; few.
    cdef readonly list configuring
    # Last entry that the disk may not hold any more; 0: none.
    cdef readonly uint64_t dropped_index
    # First entry still held.
    cdef readonly uint64_t first_index
    # Last entry appended.
    cdef readonly uint64_t last_index
    # Last entry handed to the disk; what follows goes out with the next Ready.
    cdef readonly uint64_t written_index
    # Last entry the disk has reported synced.
    cdef readonly uint64_t durable_index
    # Last entry known to be on a majority of disks.
    cdef readonly uint64_t commit_index
    # Highest commit index of which a record is synced.
    cdef readonly uint64_t recorded_commit_index
    # Last entry handed out for apply, and last one reported applied.
    cdef readonly uint64_t applying_index
    cdef readonly uint64_t applied_index

    # change
    cdef Entry append(self, uint64_t term, int kind, bytes data)
    cdef bint accept(self, tuple entries) except -1
    cdef list take_unwritten(self)
    cdef list take_committed(self, size_t entry_count)
    cdef bint durable_to(self, uint64_t index, uint64_t log_term) except -1
    cdef bint commit_to(self, uint64_t index) except -1
    cdef bint recorded_to(self, uint64_t commit_index) except -1
    cdef bint applied_to(self, uint64_t index) except -1
    cdef bint dropped_to(self, uint64_t index) except -1
    cdef bint restore(self, uint64_t index, uint64_t term) except -1
    # look
    cdef uint64_t last_term(self)
    cpdef uint64_t term_of(self, uint64_t index) except? 0
    cdef bint knows_term_of(self, uint64_t index)       # whether term_of answers
    cdef bint agrees(self, uint64_t index, uint64_t term) except -1
    cdef uint64_t agreeing_index(self, uint64_t index, uint64_t term) except? 0
    cdef tuple slice_from(self, uint64_t index, uint64_t bytes_max)
    cdef bint can_follow(self, uint64_t index, bint knows_term)
    cdef uint64_t unrecorded_configuring_index(self)    # the first past recorded; 0: none
    cdef bint has_unwritten(self)
    cdef bint has_committed(self)
    # within
    cdef _begin_behind(self, uint64_t index, uint64_t term)
    cdef Entry _at(self, uint64_t index)
    cdef bint _put(self, Entry entry) except -1
    cdef bint _cut_from(self, uint64_t index) except -1
    cdef bint _let_go_of_first(self) except -1
    cdef uint64_t _applicable_index(self)

# What an entry takes of an append's bound.
cdef inline uint64_t entry_bytes(Entry entry):
    return APPEND_ENTRY_BYTES + <uint64_t>len(entry.data)
