# Raft's plain records and what the machine asks of its surroundings (`Ready`).
#
# Owns no behaviour: records are made once and not changed. Each has a stable one-line repr, which
# golden scenarios compare. No field that nothing fills.

from libc.stdint cimport uint64_t

cpdef enum:
    ENTRY_EMPTY = 0      # a new leader's first entry: nothing to apply
    ENTRY_COMMAND = 1    # the state machine's: one operation or a batch
    ENTRY_FOUNDING = 2   # entry 1 of every log: cluster id, hash seed, the founding set

# One entry of the log. Encoded once: `data` is what the disk, the peers and apply all see.
cdef class Entry:
    cdef readonly uint64_t index
    cdef readonly uint64_t term
    cdef readonly int kind
    cdef readonly bytes data

# What must survive a crash beside the entries. A vote of 0 is no vote.
cdef class HardState:
    cdef readonly uint64_t term
    cdef readonly uint64_t vote
    cdef readonly uint64_t commit_index

# What one turn of the machine asks for, in this order:
#   entries, hard_state   written and synced, together; `durable` is reported back afterwards
#   committed             applied in order; durable here, and not waiting for this turn's sync
# must_sync is false where nothing above needs the disk.
cdef class Ready:
    cdef readonly list entries
    cdef readonly HardState hard_state       # None where nothing of it changed
    cdef readonly list committed
    # The report to give back once entries and hard_state are on disk.
    cdef readonly Durable durable            # None where there is nothing to write

# A report that everything up to (term, index) is on this node's disk. Issued by the machine with
# the write it belongs to, and dropped by it when its term has moved on since.
cdef class Durable:
    cdef readonly uint64_t term
    cdef readonly uint64_t index
    cdef readonly uint64_t commit_index      # the commit index the synced hard state covers
