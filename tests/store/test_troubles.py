"""What is left of a trouble when a store closes, and opens again."""

from __future__ import annotations

import asyncio

from statestream import Slice, Store
from statestream.core.change import Position
from statestream.core.errors import Unavailable
from statestream.journal import MemoryJournal
from tests.support import eventually


class Deaf(MemoryJournal):
    """A journal that cannot be followed for a while."""

    deaf = True

    async def wait(self, after: Position) -> None:
        if self.deaf:
            raise Unavailable("nothing arrives")
        await super().wait(after)


async def test_nothing_runs_on_after_a_store_has_closed_and_none_of_its_troubles_stays() -> None:
    journal = Deaf()
    store = Store([Slice("counter", initial=0)], journal=journal)
    troubles, before = store._state.vitals.troubles, timers()
    async with store:
        await eventually(lambda: "following" in troubles)
    assert timers() == before
    journal.deaf = False
    async with store:
        await eventually(lambda: "following" not in troubles)


def timers() -> int:
    """How many the loop will run later."""
    loop = asyncio.get_running_loop()
    return sum(not each.cancelled() for each in loop._scheduled)  # type: ignore[attr-defined]
