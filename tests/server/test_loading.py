"""A server on a journal with more state than it needs to hold: what it costs, and that nobody can tell."""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.journal import SqliteJournal, from_url
from tests.support import ROOT, Server
from tests.support.postgresql import PostgreSQL
from tests.support.redis_server import RedisServer
from tests.support.shelves import books_of, filled

SHELVES = f"{ROOT / 'tests/apps/shelves.py'}:store"
BYTES = 20_000


def serving(path: Path, idle: str = "60") -> Server:
    return Server.serving(SHELVES, f"sqlite:///{path}", env={"IDLE": idle})


def resident(server: Server) -> int:
    """The memory of the server in bytes."""
    assert server.process is not None
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096


async def read(http: aiohttp.ClientSession, server: Server, slices: str, **more: str) -> tuple[int, dict[str, object]]:
    async with http.get(f"{server.url}/state", params={"slices": slices, **more}) as response:
        return response.status, await response.json()


async def test_a_server_holds_what_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await filled(SqliteJournal(path), 800, BYTES)
    grown = {}
    for idle in ("60", "none"):
        with serving(path, idle) as server:
            async with aiohttp.ClientSession() as http:
                for n in range(0, 800, 40):
                    status, body = await read(http, server, f"shelf/{n}")
                    assert (status, body["slices"]) == (200, {f"shelf/{n}": {"books": books_of(n, BYTES)}})
                grown[idle] = resident(server)
    assert grown["60"] + 780 * 2 * BYTES < grown["none"], "the others would take more than their text and their objects"


async def test_everything_means_everything_that_exists(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await filled(SqliteJournal(path), 900, 100)
    with serving(path) as server:
        async with aiohttp.ClientSession() as http:
            for asked in ("shelf/*", "*"):
                status, body = await read(http, server, asked)
                assert status == 200
                slices = body["slices"]
                assert isinstance(slices, dict)
                assert {n for n in slices if "/" in n} == {f"shelf/{n}" for n in range(900)}
                assert slices["shelf/42"] == {"books": books_of(42, 100)}


async def test_a_stream_of_everything_knows_all_versions_without_a_value(tmp_path: Path) -> None:
    """More than a snapshot holds: such a stream can only continue."""
    path = tmp_path / "j.db"
    await filled(SqliteJournal(path), 1_200, BYTES)
    with serving(path) as server:
        before = resident(server)
        async with aiohttp.ClientSession() as http:
            _, body = await read(http, server, "catalogue")
            query = {"slices": "*", "after": str(body["position"])}
            async with http.get(f"{server.url}/stream/state", params=query) as stream:
                frame = (await stream.content.readuntil(b"\n\n")).decode()
                assert "event: state.resumed" in frame
                assert all(f'"shelf/{n}":' in frame for n in range(1_200))
                action = {"type": "shelf/added", "key": "7", "payload": {"book": "another"}}
                async with http.post(f"{server.url}/dispatch", json=action) as response:
                    assert response.status == 200
                update = (await stream.content.readuntil(b"\n\n")).decode()
                assert '"shelf/7"' in update
        assert resident(server) - before < 1_200 * BYTES


async def test_the_past_of_one_costs_as_much_as_one(tmp_path: Path) -> None:
    """Fifty times as many instances, and a request that takes as long: a scan would take far longer."""
    took = {}
    for count in (30, 1_500):
        path = tmp_path / f"{count}.db"
        await filled(SqliteJournal(path), count, BYTES)
        with serving(path) as server:
            async with aiohttp.ClientSession() as http:
                _, now = await read(http, server, "catalogue")
                began = time.perf_counter()
                for n in range(30):
                    status, body = await read(http, server, f"shelf/{n}", at=str(now["position"]))
                    assert (status, body["slices"]) == (200, {f"shelf/{n}": {"books": books_of(n, BYTES)}})
                took[count] = time.perf_counter() - began
    assert took[1_500] < 10 * took[30] + 1.0


async def test_a_change_of_another_node_to_what_is_away_reaches_its_readers(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    await filled(SqliteJournal(path), 50, 100)
    with serving(path) as one, serving(path) as other:
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{one.url}/stream/state", params={"slices": "shelf/7"}) as stream:
                assert "event: state.initial" in (await stream.content.readuntil(b"\n\n")).decode()
                action = {"type": "shelf/added", "key": "7", "payload": {"book": "another"}}
                async with http.post(f"{other.url}/dispatch", json=action) as response:
                    assert response.status == 200
                async with asyncio.timeout(60):
                    while "another" not in (await stream.content.readuntil(b"\n\n")).decode():
                        pass
            for server in (one, other):
                async with asyncio.timeout(60):
                    while (await read(http, server, "shelf/7"))[1]["slices"] != {
                        "shelf/7": {"books": [*books_of(7, 100), "another"]}
                    }:
                        await asyncio.sleep(0.01)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql", "redis"])
async def test_a_server_with_a_hundred_thousand_instances_and_a_million_changes(engine: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'j.db'}"
        if engine != "sqlite":
            database: Any = stack.enter_context(PostgreSQL() if engine == "postgresql" else RedisServer())
            url = database.url() if engine == "postgresql" else database.url
        await filled(from_url(url), 100_000, 1_000, times=10)
        began = time.perf_counter()
        with Server.serving(SHELVES, url) as server:
            took = time.perf_counter() - began
            async with aiohttp.ClientSession() as http:
                for n in range(0, 100_000, 333):
                    assert (await read(http, server, f"shelf/{n}"))[0] == 200
            print(f"{engine}: started in {took:.1f} s; {resident(server) >> 20} MiB with 300 of 100,000 in use")
            assert took < 60
            assert resident(server) < 300 << 20
