"""What a command from elsewhere must be; command_check.pxd says why."""

from libc.stdint cimport uint8_t
from libc.string cimport memset

from seafoam._core.buffer cimport buffer_free, buffer_reserve, seafoam_buffer
from seafoam._core.json cimport GIL_RELEASE_BYTES, JsonFault, json_compact
from seafoam._core.json_scan cimport json_skip_sequence
from seafoam._core.status cimport (
    STATUS_INVALID,
    STATUS_NO_MEMORY,
    STATUS_NOT_FOUND,
    STATUS_OK,
    STATUS_UNKNOWN_TYPE,
    STATUS_UNKNOWN_VERSION,
)
from seafoam._core.wire cimport (
    CommandCursor,
    OperationView,
    command_begin,
    command_next,
)

from seafoam._core.status import name_of
from seafoam.errors import DataDamaged, StartError


cdef bint _is_utf8(const uint8_t* at, size_t text_bytes) noexcept nogil:
    cdef const uint8_t* end = at + text_bytes
    while at != end:
        at = at + 1 if at[0] < 0x80 else json_skip_sequence(at, end)
        if at == NULL:
            return False
    return True


cdef int _check_value(const uint8_t* text, size_t text_bytes, seafoam_buffer* scratch
                      ) noexcept nogil:
    cdef JsonFault fault
    cdef size_t compact_bytes = 0
    if text_bytes == 0:
        return STATUS_OK  # an operation without one
    if buffer_reserve(scratch, text_bytes) != 0:
        return STATUS_NO_MEMORY
    if json_compact(text, text_bytes, scratch.data, &compact_bytes, &fault) != STATUS_OK:
        return STATUS_INVALID
    return STATUS_OK if compact_bytes == text_bytes else STATUS_INVALID


cdef int command_check(const uint8_t* data, size_t data_bytes) noexcept nogil:
    cdef CommandCursor cursor
    cdef OperationView view
    cdef seafoam_buffer scratch
    cdef int status = command_begin(data, data_bytes, &cursor)
    memset(&scratch, 0, sizeof(scratch))
    while status == STATUS_OK:
        status = command_next(&cursor, &view)
        if status == STATUS_OK:
            status = STATUS_OK if _is_utf8(view.key, view.key_bytes) else STATUS_INVALID
        if status == STATUS_OK:
            status = _check_value(view.value, view.value_bytes, &scratch)
        if status == STATUS_OK:
            status = _check_value(view.old_value, view.old_value_bytes, &scratch)
    buffer_free(&scratch)
    return STATUS_OK if status == STATUS_NOT_FOUND else status


def check_command(bytes data not None):
    """Raise where this command may not go into the log.

    DataDamaged where it is damaged or holds what is no key or value, StartError where it is of a
    later version. It takes 0.1 us, and 0.1 us (one
    string) to 1.3 us (many short fields) for each KiB of values.
    """
    cdef const uint8_t* at = <const uint8_t*><const char*>data
    cdef size_t data_bytes = len(data)
    cdef int status
    if data_bytes > GIL_RELEASE_BYTES:
        with nogil:
            status = command_check(at, data_bytes)
    else:
        status = command_check(at, data_bytes)
    if status == STATUS_NO_MEMORY:
        raise MemoryError
    if status == STATUS_INVALID:
        raise DataDamaged("a command holds a key that is no UTF-8 or a value that is no JSON")
    if status == STATUS_UNKNOWN_TYPE or status == STATUS_UNKNOWN_VERSION:
        raise StartError("a command is of a kind or version that this Seafoam does not know")
    if status != STATUS_OK:
        raise DataDamaged(f"a command is {name_of(status)}")
