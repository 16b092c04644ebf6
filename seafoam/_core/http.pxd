# HTTP/1.1 without I/O: plainly valid requests are recognised, answers are put together.
#
# Owns the fast half of reading requests and everything about writing answers. It never reads a
# socket or a clock, never keeps a byte between two calls, and never refuses a request: what is
# not plainly valid is STATUS_CAREFUL, and http_careful.py, built on a full parser, decides. So a
# rule missing here costs speed, and a rule too lax here is a bug: whatever is accepted here must
# be accepted there with the same method, path, body and keep-alive.
#
# Plainly valid is: one of the six POST routes below, byte for byte, HTTP/1.1; lines ended by
# CR LF; exactly one Content-Length of one to seven digits, within BODY_BYTES_MAX; exactly one
# Host, allowed by HostRules; Connection only as "keep-alive"; and otherwise only headers of a
# short list that this server ignores (what curl, browsers, the usual clients of Python, Go, Java
# and JavaScript and tracing add). A list of harmless names was preferred to a list of dangerous
# ones: a header that gets a meaning later is then careful before anybody thinks of it, and
# spellings that other software might fold into a meaningful name never pass. Values are printable
# ASCII; tabs and bytes above 0x7e are careful.
#
# Invariants: a byte at or past src_bytes is never read; the head is walked once, front to back;
# head_bytes <= HEAD_BYTES_MAX; a prefix of a plainly valid head is STATUS_NEED_MORE, so feeding
# byte by byte ends in the same answer as feeding at once.

from libc.stdint cimport uint8_t, uint64_t
from seafoam._core.buffer cimport seafoam_buffer

cdef enum Route:
    ROUTE_NONE = 0
    ROUTE_GET
    ROUTE_SET
    ROUTE_CAS
    ROUTE_DELETE
    ROUTE_BATCH
    ROUTE_SCAN

# What the head says. The body is the body_bytes bytes behind the first head_bytes; whether they
# have arrived is for the caller to compare.
cdef struct RequestHead:
    int route                       # a Route other than ROUTE_NONE
    size_t head_bytes               # request line, headers and the empty line
    size_t body_bytes

# The names this node is known by, beside IP literals and localhost. Memory owned by `Hosts`.
cdef struct HostRules:
    const uint8_t* names            # each one byte of length, then the lower-case name
    size_t names_bytes

# What every answer repeats, formatted beforehand. Changed by the Responder's setters only, on the
# thread that also builds answers.
cdef struct ResponseConstants:
    uint8_t common[128]             # from behind the status line up to the content length
    size_t common_bytes
    uint8_t tail[48]                # from behind the index to the end of the head
    size_t tail_bytes

# The longest head http_put_head writes: status line, common, two numbers and their name, tail.
cdef enum:
    RESPONSE_HEAD_BYTES_MAX = 320
    DECIMAL_BYTES_MAX = 20

# -- reading -------------------------------------------------------------------------------------

# STATUS_OK: `out` is filled. STATUS_NEED_MORE: the head is not whole, and may become plainly
# valid. STATUS_CAREFUL: anything else. `out` is untouched unless STATUS_OK.
cdef int http_parse_head(const uint8_t* src, size_t src_bytes, const HostRules* rules,
                         RequestHead* out) noexcept nogil

# A Host header's value. STATUS_OK: an IP literal, localhost or one of the names, with or without
# a port. STATUS_NOT_FOUND: somebody else's name. STATUS_INVALID: not a host at all.
cdef int http_check_host(const uint8_t* value, size_t value_bytes,
                         const HostRules* rules) noexcept nogil

# -- writing -------------------------------------------------------------------------------------

# Appends the head of an answer of content_bytes bytes of JSON. STATUS_OK; STATUS_NO_MEMORY;
# STATUS_INVALID for an http_status without a reason phrase here.
cdef int http_put_head(seafoam_buffer* out, const ResponseConstants* constants, int http_status,
                       size_t content_bytes, uint64_t seafoam_index) noexcept nogil

# Writes `value` in decimal to `target` (DECIMAL_BYTES_MAX bytes of room); the bytes written.
cdef size_t put_decimal_u64(uint8_t* target, uint64_t value) noexcept nogil

# -- the Python-level owners ---------------------------------------------------------------------

cdef class Hosts:
    cdef HostRules rules            # points into `packed`
    cdef bytes packed

cdef class Responder:
    cdef ResponseConstants constants
    cdef bytes date                 # empty until set: an answer then has no Date
    cdef bytes cluster_id           # empty while in no cluster
    cdef int rebuild(self) except -1
