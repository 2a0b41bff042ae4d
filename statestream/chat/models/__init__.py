"""Who answers: a model is asked with the conversation and gives pieces of its answer as they come.

Invariants: a model knows nothing of chats, stores or requests. It ends with exactly one Finish, or raises
ModelFailed with a sentence that may be shown to a person: no key, no prompt, no traceback in it. If it
ends without a Finish, its answer was cut short.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from statestream.core.errors import StatestreamError


class ToolCall(Struct, frozen=True, kw_only=True):
    """A tool that the model has called. `arguments` is JSON text, as the model wrote it."""

    id: str
    name: str
    arguments: str


class Turn(Struct, frozen=True, kw_only=True):
    """One message of a conversation, as a model sees it.

    `images` are URLs that stand beside a user's text; `calls` are the tools that an assistant called; `answers` is the
    id of the call whose outcome a tool's text is.
    """

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    images: tuple[str, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    answers: str = ""


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A tool that the model may call. `parameters` is the JSON Schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]


class Reasoning(Struct, frozen=True, kw_only=True):
    """A piece of what the model thinks aloud."""

    text: str


class CallPiece(Struct, frozen=True, kw_only=True):
    """A piece of a tool call. `index` says which of the answer's calls; the first piece has its `name` and `id`.

    Where an id is missing, or the answer has used it already, one is made. A piece with another id and a name begins
    another call, also at an index that is taken: some providers count from 0 each time.
    """

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


class Refusal(Struct, frozen=True, kw_only=True):
    """A piece of the sentence with which the model declines to answer."""

    text: str


class Usage(Struct, frozen=True, kw_only=True):
    """What an answer cost, in tokens. `reasoning` and `cached` are parts of the others."""

    input: int
    output: int
    reasoning: int = 0
    cached: int = 0


class Finish(Struct, frozen=True, kw_only=True):
    """Why the model stopped: `stop`, `length`, `tool_calls`, `content_filter`, …"""

    reason: str


Piece = str | Reasoning | CallPiece | Refusal | Usage | Finish
"""What a model gives; a plain string is a piece of the answer's text."""


class ModelFailed(StatestreamError):
    """The model could not go on. `kind` is stable, the message is a sentence for people."""

    code, status = "model_failed", 502

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind = kind
        super().__init__(sentence)


@contextlib.asynccontextmanager
async def answering(
    model: Model, turns: Sequence[Turn], tools: Sequence[ToolSpec]
) -> AsyncIterator[AsyncIterator[Piece]]:
    """The pieces of a model's answer. What it has open is closed at the end, wherever its reader stops."""
    pieces = model.answer(turns, tools)
    try:
        yield pieces
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


class Model(Protocol):
    """Something that answers."""

    name: str

    def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> AsyncIterator[Piece]:
        """The pieces of the answer. Raises ModelFailed. A generator is closed by who stops reading it."""

    async def close(self) -> None:
        """Releases its connections."""


def default_model() -> Model:
    """OpenAI's, where OPENAI_API_KEY is set (any base URL by OPENAI_BASE_URL); else the one that needs no key."""
    if os.environ.get("OPENAI_API_KEY"):
        from statestream.chat.models.openai import OpenAIModel

        return OpenAIModel(os.environ.get("STATESTREAM_MODEL", "gpt-5-mini"))
    from statestream.chat.models.demo import DemoModel

    return DemoModel()
