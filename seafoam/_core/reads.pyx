"""Rounds that confirm a leader for reads; reads.pxd says which reads a round serves."""

from seafoam.errors import ensure


cdef class ReadRounds:
    """The reads of one leader's term."""

    def __cinit__(self):
        self.number = 0
        self.forget()

    cdef ask(self, uint64_t from_id, uint64_t context):
        self._waiting.append((from_id, context))

    cdef bint has_waiting(self):
        return len(self._waiting) > 0

    cdef begin(self, uint64_t commit_index):
        ensure(not self.is_running, "a round begins when the one before it is over")
        self._in_round = self._waiting
        self._waiting = []
        self.confirmed = {}
        self.number += 1
        self.index = commit_index
        self.is_running = True

    cdef bint confirm(self, uint64_t from_id, uint64_t number):
        """Whether the answer is about the round that runs; an earlier one's says nothing of it."""
        if not self.is_running or number != self.number:
            return False
        self.confirmed[from_id] = True
        return True

    cdef list finish(self):
        """The reads of the round, as (from_id, context)."""
        ensure(self.is_running, "no round is running")
        self.is_running = False
        return self._in_round

    cdef forget(self):
        """Nobody is served any more: the leader is none, or has only just become one."""
        self._waiting = []
        self._in_round = []
        self.confirmed = {}
        self.is_running = False
        self.index = 0

    def __repr__(self):
        return (f"ReadRounds(number={self.number} index={self.index} "
                f"running={self.is_running} waiting={len(self._waiting)})")
