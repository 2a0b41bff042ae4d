"""The route that removes a question from the queue of its chat.

Invariants: as for the other routes of this package. Only the author of a question removes it.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.parameters import CHAT
from statestream.chat.protocols.rest.routes import Nothing, key_of
from statestream.chat.question import MAX_ID
from statestream.core.errors import Forbidden, HandlerFailed, NotFound
from statestream.server.contract import Answer, Contract, Parameter, Route
from statestream.server.request import check_query
from statestream.server.routes import json_response

QUESTION: Final = Parameter(
    name="question",
    description="The id of a question that is queued.",
    schema={"type": "string", "minLength": 1, "maxLength": MAX_ID},
    place="path",
)


def routes(conversations: Conversations) -> list[Route]:
    async def remove(request: web.Request) -> web.Response:
        check_query(request)
        await visit(request, conversations).remove_question(key_of(request), request.match_info["question"])
        return json_response({})

    return [Route(method="DELETE", path="/api/chats/{id}/queue/{question}", handler=remove, contract=REMOVE)]


REMOVE: Final = Contract(
    name="remove_question",
    summary="Removes a question that is queued and not asked yet.",
    parameters=(CHAT, QUESTION),
    answers=(Answer(description="It will not be asked.", model=Nothing),),
    errors=(NotFound, Forbidden, HandlerFailed),
    access="identity",
)
