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
from statestream.chat.protocols.ai_sdk.messages import ui_messages
from statestream.chat.protocols.ai_sdk.projection import UIMessageProjection
from statestream.chat.protocols.ai_sdk.request import Post, answer, key_posted, to_resume
from statestream.chat.protocols.rest.routes import key_of, leaf_of, stop_route
from statestream.chat.seen import looked_at
from statestream.chat.viewing.projection import Item
from statestream.chat.viewing.response import EVENT_HEADERS, event_stream, respond
from statestream.chat.viewing.viewers import Viewer
from statestream.chat.visit import Visit
from statestream.core.errors import StatestreamError, Unauthenticated
from statestream.server.bodies import checked, read_json
from statestream.server.limits import count_limited
from statestream.server.problems import OUTCOME, retry_headers
from statestream.server.request import check_query
from statestream.server.routes import json_response

HEADERS: Final = {**EVENT_HEADERS, "x-vercel-ai-ui-message-stream": "v1"}
DONE: Final = b"data: [DONE]\n\n"
"""The end of a complete stream."""


def routes(conversations: Conversations) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        check_query(request)
        chats = visit(request, conversations)
        post = checked(Post, await read_json(request))
        key = key_posted(post)
        return await _stream(request, chats, key, await answer(chats, key, post, create=True))

    async def resume(request: web.Request) -> web.StreamResponse:
        check_query(request, "leaf")
        chats, key = visit(request, conversations), key_of(request)
        reply = await to_resume(chats, key, leaf_of(request))
        if reply is None:
            return web.Response(status=204)
        return await _stream(request, chats, key, reply)

    async def read(request: web.Request) -> web.Response:
        check_query(request, "leaf")
        state = looked_at(await visit(request, conversations).current(key_of(request)), leaf_of(request))
        return json_response({"id": request.match_info["id"], "messages": ui_messages(state)})

    return [
        web.post("/api/chat", _plain_errors(ask)),
        web.get("/api/chat/{id}/stream", _plain_errors(resume), allow_head=False),
        web.post("/api/chat/{id}/stop", _plain_errors(stop_route(conversations, lenient=True))),
        web.get("/api/chat/{id}", _plain_errors(read), allow_head=False),
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


async def _stream(request: web.Request, chats: Visit, key: str, reply: str) -> web.StreamResponse:
    projection = UIMessageProjection(reply)

    def encode(items: Sequence[Item]) -> bytes:
        return event_stream(items) + (DONE if projection.over else b"")

    return await respond(request, chats.notifier, Viewer(chats, key, projection), encode, headers=HEADERS)
