"""What a reader has missed since its cursor, from memory or, further back, from the journal.

Invariants: a cursor is honoured exactly or refused: never partly. What `missed` gives ends at the store's
head, and stays so only until the caller awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from statestream.core.change import Change, Position, SliceState, total_size
from statestream.core.errors import Forked, StatestreamError, Unavailable
from statestream.core.selection import Selection
from statestream.journal.contract import PAGE
from statestream.store.bus import Signal
from statestream.store.store import Store

MAX_BACKLOG: Final = 16 << 20
AHEAD_SECONDS: Final = 5.0

Backlog = list[Change]


class TooFarBehind(StatestreamError):
    """Catching up would cost more than it may: the state itself is cheaper."""


class Backlogs:
    """What readers have missed. Those that come with the same cursor for the same slices share the reading."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._readings: dict[tuple[Position, Selection], _Reading] = {}

    def in_memory(self, cursor: Position, selection: Selection) -> Backlog | None:
        """The selected changes from the cursor to head; None where that takes the journal. Raises Forked."""
        if cursor.seq > self._store.position.seq:
            return None
        tail = self._store.bus.after(cursor)
        return None if tail is None else selection.among(tail)

    async def missed(self, cursor: Position, selection: Selection) -> Backlog:
        """The same, however far back it is.

        Raises Forked, Expired, TooFarBehind, and Unavailable where the journal has to be asked and is down.
        """
        if cursor.seq > self._store.position.seq:
            await _reached(self._store, cursor)
        backlog: Backlog = []
        while True:
            found = await self._read(cursor, selection)
            backlog, cursor = backlog + found.backlog, found.until
            tail = self.in_memory(cursor, selection)
            if tail is not None:
                return backlog + tail

    async def _read(self, cursor: Position, selection: Selection) -> _Found:
        """From the cursor to where memory begins, once for all who ask for it at the time."""
        key = (cursor, selection)
        reading = self._readings.setdefault(key, _Reading())
        reading.readers += 1
        try:
            async with reading.lock:
                if reading.outcome is None:
                    reading.outcome = await self._outcome(cursor, selection)
        finally:
            reading.readers -= 1
            if not reading.readers:
                del self._readings[key]
        if isinstance(reading.outcome, StatestreamError):
            raise reading.outcome.with_traceback(None)
        return reading.outcome

    async def _outcome(self, cursor: Position, selection: Selection) -> _Found | StatestreamError:
        try:
            return await self._from_journal(cursor, selection)
        except StatestreamError as refused:
            return refused

    async def _from_journal(self, cursor: Position, selection: Selection) -> _Found:
        found: Backlog = []
        size = 0
        position = cursor
        while not self._store.bus.reaches(position):
            page = await page_after(self._store, position)
            page = [
                change for change in page if change.version <= self._store.position.seq
            ]  # what is beyond comes live
            if not page:
                continue
            position = page[-1].position
            kept = selection.among(page)
            found.extend(kept)
            size += total_size(kept)
            if size > MAX_BACKLOG:
                raise TooFarBehind("expected a backlog that is worth sending, got more than the limit")
        return _Found(found, position)


class _Found(NamedTuple):
    backlog: Backlog
    until: Position


class _Reading:
    """One walk through the journal, and who waits for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.readers = 0
        self.outcome: _Found | StatestreamError | None = None


async def page_after(store: Store, position: Position) -> list[Change]:
    """The journal's next changes, of which this node knows that there are some. Raises Forked, Expired, Unavailable."""
    page = await store.journal.read(position, PAGE)
    if not page:
        raise Forked("expected a journal that reaches as far as this node, got a shorter one")
    return page


async def _reached(store: Store, cursor: Position) -> None:
    """Waits for this node to read what another one has given the cursor for. Raises Forked if nobody has."""
    await store.journal.read(cursor, 1)
    grown = Signal()
    unsubscribe = store.bus.subscribe(grown)
    try:
        async with asyncio.timeout(AHEAD_SECONDS):
            while cursor.seq > store.position.seq:
                await grown.wait()
    except TimeoutError:
        raise Unavailable("expected to reach a position that the journal has, did not in time; come back") from None
    finally:
        unsubscribe()


def versions_at(slices: Mapping[str, SliceState], selection: Selection, backlog: Backlog) -> dict[str, int]:
    """The versions that a reader holds at its cursor, from those of now and what has changed since."""
    versions = {name: state.version for name, state in selection.of(slices)}
    for change in reversed(backlog):
        versions[change.slice] = change.from_version
    return {name: version for name, version in versions.items() if version}
