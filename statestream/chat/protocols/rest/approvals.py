"""The routes for tool calls that wait for approval, or for a window to run them.

    POST /api/chats/{id}/approvals    {"decisions": [{"id", "approved", "arguments"?, "reason"?}]}
    POST /api/chats/{id}/claims       {"id", "window"}
    POST /api/chats/{id}/results      {"results": [{"id", "result" or "error"}], "window"?}

The ids are in the parts of the waiting reply: `approval.id` and `offer.id`.

Invariants: as for the other routes of this package. Repeating a request changes nothing.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from statestream.chat.approvals import MAX_REASON, Decision, ToolAnswer
from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.message_types import Id
from statestream.chat.parameters import CHAT
from statestream.chat.protocols.rest.routes import Nothing, key_of
from statestream.chat.question import MAX_ID
from statestream.chat.replies.reply_builder import MAX_CALLS
from statestream.core.errors import Forbidden, HandlerFailed, NotFound, RateLimited, Refused
from statestream.server.bodies import Body, checked, read_json
from statestream.server.contract import Answer, Contract, Route
from statestream.server.dispatch_rate import admit
from statestream.server.request import check_query
from statestream.server.routes import json_response


class DecisionBody(Body):
    """A decision about one tool call. `arguments` replaces all arguments of the call."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    approved: bool
    arguments: dict[str, Any] | None = None
    reason: Annotated[str | None, Field(max_length=MAX_REASON)] = None

    def decision(self) -> Decision:
        return Decision(id=self.id, approved=self.approved, arguments=self.arguments, reason=self.reason)


class Decisions(Body):
    """Decisions about tool calls of one reply, all or none."""

    decisions: Annotated[list[DecisionBody], Field(min_length=1, max_length=MAX_CALLS)]


class Claim(Body):
    """A window's claim to a call of a front-end tool. `window` is an id that the window chooses for itself."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    window: Annotated[str, Field(min_length=1, max_length=MAX_ID)]


class ResultBody(Body):
    """The outcome of one call: a result, which is any JSON, or a sentence that says why there is none."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    result: Any = None
    error: Annotated[str | None, Field(max_length=MAX_REASON)] = None

    def answer(self) -> ToolAnswer:
        return ToolAnswer(id=self.id, result=self.result, error=self.error)


class Results(Body):
    """Outcomes of calls of one reply, all or none."""

    results: Annotated[list[ResultBody], Field(min_length=1, max_length=MAX_CALLS)]
    window: Annotated[str | None, Field(min_length=1, max_length=MAX_ID)] = None


class DecidedAnswer(TypedDict):
    """The reply, which continues or still waits for other calls."""

    reply: Id


def routes(conversations: Conversations) -> list[Route]:
    async def decide(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats, key = visit(request, conversations), key_of(request)
        body = checked(Decisions, await read_json(request))
        reply = await chats.settle(key, decisions=[each.decision() for each in body.decisions])
        answer: DecidedAnswer = {"reply": reply}
        return json_response(answer)

    async def claim(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats, key = visit(request, conversations), key_of(request)
        body = checked(Claim, await read_json(request))
        await chats.claim(key, body.id, body.window)
        return json_response({})

    async def results(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats, key = visit(request, conversations), key_of(request)
        body = checked(Results, await read_json(request))
        answers = [each.answer() for each in body.results]
        answer: DecidedAnswer = {"reply": await chats.settle(key, answers=answers, window=body.window)}
        return json_response(answer)

    return [
        Route(method="POST", path="/api/chats/{id}/approvals", handler=decide, contract=DECIDE),
        Route(method="POST", path="/api/chats/{id}/claims", handler=claim, contract=CLAIM),
        Route(method="POST", path="/api/chats/{id}/results", handler=results, contract=RESULTS),
    ]


DECIDE: Final = Contract(
    name="decide",
    summary="Approves or denies tool calls that wait for approval.",
    parameters=(CHAT,),
    body=Decisions,
    answers=(Answer(description="The decisions are saved.", model=DecidedAnswer),),
    errors=(NotFound, Forbidden, Refused, RateLimited, HandlerFailed),
    access="identity",
)
CLAIM: Final = Contract(
    name="claim",
    summary="Claims a call of a front-end tool for 30 seconds.",
    parameters=(CHAT,),
    body=Claim,
    answers=(Answer(description="The window has claimed the call.", model=Nothing),),
    errors=(NotFound, Refused, RateLimited, HandlerFailed),
    access="identity",
)
RESULTS: Final = Contract(
    name="results",
    summary="Saves the results of front-end tool calls.",
    parameters=(CHAT,),
    body=Results,
    answers=(Answer(description="The results are saved.", model=DecidedAnswer),),
    errors=(NotFound, Refused, RateLimited, HandlerFailed),
    access="identity",
)
