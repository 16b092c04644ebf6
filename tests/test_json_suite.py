"""Other people's cases: JSONTestSuite by Nicolas Seriot (tests/data/json/README.md)."""

import json
from pathlib import Path

import pytest

from seafoam._core import json as text_of
from seafoam._core import json_equal as equal_of

DATA = Path(__file__).with_name("data") / "json"
SUITE = json.loads((DATA / "jsontestsuite.json").read_text())


def text_from(case: object) -> bytes:
    if isinstance(case, list):
        unit, count, rest = case
        return (unit * count + rest).encode("latin-1")
    assert isinstance(case, str)
    return case.encode("latin-1")


PARSING = {name: text_from(case) for name, case in SUITE["parsing"].items()}
TRANSFORM = {name: text_from(case) for name, case in SUITE["transform"].items()}

SURROGATE = "an escaped surrogate must be one of a pair, high before low"
UTF8 = "the text is not valid UTF-8"
EXPONENT = "an exponent must be within a million"
VALUE = "a value is expected"

#: What is each parser's own choice, and ours: None is accepted, else the reason of the refusal.
CHOICES = {
    # Numbers are kept as they are written, so none is too large, too small or too precise...
    "i_number_double_huge_neg_exp": None,
    "i_number_neg_int_huge_exp": None,
    "i_number_pos_double_huge_exp": None,
    "i_number_real_neg_overflow": None,
    "i_number_real_pos_overflow": None,
    "i_number_too_big_neg_int": None,
    "i_number_too_big_pos_int": None,
    "i_number_very_big_negative_int": None,
    # ... but exponents end at a million, either way.
    "i_number_huge_exp": EXPONENT,
    "i_number_real_underflow": EXPONENT,
    # Half a surrogate pair is no character.
    "i_object_key_lone_2nd_surrogate": SURROGATE,
    "i_string_1st_surrogate_but_2nd_missing": SURROGATE,
    "i_string_1st_valid_surrogate_2nd_invalid": SURROGATE,
    "i_string_incomplete_surrogate_and_escape_valid": SURROGATE,
    "i_string_incomplete_surrogate_pair": SURROGATE,
    "i_string_incomplete_surrogates_escape_valid": SURROGATE,
    "i_string_invalid_lonely_surrogate": SURROGATE,
    "i_string_invalid_surrogate": SURROGATE,
    "i_string_inverted_surrogates_U+1D11E": SURROGATE,
    "i_string_lone_second_surrogate": SURROGATE,
    # UTF-8 as RFC 3629 defines it, and nothing else.
    "i_string_UTF-8_invalid_sequence": UTF8,
    "i_string_UTF8_surrogate_U+D800": UTF8,
    "i_string_invalid_utf-8": UTF8,
    "i_string_iso_latin_1": UTF8,
    "i_string_lone_utf8_continuation_byte": UTF8,
    "i_string_not_in_unicode_range": UTF8,
    "i_string_overlong_sequence_2_bytes": UTF8,
    "i_string_overlong_sequence_6_bytes": UTF8,
    "i_string_overlong_sequence_6_bytes_null": UTF8,
    "i_string_truncated-utf-8": UTF8,
    "i_string_UTF-16LE_with_BOM": VALUE,
    "i_string_utf16BE_no_BOM": VALUE,
    "i_string_utf16LE_no_BOM": VALUE,
    "i_structure_UTF-8_BOM_empty_object": "a byte order mark is not allowed",
    # The limit is 512.
    "i_structure_500_nested_arrays": None,
}


def named(prefix: str) -> list[str]:
    return sorted(name for name in PARSING if name.startswith(prefix))


def test_the_suite_is_whole():
    assert [len(named(prefix)) for prefix in ("y_", "n_", "i_")] == [95, 188, 35]
    assert named("i_") == sorted(CHOICES)
    assert len(TRANSFORM) == 22


@pytest.mark.parametrize("name", named("y_"))
def test_what_must_be_accepted_is(name):
    text_of.check(PARSING[name])
    compacted = text_of.compact(PARSING[name])
    assert json.loads(compacted) == json.loads(PARSING[name])
    assert equal_of.equal(compacted, PARSING[name])


@pytest.mark.parametrize("name", named("n_"))
def test_what_must_be_refused_is(name):
    with pytest.raises(text_of.JsonError):
        text_of.check(PARSING[name])
    with pytest.raises(text_of.JsonError):
        text_of.compact(PARSING[name])


@pytest.mark.parametrize("name", named("i_"))
def test_what_is_left_to_the_parser(name):
    if CHOICES[name] is None:
        assert text_of.compact(PARSING[name]) == PARSING[name].strip()
    else:
        with pytest.raises(text_of.JsonError) as caught:
            text_of.check(PARSING[name])
        assert caught.value.reason == CHOICES[name]


@pytest.mark.parametrize("name", sorted(TRANSFORM))
def test_transforms_leave_the_text_as_it_is(name):
    """Where parsers round, merge names or replace characters, the text is kept or refused."""
    if "invalid_codepoint" in name:
        with pytest.raises(text_of.JsonError) as caught:
            text_of.compact(TRANSFORM[name])
        assert caught.value.reason == (SURROGATE if "escaped" in name else UTF8)
    else:
        assert text_of.compact(TRANSFORM[name]) == b"".join(TRANSFORM[name].split())
