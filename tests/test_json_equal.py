"""When two JSON texts mean the same: by rule, and against the standard library with decimals."""

import ctypes
import json
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from json_support import (
    SOAK,
    STATUS_INVALID,
    STATUS_OK,
    GuardedMemory,
    document,
    meaning,
    mutated,
    native_equal,
    parse,
    spaced,
    value_tokens,
)
from seafoam._core import json as text_of
from seafoam._core.json_equal import equal
from test_json import runs_beside

COUNT = 200_000 if SOAK else 6_000


def agrees(left, right):
    """Both ways round; returns the answer."""
    answer = equal(left, right)
    assert answer == equal(right, left)
    assert answer == (meaning(parse(left)) == meaning(parse(right))), (left, right)
    return answer


SAME = [
    ("1", "1.0"), ("1", "10e-1"), ("1", "0.1e1"), ("1", "1E0"), ("1", "1e+00"), ("100", "1e2"),
    ("-0", "0"), ("0", "0.000"), ("0", "-0.0e5"), ("0e1000000", "0e-1000000"),
    ("1e1000000", "10e999999"), ("0.001e1000000", "1e999997"), ("1e-1000000", "0.1e-999999"),
    ("123.456", "123456e-3"), ("123.4560", "0.000123456E6"), ("1000.0001", "10000001e-4"),
    ("-1.50", "-15e-1"), ("0.0010", "1e-3"), ("1" + "0" * 5000, "1e5000"),
    ("0." + "0" * 4999 + "1", "1e-5000"), ("100000000000000000000000000001.0",
                                           "100000000000000000000000000001"),
    ('"a"', '"\\u0061"'), ('"\\u00e9"', '"é"'), ('"\\ud83d\\ude00"', '"😀"'), ('"/"', '"\\/"'),
    ('"\\n"', '"\\u000a"'), ('""', ' "" '), ('"\\u0000"', '"\\u0000"'), ('"\\\\"', '"\\u005C"'),
    ("[]", " [ ] "), ("{}", " { } "), ("[1,[2,{}]]", "[1.0, [20e-1, { }]]"),
    ('{"a":1,"b":2}', '{"b":2,"a":1}'), ('{"\\u0061":1}', '{"a":1}'),
    ('{"a":1,"a":2}', '{"a":2}'), ('{"a":1,"b":0,"a":2}', '{"b":0,"a":2,"b":0}'),
    ('{"a":{"x":1},"\\u0061":[]}', '{"a":[]}'), ('{"a":1,"a":1}', '{"a":1}'),
    ('{"":1}', '{"":1.0}'), ("true", " true"), ("null", "null "), ("false", "\nfalse"),
    ('{"a":{"b":{"c":[1,2]}}}', '{"a":{"b":{"c":[1.0,2.0]}}}'),
]
DIFFERENT = [
    ("1", "2"), ("1", "-1"), ("1", "10"), ("1", "0.1"), ("1", "true"), ("0", "false"),
    ("0", "null"), ("0", '""'), ("1", '"1"'), ("null", "false"), ("null", "[]"), ("[]", "{}"),
    ("true", "false"), ('"a"', '"A"'), ('"a"', '"ab"'), ('""', '"\\u0000"'), ('"é"', '"e\\u0301"'),
    ("1e1000000", "1e999999"), ("1e1000000", "1e-1000000"), ("12", "120"), ("12", "1.2"),
    ("1.2", "1.21"), ("1.21", "1.2"), ("101", "11"), ("1.01", "10.1"),
    ("1.0000000000000000001", "1"),
    ("100000000000000000000000000001", "100000000000000000000000000002"),
    ("9007199254740993", "9007199254740992"), ("0.1", "0.10000000000000000555"),
    ("[1,2]", "[2,1]"), ("[1]", "[1,1]"), ("[1,1]", "[1]"), ("[]", "[null]"), ("[[]]", "[]"),
    ("[[1],2]", "[[1,2]]"), ('{"a":1}', '{"a":1,"b":1}'), ('{"a":1,"b":1}', '{"a":1}'),
    ('{"a":1}', '{"b":1}'), ('{"a":null}', "{}"), ('{"a":1,"a":2}', '{"a":1}'),
    ('{"a":1,"b":2}', '{"a":2,"b":1}'), ('{"ab":1}', '{"a":1}'),
    ('{"a":{"b":1}}', '{"a":{"b":2}}'),
    ('{"a":1,"a":2,"b":3}', '{"a":2,"a":1,"b":3}'), ('["a","b"]', '["a,b"]'),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_same(left, right):
    assert agrees(left.encode(), right.encode())


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different(left, right):
    assert not agrees(left.encode(), right.encode())


def test_seeded_pairs():
    """Small values, so that many pairs are equal by chance."""
    rng = random.Random(31)
    names = ["a", "b", "\\u0061", "ab", ""]

    def small(depth):
        kind = rng.randrange(6 if depth else 3)
        if kind == 0:
            return [rng.choice(["0", "-0", "1", "1.0", "10e-1", "0e7", "2"])]
        if kind == 1:
            return [rng.choice(['"a"', '"\\u0061"', '""', "true", "null"])]
        tokens = []
        for index in range(rng.randrange(4)):
            tokens += [","] * (index > 0)
            tokens += [f'"{rng.choice(names)}"', ":"] * (kind >= 4) + small(max(depth - 1, 0))
        return ["{", *tokens, "}"] if kind >= 4 else ["[", *tokens, "]"]

    equals = 0
    for _ in range(COUNT):
        equals += agrees(spaced(rng, small(2)), spaced(rng, small(2)))
    assert COUNT * 0.01 < equals < COUNT * 0.5


def respelled(rng, value):
    """Another text of the same meaning, from a parsed value."""
    if isinstance(value, tuple):
        # Members that are overruled may say anything, as long as they come before.
        last = list(dict(value[1]).items())
        rng.shuffle(last)
        pairs = [(name, respelled(rng, member)) for name, member in last]
        for name, _ in last[: rng.randrange(3)]:
            pairs.insert(0, (name, rng.choice(["0", "[]", "{}", '"x"', '{"a":[1]}'])))
        return "{" + ",".join(f"{quoted(rng, name)} :{text}" for name, text in pairs) + "}"
    if isinstance(value, list):
        return "[ " + " ,".join(respelled(rng, item) for item in value) + "]"
    if type(value) is str:
        return quoted(rng, value)
    if isinstance(value, str):
        return respelled_number(rng, value)
    return json.dumps(value)


def quoted(rng, text):
    pieces = []
    for char in text:
        plain = json.dumps(char)[1:-1]
        pieces.append(rng.choice([plain, char if char >= " " and char not in '"\\' else plain]))
    return '"' + "".join(pieces) + '"'


def respelled_number(rng, number):
    """The decimal point moved, the exponent to match, zeros added where they mean nothing."""
    sign, digits, exponent = Decimal(number).as_tuple()
    digits = "".join(map(str, digits)) + "0" * (zeros := rng.randrange(3))
    exponent -= zeros
    point = rng.randrange(1, len(digits) + 1)
    exponent += len(digits) - point
    if abs(exponent) > 1_000_000:
        return number
    whole, fraction = digits[:point], digits[point:]
    whole = whole.lstrip("0") or "0"
    fraction += "0" * rng.randrange(3)
    return ("-" * sign + whole + ("." + fraction if fraction else "")
            + rng.choice(["e", "E"]) + ("+" if exponent >= 0 and rng.random() < 0.5 else "")
            + str(exponent))


def test_other_texts_of_the_same_meaning_and_one_change_in_them():
    rng = random.Random(32)
    differing = 0
    for _ in range(COUNT // 2):
        text = document(rng)
        other = respelled(rng, parse(text)).encode()
        assert agrees(text, other)
        changed = mutated(rng, other)
        try:
            text_of.check(changed)
        except text_of.JsonError:
            continue
        differing += not agrees(text, changed)
    assert differing > COUNT // 100


@settings(max_examples=3000 if SOAK else 300, deadline=None, derandomize=True)
@given(st.from_regex(r"\A-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,8})?([eE][+-]?[0-9]{1,6})?\Z"),
       st.randoms(use_true_random=False))
def test_numbers_as_exact_decimals(number, rng):
    text = number.encode()
    assert agrees(text, respelled_number(rng, number).encode())
    for _ in range(3):
        changed = mutated(rng, text)
        try:
            text_of.check(changed)
        except text_of.JsonError:
            continue
        agrees(text, changed)


# ---- sizes that would hurt a careless comparison ----


def test_objects_of_many_names():
    """100,000 names in other orders; quadratic work would take an hour."""
    rng = random.Random(33)
    members = [f'"{index:07d}":{index}' for index in range(100_000)]
    text = ("{" + ",".join(members) + "}").encode()
    for shuffle in (list.reverse, rng.shuffle):
        shuffle(members)
        assert equal(text, ("{" + ",".join(members) + "}").encode())
    assert not equal(text, ("{" + ",".join(members[1:]) + "}").encode())
    members[50_000] = members[50_000] + "1"
    assert not equal(text, ("{" + ",".join(members) + "}").encode())


def test_one_name_many_times():
    left = b"{" + b'"a":[1],' * 100_000 + b'"a":2}'
    assert equal(left, b'{"a":2}')
    assert not equal(left, b'{"a":[1]}')


def test_names_with_a_long_common_beginning():
    names = [("x" * 5_000 + str(index)) for index in range(200)]
    left = json.dumps(dict.fromkeys(names, 1)).encode()
    right = json.dumps(dict.fromkeys(reversed(names), 1)).encode()
    assert equal(left, right)


def test_long_numbers_and_far_exponents():
    digits = b"1234567890" * 100_000
    assert equal(digits, b"0." + digits + b"e1000000")
    assert equal(digits, digits + b".0")
    assert not equal(digits, digits[:-1] + b"1")
    assert equal(b"1e1000000", b"1" + b"0" * 1_000_000)
    assert equal(b"[" + b"1e1000000," * 50_000 + b"1]", b"[" + b"10e999999," * 50_000 + b"1]")


def test_deep_nesting():
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}"), (b'{"b":2,"a":', b"}")):
        left = opening * 512 + b"1" + closing * 512
        assert equal(left, opening * 512 + b"1.0" + closing * 512)
        assert not equal(left, opening * 512 + b"2" + closing * 512)
    # Two members of one name at every level, the loser as deep as the winner: each level once.
    left = right = b"1"
    for _ in range(15):
        left, right = b'{"a":%s,"a":%s}' % (left, left), b'{"a":%s}' % right
    assert equal(left, right)


def test_long_arrays():
    left = b"[" + b"[1]," * 100_000 + b"[1]]"
    assert equal(left, b"[" + b"[1.0]," * 100_000 + b"[1]]")
    assert not equal(left, b"[" + b"[1.0]," * 100_000 + b"[2]]")
    assert not equal(left, b"[" + b"[1]," * 99_999 + b"[1]]")


# ---- as C calls it ----


def test_texts_that_were_never_checked_do_no_harm():
    """Any answer or STATUS_INVALID, and nothing read outside of the texts."""
    rng = random.Random(34)
    one, other = GuardedMemory(1 << 16), GuardedMemory(1 << 16)
    answer, statuses = ctypes.c_int(), set()
    texts = [b"", b"]", b"[", b"{", b"}", b"[}", b'{"a"}', b"{1:2}", b'{"a":1,"b"}', b"1 2", b",",
             b'{"a","b"}', b"[1]]", b"-", b"1e", b'"', b'"\\', b'"\\ud800"', b"{[]:1}", b"tru"]
    for _ in range(COUNT // 2):
        texts.append(mutated(rng, spaced(rng, value_tokens(rng, 3))))
    for text in texts:
        against = rng.choice(texts)
        status = native_equal(one.place(text), len(text), other.place(against), len(against),
                              ctypes.byref(answer))
        assert status in (STATUS_OK, STATUS_INVALID)
        assert answer.value in (0, 1)
        statuses.add(status)
    assert statuses == {STATUS_OK, STATUS_INVALID}


def test_what_is_no_json_is_refused():
    for left, right in ((b"[1", b"1"), (b"1", b"[1"), (b"", b"1")):
        with pytest.raises(text_of.JsonError):
            equal(left, right)
    for wrong in ("1", None, bytearray(b"1")):
        with pytest.raises(TypeError):
            equal(b"1", wrong)


def test_long_texts_let_other_threads_run():
    left = b"[" + b"1," * 100_000 + b"1]"
    assert runs_beside(lambda: equal(left, left[:-1] + b" ]"), 200)
