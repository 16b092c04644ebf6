# The disk thread: takes everything that is queued, writes it in order, syncs once, and tells.
#
# Owns one POSIX thread that never holds the GIL, the queue before it, and the descriptor by which
# it wakes the event loop. Must never retry a write or sync that failed: after a failed fsync the
# kernel may have dropped the pages and call the next one a success. Must never open or close a
# file; descriptors stay open until what was queued for them is done.
#
#   event loop                          disk thread
#   submit(writes) -> ticket            take all that is queued
#        mutex, condition        --->   pwrite ... pwrite, in the order of tickets
#                                       fdatasync, once for each file touched
#   completed() -> ticket        <---   publish the last ticket, write to wake_fd
#
# D1  A ticket is complete only when every write up to it was written whole and synced.
# D2  After a failure nothing is written, nothing completes, and every submit is refused.
# D3  The bytes of a ticket are held (`_held`) until `completed` has returned it.
# D4  Everything but the queue's own memory is shared under the mutex only.

from libc.stdint cimport int64_t, uint8_t, uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_t:
        pass
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass

cdef enum:
    # Distinct files in one batch: the current segment and those it rotates to. One more than
    # this and the batch syncs what it has before it goes on.
    BATCH_FILES_MAX = 4

cdef enum Failure:
    FAILURE_NONE = 0
    FAILURE_WRITE = 1
    FAILURE_SHORT_WRITE = 2
    FAILURE_SYNC = 3

cdef struct DiskWrite:
    int fd
    int64_t offset
    const uint8_t* data
    size_t data_bytes

# What one submit queued: one block of memory, owned by the queue, then by the thread.
cdef struct Submission:
    Submission* next
    uint64_t ticket
    size_t write_count
    DiskWrite writes[1]           # write_count of them

# What the thread has done; written by it alone, under the mutex.
cdef struct Counters:
    uint64_t batches_count
    uint64_t writes_count
    uint64_t syncs_count
    uint64_t written_bytes
    uint64_t last_sync_ns
    uint64_t longest_sync_ns
    uint64_t total_sync_ns

cdef class DiskLoop:
    cdef pthread_t _thread
    cdef pthread_mutex_t _mutex
    cdef pthread_cond_t _is_queued
    cdef bint _is_running
    cdef int _wake_fds[2]                  # read end, write end; the same one for an eventfd
    cdef object _held                      # (ticket, writes) that are not yet returned as complete
    cdef uint64_t _last_ticket             # event loop only
    # under the mutex
    cdef Submission* _first
    cdef Submission* _last
    cdef bint _must_stop
    cdef uint64_t _completed_ticket
    cdef Counters _counters
    cdef Failure _failure
    cdef int _failure_errno
    cdef int _failure_fd

    # For readers that do not hold the GIL.
    cdef void read_counters(self, Counters* counters) noexcept nogil

    cdef bint _queue(self, Submission* submission) noexcept
    cdef int _join(self) except -1
    cdef void _run(self) noexcept nogil
    cdef Failure _perform(self, Submission* first, Counters* done, int* fd_out) noexcept nogil
