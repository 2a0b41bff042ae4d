"""The names under which a server may be addressed.

The name of an attacker's site can lead to the address of the visitor's own machine (DNS rebinding). Then the page has
the same origin as a server there, and only the `Host` of its requests shows the name.

Invariants: a server that listens on a loopback address answers to its own names only, because nothing else protects
it. `localhost`, loopback addresses and the address at which a connection arrived are always accepted: no foreign name
is involved. A request without `Host` comes from a program. An error never repeats the name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web
from msgspec import Struct

from statestream.core.errors import Misdirected

_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")


class Listening(Struct):
    """Where a server listens: the name that it was given, and the addresses that this is."""

    name: str
    addresses: tuple[str, ...] = ()


HOSTS: Final = web.AppKey("statestream_hosts", frozenset[str])
"""The names of a server, if they were given."""
LISTENING: Final = web.AppKey("statestream_listening", Listening)
"""Is known if `serve` serves the application."""


def allowed_hosts(hosts: Collection[str]) -> frozenset[str]:
    """The names of a setting. Raises TypeError, ValueError for what cannot be the name in a `Host`."""
    if isinstance(hosts, str):
        raise TypeError(f'expected `hosts` to be a list of names, such as ["{hosts}"], got one text')
    for host in hosts:
        if not isinstance(host, str):
            raise TypeError(f"expected `hosts` to be a list of texts, got {type(host).__name__} in it")
        if not _NAME.fullmatch(host):
            raise ValueError(
                f"expected host names such as live.example.org, in lower case and without a port, got {host!r}"
            )
    return frozenset(host.strip("[]") for host in hosts)


def check_host(request: web.Request) -> None:
    """Raises Misdirected if the request is addressed to a name that is not the server's."""
    if "Host" not in request.headers:
        return
    name = name_of(request.host)
    if is_loopback(name) or not _is_wrong(name, request):
        return
    raise Misdirected(
        "the name in `Host` is not one of this server's; if it should be, add it with --allowed-host or "
        "create_app(hosts=…)"
    )


def _is_wrong(name: str, request: web.Request) -> bool:
    local = request.get_extra_info("sockname")
    arrived_at = local[0] if isinstance(local, tuple) else ""
    if name == arrived_at:
        return False
    hosts: Collection[str] | None = request.config_dict.get(HOSTS)
    if hosts is not None:
        return name not in hosts
    listening: Listening | None = request.config_dict.get(LISTENING)
    if listening is None:  # a runner of the application's own
        return is_loopback(arrived_at)
    return name != listening.name.lower() and all(map(is_loopback, listening.addresses))


def name_of(host: str) -> str:
    """The name without the port. A last dot, as in `example.org.`, means nothing."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdigit() or (":" in name and "]" not in name):  # an address of IPv6 has colons itself
        name = host
    return name.strip("[]").lower().removesuffix(".")


@lru_cache(maxsize=64)
def is_loopback(name: Any) -> bool:
    """Whether it is `localhost` or a loopback address."""
    try:
        return bool(name == "localhost" or ip_address(name).is_loopback)
    except ValueError:
        return False
