"""How long a change takes from one node to another, one change at a time, beside the engine's own way of doing that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from statestream import Store
from tests.benchmarks.journal import action, board
from tests.benchmarks.measure import percentile, short, table

DELAYS: Final = 300


async def delays(journal: str, name: str, bare: Callable[[], Awaitable[object]]) -> Mapping[str, Sequence[float]]:
    """Milliseconds: of what `bare` does, which is called `name`, of dispatches, and until another node announces them.

    Each round has one of all three, so that a busy moment concerns them alike.
    """
    found: dict[str, list[float]] = {name: [], "dispatch": [], "until another node announces it": []}
    async with Store([board], journal=journal) as one, Store([board], journal=journal) as other:
        for number in range(DELAYS):
            began = time.perf_counter()
            await bare()
            found[name].append((time.perf_counter() - began) * 1000)
            announced = asyncio.get_running_loop().create_future()
            stop = other.on_change(lambda _, announced=announced: announced.done() or announced.set_result(None))
            began = time.perf_counter()
            await one.dispatch(action(number))
            found["dispatch"].append((time.perf_counter() - began) * 1000)
            await announced
            found["until another node announces it"].append((time.perf_counter() - began) * 1000)
            stop()
    return found


def show(found: Mapping[str, Sequence[float]]) -> None:
    rows = [[name, short(percentile(each, 50)), short(percentile(each, 99))] for name, each in found.items()]
    table(["one by one", "p50, ms", "p99, ms"], rows)
