"""Changes that a page shows before the server has made them: nothing flickers, and each takes effect once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch, eventually, get_state
from tests.support.browser import CHROMIUM, Tab
from tests.support.node import Node

APP = f"{ROOT / 'tests/apps/paged.py'}:app"
CONNECT = """
Promise.all([import("/js/statestream.js"), import("/js/optimistic.js")]).then(([{ connect }, { optimistic }]) => {
  const request = (globalThis.request = globalThis.fetch);
  Object.assign(globalThis, { seen_titles: [], sent: 0, done: [], blocked: BLOCKED });
  globalThis.fetch = (url, init) => ((sent += url.endsWith("/dispatch")), request(url, init));
  const lock = navigator.locks.request.bind(navigator.locks), open = indexedDB.open.bind(indexedDB), names = new Set();
  const until = ({ signal }) => () => new Promise((resolve) => signal.addEventListener("abort", resolve));
  indexedDB.open = (name, version) => (names.add(name), open(name, version));
  navigator.locks.request = (name, options, work) =>
    lock(name, options, blocked && names.has(name) ? until(options) : work); // it is to send, and stands still
  const added = (board, task) => ({ ...board, tasks: [...board.tasks, { ...task, done: false }] });
  const counted = (board, { by = 1 }) => ({ ...board, count: board.count + by });
  const reducers = { "board/task_added": added, "board/counted": counted, "board/refused": counted };
  globalThis.client = connect("/", { slices: "board", identity: IDENTITY, optimistic: optimistic(reducers) });
  globalThis.titles = () => client.state.board?.tasks.map(({ title }) => title).join("") ?? "";
  client.select((state) => state.board?.tasks, () => seen_titles.push(titles()));
  globalThis.add = (id) => {
    const task = { id, title: id }, over = (outcome) => done.push(outcome);
    client.dispatch("board/task_added", task).then(over, ({ code }) => over(code));
    return titles();
  };
})
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    env = {"JOURNAL": f"sqlite:///{tmp_path / 'board.db'}", "PYTHONPATH": str(ROOT)}
    with Server("serve", APP, env=env) as running:
        yield running


@pytest.fixture
def tab(browser: Node, server: Server) -> Iterator[Tab]:
    opened = Tab(browser, "page", server.url)
    follow(opened)
    yield opened
    opened.close()


def follow(tab: Tab, *, blocked: bool = False, identity: str = "'ada'") -> None:
    tab.look(CONNECT.replace("BLOCKED", str(blocked).lower()).replace("IDENTITY", identity))
    tab.wait("globalThis.client?.health.phase === 'live'")


async def titles(http: aiohttp.ClientSession, server: Server) -> str:
    state: Any = await get_state(http, server.url)
    return "".join(task["title"] for task in state["slices"]["board"]["tasks"])


async def come_to(http: aiohttp.ClientSession, server: Server, wanted: str) -> None:
    """Waits until the server has these titles."""

    async def has_them() -> bool:
        return await titles(http, server) == wanted

    await eventually(has_them, seconds=15)


@pytest.mark.parametrize("identity", ["'ada'", "undefined"])
async def test_a_task_is_there_at_once_and_stays(
    browser: Node, server: Server, http: aiohttp.ClientSession, identity: str
) -> None:
    tab = Tab(browser, "page", server.url)
    follow(tab, identity=identity)
    for number, title in enumerate("abcdef"):
        assert tab.look(f"add('{title}')").endswith(title)
        await dispatch(http, server.url, "board/task_added", {"id": str(number), "title": str(number)})
    tab.wait("done.length === 6 && titles().length === 12")
    seen = tab.look("seen_titles")
    assert tab.look("titles()") == await titles(http, server)
    for text in seen:
        assert len(set(text)) == len(text), "nothing is there twice"
    for before, after in itertools.pairwise(seen):
        assert set(before) <= set(after), "nothing vanishes"
    assert tab.look("[done.every(({ duplicate }) => !duplicate), sent]") == [True, 6]
    tab.close()


def test_an_action_is_sent_while_the_stream_is_live_whatever_the_browser_says_about_the_network(tab: Tab) -> None:
    tab.look("void Object.defineProperty(navigator, 'onLine', { get: () => false })")
    tab.look("add('a')")
    tab.wait("done[0]?.duplicate === false && titles() === 'a'")


def test_what_is_refused_is_taken_back(tab: Tab) -> None:
    refused = "void client.dispatch('board/refused', { why: 'full' }).catch((error) => done.push(error.reason))"
    assert tab.look(f"{refused}, client.state.board.count") == 1
    tab.wait("done[0] === 'full' && client.state.board.count === 0")
    assert tab.look("titles()") == ""


async def test_nothing_flickers_while_the_server_is_killed_again_and_again(
    tab: Tab, server: Server, http: aiohttp.ClientSession
) -> None:
    for title in "abcd":
        assert tab.look(f"add('{title}')").endswith(title)
        server.kill()
        tab.look(f"add('{title.upper()}')")
        server.start()
        await dispatch(http, server.url, "board/counted", {})
        tab.wait("done.length % 2 === 0")
    tab.wait("done.length === 8 && titles().length === 8 && client.state.board.count === 4")
    seen = tab.look("seen_titles")
    assert all(len(set(text)) == len(text) for text in seen), seen
    assert all(set(before) <= set(after) for before, after in itertools.pairwise(seen)), seen
    assert await titles(http, server) == "aAbBcCdD" == tab.look("titles()")


async def test_what_was_dispatched_offline_is_sent_in_order_after_a_reload(
    browser: Node, server: Server, http: aiohttp.ClientSession
) -> None:
    tab = Tab(browser, "page", server.url)
    follow(tab, blocked=True)
    for title in "abc":
        tab.look(f"add('{title}')")
    tab.wait("titles() === 'abc'")
    stored = """indexedDB.databases().then(([{ name }]) => new Promise((resolve) => {
      const opening = indexedDB.open(name);
      opening.onsuccess = () => {
        const counting = opening.result.transaction("actions").objectStore("actions").count();
        counting.onsuccess = () => resolve(counting.result);
      };
    }))"""
    await eventually(lambda: tab.look(stored) == 3)
    assert await titles(http, server) == ""
    tab.do("reload")
    follow(tab, blocked=True)
    tab.wait("titles() === 'abc'")
    assert await titles(http, server) == ""
    tab.do("reload")
    follow(tab, identity="'bob'")
    tab.look("add('x')")
    tab.wait("done.length === 1")
    assert tab.look("titles()") == "x", "these are of somebody else"
    tab.do("reload")
    follow(tab)
    tab.wait("titles() === 'xabc' && sent === 3")
    await come_to(http, server, "xabc")
    assert all(len(set(text)) == len(text) for text in tab.look("seen_titles"))
    tab.do("reload")
    follow(tab)
    tab.look("add('d')")
    tab.wait("done.length === 1 && titles() === 'xabcd'")
    assert tab.look("sent") == 1, "nothing was sent again"
    tab.close()


async def test_a_page_in_the_cache_learns_that_another_one_has_sent_its_action(
    server: Server, http: aiohttp.ClientSession
) -> None:
    with Node("browser.mjs", CHROMIUM, "--enable-features=BackForwardCache") as browser:
        first = Tab(browser, "first", server.url)
        await asyncio.to_thread(follow, first, blocked=True)
        first.look("add('a')")
        second = Tab(browser, "second", server.url, beside=first)
        await asyncio.to_thread(follow, second)
        second.wait("titles() === 'a'")
        first.look("void (blocked = false)")
        first.do("visit", url=f"{server.url}/elsewhere")
        second.wait("sent === 1")
        await come_to(http, server, "a")
        second.look("add('b')")
        second.wait("done.length === 1 && titles() === 'ab'")
        first.do("back")
        assert await asyncio.to_thread(first.wait, "globalThis.done"), "the browser has loaded it again"
        await asyncio.to_thread(first.wait, "titles() === 'ab' && done[0] === 'unavailable'")
        first.look("add('c')")
        await asyncio.to_thread(first.wait, "titles() === 'abc' && done[1]?.duplicate === false")
        for tab in (first, second):
            await asyncio.to_thread(tab.do, "close")


async def test_another_program_that_answers_does_not_end_an_action(
    tab: Tab, server: Server, http: aiohttp.ClientSession
) -> None:
    login = "new Response('<html>', { headers: { 'Content-Type': 'text/html' } })"
    tab.look(f"void (globalThis.fetch = async () => (sent++, {login}))")
    tab.look("add('a')")
    tab.wait("sent === 1")
    tab.do("reload")
    follow(tab)
    tab.wait("sent === 1 && titles() === 'a'")
    await come_to(http, server, "a")


@pytest.mark.parametrize("how", ["close", "crash"])
async def test_one_tab_sends_for_all_and_another_one_when_it_is_gone(
    browser: Node, server: Server, http: aiohttp.ClientSession, how: str
) -> None:
    first = Tab(browser, "page", server.url)
    follow(first, blocked=True)
    first.look("add('a')")
    second = Tab(browser, "second", server.url, beside=first)
    follow(second)
    second.wait("titles() === 'a'")
    second.look("add('b')")
    second.wait("titles() === 'ab'")
    first.wait("titles() === 'ab'")
    assert second.look("[sent, done.length]") == [0, 0], "the first tab is to send, and cannot"
    if how == "crash":
        first.do("crash")
    first.do("close")
    second.wait("titles() === 'ab' && done.length === 1 && sent === 2")
    assert await titles(http, server) == "ab"
    second.close()
