# Raft's plain records: entries, messages, and what the machine asks of its surroundings (`Ready`).
#
# Owns no behaviour: records are made once and not changed. Each has a stable one-line repr, which
# golden scenarios compare. No field that nothing fills.

from libc.stdint cimport uint64_t

cpdef enum:
    ENTRY_EMPTY = 0          # a new leader's first entry: nothing to apply
    ENTRY_COMMAND = 1        # the state machine's: one operation or a batch
    ENTRY_FOUNDING = 2       # entry 1 of every log: cluster id, hash seed, the founding set
    ENTRY_CONFIGURATION = 3  # the set of members from where it is applied on

# One entry of the log. Encoded once: `data` is what the disk, the peers and apply all see.
cdef class Entry:
    cdef readonly uint64_t index
    cdef readonly uint64_t term
    cdef readonly int kind
    cdef readonly bytes data

# Whether the entry says who the members are.
cdef inline bint is_configuring(int kind):
    return kind == ENTRY_FOUNDING or kind == ENTRY_CONFIGURATION

# What must survive a crash beside the entries. A vote of 0 is no vote.
cdef class HardState:
    cdef readonly uint64_t term
    cdef readonly uint64_t vote
    cdef readonly uint64_t commit_index

# The kinds of messages, and the fields each fills beside kind, from_id, to_id and term. The term
# is the sender's, but for a pre-vote and its granting answer: there, the one it would campaign in.
cpdef enum:
    MESSAGE_PRE_VOTE = 0           # index, log_term: the asker's last entry
    MESSAGE_PRE_VOTE_ANSWER = 1    # is_rejected; commit_index, log_term: the last entry that the
                                   # answerer knows to be committed
    MESSAGE_VOTE = 2               # index, log_term: the asker's last entry; context: VOTE_FORCED
    MESSAGE_VOTE_ANSWER = 3        # as a pre-vote's
    MESSAGE_APPEND = 4             # index, log_term: the entry before entries; entries (may be
                                   # none); commit_index
    MESSAGE_APPEND_ANSWER = 5      # index: all up to it is on the sender's disk as the leader has
                                   # it; or is_rejected, index: that of the append; hint_index,
                                   # hint_term: where the two logs may still agree
    MESSAGE_HEARTBEAT = 6          # commit_index, never past what the receiver acknowledged;
                                   # context: the read round it confirms, 0 for none
    MESSAGE_HEARTBEAT_ANSWER = 7   # context, as it came
    MESSAGE_READ_INDEX = 8         # context: the asker's
    MESSAGE_READ_INDEX_ANSWER = 9  # context, as it came; index: to be applied before reading
    MESSAGE_TIMEOUT_NOW = 10       # campaign at once: the leader hands over to the receiver

cdef enum:
    MESSAGE_KINDS = 11

cpdef enum:
    # The context of a vote asked for by a leader's own wish: a leader heard of is no reason to
    # ignore it.
    VOTE_FORCED = 1

# One message between two machines. Made in Python it is checked to be well-formed (ValueError):
# entries go on from index + 1 without a gap, no term falls, none is above the message's own.
# When it comes, whether twice and in which order, nobody promises.
cdef class Message:
    cdef readonly int kind
    cdef readonly uint64_t from_id
    cdef readonly uint64_t to_id
    cdef readonly uint64_t term
    cdef readonly uint64_t index
    cdef readonly uint64_t log_term
    cdef readonly uint64_t commit_index
    cdef readonly tuple entries
    cdef readonly bint is_rejected
    cdef readonly uint64_t hint_index
    cdef readonly uint64_t hint_term
    cdef readonly uint64_t context

# A read that was asked for with `read_index(context)`: it may be served here once everything up
# to `index` is applied.
cdef class ReadReady:
    cdef readonly uint64_t context
    cdef readonly uint64_t index

# What one turn of the machine asks for. What must happen before what:
#
#   entries, hard_state      written and synced, together, behind every earlier Ready's; `durable`
#                            is reported back afterwards, in the order of writes
#   messages                 may leave at once, also before the write
#   messages_after_durable   must not leave before that write is reported; where there is none
#                            (durable is None), not before the last earlier one is, which then
#                            is still under way. They are void when the process ends before.
#   committed                applied in order, each once; durable here, and not waiting for this
#                            turn's sync. After an entry that configures has been applied,
#                            `configure` is told before `advance`; such an entry is only handed
#                            out when a record of a commit index that covers it is synced.
#   reads                    served once applied
#   fetches                  read from the disk; `fetched` is told what was found
#   snapshots                each of these members is sent the newest snapshot there is; once it
#                            has installed that (durable, its machine restored), `snapshot_sent`
#                            is told, `snapshot_failed` where nothing came of it. Until then it
#                            is sent no entries
cdef class Ready:
    cdef readonly list entries
    cdef readonly HardState hard_state       # None where nothing of it has to be written
    cdef readonly list messages
    cdef readonly list messages_after_durable
    cdef readonly list committed
    cdef readonly list reads                 # of ReadReady
    cdef readonly list fetches               # of (first_index, last_index), inclusive
    cdef readonly list snapshots             # of ids; each is listed once for each time it begins
    # The report to give back once entries and hard_state are on disk.
    cdef readonly Durable durable            # None where there is nothing to write

# A report that a write and all before it are on this node's disk. Issued by the machine with the
# write it belongs to. `number` counts the writes; term is the machine's when it issued the report;
# (index, log_term) is the last entry it covers; commit_index what the synced hard state says.
cdef class Durable:
    cdef readonly uint64_t number
    cdef readonly uint64_t term
    cdef readonly uint64_t index
    cdef readonly uint64_t log_term
    cdef readonly uint64_t commit_index
