"""`POST /api/chats/{id}/stream`.

Invariants: a response shows one reply from its beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import Identify, person
from statestream.chat.protocols.ai_sdk.request import Post, answer
from statestream.chat.protocols.rest.routes import key_of
from statestream.chat.protocols.text.projection import TextProjection
from statestream.chat.viewing.projection import Item
from statestream.chat.viewing.response import STREAM_HEADERS, respond
from statestream.chat.viewing.viewers import Viewer
from statestream.server.bodies import checked, read_json

HEADERS: Final = {**STREAM_HEADERS, "Content-Type": "text/plain; charset=utf-8"}


def routes(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        key, author = key_of(request), person(request, identify)
        post = checked(Post, await read_json(request))
        reply = await answer(conversations, key, post, author, create=False)
        viewer = Viewer(conversations.view, key, TextProjection(reply))
        return await respond(request, conversations, viewer, _encode, headers=HEADERS, keep_alive=b"")

    async def resume(_: web.Request) -> web.Response:
        """Tells a client that there is nothing to resume."""
        return web.Response(status=204)

    return [web.post("/api/chats/{id}/stream", ask), web.get("/api/chats/{id}/stream", resume, allow_head=False)]


def _encode(items: Sequence[Item]) -> bytes:
    return "".join(item for item in items if isinstance(item, str)).encode()
