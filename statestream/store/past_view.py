"""The past as one principal may see it: the state as of positions, the history, and how far back it goes.

`StoreView.past` makes it. Unlike the view itself, it reads the journal, so all of it awaits.

Invariants: what may be read is asked now, whatever it was then. A page of the history is shown through views as of its
own positions.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final

from msgspec.structs import replace

from statestream.core.change import PAGE, Change, Page, Position, SliceState, Snapshot
from statestream.core.selection import Selection, bounded, check_count
from statestream.journal.contract import Checkpoint, Checkpoints
from statestream.store.grant import Grant
from statestream.store.node_state import NodeState
from statestream.store.past import PastValues
from statestream.store.pause import rest
from statestream.store.rights import Rights
from statestream.store.schemas import is_note
from statestream.store.shown import ShownStates, caused, without_payload

PORTION_SECONDS: Final = 0.002
"""For which views may be called for the past before others have a turn."""


class PastView:
    """The past of the state. Costs nothing to make."""

    __slots__ = ("_rights", "_shown", "_state")

    def __init__(self, rights: Rights, shown: ShownStates, state: NodeState) -> None:
        self._rights, self._shown, self._state = rights, shown, state

    def grant(
        self, position: Position, asked: Selection, changed: Collection[str], past: PastValues
    ) -> Grant | set[str]:
        """What could be read at a position of what was asked for, given which of these slices have changed since.

        Returns the names of slices instead if their values at the position must be added to `past` first. Raises
        TooLarge.
        """
        then = past.at(position, self._state.slices)
        instances = {
            family: self._state.slices.instances.get(family, {}).keys()
            | {n for n in changed if n.startswith(f"{family}/")}
            for family in asked.families
        }
        granted = self._rights.grant(asked, instances, then.get)
        return then.missing or granted

    async def values_at(self, position: Position, names: Collection[str]) -> Mapping[str, Any]:
        """The values of slices and instances as of a position. Raises Forked, Expired, Unavailable."""
        then = await self._state.history.load(position, Selection(names=frozenset(names)))
        return {name: state.value for name, state in then.slices.items()}

    async def snapshot_at(self, position: Position, asked: Selection) -> Snapshot:
        """What may be read now of what was asked for, as it was at a position.

        Raises Forked, Expired, Unavailable, TooLarge.
        """
        names = await self._state.history.names(position, asked)
        readable = await self._among(names)
        check_count(len(readable))
        then = await self._state.history.load(position, Selection(names=frozenset(readable)))
        found = {name: then.slices[name] for name in await self._among(then.slices)}
        return Snapshot(
            position=then.position,
            slices=bounded((name, self._as_seen(name, state)) for name, state in found.items()),
            folded=then.folded & found.keys(),
        )

    async def earliest(self) -> Position:
        """The oldest position that can be read from. Raises Unavailable."""
        return await self._state.journal.earliest()

    async def checkpoints(self) -> Sequence[Checkpoint]:
        """Those that the journal keeps, oldest first; none if its engine makes none. Raises Unavailable."""
        journal = self._state.journal
        return await journal.checkpoints() if isinstance(journal, Checkpoints) else ()

    async def changes(self, after: Position, selection: Selection, limit: int = PAGE) -> Page:
        """The selected ones of the next `limit` changes after a position, from the journal.

        They may be ahead of this node's `position`, if another node has written them. Raises Forked, Expired,
        Unavailable.
        """
        page = await self._page(after, selection, limit)
        return page if self._rights.unlimited else await self._seen_then(after, page, selection)

    async def history(self, after: Position, asked: Selection, limit: int = PAGE) -> Page:
        """The same, of what may be read now of what was asked for."""
        page = await self.changes(after, asked, limit)
        return page if self._rights.unlimited else Page(changes=await self._readable_of(page), until=page.until)

    async def counted(self, after: Position, asked: Selection) -> Page:
        """As `history`, for what does not show the changes: those that are seen through a view have no data.

        So it calls no view, and does not need the values before the changes.
        """
        page = await self._page(after, asked, PAGE)
        if self._rights.unlimited:
            return page
        return Page(changes=[self._without_view(each) for each in await self._readable_of(page)], until=page.until)

    async def _page(self, after: Position, selection: Selection, limit: int) -> Page:
        page = await self._state.journal.read(after, limit, selection)
        return Page(changes=without_notes(page.changes), until=page.until) if selection.everything else page

    async def _readable_of(self, page: Page) -> list[Change]:
        names = {change.slice for change in page.changes}
        readable = await self._among(names)
        return [change for change in page.changes if change.slice in readable]

    def _without_view(self, change: Change) -> Change:
        if self._rights.view_of(change.slice) is None:
            return caused(self._rights, change)
        return replace(without_payload(change), data=b"")

    async def _seen_then(self, after: Position, page: Page, selection: Selection) -> Page:
        """The page as this principal sees it. Raises Forked, Expired, Unavailable."""
        names = {change.slice for change in page.changes}
        viewed = {name: number for name in names if (number := self._rights.view_of(name)) is not None}
        before: Mapping[str, Any] = {}
        if viewed:
            before = await self.values_at(after, viewed.keys())
            # some of it may have been folded meanwhile: what follows a state must not have been read before it
            page = await self._page(after, selection, page.until.seq - after.seq)
        changes, began = list[Change](), perf_counter()
        for change in self._shown.history(viewed, before, (caused(self._rights, each) for each in page.changes)):
            changes.append(change)
            if (spent := perf_counter() - began) >= PORTION_SECONDS:
                await rest(spent)
                began = perf_counter()
        return Page(changes=changes, until=page.until)

    async def _among(self, names: Iterable[str]) -> set[str]:
        """Those that may be read."""
        return await self._state.complete(lambda: self._rights.among(names, self._state.slices.value))

    def _as_seen(self, name: str, state: SliceState) -> SliceState:
        number = self._rights.view_of(name)
        return state if number is None else self._shown.past(name, number, state)


def without_notes(changes: Iterable[Change]) -> list[Change]:
    """What clients are shown of all changes: no notes of versions."""
    return [each for each in changes if not is_note(each.slice)]
