"""Where a model's pieces belong in the reply: parts, chunks, steps, as actions that have not been said yet.

Text that follows text of its kind is the same part; a tool call is a part of its own, which may grow beside others.
What gathers between two frames becomes one action for each stretch of growing, called tools and outcomes.

Law: pure. What `take` has given is counted as said: it must be dispatched, in that order, until it is.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from statestream.change import Action
from statestream.chat import conversation as chat
from statestream.chat.models import CallPiece

MAX_CALLS: Final = 32
"""Calls of one answer; more are not believed."""


class Growth:
    """The parts of one reply, as far as its model has said them."""

    def __init__(self, key: str, reply: str) -> None:
        self._key, self._reply = key, reply
        self._step = 0
        self._open: tuple[str, int] | None = None
        self._calls: dict[int, int] = {}
        self._tools: dict[int, dict[str, str]] = {}
        self._chunks: list[int] = []
        self._pieces: list[chat.Piece] = []
        self._actions: list[Action] = []

    def __bool__(self) -> bool:
        """Whether there is something to say."""
        return bool(self._pieces or self._actions)

    @property
    def empty(self) -> bool:
        """Whether the model has said nothing at all."""
        return not self._chunks

    @property
    def calling(self) -> bool:
        """Whether this answer has called tools."""
        return bool(self._tools)

    def text(self, kind: Literal["text", "reasoning"], text: str) -> None:
        """More text of a kind."""
        if not text:
            return
        if self._open is not None and self._open[0] == kind:
            self._more(self._open[1], text)
        else:
            self._open = (kind, self._begin({"type": kind, "text": ""}, text))

    def call(self, piece: CallPiece) -> None:
        """A tool call begins, or more of its arguments. Raises ValueError for one that cannot be a call."""
        arguments = _clean(piece.arguments)
        if piece.index in self._calls:
            if arguments:
                self._more(self._calls[piece.index], arguments)
            return
        if not piece.id or not piece.name or len(self._calls) == MAX_CALLS:
            raise ValueError("expected a call that begins with an id and a name")
        self._open = None
        tool = {"call": _clean(piece.id)[:256], "name": _clean(piece.name)[:256]}
        part = {"type": "tool", **tool, "arguments": "", "status": "streaming"}
        self._calls[piece.index] = index = self._begin(part, arguments)
        self._tools[index] = {**tool, "arguments": arguments}

    def called(self) -> dict[int, dict[str, str]]:
        """The calls of this answer are whole: {part: {call, name, arguments}}. The next answer is another step."""
        tools, self._tools = self._tools, {}
        self._settle()
        if tools:
            self._actions.append(chat.called(self._key, reply=self._reply, parts=list(tools)))
        self._step, self._open, self._calls = self._step + 1, None, {}
        return tools

    def returned(self, part: int, outcome: chat.Result) -> None:
        """A tool has ended."""
        self._settle()
        self._actions.append(chat.returned(self._key, reply=self._reply, part=part, outcome=outcome))

    def take(self) -> list[Action]:
        """What there is to say, in order; it is counted as said."""
        self._settle()
        actions, self._actions = self._actions, []
        return actions

    def _settle(self) -> None:
        """What has gathered becomes one action."""
        if self._pieces:
            self._actions.append(chat.grew(self._key, reply=self._reply, pieces=self._pieces))
            self._pieces = []

    def _begin(self, part: dict[str, Any], first: str) -> int:
        index = len(self._chunks)
        self._chunks.append(1 if first else 0)
        step = {"step": self._step} if self._step else {}
        chunks = [_clean(first)] if first else []
        self._pieces.append({"part": index, "begin": {**part, "chunks": chunks, **step}})
        return index

    def _more(self, part: int, text: str) -> None:
        """A chunk for each stretch: what continues the piece before it is written into that one."""
        text = _clean(text)
        if part in self._tools:
            self._tools[part]["arguments"] += text
        last = self._pieces[-1] if self._pieces else None
        if last is not None and last["part"] == part and last.get("text"):
            last["text"] += text
        elif last is not None and last["part"] == part and last.get("begin", {}).get("chunks"):
            last["begin"]["chunks"][0] += text
        else:
            self._pieces.append({"part": part, "chunk": self._chunks[part], "text": text})
            self._chunks[part] += 1


def _clean(text: str) -> str:
    """No half of a surrogate pair reaches the state: two halves in two pieces cannot be told from nonsense."""
    return text if text.isascii() else text.encode(errors="replace").decode()
