"""Listening sockets, bound to their address before anybody listens on them.

Several processes can serve one port: each of them has a share, which is a socket for each address of the host, and the
kernel spreads new connections over the shares (SO_REUSEPORT). The process that binds them keeps them all open, so that
no share, and no connection that waits in it, is lost when the process that listens on it ends.

Invariants: an address that another program listens on is refused, also if that program shares it. A socket of which
accepted ones inherit options has all of them from the beginning.
"""

from __future__ import annotations

import errno
import socket
from typing import Any, Final

from msgspec import Struct

from statestream.broadcast.kernel_limits import UNACKNOWLEDGED_MS

SILENT_SECONDS: Final = 5
"""The kernel reports a connection when its first bytes arrive, so newcomers and requests come in the same iteration."""
ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)

Share = list[socket.socket]


class Sockets(Struct, frozen=True, kw_only=True):
    """What a process listens on: its own share, and those of other processes, which it helps if they do not accept."""

    own: Share
    others: Share = []


def bind(host: str, port: int, shares: int = 1) -> list[Share]:
    """Binds that many shares of an address. Raises OSError if it cannot be used. `port` 0 picks a free one."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[Share] = [[] for _ in range(shares)]
    missing: OSError | None = None
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                _bind_all(bound, family, address, port)
            except OSError as error:
                if error.errno not in ABSENT:
                    raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
                missing = error  # a name may resolve to an IPv6 address on a machine without IPv6
        if missing is not None and not bound[0]:
            raise OSError(missing.errno, f"cannot listen on {host}:{port}: {missing.strerror}")
    except BaseException:
        close(bound)
        raise
    return bound


def close(shares: list[Share]) -> None:
    for share in shares:
        for each in share:
            each.close()


def port_of(share: Share) -> int:
    """The port, which the system has chosen if it was 0."""
    port: int = share[0].getsockname()[1]
    return port


def _bind_all(shares: list[Share], family: int, address: tuple[Any, ...], port: int) -> None:
    """A socket of this family for each share. The first one is bound alone, so that an address in use is noticed."""
    for share in shares:
        port = port_of(shares[0]) if shares[0] else port
        share.append(_bound(family, (address[0], port, *address[2:]), shared=share is not shares[0]))
        if len(shares) > 1:
            share[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def _bound(family: int, address: tuple[Any, ...], *, shared: bool) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it: it holds for every response
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_SECONDS)
        made.bind(address)
        made.setblocking(False)
    except BaseException:
        made.close()
        raise
    return made
