"""`POST /api/chats/{id}/stream`: ask, and read the answer as plain text.

What the AI SDK calls the text stream protocol (`TextStreamChatTransport`), and what front ends without a library do.

Invariants: the body is the reply's text and nothing else. The protocol has no word for failure: a reply that does not
end well cuts the connection. It has no ids either, so nothing is resumed: a second reader would get a second message.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.identity import Identify, person
from statestream.chat.messages import find
from statestream.chat.projections.text import TextProjection
from statestream.chat.questions import Post
from statestream.chat.routes.asking import answered
from statestream.chat.routes.chats import key_of
from statestream.chat.viewing import STREAM_HEADERS, show
from statestream.server.abort import abort_response
from statestream.server.bodies import checked, read_json

HEADERS: Final = {**STREAM_HEADERS, "Content-Type": "text/plain; charset=utf-8"}


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        key, author = key_of(request), person(request, identify)
        post = checked(Post, await read_json(request))
        reply = await answered(conversations, key, post, author, create=False)
        return await _stream(request, conversations, key, reply)

    async def resume(_: web.Request) -> web.Response:
        return web.Response(status=204)

    return [web.post("/api/chats/{id}/stream", ask), web.get("/api/chats/{id}/stream", resume, allow_head=False)]


async def _stream(request: web.Request, conversations: Conversations, key: str, reply: str) -> web.StreamResponse:
    response = web.StreamResponse(headers=HEADERS)
    await response.prepare(request)
    view = TextProjection()

    def look(_: set[str] | None) -> tuple[bytes, bool]:
        message = find(conversations.find(key), reply)
        if message is None:
            return b"", True
        return view.new(message).encode(), message["status"] != "streaming"

    await show(response, conversations.notifier, [name_of(key)], look)
    message = find(conversations.find(key), reply)
    if message is None or message["status"] not in ("complete", "stopped"):
        abort_response(request)
    return response
