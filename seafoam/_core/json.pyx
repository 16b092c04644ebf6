"""JSON text: check, compact, find a field's value; json.pxd says what JSON is here.

The functions below are the face for Python code and tests; other modules call json.pxd's without
the GIL. They raise `JsonError` for a text that is no JSON and release the GIL for texts of more
than 4 KiB.
"""

from seafoam.errors import ensure

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memcpy, memmove

from seafoam._core.buffer cimport buffer_append, buffer_free, buffer_reserve
from seafoam._core.json_scan cimport *
from seafoam._core.limits cimport JSON_DEPTH_MAX, JSON_EXPONENT_MAX
from seafoam._core.status cimport (
    STATUS_INVALID, STATUS_NO_MEMORY, STATUS_NOT_FOUND, STATUS_OK, STATUS_TOO_LARGE,
)

KIND_NAMES = {
    JSON_OBJECT: "object", JSON_ARRAY: "array", JSON_STRING: "string", JSON_NUMBER: "number",
    JSON_TRUE: "true", JSON_FALSE: "false", JSON_NULL: "null",
}


cdef const char* json_reason(int reason) noexcept nogil:
    cdef const char** phrases = [
        b"there is no fault",
        b"the text ends too early",
        b"the text is empty",
        b"a byte order mark is not allowed",
        b"a value is expected",
        b"a comma must be followed by a value",
        b"a comma must be followed by a name",
        b"a name in double quotes is expected",
        b"a name must be followed by a colon",
        b"a comma or a closing bracket is expected",
        b"a comma or a closing brace is expected",
        b"nothing may follow the value",
        b"the only words are true, false and null",
        b"a digit is expected",
        b"a number of several digits must not begin with a zero",
        b"an exponent must be within a million",
        b"a control character in a string must be escaped",
        b"a backslash must be followed by one of \"\\/bfnrtu",
        b"\\u must be followed by four hexadecimal digits",
        b"an escaped surrogate must be one of a pair, high before low",
        b"the text is not valid UTF-8",
        b"arrays and objects are nested too deeply",
        b"the text must be an object",
    ]
    return phrases[reason] if 0 <= reason < JSON_FAULT_COUNT else phrases[0]


# ---- the scan ----

cdef inline void begin(json_scan* scan, const uint8_t* source, size_t source_bytes,
                       uint8_t* target, int max_depth) noexcept nogil:
    scan.end = source + source_bytes
    scan.run = source
    scan.out = target
    scan.fault_at = source
    scan.reason = JSON_FAULT_NONE
    scan.max_depth = max_depth if max_depth <= JSON_NESTING_MAX else JSON_NESTING_MAX
    scan.escaped = 0


cdef inline int finish(json_scan* scan, const uint8_t* source, const uint8_t* at,
                       JsonFault* fault) noexcept nogil:
    """Nothing but white space may come after the value; the status and the fault."""
    if at != NULL:
        at = skip_space(scan, at)
        if at != scan.end:
            at = json_refuse(scan, at, JSON_FAULT_TRAILING)
    if at == NULL:
        fault.reason = scan.reason
        fault.offset = scan.fault_at - source
        return STATUS_INVALID
    flush(scan, at, at)
    return STATUS_OK


cdef inline void flush(json_scan* scan, const uint8_t* run_end,
                       const uint8_t* next_run) noexcept nogil:
    """Everything since the last white space goes to its place: a text that had none, and is
    compacted in place, is not moved at all."""
    cdef size_t run_bytes
    if scan.out == NULL:
        return
    run_bytes = run_end - scan.run
    if scan.out != scan.run:
        memmove(scan.out, scan.run, run_bytes)
    scan.out += run_bytes
    scan.run = next_run


cdef inline const uint8_t* skip_space(json_scan* scan, const uint8_t* at) noexcept nogil:
    cdef const uint8_t* next_run
    if at == scan.end or at[0] > c' ':
        return at
    next_run = json_skip_space(at, scan.end)
    flush(scan, at, next_run)
    return next_run


cdef inline size_t offset_of(json_scan* scan, const uint8_t* at, uint8_t* target) noexcept nogil:
    """Where `at`, which is not behind the current run, will be in the compact text."""
    return (scan.out - target) + (at - scan.run)


cdef inline const uint8_t* scan_name(json_scan* scan, const uint8_t* at,
                                     bint after_comma) noexcept nogil:
    if at == scan.end:
        return json_refuse(scan, at, JSON_FAULT_ENDS)
    if at[0] != c'"':
        return json_refuse(
            scan, at,
            JSON_FAULT_COMMA_NAME if after_comma and at[0] == c'}' else JSON_FAULT_NAME)
    return json_skip_string(scan, at)


cdef inline const uint8_t* scan_colon(json_scan* scan, const uint8_t* at) noexcept nogil:
    """Behind the colon and the white space around it; `at` is behind the name."""
    at = skip_space(scan, at)
    if at == scan.end:
        return json_refuse(scan, at, JSON_FAULT_ENDS)
    if at[0] != c':':
        return json_refuse(scan, at, JSON_FAULT_COLON)
    return skip_space(scan, at + 1)


cdef inline const uint8_t* scan_comma(json_scan* scan, const uint8_t* at,
                                      uint8_t closing) noexcept nogil:
    """Behind the comma at `at`, up to where the next value begins."""
    at = skip_space(scan, at + 1)
    if closing == c'}':
        at = scan_name(scan, at, True)
        return scan_colon(scan, at) if at != NULL else NULL
    if at != scan.end and at[0] == c']':
        return json_refuse(scan, at, JSON_FAULT_COMMA_VALUE)
    return at


cdef const uint8_t* scan_value(json_scan* scan, const uint8_t* at, JsonSpan* span) noexcept nogil:
    """Behind one whole value, whose first byte is `at`; its kind and depth go into the span.

    What would be recursion is a stack of the brackets that are still to come, a byte a level.
    """
    cdef uint8_t[JSON_NESTING_MAX] outer
    cdef uint8_t closing = 0
    cdef uint8_t byte
    cdef int depth = 0
    cdef int deepest = 0
    while True:
        if at == scan.end:
            return json_refuse(scan, at, JSON_FAULT_ENDS)
        byte = at[0]
        if byte != c'{' and byte != c'[':
            at = json_skip_scalar(scan, at, JSON_EXPONENT_MAX)
            if at == NULL:
                return NULL
        else:
            if depth >= scan.max_depth:
                return json_refuse(scan, at, JSON_FAULT_DEPTH)
            outer[depth] = closing
            closing = byte + 2              # so ASCII has it: [ and ], { and }
            depth += 1
            if depth > deepest:
                deepest = depth
            at = skip_space(scan, at + 1)
            if at == scan.end or at[0] != closing:
                if closing == c'}':
                    at = scan_name(scan, at, False)
                    at = scan_colon(scan, at) if at != NULL else NULL
                    if at == NULL:
                        return NULL
                continue
        # A value has ended, or an empty array or object is about to.
        while depth != 0:
            at = skip_space(scan, at)
            if at == scan.end:
                return json_refuse(scan, at, JSON_FAULT_ENDS)
            byte = at[0]
            if byte == c',':
                at = scan_comma(scan, at, closing)
                if at == NULL:
                    return NULL
                break
            if byte != closing:
                return json_refuse(
                    scan, at,
                    JSON_FAULT_OBJECT_COMMA if closing == c'}' else JSON_FAULT_ARRAY_COMMA)
            depth -= 1
            closing = outer[depth]
            at += 1
        else:
            span.depth = deepest
            return at


cdef inline const uint8_t* scan_start(json_scan* scan, const uint8_t* at) noexcept nogil:
    """The first byte of the text's value."""
    if scan.end - at >= 3 and memcmp(at, b"\xef\xbb\xbf", 3) == 0:
        return json_refuse(scan, at, JSON_FAULT_BYTE_ORDER_MARK)
    at = skip_space(scan, at)
    return at if at != scan.end else json_refuse(scan, at, JSON_FAULT_EMPTY)


# ---- check, compact, fields, elements ----

cdef int json_check(const uint8_t* source, size_t source_bytes, int max_depth,
                    JsonFault* fault) noexcept nogil:
    cdef json_scan scan
    cdef JsonSpan span
    cdef const uint8_t* at
    begin(&scan, source, source_bytes, NULL, max_depth)
    at = scan_start(&scan, source)
    if at != NULL:
        at = scan_value(&scan, at, &span)
    return finish(&scan, source, at, fault)


cdef int json_compact(const uint8_t* source, size_t source_bytes, uint8_t* target,
                      size_t* target_bytes, JsonFault* fault) noexcept nogil:
    cdef json_scan scan
    cdef JsonSpan span
    cdef const uint8_t* at
    cdef int status
    begin(&scan, source, source_bytes, target, JSON_DEPTH_MAX)
    at = scan_start(&scan, source)
    if at != NULL:
        at = scan_value(&scan, at, &span)
    status = finish(&scan, source, at, fault)
    target_bytes[0] = scan.out - target
    return status


cdef const uint8_t* scan_fields(json_scan* scan, const uint8_t* at, uint8_t* target,
                                JsonFields* fields) noexcept nogil:
    """Behind the object whose inside begins at `at`."""
    cdef JsonField field
    at = skip_space(scan, at)
    if at != scan.end and at[0] == c'}':
        return at + 1
    while True:
        field.name_start = offset_of(scan, at, target) + 1
        at = scan_name(scan, at, fields.count != 0)
        if at == NULL:
            return NULL
        field.name_end = offset_of(scan, at, target) - 1
        field.name_escaped = scan.escaped
        at = scan_colon(scan, at)
        if at == NULL:
            return NULL
        field.value.start = offset_of(scan, at, target)
        field.value.kind = json_kind(at[0]) if at != scan.end else 0
        at = scan_value(scan, at, &field.value)
        if at == NULL:
            return NULL
        field.value.end = offset_of(scan, at, target)
        if fields.count < fields.capacity:
            fields.fields[fields.count] = field
        fields.count += 1
        at = skip_space(scan, at)
        if at == scan.end:
            return json_refuse(scan, at, JSON_FAULT_ENDS)
        if at[0] == c'}':
            return at + 1
        if at[0] != c',':
            return json_refuse(scan, at, JSON_FAULT_OBJECT_COMMA)
        at = skip_space(scan, at + 1)


cdef int json_object_fields(const uint8_t* source, size_t source_bytes, uint8_t* target,
                            JsonFields* fields, JsonFault* fault) noexcept nogil:
    cdef json_scan scan
    cdef const uint8_t* at
    cdef int status
    # The object is a level of its own, which scan_value does not see.
    begin(&scan, source, source_bytes, target, fields.max_depth)
    scan.max_depth -= 1
    fields.count = 0
    at = scan_start(&scan, source)
    if at != NULL:
        if at[0] != c'{':
            at = json_refuse(&scan, at, JSON_FAULT_OBJECT)
        elif scan.max_depth < 0:
            at = json_refuse(&scan, at, JSON_FAULT_DEPTH)
        else:
            at = scan_fields(&scan, at + 1, target, fields)
    status = finish(&scan, source, at, fault)
    fields.text_bytes = scan.out - target
    if status == STATUS_OK and fields.count > fields.capacity:
        return STATUS_TOO_LARGE
    return status


cdef int json_next_element(const uint8_t* text, size_t text_bytes, size_t* position,
                           JsonSpan* element) noexcept nogil:
    cdef json_scan scan
    cdef const uint8_t* at
    cdef bint first = position[0] == 0
    if position[0] > text_bytes:
        return STATUS_INVALID
    begin(&scan, text, text_bytes, NULL, JSON_NESTING_MAX)
    at = skip_space(&scan, text + position[0])
    if at == scan.end or (first and at[0] != c'['):
        return STATUS_INVALID
    if first:
        at = skip_space(&scan, at + 1)
        if at == scan.end:
            return STATUS_INVALID
    if at[0] == c']':
        position[0] = at - text
        return STATUS_NOT_FOUND
    if not first:
        if at[0] != c',':
            return STATUS_INVALID
        at = skip_space(&scan, at + 1)
        if at == scan.end:
            return STATUS_INVALID
    element.start = at - text
    element.kind = json_kind(at[0])
    at = scan_value(&scan, at, element)
    if at == NULL:
        return STATUS_INVALID
    element.end = at - text
    position[0] = element.end
    return STATUS_OK


# ---- scalars ----

cdef inline uint8_t short_escape(uint8_t letter) noexcept nogil:
    """What a backslash and this letter mean; the quote, backslash and slash mean themselves."""
    if letter == c'b':
        return 0x08
    if letter == c'f':
        return 0x0C
    if letter == c'n':
        return c'\n'
    if letter == c'r':
        return c'\r'
    if letter == c't':
        return c'\t'
    return letter


cdef int json_unescape(const uint8_t* source, size_t source_bytes, uint8_t* target,
                       size_t* target_bytes) noexcept nogil:
    cdef json_scan scan
    cdef const uint8_t* at = source
    cdef const uint8_t* backslash
    cdef const uint8_t* behind
    cdef uint8_t* out = target
    cdef uint32_t code
    begin(&scan, source, source_bytes, NULL, 0)
    while True:
        backslash = NULL
        if at != scan.end:
            backslash = <const uint8_t*>memchr(at, c'\\', scan.end - at)
        if backslash == NULL:
            backslash = scan.end
        if out != at:
            memmove(out, at, backslash - at)
        out += backslash - at
        if backslash == scan.end:
            target_bytes[0] = out - target
            return STATUS_OK
        # Read whole before anything is written: in place, the escape itself is overwritten.
        behind = json_skip_escape(&scan, backslash)
        if behind == NULL:
            return STATUS_INVALID
        if backslash[1] != c'u':
            out[0] = short_escape(backslash[1])
            out += 1
        else:
            code = json_hex4(backslash + 2)
            if behind - backslash == 12:
                code = 0x10000 + ((code - 0xD800) << 10) + (json_hex4(backslash + 8) - 0xDC00)
            out += json_put_utf8(out, code)
        at = behind


cdef inline size_t put_escape(uint8_t* target, uint8_t byte) noexcept nogil:
    """The shortest escape of a quote, a backslash or a control character; at most six bytes."""
    cdef const char* digits = b"0123456789abcdef"
    cdef uint8_t letter = 0
    if byte == c'"' or byte == c'\\':
        letter = byte
    elif byte == 0x08:
        letter = c'b'
    elif byte == 0x0C:
        letter = c'f'
    elif byte == c'\n':
        letter = c'n'
    elif byte == c'\r':
        letter = c'r'
    elif byte == c'\t':
        letter = c't'
    target[0] = c'\\'
    if letter != 0:
        target[1] = letter
        return 2
    memcpy(target + 1, b"u00", 3)
    target[4] = digits[byte >> 4]
    target[5] = digits[byte & 0xF]
    return 6


cdef int append_quoted(const uint8_t* at, const uint8_t* end,
                       seafoam_buffer* out) noexcept nogil:
    cdef const uint8_t* run = at
    cdef uint8_t[6] escape
    if buffer_append(out, b'"', 1) != 0:
        return STATUS_NO_MEMORY
    while True:
        at = json_skip_plain(at, end)
        if at != end and at[0] >= 0x80:
            at = json_skip_sequence(at, end)
            if at == NULL:
                return STATUS_INVALID
            continue
        if buffer_append(out, run, at - run) != 0:
            return STATUS_NO_MEMORY
        if at == end:
            break
        if buffer_append(out, escape, put_escape(escape, at[0])) != 0:
            return STATUS_NO_MEMORY
        at += 1
        run = at
    return STATUS_OK if buffer_append(out, b'"', 1) == 0 else STATUS_NO_MEMORY


cdef int json_quote(const uint8_t* source, size_t source_bytes,
                    seafoam_buffer* out) noexcept nogil:
    cdef size_t used_bytes = out.used_bytes
    cdef int status = append_quoted(source, source + source_bytes, out)
    if status != STATUS_OK:
        out.used_bytes = used_bytes
    return status


cdef int json_uint64(const uint8_t* source, size_t source_bytes, uint64_t* number) noexcept nogil:
    cdef uint64_t value = 0
    cdef uint64_t most = <uint64_t>-1
    cdef uint8_t digit
    cdef size_t index
    if source_bytes == 0 or (source[0] == c'0' and source_bytes > 1):
        return STATUS_INVALID
    for index in range(source_bytes):
        digit = source[index] - c'0'
        if digit > 9 or value > most // 10 or (value == most // 10 and digit > most % 10):
            return STATUS_INVALID
        value = value * 10 + digit
    number[0] = value
    return STATUS_OK


# ---- the face for Python ----

class JsonError(ValueError):
    """A text is no JSON: ``reason`` says why, ``offset`` at which byte."""

    def __init__(self, reason, offset):
        super().__init__(f"{reason}, at byte {offset}")
        self.reason = reason
        self.offset = offset


cdef int settle(int status, const JsonFault* fault) except -1:
    """The one place where a status becomes an exception."""
    if status == STATUS_INVALID:
        raise JsonError(json_reason(fault.reason).decode("ascii"), fault.offset)
    if status == STATUS_NO_MEMORY:
        raise MemoryError
    if status == STATUS_TOO_LARGE:
        raise OverflowError("the text is too large")
    return 0


cdef bytes take_bytes(seafoam_buffer* buffer):
    return PyBytes_FromStringAndSize(<const char*>buffer.data, buffer.used_bytes)


def check(bytes text not None, int max_depth=JSON_DEPTH_MAX):
    """Raise `JsonError` unless ``text`` is exactly one JSON value, white space around it allowed,
    whose arrays and objects nest at most ``max_depth`` (0 to 1,024) deep."""
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef size_t source_bytes = PyBytes_GET_SIZE(text)
    cdef JsonFault fault
    cdef int status
    if not 0 <= max_depth <= JSON_NESTING_MAX:
        raise ValueError(f"max_depth must be from 0 to {JSON_NESTING_MAX}")
    if source_bytes > GIL_RELEASE_BYTES:
        with nogil:
            status = json_check(source, source_bytes, max_depth, &fault)
    else:
        status = json_check(source, source_bytes, max_depth, &fault)
    settle(status, &fault)


def compact(bytes text not None):
    """The same JSON without insignificant white space; every number and string as it is written.
    Raises `JsonError`."""
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef size_t source_bytes = PyBytes_GET_SIZE(text)
    cdef seafoam_buffer target = seafoam_buffer(NULL, 0, 0)
    cdef JsonFault fault
    cdef int status
    try:
        if buffer_reserve(&target, source_bytes + 1) != 0:
            raise MemoryError
        if source_bytes > GIL_RELEASE_BYTES:
            with nogil:
                status = json_compact(
                    source, source_bytes, target.data, &target.used_bytes, &fault)
        else:
            status = json_compact(source, source_bytes, target.data, &target.used_bytes, &fault)
        settle(status, &fault)
        return take_bytes(&target)
    finally:
        buffer_free(&target)


def fields(bytes text not None, int max_depth=JSON_DEPTH_MAX):
    """The fields of a text that is one object, in order: ``(name, kind, compact text)`` each, the
    kind as ``"object"``, ``"array"``, ``"string"``, ``"number"``, ``"true"``, ``"false"`` or
    ``"null"``. The object and what is in it may nest ``max_depth`` (1 to 1,024) deep. Raises
    `JsonError`."""
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef size_t source_bytes = PyBytes_GET_SIZE(text)
    cdef seafoam_buffer target = seafoam_buffer(NULL, 0, 0)
    cdef seafoam_buffer memory = seafoam_buffer(NULL, 0, 0)
    cdef JsonFields found
    cdef JsonFault fault
    cdef int status
    # The shortest field, with the comma behind it, is "":0, and takes five bytes.
    found.capacity = source_bytes // 5 + 1
    found.max_depth = max_depth
    if not 1 <= max_depth <= JSON_NESTING_MAX:
        raise ValueError(f"max_depth must be from 1 to {JSON_NESTING_MAX}")
    try:
        if (buffer_reserve(&target, source_bytes + 1) != 0
                or buffer_reserve(&memory, found.capacity * sizeof(JsonField)) != 0):
            raise MemoryError
        found.fields = <JsonField*>memory.data
        if source_bytes > GIL_RELEASE_BYTES:
            with nogil:
                status = json_object_fields(source, source_bytes, target.data, &found, &fault)
        else:
            status = json_object_fields(source, source_bytes, target.data, &found, &fault)
        settle(status, &fault)
        return list_fields(target.data, &found)
    finally:
        buffer_free(&target)
        buffer_free(&memory)


cdef list list_fields(uint8_t* text, const JsonFields* found):
    """Names are unescaped where they stand, so `text` is no JSON afterwards."""
    cdef list listed = []
    cdef const JsonField* field
    cdef size_t name_bytes
    cdef size_t index
    cdef int status
    for index in range(found.count):
        field = found.fields + index
        name_bytes = field.name_end - field.name_start
        if field.name_escaped:
            status = json_unescape(
                text + field.name_start, name_bytes, text + field.name_start, &name_bytes)
            ensure(status == STATUS_OK, "a checked name cannot be unescaped")
        listed.append((
            PyUnicode_DecodeUTF8(<const char*>text + field.name_start, name_bytes, NULL),
            KIND_NAMES[field.value.kind],
            PyBytes_FromStringAndSize(
                <const char*>text + field.value.start, field.value.end - field.value.start)))
    return listed


def elements(bytes text not None):
    """The compact texts of an array's elements. Raises `JsonError`; ValueError for another kind
    of value."""
    return split(compact(text))


def split(bytes array not None):
    """The texts of the elements of an array that was checked before, as they stand in it. Raises
    ValueError for another kind of value."""
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(array)
    cdef size_t source_bytes = PyBytes_GET_SIZE(array)
    cdef size_t position = 0
    cdef JsonSpan span
    cdef list found = []
    cdef int status
    if array[:1] != b"[":
        raise ValueError("the text must be an array")
    while True:
        if source_bytes > GIL_RELEASE_BYTES:
            with nogil:
                status = json_next_element(source, source_bytes, &position, &span)
        else:
            status = json_next_element(source, source_bytes, &position, &span)
        if status != STATUS_OK:
            return found
        found.append(array[span.start:span.end])


def quote(text not None):
    """A str, or bytes of UTF-8, as a JSON string with its quotes. Raises ValueError for what is
    no UTF-8, a lone surrogate included."""
    cdef bytes encoded = text.encode("utf-8") if isinstance(text, str) else text
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(encoded)
    cdef size_t source_bytes = PyBytes_GET_SIZE(encoded)
    cdef seafoam_buffer target = seafoam_buffer(NULL, 0, 0)
    cdef JsonFault fault = JsonFault(JSON_FAULT_UTF8, 0)
    cdef int status
    try:
        if source_bytes > GIL_RELEASE_BYTES:
            with nogil:
                status = json_quote(source, source_bytes, &target)
        else:
            status = json_quote(source, source_bytes, &target)
        if status == STATUS_INVALID:
            encoded.decode("utf-8")
        settle(status, &fault)
        return take_bytes(&target)
    finally:
        buffer_free(&target)


def unescape(bytes text not None):
    """What the inside of a JSON string, without its quotes, means, as UTF-8. Raises `JsonError`
    with the offset inside of ``text``."""
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef size_t source_bytes = PyBytes_GET_SIZE(text)
    cdef seafoam_buffer target = seafoam_buffer(NULL, 0, 0)
    cdef int status
    try:
        check(b'"' + text + b'"')
    except JsonError as error:
        # A backslash at the end escapes the quote that is put behind it.
        raise JsonError(error.reason, min(error.offset - 1, len(text))) from None
    try:
        if buffer_reserve(&target, source_bytes + 1) != 0:
            raise MemoryError
        if source_bytes > GIL_RELEASE_BYTES:
            with nogil:
                status = json_unescape(source, source_bytes, target.data, &target.used_bytes)
        else:
            status = json_unescape(source, source_bytes, target.data, &target.used_bytes)
        ensure(status == STATUS_OK, "a checked string cannot be unescaped")
        return take_bytes(&target)
    finally:
        buffer_free(&target)


def uint64(bytes text not None):
    """The number an integer literal from 0 to 2^64-1 writes, or None for anything else."""
    cdef uint64_t number
    if json_uint64(<const uint8_t*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text),
                   &number) != STATUS_OK:
        return None
    return number
