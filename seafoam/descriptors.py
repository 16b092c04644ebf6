"""How the files that a process may have open are shared out.

Owns that limit and the shares: of what is left beside the node's own, clients have half or more,
and no other kind of connection can take what another needs. Without shares, whoever opens enough
connections of one kind leaves none for the log or for the other nodes.
"""

from __future__ import annotations

import logging
import resource
from typing import NamedTuple

from seafoam._core.limits import CONNECTIONS_MAX, PEER_CONNECTIONS_MAX

__all__ = ["OWN_COUNT", "REFUSED_COUNT_MAX", "Shares", "claim", "share", "tell"]

#: Ports, log, map, event loop, threads and standard streams.
OWN_COUNT = 24
#: Clients past the limit that are being told so, or were closed to make room.
REFUSED_COUNT_MAX = 256
#: Connections to other nodes, two for each.
DIALLED_COUNT_MAX = 256

log = logging.getLogger("seafoam")


class Shares(NamedTuple):
    """How many connections of each kind there may be."""

    clients_max: int
    refused_max: int
    callers_max: int


def share(descriptors_count: int) -> Shares:
    """The shares of so many descriptors."""
    rest = max(0, descriptors_count - OWN_COUNT)
    callers = max(1, min(PEER_CONNECTIONS_MAX, rest // 4))
    refused = max(1, min(REFUSED_COUNT_MAX, rest // 8))
    dialled = min(DIALLED_COUNT_MAX, rest // 8)
    return Shares(max(1, min(CONNECTIONS_MAX, rest - callers - refused - dialled)), refused,
                  callers)


def claim() -> Shares:
    """Raise the limit of open files as far as needed and allowed; what there is room for."""
    wanted = (OWN_COUNT + CONNECTIONS_MAX + REFUSED_COUNT_MAX + DIALLED_COUNT_MAX
              + PEER_CONNECTIONS_MAX)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return share(wanted)
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return share(soft)


def tell(shares: Shares) -> None:
    """Log that there is room for less than there could be, where that is so."""
    if shares.clients_max < CONNECTIONS_MAX:
        log.warning(
            "the limit of open files is %d: at most %d connections of clients and %d of other "
            "nodes", resource.getrlimit(resource.RLIMIT_NOFILE)[0], shares.clients_max,
            shares.callers_max)
