# Whether two JSON texts mean the same: what `cas` compares by.
#
# Owns that decision, for checked texts. Objects are compared by their names, in any order, the
# last of equal names counting; arrays in order; strings by their characters after unescaping,
# which are not normalised; numbers as exact decimals (1, 1.0 and 10e-1 are equal, -0 is 0); true,
# false and null are only themselves.
#
# Must never: do I/O, take the GIL, recurse, round a number, or depend on anything but the two
# texts: the answer decides what the replicated state machine does, on every node.
#
# Invariants: time is n log n in the length of the texts, whatever they are (sorting names is the
# log n); memory is at most some tens of times their length and is given back before it returns; a
# number is never written out, so 1e1000000 costs as much as 1e1.

from libc.stdint cimport uint8_t

# STATUS_NO_MEMORY; STATUS_TOO_LARGE from 4 GiB on. A text that was not checked gets any answer or
# STATUS_INVALID, and nothing worse: no byte outside of the two texts is read.
cdef int json_equal(const uint8_t* left, size_t left_bytes, const uint8_t* right,
                    size_t right_bytes, bint* equal) noexcept nogil
