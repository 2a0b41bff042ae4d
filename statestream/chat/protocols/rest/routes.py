"""The chat's own routes, under `/api/chats`.

Invariants: `requests` has checked every value before the conversations are called.
"""

from __future__ import annotations

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.protocols.rest.requests import Branch, Typing, check_site, key_of, page_of
from statestream.chat.protocols.rest.stop import stop_route
from statestream.core.errors import Malformed, NotFound
from statestream.server.bodies import checked, read_json
from statestream.server.routes import json_response


def routes(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def create(request: web.Request) -> web.Response:
        check_site(request)
        return json_response({"id": await conversations.create(user=person(request, identify))}, status=201)

    async def read(request: web.Request) -> web.Response:
        state = await conversations.existing(key_of(request))
        position = str(conversations.view.position)
        return json_response({"id": request.match_info["id"], "position": position, **state})

    async def messages(request: web.Request) -> web.Response:
        before, limit = page_of(request)
        return json_response({"messages": await conversations.older(key_of(request), before=before, limit=limit)})

    async def branch(request: web.Request) -> web.Response:
        body = checked(Branch, await read_json(request))
        await conversations.branch(key_of(request), body.message)
        return json_response({})

    async def typing(request: web.Request) -> web.Response:
        """Only for people who are present: without a stream that closes, nothing would end their presence."""
        user = person(request, identify)
        if user is None:
            raise Malformed("expected a request with the name of the person who types, got one without a name")
        body = checked(Typing, await read_json(request))
        if not conversations.presence.typing(key_of(request), user, on=body.typing):
            raise NotFound("this person has no open stream with this chat's presence on this server")
        return json_response({})

    return [
        web.post("/api/chats", create),
        web.get("/api/chats/{id}", read, allow_head=False),
        web.get("/api/chats/{id}/messages", messages, allow_head=False),
        web.post("/api/chats/{id}/stop", stop_route(conversations)),
        web.post("/api/chats/{id}/branch", branch),
        web.post("/api/chats/{id}/typing", typing),
    ]
