"""`GET /ws`: what the client sends, and the chats that it follows.

    ?session_id=<chat>&position=<position>&leaf=<message>&…
        the chats to follow, how much of each was received, and the branch to look at
    {"type": "message", "content", "session_id", "id"?, "leaf"?, "agent"?}
        asks; the chat is created if necessary, and followed

Invariants: the only place that reads these; it raises Malformed for anything that cannot be understood. One task shows
all chats. A refusal and the position that it contains are sent before anything else is.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from itertools import zip_longest
from typing import Any, Final, Literal, Self

from aiohttp import WSMessage, web
from msgspec import Struct
from pydantic import ConfigDict, Field

from statestream.chat.agents.declared import MAX_NAME
from statestream.chat.chats import MAX_KEY, chat_key
from statestream.chat.conversations import Conversations
from statestream.chat.identity import MAX_PRESENT, visit
from statestream.chat.messages import find, path
from statestream.chat.protocols.phases.item_types import CompleteMessage, PhaseChunk, PhaseEnd, PhaseStart
from statestream.chat.protocols.phases.projection import PhasesProjection, refusal
from statestream.chat.question import MAX_ID, MAX_TEXT, Question
from statestream.chat.seen import check_same_branch, looked_at
from statestream.chat.slices.conversation import name_of
from statestream.chat.viewing.socket import HANDSHAKE, OPENED, SocketOutlet
from statestream.chat.viewing.viewers import Viewer, show_all
from statestream.chat.visit import Visit
from statestream.core.errors import Malformed, NotFound, Refused, StatestreamError, TooManyStreams
from statestream.server.bodies import Body, checked
from statestream.server.contract import Contract, Messages, Parameter, Route
from statestream.server.request import check_query
from statestream.store.notifier import Signal

MAX_CHATS: Final = 100
MAX_MESSAGE: Final = 256 << 10


class PersonMessage(Body):
    """A message of a person. `session_id` is the chat's id."""

    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["message"]
    content: str = Field(max_length=MAX_TEXT)
    session_id: str = Field(min_length=1)
    id: str | None = Field(default=None, min_length=1, max_length=MAX_ID)
    leaf: str | None = Field(default=None, min_length=1, max_length=MAX_ID)
    agent: str | None = Field(default=None, min_length=1, max_length=MAX_NAME)

    def question(self, author: str | None) -> Question:
        """The question to ask. Raises Malformed if it is blank."""
        if not self.content.strip():
            raise Malformed("expected text in `content`, got none")
        return Question(parts=[{"type": "text", "text": self.content}], id=self.id, author=author, agent=self.agent)


def id_in(value: Any, name: str) -> str | None:
    """An id in a message that was refused, so that its sender learns what the refusal is about."""
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) and 0 < len(text) <= MAX_ID else None


class Session(Struct, frozen=True, kw_only=True):
    """A chat that the query names: how much of it was received, and a message of the branch to look at."""

    position: str | None = None
    leaf: str | None = None


def sessions_of(request: web.Request) -> dict[str, Session]:
    """The chats that the query names. Raises Malformed."""
    names, *more = (request.query.getall(name, []) for name in ("session_id", "position", "leaf"))
    if len(names) > MAX_CHATS or any(len(values) > len(names) for values in more):
        raise Malformed(f"expected `session_id` at most {MAX_CHATS} times, and one `position` and `leaf` for each")
    for name in names:
        chat_key(name)
    positions, leaves = more
    return {
        name: Session(position=position or None, leaf=leaf or None)
        for name, position, leaf in zip_longest(names, positions, leaves)
    }


class FollowedChats:
    """The chats that the client of one WebSocket follows, used as `with`."""

    def __init__(self, chats: Visit, outlet: SocketOutlet) -> None:
        self._chats, self._outlet = chats, outlet
        self._viewers: dict[str, Viewer] = {}
        self._projections: dict[str, PhasesProjection] = {}
        self._branches: dict[str, str] = {}
        self._followed = contextlib.ExitStack()
        self._signal: Signal

    def __enter__(self) -> Self:
        self._signal = self._followed.enter_context(self._chats.notifier.on(()))
        return self

    def __exit__(self, *_: object) -> None:
        self._followed.close()

    def follow(self, session_id: str, session: Session = Session()) -> None:  # noqa: B008 - it is frozen
        """Shows that chat from now on. Raises Malformed."""
        if session_id in self._viewers:
            return
        if len(self._viewers) == MAX_CHATS:
            raise Malformed(f"expected at most {MAX_CHATS} sessions on a connection; open another one")
        key = chat_key(session_id)
        self._followed.enter_context(self._chats.notifier.also([name_of(key)], self._signal))
        if len(self._viewers) < MAX_PRESENT and (leave := self._chats.enter(key)) is not None:
            self._followed.callback(leave)
        if session.leaf is not None:
            self._branches[session_id] = session.leaf
        projection = self._projections[session_id] = PhasesProjection(session_id, session.position)
        self._viewers[session_id] = Viewer(self._chats, key, projection, branch=session.leaf)
        self._signal.set()

    async def show(self) -> None:
        """Shows all chats until the server stops. Raises ConnectionError."""
        await show_all(self._viewers.values(), self._signal, self._chats.notifier, self._outlet)

    async def take(self, message: WSMessage) -> None:
        """Asks a question. Returns when it is accepted or refused: the client's next message waits until then."""
        value: Any = None
        try:
            value = await self._outlet.value_of(message)
            received = checked(PersonMessage, value)
            self.follow(received.session_id)
            await self._ask(received)
        except StatestreamError as error:
            with contextlib.suppress(ConnectionError):
                await self._refuse(value, error)

    async def _ask(self, received: PersonMessage) -> None:
        """Also raises Refused if the question was answered in a branch that is not shown."""
        key = chat_key(received.session_id)
        shown = await self._chats.find(key)
        check_same_branch(shown, looked_at(shown, self._branches.get(received.session_id)))
        question = received.question(self._chats.person)
        asked = await self._chats.submit(key, question, create=True, leaf=received.leaf, show=False)
        shown, reply = await self._chats.find(key), asked.reply
        if find(shown, reply) is not None and all(message["id"] != reply for message in path(shown)):
            raise Refused("other_branch", "This was answered in another branch of the chat, which you do not see.")

    async def _refuse(self, value: Any, error: StatestreamError) -> None:
        session_id, question = id_in(value, "session_id"), id_in(value, "id")
        more = {} if question is None else {"reply_to": question}
        async with self._outlet.writing:  # so that the position is that of the last item before the refusal
            projection = self._projections.get(session_id or "")
            if projection is not None and projection.position is not None:
                more["position"] = projection.position
            now = time.time_ns() // 1_000_000
            id = secrets.token_hex(6)
            await self._outlet.send(refusal(id, str(error), error.why, at=now, session_id=session_id, **more))


def routes(conversations: Conversations) -> list[Route]:
    async def connect(request: web.Request) -> web.WebSocketResponse:
        check_query(request, "session_id", "position", "leaf")
        chats, sessions = visit(request, conversations), sessions_of(request)
        if any(session != Session() for session in sessions.values()):  # another node may have just sent them
            await chats.caught_up()
        for session_id, session in sessions.items():
            looked_at(await chats.find(chat_key(session_id)), session.leaf)
        async with SocketOutlet(request, chats.notifier, max_message=MAX_MESSAGE) as outlet:
            with FollowedChats(chats, outlet) as followed:
                for session_id, session in sessions.items():
                    followed.follow(session_id, session)
                await outlet.serve(followed.take, followed.show())
        return outlet.response

    return [Route(method="GET", path="/ws", handler=connect, contract=CONNECT)]


CONNECT: Final = Contract(
    name="connect",
    summary="Opens the WebSocket that shows chats in three phases.",
    parameters=(
        Parameter(
            name="session_id",
            description="The chats to follow.",
            schema={"type": "string", "minLength": 1, "maxLength": MAX_KEY},
            repeated=True,
        ),
        Parameter(
            name="position",
            description="How much of each chat was received, in the same order; empty for nothing.",
            schema={"type": "string"},
            repeated=True,
        ),
        Parameter(
            name="leaf",
            description="A message of the branch to look at, for each chat in the same order; empty for none.",
            schema={"type": "string"},
            repeated=True,
        ),
        *HANDSHAKE,
    ),
    answers=(OPENED,),
    errors=(NotFound, TooManyStreams),
    access="identity",
    cookie=True,
    messages=Messages(
        carrier="socket",
        sends={"message": CompleteMessage, "start": PhaseStart, "chunk": PhaseChunk, "end": PhaseEnd},
        takes={"question": PersonMessage},
    ),
)
