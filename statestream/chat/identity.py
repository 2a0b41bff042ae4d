"""The person behind a request, and their presence through state streams.

Invariants: a person's name is whatever `identify` returns. The default believes what the request says of itself,
because there is nothing yet that could prove it. A person is present in the chats whose `presence/<chat>` their stream
selects, exactly as long as the stream is open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from aiohttp import web

from statestream.chat.files import is_name
from statestream.chat.nodes.presence import NAME, Presence
from statestream.core.errors import Malformed
from statestream.core.names import escape_key
from statestream.core.selection import Selection
from statestream.core.values import check_member
from statestream.server.origin import is_foreign
from statestream.server.request import view_of
from statestream.server.stream import StreamObserver

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
    with view_of(request).slow_calls.timed("callback", identify):
        name = identify(request)
    if name is None:
        return None
    if not isinstance(name, str):
        raise TypeError(f"expected the name of a person as text, or None, from `identify`, got {type(name).__name__}")
    if len(name) > MAX_NAME:
        raise Malformed(f"expected a person's name of at most {MAX_NAME} characters, got more")
    escape_key(name)
    if not is_name(name, MAX_NAME):
        raise Malformed("expected a person's name without control characters and line breaks")
    return check_member(name)


def presence_observer(presence: Presence, identify: Identify) -> StreamObserver:
    """An observer of state streams that enters their people into presence, unless a page of another site opened it."""

    def opened(request: web.Request, selection: Selection) -> Callable[[], None] | None:
        keys = [name.partition("/")[2] for name in selection.names if name.startswith(f"{NAME}/")]
        user = person(request, identify) if keys and not is_foreign(request) else None
        if user is None:
            return None
        if len(keys) > MAX_PRESENT:
            raise Malformed(f"expected at most {MAX_PRESENT} names of `presence/…` for a person, got {len(keys)}")
        closed = ExitStack()
        for key in keys:
            closed.callback(presence.enter(key, user))
        return closed.close

    return opened
