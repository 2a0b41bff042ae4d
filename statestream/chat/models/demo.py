"""A model for demonstrations, without a key or a network: it says a few things about statestream, word by word.

Some words in a question show what a page can display: `code`, a `table` or `think`. If you ask it to add something to
the board or to clear it, it calls the tools `add_task` and `clear_board`, if they exist.

Invariants: its answer depends on the conversation only, so that a demonstration can be repeated.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

from statestream.chat.models import CONTINUE, CallPiece, Finish, Piece, Reasoning, ToolSpec, Turn
from statestream.chat.models.settings import ModelSettings

WORDS_A_SECOND: Final = 30.0
ADD_TASK: Final = "add_task"
CLEAR: Final = "clear_board"
_SENTENCES: Final = (
    "Every word you are reading is an action: a handler applied it to a draft, the journal made it durable with an "
    "fsync, and everybody who follows this chat received it as one small RFC 6902 patch.",
    "Open a second window and you will see the same words at the same time, because both subscribe to one slice.",
    "Close this tab while I am talking and I go on: the reply belongs to the server, not to your request.",
    "Kill the server and start it again: your browser continues where it was, and receives just what it missed.",
    "The board beside this chat is another slice of the same store, and both arrive over one connection, which all "
    "tabs of this browser share.",
)
_THOUGHT: Final = (
    "The question can be answered in two steps. First, what does a reader need? The current state, and after that only "
    "what changes. Second, what does this cost? A patch is as large as the change, a snapshot as large as the state."
)
_CODE: Final = """A slice is a named part of the state. A handler is a plain function that changes it:

```python
from statestream import Refused, Slice, Store, create_app

board = Slice("board", initial={"tasks": []})


@board.action
def task_added(state, *, id: str, title: str) -> None:
    \"\"\"Adds a task to the board.\"\"\"
    if not title.strip():
        raise Refused("title", "A task needs a title.")
    state["tasks"].append({"id": id, "title": title, "done": False})


app = create_app(Store([board], journal="sqlite:///board.db"))
```

Three things follow from this:

1. **The change is durable** before anybody sees it.
2. **Readers get a patch**, such as `{"op": "add", "path": "/tasks/-", …}`.
3. **An error changes nothing**: the draft is thrown away.
"""
_TABLE: Final = """Both bring a reader to the same state:

| | Patch | Snapshot |
|---|---|---|
| Size | that of the change | that of the state |
| When | for each change | when a reader joins, or has missed too much |
| Needs | the version before it | nothing |

> A reader that was away for a while receives *one* catch-up, or a snapshot if that is smaller.
"""
_TASK: Final = re.compile(r"\badd\s+(?:[“\"']([^”\"']+)[”\"']|(.+?))\s+to\s+(?:the|my|our)\s+board\b", re.IGNORECASE)
_CLEAR: Final = re.compile(r"\bclear\s+(?:the|my|our)\s+board\b", re.IGNORECASE)


class DemoModel:
    """A model that needs no network. It speaks `words_a_second`, whatever the settings are."""

    name = "demo"

    def __init__(self, words_a_second: float = WORDS_A_SECOND) -> None:
        self._pause = 1 / words_a_second

    async def answer(
        self, turns: Sequence[Turn], tools: Sequence[ToolSpec], settings: ModelSettings
    ) -> AsyncIterator[Piece]:
        question = turns[-1].text.strip() if turns else ""
        if turns and turns[0].role == "system":  # the request for a title
            yield question.removeprefix("user: ").partition("\n")[0][:60]
            yield Finish(reason="stop")
            return
        said = ""
        if question == CONTINUE:
            said, turns = turns[-2].text, turns[:-2]
        called = False
        for piece in _without(said, _pieces(turns, turns[-1].text.strip() if turns else "", tools)):
            called = called or isinstance(piece, CallPiece)
            yield piece
            await asyncio.sleep(self._pause)
        yield Finish(reason="tool_calls" if called else "stop")

    async def close(self) -> None:
        """Nothing is open."""


def _without(said: str, pieces: Iterator[Piece]) -> Iterator[Piece]:
    """What follows the text that was said before the answer was cut off."""
    for piece in pieces:
        if not said:
            yield piece
        elif isinstance(piece, str):
            known, said = said[: len(piece)], said[len(piece) :]
            if not said and piece != known:
                yield piece[len(known) :]


def _pieces(turns: Sequence[Turn], question: str, tools: Sequence[ToolSpec]) -> Iterator[Piece]:
    """The answer to the last turn, word by word."""
    if turns and turns[-1].role == "tool":
        yield from _words(_after(turns))
        return
    if _says("think", question):
        yield from (Reasoning(text=word) for word in _words(_THOUGHT))
    if _CLEAR.search(question) and any(tool.name == CLEAR for tool in tools):
        yield from _words("I will, if somebody approves it.")
        yield CallPiece(name=CLEAR, arguments="{}")
        return
    task = _TASK.search(question)
    if task is not None and any(tool.name == ADD_TASK for tool in tools):
        yield from _words("I put it on the board.")
        yield CallPiece(name=ADD_TASK, arguments=json.dumps({"title": task[1] or task[2]}, ensure_ascii=False))
        return
    shown = [text for word, text in (("code", _CODE), ("table", _TABLE)) if _says(word, question)]
    asked = sum(turn.role == "user" for turn in turns)
    said = " ".join(_SENTENCES[(asked + offset) % len(_SENTENCES)] for offset in range(2))
    yield from _words("\n\n".join(shown) if shown else f"You said: “{question[:200]}”. {said}")


def _after(turns: Sequence[Turn]) -> str:
    """What to say about the outcome of a tool."""
    if any(call.name == CLEAR for turn in turns[-2:] for call in turn.calls):
        return f"{turns[-1].text} The call has waited for that decision without a connection or a task on the server."
    return "Done: everybody sees it on the board now, because the tool dispatched an ordinary action."


def _says(word: str, question: str) -> bool:
    return re.search(rf"\b{word}\b", question, re.IGNORECASE) is not None


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)
