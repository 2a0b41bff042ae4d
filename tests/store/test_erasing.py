"""Erasing from outside: nothing that a server answers, and nothing in a journal's files, has what was erased."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.journal.sqlite.repair import repair
from tests.support import PlainClient, Server, dispatch, get_state

Http = aiohttp.ClientSession
CANARY = "canary-7f3a91"


async def erase(http: Http, server: Server, name: str) -> Any:
    async with http.delete(f"{server.url}/state/{name}") as response:
        return response.status, await response.json(content_type=None)


async def text_of(http: Http, server: Server, path: str) -> str:
    async with http.get(f"{server.url}{path}") as response:
        assert response.status == 200, path
        return await response.text()


async def fill(http: Http, server: Server, number: int = 0) -> list[str]:
    """A room with a secret, between other changes, and a request of two slices. Returns the positions."""
    positions = []
    for at in range(20):
        name = f"{CANARY}-{'x' * (at * 300)}"
        actions: dict[str, Any] = {
            "actions": [
                {"type": "room/joined", "key": "42", "payload": {"name": name}},
                {"type": "board/counted", "payload": {"by": 1}},
            ],
            "id": f"both-{number}-{at}",
        }
        async with http.post(f"{server.url}/dispatch", json=actions) as response:
            assert response.status == 200
            positions.append((await response.json())["position"])
        status, _ = await dispatch(http, server.url, "room/joined", {"name": f"other {at}"}, key="7")
        assert status == 200
    return positions


def in_files(path: Path) -> list[str]:
    return [file.name for file in path.parent.iterdir() if CANARY.encode() in file.read_bytes()]


async def check_erased(http: Http, server: Server, positions: list[str]) -> None:
    for position in positions[::5]:
        state = await text_of(http, server, f"/state?slices=*&at={position}")
        assert CANARY not in state
        assert "room/42" not in state
    history = await text_of(http, server, "/history?slices=*&cause=full")
    assert CANARY not in history
    assert history.count("\n") >= 60, "no position is missing"
    assert CANARY not in await text_of(http, server, "/state?slices=*")


@pytest.mark.parametrize("journal", ["memory:", "sqlite"])
async def test_nothing_is_left_of_what_was_erased(http: Http, tmp_path: Path, journal: str) -> None:
    path = tmp_path / "files" / "j.db"
    path.parent.mkdir()
    url = f"sqlite:///{path}" if journal == "sqlite" else journal
    with Server.serving(journal=url) as server:
        positions = await fill(http, server)
        reader = PlainClient(server.port, query="slices=*").connect()
        next(reader.frames())
        assert "room/42" in reader.state
        late = PlainClient(server.port, query="slices=*").connect()
        next(late.frames())
        late.close()
        assert bool(in_files(path)) == (journal == "sqlite")
        status, body = await erase(http, server, "room/42")
        assert status == 200, body
        assert in_files(path) == []
        await check_erased(http, server, positions)
        reader.read_to(body["position"])
        assert "room/42" not in reader.state
        reader.close()
        late.connect()
        late.read_to(body["position"])
        assert late.state == (await get_state(http, server.url))["slices"], "resumed from before the erasure"
        late.close()
        again = {"type": "room/joined", "key": "42", "payload": {"name": "again"}, "id": "both-0-3"}
        async with http.post(f"{server.url}/dispatch", json=again) as response:
            answer = await response.json()
        assert (answer["duplicate"], [each["slice"] for each in answer["changes"]]) == (True, ["board", "counter"])
        assert await erase(http, server, "room/42") == (200, body), "nothing happens a second time"
        await fill(http, server, 1)
        assert "room/42" in (await get_state(http, server.url))["slices"]
        assert (await erase(http, server, "room/42"))[0] == 200
        if journal == "sqlite":
            server.kill()
            assert in_files(path) == []
            assert repair(path).copies == (), "the journal is whole"
            server.start()
            await check_erased(http, server, positions)


@pytest.mark.slow
async def test_a_kill_leaves_all_or_nothing(http: Http, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "files" / "j.db"
    path.parent.mkdir()
    with Server.serving(journal=f"sqlite:///{path}") as server:
        for number in range(8):
            positions = await fill(http, server, number)
            erasing = asyncio.create_task(erase(http, server, "room/42"))
            await asyncio.sleep(chance.random() * 0.05)  # the moment of the kill, which is what the test varies
            server.kill()
            await asyncio.gather(erasing, return_exceptions=True)
            server.start()
            state = (await get_state(http, server.url))["slices"]
            if "room/42" in state:
                assert len(state["room/42"]["members"]) == 20, "nothing was erased"
                assert (await erase(http, server, "room/42"))[0] == 200
            assert in_files(path) == []
            await check_erased(http, server, positions)


async def test_another_process_forgets_it_too(http: Http, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}"
    with Server.serving(journal=url) as one, Server.serving(journal=url) as two:
        positions = await fill(http, one)
        reader = PlainClient(two.port, query="slices=*").connect()
        reader.read_to(positions[-1])
        status, body = await erase(http, one, "room/42")
        assert status == 200
        reader.read_to(body["position"])
        assert "room/42" not in reader.state
        reader.close()
        await check_erased(http, two, positions)
