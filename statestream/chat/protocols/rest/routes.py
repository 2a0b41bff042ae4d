"""The chat's own routes, under `/api/chats`, and what their requests contain.

Other protocols also have the route that stops a reply, and parse the id of a chat as this one does.

Invariants: every value from outside is checked before it reaches the conversations. Stopping is idempotent, and the
response reports whether this request has stopped anything.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from statestream.chat.chats import chat_key
from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.message_types import ChatMessage, Id, QueuedQuestion
from statestream.chat.messages import find
from statestream.chat.parameters import BEFORE, CHAT, LEAF, MAX_PAGE, PAGE
from statestream.chat.question import MAX_ID
from statestream.chat.seen import hidden_by_branch, hidden_by_sibling, leaf_seen, looked_at
from statestream.chat.visit import Visit
from statestream.core.errors import HandlerFailed, Malformed, NotFound, RateLimited, Refused
from statestream.protocol.frame_types import PositionText
from statestream.server.bodies import Body, checked, read_json
from statestream.server.contract import Answer, Contract, Route
from statestream.server.dispatch_rate import admit
from statestream.server.request import check_query
from statestream.server.routes import json_response


class NoFields(Body):
    """The body of a request that takes no fields."""


class Branch(Body):
    """The body of a request to show a branch: a message of the branch, and the leaf that the sender has seen."""

    message: Annotated[str, Field(min_length=1, max_length=MAX_ID)]
    leaf: Annotated[str | None, Field(min_length=1, max_length=MAX_ID)] = None


class Continue(Branch):
    """The body of a request to continue a reply that was cut off: the reply, and the leaf that the sender has seen."""


class Typing(Body):
    """The body of a report of typing."""

    typing: bool = True


class Stopped(TypedDict):
    """Whether a request to stop has stopped a reply."""

    success: Literal[True]
    stopped: bool


class Created(TypedDict):
    """The id of a new chat."""

    id: Id


class ChatAnswer(TypedDict):
    """A chat: its live messages, of which the way up from `leaf` is shown. People are keys."""

    id: Id
    position: PositionText
    messages: list[ChatMessage]
    leaf: NotRequired[Id]
    title: NotRequired[str]
    user: NotRequired[str]
    participants: NotRequired[list[str]]
    queued: NotRequired[list[QueuedQuestion]]


class Continued(TypedDict):
    """The reply that begins with the parts of the one that was cut off."""

    reply: Id


class Page(TypedDict):
    """Older messages of all branches, in the order of creation."""

    messages: list[ChatMessage]


class Nothing(TypedDict):
    """It is done."""


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


class Stop(Body):
    """The body of a request to stop.

    `activeStreamId`, the id of a reply, keeps a late request from stopping the next reply.
    """

    activeStreamId: str | None = None  # noqa: N815 - the AI SDK's name


class LenientStop(Stop):
    """The body of a request to stop. The AI SDK's front ends post more than is needed."""

    model_config = ConfigDict(strict=True, extra="ignore")


def stop_route(conversations: Conversations, *, lenient: bool) -> Handler:
    """A handler that ends the reply in progress of the chat in the path. `lenient`: unknown fields are ignored."""

    async def stop(request: web.Request) -> web.Response:
        check_query(request)
        chats = visit(request, conversations)
        kind = LenientStop if lenient else Stop
        body = checked(kind, await read_json(request) if request.can_read_body else {})
        stopped = await chats.stop(key_of(request), body.activeStreamId)
        answer: Stopped = {"success": True, "stopped": stopped}
        return json_response(answer)

    return stop


def stop_contract(name: str, *, lenient: bool) -> Contract:
    """The contract of a route that `stop_route` has made."""
    return Contract(
        name=name,
        summary="Stops the reply in progress, and keeps its text.",
        parameters=(CHAT,),
        body=LenientStop if lenient else Stop,
        needs_body=False,
        answers=(Answer(description="Whether this request has stopped a reply.", model=Stopped),),
        errors=(NotFound, Refused, HandlerFailed),
        access="identity",
        sentences=lenient,
    )


def routes(conversations: Conversations) -> list[Route]:
    async def create(request: web.Request) -> web.Response:
        check_query(request)
        admit(request)
        chats = visit(request, conversations)
        if request.can_read_body and await read_json(request) != {}:
            raise Malformed("POST /api/chats takes no fields: the server chooses the id of the chat and returns it")
        created: Created = {"id": await chats.create()}
        return json_response(created, status=201)

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
        newest = await chats.newest_below(key, body.message)
        hidden = hidden_by_branch(state, newest) if find(state, newest) is not None else ()
        await chats.branch(key, newest, leaf=leaf_seen(state, body.leaf, hidden))
        return json_response({})

    async def continue_reply(request: web.Request) -> web.Response:
        check_query(request)
        chats, key = visit(request, conversations), key_of(request)
        body = checked(Continue, await read_json(request))
        await chats.caught_up()
        state = await chats.existing(key)
        found = find(state, body.message)
        hidden = () if found is None or body.leaf is not None else hidden_by_sibling(state, found)
        leaf = leaf_seen(state, body.leaf, hidden)
        answer: Continued = {"reply": await chats.continue_reply(key, body.message, leaf=leaf)}
        return json_response(answer)

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
        Route(method="POST", path="/api/chats", handler=create, contract=CREATE),
        Route(method="GET", path="/api/chats/{id}", handler=read, contract=READ),
        Route(method="GET", path="/api/chats/{id}/messages", handler=messages, contract=MESSAGES),
        Route(
            method="POST", path="/api/chats/{id}/stop", handler=stop_route(conversations, lenient=False), contract=STOP
        ),
        Route(method="POST", path="/api/chats/{id}/branch", handler=branch, contract=BRANCH),
        Route(method="POST", path="/api/chats/{id}/continue", handler=continue_reply, contract=CONTINUE),
        Route(method="POST", path="/api/chats/{id}/typing", handler=typing, contract=TYPING),
    ]


CREATE: Final = Contract(
    name="create_chat",
    summary="Creates a chat without messages.",
    body=NoFields,
    needs_body=False,
    answers=(Answer(description="The chat exists.", status=201, model=Created),),
    errors=(RateLimited, HandlerFailed),
    access="identity",
)
READ: Final = Contract(
    name="chat",
    summary="A chat: its live messages, and who belongs to it.",
    parameters=(CHAT, LEAF),
    answers=(Answer(description="The chat.", model=ChatAnswer),),
    errors=(NotFound,),
    access="identity",
)
MESSAGES: Final = Contract(
    name="older_messages",
    summary="Older messages of a chat, also those that are no longer live.",
    parameters=(CHAT, BEFORE, PAGE),
    answers=(Answer(description="The messages before that one.", model=Page),),
    errors=(NotFound,),
    access="identity",
)
STOP: Final = stop_contract("stop", lenient=False)
BRANCH: Final = Contract(
    name="branch",
    summary="Shows everybody the branch with that message.",
    parameters=(CHAT,),
    body=Branch,
    answers=(Answer(description="The chat shows it.", model=Nothing),),
    errors=(NotFound, Refused, RateLimited, HandlerFailed),
    access="identity",
)
CONTINUE: Final = Contract(
    name="continue",
    summary="Lets a reply that was cut off continue, as another version of it.",
    parameters=(CHAT,),
    body=Continue,
    answers=(Answer(description="The reply continues.", model=Continued),),
    errors=(NotFound, Refused, RateLimited, HandlerFailed),
    access="identity",
)
TYPING: Final = Contract(
    name="typing",
    summary="Says that the person is typing, to those who follow the presence in the chat.",
    parameters=(CHAT,),
    body=Typing,
    answers=(Answer(description="They are told.", model=Nothing),),
    errors=(NotFound, RateLimited, HandlerFailed),
    access="identity",
)
