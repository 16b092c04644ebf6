"""Majorities, joint or not; quorum.pxd says what they decide."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.number cimport PyNumber_Index
from libc.stdint cimport UINT64_MAX

cdef dict VOTE_NAMES = {VOTE_PENDING: "pending", VOTE_WON: "won", VOTE_LOST: "lost"}


cdef uint64_t committed(const uint64_t* acked, size_t count) noexcept nogil:
    cdef size_t at, other, have_it
    cdef uint64_t best = 0
    if count == 0:
        return UINT64_MAX
    for at in range(count):
        if acked[at] <= best:
            continue
        have_it = 0
        for other in range(count):
            if acked[other] >= acked[at]:
                have_it += 1
        if have_it > count // 2:
            best = acked[at]
    return best


cdef int vote_outcome(size_t count, size_t granted, size_t refused) noexcept nogil:
    if count == 0 or granted > count // 2:
        return VOTE_WON
    if refused >= count - count // 2:  # those who have not refused are no majority any more
        return VOTE_LOST
    return VOTE_PENDING


cdef int joint_outcome(int one, int other) noexcept nogil:
    if one == VOTE_LOST or other == VOTE_LOST:
        return VOTE_LOST
    return one if one == other else VOTE_PENDING


cdef tuple distinct_ids(object ids):
    cdef object id_
    cdef uint64_t checked
    cdef list whole = []
    for id_ in ids:
        checked = PyNumber_Index(id_)
        whole.append(checked)
    return tuple(sorted(set(whole)))


cdef uint64_t committed_among(tuple voters, dict acked) except? 0:
    cdef size_t at, count = len(voters)
    cdef uint64_t* indexes = <uint64_t*>PyMem_Malloc(count * sizeof(uint64_t))
    if indexes == NULL:
        raise MemoryError
    try:
        for at in range(count):
            indexes[at] = PyNumber_Index(acked.get(voters[at], 0))
        return committed(indexes, count)
    finally:
        PyMem_Free(indexes)


cdef int outcome_among(tuple voters, dict votes) except -1:
    cdef size_t granted = 0, refused = 0
    cdef object id_, vote
    for id_ in voters:
        if id_ not in votes:
            continue
        vote = votes[id_]
        if vote is True:
            granted += 1
        elif vote is False:
            refused += 1
        else:
            raise TypeError(f"node {id_}'s vote is {vote!r}, neither True nor False")
    return vote_outcome(len(voters), granted, refused)


cdef object joint_index(tuple voters, tuple voters_outgoing, dict acked):
    if not voters and not voters_outgoing:
        return None
    return min(committed_among(voters, acked), committed_among(voters_outgoing, acked))


cdef str joint_result(tuple voters, tuple voters_outgoing, dict votes):
    return VOTE_NAMES[joint_outcome(outcome_among(voters, votes),
                                    outcome_among(voters_outgoing, votes))]


def committed_index(voters, voters_outgoing, dict acked not None):
    """The largest log index that a majority of each half has; None where neither has a voter.

    `voters` and `voters_outgoing` are iterables of node ids, of which an empty one asks for
    nothing. `acked` is each node's last acknowledged index; who is missing there counts as 0.
    """
    return joint_index(distinct_ids(voters), distinct_ids(voters_outgoing), acked)


def vote_result(voters, voters_outgoing, dict votes not None):
    """How a vote stands that needs a majority of each half: "won", "lost" or "pending".

    `voters` and `voters_outgoing` are iterables of node ids, of which an empty one asks for
    nothing. `votes` has True or False for each node that has answered.
    """
    return joint_result(distinct_ids(voters), distinct_ids(voters_outgoing), votes)
