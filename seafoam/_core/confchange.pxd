# Who is in the cluster, who of them votes, and the three steps by which that may change.
#
# Owns the rules of membership (dissertation, chapter 4), in the notation of the best-known Go
# implementation and with its outcomes. A `Configuration` is a value: made whole, never changed; a
# step returns another or raises ConfigurationRefused with the reason. Must never do I/O, know who
# leads, or decide when a configuration takes effect: that is the Raft machine's.
#
#      simple          one voter more or less, at most; any number of learners
#      enter_joint     any changes; from here on the old voters decide too
#      leave_joint     the old voters no longer do
#
#      voters=(1 2 3)   --enter_joint "r3 v4 l2"-->   voters=(1 4)&&(1 2 3) learners_next=(2)
#                       --leave_joint------------->   voters=(1 4) learners=(2)
#
# Invariants, checked whenever one is made:
#   I1  Ids are sorted and distinct, so that every node walks them in one order; none is 0.
#   I2  Nobody is a voter, on either side, and a learner. A voter that a joint change demotes is
#       therefore in learners_next, and a voter of the old side only, until that side is left.
#   I3  A configuration without voters has nobody: it is where a cluster begins, and no step
#       returns to it. Nor does the old side decide alone.
#   I4  Only a joint configuration has voters_outgoing, learners_next and auto_leave.
#   I5  Whatever a step leads to, each majority before it shares a node with each after it.
#
# Changes are applied in order, the last word on a node holding; one that is so already, removing a
# stranger, and an update change nothing. Id 0 is nobody's: a change of it is one that was
# withdrawn after it was written, and is passed over.

from libc.stdint cimport uint64_t

cpdef enum:
    CHANGE_VOTER = 1     # v: joins as a voter, or becomes one
    CHANGE_LEARNER = 2   # l: joins as a learner, or becomes one
    CHANGE_REMOVE = 3    # r
    CHANGE_UPDATE = 4    # u: membership stays; for what is told about a node beside it

# "v1 l2 r3 u4" as a list of (kind, id); ids are decimal, blanks separate.
cpdef list parse_changes(str changes)

cdef class Configuration:
    # Sorted tuples of ids.
    cdef readonly tuple voters                  # of a joint configuration, the new side's
    cdef readonly tuple voters_outgoing         # the old side's; empty where it is not joint
    cdef readonly tuple learners
    cdef readonly tuple learners_next           # voters of the old side that will be learners
    # The leader is to leave the joint configuration by itself, once it is committed. Noted here
    # for the machine, which acts on it.
    cdef readonly bint auto_leave
    cdef readonly bint is_joint                 # whether voters_outgoing has anybody

    # change: each returns another configuration or raises. `changes` as text, or as the list of
    # (kind, id) that an entry of the log holds.
    cpdef Configuration simple(self, str changes)
    cpdef Configuration enter_joint(self, bint auto_leave, str changes)
    cpdef Configuration leave_joint(self)
    cpdef Configuration apply_simple(self, list changes)
    cpdef Configuration apply_joint(self, bint auto_leave, list changes)
    cdef Configuration _changed(self, list changes, tuple voters_outgoing, bint auto_leave)

    # ask
    cpdef bint is_voter(self, uint64_t id_)     # on either side
    cpdef bint is_learner(self, uint64_t id_)   # who waits in learners_next is a voter still
    cpdef bint is_member(self, uint64_t id_)
    cpdef tuple voter_ids(self)                 # of either side, sorted
    cpdef tuple member_ids(self)                # voter_ids and learners, sorted

    # decide: as quorum.pxd says, by both sides
    cpdef object committed_index(self, dict acked)
    cpdef str vote_result(self, dict votes)

    cdef _check(self)
    cdef tuple _key(self)
