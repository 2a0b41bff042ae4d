"""Gradual actions from outside: what the journal keeps of their many small steps."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.support import ROOT, PlainClient, Server, dispatch
from tests.support.nursery import finished

Http = aiohttp.ClientSession
GROWING = f"{ROOT / 'tests/apps/growing.py'}:store"


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
        assert kept == [{}] * 6, "neither with the reply nor with the board"
    if journal == "sqlite":
        ran = finished("check", GROWING, "--journal", url)
        assert (ran.code, ran.out.splitlines()[1:]) == (0, ["It would write nothing."])
