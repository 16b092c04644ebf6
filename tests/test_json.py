"""JSON text, rule by rule: what is accepted, what is refused with which words, what comes out."""

import ctypes
import json
import random
import sys
import threading

import orjson
import pytest

from json_support import (
    STATUS_INVALID,
    STATUS_NOT_FOUND,
    STATUS_OK,
    STATUS_TOO_LARGE,
    Buffer,
    Fault,
    Field,
    Fields,
    GuardedMemory,
    Span,
    accepts,
    document,
    mutated,
    native_check,
    native_compact,
    native_fields,
    native_next,
    native_quote,
    native_uint64,
    native_unescape,
    spaced,
    value_tokens,
)
from seafoam._core import json as text_of

REFUSALS = [
    (b"", "the text is empty", 0),
    (b" \n\t\r", "the text is empty", 4),
    (b"\xef\xbb\xbf{}", "a byte order mark is not allowed", 0),
    (b"[", "the text ends too early", 1),
    (b"[1", "the text ends too early", 2),
    (b"[1,", "the text ends too early", 3),
    (b'{"a"', "the text ends too early", 4),
    (b'{"a":', "the text ends too early", 5),
    (b'{"a":1', "the text ends too early", 6),
    (b'{"a":1,', "the text ends too early", 7),
    (b'"', "the text ends too early", 1),
    (b'"abc\\', "the text ends too early", 5),
    (b'"abc\\u12', "the text ends too early", 8),
    (b"-", "the text ends too early", 1),
    (b"1.", "the text ends too early", 2),
    (b"1e", "the text ends too early", 2),
    (b"1e-", "the text ends too early", 3),
    (b"?", "a value is expected", 0),
    (b"[,1]", "a value is expected", 1),
    (b"[1,,2]", "a value is expected", 3),
    (b'{"a":}', "a value is expected", 5),
    (b"]", "a value is expected", 0),
    (b"\x00", "a value is expected", 0),
    (b"\x0b1", "a value is expected", 0),
    (b"\x0c1", "a value is expected", 0),
    (b"\xc2\xa01", "a value is expected", 0),
    (b"+1", "a value is expected", 0),
    (b".5", "a value is expected", 0),
    (b"NaN", "a value is expected", 0),
    (b"Infinity", "a value is expected", 0),
    (b"True", "a value is expected", 0),
    (b"'a'", "a value is expected", 0),
    (b"/*x*/1", "a value is expected", 0),
    (b"[1, ]", "a comma must be followed by a value", 4),
    (b'{"a":1 , }', "a comma must be followed by a name", 9),
    (b"{1:2}", "a name in double quotes is expected", 1),
    (b"{,}", "a name in double quotes is expected", 1),
    (b'{"a":1,,', "a name in double quotes is expected", 7),
    (b'{"a":1,b}', "a name in double quotes is expected", 7),
    (b"{'a':1}", "a name in double quotes is expected", 1),
    (b'{"a" 1}', "a name must be followed by a colon", 5),
    (b'{"a"}', "a name must be followed by a colon", 4),
    (b"[1 2]", "a comma or a closing bracket is expected", 3),
    (b"[1}", "a comma or a closing bracket is expected", 2),
    (b'{"a":1]', "a comma or a closing brace is expected", 6),
    (b'{"a":1 "b":2}', "a comma or a closing brace is expected", 7),
    (b'{"a":"b":"c"}', "a comma or a closing brace is expected", 8),
    (b"1 2", "nothing may follow the value", 2),
    (b"{}}", "nothing may follow the value", 2),
    (b'"a""b"', "nothing may follow the value", 3),
    (b"1\x00", "nothing may follow the value", 1),
    (b"1//", "nothing may follow the value", 1),
    (b"0x1", "nothing may follow the value", 1),
    (b"tru", "the only words are true, false and null", 0),
    (b"[nul]", "the only words are true, false and null", 1),
    (b"fALSE", "the only words are true, false and null", 0),
    (b"nullx", "nothing may follow the value", 4),
    (b"-a", "a digit is expected", 1),
    (b"--1", "a digit is expected", 1),
    (b"-Infinity", "a digit is expected", 1),
    (b"1.e5", "a digit is expected", 2),
    (b"1ee5", "a digit is expected", 2),
    (b"1e+-5", "a digit is expected", 3),
    (b"[1e]", "a digit is expected", 3),
    (b"01", "a number of several digits must not begin with a zero", 0),
    (b"-00", "a number of several digits must not begin with a zero", 1),
    (b"00.5", "a number of several digits must not begin with a zero", 0),
    (b"1e1000001", "an exponent must be within a million", 2),
    (b"1e-1000001", "an exponent must be within a million", 3),
    (b"0e+99999999999999999999999999", "an exponent must be within a million", 3),
    (b'"a\x1fb"', "a control character in a string must be escaped", 2),
    (b'"\n"', "a control character in a string must be escaped", 1),
    (b'{"\t":1}', "a control character in a string must be escaped", 2),
    (b'"\\x41"', 'a backslash must be followed by one of "\\/bfnrtu', 1),
    (b'"\\U0041"', 'a backslash must be followed by one of "\\/bfnrtu', 1),
    (b'"\\\'"', 'a backslash must be followed by one of "\\/bfnrtu', 1),
    (b'"\\u004g"', "\\u must be followed by four hexadecimal digits", 1),
    (b'"\\u 041"', "\\u must be followed by four hexadecimal digits", 1),
    (b'"\\ud800"', "an escaped surrogate must be one of a pair, high before low", 1),
    (b'"a\\udc00"', "an escaped surrogate must be one of a pair, high before low", 2),
    (b'"\\ud800\\ud800"', "an escaped surrogate must be one of a pair, high before low", 1),
    (b'"\\ud800\\u0041"', "an escaped surrogate must be one of a pair, high before low", 1),
    (b'"\\ud800x\\udc00"', "an escaped surrogate must be one of a pair, high before low", 1),
    (b'{"\\ud800":1}', "an escaped surrogate must be one of a pair, high before low", 2),
    (b'"\x80"', "the text is not valid UTF-8", 1),
    (b'"abc\xc3"', "the text is not valid UTF-8", 4),
    (b'"\xc3', "the text is not valid UTF-8", 1),
]


@pytest.mark.parametrize(("text", "reason", "offset"), REFUSALS)
def test_refusal(text, reason, offset):
    for attempt in (text_of.check, text_of.compact):
        with pytest.raises(text_of.JsonError) as caught:
            attempt(text)
        assert (caught.value.reason, caught.value.offset) == (reason, offset)
        assert str(caught.value) == f"{reason}, at byte {offset}"
        assert isinstance(caught.value, ValueError)


def test_every_reason_has_been_seen():
    seen = {reason for _, reason, _ in REFUSALS}
    phrase = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_int)
    name_of = ctypes.pythonapi.PyCapsule_GetName
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    capsule = text_of.__pyx_capi__["json_reason"]
    reason = phrase(pointer_of(capsule, name_of(capsule)))
    phrases = [reason(number).decode() for number in range(1, 100)]
    known = set(phrases[: phrases.index("there is no fault")])
    assert known == seen | {
        "arrays and objects are nested too deeply", "the text must be an object"}
    assert reason(0) == reason(-1) == b"there is no fault"


@pytest.mark.parametrize("text", [
    b"null", b" true ", b"false\n", b"0", b"-0", b"0.0", b"-0.0e-0", b"1E5", b"1e+5", b'""',
    b'"\\u0000"', b'"\x7f"', b'"\\/"', b"[]", b"{}", b" [ ] ", b'{"":{}}', b'{"a":1,"a":2}',
    b"1e1000000", b"1e-1000000", b"1e0000000001000000", b"0e1000000", b'"\\uD83D\\uDE00"',
    b'"\xf4\x8f\xbf\xbf"', b'"\xef\xbf\xbf"', b'"\xef\xbb\xbf"', b"1" * 100_000,
    b"0." + b"0" * 100_000 + b"1", b"\t\r\n [\t\r\n 1\t\r\n ,\t\r\n 2\t\r\n ]\t\r\n ",
])
def test_accepted(text):
    text_of.check(text)


def test_every_pair_of_bytes_as_the_standard_library_decodes_it():
    """UTF-8 in strings: all two-byte beginnings, completed in all lengths."""
    tails = [b"", b"\x80", b"\x80\x80", b"\xbf\xbf", b"\x80\x80\x80", b"\x7f\x80"]
    for first in range(0x80, 0x100):
        for second in (*range(0x7E, 0xC2, 1), 0x00, 0x41, 0xFF):
            for tail in tails:
                inside = bytes([first, second]) + tail
                try:
                    inside.decode("utf-8")
                    right = not any(byte < 0x20 for byte in inside)
                except UnicodeDecodeError:
                    right = False
                assert accepts(b'"' + inside + b'"') == right, inside


def test_every_character_is_accepted_and_comes_back():
    every = "".join(chr(code) for code in range(0x20, 0x110000)
                    if not 0xD800 <= code <= 0xDFFF and chr(code) not in '"\\')
    text = ('"' + every + '"').encode()
    assert text_of.compact(text) == text
    assert text_of.quote(every) == text
    escaped = json.dumps(every).encode()[1:-1]
    assert text_of.unescape(escaped) == every.encode()


def test_every_prefix_of_a_document_is_refused():
    rng = random.Random(11)
    for _ in range(60):
        text = spaced(rng, ["[", *value_tokens(rng), "]"]).strip()
        for length in range(len(text)):
            assert not accepts(text[:length]), text[:length]


# ---- depth ----


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"),
                                                  (b'[{"a":', b"}]")])
def test_depth_limit(opening, closing):
    levels = opening.count(b"[") + opening.count(b"{")
    right = opening * (512 // levels) + b"1" + closing * (512 // levels)
    text_of.check(right)
    assert text_of.compact(right) == right
    for deeper in (b"[" + right + b"]", b'{"x":' + right + b"}"):
        for attempt in (text_of.check, text_of.compact):
            with pytest.raises(text_of.JsonError) as caught:
                attempt(deeper)
            assert caught.value.reason == "arrays and objects are nested too deeply"
            assert caught.value.offset >= 512
        text_of.check(deeper, 513)


def test_depth_counts_nesting_not_brackets():
    text_of.check(b"[" + b"[[]]," * 1000 + b"{}]", 3)
    with pytest.raises(text_of.JsonError):
        text_of.check(b"[[[]]]", 2)
    text_of.check(b"1", 0)
    with pytest.raises(text_of.JsonError):
        text_of.check(b"[]", 0)


def test_max_depth_has_a_range():
    text_of.check(b"[" * 1024 + b"]" * 1024, 1024)
    with pytest.raises(text_of.JsonError):
        text_of.check(b"[" * 1025 + b"]" * 1025, 1024)
    for wrong in (-1, 1025):
        with pytest.raises(ValueError, match="max_depth must be from 0 to 1024"):
            text_of.check(b"1", wrong)


def test_an_endless_opening_is_refused_where_the_limit_is():
    for opening in (b"[", b'{"":', b'[{"":'):
        with pytest.raises(text_of.JsonError) as caught:
            text_of.check(opening * 1_000_000)
        assert caught.value.reason == "arrays and objects are nested too deeply"


# ---- compact, in another place and in its own ----


def compact_natively(text, in_place):
    guarded, target = GuardedMemory(len(text)), GuardedMemory(len(text))
    source = guarded.place(text)
    # Exactly as much room as is promised to be enough.
    room = source if in_place else target.place(b"\xee" * len(text))
    size, fault = ctypes.c_size_t(), Fault()
    status = native_compact(source, len(text), room, ctypes.byref(size), ctypes.byref(fault))
    return status, ctypes.string_at(room, size.value), fault


def test_compaction_drops_white_space_and_nothing_else():
    rng = random.Random(12)
    for _ in range(1500):
        tokens = value_tokens(rng)
        text, right = spaced(rng, tokens), "".join(tokens).encode()
        assert text_of.compact(text) == right
        assert text_of.compact(right) == right
        for in_place in (False, True):
            assert compact_natively(text, in_place)[:2] == (STATUS_OK, right)


def test_compaction_keeps_white_space_inside_strings():
    text = b' { " a\\t b " : [ " c  d " , "   " ] } '
    assert text_of.compact(text) == b'{" a\\t b ":[" c  d ","   "]}'


def test_compaction_of_what_is_refused_reports_offsets_of_the_source():
    for in_place in (False, True):
        status, _, fault = compact_natively(b'  {  "a"  :  [ 1 , 2 , ]  }  ', in_place)
        assert (status, fault.offset) == (STATUS_INVALID, 23)


def test_nothing_is_read_past_the_end():
    """Each text, right or wrong, ends where memory does, at every alignment."""
    rng = random.Random(13)
    memory = GuardedMemory(1 << 20)
    fault = Fault()
    texts = [text for text, _, _ in REFUSALS]
    texts += [b'"' + b"x" * length for length in range(70)]
    texts += [b'"' + "é".encode() * length + b"\xf0\x9f\x98"[: length % 4] for length in range(20)]
    texts += [b"[" + b" " * length for length in range(70)]
    texts += [b'"' + b"\\u12345"[:length] for length in range(8)]
    texts += [b'"' + b"\\ud83d\\ude00"[:length] for length in range(13)]
    for _ in range(1500):
        text = document(rng)
        texts += [text[: rng.randrange(len(text) + 1)], mutated(rng, text)]
    for text in texts:
        status = native_check(memory.place(text), len(text), 512, ctypes.byref(fault))
        assert status == (STATUS_OK if accepts(text) else STATUS_INVALID), text


# ---- fields and elements ----


def test_fields_in_order_with_their_kinds():
    text = (b' { "a" : [ 1 , { "x" : [ ] } ] , "b\\u00e9\\n" : " s " , "c":-1.50e3,"a":{ },'
            b'"":true, "d":false ,"e":null } ')
    assert text_of.fields(text) == [
        ("a", "array", b'[1,{"x":[]}]'), ("bé\n", "string", b'" s "'), ("c", "number", b"-1.50e3"),
        ("a", "object", b"{}"), ("", "true", b"true"), ("d", "false", b"false"),
        ("e", "null", b"null")]
    assert text_of.fields(b"{}") == text_of.fields(b" { } ") == []


@pytest.mark.parametrize(("text", "reason", "offset"), [
    (b"[1]", "the text must be an object", 0),
    (b'  "a"', "the text must be an object", 2),
    (b"", "the text is empty", 0),
    (b"\xef\xbb\xbf{}", "a byte order mark is not allowed", 0),
    (b"{", "the text ends too early", 1),
    (b"{ ", "the text ends too early", 2),
    (b'{"a"', "the text ends too early", 4),
    (b'{"a" :', "the text ends too early", 6),
    (b'{"a":1', "the text ends too early", 6),
    (b'{"a":1,', "the text ends too early", 7),
    (b'{"a":1}x', "nothing may follow the value", 7),
    (b'{"a":1} {}', "nothing may follow the value", 8),
    (b'{"a":1,}', "a comma must be followed by a name", 7),
    (b'{"a":1;}', "a comma or a closing brace is expected", 6),
    (b'{"a"=1}', "a name must be followed by a colon", 4),
    (b'{a:1}', "a name in double quotes is expected", 1),
    (b'{"a":[1,]}', "a comma must be followed by a value", 8),
    (b'{"a":}', "a value is expected", 5),
])
def test_fields_refuse_what_is_no_object(text, reason, offset):
    with pytest.raises(text_of.JsonError) as caught:
        text_of.fields(text)
    assert (caught.value.reason, caught.value.offset) == (reason, offset)


def fields_natively(text, capacity, max_depth=512, in_place=False):
    guarded, target = GuardedMemory(len(text)), GuardedMemory(len(text))
    source = guarded.place(text)
    room = source if in_place else target.place(b"\xee" * len(text))
    listed = (Field * max(capacity, 1))()
    fields = Fields(listed, capacity, max_depth, 0, 0)
    fault = Fault()
    status = native_fields(source, len(text), room, ctypes.byref(fields), ctypes.byref(fault))
    compacted = ctypes.string_at(room, fields.text_bytes)
    return status, compacted, fields.count, list(listed)[: min(capacity, fields.count)], fault


def test_field_spans_are_those_of_the_compact_text():
    rng = random.Random(14)
    for _ in range(400):
        members = [(f"name{index}\\n" if rng.random() < 0.3 else f"n{index}", value_tokens(rng, 2))
                   for index in range(rng.randrange(6))]
        tokens = ["{"]
        for index, (name, value) in enumerate(members):
            tokens += [","] * (index > 0) + [f'"{name}"', ":", *value]
        text = spaced(rng, [*tokens, "}"])
        for in_place in (False, True):
            status, compacted, count, fields, _ = fields_natively(text, 6, in_place=in_place)
            assert (status, count) == (STATUS_OK, len(members))
            assert compacted == text_of.compact(text)
            for field, (name, value) in zip(fields, members, strict=True):
                assert compacted[field.name_start : field.name_end].decode() == name
                assert bool(field.name_escaped) == ("\\" in name)
                assert compacted[field.value.start : field.value.end] == "".join(value).encode()
                assert compacted[field.name_start - 1 : field.name_start] == b'"'
                depth = nesting(json.loads("".join(value)))
                assert field.value.depth == depth
                with pytest.raises(text_of.JsonError):
                    text_of.check("".join(["[", *value, "]"]).encode(), depth)


def nesting(value):
    if isinstance(value, list):
        return 1 + max(map(nesting, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(nesting, value.values()), default=0)
    return 0


def test_more_fields_than_fit():
    text = b'{"a":1,"b":2,"c":[3]}'
    status, compacted, count, fields, _ = fields_natively(text, 2)
    assert (status, compacted, count, len(fields)) == (STATUS_TOO_LARGE, text, 3, 2)
    assert fields_natively(text, 3)[0] == STATUS_OK
    assert fields_natively(text, 0)[:3] == (STATUS_TOO_LARGE, text, 3)
    assert fields_natively(b"{}", 0)[:3] == (STATUS_OK, b"{}", 0)
    # Being no JSON comes before being too much.
    assert fields_natively(b'{"a":1,"b":2,"c":3', 2)[0] == STATUS_INVALID


def test_fields_count_the_object_itself_as_a_level():
    inner = b"[" * 512 + b"]" * 512
    assert fields_natively(b'{"value":' + inner + b"}", 1, 513)[0] == STATUS_OK
    status, _, _, _, fault = fields_natively(b'{"value":' + inner + b"}", 1, 512)
    assert (status, fault.offset) == (STATUS_INVALID, 9 + 511)
    assert fields_natively(b"{}", 1, 1)[0] == STATUS_OK
    assert fields_natively(b"{}", 1, 0)[0] == STATUS_INVALID
    # More than the stack has is as much as it has.
    assert fields_natively(b'{"a":' + b"[" * 1023 + b"]" * 1023 + b"}", 1, 10**6)[0] == STATUS_OK
    deepest = b'{"a":' + b"[" * 1024 + b"]" * 1024 + b"}"
    assert fields_natively(deepest, 1, 10**6)[0] == STATUS_INVALID


def test_elements():
    assert text_of.elements(b"[]") == text_of.elements(b" [ ] ") == []
    assert text_of.elements(b'[ 1 , "a,]" , [ 2 , { "x" : [ ] } ] , { } , null ]') == [
        b"1", b'"a,]"', b'[2,{"x":[]}]', b"{}", b"null"]
    with pytest.raises(ValueError, match="the text must be an array"):
        text_of.elements(b'{"a":[1]}')
    with pytest.raises(text_of.JsonError):
        text_of.elements(b"[1,2")
    many = orjson.dumps(list(range(10_000)))
    assert text_of.elements(many) == [str(number).encode() for number in range(10_000)]


def walk(memory, text):
    position, span, found = ctypes.c_size_t(0), Span(), []
    address = memory.place(text)
    while True:
        status = native_next(address, len(text), ctypes.byref(position), ctypes.byref(span))
        if status != STATUS_OK:
            return status, found
        found.append((text[span.start : span.end], span.depth))


def test_elements_of_text_with_white_space_and_of_text_that_was_never_checked():
    memory = GuardedMemory(1 << 16)
    assert walk(memory, b' [ 1 , [ [ 2 ] ] ,{"a":{}}] ') == (
        STATUS_NOT_FOUND, [(b"1", 0), (b"[ [ 2 ] ]", 2), (b'{"a":{}}', 2)])
    for wrong in (b"", b" ", b"1", b"{}", b"[", b"[1", b"[1,", b"[1,]", b"[1 2]", b"[,", b"[1}"):
        assert walk(memory, wrong)[0] == STATUS_INVALID, wrong
    position = ctypes.c_size_t(5)
    span = Span()
    assert native_next(memory.place(b"[1]"), 3, ctypes.byref(position),
                       ctypes.byref(span)) == STATUS_INVALID


# ---- strings and integers ----


def test_unescape():
    assert text_of.unescape(b"") == b""
    assert text_of.unescape(b"plain \xc3\xa9") == b"plain \xc3\xa9"
    assert text_of.unescape(b'\\"\\\\\\/\\b\\f\\n\\r\\t') == b'"\\/\x08\x0c\n\r\t'
    assert text_of.unescape(b"\\u0000\\u007f\\u0080\\u07ff\\u0800\\uffff").decode() == (
        "\x00\x7f\x80\u07ff\u0800\uffff")
    assert text_of.unescape(b"a\\ud800\\udc00b\\uDBFF\\uDFFF").decode() == "a\U00010000b\U0010ffff"
    for wrong, offset in ((b'a"b', 2), (b"\\", 1), (b"ab\\x", 2), (b"\\ud800", 0), (b"\n", 0),
                          (b"a\xff", 1)):
        with pytest.raises(text_of.JsonError) as caught:
            text_of.unescape(wrong)
        assert caught.value.offset == offset


def test_unescape_in_place_and_of_text_that_was_never_checked():
    rng = random.Random(15)
    memory = GuardedMemory(4096)
    size = ctypes.c_size_t()
    for _ in range(3000):
        inside = "".join(rng.choices(["a", "é", "\\n", "\\u00e9", "\\ud83d\\ude00", "\\\\"],
                                     k=rng.randrange(12))).encode()
        right = json.loads(b'"' + inside + b'"').encode()
        address = memory.place(inside)
        assert native_unescape(address, len(inside), address, ctypes.byref(size)) == STATUS_OK
        assert ctypes.string_at(address, size.value) == right
        cut = mutated(rng, inside)
        if accepts(b'"' + cut + b'"'):
            continue
        address = memory.place(cut)
        status = native_unescape(address, len(cut), address, ctypes.byref(size))
        assert status in (STATUS_OK, STATUS_INVALID)


def test_quote():
    assert text_of.quote("") == b'""'
    assert text_of.quote('a"b\\c/d') == b'"a\\"b\\\\c/d"'
    assert text_of.quote("\b\f\n\r\t\x00\x1f\x7f é 😀").decode() == (
        '"\\b\\f\\n\\r\\t\\u0000\\u001f\x7f é 😀"')
    assert text_of.quote(b"bytes \xc3\xa9") == b'"bytes \xc3\xa9"'
    for wrong in (b"\xff", b"a\xc3", b"\xed\xa0\x80", "\ud800"):
        with pytest.raises(ValueError, match="utf-8"):
            text_of.quote(wrong)
    with pytest.raises(TypeError):
        text_of.quote(5)


def test_quote_agrees_with_orjson_on_every_character_and_comes_back():
    for code in (*range(0x300), 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF):
        plain = "x" * (code % 20) + chr(code)
        assert text_of.quote(plain) == orjson.dumps(plain)
        assert text_of.unescape(text_of.quote(plain)[1:-1]) == plain.encode()


def test_quote_appends_and_takes_back_what_it_cannot_finish():
    free = ctypes.CDLL(None).free
    free.argtypes = [ctypes.c_void_p]
    buffer = Buffer()
    assert native_quote(b"one\n", 4, ctypes.byref(buffer)) == STATUS_OK
    assert native_quote(b"two\xff", 4, ctypes.byref(buffer)) == STATUS_INVALID
    assert ctypes.string_at(buffer.data, buffer.used_bytes) == b'"one\\n"'
    assert native_quote(b"", 0, ctypes.byref(buffer)) == STATUS_OK
    assert ctypes.string_at(buffer.data, buffer.used_bytes) == b'"one\\n"""'
    free(buffer.data)


def test_uint64():
    for number in (0, 1, 9, 10, 2**32, 2**63, 2**64 - 1, 10**19, 1844674407370955161):
        assert text_of.uint64(str(number).encode()) == number
    for wrong in (b"", b"-0", b"-1", b"1.0", b"1e3", b"00", b"01", b"+1", b" 1", b"1 ", b"x",
                  b"18446744073709551616", b"18446744073709551620", b"99999999999999999999",
                  b"100000000000000000000", b"1" * 30, b"1_0", b"0x1", b'"1"', b"\xd9\xa1"):
        assert text_of.uint64(wrong) is None, wrong
    value = ctypes.c_uint64(7)
    assert native_uint64(b"18446744073709551616", 20, ctypes.byref(value)) == STATUS_INVALID


# ---- sizes, types, and other threads ----


def test_large_texts():
    long = b'"' + b"x" * (8 << 20) + b'"'
    text_of.check(long)
    assert text_of.compact(long) == long
    assert text_of.unescape(long[1:-1]) == long[1:-1]
    assert text_of.quote(long[1:-1]) == long
    wide = b"[" + b"1," * (4 << 20) + b"1]"
    text_of.check(wide)
    assert text_of.compact(b" " * (8 << 20) + wide[:100] + b"1]") == wide[:100] + b"1]"
    assert text_of.fields(b'{"a":' + long + b',"b":' + wide + b"}") == [
        ("a", "string", long), ("b", "array", wide)]
    with pytest.raises(text_of.JsonError) as caught:
        text_of.check(wide[:-1])
    assert caught.value.offset == len(wide) - 1


def test_only_bytes_are_texts():
    for function in (text_of.check, text_of.compact, text_of.fields, text_of.elements,
                     text_of.unescape, text_of.uint64):
        for wrong in ("1", bytearray(b"1"), memoryview(b"1"), None, 1):
            with pytest.raises(TypeError):
                function(wrong)


def runs_beside(call, turns):
    """Whether another thread gets to run while `call` does, which keeps the GIL to itself unless
    it lets go: the interpreter's own switching is put off for the time."""
    go, ran = threading.Lock(), threading.Event()
    go.acquire()

    def wait_and_run():
        with go:
            ran.set()

    thread = threading.Thread(target=wait_and_run)
    interval = sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(1000)
    try:
        go.release()
        for _ in range(turns):
            call()
            if ran.is_set():
                return True
        return False
    finally:
        sys.setswitchinterval(interval)
        thread.join()


WIDE = b"[" + b'"0123456789",' * 100_000 + b"1]"


@pytest.mark.parametrize("call", [
    lambda: text_of.check(WIDE),
    lambda: text_of.compact(WIDE),
    lambda: text_of.fields(b'{"a":' + WIDE + b"}"),
    lambda: text_of.elements(b"[" + WIDE + b"]"),
    lambda: text_of.quote(WIDE),
    lambda: text_of.unescape(WIDE.replace(b'"', b"x")),
], ids=["check", "compact", "fields", "elements", "quote", "unescape"])
def test_long_texts_let_other_threads_run(call):
    assert runs_beside(call, 200)


def test_short_texts_keep_the_gil():
    assert not runs_beside(lambda: text_of.fields(b'{"a":[1,2,3]}'), 2000)
