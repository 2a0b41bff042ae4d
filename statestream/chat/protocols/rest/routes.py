"""The chat's own routes, under `/api/chats`, and what their requests contain.

Other protocols also have the route that stops a reply, and parse the id of a chat as this one does.

Invariants: every value from outside is checked before it reaches the conversations. Stopping is idempotent, and the
response reports whether this request has stopped anything.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ConfigDict, Field

from statestream.chat.chats import chat_key
from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.messages import find
from statestream.chat.question import MAX_ID
from statestream.chat.seen import hidden_by_branch, leaf_seen, looked_at
from statestream.chat.visit import Visit
from statestream.core.errors import Malformed, NotFound
from statestream.server.bodies import Body, checked, read_json
from statestream.server.dispatch_rate import admit
from statestream.server.request import check_query
from statestream.server.routes import json_response

MAX_PAGE: Final = 100


class Branch(Body):
    """The body of a request to show a branch: a message of the branch, and the leaf that the sender has seen."""

    message: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    leaf: Annotated[str | None, Field(min_length=1, max_length=MAX_ID)] = None


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


def leaf_of(request: web.Request) -> str | None:
    """`leaf` of the query: a message of the branch that the client looks at. Raises Malformed."""
    leaf = request.query.get("leaf")
    if leaf is not None and not 0 < len(leaf) <= MAX_ID:
        raise Malformed(f"expected `leaf` to be the id of a message, of 1 to {MAX_ID} characters")
    return leaf


def check_knows_people(chats: Visit) -> None:
    """Raises Malformed on a server on which everybody is anonymous."""
    if chats.person is None:
        raise Malformed("this server does not know who people are; pass `auth` to create_app")


class _Stop(Body):
    """`activeStreamId`, the id of a reply, keeps a late request from stopping the next reply."""

    activeStreamId: str | None = None  # noqa: N815 - the AI SDK's name


class _LenientStop(_Stop):
    """The AI SDK's front ends post more than is needed."""

    model_config = ConfigDict(strict=True, extra="ignore")


def stop_route(conversations: Conversations, *, lenient: bool) -> Handler:
    """A handler that ends the reply in progress of the chat in the path. `lenient`: unknown fields are ignored."""

    async def stop(request: web.Request) -> web.Response:
        check_query(request)
        chats = visit(request, conversations)
        kind = _LenientStop if lenient else _Stop
        body = checked(kind, await read_json(request) if request.can_read_body else {})
        stopped = await chats.stop(key_of(request), body.activeStreamId)
        return json_response({"success": True, "stopped": stopped})

    return stop


def routes(conversations: Conversations) -> list[web.RouteDef]:
    async def create(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats = visit(request, conversations)
        if request.can_read_body and await read_json(request):
            raise Malformed("POST /api/chats takes no fields: the server chooses the id of the chat and returns it")
        return json_response({"id": await chats.create()}, status=201)

    async def read(request: web.Request) -> web.Response:
        check_query(request, "leaf")
        chats = visit(request, conversations)
        state = looked_at(await chats.existing(key_of(request)), leaf_of(request))
        return json_response({"id": request.match_info["id"], "position": str(chats.position), **state})

    async def messages(request: web.Request) -> web.Response:
        check_query(request, "before", "limit")
        chats = visit(request, conversations)
        before, limit = page_of(request)
        return json_response({"messages": await chats.older(key_of(request), before=before, limit=limit)})

    async def branch(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats, key = visit(request, conversations), key_of(request)
        body = checked(Branch, await read_json(request))
        await chats.caught_up()
        state = await chats.existing(key)
        hidden = hidden_by_branch(state, body.message) if find(state, body.message) is not None else ()
        await chats.branch(key, body.message, leaf=leaf_seen(state, body.leaf, hidden))
        return json_response({})

    async def typing(request: web.Request) -> web.Response:
        """Only for people who are present: without a stream that closes, nothing would end their presence."""
        check_query(request)
        admit(request)
        chats = visit(request, conversations)
        check_knows_people(chats)
        body = checked(Typing, await read_json(request))
        if not chats.typing(key_of(request), on=body.typing):
            raise NotFound("this person has no open stream with this chat's presence on this server")
        return json_response({})

    return [
        web.post("/api/chats", create),
        web.get("/api/chats/{id}", read, allow_head=False),
        web.get("/api/chats/{id}/messages", messages, allow_head=False),
        web.post("/api/chats/{id}/stop", stop_route(conversations, lenient=False)),
        web.post("/api/chats/{id}/branch", branch),
        web.post("/api/chats/{id}/typing", typing),
    ]
