"""The routes for the people of a chat: who belongs to it, invitations, leaving; and deleting the chat.

Invariants: as for the other routes of this package. Repeating a request changes nothing.
"""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field

from statestream.chat.conversations import Conversations
from statestream.chat.identity import check_person, visit
from statestream.chat.protocols.rest.routes import check_knows_people, key_of
from statestream.core.principal import MAX_SUBJECT
from statestream.server.bodies import Body, checked, read_json
from statestream.server.request import check_query
from statestream.server.routes import json_response


class Invitation(Body):
    """The body of an invitation: the subject of the person's identity."""

    subject: Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT)]


def routes(conversations: Conversations) -> list[web.RouteDef]:
    async def delete(request: web.Request) -> web.Response:
        check_query(request)
        await visit(request, conversations).delete(key_of(request))
        return json_response({})

    async def people(request: web.Request) -> web.Response:
        check_query(request)
        return json_response(await visit(request, conversations).people(key_of(request)))

    async def invite(request: web.Request) -> web.Response:
        check_query(request)
        chats, key = visit(request, conversations), key_of(request)
        check_knows_people(chats)
        body = checked(Invitation, await read_json(request))
        await chats.invite(key, check_person(body.subject))
        return json_response(await chats.people(key))

    async def remove(request: web.Request) -> web.Response:
        check_query(request)
        chats = visit(request, conversations)
        check_knows_people(chats)
        await chats.remove(key_of(request), check_person(request.match_info["subject"]))
        return json_response({})

    return [
        web.delete("/api/chats/{id}", delete),
        web.get("/api/chats/{id}/participants", people, allow_head=False),
        web.post("/api/chats/{id}/participants", invite),
        web.delete("/api/chats/{id}/participants/{subject}", remove),
    ]
