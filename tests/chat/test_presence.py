"""Presence: who is in a chat, on one server and on several, whatever happens to their streams.

The one who looks owns the chat, and is in it as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from tests.support import PlainClient, Server, eventually, get_state
from tests.support.chats import ask, chatty, ended, invite, new_chat, read_until, received, text_of, user
from tests.support.provider import asked, script
from tests.support.standstill import stop_between_writes

Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def server(upstream: str) -> Iterator[Server]:
    with chatty(upstream, auth="yes") as server:
        yield server


@pytest.fixture
def pair(upstream: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers on one journal."""
    journal = f"sqlite:///{tmp_path / 'journal.db'}"
    with ExitStack() as stack:
        yield tuple(stack.enter_context(chatty(upstream, journal=journal, auth="yes")) for _ in range(2))  # type: ignore[misc]


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    """The one who looks."""
    connector, patience = aiohttp.TCPConnector(force_close=True), aiohttp.ClientTimeout(sock_read=20)
    headers = {"Authorization": "Bearer owner"}
    async with aiohttp.ClientSession(connector=connector, timeout=patience, headers=headers) as session:
        yield session


async def send(http: Http, server: Server, path: str, who: str, body: Any = None) -> Any:
    headers = {"Authorization": f"Bearer {who}"}
    async with http.post(f"{server.url}{path}", json=body, headers=headers) as response:
        return response.status, await response.json()


async def chat_of(http: Http, server: Server, *names: str) -> str:
    """A new chat, to which these people are invited."""
    chat = await new_chat(http, server)
    for name in names:
        assert await invite(http, server, chat, name) == 200
    return chat


class Tab:
    """A tab of a person: a stream that follows a chat's presence. The owner looks."""

    def __init__(self, server: Server, chat: str, who: str = "owner") -> None:
        self.name = f"presence/{chat}"
        self.client = PlainClient(server.port, f"slices={self.name}", token=who).connect(timeout=60)
        self.frames = [next(self.client.frames())]

    @property
    def people(self) -> dict[str, Any]:
        people = self.client.state.get(self.name, {"people": {}})["people"]
        return {name: entry for name, entry in people.items() if name != "owner"}

    async def until(self, *names: str, typing: str = "") -> None:
        """Reads until these people are there, and only those of them type that are named."""

        def so() -> bool:
            types = {name for name, entry in self.people.items() if entry["typing"]}
            return set(self.people) == set(names) and types == set(typing.split())

        if not so():
            self.frames += await asyncio.wait_for(asyncio.to_thread(self.client.read_until, lambda _: so()), 60)

    def close(self) -> None:
        self.client.close()


async def test_who_holds_a_stream_open_is_there_and_tabs_count_once(server: Server, http: Http) -> None:
    chat = await chat_of(http, server, "ana", "bo", "cy")
    looking = Tab(server, chat)
    first, second, other = (Tab(server, chat, who) for who in ("ana", "ana", "bo"))
    await looking.until("ana", "bo")
    first.close()
    third = Tab(server, chat, "cy")
    await looking.until("ana", "bo", "cy")
    other.close()
    await looking.until("ana", "cy")
    second.close()
    third.close()
    await looking.until()
    looking.close()

    async def gone() -> bool:
        return bool((await get_state(http, server.url, f"slices=presence/{chat}"))["slices"] == {})

    await eventually(gone)


async def test_typing_is_seen_and_ends_when_it_is_said_or_the_tab_closes(server: Server, http: Http) -> None:
    chat = await chat_of(http, server, "ana", "bo")
    looking, ana, bo = Tab(server, chat), Tab(server, chat, "ana"), Tab(server, chat, "bo")
    await looking.until("ana", "bo")
    assert (await send(http, server, f"/api/chats/{chat}/typing", "ana", {}))[0] == 200
    await looking.until("ana", "bo", typing="ana")
    assert (await send(http, server, f"/api/chats/{chat}/typing", "ana", {"typing": False}))[0] == 200
    assert (await send(http, server, f"/api/chats/{chat}/typing", "bo", {"typing": True}))[0] == 200
    assert (await send(http, server, f"/api/chats/{chat}/typing", "cy", {"typing": True}))[0] == 404, "has no stream"
    assert (await send(http, server, f"/api/chats/{chat}/typing", "ana", {"typing": "yes"}))[0] == 400
    await looking.until("ana", "bo", typing="bo")
    await looking.until("ana", "bo")  # nothing more was said: after a while it is over
    for tab in (looking, ana, bo):
        tab.close()


async def test_a_crowd_that_comes_and_goes_costs_an_action_a_second(server: Server, http: Http) -> None:
    crowd = [f"p{number}" for number in range(40)]
    chat = await chat_of(http, server, "stays", *crowd)
    looking = Tab(server, chat)
    stay = Tab(server, chat, "stays")
    for who in crowd:
        tab = await asyncio.to_thread(Tab, server, chat, who)
        tab.close()
    tabs = [await asyncio.to_thread(Tab, server, chat, who) for who in crowd]
    await looking.until("stays", *crowd)
    for tab in tabs:
        tab.close()
    await looking.until("stays")
    times = [frame.data["timestamp"] for frame in looking.frames if frame.event == "state.update"]
    assert all(later - earlier >= 990 for earlier, later in pairwise(times)), times
    for tab in (looking, stay):
        tab.close()


async def test_a_crowd_at_two_servers_costs_an_action_a_second_too(pair: tuple[Server, Server], http: Http) -> None:
    crowd = [f"p{number}" for number in range(30)]
    chat = await chat_of(http, pair[0], "stays", *crowd)
    looking = Tab(pair[0], chat)
    stay = Tab(pair[1], chat, "stays")
    for number, who in enumerate(crowd):
        tab = await asyncio.to_thread(Tab, pair[number % 2], chat, who)
        await asyncio.sleep(0.1)  # they come over three seconds
        tab.close()
    await looking.until("stays")
    tabs = [await asyncio.to_thread(Tab, pair[number % 2], chat, who) for number, who in enumerate(crowd)]
    await looking.until("stays", *crowd)
    times = [frame.data["timestamp"] for frame in looking.frames if frame.event == "state.update"]
    assert len(times) > 3
    assert all(later - earlier >= 990 for earlier, later in pairwise(times)), times
    for tab in (looking, stay, *tabs):
        tab.close()


async def test_who_follows_a_chat_in_ag_ui_is_there(server: Server, http: Http) -> None:
    chat = await chat_of(http, server, "ana", "bo")
    looking = Tab(server, chat)
    body = {"threadId": chat, "runId": "r1", "messages": []}
    ana, bo = ({"Authorization": f"Bearer {who}"} for who in ("ana", "bo"))
    following = await http.post(f"{server.url}/ag-ui?follow=1", json=body, headers=ana)
    once = await http.post(f"{server.url}/ag-ui", json=body, headers=bo)
    await looking.until("ana")
    assert "RUN_FINISHED" in (await received(once)).text
    following.close()
    await looking.until()
    looking.close()


async def test_who_follows_a_chat_over_a_websocket_is_there_until_it_closes(server: Server, http: Http) -> None:
    here, there = await chat_of(http, server, "ana", "bo"), await chat_of(http, server, "ana", "bo")
    looking, beside = Tab(server, here), Tab(server, there)
    ana, bo = ({"Authorization": f"Bearer {who}"} for who in ("ana", "bo"))
    first = await http.ws_connect(f"{server.url}/ws?session_id={here}&session_id={there}", headers=ana)
    second = await http.ws_connect(f"{server.url}/ws", headers=bo)
    await second.send_json({"type": "message", "content": " ", "session_id": here})
    await looking.until("ana", "bo")
    await beside.until("ana")
    await first.close()
    await looking.until("bo")
    await beside.until()
    await second.close()
    await looking.until()
    for tab in (looking, beside):
        tab.close()


async def test_people_of_a_killed_server_are_gone_after_its_lease(pair: tuple[Server, Server], http: Http) -> None:
    here, there = pair
    chat = await chat_of(http, here, "ana", "bo")
    looking, both = Tab(there, chat), [Tab(here, chat, "ana"), Tab(there, chat, "ana")]
    bo = Tab(here, chat, "bo")
    await looking.until("ana", "bo")
    await asyncio.to_thread(here.kill)
    await looking.until("ana")
    for tab in (looking, bo, *both):
        tab.close()


async def test_a_server_that_is_told_to_stop_takes_its_people_with_it(
    upstream: str, http: Http, tmp_path: Path
) -> None:
    server = chatty(upstream, journal=f"sqlite:///{tmp_path / 'journal.db'}", auth="yes").start()
    chat = await chat_of(http, server, "ana")
    ana, looking = Tab(server, chat, "ana"), Tab(server, chat)
    await looking.until("ana")
    assert await asyncio.to_thread(server.stop) == ""
    with server:
        assert (await get_state(http, server.url, "slices=presence/*"))["slices"] == {}
    for tab in (ana, looking):
        tab.close()


async def test_a_name_that_is_no_name_is_refused_before_the_stream(server: Server, http: Http) -> None:
    names = ",".join(f"presence/{number}" for number in range(21))
    for who, slices in (("\u202eana", "presence/1"), ("x" * 65, "presence/1"), ("ana", names)):
        headers = {"Authorization": f"Bearer {quote(who)}"}
        async with http.get(f"{server.url}/stream/state?slices={slices}", headers=headers) as response:
            assert response.status == 400
            assert (await response.json())["code"] == "malformed"
    async with http.post(f"{server.url}/api/chats", headers={"Authorization": f"Bearer {quote(chr(0x202E))}"}) as made:
        assert (made.status, (await made.json())["code"]) == (400, "malformed")


async def test_a_person_is_called_by_their_name(server: Server, upstream: str, http: Http) -> None:
    who = {"Authorization": f"Bearer {quote('Jürgen M')}"}
    question = await script(http, upstream, "Who asks?", {"say": "You."}, {"finish": "stop"})
    parts = [{"type": "text", "text": question}]
    body = {"id": "named by ana", "messages": [{"id": "u1", "role": "user", "parts": parts}]}
    async with http.post(f"{server.url}/api/chat", json=body, headers=who) as response:
        assert response.status == 200
        await response.read()
    async with http.get(f"{server.url}/api/chats/named%20by%20ana", headers=who) as response:
        chat = await response.json()
    assert (chat["id"], chat["messages"][0]["author"]) == ("named by ana", "Jürgen M")
    async with http.get(f"{server.url}/state?slices=chats/J%25C3%25BCrgen%2520M", headers=who) as response:
        listed = await response.json()
    assert list(listed["slices"]["chats/J%C3%BCrgen%20M"]["chats"]) == ["named%20by%20ana"]
    async with http.get(f"{server.url}/api/chats/named%20by%20ana/participants", headers=who) as response:
        assert await response.json() == {"owner": "Jürgen M", "participants": []}


async def test_nobody_is_present_in_a_chat_that_does_not_exist(server: Server, http: Http) -> None:
    chat = await chat_of(http, server)
    names = ["presence/made-up", f"presence/{chat}"]
    with PlainClient(server.port, f"slices={','.join(names)}", token="owner") as client:
        await asyncio.to_thread(client.read_until, lambda _: names[1] in client.state)
        assert (await get_state(http, server.url, f"slices={','.join(names)}"))["slices"].keys() == {names[1]}


async def test_who_was_there_before_the_chat_is_present_once_it_exists(server: Server, http: Http) -> None:
    with PlainClient(server.port, "slices=presence/later", token="owner") as client:
        body = {"id": "later", "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
        async with http.post(f"{server.url}/api/chat", json=body) as response:
            assert response.status == 200, await response.text()
        await asyncio.to_thread(client.read_until, lambda _: "presence/later" in client.state)


@pytest.mark.parametrize(
    ("header", "value"), [("Origin", "http://127.0.0.9"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
)
async def test_a_page_of_another_site_makes_nobody_present(header: str, value: str, server: Server, http: Http) -> None:
    chat = await chat_of(http, server, "mal", "ana")
    name = f"presence/{chat}"
    foreign = PlainClient(server.port, f"slices={name}", token="mal")
    foreign.dial()
    foreign.ask(value, header)
    foreign.answered()
    looking = Tab(server, chat)
    with PlainClient(server.port, f"slices={name}", token="ana"):
        await looking.until("ana")
    foreign.close()
    looking.close()


async def test_a_server_that_slept_longer_than_its_lease_notices_and_goes_on(
    pair: tuple[Server, Server], upstream: str, http: Http, tmp_path: Path
) -> None:
    here, there = pair
    chat = await chat_of(http, here, "ana")
    looking, ana = Tab(there, chat), Tab(here, chat, "ana")
    await looking.until("ana")
    question = await script(http, upstream, "Sleep.", {"say": "So far"}, {"wait": "never"})
    response = await http.post(f"{here.url}/api/chats/{chat}/stream", json=user(question))
    await read_until(response, "So far")
    stop_between_writes(here.pid, tmp_path / "journal.db")
    try:
        message = await ended(http, there, chat)
        await looking.until()
    finally:
        os.kill(here.pid, signal.SIGCONT)
    assert (message["error"]["kind"], text_of(message)) == ("interrupted", "So far")
    await looking.until("ana")

    async def gone() -> bool:
        return bool((await asked(http, upstream, question))[0]["ended"] == "gone")

    await eventually(gone)
    assert (await received(response)).cut
    assert (
        await ask(http, here, chat, await script(http, upstream, "Awake?", {"say": "Yes."}, {"finish": "stop"}))
    ).text == "Yes."
    for tab in (looking, ana):
        tab.close()
