"""Where a node is reached: HOST:PORT, or [IPv6]:PORT, and what can be dialled of that.

Owns the one rule by which an operator's PEERs, what other nodes say of themselves and what stands
in the log are judged. Must never ask whether anybody is there, and never raise but
`AddressRefused`, whatever the text: addresses come from the network, too.
"""

from __future__ import annotations

import ipaddress
import re

from seafoam.errors import AddressRefused

__all__ = ["is_address", "is_host_name", "shown", "split_address"]

#: Letters, digits, dashes and dots; underscores too, for container names have them. Between two
#: dots the name service takes 1 to 63 of them; a name may end with a dot.
HOST_NAME = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?")
HOST_NAME_CHARACTERS_MAX = 253
PORT = re.compile(r"[0-9]{1,5}")
#: Of a text that is no address, so much is shown.
SHOWN_CHARACTERS_MAX = 80


def is_host_name(host: str) -> bool:
    """Whether a name could be looked up."""
    return len(host) <= HOST_NAME_CHARACTERS_MAX and HOST_NAME.fullmatch(host) is not None


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port; else AddressRefused, whose words follow the address."""
    host, colon, port = address.rpartition(":")
    if not colon or not host:
        raise AddressRefused("is not HOST:PORT, such as 127.0.0.1:5010")
    if not PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise AddressRefused(f"has the port {shown(port)}; it is a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise AddressRefused(f"names {shown(host)}, which is no IPv6 address") from None
        if not host.isprintable() or len(host) > HOST_NAME_CHARACTERS_MAX or not host.isascii():
            raise AddressRefused("has an IPv6 address whose zone is none")
    elif ":" in host:
        raise AddressRefused("holds an IPv6 address, which stands in brackets, as in [::1]:5010")
    elif not is_host_name(host):
        raise AddressRefused(f"names {shown(host)}, which is neither a host name nor an address")
    return host, int(port)


def is_address(address: str) -> bool:
    """Whether `split_address` takes it."""
    try:
        split_address(address)
    except AddressRefused:
        return False
    return True


def shown(text: str) -> str:
    """A text in quotes and on one line, cut where it is long."""
    return repr(text if len(text) <= SHOWN_CHARACTERS_MAX
                else text[:SHOWN_CHARACTERS_MAX] + "...")
