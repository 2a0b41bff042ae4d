"""Each limit of a retention applies independently in a running server, and no jump of its clock deletes anything."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from tests.support import ROOT, Server, dispatch, eventually, get_state, moved_clock, postgresql, redis_journals

Http = aiohttp.ClientSession
KEPT = f"{ROOT / 'tests/apps/kept.py'}:store"
DAY = 24 * 3600
journals = pytest.mark.parametrize("journal", ["memory", "sqlite", "postgresql", "redis"])

pytestmark = pytest.mark.slow  # the tests wait for trims, some of them for seconds


def teardown_module() -> None:
    redis_journals.remove_shared()


def serving(tmp_path: Path, journal: str, **retention: Any) -> Server:
    """With a retention; without one the journal's own."""
    env = {"AHEAD": str(tmp_path / "ahead")}
    (tmp_path / "ahead").write_text("0")
    if journal == "sqlite":
        env["JOURNAL"] = str(tmp_path / "j.db")
    if journal == "postgresql":
        env["JOURNAL"] = postgresql.shared().new_url()
    if journal == "redis":
        env["JOURNAL"] = f"{redis_journals.shared().url}?namespace={tmp_path.name}"
    if retention:
        env["RETENTION"] = orjson.dumps(retention).decode()
    return Server.serving(KEPT, env=env)


async def counted(http: Http, server: Server, id: str) -> bool:
    """Dispatches with an id; whether that was a repeat."""
    status, body = await dispatch(http, server.url, "board/counted", id=id)
    assert status == 200, body
    return bool(body["duplicate"])


async def filled(http: Http, server: Server, *, times: int, size: int) -> None:
    for number in range(times):
        status, body = await dispatch(http, server.url, "board/filled", {"size": size + number})
        assert status == 200, body


async def kept(http: Http, server: Server) -> list[Any]:
    """The changes of the whole history."""
    while True:
        try:
            async with http.get(f"{server.url}/history?cause=full") as response:
                if response.status == 200:
                    return [orjson.loads(line) async for line in response.content]
                assert response.status == 410, await response.text()
        except aiohttp.ClientError:
            continue  # it was trimmed while it was read


def size_of(changes: list[Any]) -> int:
    return sum(len(orjson.dumps(change)) for change in changes)


def files(tmp_path: Path) -> int:
    """What the journal takes on the disk."""
    return sum(path.stat().st_size for path in tmp_path.glob("j.db*"))


@journals
async def test_old_changes_are_trimmed_from_a_quiet_store(tmp_path: Path, http: Http, journal: str) -> None:
    with serving(tmp_path, journal, age=1) as server:
        for id in ("a", "b"):
            assert not await counted(http, server, id)
        assert await kept(http, server)
        await eventually(lambda: nothing_kept(http, server))
        state = await get_state(http, server.url)
        assert state["slices"]["board"]["count"] == 2
        assert not await counted(http, server, "c")
        assert [change["slice"] for change in await kept(http, server)] == ["board", "counter"]
        assert await counted(http, server, "a"), "ids are remembered for longer"


async def nothing_kept(http: Http, server: Server) -> bool:
    return not await kept(http, server)


@journals
async def test_large_changes_are_trimmed_by_their_size(tmp_path: Path, http: Http, journal: str) -> None:
    limit, size = 1 << 20, 100_000
    with serving(tmp_path, journal, bytes=limit) as server:
        await filled(http, server, times=30, size=size)

        async def within() -> bool:
            return size < size_of(await kept(http, server)) <= limit + 2 * size

        await eventually(within)
        if journal == "sqlite":
            await eventually(lambda: files(tmp_path) < 8 * limit)


@journals
async def test_many_changes_are_trimmed_by_their_number(tmp_path: Path, http: Http, journal: str) -> None:
    with serving(tmp_path, journal, changes=40) as server:
        for number in range(60):
            await counted(http, server, str(number))

        async def within() -> bool:
            return 40 <= len(await kept(http, server)) <= 50

        await eventually(within)


@journals
async def test_ids_are_forgotten_by_their_size(tmp_path: Path, http: Http, journal: str) -> None:
    with serving(tmp_path, journal, id_bytes=10_000) as server:
        for number in range(60):
            await counted(http, server, f"id-{number}")
        for number in range(55, 60):
            assert await counted(http, server, f"id-{number}")
        assert not await counted(http, server, "id-0")
        assert len(await kept(http, server)) > 100, "the history has bounds of its own"


async def test_the_disk_gets_space_back_when_less_is_to_be_kept(tmp_path: Path, http: Http) -> None:
    with serving(tmp_path, "sqlite") as server:
        await filled(http, server, times=200, size=100_000)
        state = await get_state(http, server.url)
    assert files(tmp_path) > 20_000_000
    with serving(tmp_path, "sqlite", bytes=1 << 20) as server:
        await eventually(lambda: files(tmp_path) < 5_000_000)
        assert await get_state(http, server.url) == state


async def test_a_file_from_before_gives_space_back_as_well(tmp_path: Path, http: Http) -> None:
    with serving(tmp_path, "sqlite") as server:
        await filled(http, server, times=100, size=100_000)
        assert not await counted(http, server, "once")
    with sqlite3.connect(tmp_path / "j.db", isolation_level=None) as db:
        db.execute("DROP TABLE clock")
        db.execute("PRAGMA auto_vacuum = NONE")
        db.execute("VACUUM")
    db.close()
    assert files(tmp_path) > 10_000_000
    with serving(tmp_path, "sqlite", bytes=1 << 20) as server:
        await eventually(lambda: files(tmp_path) < 5_000_000)
        assert await counted(http, server, "once")


async def test_a_journal_in_memory_keeps_what_it_says(tmp_path: Path, http: Http) -> None:
    with serving(tmp_path, "memory") as server:
        before = server.resident()
        await filled(http, server, times=2_500, size=100_000)
        assert server.resident() - before < 150_000_000, (
            "64 MiB of history, and 16 MiB of it for clients that return soon"
        )


@journals
async def test_a_jump_of_the_clock_forgets_no_id(tmp_path: Path, http: Http, journal: str) -> None:
    with serving(tmp_path, journal) as server:
        assert not await counted(http, server, "once")
        for seconds in (25 * 3600, -25 * 3600, 0):
            moved_clock.move(tmp_path / "ahead", seconds)
            assert not await counted(http, server, f"at {seconds}".replace(" ", "-"))
            assert await counted(http, server, "once"), seconds
        state = await get_state(http, server.url)
        assert state["slices"]["board"]["count"] == 4


async def test_a_restart_under_a_wrong_clock_forgets_no_id(tmp_path: Path, http: Http) -> None:
    with serving(tmp_path, "sqlite") as server:
        assert not await counted(http, server, "once")
        for number, seconds in enumerate((1000 * DAY, -1000 * DAY)):
            moved_clock.move(tmp_path / "ahead", seconds)
            (server.kill if number % 2 else server.stop)()
            server.start()
            assert not await counted(http, server, f"after-{number}")
            assert await counted(http, server, "once"), seconds
        assert len(await kept(http, server)) >= 6, "no history was forgotten either"
