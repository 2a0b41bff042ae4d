"""Long polls from outside: their answers, put together, are the stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream.client.replica import Replica
from statestream.protocol.sse import Decoder, Event
from tests.support import ROOT, Server, dispatch, eventually, get_state

QUICK = f"{ROOT / 'tests/apps/quick.py'}:app"
GUARDED = f"{ROOT / 'tests/apps/guarded.py'}:app"
Http = aiohttp.ClientSession


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[Server]:
    """Little history, on SQLite, with a heartbeat of 400 ms."""
    with Server.serving(QUICK, env={"JOURNAL": str(tmp_path / "j.db"), "HEARTBEAT": "0.4"}) as running:
        yield running


class Poller:
    """A client that holds a state by polling alone."""

    def __init__(self, http: Http, url: str, slices: str, **headers: str) -> None:
        self.http, self.url, self.slices, self.headers = http, url, slices, headers
        self.replica = Replica()
        self.answer: aiohttp.ClientResponse

    async def poll(self, **query: str) -> list[Event]:
        """One request. Its answer has a length, and nothing but whole events."""
        query = {"slices": self.slices, "live": "long-poll", **query}
        if self.replica.position is not None:
            query.setdefault("after", self.replica.position)
        url = f"{self.url}/stream/state"
        async with self.http.get(url, params=query, headers=self.headers) as self.answer:
            body = await self.answer.read()
        assert self.answer.status == 200, body
        assert self.answer.content_length == len(body)
        decoder = Decoder(last_id=self.replica.position or "")
        events = decoder.feed(body)
        assert body.endswith(b"\n\n")
        for event in events:
            self.replica.apply(event)
        return events


def kinds(events: list[Event]) -> list[str]:
    return [event.event for event in events]


async def test_the_first_answer_is_the_state_and_the_next_what_has_changed(server: Server, http: Http) -> None:
    poller = Poller(http, server.url, "board,room/*")
    assert kinds(await poller.poll()) == ["state.initial"]
    waiting = asyncio.create_task(poller.poll())
    await eventually(lambda: subscribers(http, server, 1))
    await dispatch(http, server.url, "board/task_added", {"id": "1", "title": "one"})
    assert kinds(await waiting) == ["state.resumed", "state.update"]
    await dispatch(http, server.url, "board/task_added", {"id": "2", "title": "two"})
    await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="1")
    assert kinds(await poller.poll())[0] == "state.resumed"
    assert poller.replica.state == (await get_state(http, server.url, "slices=board,room/*"))["slices"]
    await eventually(lambda: subscribers(http, server, 0))


async def subscribers(http: Http, server: Server, number: int) -> bool:
    async with http.get(f"{server.url}/metrics") as response:
        return f"statestream_subscribers {number}.0\n" in await response.text()


async def test_a_quiet_poll_ends_with_a_heartbeat_and_is_kept_by_nobody(quick: Server, http: Http) -> None:
    poller = Poller(http, quick.url, "board")
    await poller.poll()
    assert poller.answer.headers["Cache-Control"] == "public, max-age=1"
    assert kinds(await poller.poll()) == ["state.resumed", "heartbeat"]
    assert poller.answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("query", ["", "&live=long-poll"])
async def test_a_server_with_a_login_says_that_the_stream_depends_on_it(server: Server, http: Http, query: str) -> None:
    async with http.get(f"{server.url}/stream/state?slices=counter{query}") as response:
        assert (response.status, response.headers.get("Vary")) == (200, None)
    with Server.serving(GUARDED) as guarded:
        headers = {"Authorization": "Bearer ada"}
        async with http.get(f"{guarded.url}/stream/state?slices=notice{query}", headers=headers) as response:
            assert (response.status, response.headers["Vary"]) == (200, "Authorization, Cookie, Proxy-Authorization")


async def test_the_url_alone_decides_what_the_answer_is(server: Server, http: Http) -> None:
    """A cache does not know the header."""
    poller = Poller(http, server.url, "counter")
    await poller.poll()
    await dispatch(http, server.url, "counter/added", {"by": 1})
    poller.headers = {"Last-Event-ID": (await get_state(http, server.url))["position"]}
    assert kinds(await poller.poll()) == ["state.resumed", "state.update"]


@pytest.mark.parametrize("query", ["live=websocket", "live=long-poll&after=earliest", "live="])
async def test_what_cannot_be_polled_is_refused(server: Server, http: Http, query: str) -> None:
    async with http.get(f"{server.url}/stream/state?{query}") as response:
        assert (response.status, (await response.json())["code"]) == (400, "malformed")


async def test_a_cursor_from_before_the_history_begins_again(quick: Server, http: Http) -> None:
    poller = Poller(http, quick.url, "counter")
    await poller.poll()
    for _ in range(60):
        await dispatch(http, quick.url, "counter/added", {"by": 1})
    quick.stop()
    quick.start()
    (begun,) = await poller.poll()
    assert json.loads(begun.data)["reason"] == "expired"
    assert poller.replica.state == (await get_state(http, quick.url, "slices=counter"))["slices"]


async def test_a_poll_is_answered_when_the_server_stops(server: Server, http: Http) -> None:
    poller = Poller(http, server.url, "board")
    await poller.poll()
    waiting = asyncio.create_task(poller.poll())
    await eventually(lambda: subscribers(http, server, 1))
    await asyncio.to_thread(server.stop)
    assert kinds(await waiting) == ["state.resumed", "stream.end"]


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer ada"}], ids=["nobody", "ada"])
async def test_what_not_everybody_may_read_is_in_no_cache(http: Http, headers: dict[str, str]) -> None:
    with Server.serving(GUARDED) as server:
        poller = Poller(http, server.url, "notice,log", **headers)
        assert kinds(await poller.poll()) == ["state.initial"]
        assert poller.answer.headers["Cache-Control"] == "no-store"
        assert "notice" in poller.replica.state


@pytest.mark.parametrize(
    ("person", "slices"), [("ada", "room/*,log"), ("ada", "inbox/ada"), ("ada:viewer", "people"), ("ada:chief", "*")]
)
async def test_a_poll_waits_whatever_decides_what_may_be_read(http: Http, person: str, slices: str) -> None:
    """Of a reader who sees what rules and views show, and whom a change does not concern."""
    with Server.serving(GUARDED) as server:
        poller = Poller(http, server.url, slices, Authorization=f"Bearer {person}")
        assert kinds(await poller.poll()) == ["state.initial"]
        assert kinds(await poller.poll()) == ["state.resumed", "heartbeat"]
        async with aiohttp.ClientSession(headers={"Authorization": "Bearer ben"}) as ben:
            said = await dispatch(ben, server.url, "inbox/sent", {"text": "for somebody else"}, key="ben")
        assert kinds(await poller.poll()) == ["state.resumed", "heartbeat"]
        assert poller.replica.position == said[1]["position"]


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "Proxy-Authorization"])
async def test_what_somebody_with_credentials_is_sent_is_in_no_cache(server: Server, http: Http, name: str) -> None:
    """The server does not know logins, but a proxy or an application around it may have checked this one."""
    poller = Poller(http, server.url, "board", **{name: "Basic YW5hOnNlc2FtZQ=="})
    assert kinds(await poller.poll()) == ["state.initial"]
    assert poller.answer.headers["Cache-Control"] == "no-store"


async def test_many_changes_reach_a_poller_whole_and_in_order(server: Server, http: Http) -> None:
    """Its answers are cut anywhere in a run of changes."""
    poller = Poller(http, server.url, "board,counter")
    await poller.poll()

    async def act(worker: int) -> None:
        for number in range(40):
            action: tuple[str, Any] = ("counter/added", {"by": number})
            if number % 3 == 0:
                action = ("board/task_added", {"id": f"{worker}.{number}", "title": "t" * number})
            await dispatch(http, server.url, *action)

    async with asyncio.TaskGroup() as tasks:
        acting = [tasks.create_task(act(worker)) for worker in range(5)]
        polls = 0
        while not all(task.done() for task in acting):
            await poller.poll()
            polls += 1
    while poller.replica.state != (truth := await get_state(http, server.url, "slices=board,counter"))["slices"]:
        await poller.poll()
    assert poller.replica.versions == truth["versions"]
    assert polls > 3
