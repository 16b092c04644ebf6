"""The disk thread; disk_loop.pxd states its rules."""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.unistd cimport close, pwrite

import os
from collections import deque
from typing import NamedTuple

from seafoam.errors import DiskFailed, ensure

# What differs between systems, and the little that POSIX spells with macros.
cdef extern from * nogil:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <pthread.h>
    #include <signal.h>
    #include <time.h>
    #include <unistd.h>
    #ifdef __linux__
    #include <sys/eventfd.h>

    static int wake_open(int *fds)
    {
        fds[0] = fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return fds[0] < 0 ? -1 : 0;
    }

    static int sync_data(int fd)
    {
        return fdatasync(fd);
    }
    #else
    static int wake_open(int *fds)
    {
        int i;
        if (pipe(fds) != 0)
            return -1;
        for (i = 0; i < 2; i++) {
            fcntl(fds[i], F_SETFD, FD_CLOEXEC);
            fcntl(fds[i], F_SETFL, O_NONBLOCK);
        }
        return 0;
    }

    static int sync_data(int fd)
    {
    #ifdef F_FULLFSYNC
        return fcntl(fd, F_FULLFSYNC); /* macOS: fsync alone stops at the drive's cache */
    #else
        return fsync(fd);
    #endif
    }
    #endif

    /* A full pipe or counter is a wake-up that is still to be read: nothing is lost. */
    static void wake_signal(int fd)
    {
        uint64_t one = 1;
        ssize_t ignored = write(fd, &one, sizeof one);
        (void)ignored;
    }

    static void wake_drain(int fd)
    {
        char drained[512];
        while (read(fd, drained, sizeof drained) == (ssize_t)sizeof drained)
            ;
    }

    static uint64_t monotonic_ns(void)
    {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }

    /* Signals are the event loop's: with none delivered here, no write is ever interrupted. */
    static int start_without_signals(pthread_t *thread, void *(*run)(void *), void *argument)
    {
        sigset_t all, before;
        int failed;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failed = pthread_create(thread, NULL, run, argument);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return failed;
    }
    """
    int wake_open(int* fds)
    void wake_signal(int fd)
    void wake_drain(int fd)
    int sync_data(int fd)
    uint64_t monotonic_ns()
    int start_without_signals(
        pthread_t* thread, void* (*run)(void*) noexcept nogil, void* argument)
    int pthread_join(pthread_t thread, void** value)
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_cond_init(pthread_cond_t* condition, void* attributes)
    int pthread_cond_destroy(pthread_cond_t* condition)
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex)
    int pthread_cond_signal(pthread_cond_t* condition)

FAILURE_NAMES = {
    FAILURE_WRITE: "write",
    FAILURE_SHORT_WRITE: "short write",
    FAILURE_SYNC: "sync",
}


class DiskCounters(NamedTuple):
    """What a disk thread has done since it was started."""

    batches_count: int
    writes_count: int
    syncs_count: int
    written_bytes: int
    last_sync_ns: int
    longest_sync_ns: int
    total_sync_ns: int


class DiskFailure(NamedTuple):
    """The one call that failed: "write", "short write" or "sync"; on which descriptor; why."""

    call: str
    fd: int
    reason: str


cdef void* _enter(void* argument) noexcept nogil:
    (<DiskLoop>argument)._run()
    return NULL


cdef class DiskLoop:
    """A thread that writes and syncs what is submitted, and wakes `wake_fd` after each batch.

    All methods but `read_counters` are the event loop's alone.
    """

    def __cinit__(self):
        self._wake_fds[0] = -1
        self._wake_fds[1] = -1
        self._held = deque()
        ensure(pthread_mutex_init(&self._mutex, NULL) == 0
               and pthread_cond_init(&self._is_queued, NULL) == 0, "no memory for a mutex")
        if wake_open(self._wake_fds) != 0:
            raise DiskFailed(f"cannot wake the event loop: {os.strerror(errno)}")
        # The object outlives the thread: it is joined at the latest when the object goes.
        if start_without_signals(&self._thread, _enter, <void*>self) != 0:
            raise DiskFailed("cannot start the disk thread: the system allows no more threads")
        self._is_running = True

    def __dealloc__(self):
        self._join()
        _free_all(self._first)
        if self._wake_fds[0] >= 0:
            close(self._wake_fds[0])
        if self._wake_fds[1] >= 0 and self._wake_fds[1] != self._wake_fds[0]:
            close(self._wake_fds[1])
        pthread_cond_destroy(&self._is_queued)
        pthread_mutex_destroy(&self._mutex)

    cdef int _join(self) except -1:
        if not self._is_running:
            return 0
        with nogil:
            pthread_mutex_lock(&self._mutex)
            self._must_stop = True
            pthread_cond_signal(&self._is_queued)
            pthread_mutex_unlock(&self._mutex)
            pthread_join(self._thread, NULL)
        self._is_running = False
        return 0

    @property
    def wake_fd(self):
        """Readable when something completed or failed; for an event loop's reader."""
        return self._wake_fds[0]

    def submit(self, list writes not None):
        """Queue (fd, offset, bytes) to be written in this order; the ticket that will complete.

        DiskFailed once something has failed, or after `stop`.
        """
        cdef size_t write_count = len(writes)
        cdef size_t at = 0
        cdef Submission* submission
        cdef bytes data
        if not self._is_running:
            raise DiskFailed("the disk thread has stopped")
        submission = <Submission*>malloc(sizeof(Submission) + write_count * sizeof(DiskWrite))
        if submission == NULL:
            raise MemoryError
        try:
            for fd, offset, data in writes:
                submission.writes[at].fd = fd
                submission.writes[at].offset = offset
                submission.writes[at].data = <const uint8_t*><const char*>data
                submission.writes[at].data_bytes = len(data)
                at += 1
        except BaseException:
            free(submission)
            raise
        submission.next = NULL
        submission.write_count = write_count
        self._last_ticket += 1
        submission.ticket = self._last_ticket
        # A copy of the list: what the caller does to theirs must not free the bytes.
        self._held.append((self._last_ticket, tuple(writes)))
        if not self._queue(submission):
            free(submission)
            raise DiskFailed(f"the disk has failed before: {self.failure()}")
        return self._last_ticket

    cdef bint _queue(self, Submission* submission) noexcept:
        cdef bint is_queued = False
        pthread_mutex_lock(&self._mutex)
        if self._failure == FAILURE_NONE:
            if self._first == NULL:
                self._first = submission
            else:
                self._last.next = submission
            self._last = submission
            is_queued = True
            pthread_cond_signal(&self._is_queued)
        pthread_mutex_unlock(&self._mutex)
        return is_queued

    def completed(self):
        """The highest ticket that is on disk; drains `wake_fd` and lets go of what it held."""
        cdef uint64_t ticket
        wake_drain(self._wake_fds[0])
        pthread_mutex_lock(&self._mutex)
        ticket = self._completed_ticket
        pthread_mutex_unlock(&self._mutex)
        while self._held and self._held[0][0] <= ticket:
            self._held.popleft()
        return ticket

    def failure(self):
        """What failed, as a DiskFailure; None while nothing has."""
        cdef Failure failure
        cdef int failure_errno, fd
        pthread_mutex_lock(&self._mutex)
        failure = self._failure
        failure_errno = self._failure_errno
        fd = self._failure_fd
        pthread_mutex_unlock(&self._mutex)
        if failure == FAILURE_NONE:
            return None
        reason = "the disk took only a part" if failure == FAILURE_SHORT_WRITE \
            else os.strerror(failure_errno)
        return DiskFailure(FAILURE_NAMES[failure], fd, reason)

    def stop(self):
        """Write and sync what is queued, then end the thread; returns when that is done."""
        self._join()

    def counters(self):
        """What the thread has done so far, as DiskCounters."""
        cdef Counters counters
        self.read_counters(&counters)
        return DiskCounters(counters.batches_count, counters.writes_count, counters.syncs_count,
                            counters.written_bytes, counters.last_sync_ns,
                            counters.longest_sync_ns, counters.total_sync_ns)

    cdef void read_counters(self, Counters* counters) noexcept nogil:
        pthread_mutex_lock(&self._mutex)
        counters[0] = self._counters
        pthread_mutex_unlock(&self._mutex)

    # -- the thread ------------------------------------------------------------------------------

    cdef void _run(self) noexcept nogil:
        cdef Submission* first
        cdef Submission* last
        cdef Counters done
        cdef Failure failure = FAILURE_NONE
        cdef int failure_errno = 0
        cdef int failure_fd = -1
        memset(&done, 0, sizeof(done))
        pthread_mutex_lock(&self._mutex)
        while failure == FAILURE_NONE:
            while self._first == NULL and not self._must_stop:
                pthread_cond_wait(&self._is_queued, &self._mutex)
            first = self._first
            last = self._last
            self._first = NULL
            if first == NULL:
                break
            pthread_mutex_unlock(&self._mutex)
            failure = self._perform(first, &done, &failure_fd)
            failure_errno = errno
            pthread_mutex_lock(&self._mutex)
            if failure == FAILURE_NONE:
                self._completed_ticket = last.ticket
                self._counters = done
            else:
                self._failure = failure
                self._failure_errno = failure_errno
                self._failure_fd = failure_fd
            _free_all(first)
            wake_signal(self._wake_fds[1])
        pthread_mutex_unlock(&self._mutex)

    # Writes and syncs a chain of submissions; stops at the first call that fails, errno says why.
    cdef Failure _perform(self, Submission* first, Counters* done, int* fd_out) noexcept nogil:
        cdef int fds[BATCH_FILES_MAX]
        cdef int fd_count = 0
        cdef Submission* submission = first
        cdef DiskWrite* write
        cdef ssize_t written_bytes
        cdef size_t at
        while submission != NULL:
            for at in range(submission.write_count):
                write = &submission.writes[at]
                fd_out[0] = write.fd
                if not _is_among(write.fd, fds, fd_count):
                    if fd_count == BATCH_FILES_MAX:
                        if _sync_all(fds, fd_count, done, fd_out) != FAILURE_NONE:
                            return FAILURE_SYNC
                        fd_count = 0
                    fds[fd_count] = write.fd
                    fd_count += 1
                    fd_out[0] = write.fd
                written_bytes = pwrite(write.fd, write.data, write.data_bytes, write.offset)
                if written_bytes < 0:
                    return FAILURE_WRITE
                if <size_t>written_bytes != write.data_bytes:
                    return FAILURE_SHORT_WRITE
                done.writes_count += 1
                done.written_bytes += write.data_bytes
            submission = submission.next
        done.batches_count += 1
        return _sync_all(fds, fd_count, done, fd_out)


cdef bint _is_among(int fd, const int* fds, int fd_count) noexcept nogil:
    cdef int at
    for at in range(fd_count):
        if fds[at] == fd:
            return True
    return False


cdef Failure _sync_all(const int* fds, int fd_count, Counters* done, int* fd_out) noexcept nogil:
    cdef uint64_t begin_ns
    cdef int at
    for at in range(fd_count):
        fd_out[0] = fds[at]
        begin_ns = monotonic_ns()
        if sync_data(fds[at]) != 0:
            return FAILURE_SYNC
        done.last_sync_ns = monotonic_ns() - begin_ns
        done.total_sync_ns += done.last_sync_ns
        if done.last_sync_ns > done.longest_sync_ns:
            done.longest_sync_ns = done.last_sync_ns
        done.syncs_count += 1
    return FAILURE_NONE


cdef void _free_all(Submission* submission) noexcept nogil:
    cdef Submission* next
    while submission != NULL:
        next = submission.next
        free(submission)
        submission = next
