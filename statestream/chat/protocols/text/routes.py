"""`POST /api/chats/{id}/stream`, and a reply as plain text.

Invariants: a response shows one reply from its beginning. The place of the viewer is a part, and how much of it was
received.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.messages import find
from statestream.chat.protocols.ai_sdk.request import Post, answer
from statestream.chat.protocols.rest.routes import key_of
from statestream.chat.viewing.projection import GrowingText, Item, Look
from statestream.chat.viewing.response import STREAM_HEADERS, respond
from statestream.chat.viewing.viewers import Viewer
from statestream.server.bodies import checked, read_json
from statestream.server.request import check_query

HEADERS: Final = {**STREAM_HEADERS, "Content-Type": "text/plain; charset=utf-8"}


class TextProjection:
    """One viewer of one reply."""

    def __init__(self, reply: str) -> None:
        self._reply = reply
        self._text = GrowingText()
        self.over = self.truncated = False

    def new(self, look: Look) -> list[Item]:
        """The text that follows that of the last look, if there is any."""
        message = find(look.state, self._reply)
        if message is None:  # it was trimmed, or the history is another one
            self.over = self.truncated = True
            return []
        self.over = message["status"] != "streaming"
        self.truncated = message["status"] == "error" or (look.last and not self.over)
        text = self._text.new(message)
        return [text] if text else []


def routes(conversations: Conversations) -> list[web.RouteDef]:
    async def ask(request: web.Request) -> web.StreamResponse:
        check_query(request)
        chats, key = visit(request, conversations), key_of(request)
        post = checked(Post, await read_json(request))
        viewer = Viewer(chats, key, TextProjection(await answer(chats, key, post, create=False)))
        return await respond(request, chats.notifier, viewer, _encode, headers=HEADERS, keep_alive=b"")

    async def resume(request: web.Request) -> web.Response:
        """Tells a client that there is nothing to resume."""
        visit(request, conversations)
        return web.Response(status=204)

    return [web.post("/api/chats/{id}/stream", ask), web.get("/api/chats/{id}/stream", resume, allow_head=False)]


def _encode(items: Sequence[Item]) -> bytes:
    return "".join(item for item in items if isinstance(item, str)).encode()
