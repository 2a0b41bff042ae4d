"""A hidden slice does not exist for clients: not in a snapshot, a stream, a history, an answer or an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT, PlainClient, Server, dispatch, get_state

Http = aiohttp.ClientSession
VAULT = f"{ROOT / 'tests/apps/vault.py'}:store"
VOTE = {"who": "ann", "choice": "blue"}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Server]:
    with Server.serving(VAULT, journal=f"sqlite:///{tmp_path / 'vault.db'}") as server:
        yield server


async def test_no_snapshot_has_it_now_or_in_the_past(vault: Server, http: Http) -> None:
    status, answer = await dispatch(http, vault.url, "ballot/cast", VOTE)
    assert status == 200
    await dispatch(http, vault.url, "room/joined", {"name": "bo"}, key="1")
    for query in ("slices=*", f"slices=*&at={answer['position']}"):
        body = await get_state(http, vault.url, query)
        assert set(body["slices"]) - {"room/1"} == {"ballot"}, query
    assert set((await get_state(http, vault.url, ""))["slices"]) == {"ballot"}
    assert set((await get_state(http, vault.url, "slices=*"))["slices"]) == {"ballot", "room/1"}


async def test_naming_it_fails_as_if_it_were_not_declared(vault: Server, http: Http) -> None:
    await dispatch(http, vault.url, "ballot/cast", VOTE)
    for path in ("state", "history", "stream/state"):
        for hidden, absent in (("votes", "notes"), ("voter/ann", "other/ann"), ("voter/*", "other/*")):
            async with http.get(f"{vault.url}/{path}?slices={hidden}") as response:
                mine = response.status, (await response.text()).replace(hidden.partition("/")[0], "it")
            async with http.get(f"{vault.url}/{path}?slices={absent}") as response:
                assert mine == (response.status, (await response.text()).replace(absent.partition("/")[0], "it"))
            assert mine[0] == 404
            assert "vote" not in mine[1]
    status, _ = await dispatch(http, vault.url, "ballot/cast", VOTE, expect={"votes": 1})
    assert status == 404


async def test_no_answer_or_history_mentions_it(vault: Server, http: Http) -> None:
    _, answer = await dispatch(http, vault.url, "ballot/cast", VOTE, id="one")
    _, again = await dispatch(http, vault.url, "ballot/cast", VOTE, id="one")
    assert [change["slice"] for change in answer["changes"]] == ["ballot"] == [c["slice"] for c in again["changes"]]
    async with http.get(f"{vault.url}/history?slices=*&cause=full") as response:
        text = await response.text()
    assert "ballot" in text
    assert '"votes' not in text
    assert '"voter' not in text


async def test_no_stream_delivers_it(vault: Server, http: Http) -> None:
    with PlainClient(vault.port) as live:
        await dispatch(http, vault.url, "ballot/cast", VOTE)
        await dispatch(http, vault.url, "room/joined", {"name": "bo"}, key="1")
        live.read_until(lambda _: "room/1" in live.state)
        assert live.state == {"ballot": {"count": 1}, "room/1": {"members": ["bo"]}}
    with PlainClient(vault.port, "slices=*&after=earliest") as replayed:
        replayed.read_until(lambda _: "room/1" in replayed.state)
        assert replayed.state == live.state
