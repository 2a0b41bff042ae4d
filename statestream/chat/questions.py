"""What front ends post, and what of it counts: one message of a person, new, changed, or to be answered again.

    {"messages": [{"role", "content"}, …]}                            the oldest front ends
    {"id", "messages": [UIMessage, …], "trigger"?, "messageId"?}      the AI SDK's transports, both majors
    {"id", "message": UIMessage, …}                                   the same, cut down to the last message
    {"type": "message", "content", "session_id", "id"?}               over a WebSocket

The posted history is the client's copy and is never believed: an id says which message is meant, and for a new or
changed one its parts are taken. An edited message keeps its id at the client; here it is a sibling with an id made
from the old one and what it says now, so that posting it again finds it. What has the id of a message that is there
and says something else is an edited one, with or without `messageId`: front ends leave that out.

Invariants: pure, and the only reader of such bodies. Raises Malformed for all that cannot be meant.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from statestream.chat.conversations import Asked
from statestream.chat.messages import KEPT_DEPTH, Message, State, find, path, whose
from statestream.core.errors import Malformed, Refused
from statestream.core.values import canonical, plain
from statestream.server.bodies import Body, checked

MAX_TEXT: Final = 100_000
MAX_PARTS: Final = 100
MAX_ID: Final = 128


class _Posted(Body):
    """Front ends post more than we need: their own metadata, states of parts."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str | None = Field(default=None, min_length=1, max_length=MAX_ID)
    content: str | None = None
    parts: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_PARTS)

    @cached_property
    def said(self) -> list[dict[str, Any]]:
        """The parts that a person's message may have. Raises Malformed."""
        if not self.parts:
            parts = [{"type": "text", "text": self.content or ""}]
        else:
            parts = [part for posted in self.parts if (part := _part(posted)) is not None]
        return within_limits(parts)


def within_limits(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts, if they are a message that somebody may send. Raises Malformed."""
    size = sum(len(part["text"]) for part in parts if part["type"] == "text")
    if size > MAX_TEXT:
        raise Malformed(f"expected a message of at most {MAX_TEXT} characters, got {size}")
    if all(part["type"] == "text" and not part["text"].strip() for part in parts):
        raise Malformed("expected a last user message with content in `messages`, got none")
    return parts


def _part(posted: dict[str, Any]) -> dict[str, Any] | None:
    """A posted part as it is kept; None for one that only a model's message can have."""
    kind = posted.get("type")
    wanted: dict[str, bool] = {}
    if kind == "text":
        wanted = {"text": True}
    elif kind == "file":
        wanted = {"mediaType": True, "url": True, "filename": False}
    elif isinstance(kind, str) and kind.startswith("data-"):
        data = {name: plain(posted[name], KEPT_DEPTH) for name in ("id", "data") if posted.get(name) is not None}
        return {"type": kind, **data}
    if not wanted:
        return None
    for name, needed in wanted.items():
        if not isinstance(posted.get(name, None if needed else ""), str):
            raise Malformed(f"expected text as `{name}` of a {kind} part")
    return {"type": kind, **{name: posted[name] for name in wanted if name in posted}}


class Post(Body):
    """The body of a question. `trigger` and `messageId` are the AI SDK's. What does not count may look as it likes."""

    model_config = ConfigDict(strict=True, extra="ignore")
    id: str | None = Field(default=None, min_length=1)
    messages: list[dict[str, Any]] = Field(default_factory=list)
    message: dict[str, Any] | None = None
    trigger: Literal["submit-message", "regenerate-message"] = "submit-message"
    messageId: str | None = Field(default=None, max_length=MAX_ID)  # noqa: N815 - the wire's name

    @cached_property
    def _last(self) -> _Posted | None:
        """The person's message that this is about."""
        posted = [*self.messages, self.message] if self.message is not None else self.messages
        last = next((message for message in reversed(posted) if message.get("role") == "user"), None)
        return None if last is None else checked(_Posted, last)

    def asked(self, state: State, author: str | None) -> Asked:
        """The question. Raises Malformed where there is none, and Refused for a reply that was changed."""
        last, meant = self._last, self._meant(state)
        if last is None:
            raise Malformed("expected a last user message with content in `messages`, got none")
        parts = last.said
        if meant is None:
            return Asked(parts=parts, id=last.id, author=author)
        if meant["role"] != "user":
            raise Refused("not_yours", "A reply cannot be changed; its tools are run by the server.")
        if _says(meant, parts):
            return Asked(parts=parts, id=meant["id"], author=author)
        return Asked(parts=parts, id=_edited(last.id or meant["id"], parts), author=author, edits=meant["id"])

    def to_answer_again(self, state: State) -> str | None:
        """The id of the question that is to be answered again. Raises Refused where there is none.

        None where a question is to be asked: also one that a page wants answered again, when it was changed there or
        has never come here.
        """
        if self.trigger != "regenerate-message":
            return None
        last, meant = self._last, self._meant(state)
        if last is not None and last.id is not None:
            return str(meant["id"]) if meant is not None and _says(meant, last.said) else None
        questions = [message for message in path(state) if message["role"] == "user"]
        if meant is None and (self.messageId is not None or not questions):
            raise Refused("unknown_message", "What is to be answered again is not in this chat any more.")
        return str((meant or questions[-1])["id"])

    def _meant(self, state: State) -> Any:
        """The message of the store that this is about, or None. What a page has changed it calls as it did before."""
        last, named = self._last, whose(state, self.messageId)
        if named is not None and named["role"] != "user":
            return find(state, named.get("parent")) if self.trigger == "regenerate-message" else named
        ids = [_edited(last.id, last.said), last.id] if last is not None and last.id is not None else []
        found = (find(state, message_id) for message_id in (*ids, self.messageId))
        return next((message for message in found if message is not None), None)


def _says(message: Message, parts: list[dict[str, Any]]) -> bool:
    return canonical(message["parts"]) == canonical(parts)


class Said(Body):
    """A message of the three-phase protocol. `session_id` is the chat's id."""

    model_config = ConfigDict(strict=True, extra="ignore")
    type: Literal["message"]
    content: str = Field(max_length=MAX_TEXT)
    session_id: str = Field(min_length=1)
    id: str | None = Field(default=None, min_length=1, max_length=MAX_ID)

    def asked(self, author: str | None) -> Asked:
        """The question. Raises Malformed where it is blank."""
        if not self.content.strip():
            raise Malformed("expected text in `content`, got none")
        return Asked(parts=[{"type": "text", "text": self.content}], id=self.id, author=author)


def _edited(message_id: str, parts: list[dict[str, Any]]) -> str:
    return hashlib.sha256(message_id.encode() + b"\n" + canonical(parts)).hexdigest()[:16]
