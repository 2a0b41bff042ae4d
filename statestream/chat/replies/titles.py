"""Titles of chats: the model is asked for one after the first exchange.

Invariants: a chat works without a title. A failure is logged, and the next reply tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from statestream.chat.models import Model, ModelFailed, Turn, answering

log = logging.getLogger("statestream")

TITLE_SECONDS: Final = 30.0
MAX_TITLE: Final = 80
SAMPLE: Final = 2_000
"""The characters of each message that the model is given, and of its answer that are looked at."""
MAX_PIECES: Final = 1_000
PROMPT: Final = (
    "Give the conversation that follows a title of at most six words, in its language. "
    "Answer with the title only, without quotes or a full stop."
)


async def title_of(turns: Sequence[Turn], model: Model) -> str | None:
    """A title for the conversation; None if the model did not give one."""
    try:
        answer = await _answer(turns, model)
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


async def _answer(turns: Sequence[Turn], model: Model) -> str | None:
    """What the model answers; None if that is far too much for a title, and may never end."""
    conversation = "\n\n".join(f"{turn.role}: {turn.text[:SAMPLE]}" for turn in turns)
    request = [Turn(role="system", text=PROMPT), Turn(role="user", text=conversation)]
    pieces: list[str] = []
    async with asyncio.timeout(TITLE_SECONDS), answering(model, request, []) as answer:
        async for piece in answer:
            pieces.append(piece if isinstance(piece, str) else "")
            if len(pieces) == MAX_PIECES:
                return None
    return "".join(pieces)
