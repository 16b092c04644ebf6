"""The error table and the exceptions."""

import pickle

import pytest

import seafoam
from seafoam.errors import CODES, CasMismatch, InvariantBroken, KeyNotFound, Refusal, ensure

GRPC = {
    "INVALID_ARGUMENT", "PERMISSION_DENIED", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED",
    "RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED",
}


def test_each_row_is_whole():
    for code, row in CODES.items():
        assert code.replace("_", "").isalpha() and code.islower()
        assert 400 <= row.http_status <= 507 and row.http_status != 500
        assert row.grpc_status in GRPC
        assert row.meaning.endswith(".")


def test_a_refusal_takes_its_status_from_the_table_and_no_other_code():
    refusal = Refusal("disk_full", "no room", applied="no")
    assert (refusal.http_status, refusal.message, refusal.applied) == (507, "no room", "no")
    assert str(refusal) == "no room"
    with pytest.raises(KeyError):
        Refusal("no_such_code", "")


def test_ensure_raises_with_its_message():
    ensure(True, "never seen")
    with pytest.raises(InvariantBroken, match=r"^seen$"):
        ensure(0, "seen")


def test_a_key_not_found_is_a_key_error_that_prints_its_sentence():
    error = KeyNotFound("there is no key 'a'")
    assert isinstance(error, KeyError) and str(error) == "there is no key 'a'"


@pytest.mark.parametrize("name", [name for name in seafoam.__all__ if name[0].isupper()])
def test_every_exported_exception_is_a_seafoam_error_and_can_cross_processes(name):
    kind = getattr(seafoam, name)
    assert issubclass(kind, seafoam.SeafoamError)
    assert str(pickle.loads(pickle.dumps(kind("words")))) == "words"


def test_a_mismatch_is_no_key_error():
    assert not issubclass(CasMismatch, KeyError)
