"""How the parts of one reply grow: what has gathered for them, and the actions that write it.

A reply and the nested runs in it add to the same growth. Text that gathers for a part becomes one piece, and pieces
without anything else in between become one action.

Invariants: pure. A part and a chunk are numbered from 0, in the order in which they were added. Actions that `take` has
returned count as dispatched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from msgspec import Struct

from statestream.chat.messages import KEPT_DEPTH, Part, full_text, short_id
from statestream.chat.models import ModelFailed
from statestream.chat.slices import conversation, data
from statestream.chat.slices.conversation import PiecePayload
from statestream.chat.slices.data import TransientPayload
from statestream.core.change import Action
from statestream.core.values import plain

MAX_SIZE: Final = 2_000_000
"""Characters of a reply, plus PART_SIZE for each of its parts. Whoever exceeds this would never end.

Opaque data and its entries count, too, and so do the status and the results of an agent's tools.
"""
PART_SIZE: Final = 100
GROWING: Final = ("text", "reasoning", "tool")
"""The types of parts that have text, or arguments, which grow."""


class _Stretch(Struct, kw_only=True):
    """Text that has gathered for one part: with `begin`, the start of a new part, otherwise its chunk `chunk`.

    `grows`: the part may get chunks.
    """

    part: int
    texts: list[str]
    begin: dict[str, Any] | None = None
    chunk: int = 0
    grows: bool = True

    def payload(self) -> PiecePayload:
        text = "".join(self.texts)
        if self.begin is not None and not self.grows:
            return {"part": self.part, "begin": self.begin}
        if self.begin is not None:
            return {"part": self.part, "begin": {**self.begin, "chunks": [text] if text else []}}
        return {"part": self.part, "chunk": self.chunk, "text": text}


class Growth:
    """The parts of the reply `reply` in the chat `key`.

    `step` is the number of the step, counted from 0 over all runs of the reply. `running` counts the nested runs in
    progress, `told` the transient data, and `_chunks` the chunks of each part.
    """

    def __init__(self, key: str, reply: str) -> None:
        self.key, self.reply = key, reply
        self.step = self.running = self.told = 0
        self._ids: set[str] = set()
        self._chunks: list[int] = []
        self._stretches: list[_Stretch] = []
        self._actions: list[Action] = []
        self._size = 0

    def resume(self, parts: Sequence[Part]) -> None:
        """Takes over the parts so far, in their last step."""
        self._chunks = [0] * len(parts)
        self.step = max((part.get("step", 0) for part in parts), default=-1)
        self._ids = {part["call"] for part in parts if part["type"] == "tool"}
        grown = (part for part in parts if part["type"] in GROWING)
        self._size = PART_SIZE * len(parts) + sum(len(full_text(part)) for part in grown)

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._stretches or self._actions)

    def __len__(self) -> int:
        """The number of parts."""
        return len(self._chunks)

    def count(self, size: int) -> None:
        """Raises ModelFailed if the reply is too long."""
        self._size += size
        if self._size > MAX_SIZE:
            raise ModelFailed("too_long", "The reply is too long.")

    def knows(self, id: str) -> bool:
        """Whether a call has that id."""
        return id in self._ids

    def unique_id(self, given: str) -> str:
        """The given id, unless it is empty or taken: some providers send no ids, or the same ones in each step."""
        id = given if given and given not in self._ids else short_id(self.reply, len(self._chunks))
        self._ids.add(id)
        return id

    def begin(self, part: Mapping[str, Any], first: str) -> int:
        """Begins a part that grows, with its first text. Raises ModelFailed if the reply is too long."""
        index = len(self._chunks)
        self._chunks.append(1 if first else 0)
        self._add(PART_SIZE, _Stretch(part=index, begin=self._placed(part), texts=[]), first)
        return index

    def whole(self, part: Mapping[str, Any]) -> int:
        """Adds a part that does not grow. Raises ModelFailed, NotJSON."""
        made, index = self._placed(plain(part, KEPT_DEPTH - 1)), len(self._chunks)
        self._chunks.append(0)
        size = PART_SIZE + len(orjson.dumps(made))
        self._add(size, _Stretch(part=index, begin=made, texts=[], grows=False), "")
        return index

    def replace(self, part: int, value: Any) -> None:
        """Replaces the data of a part. Raises ModelFailed, NotJSON."""
        kept = plain(value, KEPT_DEPTH)
        self.count(PART_SIZE + len(orjson.dumps(kept)))
        self.act(data.replaced(self.key, reply=self.reply, part=part, data=kept), replaces=True)

    def tell(self, part: Mapping[str, Any]) -> None:
        """Adds transient data. Raises ModelFailed, NotJSON."""
        kept = plain(part, KEPT_DEPTH)
        self.count(PART_SIZE + len(orjson.dumps(kept)))
        self.told += 1
        item: TransientPayload = {"n": self.told, "type": kept["type"], "data": kept["data"]}
        if "id" in kept:
            item["id"] = kept["id"]
        self.act(data.told(self.key, reply=self.reply, items=[item]))

    def _placed(self, part: Mapping[str, Any]) -> dict[str, Any]:
        return {**part, **({"step": self.step} if self.step else {})}

    def grow(self, part: int, text: str) -> None:
        """Adds to a part: to the newest stretch if that belongs to it, otherwise as a new chunk. Raises ModelFailed."""
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.part == part and last.texts:
            self._add(0, last, text)
        else:
            self._add(0, _Stretch(part=part, chunk=self._chunks[part], texts=[]), text)
            self._chunks[part] += 1

    def _add(self, size: int, stretch: _Stretch, text: str) -> None:
        self.count(size + len(text))
        if not self._stretches or self._stretches[-1] is not stretch:
            self._stretches.append(stretch)
        if text:
            stretch.texts.append(cleaned(text))

    def act(self, action: Action, *, replaces: bool = False) -> None:
        """Adds an action, behind the text so far. `replaces`: it takes the place of one of its type, and
        about the same part, just before it.
        """
        if self._stretches:
            pieces = [stretch.payload() for stretch in self._stretches]
            self._actions.append(conversation.grew(self.key, reply=self.reply, pieces=pieces))
            self._stretches = []
        last = self._actions[-1] if self._actions else action
        if replaces and self._actions and (last.type, _part(last)) == (action.type, _part(action)):
            self._actions.pop()
        self._actions.append(action)

    def take(self) -> list[Action]:
        """The actions that have gathered, in order. They count as dispatched from now on."""
        actions, self._actions = self._actions, []
        if self._stretches:
            pieces = [stretch.payload() for stretch in self._stretches]
            actions.append(conversation.grew(self.key, reply=self.reply, pieces=pieces))
            self._stretches = []
        return actions


def _part(action: Action) -> Any:
    return action.payload.get("part")


def cleaned(text: str) -> str:
    """Text without lone halves of surrogate pairs, which the state cannot hold; two halves become one character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
