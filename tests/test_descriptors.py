"""The files that a process may have open, and who may have how many."""

from __future__ import annotations

import resource

import pytest

from seafoam._core.limits import CONNECTIONS_MAX, PEER_CONNECTIONS_MAX
from seafoam.descriptors import OWN_COUNT, REFUSED_COUNT_MAX, Shares, claim, share, tell


@pytest.mark.parametrize("count", [64, 65, 100, 256, 1024, 4096, 10_000, 20_000])
def test_all_shares_together_fit_and_clients_have_most(count):
    shares = share(count)
    assert OWN_COUNT + sum(shares) < count, "what is left is for dialling others"
    assert shares.clients_max >= (min(count, CONNECTIONS_MAX) - OWN_COUNT) // 2
    assert shares.callers_max >= 10 and shares.refused_max >= 5


def test_where_there_is_enough_everybody_has_all():
    assert share(20_000) == Shares(CONNECTIONS_MAX, REFUSED_COUNT_MAX, PEER_CONNECTIONS_MAX)


def test_the_limit_is_raised_as_far_as_it_may_be(caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        shares = claim()
        raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert raised > 200 and shares == share(raised)
        tell(shares)
        assert ("the limit of open files" in caplog.text) == (shares.clients_max < CONNECTIONS_MAX)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
