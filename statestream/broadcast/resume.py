"""What a reader has missed since its cursor, from memory or, further back, from the journal.

Law: a cursor is honoured exactly or refused: never partly. What `missed` gives ends at the store's
head, and stays so only until the caller awaits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from statestream.broadcast.selection import Selection
from statestream.bus import Bell
from statestream.change import Change, Position, SliceState, total_size
from statestream.errors import Forked, StatestreamError, Unavailable
from statestream.journal.contract import PAGE
from statestream.store import Store

MAX_BACKLOG: Final = 16 << 20
AHEAD_SECONDS: Final = 5.0

Backlog = list[Change]


class TooFarBehind(StatestreamError):
    """Catching up would cost more than it may: the state itself is cheaper."""


async def missed(store: Store, cursor: Position, selection: Selection) -> Backlog:
    """The selected changes from the cursor to the store's head.

    Raises Forked, Expired, TooFarBehind, and Unavailable where the journal has to be asked and is down.
    """
    if cursor.seq > store.position.seq:
        await _reached(store, cursor)
    found: Backlog = []
    size = 0
    position = cursor
    while True:
        tail = store.bus.after(position)
        if tail is not None:
            return found + selection.among(tail)
        page = await page_after(store, position)
        page = [change for change in page if change.version <= store.position.seq]  # what is beyond comes live
        if not page:
            continue
        position = page[-1].position
        kept = selection.among(page)
        found.extend(kept)
        size += total_size(kept)
        if size > MAX_BACKLOG:
            raise TooFarBehind("expected a backlog that is worth sending, got more than the limit")


async def page_after(store: Store, position: Position) -> list[Change]:
    """The journal's next changes, of which this node knows that there are some. Raises Forked, Expired, Unavailable."""
    page = await store.journal.read(position, PAGE)
    if not page:
        raise Forked("expected a journal that reaches as far as this node, got a shorter one")
    return page


async def _reached(store: Store, cursor: Position) -> None:
    """Waits for this node to read what another one has given the cursor for. Raises Forked if nobody has."""
    await store.journal.read(cursor, 1)
    grown = Bell()
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
