"""The identity of the person behind a request.

Invariants: a person's name is whatever `identify` returns. The default believes what the request says of itself,
because there is nothing yet that could prove it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from aiohttp import web

from statestream.core.errors import Malformed
from statestream.core.names import escape_key
from statestream.core.values import check_member

MAX_NAME: Final = 64
MAX_PRESENT: Final = 20
"""The chats in which one stream can make a person present."""

Identify = Callable[[web.Request], str | None]
"""Returns the name of the person behind a request, or None."""


def from_query(request: web.Request) -> str | None:
    """The name that `user=` in the query gives."""
    return request.query.get("user") or None


def person(request: web.Request, identify: Identify) -> str | None:
    """The name of the person, or None. Raises Malformed if it cannot be a key, or a member of an object."""
    name = identify(request)
    if name is None:
        return None
    if len(name) > MAX_NAME:
        raise Malformed(f"expected a person's name of at most {MAX_NAME} characters, got more")
    escape_key(name)
    return check_member(name)
