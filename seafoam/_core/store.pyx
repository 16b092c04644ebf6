"""The state machine; store.pxd states what it owns and its invariants."""

from libc.stdint cimport uint8_t

from seafoam._core.json_equal cimport json_equal
from seafoam._core.limits cimport ANSWER_BYTES_MAX, COMPARED_BYTES_MAX, RESULT_FRAME_BYTES
from seafoam._core.map cimport MapWriter, ValueView
from seafoam._core.message cimport (
    ENTRY_COMMAND,
    ENTRY_CONFIGURATION,
    ENTRY_EMPTY,
    ENTRY_FOUNDING,
    Entry,
)
from seafoam._core.status cimport STATUS_NO_MEMORY, STATUS_NOT_FOUND, STATUS_OK
from seafoam._core.status import name_of
from seafoam._core.wire cimport (
    FLAG_BY_VERSION,
    FLAG_ERROR_IF_NOT_KEY,
    FLAG_IF_ABSENT,
    OPERATION_CAS,
    OPERATION_DELETE,
    OPERATION_GET,
    OPERATION_SET,
    CommandCursor,
    OperationView,
    command_begin,
    command_next,
)

from seafoam.errors import CapacityExceeded, InvariantBroken


cdef class OperationResult:
    """What became of one operation; `code` is None where it was done."""

    def __repr__(self):
        return (f"OperationResult(code={self.code} value={self.value} version={self.version} "
                f"deleted={self.deleted})")


cdef class CommandResult:
    """What became of one command: its entry's index, and a result an operation."""

    def __repr__(self):
        return f"CommandResult(index={self.index} results={self.results})"


cdef inline OperationResult _result(str code, bytes value, uint64_t version, bint deleted):
    cdef OperationResult result = OperationResult.__new__(OperationResult)
    result.code = code
    result.value = value
    result.version = version
    result.deleted = deleted
    return result


cdef inline bytes _copy(const ValueView* view):
    return (<const char*>view.value)[:view.value_bytes]


cdef class Store:
    """Applies committed entries to one map, which it alone writes and which is the state behind
    entry `applied_index`."""

    def __cinit__(self, MapWriter writer not None, uint64_t applied_index=0):
        self._map = writer
        self.applied_index = applied_index

    cpdef CommandResult apply(self, Entry entry):
        """Apply one committed entry; the result of a command, else None.

        Raises CapacityExceeded where the map cannot hold it: the node must end, for it can
        neither skip the entry nor go on without it.
        """
        if entry.index != self.applied_index + 1:
            raise InvariantBroken(
                f"entry {entry.index} cannot follow applied index {self.applied_index}")
        cdef CommandResult result = None
        if entry.kind == ENTRY_COMMAND:
            result = self._apply_command(entry)
        elif entry.kind in (ENTRY_EMPTY, ENTRY_FOUNDING, ENTRY_CONFIGURATION):
            self._map.begin(entry.index, False)
            self._map.end()
        else:
            raise InvariantBroken(f"entry {entry.index} is of kind {entry.kind}, unknown here")
        self.applied_index = entry.index
        return result

    cdef CommandResult _apply_command(self, Entry entry):
        cdef CommandCursor cursor
        cdef OperationView operation
        cdef const uint8_t* data = <const uint8_t*><const char*>entry.data
        cdef int status = command_begin(data, len(entry.data), &cursor)
        cdef list results = []
        cdef CommandResult result
        if status != STATUS_OK:
            raise InvariantBroken(f"the command of entry {entry.index} is {name_of(status)}")
        self._room_bytes = ANSWER_BYTES_MAX - RESULT_FRAME_BYTES * cursor.operation_count
        self._compare_bytes = COMPARED_BYTES_MAX
        self._map.begin(entry.index, cursor.operation_count > 1)
        while True:
            status = command_next(&cursor, &operation)
            if status != STATUS_OK:
                break
            results.append(self._perform(&operation, entry.index))
        self._map.end()
        if status != STATUS_NOT_FOUND:  # the end of the operations
            raise InvariantBroken(f"the command of entry {entry.index} is {name_of(status)}")
        result = CommandResult.__new__(CommandResult)
        result.index = entry.index
        result.results = results
        return result

    cdef OperationResult _show(self, str code, const ValueView* found):
        """A result with what is there, or `too_large` where the results have no room for it."""
        if found.value_bytes > self._room_bytes:
            return _result("too_large", None, 0, False)
        self._room_bytes -= found.value_bytes
        return _result(code, _copy(found), found.version, False)

    cdef OperationResult _perform(self, OperationView* operation, uint64_t index):
        if operation.kind == OPERATION_SET:
            return self._set(operation, index)
        if operation.kind == OPERATION_CAS:
            return self._cas(operation, index)
        if operation.kind == OPERATION_DELETE:
            return self._delete(operation)
        if operation.kind != OPERATION_GET:
            raise InvariantBroken(f"operation kind {operation.kind} is unknown here")
        return self._get(operation)

    cdef OperationResult _get(self, OperationView* operation):
        cdef ValueView found
        if self._map.find(operation.key, operation.key_bytes, &found) != STATUS_OK:
            return _result("key_not_found", None, 0, False)
        return self._show(None, &found)

    cdef OperationResult _set(self, OperationView* operation, uint64_t index):
        cdef ValueView found
        if operation.flags & FLAG_IF_ABSENT:
            if self._map.find(operation.key, operation.key_bytes, &found) == STATUS_OK:
                return _result("key_exists", None, found.version, False)
        self._put(operation, index)
        return _result(None, None, index, False)

    cdef OperationResult _cas(self, OperationView* operation, uint64_t index):
        cdef ValueView found
        cdef bint is_equal = False
        cdef int status
        if self._map.find(operation.key, operation.key_bytes, &found) != STATUS_OK:
            return _result("key_not_found", None, 0, False)
        if operation.flags & FLAG_BY_VERSION:
            is_equal = found.version == operation.old_version
        elif found.value_bytes + operation.old_value_bytes > self._compare_bytes:
            return _result("too_large", None, 0, False)
        else:
            self._compare_bytes -= found.value_bytes + operation.old_value_bytes
            status = json_equal(found.value, found.value_bytes,
                                operation.old_value, operation.old_value_bytes, &is_equal)
            if status == STATUS_NO_MEMORY:
                raise CapacityExceeded(f"no memory to compare two values for entry {index}")
            if status != STATUS_OK:
                raise InvariantBroken(f"entry {index} compares what is no JSON")
        if not is_equal:
            return self._show("cas_mismatch", &found)
        self._put(operation, index)
        return _result(None, None, index, False)

    cdef OperationResult _delete(self, OperationView* operation):
        cdef int status = self._map.remove(operation.key, operation.key_bytes)
        if status == STATUS_OK:
            return _result(None, None, 0, True)
        if status != STATUS_NOT_FOUND:
            raise InvariantBroken(f"a delete is {name_of(status)}")
        if operation.flags & FLAG_ERROR_IF_NOT_KEY:
            return _result("key_not_found", None, 0, False)
        return _result(None, None, 0, False)

    cdef bint _put(self, OperationView* operation, uint64_t index) except -1:
        cdef int status = self._map.put(operation.key, operation.key_bytes,
                                        operation.value, operation.value_bytes, index)
        if status == STATUS_OK:
            return True
        raise CapacityExceeded(
            f"the map cannot hold entry {index} ({name_of(status)}, "
            f"{self._map.reserved_bytes} bytes reserved); "
            f"start the node again with a larger --max-memory or on a larger machine"
        )
