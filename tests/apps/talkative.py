"""The demo with a model whose answers a test chooses by its question, and with a chat of many messages.

echo <text>     says the text, in small pieces
count <n>       counts to n, slowly enough to be watched
wait            says a word, and nothing more until it is stopped
fail            fails after a word; when it is asked the same again, it answers
use <json>      thinks, calls the tool `add_task` with that, and says so
clear           calls the tool `clear_board`, which needs approval
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, ToolSpec, Turn
from statestream.tools.demo import demo_app
from tests.apps.long_chat import fill

PIECE = 24


class Talkative:
    name = "scripted"

    def __init__(self) -> None:
        self._failed: set[str] = set()

    async def answer(self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: Any) -> AsyncIterator[Piece]:
        if turns[0].role == "system":
            yield turns[-1].text.removeprefix("user: ").partition("\n")[0][:60]
            yield Finish(reason="stop")
            return
        said = turns[-1].text
        async for piece in self._pieces(turns[-1].role, said):
            yield piece
        calls = said.startswith(("use ", "clear")) and turns[-1].role == "user"
        yield Finish(reason="tool_calls" if calls else "stop")

    async def _pieces(self, role: str, said: str) -> AsyncIterator[Piece]:
        what, _, rest = said.partition(" ")
        if role == "tool":
            yield "It is there."
        elif what == "count":
            for number in range(1, int(rest) + 1):
                yield f"{number} "
                await asyncio.sleep(0.01)
        elif what == "wait":
            yield "Waiting"
            await asyncio.Event().wait()
        elif what == "fail" and said not in self._failed:
            self._failed.add(said)
            yield "Half"
            raise ModelFailed("failed", "The provider is out of order.")
        elif what == "use":
            yield Reasoning(text="A *tool* can do this.")
            yield CallPiece(name="add_task", arguments=rest)
        elif what == "clear":
            yield CallPiece(name="clear_board", arguments="{}")
        else:
            for at in range(0, len(rest), PIECE):
                yield rest[at : at + PIECE]
                await asyncio.sleep(0)
            yield "" if rest else "Yes."

    async def close(self) -> None:
        pass


app = demo_app(os.environ.get("JOURNAL", "memory:"), Talkative())
app.on_startup.append(fill)
