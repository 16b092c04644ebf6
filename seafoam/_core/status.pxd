# C status codes: what a `noexcept nogil` function of any core returns. A function documents which
# of them it may return; one wrapper a module turns them into exceptions. Never shown to a client
# (clients see the codes of seafoam/errors.py).

cdef enum Status:
    STATUS_OK = 0
    STATUS_NEED_MORE = 1        # the input ends before the thing it began
    STATUS_CAREFUL = 2          # not plainly valid: the careful path must look at it
    STATUS_NOT_FOUND = 3        # no such key, and that was validated
    STATUS_CONTENDED = 4        # retries ran out; the answer is unknown
    STATUS_DETACHED = 5         # the segment's writer is dead, or the segment was replaced
    STATUS_NO_MEMORY = 6        # malloc, the segment or its arena is exhausted
    STATUS_TOO_LARGE = 7        # a bound of limits.pxd
    STATUS_INVALID = 8          # the input breaks the format's rules; the fault says where
    STATUS_TORN = 9             # a record that was being written when the process or power ended
    STATUS_DAMAGED = 10         # bytes that were once whole
    STATUS_UNKNOWN_TYPE = 11    # a record type this version does not know
    STATUS_UNKNOWN_VERSION = 12 # a format version this version does not know
    STATUS_SYSTEM = 13          # a system call failed; errno says why
