# What a leader of one term knows of all other members, and what it sends them.
#
# Owns each one's `Progress`, in the order of ids. Made when a node becomes leader, gone when it no
# longer is. Must never decide what is committed or who leads, and never send an entry otherwise
# than as the log or the disk holds it. Members may be sent what the leader's own disk has not
# synced yet: its own part of a majority is counted apart.
#
# What is due goes out when the machine is asked for a Ready, so that everything that was proposed
# and acknowledged in one turn shares an append. Entries that the log in memory has let go of are
# fetched from the disk, one stretch at a time for each member that lags. Where the disk has
# dropped them too, the member is sent a snapshot, of which no more is known here than that.

from libc.stdint cimport uint64_t

from seafoam._core.confchange cimport Configuration
from seafoam._core.log cimport RaftLog
from seafoam._core.message cimport Message
from seafoam._core.outbox cimport Outbox
from seafoam._core.progress cimport Progress

cdef class Replication:
    cdef uint64_t _node_id
    cdef uint64_t _term
    cdef RaftLog _log
    cdef Outbox _out
    cdef dict _members              # id -> Progress, of every member but the leader
    cdef bint is_due                # something may have to be sent

    # who
    cdef track(self, Configuration configuration, uint64_t tick)
    cdef Progress of(self, uint64_t node_id)
    cdef bint is_alone(self)
    # what happened
    cdef bint answered(self, Progress progress, Message answer) except -1
    cdef heartbeat_answered(self, Progress progress)
    cdef fetched(self, list entries)
    cdef bint installed(self, Progress progress, uint64_t index) except -1
    cdef not_installed(self, Progress progress)
    # send
    cdef send(self)
    cdef send_heartbeats(self, uint64_t round_number)
    # ask
    cdef dict acknowledged(self)                        # id -> index, the leader's own included
    cdef dict heard_within(self, uint64_t tick_count, uint64_t tick)    # id -> bool, likewise

    cdef _send_to(self, Progress progress)
    cdef _send_append(self, Progress progress, tuple entries)
    cdef _fetch(self, Progress progress, tuple wanted)
    cdef bint _can_follow(self, Progress progress)
    cdef bint _knows_term_before(self, Progress progress)
    cdef uint64_t _term_before(self, Progress progress) except? 0
