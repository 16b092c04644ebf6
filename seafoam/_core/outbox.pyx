"""What is to be said and done next; outbox.pxd says what it holds back."""

from seafoam.errors import ensure


cdef class Outbox:
    """Empty at first; `written` is the hard state that the disk holds."""

    def __cinit__(self, HardState written not None):
        self.written = written
        self._forget()

    cdef _forget(self):
        self.messages = []
        self.messages_after_durable = []
        self.reads = []
        self.fetches = []
        self.snapshots = []

    cdef bint reported(self, Durable report) except -1:
        ensure(report.number <= self._issued_number, f"{report} was never handed out")
        self._reported_number = max(self._reported_number, report.number)
        return True

    cdef bint hard_state_is_due(self, uint64_t term, uint64_t vote, RaftLog log):
        """Whether something waits for a record of the hard state.

        A commit index that moved is not worth a sync of its own: it goes to disk with the next
        entries, unless a configuration waits for it. A crash before that commits the same entries
        again.
        """
        cdef uint64_t configuring = log.unrecorded_configuring_index()
        return (term != self.written.term or vote != self.written.vote
                or self.written.commit_index < configuring <= log.commit_index)

    cdef bint has_any(self):
        return (len(self.messages) > 0 or len(self.messages_after_durable) > 0
                or len(self.reads) > 0 or len(self.fetches) > 0
                or len(self.snapshots) > 0)

    cdef Ready take(self, uint64_t term, uint64_t vote, RaftLog log):
        """All there is, but for what is to be applied; it counts as handed out from here on."""
        cdef Ready ready = Ready.__new__(Ready)
        cdef HardState hard_state
        ready.entries = log.take_unwritten()
        if ready.entries or self.hard_state_is_due(term, vote, log):
            hard_state = HardState(term, vote, log.commit_index)
            if hard_state != self.written:
                ready.hard_state = self.written = hard_state
            self._issued_number += 1
            ready.durable = Durable(self._issued_number, term, log.written_index,
                                    log.last_term(), self.written.commit_index)
        ready.messages = self.messages
        if self._issued_number == self._reported_number:
            ready.messages += self.messages_after_durable
        else:
            ready.messages_after_durable = self.messages_after_durable
        ready.reads = self.reads
        ready.fetches = self.fetches
        ready.snapshots = self.snapshots
        self._forget()
        return ready

    def __repr__(self):
        return (f"Outbox(issued={self._issued_number} reported={self._reported_number} "
                f"messages={len(self.messages)} waiting={len(self.messages_after_durable)})")
