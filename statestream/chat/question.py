"""A question: what a person says, ready to be asked, in whatever protocol it came.

Invariants: plain data. The limits here hold for every protocol.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

import orjson
from msgspec import Struct

from statestream.chat.messages import KEPT_DEPTH
from statestream.chat.models import ToolSpec
from statestream.chat.models.settings import ModelSettings
from statestream.chat.provisions import ContextItem, Provisions
from statestream.chat.slices.conversation import QuestionPayload
from statestream.core.errors import Malformed
from statestream.core.values import plain

MAX_TEXT: Final = 100_000
MAX_PARTS: Final = 100
MAX_ID: Final = 128
MAX_METADATA: Final = 10_000
"""The maximum size of a message's metadata as JSON, in bytes."""


class Question(Struct, frozen=True, kw_only=True):
    """A person's message. `edits` is the id of the message that it replaces, `agent` the name of the agent to answer.

    `id` makes asking idempotent: repeating a question returns the reply that it has. `metadata` is a JSON object that
    the front end keeps with the message. It is never sent to a model. `settings` apply to the requests to the model for
    this reply, and take precedence over the settings of the chat. Only programs can choose them. `tools` run in the
    front end of the person who asks, beside the tools of the chat. `context` is what their page reports.
    """

    parts: Sequence[dict[str, Any]]
    id: str | None = None
    author: str | None = None
    edits: str | None = None
    agent: str | None = None
    metadata: Mapping[str, Any] | None = None
    settings: ModelSettings | None = None
    tools: Sequence[ToolSpec] = ()
    context: Sequence[ContextItem] = ()

    @property
    def provisions(self) -> Provisions:
        """What the question brings for its reply only."""
        return Provisions(settings=self.settings, tools=self.tools, context=self.context)

    @classmethod
    def text(
        cls, text: str, *, author: str | None = None, agent: str | None = None, settings: ModelSettings | None = None
    ) -> Self:
        """A question that consists of text."""
        return cls(parts=[{"type": "text", "text": text}], author=author, agent=agent, settings=settings)

    def payload(self) -> QuestionPayload:
        """The question as it is saved. Raises Malformed."""
        payload: QuestionPayload = {"id": self.id or secrets.token_hex(6), "parts": list(self.parts)}
        if self.author is not None:
            payload["author"] = self.author
        if self.edits is not None:
            payload["edits"] = self.edits
        if self.metadata:
            payload["metadata"] = check_metadata(self.metadata)
        return payload


def check_parts(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The parts, if a person may send them as a message. Raises Malformed."""
    size = sum(len(part["text"]) for part in parts if part["type"] == "text")
    if size > MAX_TEXT:
        raise Malformed(f"expected a message of at most {MAX_TEXT} characters, got {size}")
    if all(part["type"] == "text" and not part["text"].strip() for part in parts):
        raise Malformed("expected a last user message with content in `messages`, got none")
    return parts


def check_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a message, as it is stored. Raises Malformed."""
    kept: dict[str, Any] = plain(dict(metadata), KEPT_DEPTH)
    if len(orjson.dumps(kept)) > MAX_METADATA:
        raise Malformed(f"expected metadata of at most {MAX_METADATA:,} bytes of JSON")
    return kept
