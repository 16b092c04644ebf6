# Fixed-endian packing and CRC32C without the GIL; pack.h says how, and what callers must check.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

cdef extern from "pack.h" nogil:
    # little-endian, at any alignment
    void put_u8(uint8_t* target, uint8_t value) noexcept
    void put_u16(uint8_t* target, uint16_t value) noexcept
    void put_u32(uint8_t* target, uint32_t value) noexcept
    void put_u64(uint8_t* target, uint64_t value) noexcept
    uint8_t get_u8(const uint8_t* source) noexcept
    uint16_t get_u16(const uint8_t* source) noexcept
    uint32_t get_u32(const uint8_t* source) noexcept
    uint64_t get_u64(const uint8_t* source) noexcept

    # `before` is the checksum of what stands before the data; 0 for nothing.
    uint32_t crc32c_raw "crc32c"(uint32_t before, const void* data, size_t data_bytes) noexcept
    uint32_t crc32c_portable_raw "crc32c_portable"(
        uint32_t before, const void* data, size_t data_bytes) noexcept
