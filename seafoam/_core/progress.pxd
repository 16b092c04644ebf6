# How far one follower (or learner) has come, as its leader knows it, and what it may be sent next.
#
# Owns the positions of one member and the window of appends it has not answered. Must never know
# the log or a clock, nor send anything: the machine does, and tells. Everything said about a
# member may be late, doubled or out of order; a position it has acknowledged in this term never
# falls.
#
#      match_index < next_index
#
#      acknowledged        in flight         not sent yet
#   ----------------|------------------|-------------------
#              match_index         next_index
#
#   PROBE       where the two logs agree is not known: one append at a time, each answered (or a
#               heartbeat is) before the next; a rejection moves next_index back by its hint
#   REPLICATE   they agree up to match_index: appends follow each other until the window is full; a
#               rejection means that some were lost, and leads back to PROBE
#   SNAPSHOT    what it needs next is in no log any more: it is sent a snapshot, and no entries
#               until it has installed one, that has failed, or it turns out to need none;
#               rejections say nothing new
#
# The window is bounded by count and by bytes; one append goes through whatever its size.

from libc.stdint cimport uint64_t

from seafoam._core.limits cimport IN_FLIGHT_APPENDS_MAX

cpdef enum:
    PROGRESS_PROBE = 0
    PROGRESS_REPLICATE = 1
    PROGRESS_SNAPSHOT = 2

cdef struct InFlight:
    uint64_t last_index
    uint64_t bytes

cdef class Progress:
    cdef readonly uint64_t node_id
    cdef readonly int state
    cdef readonly uint64_t match_index          # its disk has all up to here, as the leader does
    cdef readonly uint64_t next_index           # the next entry to send
    # Highest commit index that an append in flight or answered tells, never above next_index - 1.
    cdef readonly uint64_t told_commit_index
    # The machine's tick at which it was last heard of.
    cdef readonly uint64_t contact_tick
    # PROBE: an append is out. Nothing is sent before an answer of any kind.
    cdef readonly bint is_waiting
    # An append is due even if there is nothing to send: a heartbeat came back while entries were
    # out, and had they been lost, only an append would show.
    cdef public bint must_ask
    # First entry that was asked of the disk and has not come; 0: none.
    cdef public uint64_t fetching_index
    # The term of the entry at one index that the log in memory may not reach; 0: none known.
    cdef uint64_t _known_index
    cdef uint64_t known_term
    # What is in flight, oldest first: a ring.
    cdef InFlight _window[IN_FLIGHT_APPENDS_MAX]
    cdef size_t _window_begin
    cdef readonly size_t in_flight_count
    cdef readonly uint64_t in_flight_bytes

    # what happened
    cdef heard_at(self, uint64_t tick)
    cdef sent(self, uint64_t last_index, uint64_t last_term, uint64_t size_bytes)
    cdef told_commit(self, uint64_t commit_index)
    cdef bint acknowledged(self, uint64_t index)
    cdef bint rejected(self, uint64_t index, uint64_t hint_index)
    cdef lacks_log(self)
    cdef bint installed(self, uint64_t index)
    cdef ask_again(self, uint64_t next_index)
    cdef learned_term(self, uint64_t index, uint64_t term)
    # ask
    cdef bint may_send(self)
    cdef bint knows_term_of(self, uint64_t index)
    # within
    cdef _become(self, int state, uint64_t next_index)
