"""`GET /api/runs` and `POST /api/runs/{id}/stop`: the replies that a server has not finished, for operators.

Invariants: only operators, by the rule of the inspector, are answered. They need not belong to a chat to stop its
reply; the audit log says who did so.
"""

from __future__ import annotations

from typing import Annotated, Final

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from statestream.chat.conversations import Conversations
from statestream.chat.operators.run_list import ListedRun
from statestream.chat.parameters import CHAT
from statestream.chat.protocols.rest.routes import Stopped, key_of
from statestream.chat.question import MAX_ID
from statestream.core.errors import Forbidden, HandlerFailed, NotFound, Refused
from statestream.protocol.frame_types import PositionText
from statestream.server import audit
from statestream.server.bodies import Body, checked, read_json
from statestream.server.contract import Answer, Contract, Route
from statestream.server.inspector import check_operator
from statestream.server.request import check_query
from statestream.server.routes import json_response


class StopRun(Body):
    """The body of a request to stop a reply. Without `reply`, it is the one that is not finished, whichever it is."""

    reply: Annotated[str | None, Field(min_length=1, max_length=MAX_ID)] = None


class RunsAnswer(TypedDict):
    """The replies that are not finished, on all nodes, the oldest first."""

    position: PositionText
    runs: list[ListedRun]


def routes(conversations: Conversations) -> list[Route]:
    async def list_runs(request: web.Request) -> web.Response:
        check_operator(request)
        check_query(request)
        await conversations.caught_up()
        answer: RunsAnswer = {"position": str(conversations.view.position), "runs": await conversations.unfinished()}
        return json_response(answer)

    async def stop(request: web.Request) -> web.Response:
        check_operator(request)
        check_query(request)
        key = key_of(request)
        body = checked(StopRun, await read_json(request) if request.can_read_body else {})
        await conversations.existing(key)
        stopped = await conversations.stop(key, body.reply)
        if stopped:
            audit.run_stopped(request, key)
        answer: Stopped = {"success": True, "stopped": stopped}
        return json_response(answer)

    return [
        Route(method="GET", path="/api/runs", handler=list_runs, contract=LIST),
        Route(method="POST", path="/api/runs/{id}/stop", handler=stop, contract=STOP),
    ]


LIST: Final = Contract(
    name="runs",
    summary="The replies of all chats that are in progress or waiting, for operators.",
    answers=(Answer(description="The replies, the oldest first.", model=RunsAnswer),),
    errors=(Forbidden, NotFound),
)
STOP: Final = Contract(
    name="stop_run",
    summary="Stops the reply of a chat, for operators.",
    parameters=(CHAT,),
    body=StopRun,
    needs_body=False,
    answers=(Answer(description="Whether this request has stopped a reply.", model=Stopped),),
    errors=(Forbidden, NotFound, Refused, HandlerFailed),
)
