"""Tools that run in windows of our own client: one window runs a call, and another one if that window dies.

The windows are tabs of one browser, so they share a stream. The server's clock is moved, so that claims expire at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server, dispatch, eventually, moved_clock
from tests.support.approvals import call
from tests.support.browser import Tab
from tests.support.bundling import bundled_page
from tests.support.chats import ended, new_chat, read_chat, user
from tests.support.hooked import HOOKS, VERSIONS, serving
from tests.support.node import Node
from tests.support.provider import script

pytestmark = pytest.mark.slow
Http = aiohttp.ClientSession
EXPIRED = 31
"""Seconds after which a claim has expired."""

TOOLS = """void (() => {
  globalThis.calls = [];
  globalThis.locate = (args, { signal }) =>
    new Promise((resolve, reject) => calls.push({ args, resolve, reject, signal }));
})()"""
PLAIN = """Promise.all([import("/js/statestream.js"), import("/js/tools.js")]).then(([{ connect }, { runTools }]) => {
  globalThis.client = connect("/", { slices: SLICES });
  globalThis.stop = runTools(client, "CHAT", { locate: (...given) => locate(...given) });
  return client.ready.then(() => {});
})"""
AHEAD = "void (Date.now = ((now) => () => now() + SECONDS * 1000)(Date.now.bind(Date)))"


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clock") / "clock"


@pytest.fixture(scope="module")
def server(upstream: str, clock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pages = bundled_page(HOOKS / "page.jsx", tmp_path_factory.mktemp("pages"), VERSIONS["19"])
    with serving(pages, UPSTREAM=f"{upstream}/v1", CLOCK=str(clock)) as running:
        yield running


class Windows:
    """Two windows on a new chat whose model calls `locate`."""

    def __init__(self, http: Http, server: Server, chat: str, tabs: list[Tab]) -> None:
        self.http, self.server, self.chat, self.open = http, server, chat, tabs

    async def ask(self, upstream: str, question: str) -> None:
        await script(self.http, upstream, f"{question}+", {"say": "There."}, {"finish": "stop"})
        await script(
            self.http, upstream, question, call("where", "locate", precision="street"), {"finish": "tool_calls"}
        )
        async with self.http.post(f"{self.server.url}/api/chats/{self.chat}/stream", json=user(question)) as response:
            assert response.status == 200

    async def running(self) -> Tab:
        """The window that runs the call."""

        async def found() -> Tab | None:
            return next((tab for tab in self.open if tab.look("calls.length")), None)

        return await eventually(found)

    async def expire(self, clock: Path) -> None:
        """The claim expires, for the server and for the windows, which then look again."""
        seconds = EXPIRED + (int(clock.read_text()) if clock.exists() else 0)
        moved_clock.move(clock, seconds)
        for tab in self.open:
            tab.look(AHEAD.replace("SECONDS", str(seconds)))
        await dispatch(self.http, self.server.url, "board/counted", {})

    async def replied(self) -> Any:
        async def done() -> Any:
            reply = (await read_chat(self.http, self.server, self.chat))["messages"][-1]
            return reply if reply["status"] == "complete" else None

        return await eventually(done)

    def close(self, *expected: str) -> None:
        """Browsers report each refusal, such as that of a claim (409)."""
        for problem in (problem for tab in self.open for problem in tab.close()):
            assert any(each in problem for each in ("409", *expected)), problem


async def plain(browser: Node, http: Http, server: Server, slices: str = "['board', 'chat/*']") -> Windows:
    chat = await new_chat(http, server)
    first = Tab(browser, "first", f"{server.url}/blank")
    tabs = [first, Tab(browser, "second", f"{server.url}/blank", beside=first)]
    for tab in tabs:
        tab.look(TOOLS)
        tab.look(PLAIN.replace("SLICES", slices).replace("CHAT", chat))
    return Windows(http, server, chat, tabs)


async def test_one_window_runs_a_call_and_another_one_after_its_death(
    browser: Node, server: Server, upstream: str, http: Http, clock: Path
) -> None:
    windows = await plain(browser, http, server)
    await windows.ask(upstream, "where in a window")
    dies = await windows.running()
    [other] = windows.open = [tab for tab in windows.open if tab is not dies]
    assert dies.look("calls.map(({ args }) => args)") == [{"precision": "street"}]
    assert other.look("calls.length") == 0
    dies.do("crash")
    dies.do("close")
    await windows.expire(clock)
    other.wait("calls.length === 1")
    other.look("calls[0].resolve({ lat: 48.4 })")
    reply = await windows.replied()
    assert (reply["parts"][0]["result"], reply["parts"][1]["text"]) == ({"lat": 48.4}, "There.")
    windows.close()


async def test_what_a_tool_throws_is_the_error_of_the_call(
    browser: Node, server: Server, upstream: str, http: Http
) -> None:
    windows = await plain(browser, http, server, slices="['board']")  # the chat is followed for the tools
    await windows.ask(upstream, "where without permission")
    tab = await windows.running()
    tab.look("calls[0].reject(new Error('a tool may not say'))")
    part = (await windows.replied())["parts"][0]
    assert (part["status"], part["error"]) == ("error", "a tool may not say")
    for each in windows.open:
        each.look("calls.length = 0")
    await windows.ask(upstream, "where is too much")
    tab = await windows.running()
    tab.look("calls[0].resolve('x'.repeat(2_000_000))")
    assert (await windows.replied())["parts"][0]["error"] == "The result is too large."
    windows.close("a tool may not say", "413")


async def test_a_call_that_nobody_needs_any_more_is_aborted(
    browser: Node, server: Server, upstream: str, http: Http
) -> None:
    windows = await plain(browser, http, server)
    await windows.ask(upstream, "where but stopped")
    tab = await windows.running()
    async with http.post(f"{server.url}/api/chats/{windows.chat}/stop") as response:
        assert response.status == 200
    tab.wait("calls[0].signal.aborted")
    tab.look("calls[0].resolve('too late')")
    assert (await ended(http, server, windows.chat))["status"] == "stopped"
    windows.close()


async def test_components_run_a_call_once_and_leave_it_when_they_are_gone(
    browser: Node, server: Server, upstream: str, http: Http, clock: Path
) -> None:
    """In Strict Mode, which mounts each component twice."""
    chat = await new_chat(http, server)
    url = f"{server.url}/?show=window&slices=board,chat/*&chat={chat}"
    first = Tab(browser, "first", url)
    windows = Windows(http, server, chat, [first, Tab(browser, "second", url, beside=first)])
    for tab in windows.open:
        tab.look(TOOLS)
        tab.wait("document.querySelector('#window') !== null")
    await windows.ask(upstream, "where in React")
    tab = await windows.running()
    [other] = [each for each in windows.open if each is not tab]
    tab.look("setShown(false)")
    tab.wait("calls[0].signal.aborted")
    await windows.expire(clock)
    other.wait("calls.length === 1")
    before = other.look("renders.window")
    other.look("calls[0].resolve(7)")
    assert (await windows.replied())["parts"][0]["result"] == 7
    assert other.look("[renders.window, calls.length]") == [before, 1]
    assert tab.look("calls.length") == 1
    windows.close()
