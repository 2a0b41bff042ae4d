"""The web client in a plain page of Chromium, against a real server: what it survives, and when it tells the page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch
from tests.support.browser import CHROMIUM, Tab, is_of_the_cut
from tests.support.node import Node

APP = f"{ROOT / 'tests/apps/paged.py'}:app"
CONNECT = """
import("/js/statestream.js").then(({ connect }) => {
  const client = (globalThis.client = connect("/", { slices: SLICES }));
  globalThis.phases = [];
  client.subscribe(() => phases.at(-1) !== client.health.phase && phases.push(client.health.phase));
  const show = (tasks) => (shown.textContent = tasks?.map(({ title }) => title).join());
  client.select((state) => state.board?.tasks, show);
})
"""
PATIENT = """void (() => {
  const real = setTimeout;
  globalThis.setTimeout = (work, ms) => real(work, ms >= 2000 && ms <= 45000 ? 2 ** 30 : ms);
})()"""
"""From here on, the delay before another connection never ends by itself, and neither does a limit of silence."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(
        "serve", APP, env={"JOURNAL": f"sqlite:///{tmp_path / 'board.db'}", "PYTHONPATH": str(ROOT)}
    ) as running:
        yield running


@pytest.fixture
def tab(browser: Node, server: Server) -> Iterator[Tab]:
    opened = Tab(browser, "page", server.url)
    yield opened
    opened.close()


def connect(tab: Tab, *slices: str) -> None:
    tab.look(CONNECT.replace("SLICES", json.dumps(slices)))
    tab.wait("client.health.phase === 'live'")


async def add(http: aiohttp.ClientSession, server: Server, title: str) -> None:
    status, _ = await dispatch(http, server.url, "board/task_added", {"id": title, "title": title})
    assert status == 200


def names(tab: Tab) -> list[str]:
    return [event["name"] for event in tab.look("seen.events") if event["name"] != "state.update"]


async def test_a_browser_asks_whether_a_module_is_still_the_same(server: Server, http: aiohttp.ClientSession) -> None:
    for name, status in (("statestream.js", 200), ("__init__.py", 404), ("package.json", 404), ("playback.html", 404)):
        async with http.get(f"{server.url}/js/{name}") as response:
            assert response.status == status
            tag = response.headers.get("ETag", "")
        if status == 200:
            assert (response.content_type, response.headers["Cache-Control"]) == ("text/javascript", "no-cache")
            async with http.get(f"{server.url}/js/{name}", headers={"If-None-Match": tag}) as response:
                assert (response.status, await response.read()) == (304, b"")


async def test_a_page_resumes_where_it_was_when_the_server_is_killed(
    tab: Tab, server: Server, http: aiohttp.ClientSession
) -> None:
    connect(tab, "board")
    tab.look("client.dispatch('board/task_added', { id: 'a', title: 'a' })")
    tab.wait("shown.textContent === 'a'")
    server.kill()
    tab.wait("client.health.phase === 'waiting'")
    assert tab.look("client.health.error.code") == "unavailable"
    assert tab.look("client.state.board.tasks.length") == 1
    server.start()
    await add(http, server, "b")
    tab.wait("shown.textContent === 'a,b' && client.health.phase === 'live'")
    assert tab.look("client.health.error") is None
    assert names(tab) == ["state.initial", "state.resumed"]
    assert all(is_of_the_cut(problem) for problem in tab.do("problems"))


def test_a_dispatch_during_a_restart_takes_effect_once(tab: Tab, server: Server) -> None:
    connect(tab, "board")
    server.kill()
    tab.look("void (globalThis.sent = client.dispatch('board/counted', { by: 3 }))")
    tab.look("void (globalThis.again = client.dispatch('board/counted', { by: 4 }, { id: 'once' }))")
    server.start()
    assert [tab.look("sent")["duplicate"], tab.look("again")["duplicate"]] == [False, False]
    assert tab.look("client.dispatch('board/counted', { by: 4 }, { id: 'once' })")["duplicate"]
    tab.wait("client.state.board.count === 7")


async def test_a_page_that_was_offline_is_back_when_the_network_is(
    tab: Tab, server: Server, http: aiohttp.ClientSession
) -> None:
    connect(tab, "board")
    tab.look(PATIENT)
    tab.do("unplug", offline=True)
    server.kill()
    tab.wait("client.health.phase === 'waiting'")
    server.start()
    await add(http, server, "meanwhile")
    tab.do("unplug", offline=False)
    tab.wait("shown.textContent === 'meanwhile'")
    assert names(tab) == ["state.initial", "state.resumed"]


def test_a_connection_from_before_the_network_was_lost_is_replaced(tab: Tab) -> None:
    """It may be dead without a sign. Chromium leaves it open here."""
    connect(tab, "board")
    tab.look(PATIENT)
    tab.do("unplug", offline=True)
    tab.wait("!navigator.onLine")
    assert tab.look("client.health.phase") == "live"
    tab.do("unplug", offline=False)
    tab.wait("seen.events.some((event) => event.name === 'state.resumed') && client.health.phase === 'live'")
    assert tab.look("seen.connections") == 2


async def test_a_page_that_is_shown_again_does_not_wait(tab: Tab, server: Server, http: aiohttp.ClientSession) -> None:
    connect(tab, "board")
    tab.look(PATIENT)
    server.kill()
    tab.wait("client.health.phase === 'waiting'")
    server.start()
    await add(http, server, "meanwhile")
    tab.look("void document.dispatchEvent(new Event('visibilitychange'))")
    tab.wait("shown.textContent === 'meanwhile'")
    tab.look("void document.dispatchEvent(new Event('visibilitychange'))")  # while it is alive, this changes nothing
    await add(http, server, "later")
    tab.wait("shown.textContent === 'meanwhile,later'")
    assert names(tab) == ["state.initial", "state.resumed"]


async def test_a_page_that_comes_back_from_the_cache_resumes(server: Server, http: aiohttp.ClientSession) -> None:
    """The browser keeps a page that has no connection, so the client closes it when the page is left."""
    with Node("browser.mjs", CHROMIUM, "--tabs") as browser:
        tab = await asyncio.to_thread(Tab, browser, "page", server.url)
        await asyncio.to_thread(connect, tab, "board")
        await asyncio.to_thread(tab.look, f"void (globalThis.kept = true, {PATIENT.removeprefix('void ')})")
        await asyncio.to_thread(tab.do, "visit", url=f"{server.url}/elsewhere")
        await add(http, server, "meanwhile")
        await asyncio.to_thread(tab.do, "back")
        assert await asyncio.to_thread(tab.wait, "globalThis.kept"), "the browser has loaded it again"
        await asyncio.to_thread(tab.wait, "shown.textContent === 'meanwhile'")
        assert await asyncio.to_thread(names, tab) == ["state.initial", "state.resumed"]
        await asyncio.to_thread(tab.close)


def test_a_refusal_ends_it_with_its_reason(tab: Tab) -> None:
    tab.look(CONNECT.replace("SLICES", '["nothing"]'))
    tab.wait("client.health.phase === 'ended'")
    error = "(({ status, code, detail }) => ({ status, code, detail }))(client.health.error)"
    found = tab.look(error)
    assert (found["status"], found["code"]) == (404, "unknown_slice")
    assert "nothing" in found["detail"]
    assert tab.look("client.ready.catch((error) => error === client.health.error)") is True
    assert not tab.look("client.dispatch('board/counted')")["duplicate"], "dispatching is another question"


def test_a_closed_client_is_silent(tab: Tab) -> None:
    connect(tab, "board")
    tab.look("client.dispatch('board/task_added', { id: 'a', title: 'a' })")
    tab.wait("shown.textContent === 'a'")
    tab.look("void (phases.length = 0, client.close())")
    tab.wait("client.health.phase === 'ended'")
    assert tab.look("[phases, client.health.error, client.state.board.tasks.length]") == [[], None, 1]


COUNT = """void (() => {
  Object.assign(globalThis, { calls: 0, frames: 0, most: 0, selected: 0, told: 0 });
  let inThisFrame = 0;
  const real = requestAnimationFrame;
  const tick = () => { frames += 1; inThisFrame = 0; real(tick); };
  real(tick);
  client.subscribe(() => { calls += 1; most = Math.max(most, (inThisFrame += 1)); });
  client.select((state) => state.board.count, (count) => { selected += 1; told = count; });
})()"""


async def test_a_page_is_told_at_most_once_per_frame(tab: Tab, server: Server, http: aiohttp.ClientSession) -> None:
    connect(tab, "board", "room/*")
    tab.look(COUNT)
    before = tab.look("frames")
    for _ in range(8):
        actions = [{"type": "board/counted", "payload": {}} for _ in range(100)]
        async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
            assert response.status == 200
    tab.wait("told === 800")
    calls, frames, most, selected = tab.look("[calls, frames, most, selected]")
    assert most == 1
    assert selected <= calls <= frames - before + 1
    await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="1")
    tab.wait("client.state['room/1'] !== undefined")
    tab.wait(f"calls > {calls}")
    assert tab.look("selected") == selected, "nothing has changed there"


@pytest.mark.parametrize("state", ["hidden", "visible"])
async def test_a_page_without_frames_is_told_too(
    tab: Tab, server: Server, http: aiohttp.ClientSession, state: str
) -> None:
    """Nobody may see it, but its title, a sound or a notification may depend on the state."""
    connect(tab, "board")
    tab.look("void (globalThis.requestAnimationFrame = () => 0)")
    tab.look(f"void Object.defineProperty(document, 'visibilityState', {{ get: () => '{state}' }})")
    await add(http, server, "a")
    tab.wait("shown.textContent === 'a'")


async def test_a_page_draws_again_only_what_has_changed(tab: Tab, server: Server, http: aiohttp.ClientSession) -> None:
    connect(tab, "board", "room/*")
    for title in "abc":
        await add(http, server, title)
    tab.wait("shown.textContent === 'a,b,c'")
    tab.look("void (globalThis.held = client.state)")
    await dispatch(http, server.url, "board/counted", {})
    await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="1")
    tab.wait("client.state['room/1'] !== undefined")
    same: Any = tab.look(
        "[client.state === held, client.state.board === held.board, client.state.board.tasks === held.board.tasks]"
    )
    assert same == [False, False, True]
    assert tab.look("[held.board.count, 'room/1' in held]") == [0, False], "what is held never changes"
