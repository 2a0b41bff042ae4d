"""The route that decides about tool calls which wait for approval.

    POST /api/chats/{id}/approvals    {"decisions": [{"id", "approved", "arguments"?, "reason"?}]}

The ids are in the parts of the reply that waits: `approval.id`.

Invariants: as for the other routes of this package. Repeating a request changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from statestream.chat.approvals import MAX_REASON, Decision
from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.message_types import Id
from statestream.chat.parameters import CHAT
from statestream.chat.protocols.rest.routes import key_of
from statestream.chat.question import MAX_ID
from statestream.chat.replies.reply_builder import MAX_CALLS
from statestream.core.errors import Forbidden, HandlerFailed, NotFound, RateLimited, Refused
from statestream.server.bodies import Body, checked, read_json
from statestream.server.contract import Answer, Contract, Route
from statestream.server.dispatch_rate import admit
from statestream.server.request import check_query
from statestream.server.routes import json_response


class DecisionBody(Body):
    """What somebody decides about one tool call. `arguments` replaces all arguments of the call."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    approved: bool
    arguments: dict[str, Any] | None = None
    reason: Annotated[str | None, Field(max_length=MAX_REASON)] = None

    def decision(self) -> Decision:
        return Decision(id=self.id, approved=self.approved, arguments=self.arguments, reason=self.reason)


class Decisions(Body):
    """What somebody decides about tool calls of one reply, all or none."""

    decisions: Annotated[list[DecisionBody], Field(min_length=1, max_length=MAX_CALLS)]


class DecidedAnswer(TypedDict):
    """The reply that continues, or still waits for other decisions."""

    reply: Id


def routes(conversations: Conversations) -> list[Route]:
    async def decide(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats, key = visit(request, conversations), key_of(request)
        body = checked(Decisions, await read_json(request))
        reply = await chats.decide(key, [each.decision() for each in body.decisions])
        answer: DecidedAnswer = {"reply": reply}
        return json_response(answer)

    return [Route(method="POST", path="/api/chats/{id}/approvals", handler=decide, contract=DECIDE)]


DECIDE: Final = Contract(
    name="decide",
    summary="Approves or denies tool calls that wait for approval.",
    parameters=(CHAT,),
    body=Decisions,
    answers=(Answer(description="The decisions are saved.", model=DecidedAnswer),),
    errors=(NotFound, Forbidden, Refused, RateLimited, HandlerFailed),
    access="identity",
)
