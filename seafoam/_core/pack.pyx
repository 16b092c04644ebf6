"""CRC32C as Python sees it, for tests and tools; the cores use pack.h directly."""

from libc.stdint cimport uint32_t


def crc32c(const unsigned char[::1] data not None, uint32_t before=0):
    """The CRC32C of `data`, going on from `before`, the checksum of what stands before it."""
    return crc32c_raw(before, &data[0], len(data)) if len(data) else before


def crc32c_portable(const unsigned char[::1] data not None, uint32_t before=0):
    """The same from a table, as on processors without the instruction."""
    return crc32c_portable_raw(before, &data[0], len(data)) if len(data) else before
