"""Which addresses everybody can reach: what is asked of every one before something of ours connects to it.

A name that an operator or a document gave says nothing of where it leads: so it is the addresses behind it
that are looked at. No loopback, no private or link-local network, no cloud's metadata.
"""

from __future__ import annotations

import ipaddress
from typing import Final

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the open internet."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is not None and not is_public(str(inner)):
            return False
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return found.is_global and not found.is_multicast and not found.is_reserved


def is_address(host: str) -> bool:
    """Return whether a host is written as an IP address, and is no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
