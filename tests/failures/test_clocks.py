"""The wall clock of one node jumps by a day under load: no id is forgotten, and no lease ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.support import Server, dispatch, eventually, get_state, moved_clock
from tests.support.callers import calling
from tests.support.chats import ask, chatty, ended, new_chat, text_of
from tests.support.cluster import cluster, judged, restart
from tests.support.provider import open_gate, script

Http = aiohttp.ClientSession
DAY = 24 * 3600 + 60
pytestmark = pytest.mark.timeout(300)  # a busy machine takes long


async def is_repeated(http: Http, node: Server) -> bool:
    """Whether an id that was acknowledged on the first node is answered as a repeat."""
    status, body = await dispatch(http, node.url, "total/added", {"id": "before-the-jump"}, id="before-the-jump")
    assert status == 200, body
    return bool(body["duplicate"])


@pytest.mark.long
async def test_no_id_is_forgotten_when_a_clock_jumps(journal: str, http: Http, tmp_path: Path) -> None:
    with cluster(journal, clocks=tmp_path) as nodes:
        assert not await is_repeated(http, nodes[0])
        async with calling(nodes, writers=6, readers_of_each=1) as callers:
            for seconds in (-DAY, DAY):
                moved_clock.move(tmp_path / "1", seconds)
                for number in range(3):
                    await callers.more(5, number)
                    assert await is_repeated(http, nodes[number])
            await restart(nodes[1])  # what it records now, it reads with the clock ahead
            for number in (1, 0, 2):
                await callers.more(5, number)
                assert await is_repeated(http, nodes[number])
            assert await judged(callers, journal) == []
            reasons = {reason for history in callers.evidence.histories for reason in history.reasons}
            assert reasons <= {"start", "lagged"}, "no history was trimmed"


@pytest.fixture
def pair(journal: str, upstream: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers with a chat, whose leases take a second. The file `ahead` moves the clock of the second one."""
    with ExitStack() as stack:
        servers = [chatty(upstream, journal=journal) for _ in range(2)]
        servers[1].env["AHEAD"] = str(tmp_path / "ahead")
        yield tuple(stack.enter_context(server) for server in servers)  # type: ignore[misc]


@pytest.mark.slow
async def test_no_lease_ends_when_a_clock_jumps(
    pair: tuple[Server, Server], upstream: str, http: Http, tmp_path: Path
) -> None:
    """The one that looks after the leases of lost nodes has the clock that jumps, and so has the other one next."""
    here, there = pair
    for number, (maker, seconds) in enumerate(((here, DAY), (there, -DAY))):
        chat = await new_chat(http, maker)
        gate, question = f"{tmp_path.name}-{number}", f"Question {number}."
        await script(http, upstream, question, {"say": "A"}, {"wait": gate}, {"say": "B"}, {"finish": "stop"})
        asking = asyncio.create_task(ask(http, maker, chat, question))
        moved_clock.move(tmp_path / "ahead", seconds)
        versions: set[int] = set()

        async def renewed(versions: set[int] = versions) -> bool:
            versions.update((await get_state(http, there.url, "slices=chat_nodes/*"))["versions"].values())
            return len(versions) > 6

        await eventually(renewed, seconds=30, every=0.1)
        await open_gate(http, upstream, gate)
        assert (await asking).text == "AB"
        for server in pair:
            message = await ended(http, server, chat)
            assert (message["status"], text_of(message)) == ("complete", "AB")
