# The only atomic operations, named by their ordering; what each is for stands in atomics.h.
# Pointers must be aligned to their size.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "atomics.h" nogil:
    uint8_t load_relaxed_u8(const uint8_t* source) noexcept
    uint32_t load_relaxed_u32(const uint32_t* source) noexcept
    uint64_t load_relaxed_u64(const uint64_t* source) noexcept
    uint32_t load_acquire_u32(const uint32_t* source) noexcept
    uint64_t load_acquire_u64(const uint64_t* source) noexcept

    void store_relaxed_u8(uint8_t* target, uint8_t value) noexcept
    void store_relaxed_u32(uint32_t* target, uint32_t value) noexcept
    void store_relaxed_u64(uint64_t* target, uint64_t value) noexcept
    void store_release_u32(uint32_t* target, uint32_t value) noexcept
    void store_release_u64(uint64_t* target, uint64_t value) noexcept

    # The second look at a sequence: acquire fence, then relaxed load.
    uint32_t validate_load_u32(const uint32_t* source) noexcept
    uint64_t validate_load_u64(const uint64_t* source) noexcept
    # The odd sequence: relaxed store, then release fence.
    void store_then_fence_u64(uint64_t* target, uint64_t value) noexcept

    void fence_acquire() noexcept
    void fence_release() noexcept
    # Once before each retry of a reader's loop.
    void spin_pause() noexcept
