"""Whether a page of another origin sent a request.

A browser lets any page open a WebSocket or a stream anywhere, and send simple requests, with the cookies of the person
who visits the page.

Invariants: this is the only place that decides it; routes, WebSockets, presence and CORS headers ask here. A request
without the headers of a browser comes from a program, and programs may do anything. An origin that is not well-formed
is foreign. `Sec-Fetch-Site` is believed because no page can set it; headers of proxies are not.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from statestream.core.errors import ForbiddenOrigin

ORIGINS: Final = web.AppKey("statestream_origins", frozenset[str])
"""The other origins whose pages may use the server as its own pages do."""
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")


def allowed_origins(origins: Collection[str]) -> frozenset[str]:
    """The origins of a setting. Raises TypeError, ValueError for what no browser sends as an `Origin`."""
    if isinstance(origins, str):
        raise TypeError(f'expected `origins` to be a list of origins, such as ["{origins}"], got one text')
    for origin in origins:
        if not isinstance(origin, str):
            raise TypeError(f"expected `origins` to be a list of texts, got {type(origin).__name__} in it")
        if "*" in origin:
            raise ValueError("expected each origin by its name: a pattern would let pages of other people in")
        if not _ORIGIN.fullmatch(origin) or _has_default_port(origin):
            raise ValueError(
                f"expected origins as browsers send them, such as https://app.example.com, in lower case and without "
                f"a path or the port that the scheme implies, got {origin!r}"
            )
    return frozenset(origins)


def _has_default_port(origin: str) -> bool:
    scheme, _, authority = origin.partition("://")
    return scheme in _PORTS and authority.endswith(f":{_PORTS[scheme]}")


def is_foreign(request: web.Request) -> bool:
    """Whether a page sent it whose origin is neither that of the server nor one of ORIGINS."""
    origins, sites = request.headers.getall("Origin", ()), request.headers.getall("Sec-Fetch-Site", ())
    if not origins and not sites:
        return False
    if len(origins) > 1 or len(sites) > 1:
        return True
    if allowed_origin(request) is not None or "same-origin" in sites:
        return False
    if any(site != "none" for site in sites):
        return True
    return any(not _is_own(origin, request) for origin in origins)


def allowed_origin(request: web.Request) -> str | None:
    """The `Origin` of the request if it is one of ORIGINS."""
    origins = request.headers.getall("Origin", ())
    if len(origins) != 1 or origins[0] not in request.config_dict.get(ORIGINS, ()):
        return None
    return origins[0]


def check_origin(request: web.Request) -> None:
    """Raises ForbiddenOrigin if a foreign page sends a request that may change something, or opens a WebSocket."""
    if (request.method not in READING or "Upgrade" in request.headers) and is_foreign(request):
        raise ForbiddenOrigin(
            "pages of this origin may not do this; if they should, name the origin with --origin or "
            "create_app(origins=…), and if it is the server's own, let the proxy in between pass on the Host header"
        )


def _is_own(origin: str, request: web.Request) -> bool:
    """Whether it is the scheme, the host and the port that the request is addressed to.

    The scheme of a server without TLS is unknown, because there may be a proxy with TLS.
    """
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{request.host}")
        port = _PORTS.get(theirs.scheme)
        named = f"{theirs.scheme}://{theirs.netloc}" == origin and "@" not in theirs.netloc and bool(theirs.hostname)
        same = theirs.hostname == ours.hostname and (theirs.port or port) == (ours.port or port)
    except ValueError:
        return False
    return port is not None and named and same and (theirs.scheme == "https" or not request.secure)
