# What the next Ready takes out, and which write an answer has to wait for.
#
# Owns the lists of what is to be said and done, what the disk was last given of the hard state,
# and the numbers of the reports handed out and come back. Must never let an answer go that rests
# on a write which is not reported, and never decide what is said: the machine and its parts do.

from libc.stdint cimport uint64_t

from seafoam._core.log cimport RaftLog
from seafoam._core.message cimport Durable, HardState, Message, Ready

cdef class Outbox:
    cdef HardState written                      # as last handed to the disk
    cdef uint64_t _issued_number                # of the last report handed out
    cdef uint64_t _reported_number              # of the last report that came back
    # as in Ready
    cdef list messages
    cdef list messages_after_durable
    cdef list reads
    cdef list fetches
    cdef list snapshots

    cdef bint reported(self, Durable report) except -1
    cdef bint hard_state_is_due(self, uint64_t term, uint64_t vote, RaftLog log)
    cdef bint has_any(self)
    cdef Ready take(self, uint64_t term, uint64_t vote, RaftLog log)
    # within
    cdef _forget(self)
