"""One piece of memory that one process writes and any number of others read.

See segment.pxd for what it owns and its invariants, segment_system.h for the system calls.
"""

import os

from libc.errno cimport ENOMEM, ENOSPC, errno
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset
from posix.mman cimport (
    MAP_FAILED, MAP_NORESERVE, MAP_SHARED, PROT_READ, PROT_WRITE, mmap, munmap,
)
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.unistd cimport close, ftruncate, getpid

from seafoam._core.atomics cimport store_release_u64
from seafoam._core.limits cimport RESERVE_STEP_BYTES
from seafoam._core.status cimport (
    STATUS_NO_MEMORY, STATUS_OK, STATUS_SYSTEM, STATUS_TOO_LARGE,
)

from seafoam.errors import Detached

cdef extern from "segment_system.h" nogil:
    int segment_open(int* read_only_fd) noexcept
    int segment_seal(int fd) noexcept
    bint segment_keeps_its_size(int fd) noexcept
    int segment_reopen(int fd, int read_only_fd) noexcept
    int segment_allocate(int fd, uint64_t offset_bytes, uint64_t length_bytes) noexcept
    int owner_claim(void* mutex, uint64_t mutex_bytes, uint64_t* word_bytes) noexcept
    int owner_release(void* mutex) noexcept


# The mark must be whole within the first page, which every segment has.
cdef enum:
    SEGMENT_BYTES_MIN = 4096


def machine_memory_bytes():
    """What the machine has, in bytes: the reservation limit where nobody knows a better one."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


cdef _raise_system(str what):
    raise OSError(errno, f"{what}: {os.strerror(errno)}")


cdef class Segment:
    """A shared memory segment: `create` one to write it, `attach` to read somebody's.

    Source: memfd_create(2), the seals of fcntl(2), pthread_mutexattr_setrobust(3).
    """

    def __cinit__(self):
        self.fd = -1
        self._read_only_fd = -1

    def __init__(self):
        raise TypeError("a Segment is made by Segment.create or Segment.attach")

    @staticmethod
    def create(size_t max_bytes, size_t reserve_limit_bytes):
        """A new segment of `max_bytes` of address space, of which nothing is reserved yet.

        At most `reserve_limit_bytes` of it will ever be backed by memory. The calling thread is
        its owner. Raises OSError where the system refuses.
        """
        cdef Segment segment = Segment.__new__(Segment)
        if max_bytes < SEGMENT_BYTES_MIN or max_bytes % SEGMENT_BYTES_MIN != 0:
            raise ValueError(f"a segment's size is a positive multiple of {SEGMENT_BYTES_MIN} "
                             f"bytes, not {max_bytes}")
        segment.size_bytes = max_bytes
        segment.reserve_limit_bytes = reserve_limit_bytes
        segment.is_writable = True
        segment.fd = segment_open(&segment._read_only_fd)
        if segment.fd < 0:
            _raise_system("no shared memory could be made")
        if ftruncate(segment.fd, max_bytes) != 0:
            _raise_system(f"shared memory of {max_bytes} bytes could not be made")
        segment._map(PROT_READ | PROT_WRITE, segment.fd)
        if segment_seal(segment.fd) != 0:
            _raise_system("shared memory could not be sealed")
        segment._claim()
        return segment

    @staticmethod
    def attach(int fd):
        """The segment behind a descriptor, for reading; the descriptor stays the caller's.

        Raises ValueError where the descriptor cannot be a segment, OSError where the system
        refuses. What the segment holds is for the caller to check.
        """
        cdef Segment segment = Segment.__new__(Segment)
        cdef struct_stat status
        if fstat(fd, &status) != 0:
            _raise_system(f"descriptor {fd} cannot be read")
        if not S_ISREG(status.st_mode):
            raise ValueError(f"descriptor {fd} is no shared memory")
        if status.st_size < SEGMENT_BYTES_MIN or status.st_size % SEGMENT_BYTES_MIN != 0:
            raise ValueError(
                f"descriptor {fd} holds {status.st_size} bytes, which no segment does")
        if not segment_keeps_its_size(fd):
            raise ValueError(f"descriptor {fd} is not sealed: it could shrink under its readers")
        segment.size_bytes = status.st_size
        segment._map(PROT_READ, fd)
        return segment

    cdef int _map(self, int protection, int fd) except -1:
        cdef void* memory = mmap(
            NULL, self.size_bytes, protection, MAP_SHARED | MAP_NORESERVE, fd, 0)
        if memory == MAP_FAILED:
            _raise_system(f"{self.size_bytes} bytes of shared memory could not be mapped")
        self.base = <uint8_t*>memory
        return 0

    cdef int _claim(self) except -1:
        cdef OwnerMark* mark = self.owner_mark()
        cdef uint64_t word_bytes = 0
        cdef int error
        if self.reserve(0, SEGMENT_BYTES_MIN) != STATUS_OK:
            raise MemoryError("the reservation limit leaves no room for a segment's first page")
        memset(mark, 0, sizeof(OwnerMark))
        error = owner_claim(mark.mutex, OWNER_MUTEX_BYTES, &word_bytes)
        if error != 0:
            raise OSError(error, f"no mutex that outlives its owner: {os.strerror(error)}")
        self._is_owner = True
        self._owner_pid = getpid()
        if word_bytes < OWNER_MUTEX_BYTES:
            mark.word_offset_bytes = <uint64_t>(&mark.mutex[0] - <uint8_t*>mark) + word_bytes
        return 0

    cdef OwnerMark* owner_mark(self) noexcept nogil:
        return <OwnerMark*>(self.base + OWNER_OFFSET_BYTES)

    cdef int reserve(self, size_t offset_bytes, size_t length_bytes) noexcept nogil:
        cdef int error
        if length_bytes > RESERVE_STEP_BYTES:
            return STATUS_TOO_LARGE
        if (length_bytes > self.reserve_limit_bytes - self.reserved_bytes
                or length_bytes > self.size_bytes
                or offset_bytes > self.size_bytes - length_bytes):
            return STATUS_NO_MEMORY
        error = segment_allocate(self.fd, offset_bytes, length_bytes)
        if error != 0:
            return STATUS_NO_MEMORY if error == ENOSPC or error == ENOMEM else STATUS_SYSTEM
        self.reserved_bytes += length_bytes
        return STATUS_OK

    @property
    def is_alive(self):
        """Whether the owner has neither closed the segment nor ended."""
        return self.base != NULL and owner_lives(self.owner_mark())

    @property
    def address(self):
        """Where the segment is mapped in this process."""
        return <size_t>self.base

    cpdef int reader_fd(self) except -1:
        """A new descriptor that can only read, close-on-exec; the caller closes it.

        Only the segment's creator hands them out.
        """
        if self.fd < 0:
            raise Detached("the segment is closed, or somebody else's")
        cdef int fd = segment_reopen(self.fd, self._read_only_fd)
        if fd < 0:
            _raise_system("a descriptor for readers could not be made")
        return fd

    cpdef close(self):
        """Mark the segment dead and let go of the descriptor. Idempotent.

        The mapping stays until the last reference is gone. To be called by the owning thread;
        from another, the memory stays mapped until the process ends.
        """
        if self._is_owner and getpid() == self._owner_pid:
            store_release_u64(&self.owner_mark().dead, 1)
            if owner_release(self.owner_mark().mutex) == 0:
                self._is_owner = False
        if self._read_only_fd >= 0:
            close(self._read_only_fd)
        if self.fd >= 0:
            close(self.fd)
        self.fd = self._read_only_fd = -1

    def __dealloc__(self):
        self.close()
        # A mutex that is still locked is known to the kernel by its address; but a forked child's
        # kernel record does not have the parent's.
        if self.base != NULL and (not self._is_owner or getpid() != self._owner_pid):
            munmap(self.base, self.size_bytes)
