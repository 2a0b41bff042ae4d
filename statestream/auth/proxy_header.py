"""An identity that a proxy has established, in a header of the request.

Invariants: the header counts only if the kernel says that the request comes from the proxy. From anybody else it is an
attempt to be somebody else, and refused.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from statestream.auth.credentials import identity_of_claims, only_header
from statestream.core.errors import Unauthenticated
from statestream.core.principal import Identity
from statestream.server.peer import UNIX, Address, peer_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAME: Final = re.compile(r"[A-Za-z0-9-]+", re.ASCII)


class ProxyHeader:
    """Recognizes senders by a header that a proxy in front of the server sets, such as `X-Forwarded-User`.

    `proxies` are the addresses and networks of the proxy, such as `["10.0.0.5", "10.1.0.0/16"]`; `unix` stands for
    Unix sockets that the server listens on. From any other address, the header is refused. `roles` names a header with
    roles, separated by commas. The proxy must overwrite these headers in every request. Without the header, or with an
    empty one, the request has no identity. Raises ValueError and TypeError.
    """

    def __init__(self, header: str, *, proxies: Sequence[str], roles: str | None = None) -> None:
        if isinstance(proxies, str) or not proxies:
            raise TypeError('expected the addresses of the proxy as a list, such as ["10.0.0.5"]')
        for name in (header, roles):
            if name is not None and (not isinstance(name, str) or not _NAME.fullmatch(name)):
                raise ValueError("expected the name of a header: letters, digits and hyphens")
        self._header, self._roles = header, roles
        self._unix = UNIX in proxies
        self._networks = [_network(text) for text in proxies if text != UNIX]

    @property
    def credential_headers(self) -> Sequence[str]:
        """The headers with credentials: only the proxy may send it."""
        return (self._header,)

    def __repr__(self) -> str:
        return f"<ProxyHeader: {self._header}>"

    async def __call__(self, request: web.Request) -> Identity | None:
        subject = only_header(request, self._header)
        roles = None if self._roles is None else only_header(request, self._roles)
        if subject is None and roles is None:
            return None
        if not self._is_trusted(peer_of(request)):
            raise Unauthenticated(f"only the proxy may send {self._header if subject else self._roles}", kind="peer")
        if not subject:
            return None
        names = [] if roles is None else [role.strip() for role in roles.split(",")]
        return identity_of_claims(subject=subject, roles=[role for role in names if role])

    def _is_trusted(self, peer: Address | str | None) -> bool:
        if peer is None or isinstance(peer, str):
            return peer == UNIX and self._unix
        return any(peer in network for network in self._networks)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"expected an address or a network of the proxy, such as 10.1.0.0/16: {error}") from None
    if network.prefixlen == 0:
        raise ValueError(f"{text} means everybody; expected the addresses of the proxy only")
    return network
