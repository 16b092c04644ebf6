# One piece of memory that one process writes and any number of others read.
#
# Owns the descriptor, the mapping, what of it is reserved, and the owner's sign of life. Is the
# only user of mmap. Must never interpret what is kept in it, beyond the owner's mark; must never
# give a reader a descriptor or a mapping that it could write through; must never unmap while a
# Segment object is referenced, for a reader may be inside it without the GIL.
#
# Invariants:
#   S1  The size never changes after creation; on Linux the kernel enforces it, and a descriptor
#       that could still shrink is refused by `attach`.
#   S2  Memory is only ever reserved, never given back, and never past reserve_limit_bytes: beyond
#       what the machine has, the kernel would kill the process instead of failing the call.
#   S3  The owner's mutex is unlocked before its memory is unmapped, or the memory stays mapped:
#       the kernel follows its address when the owning thread ends.
#   S4  Only the process that created a segment may mark it dead: a forked child that lets go of
#       its copy of the object leaves the parent's readers alone.
#
# The creating thread is the owner: when it ends, readers see the segment as dead. It must
# therefore be one that lives as long as the writer does.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from seafoam._core.atomics cimport load_acquire_u64, load_relaxed_u32

cdef enum:
    # Where the owner's mark stands, counted from the segment's start.
    OWNER_OFFSET_BYTES = 128
    OWNER_MUTEX_BYTES = 64
    # What the kernel sets in the mutex's word when its owner dies (FUTEX_OWNER_DIED).
    OWNER_DIED_BIT = 0x40000000

cdef struct OwnerMark:
    # 0 while the segment is in use, 1 for ever after.
    # Written by: the owner, on close, release. Read by: readers after each read, acquire.
    uint64_t dead
    # From this mark's start to the word the kernel marks; 0 where there is none (macOS).
    # Written by: the owner, before any reader has the descriptor. Constant from then on.
    uint64_t word_offset_bytes
    # Written by: the owner (lock, unlock) and the kernel when it dies. Read by: readers, one word,
    # relaxed, for its value alone: nothing is concluded about any other memory.
    uint8_t mutex[OWNER_MUTEX_BYTES]

cdef inline bint owner_lives(const OwnerMark* mark) noexcept nogil:
    cdef const uint8_t* word = <const uint8_t*>mark + mark.word_offset_bytes
    if load_acquire_u64(&mark.dead) != 0:
        return False
    return (mark.word_offset_bytes == 0
            or not load_relaxed_u32(<const uint32_t*>word) & <uint32_t>OWNER_DIED_BIT)

cdef class Segment:
    # what is mapped; constant
    cdef uint8_t* base
    cdef readonly size_t size_bytes
    cdef readonly bint is_writable
    # the creator's descriptor; -1 once closed, and where the segment is somebody else's
    cdef readonly int fd
    cdef int _read_only_fd              # -1 but where a descriptor cannot be reopened
    # the writer's alone
    cdef readonly size_t reserve_limit_bytes
    cdef readonly size_t reserved_bytes
    cdef bint _is_owner                 # the mutex is locked
    cdef long _owner_pid

    cdef int _map(self, int protection, int fd) except -1
    cdef int _claim(self) except -1
    cdef OwnerMark* owner_mark(self) noexcept nogil
    # OK, NO_MEMORY (the limit, or the machine's), TOO_LARGE (over RESERVE_STEP_BYTES), SYSTEM.
    # After anything but OK nothing has been reserved.
    cdef int reserve(self, size_t offset_bytes, size_t length_bytes) noexcept nogil
    cpdef int reader_fd(self) except -1
    cpdef close(self)
