"""What the client sends: a message of a person, and in the query the chats to follow.

    ?session_id=<chat>&position=<position>&…    the chats to follow, and how much of each was received
    {"type": "message", "content", "session_id", "id"?}     asks; the chat is created if necessary, and followed

Invariants: pure, and the only place that reads these. Raises Malformed for anything that cannot be understood.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from aiohttp import web
from pydantic import ConfigDict, Field

from statestream.chat.chats import chat_key
from statestream.chat.question import MAX_ID, MAX_TEXT, Question
from statestream.core.errors import Malformed
from statestream.server.bodies import Body

MAX_CHATS: Final = 100


class PersonMessage(Body):
    """A message of a person. `session_id` is the chat's id."""

    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["message"]
    content: str = Field(max_length=MAX_TEXT)
    session_id: str = Field(min_length=1)
    id: str | None = Field(default=None, min_length=1, max_length=MAX_ID)

    def question(self, author: str | None) -> Question:
        """The question to ask. Raises Malformed if it is blank."""
        if not self.content.strip():
            raise Malformed("expected text in `content`, got none")
        return Question(parts=[{"type": "text", "text": self.content}], id=self.id, author=author)


def id_in(value: Any, name: str) -> str | None:
    """An id in a message that was refused, so that its sender learns what the refusal is about."""
    text = value.get(name) if isinstance(value, dict) else None
    return text if isinstance(text, str) and 0 < len(text) <= MAX_ID else None


def sessions_of(request: web.Request) -> dict[str, str | None]:
    """The chats that the query names, each with its position. Raises Malformed."""
    names, positions = request.query.getall("session_id", []), request.query.getall("position", [])
    if len(names) > MAX_CHATS or len(positions) > len(names):
        raise Malformed(f"expected `session_id` at most {MAX_CHATS} times, and at most one `position` for each")
    for name in names:
        chat_key(name)
    return dict(zip(names, [*positions, *[None] * (len(names) - len(positions))], strict=True))
