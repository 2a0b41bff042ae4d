"""The chat's own routes: make one, read one, ask and read the answer as plain text.

Law: the store's messages are the conversation; of what a client posts only the last user message
counts. A response is one viewer of the reply: that it ends early ends nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from statestream.bus import Bell
from statestream.chat import slice as chat
from statestream.chat.projections.text import TextProjection
from statestream.errors import Malformed
from statestream.server.bodies import Body, checked, read_json
from statestream.server.cut import cut
from statestream.server.routes import STORE, json_response

if TYPE_CHECKING:
    from statestream.chat import Chat
    from statestream.store import Store

MAX_TEXT: Final = 100_000


class _Message(BaseModel):
    """Front ends post more than we need: ids, parts, their own metadata."""

    model_config = ConfigDict(strict=True, extra="ignore")
    role: str
    content: str = Field(max_length=MAX_TEXT)


class _Ask(Body):
    model_config = ConfigDict(strict=True, extra="ignore")
    messages: list[_Message]

    def question(self) -> str:
        asked = [message.content for message in self.messages if message.role == "user"]
        if not asked or not asked[-1].strip():
            raise Malformed("expected a last user message with content in `messages`, got none")
        return asked[-1]


def routes_of(battery: Chat) -> list[web.RouteDef]:
    async def create(request: web.Request) -> web.Response:
        return json_response({"id": await battery.create(request.config_dict[STORE])}, status=201)

    async def read(request: web.Request) -> web.Response:
        store, key = request.config_dict[STORE], _key(request)
        return json_response({"id": key, "position": str(store.position), **battery.state(store, key)})

    async def ask(request: web.Request) -> web.StreamResponse:
        store, key = request.config_dict[STORE], _key(request)
        body = checked(_Ask, await read_json(request))
        reply = await battery.ask(store, key, body.question())
        return await _stream_text(request, store, key, reply)

    return [
        web.post("/api/chats", create),
        web.get("/api/chats/{id}", read, allow_head=False),
        web.post("/api/chats/{id}/stream", ask),
    ]


def _key(request: web.Request) -> str:
    return request.match_info["id"]


async def _stream_text(request: web.Request, store: Store, key: str, reply: str) -> web.StreamResponse:
    """The reply as it grows. The protocol has no word for failure: a reply that fails cuts the connection."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8", "X-Accel-Buffering": "no"})
    response.headers["Cache-Control"] = "no-store, no-transform"
    await response.prepare(request)
    name, view = f"{chat.NAME}/{key}", TextProjection()
    changed = Bell(name)
    unsubscribe = store.bus.subscribe(changed)
    try:
        while True:
            message = _reply_in(store, name, reply)
            text = view.new(message) if message is not None else ""
            if text:
                await response.write(text.encode())
            if message is None or message["status"] != "streaming":
                break
            await changed.wait()
    finally:
        unsubscribe()
    if message is None or message["status"] != "complete":
        cut(request)
    return response


def _reply_in(store: Store, name: str, reply: str) -> Any:
    state = store.get(name)
    return None if state is None else chat.find(state, reply)
