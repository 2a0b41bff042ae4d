"""What a chat is called: the model is asked for a title after the first exchange.

Invariants: a title is a courtesy. That none could be made is logged, and tried again after the next reply.
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
MAX_PIECES: Final = 1_000
PROMPT: Final = (
    "Give the conversation that follows a title of at most six words, in its language. "
    "Answer with the title only, without quotes or a full stop."
)


async def title_of(turns: Sequence[Turn], model: Model) -> str | None:
    """A title for the conversation; None where the model gave none."""
    said = "\n\n".join(f"{turn.role}: {turn.text[:SAMPLE]}" for turn in turns)
    pieces: list[str] = []
    try:
        async with asyncio.timeout(TITLE_SECONDS):
            asked = [Turn(role="system", text=PROMPT), Turn(role="user", text=said)]
            async with answering(model, asked, []) as answer:
                async for piece in answer:
                    pieces.append(piece if isinstance(piece, str) else "")
                    if len(pieces) == MAX_PIECES:  # this is no title, and may never end
                        return None
    except (ModelFailed, TimeoutError) as error:
        log.info("no title was made: %s", type(error).__name__)
        return None
    except Exception:
        log.exception("the model %s raised what a model should not", model.name)
        return None
    title = " ".join("".join(pieces)[:SAMPLE].encode(errors="replace").decode().split()).strip("\"'“”.")
    return title[:MAX_TITLE] or None
