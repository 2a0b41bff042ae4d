"""`GET /api/chat` as a WebSocket: the AI SDK's `WebSocketChatTransport`, of its major 7.

    the client    {"type": "send", "requestId", "id", "trigger", "messageId"?, "messages", …}
                  {"type": "resume", "requestId", "id", …}, {"type": "abort", "requestId"}
    the server    {"type": "start", "requestId"}, {"type": "chunk", "requestId", "sequence", "chunk"}
                  {"type": "end", "requestId"}, {"type": "no-active", "requestId"}
                  {"type": "error", "requestId", "errorText"}

The chunks are those of the UI message stream. Here the client says when a person stops a reply: `abort` ends it for
everybody, while a connection that is lost ends nothing.

Invariants: each request is a task of its connection, and they end together; a question that has come is asked all the
same. The SDK resumes from the beginning, so a resumed stream is made from the state like any other, and its sequence
begins with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterable
from typing import Any, Final, Literal

from aiohttp import WSMessage, web
from pydantic import ConfigDict, Field

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.identity import Identify, person
from statestream.chat.messages import find
from statestream.chat.projections.ui_socket import UISocketProjection, frame
from statestream.chat.questions import MAX_ID, Post
from statestream.chat.routes.asking import answered, key_posted
from statestream.chat.routes.chats import chat_key
from statestream.chat.sockets import CLOSE_SECONDS, Socket, value_of
from statestream.core.errors import NotFound, Refused, StatestreamError
from statestream.server.bodies import MAX_BODY, Body, checked

MAX_REQUESTS: Final = 20
"""Requests of one connection that are under way."""


class _Frame(Body):
    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["send", "resume", "abort"]
    requestId: str = Field(min_length=1, max_length=MAX_ID)  # noqa: N815 - the wire's name


class _Resume(Body):
    model_config = ConfigDict(strict=True, extra="ignore")
    id: str = Field(min_length=1)


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        user = person(request, identify)
        limit = request.config_dict[MAX_BODY]
        async with Socket(request, conversations.notifier, max_message=limit) as socket:
            await _Connection(conversations, socket, user).run()
        return socket.response

    return [web.get("/api/chat", connect, allow_head=False)]


class _Connection:
    """One client, and its requests under way."""

    def __init__(self, conversations: Conversations, socket: Socket, user: str | None) -> None:
        self._conversations, self._socket, self._user = conversations, socket, user
        self._writing = asyncio.Lock()
        self._under_way: dict[str, _Stream] = {}

    async def run(self) -> None:
        """Returns when the client has gone, or the server stops."""
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(self._close_in_time())
            async for message in self._socket.messages():
                await self._take(message, tasks)
            closing.cancel()
            for stream in self._under_way.values():
                stream.task.cancel()

    async def _close_in_time(self) -> None:
        notifier = self._conversations.notifier
        with notifier.on(()) as signal:
            while not notifier.closed:
                signal.clear()
                await signal.wait()
        if self._under_way:  # they say how the replies ended
            await asyncio.wait([stream.task for stream in self._under_way.values()], timeout=CLOSE_SECONDS)
        await self._socket.go_away()

    async def _take(self, message: WSMessage, tasks: asyncio.TaskGroup) -> None:
        request_id = ""
        try:
            value = value_of(message)
            asked = checked(_Frame, value)
            request_id = asked.requestId
            if asked.type == "abort":
                await self._abort(request_id)
                return
            if request_id in self._under_way or len(self._under_way) == MAX_REQUESTS:
                raise Refused("too_many", f"expected a new requestId, and at most {MAX_REQUESTS} requests at a time")
            stream = _Stream()
            begun = self._conversations.owned(self._begin(stream, value))
            self._under_way[request_id] = stream
            stream.task = tasks.create_task(self._answer(request_id, stream, begun))
        except StatestreamError as error:
            await self._send("error", request_id, errorText=str(error))

    async def _abort(self, request_id: str) -> None:
        """A person has stopped the reply, also where it has not begun."""
        stream = self._under_way.get(request_id)
        if stream is not None:
            stream.aborted = True
            await self._stop(stream)

    async def _stop(self, stream: _Stream) -> None:
        if stream.reply is not None:
            await self._conversations.stop(stream.key, stream.reply)

    async def _answer(self, request_id: str, stream: _Stream, begun: Awaitable[bool]) -> None:
        try:
            if not await begun:
                await self._send("no-active", request_id)
                return
            await self._show(request_id, stream)
        except StatestreamError as error:
            await self._send("error", request_id, errorText=str(error))
        finally:
            del self._under_way[request_id]

    async def _begin(self, stream: _Stream, value: Any) -> bool:
        """Finds the reply, or has it made, and stops it if that was said meanwhile. False where nothing is resumed."""
        if value["type"] == "send":
            post = checked(Post, value)
            stream.key = key_posted(post)
            stream.reply = await answered(self._conversations, stream.key, post, self._user, create=True)
        else:
            stream.key = chat_key(checked(_Resume, value).id)
            reply = await self._conversations.making(stream.key)
            stream.reply = None if reply is None else reply["id"]
        if stream.aborted:
            await self._stop(stream)
        return stream.reply is not None

    async def _show(self, request_id: str, stream: _Stream) -> None:
        """Sends what is new until the reply is over, or the server stops; then it may go on elsewhere.

        Raises NotFound where it has left the chat.
        """
        view, notifier = UISocketProjection(request_id), self._conversations.notifier
        with notifier.on([name_of(stream.key)]) as signal:
            while not view.over:
                signal.clear()
                message = find(self._conversations.find(stream.key), stream.reply)
                if message is None:
                    raise NotFound("The reply has left the chat; load it again.")
                await self._say(view.new(message))
                if notifier.closed:
                    return
                if not view.over:
                    await signal.wait()

    async def _send(self, kind: str, request_id: str, **more: Any) -> None:
        await self._say([frame(kind, request_id, **more)])

    async def _say(self, frames: Iterable[dict[str, Any]]) -> None:
        """Says nothing to a client that has gone: the loop that listens ends then."""
        with contextlib.suppress(ConnectionError):
            for each in frames:
                async with self._writing:
                    await self._socket.send(each)


class _Stream:
    """One request under way."""

    __slots__ = ("aborted", "key", "reply", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None]
        self.key = ""
        self.reply: str | None = None
        self.aborted = False
