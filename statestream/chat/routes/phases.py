"""`GET /ws`: chats over a WebSocket, in phases. What is said on it stands in projections/phases.py.

    ?session_id=<chat>&position=<position>&…    the chats to follow, and what was seen of each
    {"type": "message", "content", "session_id", "id"?}     asks; the chat is made where there is none, and followed

What cannot be done is answered by the three phases too: a client that knows nothing else can show it.

Invariants: one task shows and one listens, and one of them writes at a time. What came while a client did not read is
seen at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Iterable
from typing import Any, Final, Self

from aiohttp import WSMessage, web

from statestream.chat.conversations import Conversations, name_of
from statestream.chat.identity import MAX_PRESENT, Identify, person
from statestream.chat.projections.phases import Frame, PhasesProjection, refusal
from statestream.chat.questions import MAX_ID, Said
from statestream.chat.routes.chats import chat_key
from statestream.chat.sockets import Socket, value_of
from statestream.core.errors import Malformed, StatestreamError
from statestream.server.bodies import checked
from statestream.store.notifier import Signal

MAX_CHATS: Final = 100
MAX_MESSAGE: Final = 256 << 10


def routes_of(conversations: Conversations, identify: Identify) -> list[web.RouteDef]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        user, sessions = person(request, identify), _sessions(request)
        async with Socket(request, conversations.notifier, max_message=MAX_MESSAGE) as socket:
            if any(sessions.values()):  # another node may have given the positions a moment ago
                await conversations.caught_up()
            with _Connection(conversations, socket, user) as connection:
                for session_id, position in sessions.items():
                    connection.follow(session_id, position)
                await connection.run()
        return socket.response

    return [web.get("/ws", connect, allow_head=False)]


class _Connection:
    """One client, and the chats that it follows. Used as `with`."""

    def __init__(self, conversations: Conversations, socket: Socket, user: str | None) -> None:
        self._conversations, self._socket, self._user = conversations, socket, user
        self._views: dict[str, tuple[str, PhasesProjection]] = {}
        self._writing = asyncio.Lock()
        self._held = contextlib.ExitStack()
        self._signal: Signal

    def __enter__(self) -> Self:
        self._signal = self._held.enter_context(self._conversations.notifier.on(()))
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
        self._held.enter_context(self._conversations.notifier.also([name_of(key)], self._signal))
        if self._user is not None and len(self._views) < MAX_PRESENT:
            self._held.callback(self._conversations.presence.enter(key, self._user))
        self._views[session_id] = (key, PhasesProjection(session_id, position))
        self._signal.set()

    async def run(self) -> None:
        """Returns when the connection has ended."""
        async with asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(self._show())
            async for message in self._socket.messages():
                await self._take(message)
            showing.cancel()

    # what is said to the client

    async def _show(self) -> None:
        """Looks whenever something has changed, until the client has gone or the server stops."""
        notifier = self._conversations.notifier
        with contextlib.suppress(ConnectionError):
            while True:
                self._signal.clear()
                async with self._writing:
                    for key, view in tuple(self._views.values()):
                        if frames := view.new(self._conversations.find(key)):
                            await self._send(frames)
                            await asyncio.sleep(0)  # a hundred long chats must not keep everybody else waiting
                if notifier.closed:
                    await self._socket.go_away()
                    return
                await self._signal.wait()

    async def _send(self, frames: Iterable[Frame]) -> None:
        """Raises ConnectionError."""
        for frame in frames:
            await self._socket.send(frame)

    # what the client says

    async def _take(self, message: WSMessage) -> None:
        """One message, until it is accepted or refused: the next one waits."""
        value: Any = None
        try:
            value = value_of(message)
            said = checked(Said, value)
            self.follow(said.session_id)
            await self._conversations.ask(chat_key(said.session_id), said.asked(self._user), create=True)
        except StatestreamError as error:
            await self._refuse(value, error)

    async def _refuse(self, value: Any, error: StatestreamError) -> None:
        kind = error.why
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
