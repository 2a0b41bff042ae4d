"""`POST /api/chat`: the AI SDK's default route, as a UI message stream.

    POST /api/chat                ask, ask otherwise, answer again: `id` is the chat, which need not exist
    GET  /api/chat/{id}/stream    goes on with the reply that is being made; 204 where none is
    POST /api/chat/{id}/stop      ends it: a client that aborts has only gone away
    GET  /api/chat/{id}           the messages, as `useChat` takes them when a page is loaded

Law: errors are a sentence as plain text, because the SDK shows the body of an error as it is.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.messages import find, streaming
from statestream.chat.people import Who, person
from statestream.chat.projections.ui_messages import (
    DONE,
    HEADERS,
    KEEP_ALIVE,
    UIMessageProjection,
    encode,
    ui_messages,
)
from statestream.chat.questions import Post
from statestream.chat.routes.chats import chat_key, key_of, stop_of
from statestream.chat.viewing import show
from statestream.errors import Malformed, StatestreamError
from statestream.server.bodies import checked, read_json
from statestream.server.routes import json_response


def routes_of(conversations: Conversations, who: Who) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        author = person(request, who)
        key, reply = await asked(conversations, checked(Post, await read_json(request)), author)
        return await _stream(request, conversations, key, reply)

    async def resume(request: web.Request) -> web.StreamResponse:
        key = key_of(request)
        reply = streaming(conversations.find(key))
        if reply is None:
            return web.Response(status=204)
        return await _stream(request, conversations, key, reply["id"])

    async def read(request: web.Request) -> web.Response:
        key = key_of(request)
        return json_response({"id": request.match_info["id"], "messages": ui_messages(conversations.find(key))})

    return [
        web.post("/api/chat", _said(ask)),
        web.get("/api/chat/{id}/stream", _said(resume), allow_head=False),
        web.post("/api/chat/{id}/stop", _said(stop_of(conversations))),
        web.get("/api/chat/{id}", _said(read), allow_head=False),
    ]


async def asked(conversations: Conversations, post: Post, author: str | None) -> tuple[str, str]:
    """The chat's key, and the reply to what was posted: asked, asked otherwise, or to be answered again."""
    if post.id is None:
        raise Malformed("expected `id`, the chat's")
    key = chat_key(post.id)
    state = conversations.find(key)
    again = post.to_answer_again(state)
    if again is not None:
        return key, await conversations.regenerate(key, again)
    return key, await conversations.ask(key, post.asked(state, author), create=True)


def _said(handler: Handler) -> Handler:
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
        if message is None:  # it was trimmed, or the history is another one
            return b"", True
        data = encode(view.new(message))
        return data + DONE if view.over else data, view.over

    await show(response, conversations.watch, [name_of(key)], look, keep_alive=KEEP_ALIVE)
    return response
