"""Requests of many actions, which run in portions while small requests are committed in between."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from statestream import Refused, Slice, Store
from statestream.core.change import Action, Change
from statestream.core.patch import apply_patch

COUNT = 100


class Bench:
    """A store with slow handlers that tell when the first of them has begun."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        log = Slice("log", initial={"lines": list(range(1_000)), "total": 0})
        other = Slice("other", initial={"total": 0})

        @log.action
        def added(state: Any, *, by: int, slow: bool = True) -> None:
            self.began.set()
            time.sleep(0.001 if slow else 0)
            if by < 0:
                raise Refused("negative", "not less than nothing")
            state["lines"][by % 1_000] = -state["total"]
            state["total"] += by

        @other.action
        def counted(state: Any, *, by: int) -> None:
            state["total"] += by

        self.store = Store([log, other])

    def bulk(self, last: int = 1) -> list[Action]:
        amounts = [1] * (COUNT - 1) + [last]
        return [Action(type="log/added", payload={"by": by}) for by in amounts]


async def test_small_requests_are_committed_while_a_bulk_request_runs() -> None:
    bench = Bench()
    async with bench.store as store:
        bulk = asyncio.create_task(store.dispatch(bench.bulk()))
        await bench.began.wait()
        small = await store.dispatch(Action(type="other/counted", payload={"by": 1}))
        result = await bulk
        assert small.position.seq == result.position.seq - COUNT
        assert store.get("log")["total"] == COUNT
        assert store.get("other") == {"total": 1}


async def test_a_bulk_request_starts_over_if_what_it_has_used_changes() -> None:
    """Every change applies to what the changes before it have led to."""
    bench = Bench()
    async with bench.store as store:
        value, changes = store.get("log"), list[Change]()
        store.on_change(changes.append)
        bulk = asyncio.create_task(store.dispatch(bench.bulk()))
        await bench.began.wait()
        await store.dispatch(Action(type="log/added", payload={"by": 1_000, "slow": False}))
        await bulk
        for change in changes:
            value = apply_patch(value, change.patches)
        assert value == store.get("log")
        assert value["total"] == COUNT + 1_000
        assert [change.from_version for change in changes[1:]] == [change.version for change in changes[:-1]]


async def test_a_bulk_request_takes_effect_as_a_whole_or_not_at_all() -> None:
    bench = Bench()
    async with bench.store as store:
        before = store.get("log")
        bulk = asyncio.create_task(store.dispatch(bench.bulk(last=-1)))
        await bench.began.wait()
        await store.dispatch(Action(type="other/counted", payload={"by": 1}))
        with pytest.raises(Refused):
            await bulk
        assert store.get("log") == before
        await store.dispatch(bench.bulk())
        assert store.get("log")["total"] == COUNT


async def test_a_bulk_request_ends_although_others_change_its_slice_all_the_time() -> None:
    bench = Bench()
    async with bench.store as store:
        bulk = asyncio.create_task(store.dispatch(bench.bulk()))
        small = 0
        while not bulk.done():
            await store.dispatch(Action(type="log/added", payload={"by": 1, "slow": False}))
            small += 1
        await bulk
        assert store.get("log")["total"] == COUNT + small
