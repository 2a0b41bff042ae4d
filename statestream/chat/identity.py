"""Who is behind a request, and whose stream is open in which chat.

Invariants: a name is what `who` says; the default believes what the request says about itself, because there is nothing
yet that could prove it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

from aiohttp import web

from statestream.chat import presence
from statestream.chat.conversations import Conversations
from statestream.core.errors import Malformed
from statestream.core.names import escape_key
from statestream.core.selection import Selection
from statestream.core.values import check_member
from statestream.server.stream import Follower

MAX_NAME: Final = 64
MAX_PRESENT: Final = 20
"""Chats that one stream makes a person present in."""

Identify = Callable[[web.Request], str | None]


def named(request: web.Request) -> str | None:
    """The name that the request gives itself, by `user=` in its query."""
    return request.query.get("user") or None


def person(request: web.Request, identify: Identify) -> str | None:
    """The name of the person; None for nobody. Raises Malformed for one that cannot be a key, or a member."""
    name = identify(request)
    if name is None:
        return None
    if len(name) > MAX_NAME:
        raise Malformed(f"expected a person's name of at most {MAX_NAME} characters, got more")
    escape_key(name)
    return check_member(name)


def present(conversations: Conversations, identify: Identify) -> Follower:
    """Whoever follows `presence/<chat>` on a stream is present in that chat as long as it is open."""

    def opened(request: web.Request, selection: Selection) -> Callable[[], None] | None:
        keys = [name.partition("/")[2] for name in selection.names if name.startswith(f"{presence.NAME}/")]
        user = person(request, identify) if keys else None
        if user is None:
            return None
        if len(keys) > MAX_PRESENT:
            raise Malformed(f"expected at most {MAX_PRESENT} names of `presence/…` for a person, got {len(keys)}")
        left = ExitStack()
        for key in keys:
            left.callback(conversations.presence.enter(key, user))
        return left.close

    return opened
