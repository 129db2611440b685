"""Which addresses belong together: the network group of a host, and how far it can be reached from.

Owns the rules about hosts as text. An attacker has many addresses of one network cheaply and addresses of many
networks dearly, so whatever is shared out (places in the address book, connections) is shared out by group.
Loopback and private addresses are groups of their own: a test network or an office has no other kind.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

GROUP_BITS: Final = {4: 16, 6: 32}
"""Leading bits that make a public network group, by IP version."""

_CACHED: Final = 8_192


class Reach(IntEnum):
    """From where an address can be reached, nearest first."""

    LOOPBACK = 0
    PRIVATE = 1
    PUBLIC = 2


@lru_cache(maxsize=_CACHED)
def canonical_host(host: str) -> str | None:
    """Return the one spelling of a numeric unicast address; None for names and what nobody can dial."""
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        address = address.ipv4_mapped or address
    if address.is_multicast or address.is_unspecified or address == IPv4Address("255.255.255.255"):
        return None
    return str(address)


@lru_cache(maxsize=_CACHED)
def reach_of(host: str) -> Reach | None:
    """Return how far a numeric address reaches; None for names and what nobody can dial."""
    numeric = canonical_host(host)
    if numeric is None:
        return None
    address = ip_address(numeric)
    if address.is_loopback:
        return Reach.LOOPBACK
    return Reach.PUBLIC if address.is_global else Reach.PRIVATE


@lru_cache(maxsize=_CACHED)
def network_group(host: str) -> str:
    """Return the /16 (IPv4) or /32 (IPv6) of a public address, and any other host itself."""
    if reach_of(host) is not Reach.PUBLIC:
        return canonical_host(host) or host
    address = ip_address(canonical_host(host) or host)
    return str(ip_network((address, GROUP_BITS[address.version]), strict=False))


def may_tell(source: str, host: str) -> bool:
    """Tell whether a peer at `source` has any business to name `host`.

    Nobody on the internet names addresses of private networks or of this machine, nobody in a private network those
    of this machine. Names are taken from the operator only: whoever answers for a name chooses what is dialed.
    """
    near, far = reach_of(source), reach_of(host)
    return near is not None and far is not None and far >= near
