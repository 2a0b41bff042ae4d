"""Who answers: a model is asked with the conversation and gives pieces of text as they come.

Law: a model knows nothing of chats, stores or requests. It ends with exactly one Finish, or raises
ModelFailed with a sentence that may be shown to a person: no key, no prompt, no traceback in it. If it
ends without a Finish, its answer was cut short.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from statestream.errors import StatestreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message of a conversation, as a model sees it."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Why the model stopped: `stop`, `length`, `content_filter`, …"""

    reason: str


class ModelFailed(StatestreamError):
    """The model could not go on. `kind` is stable, the message is a sentence for people."""

    code, status = "model_failed", 502

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind = kind
        super().__init__(sentence)


class Model(Protocol):
    """Something that answers."""

    name: str

    def answer(self, turns: Sequence[Turn]) -> AsyncIterator[str | Finish]:
        """The pieces of the answer. Raises ModelFailed."""

    async def close(self) -> None:
        """Releases its connections."""


def default_model() -> Model:
    """OpenAI's, where OPENAI_API_KEY is set (any base URL by OPENAI_BASE_URL); else the one that needs no key."""
    if os.environ.get("OPENAI_API_KEY"):
        from statestream.chat.models.openai import OpenAIModel

        return OpenAIModel(os.environ.get("STATESTREAM_MODEL", "gpt-5-mini"))
    from statestream.chat.models.demo import DemoModel

    return DemoModel()
