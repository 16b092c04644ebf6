# The state machine: what a committed entry does to the map, and what it answers.
#
# Owns the meaning of set, cas, delete and a batch's get. Must be deterministic: the same entries
# give the same map and the same results on every node, at any time, in any build; so it calls no
# library, reads no setting and no clock, and never refuses a committed entry for a reason of its
# own. A map that cannot hold an entry ends the node.
#
# Invariants:
#   S1  Entries are applied in the order of their indexes, each once, without a gap.
#   S2  The operations of one command are one step: each sees those before it, and readers of
#       several keys see all of its writes or none.
#   S3  Every key a command writes carries that entry's index as its version.

from libc.stdint cimport uint64_t

from seafoam._core.map cimport MapWriter, ValueView
from seafoam._core.message cimport Entry
from seafoam._core.wire cimport OperationView

# What became of one operation. `code` is None where it was done.
cdef class OperationResult:
    # None | "key_not_found" | "key_exists" | "cas_mismatch" | "too_large": done or refused as the
    # operation says, but the value to be shown is past what one command's results may hold
    cdef readonly str code
    cdef readonly bytes value       # JSON text: a get's value, or what a cas found; else None
    cdef readonly uint64_t version  # of that value; 0 for none
    cdef readonly bint deleted      # a delete found something

# What became of one command: the index of its entry and a result an operation, in order.
cdef class CommandResult:
    cdef readonly uint64_t index
    cdef readonly list results

cdef class Store:
    cdef MapWriter _map
    # What the results of the command being applied may still hold. A constant of the format, not a
    # setting: without it a small batch of gets would take memory without bound, at replay too.
    cdef size_t _room_bytes
    # What its cas may still compare; another constant of the format.
    cdef size_t _compare_bytes
    cdef readonly uint64_t applied_index

    cpdef CommandResult apply(self, Entry entry)

    cdef CommandResult _apply_command(self, Entry entry)
    cdef OperationResult _show(self, str code, const ValueView* found)
    cdef OperationResult _perform(self, OperationView* operation, uint64_t index)
    cdef OperationResult _get(self, OperationView* operation)
    cdef OperationResult _set(self, OperationView* operation, uint64_t index)
    cdef OperationResult _cas(self, OperationView* operation, uint64_t index)
    cdef OperationResult _delete(self, OperationView* operation)
    cdef bint _put(self, OperationView* operation, uint64_t index) except -1
