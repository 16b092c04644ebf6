"""The short way of a read; read_path.pxd states what it answers and its invariants."""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy

from seafoam._core.buffer cimport buffer_append, buffer_free, buffer_reserve, seafoam_buffer
from seafoam._core.http cimport (
    DECIMAL_BYTES_MAX, ROUTE_BATCH, ROUTE_CAS, ROUTE_DELETE, ROUTE_GET, ROUTE_NONE, ROUTE_SCAN,
    ROUTE_SET, Hosts, Responder, http_parse_head, http_put_head, put_decimal_u64,
)
from seafoam._core.json cimport (
    JSON_ARRAY, JSON_NUMBER, JSON_STRING, JsonFault, JsonField, JsonFields, JsonSpan,
    json_next_element, json_object_fields, json_uint64, json_unescape,
)
from seafoam._core.limits cimport (
    JSON_DEPTH_MAX, KEY_BYTES_MAX, KEY_BYTES_MIN, KEYS_PER_READ_MAX,
)
from seafoam._core.map cimport MapReader, ReadItem
from seafoam._core.status cimport (
    STATUS_CAREFUL, STATUS_CONTENDED, STATUS_DETACHED, STATUS_NEED_MORE, STATUS_NO_MEMORY,
    STATUS_NOT_FOUND, STATUS_OK, STATUS_TOO_LARGE,
)
from seafoam._core.status import name_of
from seafoam.errors import Detached, InvariantBroken

cdef enum:
    # A pass ends once its answers are this long, so that a client that does not read them is
    # noticed, and the loop has its other connections to serve.
    OUTPUT_BYTES_MAX = 262144
    # Memory above this is given back after a pass: it served one large answer.
    KEPT_BYTES_MAX = 1048576
    # A plain get has key or keys, and msg_id.
    FIELDS_MAX = 2
    # What a pass's own functions return beside a Status: the request is for somebody else.
    NOT_PLAIN = 100

_NAMES = {
    ROUTE_NONE: "", ROUTE_GET: "get", ROUTE_SET: "set", ROUTE_CAS: "cas", ROUTE_DELETE: "delete",
    ROUTE_BATCH: "batch", ROUTE_SCAN: "scan",
}


cdef inline bint is_named(const uint8_t* body, const JsonField* field, const char* name,
                          size_t name_bytes) noexcept nogil:
    return (field.name_end - field.name_start == name_bytes and not field.name_escaped
            and memcmp(body + field.name_start, name, name_bytes) == 0)


cdef int read_get_body(const uint8_t* body, const JsonFields* found, GetBody* get) noexcept nogil:
    """STATUS_OK, or NOT_PLAIN for what api.py has to look at."""
    cdef const JsonField* field
    cdef uint64_t number
    cdef size_t index
    get.has_key = get.has_keys = get.has_msg_id = False
    for index in range(found.count):
        field = found.fields + index
        if is_named(body, field, b"key", 3) and field.value.kind == JSON_STRING:
            if get.has_key:
                return NOT_PLAIN
            get.has_key, get.key = True, field.value
        elif is_named(body, field, b"keys", 4) and field.value.kind == JSON_ARRAY:
            if get.has_keys:
                return NOT_PLAIN
            get.has_keys, get.keys = True, field.value
        elif is_named(body, field, b"msg_id", 6) and field.value.kind == JSON_NUMBER:
            if get.has_msg_id or json_uint64(body + field.value.start,
                                             field.value.end - field.value.start, &number):
                return NOT_PLAIN
            get.has_msg_id, get.msg_id = True, field.value
        else:
            return NOT_PLAIN
    return STATUS_OK if get.has_key != get.has_keys else NOT_PLAIN


cdef inline int read_key(uint8_t* body, const JsonSpan* span, const uint8_t** key,
                         size_t* key_bytes) noexcept nogil:
    """A key's bytes, unescaped where it stands; NOT_PLAIN where there can be no such key."""
    cdef uint8_t* text = body + span.start + 1
    if span.kind != JSON_STRING:
        return NOT_PLAIN
    if json_unescape(text, span.end - span.start - 2, text, key_bytes) != STATUS_OK:
        return NOT_PLAIN
    key[0] = text
    return STATUS_OK if KEY_BYTES_MIN <= key_bytes[0] <= KEY_BYTES_MAX else NOT_PLAIN


cdef inline int put(seafoam_buffer* out, const void* text, size_t text_bytes) noexcept nogil:
    return STATUS_NO_MEMORY if buffer_append(out, text, text_bytes) else STATUS_OK


cdef inline int put_number(seafoam_buffer* out, uint64_t number) noexcept nogil:
    if buffer_reserve(out, DECIMAL_BYTES_MAX):
        return STATUS_NO_MEMORY
    out.used_bytes += put_decimal_u64(out.data + out.used_bytes, number)
    return STATUS_OK


cdef ErrorStart error_start(dict errors, str code) except *:
    cdef bytes text = errors[code]
    cdef ErrorStart start
    start.text = <const uint8_t*>PyBytes_AS_STRING(text)
    start.text_bytes = <size_t>len(text)
    return start


cdef class ReadPath:
    """Answers plain reads for the connections of one thread.

    `errors` has, by code, the JSON text of the errors that are answered here, each without the
    brace that ends it: ``key_not_found``, ``overloaded``.
    """

    def __cinit__(self, MapReader reader not None, Hosts hosts not None,
                  Responder responder not None, dict errors not None):
        self._reader = reader
        self._hosts = hosts
        self._responder = responder
        self._errors = dict(errors)
        self._key_not_found = error_start(self._errors, "key_not_found")
        self._overloaded = error_start(self._errors, "overloaded")

    def __dealloc__(self):
        buffer_free(&self._body)
        buffer_free(&self._values)
        buffer_free(&self._items)
        buffer_free(&self._content)
        buffer_free(&self._output)

    # -- from Python -----------------------------------------------------------------------------

    @property
    def name(self):
        """The name of the call a pass stopped at, such as ``"set"``; empty where its head is not
        whole or not plainly valid."""
        return _NAMES[self._head.route]

    def serve(self, data):
        """Answer the plain reads at the front of `data`, bytes or a bytearray.

        The answers; `stop` and what goes with it say what became of the rest. Raises Detached
        where the map has no live writer.
        """
        return self._run(data, True)

    def parse(self, data):
        """Look at the request at the front of `data` and answer nothing: a plain read is
        STOP_OTHER too."""
        self._run(data, False)

    cdef bytes _run(self, data, bint answers):
        cdef const uint8_t* source
        cdef size_t source_bytes
        cdef int status
        if isinstance(data, bytes):
            source = <const uint8_t*>PyBytes_AS_STRING(data)
        elif isinstance(data, bytearray):
            source = <const uint8_t*>PyByteArray_AS_STRING(data)
        else:
            raise TypeError(f"bytes or a bytearray, not {type(data).__name__}")
        if self._is_running:
            raise InvariantBroken("two threads serve with one read path")
        source_bytes = <size_t>len(data)
        self._is_running = True
        self._output.used_bytes = 0
        self.used_bytes = 0
        with nogil:
            if answers:
                status = self._serve(source, source_bytes)
            else:
                status = self._find_call(source, source_bytes)
        self._is_running = False
        return self._finish(status)

    cdef bytes _finish(self, int status):
        cdef bytes answers
        if status != STATUS_OK:
            # Not in one line with `ensure`: its message would be made for every pass.
            if status == STATUS_DETACHED:
                raise Detached("the node's map is closed")
            if status == STATUS_NO_MEMORY:
                raise MemoryError
            raise InvariantBroken(f"a pass of reads ended as {name_of(status)}")
        answers = PyBytes_FromStringAndSize(<const char*>self._output.data,
                                            <Py_ssize_t>self._output.used_bytes)
        if self._output.capacity_bytes > KEPT_BYTES_MAX:
            buffer_free(&self._output)
            buffer_free(&self._content)
            buffer_free(&self._values)
        if self._body.capacity_bytes > KEPT_BYTES_MAX:
            buffer_free(&self._body)
        return answers

    # -- one pass --------------------------------------------------------------------------------

    cdef int _serve(self, const uint8_t* source, size_t source_bytes) noexcept nogil:
        cdef size_t used_bytes = 0
        cdef int status
        while True:
            status = self._find_call(source + used_bytes, source_bytes - used_bytes)
            if status != STATUS_OK or self.stop != STOP_OTHER or self._head.route != ROUTE_GET:
                return status
            status = self._answer_get(source + used_bytes + self._head.head_bytes,
                                      self._head.body_bytes)
            if status == NOT_PLAIN:
                return STATUS_OK
            if status != STATUS_OK:
                return status
            used_bytes += self._head.head_bytes + self._head.body_bytes
            self.used_bytes = <Py_ssize_t>used_bytes
            self.answered_count += 1
            if self._output.used_bytes >= OUTPUT_BYTES_MAX and used_bytes < source_bytes:
                self.stop = STOP_FULL
                return STATUS_OK

    cdef int _find_call(self, const uint8_t* source, size_t source_bytes) noexcept nogil:
        """Set `stop` and the lengths for the request at the front of `source`."""
        cdef int status
        self._head.route = ROUTE_NONE
        self.head_bytes = 0
        self.call_bytes = <Py_ssize_t>source_bytes + 1
        if source_bytes == 0:
            self.stop = STOP_END
            return STATUS_OK
        status = http_parse_head(source, source_bytes, &self._hosts.rules, &self._head)
        if status == STATUS_OK:
            self.head_bytes = <Py_ssize_t>self._head.head_bytes
            self.call_bytes = <Py_ssize_t>(self._head.head_bytes + self._head.body_bytes)
            self.stop = (STOP_OTHER if <size_t>self.call_bytes <= source_bytes
                         else STOP_NEED_MORE)
        else:
            self.stop = STOP_CAREFUL if status == STATUS_CAREFUL else STOP_NEED_MORE
        return STATUS_OK

    cdef int _answer_get(self, const uint8_t* body, size_t body_bytes) noexcept nogil:
        """Append the answer to one /get; NOT_PLAIN where it is not for this path."""
        cdef JsonField fields[FIELDS_MAX]
        cdef JsonFields found
        cdef JsonFault fault
        cdef GetBody get
        self._body.used_bytes = 0
        if buffer_reserve(&self._body, body_bytes + 1):
            return STATUS_NO_MEMORY
        found.fields = fields
        found.capacity = FIELDS_MAX
        found.max_depth = JSON_DEPTH_MAX
        if json_object_fields(body, body_bytes, self._body.data, &found, &fault) != STATUS_OK:
            return NOT_PLAIN
        if read_get_body(self._body.data, &found, &get) != STATUS_OK:
            return NOT_PLAIN
        self._content.used_bytes = 0
        return self._answer_one(&get) if get.has_key else self._answer_many(&get)

    # -- one key ---------------------------------------------------------------------------------

    cdef int _answer_one(self, GetBody* get) noexcept nogil:
        cdef seafoam_buffer* out = &self._content
        cdef const uint8_t* key
        cdef size_t key_bytes
        cdef uint64_t version = 0
        cdef int status = read_key(self._body.data, &get.key, &key, &key_bytes)
        if status != STATUS_OK:
            return status
        if put(out, b'{"value":', 9):
            return STATUS_NO_MEMORY
        status = self._reader.get_into(key, key_bytes, out, &version)
        if status == STATUS_NOT_FOUND:
            return self._answer_error(404, &self._key_not_found, get)
        if status == STATUS_CONTENDED:
            return self._answer_error(429, &self._overloaded, get)
        if status != STATUS_OK:
            return status
        if put(out, b',', 1):
            return STATUS_NO_MEMORY
        if get.has_msg_id and (self._put_reply(get) or put(out, b',', 1)):
            return STATUS_NO_MEMORY
        if put(out, b'"version":', 10) or put_number(out, version) or put(out, b'}', 1):
            return STATUS_NO_MEMORY
        return self._send(200)

    # -- several keys ----------------------------------------------------------------------------

    cdef int _answer_many(self, GetBody* get) noexcept nogil:
        cdef size_t count = 0
        cdef int status = self._find_keys(get.keys, &count)
        if status != STATUS_OK:
            return status
        self._values.used_bytes = 0
        status = self._reader.get_many_into(<ReadItem*>self._items.data, count, &self._values,
                                            MANY_BYTES_MAX)
        if status == STATUS_TOO_LARGE:
            return NOT_PLAIN
        if status == STATUS_CONTENDED:
            return self._answer_error(429, &self._overloaded, get)
        if status == STATUS_OK:
            status = self._render_many(count, get)
        return self._send(200) if status == STATUS_OK else status

    cdef int _find_keys(self, JsonSpan keys, size_t* count) noexcept nogil:
        """The keys of the array as `_items`."""
        cdef const uint8_t* text = self._body.data + keys.start
        cdef ReadItem* item
        cdef JsonSpan element
        cdef size_t position = 0
        cdef int status
        self._items.used_bytes = 0
        while True:
            status = json_next_element(text, keys.end - keys.start, &position, &element)
            if status == STATUS_NOT_FOUND:
                return STATUS_OK if count[0] else NOT_PLAIN
            if status != STATUS_OK or count[0] == KEYS_PER_READ_MAX:
                return NOT_PLAIN
            if buffer_reserve(&self._items, sizeof(ReadItem)):
                return STATUS_NO_MEMORY
            item = <ReadItem*>(self._items.data + self._items.used_bytes)
            element.start += keys.start
            element.end += keys.start
            status = read_key(self._body.data, &element, &item.key, &item.key_bytes)
            if status != STATUS_OK:
                return status
            self._items.used_bytes += sizeof(ReadItem)
            count[0] += 1

    cdef int _render_many(self, size_t count, GetBody* get) noexcept nogil:
        """The body of an answer about `_items`."""
        cdef const ReadItem* items = <const ReadItem*>self._items.data
        cdef seafoam_buffer* out = &self._content
        cdef size_t index
        cdef int failed = put(out, b'{"values":[', 11)
        for index in range(count):
            if index:
                failed |= put(out, b',', 1)
            if items[index].found:
                failed |= put(out, self._values.data + items[index].value_start,
                              items[index].value_bytes)
            else:
                failed |= put(out, b'null', 4)
        failed |= put(out, b'],"found":[', 11)
        for index in range(count):
            if index:
                failed |= put(out, b',', 1)
            failed |= put(out, b'true', 4) if items[index].found else put(out, b'false', 5)
        failed |= put(out, b'],"versions":[', 14)
        for index in range(count):
            if index:
                failed |= put(out, b',', 1)
            failed |= put_number(out, items[index].version if items[index].found else 0)
        failed |= put(out, b']', 1)
        if get.has_msg_id:
            failed |= put(out, b',', 1)
            failed |= self._put_reply(get)
        failed |= put(out, b'}', 1)
        return STATUS_NO_MEMORY if failed else STATUS_OK

    # -- answers ---------------------------------------------------------------------------------

    cdef int _put_reply(self, GetBody* get) noexcept nogil:
        if put(&self._content, b'"in_reply_to":', 14):
            return STATUS_NO_MEMORY
        return put(&self._content, self._body.data + get.msg_id.start,
                   get.msg_id.end - get.msg_id.start)

    cdef int _answer_error(self, int http_status, ErrorStart* start,
                           GetBody* get) noexcept nogil:
        self._content.used_bytes = 0
        if put(&self._content, start.text, start.text_bytes):
            return STATUS_NO_MEMORY
        if get.has_msg_id and (put(&self._content, b',', 1) or self._put_reply(get)):
            return STATUS_NO_MEMORY
        if put(&self._content, b'}', 1):
            return STATUS_NO_MEMORY
        return self._send(http_status)

    cdef int _send(self, int http_status) noexcept nogil:
        """Append head and content to the pass's answers; the index is loaded here (P2)."""
        cdef uint64_t index = self._reader.applying_index_now()
        cdef int status = http_put_head(&self._output, &self._responder.constants, http_status,
                                        self._content.used_bytes, index)
        if status != STATUS_OK:
            return status
        return put(&self._output, self._content.data, self._content.used_bytes)
