# A growing byte buffer for code without the GIL; see buffer.h.

from libc.stdint cimport uint8_t

cdef extern from "buffer.h" nogil:
    ctypedef struct seafoam_buffer:
        uint8_t* data
        size_t used_bytes
        size_t capacity_bytes
    int buffer_reserve(seafoam_buffer* buffer, size_t extra_bytes) noexcept
    int buffer_append(seafoam_buffer* buffer, const void* source, size_t source_bytes) noexcept
    void buffer_free(seafoam_buffer* buffer) noexcept
