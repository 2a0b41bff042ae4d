"""Gradual actions from outside: what the journal keeps of their many small steps, and what readers get of them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from statestream.journal.sqlite.repair import repair
from tests.support import ROOT, PlainClient, Server, dispatch, eventually, get_state
from tests.support.nursery import finished
from tests.support.standstill import stop_between_writes

Http = aiohttp.ClientSession
GROWING = f"{ROOT / 'tests/apps/growing.py'}:store"
KEY = "vWsVpnLVcPHtxdgb"
NAME = f"reply/{KEY}"
BEFORE, AFTER = 40, 16
WORDS = [f"w{index:05d} " for index in range(1_400)]


@pytest.mark.parametrize("journal", ["memory:", "sqlite"])
async def test_the_payload_of_a_gradual_action_is_not_kept(http: Http, tmp_path: Path, journal: str) -> None:
    url = f"sqlite:///{tmp_path / 'j.db'}" if journal == "sqlite" else journal
    with Server.serving(GROWING, url) as server:
        reader = PlainClient(server.port, query="slices=*&cause=full").connect()
        next(reader.frames())
        for index in range(3):
            await dispatch(http, server.url, "reply/grew", {"index": index, "text": f"word{index} "}, key="a")
        status, answer = await dispatch(http, server.url, "reply/done", {"title": "Three"}, key="a")
        assert status == 200
        frames = reader.read_until(lambda frame: frame.id == answer["position"])
        causes = {frame.data["cause"]["type"]: frame.data["cause"]["payload"] for frame in frames}
        assert (causes["reply/grew"], causes["reply/done"]) == ({}, {"title": "Three"})
        assert reader.state["reply/a"]["text"] == "word0 word1 word2 "
        reader.close()
        async with http.get(f"{server.url}/history?slices=*&cause=full") as response:
            lines = [orjson.loads(line) for line in (await response.read()).splitlines()]
        kept = [line["cause"]["payload"] for line in lines if line["cause"]["type"] == "reply/grew"]
        assert kept == [{}] * 4, "neither with the reply nor with the board"
    if journal == "sqlite":
        ran = finished("check", GROWING, "--journal", url)
        assert (ran.code, ran.out.splitlines()[1:]) == (0, ["It would write nothing."])


async def grow(http: Http, server: Server, words: list[str]) -> list[str]:
    """A reply, a word an action, fifty at a time. Returns the positions, the last of which is that of the end."""
    positions = []
    for begin in range(0, len(words), 50):
        payloads = [{"index": at, "text": words[at]} for at in range(begin, begin + 50)]
        positions.append(await together(http, server, [("reply/grew", KEY, payload) for payload in payloads]))
    return [*positions, await together(http, server, [("reply/done", KEY, {"title": "Done"})])]


async def reset(http: Http, server: Server, times: int) -> None:
    """So many changes of something else."""
    await together(http, server, [("board/reset", None, {"replies": at}) for at in range(times)])


async def together(http: Http, server: Server, actions: list[tuple[str, str | None, Any]]) -> str:
    body = {"actions": [{"type": type, "key": key, "payload": payload} for type, key, payload in actions]}
    async with http.post(f"{server.url}/dispatch", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
        position: str = answer["position"]
        return position


async def lines_of(http: Http, server: Server, query: str) -> list[Any]:
    async with http.get(f"{server.url}/history?{query}") as response:
        assert response.status == 200
        return [orjson.loads(line) for line in (await response.read()).splitlines()]


async def folded(http: Http, server: Server, left: int = 2) -> None:
    """Returns once so many steps are left: one of each reply, and the first of all, which has created the instance."""

    async def is_folded() -> bool:
        lines = await lines_of(http, server, f"slices={NAME}")
        return sum(line["cause"]["type"] == "reply/grew" for line in lines) == left

    await eventually(is_folded)


def reader_at(server: Server, position: str) -> PlainClient:
    """A reader that followed the reply up to a position, and then lost its connection."""
    reader = PlainClient(server.port, query=f"slices={NAME}").connect()
    reader.read_to(position)
    reader.close()
    return reader


async def check_readers(http: Http, server: Server, readers: dict[str, PlainClient], *reasons: str) -> None:
    """Each of them resumes, and gets to the end, with the whole state for one of these reasons at most."""
    now = await get_state(http, server.url, f"slices={NAME}")
    for place, gone in readers.items():
        reader = PlainClient(server.port, query=f"slices={NAME}")
        reader.state, reader.versions, reader.last_id = dict(gone.state), dict(gone.versions), gone.last_id
        frames = reader.connect().read_until(lambda _, reader=reader: reader.versions == now["versions"])
        reader.close()
        assert reader.state == now["slices"], place
        assert set(reader.reasons) <= set(reasons), place
        assert len(frames) <= (1 if place == "after" else 4), "not a frame for each step"
    fresh = PlainClient(server.port, query=f"slices={NAME}&after=earliest").connect()
    fresh.read_until(lambda _: fresh.versions == now["versions"])
    fresh.close()
    assert fresh.state == now["slices"]


@pytest.mark.slow
async def test_readers_resume_from_anywhere_around_what_was_folded(http: Http, tmp_path: Path) -> None:
    with Server.serving(GROWING, env={"FOLDED": str(tmp_path / "j.db")}) as server:
        await dispatch(http, server.url, "board/reset", {"replies": 7})
        early = reader_at(server, (await get_state(http, server.url))["position"])
        inside = PlainClient(server.port, query=f"slices={NAME}").connect()
        positions = await grow(http, server, WORDS[:600])
        inside.read_to(positions[5])
        inside.close()
        assert len(inside.state[NAME]["chunks"]) == 300
        readers = {"before": early, "inside": inside, "after": reader_at(server, positions[-1])}
        await check_readers(http, server, readers, "lagged")
        server.stop()
        server.start()
        await folded(http, server)
        await check_readers(http, server, readers, "lagged")  # from memory, which has all steps
        server.stop()
        server.start()
        await check_readers(http, server, readers)  # from memory, which has what the start has read
        for _ in range(2):
            await reset(http, server, 999)
        server.stop()
        server.start()
        await check_readers(http, server, readers)  # from the journal
        every = PlainClient(server.port, query=f"slices={NAME}&after=earliest")
        every.connect(cursor=inside.last_id).read_to(positions[-1])
        every.close()
        assert (every.reasons, every.state) == (["expired"], readers["after"].state)
        state = await get_state(http, server.url, f"slices={NAME}&at={positions[5]}")
        assert len(state["slices"][NAME]["chunks"]) <= 300
        lines = await lines_of(http, server, f"slices={NAME}&after={positions[5]}")
        kept = [(line["from"], line["version"], line["cause"]["type"]) for line in lines]
        version, last = inside.versions[NAME], int(positions[-1].partition(".")[0])
        assert kept == [(version, last - 1, "reply/grew"), (last - 1, last, "reply/done")]


def used(path: Path) -> int:
    """The bytes of a journal, without free pages."""
    with sqlite3.connect(path) as sql:
        pages, free, size = (
            sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    sql.close()
    return (pages - free) * size


async def test_a_reply_takes_a_bounded_multiple_of_its_text(http: Http, tmp_path: Path) -> None:
    """The bounds are those of the page on running a server."""
    path = tmp_path / "j.db"
    with Server.serving(GROWING, env={"FOLDED": str(path)}) as server:
        server.stop()
        empty = used(path)
        server.start()
        await grow(http, server, WORDS)
        server.stop()
        size = len("".join(WORDS))
        assert (used(path) - empty) / size < BEFORE
        server.start()
        await eventually(lambda: (used(path) - empty) / size < AFTER)
        await folded(http, server)


@pytest.mark.slow
async def test_a_kill_while_folding_loses_nothing(http: Http, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    path = tmp_path / "j.db"
    with Server.serving(GROWING, env={"FOLDED": str(path)}) as server:
        early = reader_at(server, (await get_state(http, server.url))["position"])
        await grow(http, server, WORDS)
        server.stop()  # which makes a checkpoint
        for _ in range(8):
            server.start()
            await asyncio.sleep(chance.random() * 0.2)  # the moment of the kill, which is what the test varies
            server.kill()
            assert repair(path).copies == (), "the journal is whole"
        server.start()
        await folded(http, server)
        await check_readers(http, server, {"before": early}, "lagged")
        assert (await get_state(http, server.url))["slices"][NAME]["text"] == "".join(WORDS)


@pytest.mark.slow
async def test_a_node_that_was_frozen_while_others_folded_starts_over(http: Http, tmp_path: Path) -> None:
    files = {"FOLDED": str(tmp_path / "j.db")}
    with Server.serving(GROWING, env=files) as one, Server.serving(GROWING, env=files) as other:
        reader = PlainClient(other.port, query=f"slices={NAME}").connect()
        positions = await grow(http, one, WORDS[:100])
        reader.read_to(positions[-1])
        stop_between_writes(other.pid, tmp_path / "j.db")
        try:
            await together(http, one, [("reply/grew", KEY, {"index": at, "text": WORDS[at]}) for at in range(300)])
            end = await together(http, one, [("reply/done", KEY, {"title": "Again"})])
            await reset(http, one, 999)  # so that there is a checkpoint
            await folded(http, one, 3)
        finally:
            os.kill(other.pid, signal.SIGCONT)
        reader.read_to(end)
        assert reader.state[NAME] == {"title": "Again", "text": "".join(WORDS[:300]), "chunks": []}
        assert reader.reasons == ["start", "expired"]
        reader.close()
