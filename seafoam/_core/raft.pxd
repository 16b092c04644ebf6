# The Raft machine: what a node must do next, from what has happened to it. No I/O, no clock.
#
# Owns term, vote, role and the log. Must never ask for an answer to leave before what it rests on
# is on disk, never commit by its own disk's word what an earlier term wrote, never change role
# but through become_*.
#
# The pump around it (seafoam/node.py) runs this cycle:
#
#   propose, tick, durable    tell the machine what happened
#   has_ready, ready          ask what to do: write these, apply those (message.pxd)
#   advance                   tell it how far apply has come
#
# Invariants:
#   I1  A candidate counts its own vote only once the disk has reported it (`durable`).
#   I2  A leader counts itself towards the commit index only up to what its disk has reported.
#   I3  Only an entry of the leader's own term moves the commit index; earlier ones follow along.
#   I4  A report issued in another term than the present one changes nothing: the new term's own
#       record was written behind it, and the report for that covers it.
#   I5  Nobody campaigns before the configuration it would campaign in is applied.
#
# The configuration is the founding set as `configure` gives it: one voter, this node. A founding
# set of more is refused, for there is nobody to exchange messages with yet.

from libc.stdint cimport uint64_t

from seafoam._core.log cimport RaftLog
from seafoam._core.message cimport Durable, HardState, Ready

cpdef enum:
    ROLE_FOLLOWER = 0
    ROLE_CANDIDATE = 1
    ROLE_LEADER = 2

cdef class Raft:
    cdef readonly uint64_t node_id
    cdef readonly RaftLog log
    # hard state: must be on disk before anything that rests on it
    cdef readonly uint64_t term
    cdef readonly uint64_t vote                 # 0: none in this term
    cdef HardState _written                     # as last handed to the disk
    # volatile
    cdef readonly int role
    cdef readonly uint64_t leader_id            # 0: not known
    cdef bint _is_lone_voter                    # the applied configuration is this node alone
    cdef uint64_t _configured_index             # entry whose configuration is in force; 0: none
    # The index that must be applied before reads are served: the first entry of this leader's
    # own term (ReadIndex of a cluster of one); 0 while not leader.
    cdef readonly uint64_t read_floor_index

    cdef bint _hard_state_moved(self)

    cpdef configure(self, uint64_t index, tuple voters)
    cpdef uint64_t propose(self, int kind, bytes data) except 0
    cpdef tick(self)
    cpdef durable(self, Durable report)
    cpdef bint has_ready(self)
    cpdef Ready ready(self, size_t entry_count)
    cpdef advance(self, uint64_t applied_index)

    cdef become_follower(self, uint64_t term)
    cdef become_candidate(self)
    cdef become_leader(self)
