/* The leaves of JSON text: white space, strings, numbers and the three words.
 *
 * Owns no memory and keeps no state: each function takes a position inside a text and returns the
 * position behind what it recognised, or NULL with the fault noted in the scan. None reads at or
 * past `end`, whatever the bytes are, and none writes to the text.
 *
 * The inside of strings is looked at sixteen bytes at a time with SSE2 or NEON, eight at a time
 * elsewhere or with -DSEAFOAM_JSON_PORTABLE; all three find the same byte, which the tests check.
 */
#ifndef SEAFOAM_JSON_SCAN_H
#define SEAFOAM_JSON_SCAN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(SEAFOAM_JSON_PORTABLE)
#elif defined(__SSE2__)
#include <emmintrin.h>
#define SEAFOAM_JSON_SSE2 1
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define SEAFOAM_JSON_NEON 1
#endif

/* Why a text is refused. The phrases are in json.pyx. */
enum json_fault_reason {
    JSON_FAULT_NONE = 0,
    JSON_FAULT_ENDS,
    JSON_FAULT_EMPTY,
    JSON_FAULT_BYTE_ORDER_MARK,
    JSON_FAULT_VALUE,
    JSON_FAULT_COMMA_VALUE,
    JSON_FAULT_COMMA_NAME,
    JSON_FAULT_NAME,
    JSON_FAULT_COLON,
    JSON_FAULT_ARRAY_COMMA,
    JSON_FAULT_OBJECT_COMMA,
    JSON_FAULT_TRAILING,
    JSON_FAULT_WORD,
    JSON_FAULT_DIGIT,
    JSON_FAULT_LEADING_ZERO,
    JSON_FAULT_EXPONENT,
    JSON_FAULT_CONTROL,
    JSON_FAULT_ESCAPE,
    JSON_FAULT_HEX,
    JSON_FAULT_SURROGATE,
    JSON_FAULT_UTF8,
    JSON_FAULT_DEPTH,
    JSON_FAULT_OBJECT,
    JSON_FAULT_COUNT
};

enum JsonKind {
    JSON_OBJECT = 1,
    JSON_ARRAY,
    JSON_STRING,
    JSON_NUMBER,
    JSON_TRUE,
    JSON_FALSE,
    JSON_NULL
};

typedef struct {
    const uint8_t *end;      /* one past the text */
    const uint8_t *run;      /* first byte that is not copied to `out` yet */
    uint8_t *out;            /* where it will go; NULL where the text is only checked */
    const uint8_t *fault_at; /* the byte that broke a rule */
    int reason;              /* the rule, of json_fault_reason */
    int max_depth;           /* nesting allowed below the current position */
    int escaped;             /* the last string has a backslash in it */
} json_scan;

#define JSON_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define JSON_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

static inline const uint8_t *json_refuse(json_scan *scan, const uint8_t *at, int reason)
{
    scan->fault_at = at;
    scan->reason = reason;
    return NULL;
}

/* ---- the inside of strings ---- */

/* Neither control, quote, backslash nor part of a longer UTF-8 sequence. */
static inline int json_is_plain(uint8_t byte)
{
    return byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
}

/* Eight bytes as a word, the first lowest, on every machine. */
static inline uint64_t json_load8(const uint8_t *at)
{
    uint64_t word;
    memcpy(&word, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* The first byte that is not plain, or `end`. */
static inline const uint8_t *json_skip_plain(const uint8_t *at, const uint8_t *end)
{
#if defined(SEAFOAM_JSON_SSE2)
    while (end - at >= 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)at);
        /* As signed bytes, both controls and everything from 0x80 on are below 0x20. */
        __m128i odd = _mm_or_si128(
            _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20)),
            _mm_or_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')),
                         _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'))));
        unsigned mask = (unsigned)_mm_movemask_epi8(odd);
        if (mask)
            return at + __builtin_ctz(mask);
        at += 16;
    }
#elif defined(SEAFOAM_JSON_NEON)
    while (end - at >= 16) {
        uint8x16_t bytes = vld1q_u8(at);
        uint8x16_t odd = vorrq_u8(
            vcltq_s8(vreinterpretq_s8_u8(bytes), vdupq_n_s8(0x20)),
            vorrq_u8(vceqq_u8(bytes, vdupq_n_u8('"')), vceqq_u8(bytes, vdupq_n_u8('\\'))));
        /* Four bits a byte: what a movemask is here. */
        uint64_t mask = vget_lane_u64(
            vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(odd), 4)), 0);
        if (mask)
            return at + (__builtin_ctzll(mask) >> 2);
        at += 16;
    }
#endif
    while (end - at >= 8) {
        const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
        uint64_t word = json_load8(at);
        uint64_t quote = word ^ (ones * '"'), backslash = word ^ (ones * '\\');
        /* Only a byte that is marked itself makes the subtractions borrow from the next, so marks
         * above the lowest may be wrong and the lowest is right. */
        uint64_t mask = ((word - ones * 0x20) | (quote - ones) | (backslash - ones) | word)
                        & highs;
        if (mask)
            return at + (__builtin_ctzll(mask) >> 3);
        at += 8;
    }
    while (at != end && json_is_plain(*at))
        at += 1;
    return at;
}

/* Behind one UTF-8 sequence of two to four bytes that RFC 3629 allows, or NULL. */
static inline const uint8_t *json_skip_sequence(const uint8_t *at, const uint8_t *end)
{
    ptrdiff_t left = end - at;
    uint32_t code;
    if (at[0] >= 0xC2 && at[0] <= 0xDF)
        return left >= 2 && (at[1] & 0xC0) == 0x80 ? at + 2 : NULL;
    if ((at[0] & 0xF0) == 0xE0) {
        if (left < 3 || (at[1] & 0xC0) != 0x80 || (at[2] & 0xC0) != 0x80)
            return NULL;
        code = (uint32_t)(at[0] & 0x0F) << 12 | (uint32_t)(at[1] & 0x3F) << 6 | (at[2] & 0x3F);
        /* Shorter forms exist below 0x800; the surrogates are no characters. */
        return code >= 0x800 && (code < 0xD800 || code > 0xDFFF) ? at + 3 : NULL;
    }
    if ((at[0] & 0xF8) == 0xF0) {
        if (left < 4 || (at[1] & 0xC0) != 0x80 || (at[2] & 0xC0) != 0x80
            || (at[3] & 0xC0) != 0x80)
            return NULL;
        code = (uint32_t)(at[0] & 0x07) << 18 | (uint32_t)(at[1] & 0x3F) << 12
               | (uint32_t)(at[2] & 0x3F) << 6 | (at[3] & 0x3F);
        return code >= 0x10000 && code <= 0x10FFFF ? at + 4 : NULL;
    }
    return NULL;
}

/* What a hexadecimal digit is worth, and 0x10 that tells it from every other byte. */
static const uint8_t json_hex_digits[256] = {
    ['0'] = 0x10, ['1'] = 0x11, ['2'] = 0x12, ['3'] = 0x13, ['4'] = 0x14,
    ['5'] = 0x15, ['6'] = 0x16, ['7'] = 0x17, ['8'] = 0x18, ['9'] = 0x19,
    ['a'] = 0x1A, ['b'] = 0x1B, ['c'] = 0x1C, ['d'] = 0x1D, ['e'] = 0x1E, ['f'] = 0x1F,
    ['A'] = 0x1A, ['B'] = 0x1B, ['C'] = 0x1C, ['D'] = 0x1D, ['E'] = 0x1E, ['F'] = 0x1F,
};

/* The number that four hexadecimal digits write, or -1. At least four bytes are there. */
static inline int32_t json_hex4(const uint8_t *at)
{
    int32_t a = json_hex_digits[at[0]], b = json_hex_digits[at[1]];
    int32_t c = json_hex_digits[at[2]], d = json_hex_digits[at[3]];
    if (JSON_UNLIKELY(!(a & b & c & d & 0x10)))
        return -1;
    return (a & 15) << 12 | (b & 15) << 8 | (c & 15) << 4 | (d & 15);
}

/* A character's UTF-8 and its length; no surrogate comes here. */
static inline size_t json_put_utf8(uint8_t *target, uint32_t code)
{
    if (code < 0x80) {
        target[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        target[0] = (uint8_t)(0xC0 | code >> 6);
        target[1] = (uint8_t)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        target[0] = (uint8_t)(0xE0 | code >> 12);
        target[1] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
        target[2] = (uint8_t)(0x80 | (code & 0x3F));
        return 3;
    }
    target[0] = (uint8_t)(0xF0 | code >> 18);
    target[1] = (uint8_t)(0x80 | (code >> 12 & 0x3F));
    target[2] = (uint8_t)(0x80 | (code >> 6 & 0x3F));
    target[3] = (uint8_t)(0x80 | (code & 0x3F));
    return 4;
}

/* What follows a backslash, the backslash being at[0]. */
static inline const uint8_t *json_skip_escape(json_scan *scan, const uint8_t *at)
{
    const uint8_t *end = scan->end;
    int32_t code, low;
    if (end - at < 2)
        return json_refuse(scan, end, JSON_FAULT_ENDS);
    switch (at[1]) {
    case '"': case '\\': case '/': case 'b': case 'f': case 'n': case 'r': case 't':
        return at + 2;
    case 'u':
        break;
    default:
        return json_refuse(scan, at, JSON_FAULT_ESCAPE);
    }
    if (end - at < 6)
        return json_refuse(scan, end, JSON_FAULT_ENDS);
    code = json_hex4(at + 2);
    if (code < 0)
        return json_refuse(scan, at, JSON_FAULT_HEX);
    if (code < 0xD800 || code > 0xDFFF)
        return at + 6;
    /* Half of a pair: its other half must follow at once, and must be the second one. */
    if (code > 0xDBFF || end - at < 12 || at[6] != '\\' || at[7] != 'u')
        return json_refuse(scan, at, JSON_FAULT_SURROGATE);
    low = json_hex4(at + 8);
    if (low < 0xDC00 || low > 0xDFFF)
        return json_refuse(scan, at, JSON_FAULT_SURROGATE);
    return at + 12;
}

/* Behind a string's closing quote; `at` is its opening one. */
static inline const uint8_t *json_skip_string(json_scan *scan, const uint8_t *at)
{
    const uint8_t *end = scan->end, *next;
    at += 1;
    scan->escaped = 0;
    for (;;) {
        at = json_skip_plain(at, end);
        if (JSON_UNLIKELY(at == end))
            return json_refuse(scan, at, JSON_FAULT_ENDS);
        if (JSON_LIKELY(*at == '"'))
            return at + 1;
        if (*at == '\\') {
            scan->escaped = 1;
            /* Escapes come in runs where a writer escapes all that is not ASCII. */
            do {
                at = json_skip_escape(scan, at);
                if (at == NULL)
                    return NULL;
            } while (at != end && *at == '\\');
            continue;
        }
        if (*at < 0x20)
            return json_refuse(scan, at, JSON_FAULT_CONTROL);
        do {
            next = json_skip_sequence(at, end);
            if (JSON_UNLIKELY(next == NULL))
                return json_refuse(scan, at, JSON_FAULT_UTF8);
            at = next;
        } while (at != end && *at >= 0x80);
    }
}

/* ---- outside of strings ---- */

static inline int json_is_digit(uint8_t byte)
{
    return (uint8_t)(byte - '0') <= 9;
}

static inline const uint8_t *json_skip_digits(const uint8_t *at, const uint8_t *end)
{
    while (at != end && json_is_digit(*at))
        at += 1;
    return at;
}

/* Behind a number; `at` is its minus sign or first digit. `max_exponent` bounds the exponent as
 * it is written, whatever the digits before it are: 0e1000001 is refused, 1e0001000000 is not. */
static inline const uint8_t *json_skip_number(json_scan *scan, const uint8_t *at,
                                              uint32_t max_exponent)
{
    const uint8_t *end = scan->end, *first;
    uint32_t exponent = 0;
    if (*at == '-')
        at += 1;
    if (at == end || !json_is_digit(*at))
        return json_refuse(scan, at, at == end ? JSON_FAULT_ENDS : JSON_FAULT_DIGIT);
    first = at;
    at = json_skip_digits(at, end);
    if (*first == '0' && at - first > 1)
        return json_refuse(scan, first, JSON_FAULT_LEADING_ZERO);
    if (at != end && *at == '.') {
        first = at + 1;
        at = json_skip_digits(first, end);
        if (at == first)
            return json_refuse(scan, at, at == end ? JSON_FAULT_ENDS : JSON_FAULT_DIGIT);
    }
    if (at == end || (*at | 0x20) != 'e')
        return at;
    at += 1;
    if (at != end && (*at == '+' || *at == '-'))
        at += 1;
    first = at;
    for (; at != end && json_is_digit(*at); at++) {
        exponent = exponent * 10 + (uint32_t)(*at - '0');
        if (exponent > max_exponent)
            return json_refuse(scan, first, JSON_FAULT_EXPONENT);
    }
    if (at == first)
        return json_refuse(scan, at, at == end ? JSON_FAULT_ENDS : JSON_FAULT_DIGIT);
    return at;
}

static inline const uint8_t *json_skip_word(json_scan *scan, const uint8_t *at,
                                            const char *word, ptrdiff_t word_bytes)
{
    if (scan->end - at < word_bytes || memcmp(at, word, (size_t)word_bytes) != 0)
        return json_refuse(scan, at, JSON_FAULT_WORD);
    return at + word_bytes;
}

/* The kind of value that begins so; meaningful only once it is known to be one. */
static inline int json_kind(uint8_t byte)
{
    switch (byte) {
    case '{': return JSON_OBJECT;
    case '[': return JSON_ARRAY;
    case '"': return JSON_STRING;
    case 't': return JSON_TRUE;
    case 'f': return JSON_FALSE;
    case 'n': return JSON_NULL;
    default: return JSON_NUMBER;
    }
}

/* Behind a string, a number or a word; `at` is its first byte. */
static inline const uint8_t *json_skip_scalar(json_scan *scan, const uint8_t *at,
                                              uint32_t max_exponent)
{
    if (*at == '"')
        return json_skip_string(scan, at);
    if (*at == '-' || json_is_digit(*at))
        return json_skip_number(scan, at, max_exponent);
    switch (*at) {
    case 't': return json_skip_word(scan, at, "true", 4);
    case 'f': return json_skip_word(scan, at, "false", 5);
    case 'n': return json_skip_word(scan, at, "null", 4);
    default: return json_refuse(scan, at, JSON_FAULT_VALUE);
    }
}

/* The first byte that is none of RFC 8259's four white space characters, or `end`. */
static inline const uint8_t *json_skip_space(const uint8_t *at, const uint8_t *end)
{
    for (;;) {
        /* Indentation comes in long runs of blanks. */
        while (end - at >= 8 && json_load8(at) == 0x2020202020202020u)
            at += 8;
        if (at == end || (*at != ' ' && *at != '\n' && *at != '\r' && *at != '\t'))
            return at;
        at += 1;
    }
}

#endif
