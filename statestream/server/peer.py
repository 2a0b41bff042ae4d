"""The other end of a connection, as the kernel knows it.

Invariants: no header is read. What a client or a middleware says about addresses does not count.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from aiohttp import web

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNIX: Final = "unix"


def peer_of(request: web.BaseRequest) -> Address | str | None:
    """The address of the peer, `unix` for a Unix socket, or None if the connection is lost."""
    transport = request.transport
    if transport is None:
        return None
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family == getattr(socket, "AF_UNIX", None):
        return UNIX
    name = transport.get_extra_info("peername")
    return address_of(name[0]) if isinstance(name, tuple) else None


def network_of(request: web.BaseRequest) -> str | None:
    """Where the peer is, as limits count it: its IPv4 address, or the network of 64 bits that its IPv6 address is in.

    Whoever has one IPv6 address usually has such a network.
    """
    peer = peer_of(request)
    if isinstance(peer, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((peer, 64), strict=False))
    return None if peer is None else str(peer)


def address_of(text: str) -> Address:
    """An address without its zone, and as IPv4 if an IPv6 socket shows IPv4. Raises ValueError."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
