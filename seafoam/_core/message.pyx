"""Raft's plain records; message.pxd says what each field means."""

MESSAGE_NAMES = {
    MESSAGE_PRE_VOTE: "pre_vote",
    MESSAGE_PRE_VOTE_ANSWER: "pre_vote_answer",
    MESSAGE_VOTE: "vote",
    MESSAGE_VOTE_ANSWER: "vote_answer",
    MESSAGE_APPEND: "append",
    MESSAGE_APPEND_ANSWER: "append_answer",
    MESSAGE_HEARTBEAT: "heartbeat",
    MESSAGE_HEARTBEAT_ANSWER: "heartbeat_answer",
    MESSAGE_READ_INDEX: "read_index",
    MESSAGE_READ_INDEX_ANSWER: "read_index_answer",
    MESSAGE_TIMEOUT_NOW: "timeout_now",
}
# What a message's line says behind its head, by kind; entries and rejections apart.
_SHOWN = {
    MESSAGE_PRE_VOTE: ("index", "log_term"),
    MESSAGE_PRE_VOTE_ANSWER: ("commit_index", "log_term"),
    MESSAGE_VOTE: ("index", "log_term", "context"),
    MESSAGE_VOTE_ANSWER: ("commit_index", "log_term"),
    MESSAGE_APPEND: ("index", "log_term", "commit_index"),
    MESSAGE_APPEND_ANSWER: ("index",),
    MESSAGE_HEARTBEAT: ("commit_index", "context"),
    MESSAGE_HEARTBEAT_ANSWER: ("context",),
    MESSAGE_READ_INDEX: ("context",),
    MESSAGE_READ_INDEX_ANSWER: ("index", "context"),
}


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


cdef class Message:
    """One message between two machines; message.pxd says what each kind fills."""

    def __cinit__(self, int kind, uint64_t from_id, uint64_t to_id, uint64_t term, *,
                  uint64_t index=0, uint64_t log_term=0, uint64_t commit_index=0,
                  tuple entries not None=(), bint is_rejected=False, uint64_t hint_index=0,
                  uint64_t hint_term=0, uint64_t context=0):
        self.kind = kind
        self.from_id = from_id
        self.to_id = to_id
        self.term = term
        self.index = index
        self.log_term = log_term
        self.commit_index = commit_index
        self.entries = entries
        self.is_rejected = is_rejected
        self.hint_index = hint_index
        self.hint_term = hint_term
        self.context = context
        if kind not in MESSAGE_NAMES:
            raise ValueError(f"there is no message of kind {kind}")
        if from_id == 0 or to_id == 0 or from_id == to_id:
            raise ValueError(f"no message goes from {from_id:x} to {to_id:x}")
        _check_entries(self)

    def __eq__(self, other):
        cdef Message that
        if not isinstance(other, Message):
            return NotImplemented
        that = other
        return (self.kind == that.kind and self.from_id == that.from_id
                and self.to_id == that.to_id and self.term == that.term
                and self.index == that.index and self.log_term == that.log_term
                and self.commit_index == that.commit_index and self.entries == that.entries
                and self.is_rejected == that.is_rejected and self.hint_index == that.hint_index
                and self.hint_term == that.hint_term and self.context == that.context)

    __hash__ = None

    def __repr__(self):
        said = "".join(f" {name}={getattr(self, name)}" for name in _SHOWN.get(self.kind, ())
                       if name != "context" or self.context != 0)
        if self.entries:
            said += " entries=[" + " ".join(f"{e.index}@{e.term}" for e in self.entries) + "]"
        if self.is_rejected:
            said += " rejected"
            if self.kind == MESSAGE_APPEND_ANSWER:
                said += f" hint={self.hint_index}@{self.hint_term}"
        return (f"{self.from_id:x}->{self.to_id:x} {MESSAGE_NAMES[self.kind]} "
                f"term={self.term}{said}")


cdef int _check_entries(Message message) except -1:
    cdef Entry entry
    cdef uint64_t before_index = message.index
    cdef uint64_t before_term = message.log_term
    for entry in message.entries:
        if entry.index - 1 != before_index or entry.term < before_term:
            raise ValueError(f"entry {entry.index} of term {entry.term} cannot follow "
                             f"entry {before_index} of term {before_term}")
        before_index = entry.index
        before_term = entry.term
    if before_term > message.term:
        raise ValueError(f"a message of term {message.term} speaks of a log entry of term "
                         f"{before_term}")
    return 0


cdef class Durable:
    """A report of what is on this node's disk, with the term it was issued in."""

    def __cinit__(self, uint64_t number, uint64_t term, uint64_t index, uint64_t log_term,
                  uint64_t commit_index):
        self.number = number
        self.term = term
        self.index = index
        self.log_term = log_term
        self.commit_index = commit_index

    def __repr__(self):
        return (f"Durable(number={self.number} term={self.term} index={self.index} "
                f"log_term={self.log_term} commit={self.commit_index})")


cdef class ReadReady:
    """A read may be served once everything up to its index is applied."""

    def __cinit__(self, uint64_t context, uint64_t index):
        self.context = context
        self.index = index

    def __eq__(self, other):
        if not isinstance(other, ReadReady):
            return NotImplemented
        return (self.context == (<ReadReady>other).context
                and self.index == (<ReadReady>other).index)

    __hash__ = None

    def __repr__(self):
        return f"ReadReady(context={self.context} index={self.index})"


cdef class Ready:
    """What one turn of the machine asks for; the order is in message.pxd."""

    def __cinit__(self):
        self.entries = []
        self.messages = []
        self.messages_after_durable = []
        self.committed = []
        self.reads = []
        self.fetches = []
        self.snapshots = []

    def __repr__(self):
        return (f"Ready(entries={self.entries} hard_state={self.hard_state} "
                f"messages={self.messages} "
                f"messages_after_durable={self.messages_after_durable} "
                f"committed={self.committed} reads={self.reads} fetches={self.fetches} "
                f"snapshots={self.snapshots} durable={self.durable})")
