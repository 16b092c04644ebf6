"""JSON text against two other readers: the standard library's and orjson.

Where they decide otherwise than `_core.json`, it is one of these, and each has its test:

standard library   accepts escapes of lone surrogates; accepts any exponent; merges equal names
orjson             refuses numbers that overflow a double; accepts any exponent that does not;
                   rounds numbers; merges equal names; nests to 1,024
"""

import json
import math
import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from json_support import (
    SOAK,
    Number,
    accepts,
    document,
    expected,
    exponent_of,
    mutated,
    parse,
    scalars,
)
from seafoam._core import json as text_of
from seafoam._core import json_equal as equal_of

COUNT = 1_000_000 if SOAK else 20_000


def agree(text):
    """All three on one text; returns whether it is JSON."""
    ours = accepts(text)
    assert ours == expected(text), text
    try:
        orjson.loads(text)
        theirs = True
    except orjson.JSONDecodeError:
        theirs = False
    if ours != theirs:
        numbers = [item for item in scalars(parse(text)) if isinstance(item, Number)]
        if ours:
            assert any(math.isinf(float(number)) for number in numbers), text
        else:
            assert any(exponent_of(number) > 1_000_000 for number in numbers), text
    return ours


def test_seeded_documents_and_their_mutations():
    rng = random.Random(21)
    accepted = 0
    for _ in range(COUNT // 2):
        text = document(rng, rng.choice([1, 3, 5]))
        assert agree(text), text
        accepted += agree(mutated(rng, text))
    # Both outcomes must be well represented for this to mean anything.
    assert COUNT // 2 * 0.1 < accepted < COUNT // 2 * 0.9


def test_random_bytes():
    rng = random.Random(22)
    alphabet = (b'[]{}",:\\u0123456789abcdefDtrulsn.eE+- \n'
                b"\x00\x1f\x7f\x80\xbf\xc3\xa9\xed\xa0\xf0\xff")
    for _ in range(COUNT // 2):
        agree(rng.randbytes(rng.randrange(12)))
        agree(bytes(rng.choices(alphabet, k=rng.randrange(1, 16))))


def test_every_text_of_up_to_three_bytes():
    """Over the bytes that mean something, plus one of each other kind."""
    alphabet = [bytes([byte]) for byte in b'[]{}",:\\/019-+.eEtn \t\x0b\x00\x1f\x80\xc3\xa9']
    for first in alphabet:
        agree(first)
        for second in alphabet:
            agree(first + second)
            for third in alphabet:
                agree(first + second + third)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@settings(max_examples=3000 if SOAK else 300, deadline=None, derandomize=True)
@given(json_values, st.randoms(use_true_random=False))
def test_what_orjson_writes(value, rng):
    text = orjson.dumps(value)
    indented = orjson.dumps(value, option=orjson.OPT_INDENT_2)
    loose = json.dumps(value, indent=rng.choice([None, 1, 9]), ensure_ascii=True).encode()
    assert text_of.compact(text) == text
    assert text_of.compact(indented) == text
    assert orjson.loads(text_of.compact(loose)) == value
    for written in (text, indented, loose):
        assert agree(written)
        agree(mutated(rng, written))
        assert equal_of.equal(written, text)


@settings(max_examples=3000 if SOAK else 300, deadline=None, derandomize=True)
@given(st.binary(max_size=40))
def test_hypothesis_bytes(text):
    agree(text)
    agree(b'"' + text + b'"')
    agree(b"[" + text + b"]")


def test_compaction_changes_nothing_orjson_can_see():
    rng = random.Random(23)
    decided = 0
    for _ in range(COUNT // 10):
        text = document(rng)
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            continue
        decided += 1
        assert orjson.loads(text_of.compact(text)) == value
        assert json.loads(text_of.compact(text)) == json.loads(text)
    assert decided > COUNT // 20


@pytest.mark.parametrize(("text", "ours", "standard", "fast"), [
    (b'"\\ud800"', False, True, False),           # a lone surrogate
    (b'["\\udc00\\ud800"]', False, True, False),  # a pair the wrong way round
    (b"1e1000001", False, True, False),           # an exponent beyond a million
    (b"1e-1000001", False, True, True),           # ... which is nothing to a double
    (b"0e9999999", False, True, True),            # ... also of nothing
    (b"1e400", True, True, False),                # more than a double holds
    (b"-1e1000000", True, True, False),
    (b"NaN", False, True, False),                 # no JSON, but the standard library's
    (b"[-Infinity]", False, True, False),
])
def test_documented_differences(text, ours, standard, fast):
    def decides(loads, error):
        try:
            loads(text)
        except error:
            return False
        return True

    assert accepts(text) == ours
    assert decides(json.loads, ValueError) == standard
    assert decides(orjson.loads, orjson.JSONDecodeError) == fast


def test_depth_is_the_callers():
    for depth in (1, 2, 511, 512, 513, 1024):
        text = b"[" * depth + b"]" * depth
        text_of.check(text, depth)
        orjson.loads(text)
        with pytest.raises(text_of.JsonError):
            text_of.check(text, depth - 1)
    assert not accepts(b"[" * 513 + b"]" * 513)


def test_names_may_repeat_and_are_kept():
    text = b'{"a":1,"a":2}'
    assert text_of.compact(text) == text
    assert [name for name, _, _ in text_of.fields(text)] == ["a", "a"]
    assert json.loads(text) == orjson.loads(text) == {"a": 2}
    assert equal_of.equal(text, b'{"a":2}')


def test_numbers_are_kept_as_they_are_written():
    for number in (b"100000000000000000000000000001", b"1.000000000000000000000000001", b"1E+05",
                   b"-0.0", b"9007199254740993", b"1e1000000"):
        assert text_of.compact(b" [ " + number + b" ] ") == b"[" + number + b"]"
    assert orjson.loads(b"100000000000000000000000000001") == 1e29
