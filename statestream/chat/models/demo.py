"""A model for demonstrations, without a key or a network: it says a few things about statestream, word by word.

Invariants: its answer depends on the conversation only, so that a demonstration can be repeated.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Final

from statestream.chat.models import Finish, Piece, ToolSpec, Turn

WORDS_A_SECOND: Final = 30.0
_SENTENCES: Final = (
    "Every word you are reading is an action: a handler applied it to a draft, the journal made it durable with an "
    "fsync, and everybody who follows this chat received it as one small RFC 6902 patch.",
    "Open a second window and you will see the same words at the same time, because both subscribe to one slice.",
    "Close this tab while I am talking and I go on: the reply belongs to the server, not to your request.",
    "Kill the server and start it again: your browser resumes from its last event id and receives just what it missed.",
    "The board beside this chat is another slice of the same store, and both arrive over one plain EventSource.",
)


class DemoModel:
    """A model that needs no network. It speaks `words_a_second`."""

    name = "demo"

    def __init__(self, words_a_second: float = WORDS_A_SECOND) -> None:
        self._pause = 1 / words_a_second

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec]) -> AsyncIterator[Piece]:
        question = turns[-1].text.strip() if turns else ""
        if turns and turns[0].role == "system":  # the request for a title
            yield question.removeprefix("user: ").partition("\n")[0][:60]
            yield Finish(reason="stop")
            return
        asked = sum(turn.role == "user" for turn in turns)
        chosen = [_SENTENCES[(asked + offset) % len(_SENTENCES)] for offset in range(2)]
        for word in re.findall(r"\s*\S+", f"You said: “{question[:200]}”. {' '.join(chosen)}"):
            yield word
            await asyncio.sleep(self._pause)
        yield Finish(reason="stop")

    async def close(self) -> None:
        """Nothing is open."""
