"""HTTP/1.1 without I/O: plainly valid requests recognised, answers put together.

http.pxd says what plainly valid means and which rules hold; seafoam/http_careful.py takes the
rest. Sections of RFC 9112 and RFC 9110 are named where a rule comes from them.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strlen
from seafoam._core.buffer cimport buffer_free, buffer_reserve, seafoam_buffer
from seafoam._core.limits cimport BODY_BYTES_MAX, HEAD_BYTES_MAX
from seafoam._core.status cimport (
    STATUS_CAREFUL, STATUS_INVALID, STATUS_NEED_MORE, STATUS_NO_MEMORY, STATUS_NOT_FOUND,
    STATUS_OK,
)

cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char* source, void* target) noexcept

cdef extern from "sys/socket.h" nogil:
    int AF_INET6

cdef extern from *:
    int __builtin_ctzll(unsigned long long value) noexcept nogil

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Names whose value this server ignores; with the four it reads, all that a plain head may have.
# The longest of them, its colon included, bounds how long an incomplete name is waited for.
cdef enum HeaderKind:
    HEADER_UNKNOWN
    HEADER_HARMLESS
    HEADER_HOST
    HEADER_CONTENT_LENGTH
    HEADER_CONNECTION

cdef enum:
    NAME_BYTES_MAX = 16             # "accept-encoding:" and "accept-language:"
    LENGTH_DIGITS_MAX = 7           # no length of more digits is within BODY_BYTES_MAX
    IPV6_TEXT_BYTES_MAX = 45        # with an IPv4 tail, RFC 4291 section 2.2
    PORT_MAX = 65535
    PORT_DIGITS_MAX = 5
    HOST_NAME_BYTES_MAX = 253       # RFC 1035 section 2.3.4, without the root's dot
    DATE_BYTES = 29                 # RFC 9110 section 5.6.7
    CLUSTER_ID_BYTES = 16

cdef struct Header:
    int kind
    size_t value_start              # offsets into src, spaces around the value left out
    size_t value_end
    size_t next_line


# -- the request line ----------------------------------------------------------------------------

cdef inline int match_line(const uint8_t* src, size_t src_bytes, const char* line,
                           size_t line_bytes) noexcept nogil:
    if src_bytes >= line_bytes:
        return STATUS_OK if memcmp(src, line, line_bytes) == 0 else STATUS_CAREFUL
    return STATUS_NEED_MORE if memcmp(src, line, src_bytes) == 0 else STATUS_CAREFUL


cdef inline int match_request_line(const uint8_t* src, size_t src_bytes, int* route,
                                   size_t* line_bytes) noexcept nogil:
    """The first bytes that tell the routes apart choose the one line to compare with."""
    cdef uint8_t first
    if src_bytes < 8:
        if memcmp(src, b"POST /", src_bytes if src_bytes < 6 else 6) != 0:
            return STATUS_CAREFUL
        return STATUS_NEED_MORE
    first = src[6]
    if first == c"g":
        route[0], line_bytes[0] = ROUTE_GET, 20
        return match_line(src, src_bytes, b"POST /get HTTP/1.1\r\n", 20)
    if first == c"s" and src[7] == c"e":
        route[0], line_bytes[0] = ROUTE_SET, 20
        return match_line(src, src_bytes, b"POST /set HTTP/1.1\r\n", 20)
    if first == c"b":
        route[0], line_bytes[0] = ROUTE_BATCH, 22
        return match_line(src, src_bytes, b"POST /batch HTTP/1.1\r\n", 22)
    if first == c"c":
        route[0], line_bytes[0] = ROUTE_CAS, 20
        return match_line(src, src_bytes, b"POST /cas HTTP/1.1\r\n", 20)
    if first == c"d":
        route[0], line_bytes[0] = ROUTE_DELETE, 23
        return match_line(src, src_bytes, b"POST /delete HTTP/1.1\r\n", 23)
    if first == c"s":
        route[0], line_bytes[0] = ROUTE_SCAN, 21
        return match_line(src, src_bytes, b"POST /scan HTTP/1.1\r\n", 21)
    return STATUS_CAREFUL


# -- header lines --------------------------------------------------------------------------------

cdef inline bint begins_with(const uint8_t* at, size_t left_bytes, const char* lower,
                             size_t lower_bytes) noexcept nogil:
    """Whether `at` begins with a lower-case literal, its letters in either case.

    Only letters are folded: setting bit 0x20 everywhere would make a CR equal to '-'.
    """
    cdef size_t index
    cdef uint8_t different = 0
    if left_bytes < lower_bytes:
        return False
    for index in range(lower_bytes):
        different |= (at[index] | (0x20 if lower[index] >= c"a" else 0)) ^ <uint8_t>lower[index]
    return different == 0


cdef inline bint is_name(const uint8_t* at, size_t left_bytes, const char* lower,
                         size_t lower_bytes, size_t* name_bytes) noexcept nogil:
    name_bytes[0] = lower_bytes
    return begins_with(at, left_bytes, lower, lower_bytes)


cdef inline int name_header(const uint8_t* at, size_t left_bytes,
                            size_t* name_bytes) noexcept nogil:
    """The kind of the header that begins at `at`; name_bytes includes its colon."""
    cdef uint8_t first = at[0] | 0x20
    if first == c"h":
        if is_name(at, left_bytes, b"host:", 5, name_bytes):
            return HEADER_HOST
    elif first == c"c":
        if is_name(at, left_bytes, b"content-length:", 15, name_bytes):
            return HEADER_CONTENT_LENGTH
        if is_name(at, left_bytes, b"content-type:", 13, name_bytes):
            return HEADER_HARMLESS
        if is_name(at, left_bytes, b"connection:", 11, name_bytes):
            return HEADER_CONNECTION
        if is_name(at, left_bytes, b"cache-control:", 14, name_bytes):
            return HEADER_HARMLESS
    elif first == c"a":
        if (is_name(at, left_bytes, b"accept:", 7, name_bytes)
                or is_name(at, left_bytes, b"accept-encoding:", 16, name_bytes)
                or is_name(at, left_bytes, b"accept-language:", 16, name_bytes)):
            return HEADER_HARMLESS
    elif first == c"u":
        if is_name(at, left_bytes, b"user-agent:", 11, name_bytes):
            return HEADER_HARMLESS
    else:
        return name_rare_header(at, left_bytes, name_bytes)
    return HEADER_UNKNOWN


cdef int name_rare_header(const uint8_t* at, size_t left_bytes,
                          size_t* name_bytes) noexcept nogil:
    """What tracing libraries and the fetch of JavaScript servers add."""
    if (is_name(at, left_bytes, b"traceparent:", 12, name_bytes)
            or is_name(at, left_bytes, b"tracestate:", 11, name_bytes)
            or is_name(at, left_bytes, b"x-request-id:", 13, name_bytes)
            or is_name(at, left_bytes, b"sec-fetch-mode:", 15, name_bytes)):
        return HEADER_HARMLESS
    return HEADER_UNKNOWN


cdef inline uint64_t load_little_u64(const uint8_t* at) noexcept nogil:
    # Written so that the first byte is the lowest on every machine; compiled to one load.
    return (<uint64_t>at[0] | <uint64_t>at[1] << 8 | <uint64_t>at[2] << 16
            | <uint64_t>at[3] << 24 | <uint64_t>at[4] << 32 | <uint64_t>at[5] << 40
            | <uint64_t>at[6] << 48 | <uint64_t>at[7] << 56)


cdef inline size_t skip_printable(const uint8_t* src, size_t start, size_t end) noexcept nogil:
    """The offset of the first byte outside 0x20-0x7e at or behind `start`, or `end`.

    Eight bytes at once: of a printable byte neither b - 0x20 nor b + 1 has its top bit set, of
    any other byte at least one has. Below the first such byte nothing borrows or carries, so the
    lowest bit found is that byte's.
    """
    cdef uint64_t word, found
    while end - start >= 8:
        word = load_little_u64(src + start)
        found = (((word - <uint64_t>0x2020202020202020) | (word + <uint64_t>0x0101010101010101))
                 & <uint64_t>0x8080808080808080)
        if found:
            return start + (<size_t>__builtin_ctzll(found) >> 3)
        start += 8
    while start < end and src[start] >= 0x20 and src[start] <= 0x7e:
        start += 1
    return start


cdef int wait_for_name(const uint8_t* src, size_t start, size_t end) noexcept nogil:
    """NEED_MORE while the bytes left may be the beginning of a known name, else CAREFUL.

    What has no space or line end yet and is shorter than the longest name might be. That it
    really is one need not be checked: its line end, at the latest, decides.
    """
    cdef size_t at
    if end - start >= NAME_BYTES_MAX:
        return STATUS_CAREFUL
    for at in range(start, end):
        if src[at] <= c" ":
            return STATUS_CAREFUL
    return STATUS_NEED_MORE


cdef inline int read_header(const uint8_t* src, size_t start, size_t end,
                            Header* header) noexcept nogil:
    """One header line from `start`; OK, NEED_MORE or CAREFUL."""
    cdef size_t at, name_bytes = 0
    header.kind = name_header(src + start, end - start, &name_bytes)
    if header.kind == HEADER_UNKNOWN:
        return wait_for_name(src, start, end)
    at = start + name_bytes
    while at < end and src[at] == c" ":
        at += 1
    header.value_start = at
    at = skip_printable(src, at, end)
    if end - at < 2:
        return STATUS_NEED_MORE if at == end or src[at] == c"\r" else STATUS_CAREFUL
    if src[at] != c"\r" or src[at + 1] != c"\n":
        return STATUS_CAREFUL
    header.next_line = at + 2
    while at > header.value_start and src[at - 1] == c" ":
        at -= 1
    header.value_end = at
    return STATUS_OK


cdef inline int read_length(const uint8_t* digits, size_t digits_bytes,
                            size_t* length) noexcept nogil:
    cdef size_t index, value = 0
    if digits_bytes == 0 or digits_bytes > LENGTH_DIGITS_MAX:
        return STATUS_CAREFUL
    for index in range(digits_bytes):
        if digits[index] < c"0" or digits[index] > c"9":
            return STATUS_CAREFUL
        value = value * 10 + (digits[index] - c"0")
    if value > BODY_BYTES_MAX:
        return STATUS_CAREFUL
    length[0] = value
    return STATUS_OK


cdef int http_parse_head(const uint8_t* src, size_t src_bytes, const HostRules* rules,
                         RequestHead* out) noexcept nogil:
    cdef size_t end = src_bytes if src_bytes < HEAD_BYTES_MAX else HEAD_BYTES_MAX
    cdef size_t at = 0, length = 0
    cdef bint has_host = False, has_length = False
    cdef int route = ROUTE_NONE
    cdef int status = match_request_line(src, end, &route, &at)
    cdef Header header
    if status != STATUS_OK:
        return status
    while True:
        if end - at >= 2 and src[at] == c"\r":
            break
        if end - at == 0 or (end - at == 1 and src[at] == c"\r"):
            status = STATUS_NEED_MORE
        else:
            status = read_header(src, at, end, &header)
        if status == STATUS_NEED_MORE and end == HEAD_BYTES_MAX:
            return STATUS_CAREFUL
        if status != STATUS_OK:
            return status
        if header.kind == HEADER_CONTENT_LENGTH:
            if has_length or read_length(src + header.value_start,
                                         header.value_end - header.value_start, &length):
                return STATUS_CAREFUL
            has_length = True
        elif header.kind == HEADER_HOST:
            if has_host or http_check_host(src + header.value_start,
                                           header.value_end - header.value_start, rules):
                return STATUS_CAREFUL
            has_host = True
        elif header.kind == HEADER_CONNECTION:
            if (header.value_end - header.value_start != 10
                    or not begins_with(src + header.value_start, 10, b"keep-alive", 10)):
                return STATUS_CAREFUL
        at = header.next_line
    if src[at + 1] != c"\n" or not has_host or not has_length:
        return STATUS_CAREFUL
    out.route = route
    out.head_bytes = at + 2
    out.body_bytes = length
    return STATUS_OK


# -- the Host rule -------------------------------------------------------------------------------

cdef inline bint is_port(const uint8_t* text, size_t text_bytes) noexcept nogil:
    """Whether `text` is what may stand behind a host: nothing, or a colon and a port."""
    cdef size_t index, port = 0
    if text_bytes == 0:
        return True
    # RFC 3986 section 3.2.3 lets the digits be missing.
    if text[0] != c":" or text_bytes > 1 + PORT_DIGITS_MAX:
        return False
    for index in range(1, text_bytes):
        if text[index] < c"0" or text[index] > c"9":
            return False
        port = port * 10 + (text[index] - c"0")
    return port <= PORT_MAX


cdef inline bint is_ipv4(const uint8_t* text, size_t text_bytes) noexcept nogil:
    """Four decimal numbers to 255 without leading zeros, as RFC 3986 section 3.2.2 has it."""
    cdef size_t at = 0, part, digits, number
    for part in range(4):
        if part:
            if at == text_bytes or text[at] != c".":
                return False
            at += 1
        digits = 0
        number = 0
        while at < text_bytes and c"0" <= text[at] <= c"9" and digits < 3:
            number = number * 10 + (text[at] - c"0")
            digits += 1
            at += 1
        if digits == 0 or number > 255 or (digits > 1 and text[at - digits] == c"0"):
            return False
    return at == text_bytes


cdef int check_bracketed(const uint8_t* value, size_t value_bytes) noexcept nogil:
    """A Host value that begins with '[': an IPv6 literal, or nothing that can be a host."""
    cdef char text[IPV6_TEXT_BYTES_MAX + 1]
    cdef uint8_t address[16]
    cdef size_t at = 1
    while at < value_bytes and value[at] != c"]":
        # A NUL would end the copy early.
        if value[at] == 0 or at > IPV6_TEXT_BYTES_MAX:
            return STATUS_INVALID
        text[at - 1] = <char>value[at]
        at += 1
    if at == value_bytes or not is_port(value + at + 1, value_bytes - at - 1):
        return STATUS_INVALID
    text[at - 1] = 0
    return STATUS_OK if inet_pton(AF_INET6, text, address) == 1 else STATUS_INVALID


cdef inline bint is_host_byte(uint8_t byte) noexcept nogil:
    return (c"a" <= (byte | 0x20) <= c"z" or c"0" <= byte <= c"9"
            or byte == c"." or byte == c"-" or byte == c"_")


cdef int http_check_host(const uint8_t* value, size_t value_bytes,
                         const HostRules* rules) noexcept nogil:
    cdef size_t name_bytes = 0, at = 0, length
    if value_bytes == 0:
        return STATUS_INVALID
    if value[0] == c"[":
        return check_bracketed(value, value_bytes)
    while name_bytes < value_bytes and is_host_byte(value[name_bytes]):
        name_bytes += 1
    if name_bytes == 0 or not is_port(value + name_bytes, value_bytes - name_bytes):
        return STATUS_INVALID
    if name_bytes == 9 and begins_with(value, 9, b"localhost", 9):
        return STATUS_OK
    if is_ipv4(value, name_bytes):
        return STATUS_OK
    while at < rules.names_bytes:
        length = rules.names[at]
        if (length == name_bytes
                and begins_with(value, name_bytes, <const char*>rules.names + at + 1, length)):
            return STATUS_OK
        at += 1 + length
    return STATUS_NOT_FOUND


@cython.final
cdef class Hosts:
    """The host names a node is known by, beside IP literals and ``localhost``.

    `names` are host names without a port, in any case, of 1 to 253 letters, digits, ``.``, ``-``
    and ``_``. An IP address may be among them and changes nothing. Raises ValueError for what is
    neither.
    """

    def __cinit__(self, names=()):
        cdef bytes name
        cdef list packed = []
        for text in names:
            name = text.encode("ascii", "replace").lower()
            if not name or len(name) > HOST_NAME_BYTES_MAX:
                raise ValueError(f"a host name has 1 to {HOST_NAME_BYTES_MAX} bytes: {text!r}")
            if self.judge(b"[" + name + b"]") == "allowed":
                continue
            if any(not is_host_byte(byte) for byte in name):
                raise ValueError(f"this is not a host name or an IP address: {text!r}")
            packed.append(bytes([len(name)]) + name)
        self.packed = b"".join(packed)
        self.rules.names = <const uint8_t*>PyBytes_AS_STRING(self.packed)
        self.rules.names_bytes = <size_t>len(self.packed)

    def judge(self, bytes value not None):
        """What a Host header's value is: ``"allowed"``, ``"foreign"`` or ``"malformed"``."""
        cdef int status = http_check_host(<const uint8_t*>PyBytes_AS_STRING(value),
                                          <size_t>len(value), &self.rules)
        if status == STATUS_OK:
            return "allowed"
        return "foreign" if status == STATUS_NOT_FOUND else "malformed"


def parse_head(data, Hosts hosts not None):
    """The head at the beginning of a buffer: its path, head bytes and body bytes.

    ``"need_more"`` where it is incomplete and may become plainly valid, ``"careful"`` where the
    careful parser has to look at it.
    """
    cdef RequestHead head
    cdef Py_buffer view
    cdef int status
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    status = http_parse_head(<const uint8_t*>view.buf, <size_t>view.len, &hosts.rules, &head)
    PyBuffer_Release(&view)
    if status == STATUS_NEED_MORE:
        return "need_more"
    if status == STATUS_CAREFUL:
        return "careful"
    return _PATHS[head.route], head.head_bytes, head.body_bytes


_PATHS = {
    ROUTE_GET: "/get",
    ROUTE_SET: "/set",
    ROUTE_CAS: "/cas",
    ROUTE_DELETE: "/delete",
    ROUTE_BATCH: "/batch",
    ROUTE_SCAN: "/scan",
}


# -- answers -------------------------------------------------------------------------------------

cdef size_t put_decimal_u64(uint8_t* target, uint64_t value) noexcept nogil:
    cdef uint8_t digits[DECIMAL_BYTES_MAX]
    cdef size_t at = DECIMAL_BYTES_MAX, pair
    while value >= 100:
        pair = <size_t>(value % 100) * 2
        value //= 100
        at -= 2
        memcpy(digits + at, PAIRS + pair, 2)
    if value >= 10:
        at -= 2
        memcpy(digits + at, PAIRS + <size_t>value * 2, 2)
    else:
        at -= 1
        digits[at] = <uint8_t>(c"0" + value)
    memcpy(target, digits + at, DECIMAL_BYTES_MAX - at)
    return DECIMAL_BYTES_MAX - at


# Two digits for each number below 100: half as many divisions as digit by digit.
cdef const char* PAIRS = (
    b"00010203040506070809101112131415161718192021222324"
    b"25262728293031323334353637383940414243444546474849"
    b"50515253545556575859606162636465666768697071727374"
    b"75767778798081828384858687888990919293949596979899"
)


cdef const char* status_line(int http_status) noexcept nogil:
    """The status line, with its line end, of a status the error table knows; else NULL."""
    if http_status == 400:
        return b"HTTP/1.1 400 Bad Request\r\n"
    if http_status == 401:
        return b"HTTP/1.1 401 Unauthorized\r\n"
    if http_status == 403:
        return b"HTTP/1.1 403 Forbidden\r\n"
    if http_status == 405:
        return b"HTTP/1.1 405 Method Not Allowed\r\n"
    if http_status == 408:
        return b"HTTP/1.1 408 Request Timeout\r\n"
    if http_status == 409:
        return b"HTTP/1.1 409 Conflict\r\n"
    if http_status == 412:
        return b"HTTP/1.1 412 Precondition Failed\r\n"
    if http_status == 413:
        return b"HTTP/1.1 413 Content Too Large\r\n"
    if http_status == 429:
        return b"HTTP/1.1 429 Too Many Requests\r\n"
    if http_status == 431:
        return b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    if http_status == 503:
        return b"HTTP/1.1 503 Service Unavailable\r\n"
    if http_status == 504:
        return b"HTTP/1.1 504 Gateway Timeout\r\n"
    if http_status == 507:
        return b"HTTP/1.1 507 Insufficient Storage\r\n"
    return NULL


cdef int http_put_head(seafoam_buffer* out, const ResponseConstants* constants, int http_status,
                       size_t content_bytes, uint64_t seafoam_index) noexcept nogil:
    cdef const char* line
    cdef uint8_t* at
    if buffer_reserve(out, RESPONSE_HEAD_BYTES_MAX) != 0:
        return STATUS_NO_MEMORY
    at = out.data + out.used_bytes
    # The two answers of an ordinary read, with lengths the compiler knows.
    if http_status == 200:
        memcpy(at, b"HTTP/1.1 200 OK\r\n", 17)
        at += 17
    elif http_status == 404:
        memcpy(at, b"HTTP/1.1 404 Not Found\r\n", 24)
        at += 24
    else:
        line = status_line(http_status)
        if line == NULL:
            return STATUS_INVALID
        memcpy(at, line, strlen(line))
        at += strlen(line)
    memcpy(at, constants.common, constants.common_bytes)
    at += constants.common_bytes
    at += put_decimal_u64(at, content_bytes)
    memcpy(at, b"\r\nSeafoam-Index: ", 17)
    at += 17
    at += put_decimal_u64(at, seafoam_index)
    memcpy(at, constants.tail, constants.tail_bytes)
    at += constants.tail_bytes
    out.used_bytes = <size_t>(at - out.data)
    return STATUS_OK


@cython.final
cdef class Responder:
    """Puts answers together around the few bytes that all of them share.

    It knows no clock: `set_date` is called from outside, once a second. Used by one thread.
    """

    def __cinit__(self):
        self.date = b""
        self.cluster_id = b""
        self.rebuild()

    cdef int rebuild(self) except -1:
        cdef bytes common, tail
        # An origin server without a clock sends no Date (RFC 9110 section 6.6.1).
        common = b"Date: " + self.date + b"\r\n" if self.date else b""
        common += b"Content-Type: application/json\r\nContent-Length: "
        tail = b"\r\nSeafoam-Cluster: " + self.cluster_id if self.cluster_id else b""
        tail += b"\r\n\r\n"
        memcpy(self.constants.common, PyBytes_AS_STRING(common), len(common))
        memcpy(self.constants.tail, PyBytes_AS_STRING(tail), len(tail))
        self.constants.common_bytes = <size_t>len(common)
        self.constants.tail_bytes = <size_t>len(tail)
        return 0

    def set_date(self, bytes date not None):
        """Use this IMF-fixdate from now on, e.g. ``b"Sun, 06 Nov 1994 08:49:37 GMT"``."""
        if len(date) != DATE_BYTES or any(not c" " <= byte <= c"~" for byte in date):
            raise ValueError(f"a Date has {DATE_BYTES} printable bytes: {date!r}")
        self.date = date
        self.rebuild()

    def set_cluster(self, str cluster_id):
        """Name this cluster, 16 lower-case hex digits, in every answer; None: name none."""
        if cluster_id is not None and (len(cluster_id) != CLUSTER_ID_BYTES
                                       or set(cluster_id) - set("0123456789abcdef")):
            raise ValueError(f"a cluster id has {CLUSTER_ID_BYTES} hex digits: {cluster_id!r}")
        self.cluster_id = b"" if cluster_id is None else cluster_id.encode()
        self.rebuild()

    def response(self, int status, bytes body not None, uint64_t index, *, bint close=False,
                 bint head_only=False, bytes extra not None=b"", size_t more_bytes=0):
        """One answer: its head and `body`, behind which come `more_bytes` that the caller sends.

        `index` is its Seafoam-Index. `close` announces that the connection ends with it.
        `head_only` answers a HEAD: the length of the body, and no body. `extra` is whole header
        lines, each with its CR LF. Raises ValueError for a status outside the error table.
        """
        cdef seafoam_buffer out
        cdef int result
        cdef bytes head
        # Nothing in it may end the head.
        if extra and (not extra.endswith(b"\r\n") or b"\r\n\r\n" in b"\r\n" + extra):
            raise ValueError(f"extra headers are lines that end in CR LF: {extra!r}")
        memset(&out, 0, sizeof(out))
        try:
            result = http_put_head(&out, &self.constants, status,
                                   <size_t>len(body) + more_bytes, index)
            if result == STATUS_NO_MEMORY:
                raise MemoryError("no memory for the head of an answer")
            if result != STATUS_OK:
                raise ValueError(f"no answer has the HTTP status {status}")
            # Without the empty line, which ends the extra headers.
            head = PyBytes_FromStringAndSize(<const char*>out.data,
                                             <Py_ssize_t>out.used_bytes - 2)
        finally:
            buffer_free(&out)
        return b"".join((head, b"Connection: close\r\n" if close else b"", extra, b"\r\n",
                         b"" if head_only else body))
