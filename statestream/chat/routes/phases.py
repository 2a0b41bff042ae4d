"""`GET /ws`: chats over a WebSocket, in phases. What is said on it stands in projections/phases.py.

    ?session_id=<chat>&position=<position>&…    the chats to follow, and what was seen of each
    {"type": "message", "content", "session_id", "id"?}     asks; the chat is made where there is none, and followed

What cannot be done is answered by the three phases too: a client that knows nothing else can show it.

Law: one task shows and one listens, and one of them writes at a time: each waits for the socket, so a client that does
not read costs what is on its way and no more. What came meanwhile is seen at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Iterable
from typing import Any, Final, Self
from urllib.parse import urlsplit

import orjson
from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.people import MAX_PRESENT, Who, person
from statestream.chat.projections.phases import Frame, PhasesProjection, refusal
from statestream.chat.questions import MAX_ID, Said
from statestream.chat.routes.chats import chat_key
from statestream.chat.watch import Bell
from statestream.errors import Forbidden, Malformed, Refused, StatestreamError
from statestream.server.bodies import checked
from statestream.values import loads

MAX_CHATS: Final = 100
MAX_MESSAGE: Final = 256 << 10
UNSENT_BYTES: Final = 64 << 10
HEARTBEAT_SECONDS: Final = 20.0
STALL_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.05
_PORTS: Final = {"http": 80, "https": 443}


def routes_of(conversations: Conversations, who: Who) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        _check_origin(request)
        user, sessions = person(request, who), _sessions(request)
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS,
            timeout=CLOSE_SECONDS,
            max_msg_size=MAX_MESSAGE,
            writer_limit=sys.maxsize,  # who writes waits by `_room`
            compress=False,  # it would cost a third of a megabyte a client
        )
        await socket.prepare(request)
        try:
            with _Connection(conversations, socket, request, user) as connection:
                for session_id, position in sessions.items():
                    connection.follow(session_id, position)
                await connection.run()
        finally:
            if socket.close_code in (None, WSCloseCode.ABNORMAL_CLOSURE):
                _abort(request)  # closing would wait for a client that does not read
        return socket

    return [web.get("/ws", connect, allow_head=False)]


class _Connection:
    """One client, and the chats that it follows. Used as `with`."""

    def __init__(
        self, conversations: Conversations, socket: web.WebSocketResponse, request: web.Request, user: str | None
    ) -> None:
        self._conversations, self._socket, self._request, self._user = conversations, socket, request, user
        self._views: dict[str, tuple[str, PhasesProjection]] = {}
        self._writing = asyncio.Lock()
        self._held = contextlib.ExitStack()
        self._bell: Bell

    def __enter__(self) -> Self:
        self._bell = self._held.enter_context(self._conversations.watch.on(()))
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def follow(self, session_id: str, position: str | None = None) -> None:
        """From now on what happens in that chat is shown. Raises Malformed."""
        if session_id in self._views:
            return
        if len(self._views) == MAX_CHATS:
            raise Malformed(f"expected at most {MAX_CHATS} sessions on a connection; open another one")
        key = chat_key(session_id)
        self._held.enter_context(self._conversations.watch.also([name_of(key)], self._bell))
        if self._user is not None and len(self._views) < MAX_PRESENT:
            self._held.callback(self._conversations.presence.enter(key, self._user))
        self._views[session_id] = (key, PhasesProjection(session_id, position))
        self._bell.set()

    async def run(self) -> None:
        """Returns when the connection has ended."""
        async with asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(self._show())
            async for message in self._socket:
                if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                    await self._take(message)
            showing.cancel()

    # what is said to the client

    async def _show(self) -> None:
        """Looks whenever something has changed, until the client has gone or the server stops."""
        watch = self._conversations.watch
        with contextlib.suppress(ConnectionError):
            while True:
                self._bell.clear()
                async with self._writing:
                    for key, view in tuple(self._views.values()):
                        if frames := view.new(self._conversations.find(key)):
                            await self._send(frames)
                            await asyncio.sleep(0)  # a hundred long chats must not keep everybody else waiting
                if watch.closed:
                    await self._close()
                    return
                await self._bell.wait()

    async def _send(self, frames: Iterable[Frame]) -> None:
        """Raises ConnectionError."""
        for frame in frames:
            await self._socket.send_frame(orjson.dumps(frame), WSMsgType.TEXT)
            await self._room()

    async def _room(self) -> None:
        """Returns once the socket has taken nearly all. Raises ConnectionError where it takes nothing for a while."""
        loop = asyncio.get_running_loop()
        least, since = sys.maxsize, loop.time()
        while (transport := self._request.transport) is not None:
            unsent = transport.get_write_buffer_size()
            if unsent <= UNSENT_BYTES:
                return
            if unsent < least:
                least, since = unsent, loop.time()
            elif loop.time() - since > (CLOSE_SECONDS if self._conversations.watch.closed else STALL_SECONDS):
                transport.abort()
                break
            await asyncio.sleep(LOOK_SECONDS)
        raise ConnectionAbortedError("the client has gone, or it does not read")

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server stops; come back")
        except TimeoutError:
            _abort(self._request)

    # what the client says

    async def _take(self, message: WSMessage) -> None:
        """One message, until it is accepted or refused: the next one waits."""
        value: Any = None
        try:
            value = _value(message)
            said = checked(Said, value)
            self.follow(said.session_id)
            await self._conversations.ask(chat_key(said.session_id), said.asked(self._user), create=True)
        except StatestreamError as error:
            await self._refuse(value, error)

    async def _refuse(self, value: Any, error: StatestreamError) -> None:
        kind = error.reason if isinstance(error, Refused) else error.code
        session_id, question = _text(value, "session_id"), _text(value, "id")
        more = {} if question is None else {"reply_to": question}
        with contextlib.suppress(ConnectionError):
            async with self._writing:
                _, view = self._views.get(session_id or "", (None, None))
                if view is not None and view.position is not None:
                    more["position"] = view.position
                now = time.time_ns() // 1_000_000
                frames = refusal(secrets.token_hex(6), str(error), kind, at=now, session_id=session_id, **more)
                await self._send(frames)


def _value(message: WSMessage) -> Any:
    if message.type is not WSMsgType.TEXT:
        raise Malformed("expected a message of text, got a binary one")
    return loads(message.data.encode())


def _text(value: Any, name: str) -> str | None:
    """An id as it was posted, so that its sender knows what an answer is about."""
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) and 0 < len(text) <= MAX_ID else None


def _sessions(request: web.Request) -> dict[str, str | None]:
    """The chats that the query names, each with its position. Raises Malformed."""
    names, positions = request.query.getall("session_id", []), request.query.getall("position", [])
    if len(names) > MAX_CHATS or len(positions) > len(names):
        raise Malformed(f"expected at most {MAX_CHATS} times `session_id`, and for each at most one `position`")
    for name in names:
        chat_key(name)
    return dict(zip(names, [*positions, *[None] * (len(names) - len(positions))], strict=True))


def _check_origin(request: web.Request) -> None:
    """Browsers let any page open a WebSocket anywhere, with cookies. Raises Forbidden for one of another host."""
    origin = request.headers.get("Origin")
    if origin is None:
        return
    try:
        theirs = urlsplit(origin)
        ours = urlsplit(f"//{request.host}")
        port = _PORTS.get(theirs.scheme)
        same = bool(theirs.hostname) and theirs.hostname == ours.hostname
        same = same and (theirs.port or port) == (ours.port or port)
    except ValueError:
        same = False
    if not same:
        raise Forbidden("expected an Origin of the host that is asked; a proxy in between must pass Host on")


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
