"""The URL of a server, as a program passes it, and the credentials that it may contain.

Invariants: errors and logs show the URL, so from here on it contains no password: credentials become a header.
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import unquote, urlsplit

from statestream.core.errors import Malformed


def address(url: str) -> tuple[str, dict[str, str]]:
    """Returns the URL without user and password, and the headers that replace them. Raises Malformed."""
    try:
        parts = urlsplit(url.rstrip("/"))
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # for example a port that is not a number
        usable = False
    if not usable:
        # The message does not repeat the URL: it may contain a password that cannot be told apart here.
        raise Malformed("expected the root URL of a server, such as http://127.0.0.1:8000")
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        return parts.geturl(), {}
    user, _, password = credentials.partition(":")
    encoded = b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return parts._replace(netloc=host).geturl(), {"Authorization": f"Basic {encoded}"}
