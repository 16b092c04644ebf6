"""The Raft machine; raft.pxd states what it owns and its invariants, numbered as cited here."""

from seafoam._core.message cimport ENTRY_EMPTY, Durable, HardState, Ready

from seafoam.errors import InvariantBroken, StartError, ensure

ROLE_NAMES = {ROLE_FOLLOWER: "follower", ROLE_CANDIDATE: "candidate", ROLE_LEADER: "leader"}


cdef class Raft:
    """One node's machine, restored from what its disk holds.

    `hard_state` is the last one found on disk, `entries` the log, both durable already.
    """

    def __cinit__(self, uint64_t node_id, HardState hard_state not None, list entries not None):
        ensure(node_id != 0, "a node's id is not 0: a vote of 0 means none")
        self.node_id = node_id
        self.log = RaftLog(entries, hard_state.commit_index)
        ensure(self.log.last_term() <= hard_state.term,
               f"the log holds term {self.log.last_term()}, the hard state only "
               f"{hard_state.term}")
        self.vote = hard_state.vote
        self._written = hard_state
        self._is_lone_voter = False
        self._configured_index = 0
        self.become_follower(hard_state.term)

    # -- what has happened ---------------------------------------------------------------------

    cpdef configure(self, uint64_t index, tuple voters):
        """The configuration of the entry at `index` was applied and is in force from here on."""
        ensure(index <= self.log.commit_index, "a configuration is in force once committed")
        if voters != (self.node_id,):
            raise StartError(
                f"the log at index {index} founds a cluster of {len(voters)} nodes that is not "
                f"this node alone; this version runs one node: start it on its own data directory"
            )
        self._is_lone_voter = True
        self._configured_index = index

    cpdef uint64_t propose(self, int kind, bytes data) except 0:
        """Append an entry as leader; its index. Callers ask `role` first."""
        ensure(self.role == ROLE_LEADER, f"a {ROLE_NAMES[self.role]} cannot propose")
        return self.log.append(self.term, kind, data).index

    cpdef tick(self):
        """One heartbeat interval has passed.

        A lone voter has nobody to wait for, so it campaigns at its first tick, once everything
        that is known committed is applied (I5: a later configuration might be among it).
        """
        if (self.role == ROLE_FOLLOWER and self._is_lone_voter
                and self.log.applied_index >= self.log.commit_index):
            self.become_candidate()

    cpdef durable(self, Durable report):
        """The disk has synced what was handed out with `report`."""
        if report.term != self.term:
            return  # I4
        self.log.durable_to(report.index)
        if self.role == ROLE_CANDIDATE:
            self.become_leader()  # I1: the vote is on disk, and one vote of one is a majority
        elif self.role == ROLE_LEADER and self._is_lone_voter:
            # I2, I3: this node's disk is the majority
            if self.log.durable_index > self.log.commit_index \
                    and self.log.term_of(self.log.durable_index) == self.term:
                self.log.commit_to(self.log.durable_index)

    # -- what to do ----------------------------------------------------------------------------

    cdef bint _hard_state_moved(self):
        return self.term != self._written.term or self.vote != self._written.vote

    cpdef bint has_ready(self):
        """Whether `ready` has anything to say."""
        return (self.log.has_unwritten() or self.log.has_committed()
                or self._hard_state_moved())

    cpdef Ready ready(self, size_t entry_count):
        """What to do next, with at most `entry_count` entries to apply.

        A commit index that moved is not worth a sync of its own: it goes to disk with the next
        entries. A crash before that commits the same entries again.
        """
        cdef list entries = self.log.take_unwritten()
        cdef HardState hard_state = None
        cdef Durable report = None
        if entries or self._hard_state_moved():
            hard_state = HardState(self.term, self.vote, self.log.commit_index)
            if hard_state == self._written:
                hard_state = None
            else:
                self._written = hard_state
            report = Durable(self.term, self.log.written_index, self._written.commit_index)
        return Ready(entries, hard_state, self.log.take_committed(entry_count), report)

    cpdef advance(self, uint64_t applied_index):
        """Apply has finished with everything up to `applied_index`."""
        self.log.applied_to(applied_index)

    # -- roles ---------------------------------------------------------------------------------

    cdef become_follower(self, uint64_t term):
        self.role = ROLE_FOLLOWER
        self.term = term
        self.leader_id = 0
        self.read_floor_index = 0

    cdef become_candidate(self):
        if self.role == ROLE_LEADER:
            raise InvariantBroken("a leader cannot become a candidate")
        ensure(self._configured_index != 0, "a node in no configuration cannot campaign")
        self.role = ROLE_CANDIDATE
        self.term += 1
        self.vote = self.node_id
        self.leader_id = 0

    cdef become_leader(self):
        if self.role != ROLE_CANDIDATE:
            raise InvariantBroken(f"a {ROLE_NAMES[self.role]} cannot become leader")
        self.role = ROLE_LEADER
        self.leader_id = self.node_id
        # Entries of earlier terms are committed through this one (I3).
        self.read_floor_index = self.log.append(self.term, ENTRY_EMPTY, b"").index

    def __repr__(self):
        return (f"Raft(node={self.node_id:x} term={self.term} vote={self.vote:x} "
                f"role={ROLE_NAMES[self.role]} {self.log!r})")
