# What an entry of kind ENTRY_CONFIGURATION holds: who joins, leaves or moves.
#
# Owns the picture below and its checks. Must never trust a length or a count it has read, or
# decide whether a change is allowed: the rules are confchange's.
#
#    0         1       3
#    +---------+-------+-----------------------------------------+
#    | version | count | kind | node id | address bytes | address | ...
#    +---------+-------+-----------------------------------------+
#     u8        u16     u8     u64       u16             UTF-8
#
#   kind      CHANGE_VOTER | CHANGE_LEARNER | CHANGE_REMOVE | CHANGE_UPDATE, as in confchange.pxd
#   address   the peer address, HOST:PORT; empty where kind is CHANGE_REMOVE

from libc.stdint cimport uint64_t

cpdef enum:
    CHANGE_VERSION = 1
    CHANGES_MAX = 16         # of one entry; a replacement takes two

# One change of an entry.
cdef class MemberChange:
    cdef readonly int kind
    cdef readonly uint64_t node_id
    cdef readonly str address
