"""The tool calls of one answer of a model, and the call to which each piece belongs.

Most providers number the calls of an answer, and send the name and the id once. But some send no index, or 0 with every
call, or another index with later pieces than with the first. Some repeat the name or the id with every piece. Some send
no id, or a call twice. So these rules apply, in this order:

1. A piece without a name continues a call: the one with its id, otherwise the one with its index, unless that is
   complete and another one has begun since, otherwise the one that began last.
2. A piece with a name repeats the beginning of a call if that has the same name and the same id (without an id: the
   same index; without an index: if it began last) and is not complete, or if the piece adds nothing to it.
3. Any other piece with a name begins a call.

Invariants: pure. The cost of a piece does not depend on how long its call is, except where rules 1 and 2 have to know
whether a call is complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from statestream.chat.messages import is_object
from statestream.chat.models import CallPiece


class Call(Struct, kw_only=True):
    """A tool call. Its arguments are joined when they are complete, not at every piece."""

    id: str
    name: str
    texts: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.texts)

    @property
    def complete(self) -> bool:
        """Whether the arguments are a whole JSON object."""
        return bool(self.texts) and self.texts[-1].rstrip().endswith("}") and is_object(self.arguments)


def part_of(id: str, name: str, more: Mapping[str, str]) -> dict[str, Any]:
    """The part of a call that begins. `more` are further members."""
    return {"type": "tool", "call": id, "name": name, "arguments": "", "status": "streaming", **more}


class Calls:
    """The calls of one answer, by the parts of the reply that show them."""

    def __init__(self) -> None:
        self.by_part: dict[int, Call] = {}
        self._by_index: dict[int, int] = {}
        self._by_id: dict[str, int] = {}
        self._last: int | None = None

    def __bool__(self) -> bool:
        return bool(self.by_part)

    def __len__(self) -> int:
        return len(self.by_part)

    def __iter__(self) -> Iterator[int]:
        return iter(self.by_part)

    @property
    def named(self) -> Mapping[str, int]:
        """The parts of the calls that have ids, by these."""
        return self._by_id

    def begin(self, part: int, piece: CallPiece, call: Call) -> None:
        """A piece has begun a call."""
        self.by_part[part] = call
        self._last = part
        if piece.index is not None:
            self._by_index[piece.index] = part
        if piece.id:
            self._by_id[piece.id] = part

    def continued_by(self, piece: CallPiece, name: str) -> int | None:
        """The part of the call that the piece continues, whose name is `name`; None if it begins a call."""
        by_id = self._by_id.get(piece.id) if piece.id else None
        by_index = self._last if piece.index is None else self._by_index.get(piece.index)
        if not name:
            return by_id if by_id is not None else self._without_name(by_index)
        part = by_id if piece.id else by_index
        if part is None or self.by_part[part].name != name:
            return None
        if piece.arguments and self.by_part[part].complete and not self._repeats(piece, part, by_index):
            return None
        return part

    def _without_name(self, part: int | None) -> int | None:
        if part is None or (part != self._last and self.by_part[part].complete):
            return self._last
        return part

    def _repeats(self, piece: CallPiece, part: int, by_index: int | None) -> bool:
        """Whether the piece repeats a whole call, by its id and its index."""
        return bool(piece.id) and part == by_index and piece.arguments == self.by_part[part].arguments

    def adds(self, piece: CallPiece, part: int) -> str:
        """The arguments that the piece adds to the call that it continues."""
        whole_again = piece.name and piece.arguments and self._repeats(piece, part, part)
        return "" if whole_again and self.by_part[part].complete else piece.arguments
