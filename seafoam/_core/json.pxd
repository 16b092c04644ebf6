# JSON text: what is one, without white space, and where a field's value is.
#
# Owns the decision what JSON is, for every value and every request body. It is RFC 8259, strictly:
#   - UTF-8 as RFC 3629 allows it (no longer forms, no surrogates), no byte order mark;
#   - a \u escape of a surrogate stands in a pair, high before low; \u0000 is allowed;
#   - numbers of any length, as they are written; the exponent as written is at most
#     JSON_EXPONENT_MAX away from zero, whatever the digits before it are (0e1000001 is refused,
#     1e0001000000 is not);
#   - names may repeat inside an object: all are kept, the last one counts (json_equal);
#   - arrays and objects nest to the depth the caller gives, at most JSON_NESTING_MAX.
#
# Must never: do I/O, take the GIL, recurse, change a number or a string, keep anything from one
# call to the next, or depend on anything but its arguments: what is refused on one node is refused
# on all.
#
# Invariants: no byte at or past the end of a text is read; compaction only moves bytes towards the
# front, so the target may be the source itself (not another overlapping place) and needs as many
# bytes as the source has; everything takes one pass and time in proportion to the text.
#
# All functions return a Status and hold no reference to their arguments afterwards. A text that is
# refused has STATUS_INVALID and its fault filled in; the target's contents are then undefined.

from libc.stdint cimport uint8_t, uint64_t

from seafoam._core.buffer cimport seafoam_buffer

cdef enum:
    # The open arrays and objects of one text are kept on the C stack, a byte each. More than an
    # envelope around the deepest value needs.
    JSON_NESTING_MAX = 1024
    # The functions for Python let go of the GIL for longer texts; for shorter ones, letting go
    # and getting it back costs more than the work.
    GIL_RELEASE_BYTES = 4096

cdef extern from "json_scan.h" nogil:
    enum JsonKind:
        JSON_OBJECT
        JSON_ARRAY
        JSON_STRING
        JSON_NUMBER
        JSON_TRUE
        JSON_FALSE
        JSON_NULL

# One value inside a text.
cdef struct JsonSpan:
    size_t start          # offset of its first byte; a string's is its quote
    size_t end            # offset behind its last byte
    int kind              # of JsonKind
    int depth             # its own nesting: 0 for a scalar, 1 for []

# Why and where a text is no JSON.
cdef struct JsonFault:
    int reason            # json_reason() has its phrase
    size_t offset         # of the byte that broke the rule; the text's length where it ends early

# One field of an object.
cdef struct JsonField:
    size_t name_start     # the name between its quotes, as it is written
    size_t name_end
    bint name_escaped     # it has a backslash: json_unescape gives the name that is meant
    JsonSpan value

# Where json_object_fields puts what it finds.
cdef struct JsonFields:
    JsonField* fields     # in: the caller's memory
    size_t capacity       # in: how many fields fit there
    int max_depth         # in: nesting allowed, the object itself counted
    size_t count          # out: how many fields the object has, also where that is over capacity
    size_t text_bytes     # out: length of the compact text

# ---- check and compact ----

# Exactly one value, white space around it allowed.
cdef int json_check(const uint8_t* source, size_t source_bytes, int max_depth,
                    JsonFault* fault) noexcept nogil

# The same, and the text without its insignificant white space in `target`. For values: nesting
# to JSON_DEPTH_MAX.
cdef int json_compact(const uint8_t* source, size_t source_bytes, uint8_t* target,
                      size_t* target_bytes, JsonFault* fault) noexcept nogil

# The phrase for a fault's reason, static, without a full stop.
cdef const char* json_reason(int reason) noexcept nogil

# ---- look inside ----

# Checks and compacts a text that must be one object, and notes its fields in order, with offsets
# into the compact text. STATUS_TOO_LARGE where the text is right but has more fields than fit.
cdef int json_object_fields(const uint8_t* source, size_t source_bytes, uint8_t* target,
                            JsonFields* fields, JsonFault* fault) noexcept nogil

# The elements of an array's text, one a call: `position` begins at 0 and is moved on. STATUS_OK;
# STATUS_NOT_FOUND behind the last one; STATUS_INVALID where the text is no array after all (it is
# checked as far as it is walked). White space is allowed; a span has none at its ends.
cdef int json_next_element(const uint8_t* text, size_t text_bytes, size_t* position,
                           JsonSpan* element) noexcept nogil

# ---- scalars ----

# What the inside of a checked string means, as UTF-8, never longer than it is written; `target`
# may be `source`. STATUS_INVALID for an escape that a checked string cannot have.
cdef int json_unescape(const uint8_t* source, size_t source_bytes, uint8_t* target,
                       size_t* target_bytes) noexcept nogil

# UTF-8 as a quoted string, appended to `out`; escaped is only what must be. STATUS_INVALID where
# it is no UTF-8, STATUS_NO_MEMORY; `out` is then as before.
cdef int json_quote(const uint8_t* source, size_t source_bytes, seafoam_buffer* out) noexcept nogil

# An integer literal from 0 to 2^64-1, digits only; anything else (-0, 1.0, 1e3, 007) is
# STATUS_INVALID.
cdef int json_uint64(const uint8_t* source, size_t source_bytes, uint64_t* number) noexcept nogil
