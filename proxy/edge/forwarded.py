"""
Which address a client has behind proxies of ours: the one that the outermost of them saw.

Each proxy adds the address it was called from to `X-Forwarded-For`, at the right. So the addresses are read from there,
as long as those of trusted proxies stand before them; what is further left anybody can have written.

Bounds: the last `_HOPS_MAX` addresses.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

FORWARDED_FOR = b"x-forwarded-for"
_HOPS_MAX = 16

Networks = tuple[IPv4Network | IPv6Network, ...]


def networks(texts: Sequence[str]) -> Networks:
    """Return networks, each written as one (`10.0.0.0/8`) or as an address; raise `ValueError`."""
    return tuple(ip_network(text) for text in texts)


def is_trusted(address: str, trusted: Networks) -> bool:
    """Tell whether an address is in one of these networks."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return any((mapped or ip) in network for network in trusted)


def client_address(peer: str, forwarded_for: bytes, trusted: Networks) -> str:
    """Return the address of the client for whom a trusted peer asks."""
    nearest = peer
    for hop in reversed(forwarded_for.decode("latin-1").rsplit(",", _HOPS_MAX)[-_HOPS_MAX:]):
        address = _address(hop.strip())
        if address is None:
            break
        nearest = address
        if not is_trusted(address, trusted):
            break
    return nearest


def _address(text: str) -> str | None:
    """Return an address, which some proxies write with a port; None for what is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text))
    except ValueError:
        return None
