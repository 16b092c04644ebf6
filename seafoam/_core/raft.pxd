# The Raft machine: what a node must do next, from what has happened to it. No I/O, no clock.
#
# Owns term, vote, role, the log, and what a leader knows of the others. Must never ask for an
# answer to leave before what it rests on is on disk, never commit by its own disk's word what an
# earlier term wrote, never change role but through become_*.
#
# The pump around it (seafoam/node.py) runs this cycle:
#
#   step, tick, propose, read_index, transfer_to      tell the machine what happened
#   durable, fetched, snapshot_sent, snapshot_failed  ... and what became of a Ready
#   dropped_to, restore                               ... and of the log, where a snapshot has it
#   has_ready, ready                                  ask what to do; the order is in message.pxd
#   configure, advance                                tell it how far apply has come
#
#                  election timeout         a majority would         own vote durable,
#                  passed, may campaign     vote for it              a majority's votes
#      follower ---------------------> pre-candidate ----> candidate ------------------> leader
#         ^  ^---- lost, or a leader is heard ----'------------'                            |
#         '---- a later term; no majority was heard of for an election timeout; removed ---'
#
# Invariants:
#   I1  A candidate asks for votes, and counts its own, only once its disk has reported that term:
#       a node that forgot asking could ask again with a shorter log, and count the old answers.
#   I2  A leader counts itself towards the commit index only up to what its disk has reported; a
#       follower acknowledges only that.
#   I3  Only an entry of the leader's own term moves the commit index; earlier ones follow along.
#   I4  A report issued in another term than the present one says nothing about entries: the new
#       term's own record was written behind them, and the report for that covers them. Of a
#       commit index it does: a record of one is true for ever.
#   I5  Nobody campaigns before the configuration it would campaign in is applied: not below what
#       was known committed at its start, not with a committed configuration it has not applied,
#       not unless it votes in the one that is. Everybody votes, whatever it believes it is.
#   I6  A configuration is in force from when it is applied, and applied only when a record of a
#       commit index that covers it is synced. One is under way at a time.
#   I7  A read is served by a round that began after it was asked for, in a term of which an entry
#       is committed.
#   I8  While it hears from a leader, nobody helps another to become one, unless by that leader's
#       own wish.
#   I9  Whoever answers a candidate says what it knows to be committed. Without it, a configuration
#       that is in force where nobody may campaign any more (a leader that removed itself) could
#       stay unknown to those who may, and these would need the vote of one whose log is longer
#       than theirs.
#   I10 What a snapshot stands for was committed, applied and recorded where it was taken: a
#       machine that is restored from one goes on from there, in the configuration of its index.
#       What its log holds beyond stays exactly where it holds the snapshot's last entry too: it
#       may have been acknowledged. A log of another history was not, from that entry on.
#
# Departures from the dissertation: a vote is asked for after the asker's own sync (I1), and a
# configuration takes effect when it is applied, not when it is appended (I6); whence I9.
#
# A message that comes late, twice or out of order does no harm and is mostly passed over. One that
# no correct sequence can explain (a committed entry contradicted, two leaders in one term, an
# acknowledgement of what was never sent or is gone) raises InvariantBroken, which ends the
# process.

from libc.stdint cimport uint64_t

from seafoam._core.confchange cimport Configuration
from seafoam._core.log cimport RaftLog
from seafoam._core.message cimport Durable, Message, Ready
from seafoam._core.outbox cimport Outbox
from seafoam._core.progress cimport Progress
from seafoam._core.reads cimport ReadRounds
from seafoam._core.replication cimport Replication

cpdef enum:
    ROLE_FOLLOWER = 0
    ROLE_PRE_CANDIDATE = 1
    ROLE_CANDIDATE = 2
    ROLE_LEADER = 3

cdef class Raft:
    cdef readonly uint64_t node_id
    cdef readonly RaftLog log
    # hard state: must be on disk before anything that rests on it
    cdef readonly uint64_t term
    cdef readonly uint64_t vote                 # 0: none in this term
    # membership
    cdef readonly Configuration configuration   # None before the founding set is applied
    cdef readonly uint64_t configured_index     # entry whose configuration is in force; 0: none
    cdef uint64_t _start_commit_index           # known committed at the start
    cdef uint64_t _kept_bytes_max
    # role
    cdef readonly int role
    cdef readonly uint64_t leader_id            # 0: not known
    cdef dict _votes                            # candidates: id -> whether granted
    # time, in ticks
    cdef readonly uint64_t now_ticks
    cdef uint64_t _timer_tick                   # the election timer runs since then
    cdef uint64_t _timeout_ticks                # ... and for this long, drawn by luck
    cdef uint64_t _luck
    # leader
    cdef Replication _replication               # None for others
    cdef uint64_t _heartbeat_tick
    cdef uint64_t _transfer_id                  # whom leadership is being handed to; 0: nobody
    cdef uint64_t _transfer_tick
    # reads
    cdef ReadRounds _reads
    # Moves whenever reads that were asked for here and not answered may never be: the term or the
    # leader changed. Whoever waits for one asks again then (and by a timer: messages get lost).
    cdef readonly uint64_t reads_lost
    # The index that must be applied before reads are served: the first entry of this leader's
    # own term (ReadIndex of a cluster of one); 0 while not leader.
    cdef readonly uint64_t read_floor_index
    cdef Outbox _out

    # what has happened
    cpdef step(self, Message message)
    cpdef tick(self)
    cpdef uint64_t propose(self, int kind, bytes data) except 0
    cpdef read_index(self, uint64_t context)
    cpdef transfer_to(self, uint64_t node_id)
    cpdef durable(self, Durable report)
    cpdef fetched(self, list entries)
    cpdef dropped_to(self, uint64_t index)
    cpdef snapshot_sent(self, uint64_t node_id, uint64_t index)
    cpdef snapshot_failed(self, uint64_t node_id)
    cpdef bint restore(self, uint64_t index, uint64_t term, Configuration configuration,
                       uint64_t configured_index) except -1
    cpdef configure(self, uint64_t index, Configuration configuration)
    cpdef advance(self, uint64_t applied_index)
    # what to do
    cpdef bint has_ready(self)
    cpdef Ready ready(self, size_t entry_count)
    # look
    cpdef Progress progress_of(self, uint64_t node_id)

    # roles
    cdef become_follower(self, uint64_t term, uint64_t leader_id)
    cdef become_pre_candidate(self)
    cdef become_candidate(self)
    cdef become_leader(self)
    cdef _lead_by(self, uint64_t leader_id)
    cdef _restart_timer(self)
    # membership
    cdef bint _put_in_force(self, uint64_t index, Configuration configuration) except -1
    # messages
    cdef Message _message(self, int kind, uint64_t to_id)
    cdef bint _adopt_term(self, Message message) except -1
    cdef _correct(self, Message message)
    # elections
    cdef bint _may_campaign(self) except -1
    cdef bint _hears_leader(self)
    cdef bint _is_up_to_date(self, Message message)
    cdef Message _vote_answer(self, int kind, uint64_t to_id)
    cdef _take_vote(self, Message answer)
    cdef _campaign(self)
    cdef _stand(self, uint64_t context)
    cdef _count_votes(self)
    # leading
    cdef _tick_leader(self)
    cdef _send_heartbeats(self)
    cdef _advance_commit(self)
    cdef _hand_over(self, Progress progress)
    # reads
    cdef _begin_round(self)
    cdef _finish_round(self)
    # following
    cdef _follow(self, uint64_t leader_id)
    cdef _reject_append(self, Message message)
