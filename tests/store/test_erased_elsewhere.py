"""What a node answers about an instance that another node has erased, as long as it has not heard of that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from statestream import Slice, Store
from statestream.core.change import Position
from statestream.core.errors import Unavailable
from statestream.journal.contract import Checkpoints
from tests.support import eventually
from tests.support.rooms import joining, journals, room

PAGE = 200


def declared() -> list[Slice]:
    return [room(1), room(1, name="hall")]


async def test_who_has_not_heard_of_an_erasure_is_told_to_try_again(tmp_path: Path) -> None:
    """And not that the journal is damaged: what was erased is gone from its checkpoint."""
    make_journal = journals("sqlite", tmp_path)
    journal, quiet = make_journal(), asyncio.Event()
    wait = journal.wait

    async def unheard(after: Position) -> None:
        await (quiet.wait() if quiet.is_set() else wait(after))
        if quiet.is_set():
            await asyncio.Event().wait()

    journal.wait = unheard
    async with Store(declared(), journal=make_journal()) as one:
        await one.dispatch(joining("a", "Ada"))
        for number in range(6):
            await one.dispatch([joining("1", f"{number}-{each}", "hall") for each in range(PAGE)])
        points = one.journal
        assert isinstance(points, Checkpoints)

        async def is_saved() -> bool:
            return bool(await points.checkpoints())

        await eventually(is_saved)
        async with Store(declared(), journal=journal) as other:
            await one.dispatch(joining("a", "Bob"))
            await other.caught_up()
            quiet.set()
            await one.dispatch(joining("2", "Cyd", "hall"))  # so that the wait that has begun ends
            await one.erase("room/a")
            with pytest.raises(Unavailable):
                await other.read("room/a")
            await other.caught_up()
            assert await other.read("room/a") is None
