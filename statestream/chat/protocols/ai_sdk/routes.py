"""`/api/chat` and the routes below it.

Invariants: a stream that ends with `[DONE]` is complete; any other is aborted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.parameters import CHAT, LEAF
from statestream.chat.protocols.ai_sdk.messages import ui_messages
from statestream.chat.protocols.ai_sdk.projection import UIMessageProjection
from statestream.chat.protocols.ai_sdk.request import Answer, ChatPost, answer, to_resume
from statestream.chat.protocols.ai_sdk.ui_types import UIChunk, UIMessages
from statestream.chat.protocols.rest.routes import key_of, leaf_of, stop_contract, stop_route
from statestream.chat.questions import REMOVED
from statestream.chat.seen import looked_at
from statestream.chat.viewing.projection import Item
from statestream.chat.viewing.response import EVENT_HEADERS, event_stream, respond
from statestream.chat.viewing.viewers import Viewer
from statestream.chat.visit import Visit
from statestream.core.errors import (
    Forbidden,
    HandlerFailed,
    NotFound,
    RateLimited,
    Refused,
    StatestreamError,
    TooManyStreams,
    Unauthenticated,
)
from statestream.server import contract
from statestream.server.bodies import checked, read_json
from statestream.server.contract import Contract, Messages, Route
from statestream.server.limits import count_limited
from statestream.server.problems import OUTCOME, retry_headers
from statestream.server.request import check_query
from statestream.server.routes import json_response

HEADERS: Final = {**EVENT_HEADERS, "x-vercel-ai-ui-message-stream": "v1"}
DONE: Final = b"data: [DONE]\n\n"
"""The end of a complete stream."""


def routes(conversations: Conversations) -> list[Route]:
    async def ask(request: web.Request) -> web.StreamResponse:
        check_query(request)
        chats = visit(request, conversations)
        post = checked(ChatPost, await read_json(request))
        key = post.key
        return await _stream(request, chats, key, await answer(chats, key, post, create=True))

    async def resume(request: web.Request) -> web.StreamResponse:
        check_query(request, "leaf")
        chats, key = visit(request, conversations), key_of(request)
        reply = await to_resume(chats, key, leaf_of(request))
        if reply is None:
            return web.Response(status=204)
        return await _stream(request, chats, key, Answer(reply=reply, late=True))

    async def read(request: web.Request) -> web.Response:
        check_query(request, "leaf")
        state = looked_at(await visit(request, conversations).current(key_of(request)), leaf_of(request))
        return json_response({"id": request.match_info["id"], "messages": ui_messages(state)})

    stop = stop_route(conversations, lenient=True)
    return [
        Route(method="POST", path="/api/chat", handler=_plain_errors(ask), contract=ASK),
        Route(method="GET", path="/api/chat/{id}/stream", handler=_plain_errors(resume), contract=RESUME),
        Route(method="POST", path="/api/chat/{id}/stop", handler=_plain_errors(stop), contract=STOP),
        Route(method="GET", path="/api/chat/{id}", handler=_plain_errors(read), contract=READ),
    ]


def _plain_errors(handler: Handler) -> Handler:
    """The handler, with errors as a sentence of plain text."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Unauthenticated:
            raise  # as on all routes: it has a header that says how to sign in
        except StatestreamError as error:
            request[OUTCOME] = error.code
            count_limited(request, error)
            return web.Response(status=error.status, text=str(error), headers=retry_headers(error))

    return handle


async def _stream(request: web.Request, chats: Visit, key: str, shown: Answer) -> web.StreamResponse:
    projection = shown.projection(lambda reply: UIMessageProjection(reply, shown.held, late=shown.late), _removed)

    def encode(items: Sequence[Item]) -> bytes:
        return event_stream(items) + (DONE if projection.over else b"")

    return await respond(request, chats.notifier, Viewer(chats, key, projection), encode, headers=HEADERS)


def _removed() -> list[Item]:
    return [{"type": "error", "errorText": REMOVED[1]}]


STREAM: Final = contract.Answer(description="The chunks of the reply.", media_type="text/event-stream")
CHUNKS: Final = Messages(carrier="events", sends={"chunk": UIChunk}, ending="[DONE]")
ASK: Final = Contract(
    name="ask",
    summary="Asks, edits, answers again or decides about tools, and streams the reply. A new `id` creates a chat.",
    body=ChatPost,
    answers=(STREAM,),
    errors=(NotFound, Forbidden, Refused, RateLimited, TooManyStreams, HandlerFailed),
    access="identity",
    sentences=True,
    messages=CHUNKS,
)
RESUME: Final = Contract(
    name="resume",
    summary="Streams the reply in progress from its beginning.",
    parameters=(CHAT, LEAF),
    answers=(STREAM, contract.Answer(description="No reply is in progress.", status=204, media_type=None)),
    errors=(NotFound, TooManyStreams),
    access="identity",
    sentences=True,
    messages=CHUNKS,
)
STOP: Final = stop_contract("stop_ui", lenient=True)
READ: Final = Contract(
    name="ui_messages",
    summary="The messages of a chat, as a page loads them.",
    parameters=(CHAT, LEAF),
    answers=(contract.Answer(description="The messages that are shown.", model=UIMessages),),
    errors=(NotFound,),
    access="identity",
    sentences=True,
)
