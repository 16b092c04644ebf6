"""What a node is told at its start, checked as a whole before anything is opened.

Owns defaults that depend on the machine (memory) and on one another (the data directory's name).
Must never open, create or bind anything. A `Settings` that exists is a sound one.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from seafoam._core import limits
from seafoam.addresses import is_host_name, shown, split_address
from seafoam.errors import AddressRefused, StartError

#: Parent of a node's data directory where none is named.
DATA_ROOT = Path("seafoam-data")
#: A quota below this could not hold a handful of the largest values.
MEMORY_BYTES_MIN = 16 * 1024 * 1024
#: A map's offsets are 32 bits in units of 16 bytes or more; half of what that reaches is usable
#: with the room that growth and evacuation need.
MEMORY_BYTES_MAX = 1 << 40
#: A log that long takes hours to read.
SNAPSHOT_LOG_BYTES_MAX = 1 << 40
#: Keys and values may take twice their bytes in a map while they change sizes.
MAP_FACTOR = 2
#: Where neither the control group nor the machine tells its memory.
MEMORY_BYTES_FALLBACK = 1 << 30


@dataclass(frozen=True)
class Settings:
    """Settings of one node.

    `http_port` and `peer_port` are 0 (picked) to 65535; `max_memory_bytes` of None means a quarter
    of what the control group or the machine has; `advertise` is the host name others use. `peers`
    are HOST:PORT of the nodes to talk to, an IPv6 address in brackets.
    """

    http_port: int
    peer_port: int
    host: str = "127.0.0.1"
    data_dir: Path | None = None
    max_memory_bytes: int | None = None
    snapshot_log_bytes: int = limits.SNAPSHOT_LOG_BYTES
    advertise: str | None = None
    insecure: bool = False
    peers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, port in (("HTTP_PORT", self.http_port), ("PEER_PORT", self.peer_port)):
            if not 0 <= port <= 65535:
                raise StartError(f"{name} is {port}; it must be between 0 and 65535")
        if self.http_port == self.peer_port != 0:
            raise StartError(f"HTTP_PORT and PEER_PORT are both {self.http_port}; two are needed")
        if self.peer_port == 0 and self.data_dir is None:
            raise StartError(
                "PEER_PORT 0 picks a port, which cannot name the data directory; add --data-dir"
            )
        self._check_host()
        if self.advertise is not None:
            _check_advertised(self.advertise)
        for peer in self.peers:
            _check_peer(peer)
        if self.max_memory_bytes is not None:
            self._check_memory(self.max_memory_bytes)
        if not limits.SNAPSHOT_LOG_BYTES_MIN <= self.snapshot_log_bytes <= SNAPSHOT_LOG_BYTES_MAX:
            raise StartError(
                f"--snapshot-log is {self.snapshot_log_bytes} bytes; it must be between "
                f"{limits.SNAPSHOT_LOG_BYTES_MIN} and {SNAPSHOT_LOG_BYTES_MAX}"
            )

    def _check_memory(self, memory_bytes: int) -> None:
        # A node that accepted a write and then cannot hold it must end: better not to start it.
        available_bytes = memory_bytes_available()
        limit_bytes = max(MEMORY_BYTES_MIN, min(MEMORY_BYTES_MAX, map_limit_bytes() // MAP_FACTOR))
        if not MEMORY_BYTES_MIN <= memory_bytes <= limit_bytes:
            raise StartError(
                f"--max-memory is {memory_bytes} bytes; with the {available_bytes} bytes of "
                f"memory that there are here, it must be between {MEMORY_BYTES_MIN} and "
                f"{limit_bytes}"
            )

    def _check_host(self) -> None:
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            if self.host != "localhost":
                raise StartError(
                    f"--host is {self.host!r}; it must be localhost or an IP address to listen on"
                ) from None
            return
        if not address.is_loopback and not self.insecure:
            raise StartError(
                f"--host {self.host} can be reached from other machines, and requests are "
                f"neither encrypted nor authenticated; add --insecure to allow that"
            )
        if address.is_unspecified and self.advertise is None:
            raise StartError(
                f"--host {self.host} is every address of this machine and tells nobody where to "
                f"find it; add --advertise with the name or address by which others reach it"
            )

    @property
    def data_path(self) -> Path:
        """The data directory, absolute."""
        return (self.data_dir or DATA_ROOT / str(self.peer_port)).absolute()

    @property
    def quota_bytes(self) -> int:
        """The memory quota in logical bytes."""
        if self.max_memory_bytes is not None:
            return self.max_memory_bytes
        return max(MEMORY_BYTES_MIN, min(MEMORY_BYTES_MAX, memory_bytes_available() // 4))


def map_limit_bytes() -> int:
    """What a map may take of the memory: three quarters, in bytes."""
    return memory_bytes_available() * 3 // 4


def memory_bytes_available() -> int:
    """What the control group allows or the machine has, whichever is less, in bytes."""
    found = []
    try:
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        pass
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            found.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # not this version of control groups, or "max"
    return min(found, default=MEMORY_BYTES_FALLBACK)


def _check_advertised(host: str) -> None:
    """Refuse what cannot be the name of a host."""
    try:
        is_sound = not ipaddress.ip_address(host).is_unspecified and host.isprintable()
    except ValueError:
        is_sound = is_host_name(host)
    if not is_sound:
        raise StartError(
            f"--advertise is {shown(host)}; it must be a host name or an IP address that others "
            f"can reach, without a port"
        )


def _check_peer(peer: str) -> None:
    """Refuse what cannot be a peer's address; whether anybody is there is found out later."""
    try:
        split_address(peer)
    except AddressRefused as error:
        raise StartError(f"PEER {shown(peer)} {error}") from None
