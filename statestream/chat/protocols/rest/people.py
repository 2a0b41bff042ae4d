"""The routes for the people of a chat: who belongs to it, invitations, leaving; and deleting the chat.

Invariants: as for the other routes of this package. Repeating a request changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field

from statestream.chat.conversations import Conversations
from statestream.chat.identity import check_person, visit
from statestream.chat.parameters import CHAT, ONE_LINE, SUBJECT
from statestream.chat.people import PeopleAnswer
from statestream.chat.protocols.rest.routes import Nothing, check_knows_people, key_of
from statestream.core.errors import Forbidden, HandlerFailed, NotFound, Refused
from statestream.core.principal import MAX_SUBJECT
from statestream.server.bodies import Body, checked, read_json
from statestream.server.contract import Answer, Contract, Route
from statestream.server.request import check_query
from statestream.server.routes import json_response

PEOPLE: Final = "/api/chats/{id}/participants"


class Invitation(Body):
    """The body of an invitation: the subject of the person's identity."""

    subject: Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT, json_schema_extra={"pattern": ONE_LINE})]


def routes(conversations: Conversations) -> list[Route]:
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
        Route(method="DELETE", path="/api/chats/{id}", handler=delete, contract=DELETE),
        Route(method="GET", path=PEOPLE, handler=people, contract=READ),
        Route(method="POST", path=PEOPLE, handler=invite, contract=INVITE),
        Route(method="DELETE", path=f"{PEOPLE}/{{subject}}", handler=remove, contract=REMOVE),
    ]


DELETE: Final = Contract(
    name="delete_chat",
    summary="Deletes a chat, with all that the store has of it.",
    parameters=(CHAT,),
    answers=(Answer(description="The chat does not exist any more.", model=Nothing),),
    errors=(NotFound, Forbidden, Refused, HandlerFailed),
    access="identity",
)
READ: Final = Contract(
    name="participants",
    summary="Who belongs to a chat.",
    parameters=(CHAT,),
    answers=(Answer(description="The people.", model=PeopleAnswer),),
    errors=(NotFound,),
    access="identity",
)
INVITE: Final = Contract(
    name="invite",
    summary="Makes a person a participant.",
    parameters=(CHAT,),
    body=Invitation,
    answers=(Answer(description="The people now.", model=PeopleAnswer),),
    errors=(NotFound, Forbidden, Refused, HandlerFailed),
    access="identity",
)
REMOVE: Final = Contract(
    name="remove",
    summary="Ends somebody's participation, also one's own.",
    parameters=(CHAT, SUBJECT),
    answers=(Answer(description="They do not belong to the chat.", model=Nothing),),
    errors=(NotFound, Forbidden, Refused, HandlerFailed),
    access="identity",
)
