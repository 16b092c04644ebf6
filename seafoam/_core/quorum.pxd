# Majorities: which log index enough voters have, and how a vote stands; of one set of voters, or
# of two at once, where a decision needs both (joint consensus; dissertation, section 4.3).
#
# Owns these two decisions and nothing else: pure functions, no state, no I/O. Must never count a
# node that is not a voter, count one twice, or take silence for an answer.
#
# Invariants:
#   - More than half is a majority: of an even number, half is not.
#   - A half without voters asks for nothing: it limits no index (UINT64_MAX) and its vote is won.
#     Joint with another half it thus leaves the decision to that one.
#   - An acknowledgement more never lowers an index; a vote more never turns a decided vote.
#
# An index is only what a majority has on disk. That a leader commits none of an earlier term by
# counting (section 3.6.2) is for the machine to see to.

from libc.stdint cimport uint64_t

cpdef enum:
    VOTE_PENDING = 0    # the votes that are still out decide
    VOTE_WON = 1
    VOTE_LOST = 2       # also where the votes still out could no longer win it

# -- of one half ----------------------------------------------------------------------------------

# The largest index that a majority of `count` voters has, where `acked` is what each of them has
# (0 for one that has not answered), in any order; UINT64_MAX where count is 0. Nothing is copied
# or sorted: it takes up to count * count comparisons, which is nothing for the voters there are.
cdef uint64_t committed(const uint64_t* acked, size_t count) noexcept nogil
# VOTE_*; `granted` and `refused` are how many of the `count` voters have said so.
cdef int vote_outcome(size_t count, size_t granted, size_t refused) noexcept nogil

# -- of both --------------------------------------------------------------------------------------

# The smaller index of two halves is the joint one; of votes, both must be won and one can lose it.
cdef int joint_outcome(int one, int other) noexcept nogil

# -- with the GIL, by id --------------------------------------------------------------------------

# The distinct ids of an iterable as a sorted tuple; TypeError or OverflowError where one is no
# integer of 64 bits.
cdef tuple distinct_ids(object ids)
# As above, of voters that are distinct; who is missing in the dict has acknowledged 0, or has not
# voted. Others in it are not looked at.
cdef uint64_t committed_among(tuple voters, dict acked) except? 0
cdef int outcome_among(tuple voters, dict votes) except -1
# Of two halves: the index or None, "won", "lost" or "pending".
cdef object joint_index(tuple voters, tuple voters_outgoing, dict acked)
cdef str joint_result(tuple voters, tuple voters_outgoing, dict votes)
