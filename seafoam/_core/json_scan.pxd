# The leaves of JSON text, and why a text is refused; see json_scan.h.

from libc.stdint cimport int32_t, uint8_t, uint32_t

cdef extern from "json_scan.h" nogil:
    enum:
        JSON_FAULT_NONE
        JSON_FAULT_ENDS
        JSON_FAULT_EMPTY
        JSON_FAULT_BYTE_ORDER_MARK
        JSON_FAULT_VALUE
        JSON_FAULT_COMMA_VALUE
        JSON_FAULT_COMMA_NAME
        JSON_FAULT_NAME
        JSON_FAULT_COLON
        JSON_FAULT_ARRAY_COMMA
        JSON_FAULT_OBJECT_COMMA
        JSON_FAULT_TRAILING
        JSON_FAULT_WORD
        JSON_FAULT_DIGIT
        JSON_FAULT_LEADING_ZERO
        JSON_FAULT_EXPONENT
        JSON_FAULT_CONTROL
        JSON_FAULT_ESCAPE
        JSON_FAULT_HEX
        JSON_FAULT_SURROGATE
        JSON_FAULT_UTF8
        JSON_FAULT_DEPTH
        JSON_FAULT_OBJECT
        JSON_FAULT_COUNT

    ctypedef struct json_scan:
        const uint8_t* end
        const uint8_t* run
        uint8_t* out
        const uint8_t* fault_at
        int reason
        int max_depth
        int escaped

    const uint8_t* json_refuse(json_scan* scan, const uint8_t* at, int reason) noexcept
    const uint8_t* json_skip_plain(const uint8_t* at, const uint8_t* end) noexcept
    const uint8_t* json_skip_sequence(const uint8_t* at, const uint8_t* end) noexcept
    int32_t json_hex4(const uint8_t* at) noexcept
    const uint8_t* json_skip_escape(json_scan* scan, const uint8_t* at) noexcept
    const uint8_t* json_skip_string(json_scan* scan, const uint8_t* at) noexcept
    const uint8_t* json_skip_scalar(
        json_scan* scan, const uint8_t* at, uint32_t max_exponent) noexcept
    const uint8_t* json_skip_space(const uint8_t* at, const uint8_t* end) noexcept
    int json_kind(uint8_t byte) noexcept
    size_t json_put_utf8(uint8_t* target, uint32_t code) noexcept
