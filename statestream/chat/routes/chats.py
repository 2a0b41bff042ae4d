"""The chat's own routes: make one, read it and its past, stop a reply, choose a branch, say that somebody types.

Invariants: answers are the state's own messages, as they stand; errors are problems.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ConfigDict, Field

from statestream.chat.conversations import MAX_KEY, Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.questions import MAX_ID
from statestream.core.errors import Forbidden, Malformed, NotFound
from statestream.core.names import escape_key
from statestream.server.bodies import Body, checked, read_json
from statestream.server.routes import json_response

MAX_PAGE: Final = 100


class _Branch(Body):
    message: Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class _Typing(Body):
    typing: bool = True


class _Stop(Body):
    model_config = ConfigDict(strict=True, extra="ignore")
    activeStreamId: str | None = None  # noqa: N815 - the AI SDK's name


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def create(request: web.Request) -> web.Response:
        check_site(request)
        return json_response({"id": await conversations.create(user=person(request, identify))}, status=201)

    async def read(request: web.Request) -> web.Response:
        state = await conversations.existing(key_of(request))
        chat_id = request.match_info["id"]
        return json_response({"id": chat_id, "position": str(conversations.store.position), **state})

    async def messages(request: web.Request) -> web.Response:
        """Older messages, also those that the chat does not hold live any more."""
        before, text = request.query.get("before"), request.query.get("limit", str(MAX_PAGE))
        if before is None:
            raise Malformed("expected `before`, the id of a message; the newest ones stand in the chat itself")
        if not text.isascii() or not text.isdigit() or len(text) > 9 or not 0 < int(text) <= MAX_PAGE:
            raise Malformed(f"expected `limit` to be a whole number of 1 to {MAX_PAGE}")
        found = await conversations.older(key_of(request), before=before, limit=int(text))
        return json_response({"messages": found})

    async def branch(request: web.Request) -> web.Response:
        body = checked(_Branch, await read_json(request))
        await conversations.branch(key_of(request), body.message)
        return json_response({})

    async def typing(request: web.Request) -> web.Response:
        """Only who is present can be seen to type: another one would be there for ever."""
        user = person(request, identify)
        if user is None:
            raise Malformed("expected to know who types, got a request without a name")
        body = checked(_Typing, await read_json(request))
        if not conversations.presence.typing(key_of(request), user, on=body.typing):
            raise NotFound("expected an open stream of that person with this chat's presence on this server")
        return json_response({})

    return [
        web.post("/api/chats", create),
        web.get("/api/chats/{id}", read, allow_head=False),
        web.get("/api/chats/{id}/messages", messages, allow_head=False),
        web.post("/api/chats/{id}/stop", stop_of(conversations)),
        web.post("/api/chats/{id}/branch", branch),
        web.post("/api/chats/{id}/typing", typing),
    ]


def stop_of(conversations: Conversations) -> Handler:
    """The route that ends a reply: for several protocols the same."""

    async def stop(request: web.Request) -> web.Response:
        """Idempotent. `activeStreamId`, the id of a reply, keeps a late stop from ending the next one."""
        check_site(request)
        body = checked(_Stop, await read_json(request) if request.can_read_body else {})
        stopped = await conversations.stop(key_of(request), body.activeStreamId)
        return json_response({"success": True, "stopped": stopped})

    return stop


def check_site(request: web.Request) -> None:
    """For what needs no body of JSON, which browsers let any page send. Raises Forbidden for a page from elsewhere."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise Forbidden("expected a request of a page of this site, or of a program")


def key_of(request: web.Request) -> str:
    return chat_key(request.match_info["id"])


def chat_key(chat_id: str) -> str:
    """The key of a chat whose id a client has chosen. Raises Malformed for one that is too long."""
    key = escape_key(chat_id)
    if len(key) > MAX_KEY:
        raise Malformed(f"expected the id of a chat of at most {MAX_KEY} characters, got more")
    return key
