"""What a subscriber has missed since its cursor: from memory or, further back, from the journal.

Invariants: a cursor is honoured exactly or refused, never partly. What `missed` returns ends at the head, and is valid
only until the caller awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from statestream.core.change import PAGE, Change, Page, Position, total_size
from statestream.core.erasing import scrubbed
from statestream.core.errors import Forked, StatestreamError, Unavailable
from statestream.core.folding import Merged
from statestream.core.principal import Scope
from statestream.core.selection import Selection
from statestream.store.view import StoreView

MAX_BACKLOG: Final = 16 << 20
AHEAD_SECONDS: Final = 5.0

Backlog = list[Change]
Read = Callable[[Position, Selection, int], Awaitable[Page]]
"""Reads a page of the journal, as a view does."""


class TooFarBehind(StatestreamError):
    """Catching up would cost more than sending the whole state. Never leaves this package."""


class Backlogs:
    """The backlogs of subscribers. Those that come with the same cursor for the same slices share the reading."""

    def __init__(self) -> None:
        self._readings: dict[tuple[Scope, Position, Selection], _Reading] = {}

    def in_memory(self, view: StoreView, cursor: Position, selection: Selection) -> Backlog | None:
        """The selected changes from the cursor to the head; None if that takes the journal. Raises Forked."""
        found = None if cursor.seq > view.position.seq else view.recent(cursor, selection)
        return None if found is None else Merged()(found)

    async def missed(self, view: StoreView, scope: Scope, cursor: Position, selection: Selection) -> Backlog:
        """The same, however far back it is. Views of equal scopes share the reading.

        Raises Forked, Expired, TooFarBehind, and Unavailable if the journal is needed and down.
        """
        if cursor.seq > view.position.seq:
            await _reach(view, cursor, selection)
        backlog: Backlog = []
        while True:
            found = await self._read(view, scope, cursor, selection)
            backlog, cursor = backlog + found.backlog, found.until
            tail = self.in_memory(view, cursor, selection)
            if tail is not None:
                return scrubbed(backlog + tail)

    async def _read(self, view: StoreView, scope: Scope, cursor: Position, selection: Selection) -> _Found:
        """From the cursor to where memory begins, once for all who ask for it at the same time."""
        key = (scope, cursor, selection)
        reading = self._readings.setdefault(key, _Reading())
        reading.waiting += 1
        try:
            async with reading.lock:
                if reading.outcome is None:
                    reading.outcome = await _outcome(view, cursor, selection)
        finally:
            reading.waiting -= 1
            if not reading.waiting:
                del self._readings[key]
        try:
            if isinstance(reading.outcome, StatestreamError):
                raise reading.outcome.with_traceback(None)
            return reading.outcome
        finally:
            del reading  # it has the error, whose traceback has this frame


class _Found(NamedTuple):
    backlog: Backlog
    until: Position


class _Reading:
    """One walk through the journal, and how many wait for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0
        self.outcome: _Found | StatestreamError | None = None


async def _outcome(view: StoreView, cursor: Position, selection: Selection) -> _Found | StatestreamError:
    try:
        return await _from_journal(view, cursor, selection)
    except StatestreamError as refused:  # all who wait are told the same
        return refused


async def _from_journal(view: StoreView, cursor: Position, selection: Selection) -> _Found:
    found: Backlog = []
    size = 0
    position, merged = cursor, Merged()
    while not view.in_memory(position) or (merged.open and position != view.position):  # memory has them unfolded
        page = await page_after(view.past.changes, view.position, position, selection)
        position = page.until
        found.extend(merged(page.changes))
        size += total_size(page.changes)
        if size > MAX_BACKLOG:
            raise TooFarBehind("the backlog is larger than its limit")
    return _Found(found, position)


async def page_after(read: Read, head: Position, position: Position, selection: Selection) -> Page:
    """The next page of the journal after a position that is behind this node's head, and not beyond it.

    Raises Forked, Expired, Unavailable.
    """
    page = await read(position, selection, min(PAGE, head.seq - position.seq))
    if page.until == position:
        raise Forked("the journal does not reach as far as this node has read; start without a position")
    return page


async def _reach(view: StoreView, cursor: Position, selection: Selection) -> None:
    """Waits until this node has read a position that another node has given out. Raises Forked if none has."""
    await view.past.changes(cursor, selection, 1)
    try:
        async with asyncio.timeout(AHEAD_SECONDS):
            while cursor.seq > view.position.seq:
                await view.caught_up()
    except TimeoutError:
        raise Unavailable("this node could not read the journal up to the position in time; try again") from None
