"""Every wait of a client has a limit: it detects a network that silently drops bytes, reports it, and tries again.

Invariants: a real server, a real proxy that swallows, a real browser. Limits of seconds are made shorter, never
skipped: in Python by their constants, in a page by its clock.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import statestream
from statestream import StreamRefused, Unavailable
from statestream.browser import file_handler
from statestream.client import connection, refusals
from tests.support import ROOT, Server, eventually, serving
from tests.support.browser import Tab
from tests.support.cutting import Proxy
from tests.support.node import Node
from tests.support.wrong import Answered, Asked, Fault, Wrong

FASTER = 20
"""How much faster the clock of a page runs."""


def initial(**members: Any) -> bytes:
    data = {"type": "state.initial", "reason": "start", "position": "1.a", "slices": {"s": 1}, "versions": {"s": 1}}
    data |= {"heartbeat": 15_000, "retry": 10, "timestamp": 1} | members
    return f"event: state.initial\nid: 1.a\nretry: {data['retry']}\ndata: {json.dumps(data)}\n\n".encode()


# Python


@pytest.mark.parametrize("lost", ["all", "bodies"])
async def test_a_first_stream_that_is_swallowed_is_tried_again(
    server: Server, monkeypatch: pytest.MonkeyPatch, lost: Any
) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.3)
    async with Proxy(server.port) as proxy:
        proxy.swallow = lost
        stream = statestream.connect(proxy.url, slices=["board"], timeout=60)
        opening = asyncio.create_task(stream.__aenter__())
        await eventually(lambda: proxy.swallowed >= 2)
        assert stream.health == "failed"
        assert "in time" in stream._connection.trouble
        proxy.swallow = "nothing"
        await opening
        assert stream.state["board"] == {"tasks": [], "count": 0}
        await stream.__aexit__()


async def test_a_stream_that_is_swallowed_for_ever_is_said_to_be_silent(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.2)
    async with Proxy(server.port) as proxy:
        proxy.swallow = "all"
        with pytest.raises(Unavailable, match="nothing was received in time"):
            await statestream.connect(proxy.url, timeout=0.5).__aenter__()


@pytest.mark.parametrize("lost", ["all", "bodies"])
async def test_a_stream_that_comes_back_into_silence_is_tried_again(monkeypatch: pytest.MonkeyPatch, lost: Any) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.3)
    monkeypatch.setattr(connection, "MIN_FIRST_FRAME_SECONDS", 0.3)
    with Server.serving(f"{ROOT / 'tests/apps/quick.py'}:app", env={"HEARTBEAT": "0.3"}) as server:
        async with Proxy(server.port) as proxy, statestream.connect(proxy.url) as stream:
            stream._connection.retry_ms = 10
            proxy.swallow = lost
            for writer in proxy._open.values():
                writer.transport.abort()
            await eventually(lambda: proxy.swallowed >= 2)
            proxy.swallow = "nothing"
            await stream.dispatch("board/counted", {})
            await stream.wait_for(lambda state: state["counter"] == 1, timeout=60)


async def test_a_client_behind_a_proxy_that_holds_streams_back_polls_until_one_passes(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.3)
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.2)
    async with Proxy(server.port) as proxy:
        proxy.swallow = "streams"
        async with statestream.connect(proxy.url, slices=["board", "counter"], timeout=60) as stream:
            assert stream._connection.polls
            for number in range(1, 6):
                await stream.dispatch("board/counted", {})
                await stream.wait_for(lambda state, number=number: state["counter"] == number, timeout=60)  # type: ignore[misc]
            await eventually(lambda: proxy.swallowed >= 3)
            proxy.swallow = "nothing"
            await eventually(lambda: not stream._connection.polls)
            await stream.dispatch("board/counted", {})
            await stream.wait_for(lambda state: state["counter"] == 6, timeout=60)
            assert [update.reason async for update in first_of(stream, 1)] == ["start"]


async def first_of(stream: statestream.Stream, number: int) -> AsyncIterator[statestream.Update]:
    async for update in stream:
        yield update
        if (number := number - 1) == 0:
            return


async def test_a_client_whose_stream_falls_silent_polls_with_its_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PROBE_SECONDS", 60.0)
    with Server.serving(f"{ROOT / 'tests/apps/quick.py'}:app", env={"HEARTBEAT": "0.3"}) as server:
        async with Proxy(server.port) as proxy, statestream.connect(proxy.url, slices=["counter"]) as stream:
            stream._connection.retry_ms = 10
            proxy.swallow = "streams"
            await eventually(lambda: stream._connection.polls)
            for number in range(1, 4):
                await stream.dispatch("counter/added", {"by": 1})
                await stream.wait_for(lambda state, number=number: state["counter"] == number, timeout=60)  # type: ignore[misc]
            initial = [update async for update in first_of(stream, 4) if update.kind == "initial"]
            assert [update.reason for update in initial] == ["start"], "polling resumes, and begins nothing anew"


async def test_a_server_that_does_not_know_long_polling_is_asked_for_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.3)
    streams = 0

    async def older(request: web.Request) -> web.StreamResponse:
        nonlocal streams
        if "live" in request.query:
            return web.json_response({"code": "malformed"}, status=400)
        streams += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if streams > 2:
            await response.write(initial())
        await asyncio.Event().wait()
        return response

    async with serving(older) as url, statestream.connect(url, timeout=60) as stream:
        assert (stream.state, streams) == ({"s": 1}, 3)


async def test_a_large_first_frame_may_take_longer_than_a_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_SECONDS", 0.5)
    asked = 0

    async def slowly(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        frame = initial()
        for at in range(8):
            await response.write(frame[at * 40 : (at + 1) * 40 if at < 7 else None])
            await asyncio.sleep(0.15)
        await asyncio.Event().wait()
        return response

    async with serving(slowly) as url, statestream.connect(url, timeout=60) as stream:
        assert (stream.state, asked) == ({"s": 1}, 1)


async def test_comments_are_no_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_FRAME_TOTAL", 0.5)
    asked = 0

    async def talkative(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while asked < 2:
            await response.write(b": still here\n\n")
            await asyncio.sleep(0.02)
        await response.write(initial())
        await asyncio.Event().wait()
        return response

    async with serving(talkative) as url, statestream.connect(url, timeout=60) as stream:
        assert (stream.state, asked) == ({"s": 1}, 2)


async def test_the_limit_of_silence_is_what_the_server_has_announced() -> None:
    for heartbeat in (100, 15_000, 3_600_000):

        async def announcing(request: web.Request, heartbeat: int = heartbeat) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(initial(heartbeat=heartbeat))
            await asyncio.Event().wait()
            return response

        async with serving(announcing) as url, statestream.connect(url) as stream:
            assert stream._connection._deadline(0.0, 15.0, 300.0) == 2.5 * heartbeat / 1000
            limit = stream._connection._first_frame_limit()
            assert limit == {100: 5.0, 15_000: 15.0, 3_600_000: 15.0}[heartbeat]


@pytest.mark.parametrize("rest", ["silence", "cut"])
async def test_a_refusal_counts_whatever_becomes_of_its_body(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setattr(refusals, "EXPLANATION_SECONDS", 0.2)
    asked = 0

    async def refusing(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(status=403)
        await response.prepare(request)
        await response.write(b"You may not")
        if rest == "silence":
            await asyncio.Event().wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    async with serving(refusing) as url:
        with pytest.raises(StreamRefused, match="status 403: You may not") as refused:
            await statestream.connect(url, timeout=60).__aenter__()
    assert (refused.value.status, asked) == (403, 1)


# a page


PAGE = "<!doctype html><link rel=icon href=data:,><title>a page</title>"
CLOCK = f"""void (globalThis.delays = [], globalThis.statuses = [], globalThis.details = [], (() => {{
  const slow = setTimeout;
  globalThis.setTimeout = (work, ms) => (delays.push(ms), slow(work, ms / {FASTER}));
}})())"""


def follow(slices: str, url: str = "/") -> str:
    """A script that follows a stream as `other`, with what it says."""
    said = """() => {
      const { phase, error } = other.health, text = phase === "ended" ? `ended: ${error.code}` : phase;
      if (statuses.at(-1) !== text) statuses.push(text);
      if (error) details.push(error.detail);
    }"""
    other = f"globalThis.other = connect({json.dumps(url)}, {{ slices: {json.dumps(slices)} }})"
    return f"import('/js/statestream.js').then(({{ connect }}) => {{ {other}; other.subscribe({said}); }})"


async def tab(browser: Node, url: str) -> Tab:
    """A window whose clock runs faster."""
    opened = await asyncio.to_thread(Tab, browser, "waits", url)
    await look(opened, CLOCK)
    return opened


async def look(window: Tab, script: str) -> Any:
    return await asyncio.to_thread(window.look, script)


async def wait(window: Tab, script: str) -> Any:
    return await asyncio.to_thread(window.wait, script)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path: Path = tmp_path_factory.mktemp("demo") / "demo.db"
    with Server("demo", "--journal", f"sqlite:///{path}") as running:
        yield running


@asynccontextmanager
async def page(browser: Node, port: int) -> AsyncIterator[tuple[Proxy, Tab]]:
    """A page of the server that follows nothing yet, behind a proxy."""
    async with Proxy(port) as proxy:
        window = await tab(browser, f"{proxy.url}/js/statestream.js")
        try:
            yield proxy, window
        finally:
            await asyncio.to_thread(window.close)


@pytest.mark.parametrize("lost", ["all", "bodies"])
async def test_a_page_whose_first_stream_is_swallowed_says_so_and_tries_again(
    browser: Node, demo: Server, lost: Any
) -> None:
    async with page(browser, demo.port) as (proxy, window):
        await look(window, "import('/js/statestream.js').then(() => {})")
        proxy.swallow = lost
        await look(window, follow("board"))
        await wait(window, "seen.connections >= 2")
        await wait(window, "details.length > 0")
        assert set(await look(window, "statuses")) <= {"waiting", "connecting"}
        proxy.swallow = "nothing"
        await wait(window, "statuses.at(-1) === 'live'")
        assert await look(window, "other.state.board.tasks") == []


async def test_a_page_whose_stream_falls_silent_says_so_and_resumes(browser: Node, demo: Server) -> None:
    async with page(browser, demo.port) as (proxy, window):
        await look(window, follow("board"))
        await wait(window, "statuses.at(-1) === 'live'")
        proxy.swallow = "all"
        await wait(window, "statuses.includes('waiting')")
        proxy.swallow = "nothing"
        await wait(window, "statuses.at(-1) === 'live'")
        events = await look(window, "seen.events.map((event) => event.name)")
        assert events[0] == "state.initial"
        assert events[1:] == ["state.resumed"]


async def test_a_page_that_is_refused_for_good_ends_with_the_reason(browser: Node, demo: Server) -> None:
    async with page(browser, demo.port) as (_, window):
        await look(window, follow("No name"))
        await wait(window, "statuses.at(-1)?.startsWith('ended')")
        assert await look(window, "statuses.at(-1)") == "ended: malformed"
        assert "slice name" in await look(window, "details.at(-1)")
        assert await look(window, "seen.connections") == 1


async def test_a_page_waits_as_long_as_the_server_has_said(browser: Node, demo: Server) -> None:
    async with page(browser, demo.port) as (_, window):
        await look(window, follow("board"))
        await wait(window, "statuses.at(-1) === 'live'")
        await look(window, "void (other.versions.board = 10 ** 6, delays.length = 0)")
        async with statestream.connect(demo.url, slices=["board"]) as stream:
            for n in range(2):
                await stream.dispatch("board/task_added", {"id": f"waits-{n}", "title": "t"})
        await look(window, "void (other.versions.board = 1)")
        async with statestream.connect(demo.url, slices=["board"]) as stream:
            await stream.dispatch("board/task_added", {"id": "waits-2", "title": "t"})
        await wait(window, "seen.connections === 2")
        retry = [delay for delay in await look(window, "delays") if 2_000 <= delay <= 3_000]
        assert retry, "two seconds, and up to a half more"


async def own_page(request: web.Request) -> web.StreamResponse:
    """A page of a server that is not ours, with our client."""
    if request.path == "/page":
        return web.Response(text=PAGE, content_type="text/html")
    return await file_handler(request.path.removeprefix("/js/"))(request)


ENDLESS = 2**40


@pytest.mark.parametrize("members", [{"heartbeat": 2**31}, {"retry": ENDLESS}])
async def test_a_page_survives_times_that_no_timer_can_take(browser: Node, members: dict[str, int]) -> None:
    """A browser's timer fires at once after a delay of 2^31 ms or more."""
    asked = 0

    async def answering(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        if request.path != "/stream/state":
            return await own_page(request)
        asked += 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(initial(**members))
        if "retry" in members:
            end = {"type": "stream.end", "reason": "busy", "retry": ENDLESS}
            await response.write(f"event: stream.end\ndata: {json.dumps(end)}\n\n".encode())
        await asyncio.Event().wait()
        return response

    async with serving(answering) as url:
        window = await tab(browser, f"{url}/page")
        try:
            await look(window, follow("s"))
            last = "waiting" if "retry" in members else "live"
            await wait(window, f"statuses.at(-1) === {json.dumps(last)} && delays.includes(2 ** 31 - 1)")
            assert asked == 1
        finally:
            await asyncio.to_thread(window.close)


# a page of another origin


def allowing(_: Asked, answered: Answered) -> None:
    answered.headers["Access-Control-Allow-Origin"] = "*"


@asynccontextmanager
async def page_elsewhere(browser: Node) -> AsyncIterator[Tab]:
    async with serving(own_page) as url:
        window = await tab(browser, f"{url}/page")
        try:
            yield window
        finally:
            await asyncio.to_thread(window.close)


async def test_a_page_of_another_origin_is_refused_by_its_browser_and_says_so(browser: Node, demo: Server) -> None:
    """The server sends no headers for other origins (protocol 13.4): its data may be for its own pages only."""
    async with page_elsewhere(browser) as window:
        await look(window, follow("board", demo.url))
        await wait(window, "seen.connections >= 2")
        await wait(window, "details.length > 0")
        assert set(await look(window, "statuses")) <= {"waiting", "connecting"}
        assert "another origin" in await look(window, "details.at(-1)")
        assert await look(window, "seen.events") == []


async def test_a_page_of_another_origin_that_is_let_in_learns_the_reason(browser: Node, demo: Server) -> None:
    async with Wrong(good=demo.url, fault=Fault(answer=allowing)) as elsewhere, page_elsewhere(browser) as window:
        await look(window, follow("No name", elsewhere.url))
        await wait(window, "statuses.at(-1) === 'ended: malformed'")
        await look(window, follow("board", elsewhere.url))
        await wait(window, "statuses.at(-1) === 'live'")
