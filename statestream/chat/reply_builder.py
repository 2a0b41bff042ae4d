"""Where a model's pieces belong in the reply: parts, chunks, steps, as actions that have not been said yet.

Text that follows text of its kind is the same part; a tool call is a part of its own, which may grow beside others.
What gathers between two frames becomes one action for each stretch of growing, called tools and outcomes.

Invariants: pure. What `take` has given is counted as said: it must be dispatched, in that order, until it is.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct, field

from statestream.chat import conversation as chat
from statestream.chat.models import CallPiece, ModelFailed
from statestream.core.change import Action

MAX_CALLS: Final = 32
"""Calls of one answer; more are not believed."""
MAX_SIZE: Final = 2_000_000
"""Characters of a reply, with PART_SIZE for each part; a model that says more does not end."""
PART_SIZE: Final = 100
MAX_NAME: Final = 256


class Call(Struct, kw_only=True):
    """A tool that is being called; its arguments are joined when they are whole, not at every piece."""

    id: str
    name: str
    texts: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.texts)


class _Stretch(Struct, kw_only=True):
    """What has gathered for one part: of a new one with its beginning, else chunk number `chunk` of it."""

    part: int
    texts: list[str]
    begin: dict[str, Any] | None = None
    chunk: int = 0

    def piece(self) -> chat.Piece:
        text = "".join(self.texts)
        if self.begin is not None:
            return {"part": self.part, "begin": {**self.begin, "chunks": [text] if text else []}}
        return {"part": self.part, "chunk": self.chunk, "text": text}


class ReplyBuilder:
    """The parts of one reply, as far as its model has said them."""

    def __init__(self, key: str, reply: str) -> None:
        self._key, self._reply = key, reply
        self._step = 0
        self._open: tuple[str, int] | None = None
        self._calls: dict[int, tuple[int, str]] = {}
        self._ids: set[str] = set()
        self._halves: dict[str | int, str] = {}
        self._tools: dict[int, Call] = {}
        self._chunks: list[int] = []
        self._stretches: list[_Stretch] = []
        self._actions: list[Action] = []
        self._size = 0

    def __bool__(self) -> bool:
        """Whether there is something to say."""
        return bool(self._stretches or self._actions)

    @property
    def empty(self) -> bool:
        """Whether the model has said nothing at all."""
        return not self._chunks

    @property
    def calling(self) -> bool:
        """Whether this answer has called tools."""
        return bool(self._tools)

    def text(self, kind: Literal["text", "reasoning"], text: str) -> None:
        """More text of a kind. Raises ModelFailed where it is too much."""
        text = self._whole(kind, text)
        if not text:
            return
        if self._open is not None and self._open[0] == kind:
            self._more(self._open[1], text)
        else:
            self._open = (kind, self._begin({"type": kind, "text": ""}, text))

    def call(self, piece: CallPiece) -> None:
        """A tool call begins, or more of its arguments. Raises ModelFailed for one that cannot be a call."""
        known = self._calls.get(piece.index)
        if known is not None and not (piece.name and piece.id not in ("", known[1])):
            if arguments := self._whole(piece.index, piece.arguments):
                self._more(known[0], arguments)
            return
        if not piece.name:
            raise ModelFailed("failed", "The model called a tool without a name.")
        if len(self._tools) == MAX_CALLS:
            raise ModelFailed("failed", "The model called too many tools at once.")
        self._open = None
        call = Call(id=self._id(_clean(piece.id)[:MAX_NAME]), name=_clean(piece.name)[:MAX_NAME])
        self._calls[piece.index] = len(self._chunks), piece.id
        self._tools[len(self._chunks)] = call
        part = {"type": "tool", "call": call.id, "name": call.name, "arguments": "", "status": "streaming"}
        self._halves.pop(piece.index, None)
        self._begin(part, self._whole(piece.index, piece.arguments))

    def _whole(self, of: str | int, text: str) -> str:
        """Half a surrogate pair waits for the other half, which providers may send in the next piece."""
        text = self._halves.pop(of, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._halves[of] = text[:-1], text[-1]
        return text

    def _id(self, given: str) -> str:
        """One that no other call of the reply has: providers may say none, or the same in each answer."""
        id = given if given and given not in self._ids else f"{self._reply}-{len(self._chunks)}"
        self._ids.add(id)
        return id

    def called(self) -> dict[int, Call]:
        """The calls of this answer are whole, by their parts. The next answer is another step."""
        tools, self._tools = self._tools, {}
        self._settle()
        if tools:
            self._actions.append(chat.called(self._key, reply=self._reply, parts=list(tools)))
        self._step, self._open, self._calls = self._step + 1, None, {}
        self._halves.clear()
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
        if self._stretches:
            pieces = [stretch.piece() for stretch in self._stretches]
            self._actions.append(chat.grew(self._key, reply=self._reply, pieces=pieces))
            self._stretches = []

    def _begin(self, part: dict[str, Any], first: str) -> int:
        index = len(self._chunks)
        self._chunks.append(1 if first else 0)
        step = {"step": self._step} if self._step else {}
        self._add(PART_SIZE, _Stretch(part=index, begin={**part, **step}, texts=[]), first)
        return index

    def _more(self, part: int, text: str) -> None:
        """A chunk for each stretch: what continues the piece before it is written into that one."""
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.part == part and last.texts:
            self._add(0, last, text)
        else:
            self._add(0, _Stretch(part=part, chunk=self._chunks[part], texts=[]), text)
            self._chunks[part] += 1

    def _add(self, size: int, stretch: _Stretch, text: str) -> None:
        self._size += size + len(text)
        if self._size > MAX_SIZE:
            raise ModelFailed("too_long", "The reply has become too long.")
        if not self._stretches or self._stretches[-1] is not stretch:
            self._stretches.append(stretch)
        if text:
            text = _clean(text)
            stretch.texts.append(text)
            if (call := self._tools.get(stretch.part)) is not None:
                call.texts.append(text)


def _clean(text: str) -> str:
    """No half of a surrogate pair reaches the state; what came as two halves is one character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
