"""Presence through state streams: a person is present in the chats whose `presence/<chat>` their stream selects.

Invariants: presence lasts exactly as long as the stream.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from aiohttp import web

from statestream.chat.identity import MAX_PRESENT, Identify, person
from statestream.chat.nodes.presence import Presence
from statestream.chat.slices.presence import NAME
from statestream.core.errors import Malformed
from statestream.core.selection import Selection
from statestream.server.stream import Follower


def presence_follower(presence: Presence, identify: Identify) -> Follower:
    """A follower of state streams that enters their people into presence."""

    def opened(request: web.Request, selection: Selection) -> Callable[[], None] | None:
        keys = [name.partition("/")[2] for name in selection.names if name.startswith(f"{NAME}/")]
        user = person(request, identify) if keys else None
        if user is None:
            return None
        if len(keys) > MAX_PRESENT:
            raise Malformed(f"expected at most {MAX_PRESENT} names of `presence/…` for a person, got {len(keys)}")
        closed = ExitStack()
        for key in keys:
            closed.callback(presence.enter(key, user))
        return closed.close

    return opened
