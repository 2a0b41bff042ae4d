"""Changes that a page shows before the server has made them: nothing flickers, and each takes effect once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch, eventually
from tests.support.browser import Tab
from tests.support.expecting import follow, titles, titles_come_to
from tests.support.node import Node
from tests.support.tabs import PAGED


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    env = {"JOURNAL": f"sqlite:///{tmp_path / 'board.db'}", "PYTHONPATH": str(ROOT)}
    with Server("serve", PAGED, env=env) as running:
        yield running


@pytest.fixture
def tab(browser: Node, server: Server) -> Iterator[Tab]:
    opened = Tab(browser, "page", server.url)
    follow(opened)
    yield opened
    opened.close()


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
    await titles_come_to(http, server, "xabc")
    assert all(len(set(text)) == len(text) for text in tab.look("seen_titles"))
    tab.do("reload")
    follow(tab)
    tab.look("add('d')")
    tab.wait("done.length === 1 && titles() === 'xabcd'")
    assert tab.look("sent") == 1, "nothing was sent again"
    tab.close()


FOREIGN = {
    "a page": (200, "text/html", "<html>"),
    "a refusal": (403, "text/html", "<html>Log in first.</html>"),
    "nothing": (404, "text/plain", ""),
    "JSON": (403, "application/json", '{"code": "token_not_valid", "detail": "Log in first."}'),
    "a problem": (400, "application/problem+json", '{"title": "Bad Request", "detail": "No such route."}'),
}


@pytest.mark.parametrize(("status", "kind", "text"), FOREIGN.values(), ids=FOREIGN)
async def test_another_program_that_answers_does_not_end_an_action(
    tab: Tab, server: Server, http: aiohttp.ClientSession, status: int, kind: str, text: str
) -> None:
    answer = f"new Response({json.dumps(text)}, {{ status: {status}, headers: {{ 'Content-Type': '{kind}' }} }})"
    tab.look(f"void (globalThis.fetch = async (url) => (sent += url.endsWith('/dispatch'), {answer}))")
    tab.look("add('a')")
    tab.wait("sent === 1")
    assert tab.look("[done.length, titles(), client.pending.map(({ type, payload }) => [type, payload.id])]") == [
        0, "a", [["board/task_added", "a"]],
    ]  # fmt: skip
    tab.do("reload")
    follow(tab)
    tab.wait("sent === 1 && titles() === 'a' && client.pending.length === 0")
    await titles_come_to(http, server, "a")


async def test_an_action_that_is_too_large_for_a_proxy_holds_up_no_other(
    tab: Tab, server: Server, http: aiohttp.ClientSession
) -> None:
    tab.look("""void (globalThis.fetch = (url, init) =>
      init.body?.includes("large") ? Promise.resolve(new Response("<html>", { status: 413 })) : request(url, init))""")
    tab.look("add('large')")
    tab.look("add('a')")
    tab.wait("done.length === 2 && titles() === 'a'")
    assert tab.look("done[0]") == "answer"
    await titles_come_to(http, server, "a")


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
