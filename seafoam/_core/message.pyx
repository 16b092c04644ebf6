"""Raft's plain records; message.pxd says what each field means."""


cdef class Entry:
    """One entry of the log: where it stands, its kind and its encoded bytes."""

    def __cinit__(self, uint64_t index, uint64_t term, int kind, bytes data not None):
        self.index = index
        self.term = term
        self.kind = kind
        self.data = data

    def __eq__(self, other):
        cdef Entry that
        if not isinstance(other, Entry):
            return NotImplemented
        that = other
        return (self.index == that.index and self.term == that.term
                and self.kind == that.kind and self.data == that.data)

    __hash__ = None

    def __repr__(self):
        return (f"Entry(index={self.index} term={self.term} kind={self.kind} "
                f"bytes={len(self.data)})")


cdef class HardState:
    """Term, vote and commit index: what must survive a crash beside the entries."""

    def __cinit__(self, uint64_t term, uint64_t vote, uint64_t commit_index):
        self.term = term
        self.vote = vote
        self.commit_index = commit_index

    def __eq__(self, other):
        cdef HardState that
        if not isinstance(other, HardState):
            return NotImplemented
        that = other
        return (self.term == that.term and self.vote == that.vote
                and self.commit_index == that.commit_index)

    __hash__ = None

    def __repr__(self):
        return f"HardState(term={self.term} vote={self.vote:x} commit={self.commit_index})"


cdef class Durable:
    """A report of what is on this node's disk, with the term it was issued in."""

    def __cinit__(self, uint64_t term, uint64_t index, uint64_t commit_index):
        self.term = term
        self.index = index
        self.commit_index = commit_index

    def __repr__(self):
        return f"Durable(term={self.term} index={self.index} commit={self.commit_index})"


cdef class Ready:
    """What one turn of the machine asks for; the order is in message.pxd."""

    def __cinit__(self, list entries not None, HardState hard_state, list committed not None,
                  Durable durable):
        self.entries = entries
        self.hard_state = hard_state
        self.committed = committed
        self.durable = durable

    def __repr__(self):
        return (f"Ready(entries={self.entries} hard_state={self.hard_state} "
                f"committed={self.committed} durable={self.durable})")
