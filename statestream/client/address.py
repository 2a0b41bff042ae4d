"""The URL of a server, as a program passes it, and the credentials that it may contain.

Invariants: errors and logs show the URL, so from here on it contains no password: credentials become a header.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from statestream.core.errors import Malformed

EXAMPLE: Final = "http://127.0.0.1:8000"
ROUTES: Final = ("/stream/state", "/dispatch")
"""Routes that are sometimes passed with the root."""


def address(url: str) -> tuple[str, dict[str, str]]:
    """Returns the URL without user and password, and the headers that replace them. Raises Malformed."""
    # No message repeats the URL: it may contain a password that cannot be recognized here.
    if not isinstance(url, str):
        raise Malformed(f"expected the root URL of a server as text, such as {EXAMPLE}, got {type(url).__name__}")
    try:
        parts = urlsplit(url.rstrip("/"))
        problem = _problem(url, parts)
    except ValueError:
        problem = "one that cannot be parsed; the port is a number"
    if problem is not None:
        raise Malformed(f"expected the root URL of a server, such as {EXAMPLE}, got {problem}")
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        return parts.geturl(), {}
    user, _, password = credentials.partition(":")
    encoded = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {encoded}"}


def _problem(url: str, parts: SplitResult) -> str | None:
    """What is wrong with a URL; None if nothing is. Raises ValueError for a port that is not a number."""
    if "://" not in url:
        return "one without a scheme; put http:// or https:// in front"
    if parts.scheme not in ("http", "https"):
        return "one with a scheme other than http or https"
    if not parts.hostname:
        return "one without a host"
    if parts.port == 0:
        return "one with port 0, on which no server can listen"
    if parts.query or parts.fragment:
        return "one with a query or a fragment; leave these out"
    route = next((route for route in ROUTES if parts.path.endswith(route)), None)
    return f"the URL of a route; leave out {route}" if route is not None else None
