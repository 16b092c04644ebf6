# The short way of a read: requests in one stretch of received bytes, answers in another.
#
# Owns the pass over a connection's bytes that answers every plainly valid `POST /get` at their
# front, without the GIL and without a Python object a request. Must never do I/O, keep a byte of
# one connection for another, answer anything it is not sure of, or change an answer: what
# seafoam/api.py would answer to the same request is, byte for byte, what is answered here. That is
# why everything unusual stops the pass: a rule missing here costs speed, nothing else.
#
# Answered here: one `key`, or `keys` whose values are not large together, with an optional
# `msg_id` and no other field, each once and with no escape in its name; and only while nothing
# earlier of the connection is unanswered, which the caller sees to.
#
# Invariants:
#   P1  A pass answers a whole number of requests: `used_bytes` ends where the first request begins
#       that was not answered, and the bytes before it are all answered, in order.
#   P2  The index in an answer's head is loaded after everything the answer shows was copied.
#   P3  One object serves all connections of one thread: nothing in it outlives a pass but memory.

from libc.stdint cimport uint8_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer
from seafoam._core.http cimport Hosts, RequestHead, Responder
from seafoam._core.json cimport JsonField, JsonSpan
from seafoam._core.map cimport MapReader, ReadItem

# Why a pass stopped.
cpdef enum:
    STOP_END = 0         # nothing is left
    STOP_NEED_MORE = 1   # an incomplete request; `call_bytes` is the least it needs
    STOP_OTHER = 2       # a whole, plainly valid request to another route, or a /get for api.py
    STOP_CAREFUL = 3     # not plainly valid, or not yet known to be
    STOP_FULL = 4        # enough answers for one pass; call again

# The values that one answer to many keys shows here. Where they are more, api.py answers: it hands
# them on in pieces, copied less often.
cpdef enum:
    MANY_BYTES_MAX = 524288

# What a plain /get asks, as spans of the compacted body.
cdef struct GetBody:
    bint has_key
    bint has_keys
    bint has_msg_id
    JsonSpan key
    JsonSpan keys
    JsonSpan msg_id

# Errors that are answered here, each without its end.
cdef struct ErrorStart:
    const uint8_t* text
    size_t text_bytes

cdef class ReadPath:
    # -- read by the caller after a pass ---------------------------------------------------------
    cdef readonly int stop
    cdef readonly Py_ssize_t used_bytes      # of the input, answered
    # Of the request behind them; relative to its first byte. (`name` is its call's name, "" where
    # its head is not whole.)
    cdef readonly Py_ssize_t head_bytes      # 0 where its head is not whole
    cdef readonly Py_ssize_t call_bytes      # head and body; what it needs at least
    cdef readonly uint64_t answered_count    # requests, since the beginning

    # -- what a pass works with ------------------------------------------------------------------
    cdef MapReader _reader
    cdef Hosts _hosts
    cdef Responder _responder
    cdef dict _errors                        # owns what the ErrorStarts point into
    cdef ErrorStart _key_not_found
    cdef ErrorStart _overloaded
    cdef RequestHead _head
    cdef seafoam_buffer _body                # one body, compacted
    cdef seafoam_buffer _values              # the values one answer shows
    cdef seafoam_buffer _items               # ReadItem, one a key
    cdef seafoam_buffer _content             # one answer's body
    cdef seafoam_buffer _output              # the answers of one pass
    cdef bint _is_running

    cdef bytes _run(self, data, bint answers)
    cdef bytes _finish(self, int status)
    cdef int _serve(self, const uint8_t* source, size_t source_bytes) noexcept nogil
    cdef int _find_call(self, const uint8_t* source, size_t source_bytes) noexcept nogil
    cdef int _answer_get(self, const uint8_t* body, size_t body_bytes) noexcept nogil
    cdef int _answer_one(self, GetBody* get) noexcept nogil
    cdef int _answer_many(self, GetBody* get) noexcept nogil
    cdef int _find_keys(self, JsonSpan keys, size_t* count) noexcept nogil
    cdef int _render_many(self, size_t count, GetBody* get) noexcept nogil
    cdef int _answer_error(self, int http_status, ErrorStart* start, GetBody* get) noexcept nogil
    cdef int _put_reply(self, GetBody* get) noexcept nogil
    cdef int _send(self, int http_status) noexcept nogil
