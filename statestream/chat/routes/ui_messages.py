"""`POST /api/chat`: the AI SDK's default route, as a UI message stream.

    POST /api/chat                ask, ask otherwise, answer again: `id` is the chat, which need not exist
    GET  /api/chat/{id}/stream    goes on with the reply that is being made; 204 where none is
    POST /api/chat/{id}/stop      ends it: a client that aborts has only gone away
    GET  /api/chat/{id}           the messages, as `useChat` takes them when a page is loaded

Invariants: errors are a sentence as plain text, because the SDK shows the body of an error as it is.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.identity import Identify, person
from statestream.chat.messages import find
from statestream.chat.projections.ui_messages import DONE, UIMessageProjection, ui_messages
from statestream.chat.questions import Post
from statestream.chat.routes.asking import answered, key_posted
from statestream.chat.routes.chats import key_of, stop_of
from statestream.chat.viewing import EVENT_HEADERS, KEEP_ALIVE, events, show
from statestream.core.errors import StatestreamError
from statestream.server.abort import abort_response
from statestream.server.bodies import checked, read_json
from statestream.server.routes import json_response

HEADERS: Final = {**EVENT_HEADERS, "x-vercel-ai-ui-message-stream": "v1"}


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        author = person(request, identify)
        post = checked(Post, await read_json(request))
        key = key_posted(post)
        reply = await answered(conversations, key, post, author, create=True)
        return await _stream(request, conversations, key, reply)

    async def resume(request: web.Request) -> web.StreamResponse:
        key = key_of(request)
        reply = await conversations.making(key)
        if reply is None:
            return web.Response(status=204)
        return await _stream(request, conversations, key, reply["id"])

    async def read(request: web.Request) -> web.Response:
        state = await conversations.current(key_of(request))
        return json_response({"id": request.match_info["id"], "messages": ui_messages(state)})

    return [
        web.post("/api/chat", _plain_errors(ask)),
        web.get("/api/chat/{id}/stream", _plain_errors(resume), allow_head=False),
        web.post("/api/chat/{id}/stop", _plain_errors(stop_of(conversations))),
        web.get("/api/chat/{id}", _plain_errors(read), allow_head=False),
    ]


def _plain_errors(handler: Handler) -> Handler:
    """Errors as a sentence."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except StatestreamError as error:
            return web.Response(status=error.status, text=str(error))

    return handle


async def _stream(request: web.Request, conversations: Conversations, key: str, reply: str) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    view = UIMessageProjection()

    def look(_: set[str] | None) -> tuple[bytes, bool]:
        message = find(conversations.find(key), reply)
        if message is None:
            return b"", True
        data = events(view.new(message))
        return data + DONE if view.over else data, view.over

    await show(response, conversations.notifier, [name_of(key)], look, keep_alive=KEEP_ALIVE)
    if not view.over:  # it was trimmed, the history is another one, or the reply goes on and this server does not
        abort_response(request)  # an end would say that this is all of it
    return response
