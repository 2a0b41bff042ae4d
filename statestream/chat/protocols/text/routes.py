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
from statestream.chat.parameters import CHAT
from statestream.chat.protocols.ai_sdk.request import Post, answer
from statestream.chat.protocols.rest.routes import key_of
from statestream.chat.viewing.projection import GrowingText, Item, Look
from statestream.chat.viewing.response import STREAM_HEADERS, respond
from statestream.chat.viewing.viewers import Viewer
from statestream.core.errors import Forbidden, HandlerFailed, NotFound, RateLimited, Refused, TooManyStreams
from statestream.server.bodies import checked, read_json
from statestream.server.contract import Answer, Contract, Messages, Route
from statestream.server.problems import OUTCOME
from statestream.server.request import check_query

PATH: Final = "/api/chats/{id}/stream"
HEADERS: Final = {**STREAM_HEADERS, "Content-Type": "text/plain; charset=utf-8"}


class TextProjection:
    """One viewer of one reply."""

    def __init__(self, reply: str) -> None:
        self._reply = reply
        self._text = GrowingText()
        self.over = self.truncated = self.failed = False

    def new(self, look: Look) -> list[Item]:
        """The text that follows that of the last look, if there is any."""
        message = find(look.state, self._reply)
        if message is None:  # it was trimmed, or the history is another one
            self.over = self.truncated = True
            return []
        self.over = message["status"] != "streaming"
        self.failed = message["status"] == "error"
        self.truncated = self.failed or (look.last and not self.over)
        text = self._text.new(message)
        return [text] if text else []


def routes(conversations: Conversations) -> list[Route]:
    async def ask(request: web.Request) -> web.StreamResponse:
        check_query(request)
        chats, key = visit(request, conversations), key_of(request)
        post = checked(Post, await read_json(request))
        begun: list[TextProjection] = []

        def begin(reply: str) -> TextProjection:
            begun.append(TextProjection(reply))
            return begun[0]

        asked = await answer(chats, key, post, create=False)
        viewer = Viewer(chats, key, asked.projection(begin, lambda: None))
        response = await respond(request, chats.notifier, viewer, _encode, headers=HEADERS, keep_alive=b"")
        if begun and begun[0].failed:  # which the protocol can only say by an abort: the server has shown all there is
            request[OUTCOME] = "ok"
        return response

    async def resume(request: web.Request) -> web.Response:
        """Tells a client that there is nothing to resume, whether or not the chat exists. Raises Malformed."""
        check_query(request)
        visit(request, conversations)
        key_of(request)
        return web.Response(status=204)

    return [
        Route(method="POST", path=PATH, handler=ask, contract=ASK),
        Route(method="GET", path=PATH, handler=resume, contract=RESUME),
    ]


def _encode(items: Sequence[Item]) -> bytes:
    return "".join(item for item in items if isinstance(item, str)).encode()


ASK: Final = Contract(
    name="ask_text",
    summary="Asks a question in a chat that exists, and streams the reply as plain text.",
    parameters=(CHAT,),
    body=Post,
    answers=(Answer(description="The text of the reply.", media_type="text/plain"),),
    errors=(NotFound, Forbidden, Refused, RateLimited, TooManyStreams, HandlerFailed),
    access="identity",
    messages=Messages(carrier="text", sends={"text": str}),
)
RESUME: Final = Contract(
    name="resume_text",
    summary="Says that there is nothing to resume: plain text has no ids.",
    parameters=(CHAT,),
    answers=(Answer(description="There never is.", status=204, media_type=None),),
    access="identity",
)
