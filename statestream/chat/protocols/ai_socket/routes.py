"""`GET /api/chat`, opened as a WebSocket: the commands of a client, and its requests in progress.

Invariants: the only place that reads commands; `ai_sdk.request` reads the question in a `send`. Each request is shown
by a task of its WebSocket and ends with it. A question that has been received is asked, even if the connection is lost
meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable
from typing import Any, Final, Literal

from aiohttp import WSMessage, web
from pydantic import ConfigDict, Field

from statestream.chat.chats import chat_key
from statestream.chat.conversations import Conversations
from statestream.chat.identity import visit
from statestream.chat.messages import reply_to
from statestream.chat.protocols.ai_sdk.request import Answer, ChatPost, answer, to_resume
from statestream.chat.protocols.ai_socket.item_types import SocketBoundary, SocketChunk, SocketError
from statestream.chat.protocols.ai_socket.projection import UISocketProjection, item
from statestream.chat.question import MAX_ID
from statestream.chat.questions import REMOVED
from statestream.chat.viewing.socket import HANDSHAKE, OPENED, SocketOutlet
from statestream.chat.viewing.viewers import Viewer, show
from statestream.chat.visit import Visit
from statestream.core.errors import NotFound, Refused, StatestreamError, TooManyStreams
from statestream.server.bodies import MAX_BODY, Body, checked
from statestream.server.contract import Contract, Messages, Route
from statestream.server.request import check_query


class Command(Body):
    """A command of any type."""

    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["send", "resume", "abort"]
    requestId: str = Field(min_length=1, max_length=MAX_ID)  # noqa: N815 - the wire's name


class Send(Command, ChatPost):
    """A command that asks a question, edits one, answers it again, or decides about tool calls."""

    type: Literal["send"]


class Abort(Command):
    """A command that stops the reply of a request."""

    type: Literal["abort"]


class Resume(Command):
    """A command that resumes a reply. `id` is the chat's, `leaf` a message of the branch to look at."""

    type: Literal["resume"]
    id: str = Field(min_length=1)
    leaf: str | None = Field(default=None, min_length=1, max_length=MAX_ID)


MAX_REQUESTS: Final = 20
"""Requests in progress on one WebSocket."""


class _Request:
    """A request in progress: the chat and the reply that it shows, once they are known."""

    __slots__ = ("aborted", "answer", "key")

    def __init__(self) -> None:
        self.key = ""
        self.answer: Answer | None = None
        self.aborted = False


class Requests:
    """The requests of the client of one WebSocket."""

    def __init__(self, chats: Visit, outlet: SocketOutlet) -> None:
        self._chats, self._outlet = chats, outlet
        self._requests: dict[str, _Request] = {}

    async def take(self, message: WSMessage) -> None:
        """Begins or aborts a request."""
        request_id = ""
        try:
            value = await self._outlet.value_of(message)
            command = checked(Command, value)
            request_id = command.requestId
            if command.type == "abort":
                await self._abort(request_id)
            else:
                self._begin(request_id, value)
        except StatestreamError as error:
            await self._send("error", request_id, errorText=str(error))

    def _begin(self, request_id: str, value: Any) -> None:
        if request_id in self._requests or len(self._requests) == MAX_REQUESTS:
            raise Refused("too_many", f"expected a new requestId, and at most {MAX_REQUESTS} requests at a time")
        request = _Request()
        found = self._chats.shielded(self._find_reply(request, value))
        self._requests[request_id] = request
        self._outlet.start(self._show(request_id, request, found))

    async def _abort(self, request_id: str) -> None:
        """Stops the reply of a request. If its question is queued, removes the question."""
        request = self._requests.get(request_id)
        if request is not None:
            request.aborted = True
            await self._stop(request)

    async def _stop(self, request: _Request) -> None:
        if request.answer is None:
            return
        reply = request.answer.reply or await self._reply_to(request.key, request.answer.question)
        if reply is not None:
            await self._chats.stop(request.key, reply)

    async def _reply_to(self, key: str, question: str) -> str | None:
        """The reply to a question that was queued; None if it was removed from the queue now."""
        try:
            await self._chats.remove_question(key, question)
        except NotFound:  # it was asked
            found = reply_to(await self._chats.find(key), question)
            return None if found is None else str(found["id"])
        return None

    async def _find_reply(self, request: _Request, value: Any) -> Answer | None:
        """The reply to show, which is begun if necessary; None if there is nothing to resume."""
        if value["type"] == "send":
            post = checked(Send, {**_more(value), **value})
            request.key = post.key
            request.answer = await answer(self._chats, request.key, post, create=True)
        else:
            resume = checked(Resume, {**_more(value), **value})
            request.key = chat_key(resume.id)
            reply = await to_resume(self._chats, request.key, resume.leaf)
            request.answer = None if reply is None else Answer(reply=reply, late=True)
        if request.aborted:  # while it began
            await self._stop(request)
        return request.answer

    async def _show(self, request_id: str, request: _Request, found: Awaitable[Answer | None]) -> None:
        """Shows the reply until it is over, or the server stops: then it may continue on another node."""
        try:
            answer = await found
            if answer is None:
                await self._send("no-active", request_id)
                return
            projection = answer.projection(
                lambda reply: UISocketProjection(request_id, reply, answer.held, late=answer.late),
                lambda: [item("error", request_id, errorText=REMOVED[1])],
            )
            await show(self._chats.notifier, Viewer(self._chats, request.key, projection), self._outlet)
        except StatestreamError as error:
            await self._send("error", request_id, errorText=str(error))
        finally:
            del self._requests[request_id]

    async def _send(self, kind: str, request_id: str, **more: Any) -> None:
        with contextlib.suppress(ConnectionError):
            async with self._outlet.writing:
                await self._outlet.send([item(kind, request_id, **more)])


def _more(value: Any) -> dict[str, Any]:
    """Additions of a page to a request: the members of `body`, which the SDK's HTTP requests have at the top level."""
    more = value.get("body")
    return more if isinstance(more, dict) else {}


def routes(conversations: Conversations) -> list[Route]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        check_query(request)
        chats = visit(request, conversations)
        limit = request.config_dict[MAX_BODY]
        async with SocketOutlet(request, chats.notifier, max_message=limit) as outlet:
            await outlet.serve(Requests(chats, outlet).take)
        return outlet.response

    return [Route(method="GET", path="/api/chat", handler=connect, contract=CONNECT)]


CONNECT: Final = Contract(
    name="connect_ui",
    summary="Opens the WebSocket of the AI SDK.",
    parameters=HANDSHAKE,
    answers=(OPENED,),
    errors=(TooManyStreams,),
    access="identity",
    cookie=True,
    messages=Messages(
        carrier="socket",
        sends={"boundary": SocketBoundary, "chunk": SocketChunk, "error": SocketError},
        takes={"send": Send, "resume": Resume, "abort": Abort},
    ),
)
