# Linearizable reads at the leader: rounds of heartbeats that confirm it still is one (ReadIndex,
# dissertation, section 6.4).
#
# Owns the reads that wait, and the one round that runs. Must never let a round serve a read that
# was asked for after it began, and never know the log or who votes: the machine says when a round
# may begin, at which commit index, and when enough members have answered it.
#
#   ask        a read waits
#   begin      all that wait are in the round now; its number goes out with every heartbeat
#   confirm    a member has answered a heartbeat with that number
#   finish     the round's reads may be served once its index is applied

from libc.stdint cimport uint64_t

cdef class ReadRounds:
    cdef list _waiting                  # of (from_id, context)
    cdef list _in_round
    cdef readonly dict confirmed        # id -> True, for the round that runs
    cdef readonly uint64_t number       # of the last round begun; never 0 again once there was one
    cdef readonly uint64_t index        # what must be applied before the round's reads are served
    cdef readonly bint is_running

    cdef ask(self, uint64_t from_id, uint64_t context)
    cdef bint has_waiting(self)
    cdef begin(self, uint64_t commit_index)
    cdef bint confirm(self, uint64_t from_id, uint64_t number)
    cdef list finish(self)
    cdef forget(self)
