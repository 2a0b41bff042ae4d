"""The server's root as a program gives it, and the login that may stand in it.

Invariants: a URL is shown in errors and logs, so from here on it has no password in it: what it was becomes a header.
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote, urlsplit

from statestream.core.errors import Malformed


def address(url: str) -> tuple[str, dict[str, str]]:
    """The URL without a user and password, and the headers that they are. Raises Malformed."""
    try:
        parts = urlsplit(url.rstrip("/"))
        found = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        found = False
    if not found:
        raise Malformed("expected the server's root like http://127.0.0.1:8000, got no such URL")
    login, at, host = parts.netloc.rpartition("@")
    if not at:
        return parts.geturl(), {}
    user, _, password = login.partition(":")
    encoded = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {encoded}"}
