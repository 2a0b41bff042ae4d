"""Presence of many people, and of people in chats that do not exist."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import aiohttp
import pytest

from tests.support import ROOT, PlainClient, Server, get_state
from tests.support.chats import new_chat

Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.serving(f"{ROOT / 'tests/apps/crowded.py'}:app", env={"CROWDED_INSTANCES": "10"}) as server:
        yield server


def people(client: PlainClient, name: str) -> set[str]:
    return set(client.state.get(name, {"people": {}})["people"])


async def test_nobody_is_present_in_a_chat_that_does_not_exist(server: Server, http: Http) -> None:
    chat = await new_chat(http, server)
    names = ["presence/made-up", f"presence/{chat}"]
    with PlainClient(server.port, f"slices={','.join(names)}&user=ana") as client:
        await asyncio.to_thread(client.read_until, lambda _: people(client, names[1]) == {"ana"})
        assert (await get_state(http, server.url, "slices=presence/*"))["slices"].keys() == {names[1]}


async def test_who_was_there_before_the_chat_is_present_once_it_exists(server: Server, http: Http) -> None:
    with PlainClient(server.port, "slices=presence/later&user=ana") as client:
        body = {"id": "later", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
        async with http.post(f"{server.url}/api/chat", json=body) as response:
            assert response.status == 200, await response.text()
        await asyncio.to_thread(client.read_until, lambda _: people(client, "presence/later") == {"ana"})


async def test_of_a_crowd_some_are_listed_and_the_others_counted(server: Server, http: Http) -> None:
    """Everybody who follows a presence is sent its list, so a list of everybody would cost the square of the crowd."""
    chat = await new_chat(http, server)
    name, crowd = f"presence/{chat}", [f"p{number}" for number in range(400)]
    clients = {user: PlainClient(server.port, f"slices={name}&user={user}") for user in crowd}
    with PlainClient(server.port, f"slices={name}&cause=full") as looking:

        def counts() -> tuple[int, int]:
            others = looking.state.get(name, {}).get("others", {})
            return len(people(looking, name)), sum(others.values())

        for client in clients.values():
            client.dial()
            client.ask()
        frames = await asyncio.to_thread(looking.read_until, lambda _: counts() == (250, 150))
        reports = [frame.data["cause"]["payload"]["people"] for frame in frames if "cause" in frame.data]
        assert max(map(len, reports)) <= 250, json.dumps([len(report) for report in reports])
        shy = next(user for user in crowd if user not in people(looking, name))
        async with http.post(f"{server.url}/api/chats/{chat}/typing?user={shy}", json={}) as response:
            assert response.status == 200, await response.text()
        await asyncio.to_thread(looking.read_until, lambda _: shy in people(looking, name))
        assert counts() == (250, 150)
        for user in [*people(looking, name)][:200]:
            clients[user].close()
        await asyncio.to_thread(looking.read_until, lambda _: counts() == (200, 0))
        assert "others" not in looking.state[name]
    for client in clients.values():
        client.close()


@pytest.mark.parametrize(
    ("header", "value"), [("Origin", "http://127.0.0.9"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
)
async def test_a_page_of_another_site_makes_nobody_present(header: str, value: str, server: Server, http: Http) -> None:
    chat = await new_chat(http, server)
    name = f"presence/{chat}"
    foreign = PlainClient(server.port, f"slices={name}&user=mal")
    foreign.dial()
    foreign.ask(value, header)
    foreign.answered()
    with PlainClient(server.port, f"slices={name}&user=ana") as client:
        await asyncio.to_thread(client.read_until, lambda _: bool(people(client, name)))
        assert people(client, name) == {"ana"}
    foreign.close()
