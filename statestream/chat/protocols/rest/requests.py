"""What the requests of the chat's own routes contain.

Invariants: every value from outside is checked here before it reaches the conversations.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from statestream.chat.chats import chat_key
from statestream.chat.question import MAX_ID
from statestream.core.errors import Forbidden, Malformed
from statestream.server.bodies import Body

MAX_PAGE: Final = 100


class Branch(Body):
    """The body of a choice of a branch: a message of it."""

    message: Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class Typing(Body):
    """The body of a report of typing."""

    typing: bool = True


def key_of(request: web.Request) -> str:
    """The key of the chat in the path. Raises Malformed."""
    return chat_key(request.match_info["id"])


def page_of(request: web.Request) -> tuple[str, int]:
    """`before` and `limit` of the query. Raises Malformed."""
    before, limit = request.query.get("before"), request.query.get("limit", str(MAX_PAGE))
    if before is None:
        raise Malformed("expected `before`, the id of a message; the newest messages are in the chat itself")
    if not limit.isascii() or not limit.isdigit() or len(limit) > 9 or not 0 < int(limit) <= MAX_PAGE:
        raise Malformed(f"expected `limit` to be a whole number of 1 to {MAX_PAGE}")
    return before, int(limit)


def check_site(request: web.Request) -> None:
    """For requests without a JSON body, which any page can send. Raises Forbidden for a page of another site."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden("pages of other sites cannot send this request")
