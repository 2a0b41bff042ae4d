"""Titles of chats: the answer of a model, or the beginning of the first question.

Invariants: whatever a model answers, the title is one short line, or there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from statestream.chat.messages import Message, text_of
from statestream.chat.models import Model, ModelFailed, Turn
from statestream.chat.models.settings import ModelSettings
from statestream.chat.replies.model_calls import answering
from statestream.chat.replies.retrying import Retrying

log = logging.getLogger("statestream")

TITLE_SECONDS: Final = 30.0
MAX_TITLE: Final = 80
SAMPLE: Final = 2_000
"""How many characters of each message the model receives, and how many characters of its answer are used."""
MAX_PIECES: Final = 1_000
PROMPT: Final = (
    "Give the conversation that follows a title of at most six words, in its language. "
    "Answer with the title only, without quotes or a full stop."
)


def first_words(question: Message) -> str:
    """A title for a chat whose replies an agent makes, if there is no model to ask for one."""
    words = " ".join(text_of(question)[:SAMPLE].split())
    return words if len(words) <= MAX_TITLE else words[:MAX_TITLE].rpartition(" ")[0] or words[:MAX_TITLE]


async def title_of(
    turns: Sequence[Turn], model: Model, settings: ModelSettings, chat: str, retrying: Retrying
) -> str | None:
    """A title for the conversation; None if the model did not give one."""
    try:
        answer = await _answer(turns, model, settings, chat, retrying)
    except (ModelFailed, TimeoutError) as error:
        log.info("the chat got no title: %s", type(error).__name__)
        return None
    except Exception:
        log.exception("the model %s raised an unexpected exception", model.name)
        return None
    if answer is None:
        return None
    title = " ".join(answer[:SAMPLE].encode(errors="replace").decode().split()).strip("\"'“”.")
    return title[:MAX_TITLE] or None


async def _answer(
    turns: Sequence[Turn], model: Model, settings: ModelSettings, chat: str, retrying: Retrying
) -> str | None:
    """The model's answer; None if it is far too long for a title, and may never end."""
    conversation = "\n\n".join(f"{turn.role}: {turn.text[:SAMPLE]}" for turn in turns)
    request = [Turn(role="system", text=PROMPT), Turn(role="user", text=conversation)]
    pieces: list[str] = []
    async with (
        asyncio.timeout(TITLE_SECONDS),
        answering(model, request, [], settings, chat=chat, retrying=retrying) as answer,
    ):
        async for piece in answer:
            pieces.append(piece if isinstance(piece, str) else "")
            if len(pieces) == MAX_PIECES:
                return None
    return "".join(pieces)
