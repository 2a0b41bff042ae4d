"""What a projection is: a conversation in the form of one protocol, for one viewer.

Invariants: a projection is pure. It holds its viewer's place and nothing that the state does not have, so that the
stream of a late viewer is made from the state like any other. The cost of a look is that of what is new; folding the
chunks into the text adds nothing. Slices beside the conversation are read only if they are known to have changed, and
only through the viewer's own view.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from msgspec import Struct

from statestream.chat.messages import Message, Part, State, full_text, is_finished, is_said
from statestream.core.change import SliceState
from statestream.core.selection import Selection
from statestream.store.view import StoreView

Item = dict[str, Any] | str
"""One unit of a protocol: a chunk or an event, which travels as JSON, or text, which travels as it is."""


class Beside(Struct, frozen=True, kw_only=True):
    """Slices that are shown beside a conversation.

    If `whole`, these are all of them. Otherwise they are those that have changed since the last look; None: removed.
    """

    slices: Mapping[str, SliceState | None]
    whole: bool


class Look(Struct, frozen=True, kw_only=True):
    """What one look at a conversation sees.

    `state` is the chat's committed state. `beside` are the slices beside it, if the viewer follows any. `last`: the
    server stops, so that there is no further look.
    """

    state: State
    beside: Beside | None = None
    last: bool = False


class Projection(Protocol):
    """One viewer's projection of a conversation."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""

    @property
    def truncated(self) -> bool:
        """Whether something is missing that will not come: the response must not look like a complete one."""

    def new(self, look: Look) -> list[Item]:
        """The items that follow those of the last look. The first look may be at any time, even in mid-reply."""


class SlicesBeside:
    """The slices that one viewer asks for beside a conversation, as far as their rights allow at each look.

    Making one raises NotLoaded and TooLarge.
    """

    def __init__(self, view: StoreView, asked: Selection) -> None:
        self._view, self._asked, self._grant = view, asked, view.grant(asked)
        self._looked = False

    @property
    def names(self) -> list[str]:
        """What to wait for, as a Notifier takes it: everything, if any change may change the rights."""
        if self._grant.selection.everything or not self._grant.lasting:
            return ["*"]
        return [*self._grant.selection.names, *(f"{family}/*" for family in self._grant.selection.families)]

    async def looked(self, changed: AbstractSet[str] | None) -> Beside:
        """The same as `look`, once everything that it needs is in memory. Raises TooLarge, Unavailable."""
        return await self._view.complete(lambda: self.look(changed))

    def look(self, changed: AbstractSet[str] | None) -> Beside:
        """All the slices at the first look and when the rights have changed, otherwise those that have changed.

        `changed` is None if any may have. Raises TooLarge if they are more than a snapshot holds, and NotLoaded.
        """
        grant = self._grant
        if changed is None or self._concerned(changed):
            grant = self._view.grant(self._asked)
        selection = grant.selection
        if changed is None or not self._looked or selection != self._grant.selection:
            beside = Beside(slices=self._view.snapshot(selection).slices, whole=True)
        else:
            names = frozenset(name for name in changed if selection.matches(name))
            found = self._view.states(names)
            beside = Beside(slices={name: found.get(name) for name in names}, whole=False)
        self._grant, self._looked = grant, True
        return beside

    def _concerned(self, changed: AbstractSet[str]) -> bool:
        grant = self._grant
        return not grant.lasting and any(
            name in grant.depends or name.partition("/")[0] in grant.families for name in changed
        )


class Growing:
    """How much of one part a viewer has received."""

    __slots__ = ("characters", "chunks")

    def __init__(self) -> None:
        self.characters = 0
        self.chunks = 0

    def new(self, part: Part) -> str:
        """The text of the part that follows what was returned before."""
        chunks = part.get("chunks", ())
        text = "".join(chunks[self.chunks :]) if chunks and self.characters else full_text(part)[self.characters :]
        self.chunks = len(chunks)
        self.characters += len(text)
        return text


class Passing:
    """The transient data of one run that a viewer has received. Who comes late gets none of what was before."""

    def __init__(self, *, late: bool) -> None:
        self._seen: int | None = None if late else 0

    def new(self, message: Message) -> list[Mapping[str, Any]]:
        """What follows what was returned before."""
        items = message["run"].get("transient", ())
        last = items[-1]["n"] if items else 0
        seen = last if self._seen is None else self._seen
        self._seen = max(last, seen)
        return [item for item in items if item["n"] > seen]


class Replaceable:
    """The data with ids that a viewer has received, by their parts."""

    def __init__(self) -> None:
        self._data: dict[int, Any] = {}

    def note(self, part: Part, index: int) -> None:
        """The viewer has received this part."""
        if "id" in part:
            self._data[index] = part["data"]

    def new(self, message: Message) -> list[int]:
        """The parts whose data is another one now."""
        found = {index: message["parts"][index]["data"] for index in self._data}
        changed = [at for at, data in found.items() if data is not self._data[at] and data != self._data[at]]
        self._data = found
        return changed


class GrowingText:
    """The text of one reply, as it grows."""

    def __init__(self) -> None:
        self._part = 0
        self._growing = Growing()

    def new(self, message: Message) -> str:
        """The text that follows what was returned before, or nothing."""
        text = ""
        parts = message["parts"]
        while self._part < len(parts):
            part = parts[self._part]
            if is_said(part):
                text += self._growing.new(part)
                if not is_finished(message, self._part):
                    break
            self._part, self._growing = self._part + 1, Growing()
        return text
