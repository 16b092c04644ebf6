"""Status codes have a name each."""

from seafoam._core.status import NAMES, name_of


def test_each_code_has_its_own_name():
    assert sorted(NAMES) == list(range(len(NAMES)))
    assert len(set(NAMES.values())) == len(NAMES)


def test_a_code_nobody_knows_is_its_number():
    assert name_of(9) == "torn" and name_of(99) == "99"
