"""The React hooks in Chromium, in Strict Mode, with the oldest React that they support and with the newest one.

The pages are those of tests/node/hooks. `renders` counts how often each component was called; where a test compares
numbers of renderings, the page is built for production, because Strict Mode calls each component twice.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server, dispatch, eventually
from tests.support.browser import Tab, is_of_the_cut, text_is
from tests.support.bundling import bundle, write_page
from tests.support.hooked import FRAMES, HOOKS, serving, texts
from tests.support.node import Node

pytestmark = pytest.mark.slow
LIVE = text_is("output", "live")


async def add(http: aiohttp.ClientSession, server: Server, *titles: str) -> None:
    for title in titles:
        status, _ = await dispatch(http, server.url, "board/task_added", {"id": title, "title": title})
        assert status == 200


async def count(http: aiohttp.ClientSession, server: Server, times: int = 1) -> None:
    actions = [{"type": "board/counted", "payload": {}}] * times
    async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
        assert response.status == 200


async def subscribers(http: aiohttp.ClientSession, server: Server) -> int:
    async with http.get(f"{server.url}/metrics") as response:
        [number] = re.findall(r"^statestream_subscribers (\d+)", await response.text(), re.MULTILINE)
    return int(number)


def frames(tab: Tab) -> list[str]:
    return [event["name"] for event in tab.look("seen.events") if event["name"] != "state.update"]


# slices


async def test_a_page_shows_dispatches_and_resumes(
    browser: Node, pages: Path, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    with serving(pages, JOURNAL=f"sqlite:///{tmp_path / 'board.db'}") as server:
        tab = Tab(browser, "page", f"{server.url}/?slices=board")
        tab.wait(LIVE)
        assert tab.look(texts("#tasks", "#count", "#room")) == ["", "0", "1: nobody"]
        tab.do("say", field="input", text="Ship it")
        tab.wait(text_is("#tasks", "Ship it"))
        await count(http, server, 3)
        tab.wait(text_is("#count", "3"))
        assert tab.do("problems") == []
        server.kill()
        tab.wait(text_is("output", "waiting"))
        server.start()
        await add(http, server, "Tell all")
        tab.wait(text_is("#tasks", "Ship itTell all"))
        assert tab.look(texts("#summary", "#nested", "#parity")) == ["2 Ship it", "2", "1"]
        assert all(is_of_the_cut(problem) for problem in tab.close())


AWAY_AND_BACK = """new Promise((resolve) => {
  setShown(false);
  setTimeout(() => {
    const isGone = document.getElementById("tasks") === null;
    setShown(true);
    resolve(isGone);
  }, 50);
})"""
"""As between two pages of an application. Gives whether the first one was gone."""


async def test_strict_mode_opens_one_connection_and_unmounting_closes_it(
    browser: Node, pages: Path, http: aiohttp.ClientSession
) -> None:
    with serving(pages) as server:
        tab = Tab(browser, "page", f"{server.url}/?slices=board,room/*")
        tab.wait(LIVE)
        assert (tab.look("seen.connections"), await subscribers(http, server)) == (1, 1)
        await add(http, server, "a")
        tab.wait(text_is("#tasks", "a"))
        tab.look("setShown(false)")

        async def nobody() -> bool:
            return await subscribers(http, server) == 0

        await eventually(nobody)
        await add(http, server, "b")
        tab.look("setShown(true)")
        tab.wait(text_is("#tasks", "ab"))
        assert tab.look(AWAY_AND_BACK)
        tab.wait(text_is("#tasks", "ab"))
        assert tab.close() == []


async def test_a_slice_that_the_client_does_not_follow_is_followed_while_it_is_shown(
    browser: Node, pages: Path, http: aiohttp.ClientSession
) -> None:
    with serving(pages) as server:
        for key in "12":
            await dispatch(http, server.url, "room/joined", {"name": f"Ada {key}"}, key=key)
        tab = Tab(browser, "page", f"{server.url}/?slices=board")
        tab.wait(text_is("#room", "1: Ada 1"))
        tab.do("click", target="#other")
        tab.wait(text_is("#room", "2: Ada 2"))

        async def no_other() -> bool:
            return await subscribers(http, server) <= 2  # that of the other room is closed

        await eventually(no_other)
        await dispatch(http, server.url, "room/joined", {"name": "Bob"}, key="2")
        tab.wait(text_is("#room", "2: Ada 2,Bob"))
        assert tab.close() == []


async def test_a_provider_connects_anew_when_its_properties_change(browser: Node, pages: Path) -> None:
    with serving(pages, AUTH="yes") as server:
        tab = Tab(browser, "page", f"{server.url}/?slices=chat/1&show=people&chat=1&token=ann")
        tab.wait("seen.events.length >= 1")
        tab.look(ASKED)
        tab.look("change({ slices: 'chat/1,chats/bob', token: 'bob' })")
        tab.wait("asked.some(([url]) => url.includes('chats%2Fbob'))")
        tokens = tab.look("asked.filter(([url]) => url.includes('chats%2Fbob')).map(([url, token]) => token)")
        assert set(tokens) == {"Bearer bob"}, "what was asked for before may still be asked for with the old one"
        assert tab.close() == []


async def test_a_provider_connects_anew_when_its_token_becomes_a_function(browser: Node, pages: Path) -> None:
    with serving(pages, AUTH="yes") as server:
        tab = Tab(browser, "page", f"{server.url}/?slices=chat/1&show=people&chat=1")
        tab.wait("seen.connections > 0")
        tab.look(ASKED)
        tab.look("change({ token: async () => 'ann' })")
        tab.wait("asked.some(([url, token]) => token === 'Bearer ann')")
        tab.look("void (asked.length = 0)")
        tab.look("change({})")
        tab.wait("asked.some(([url, token]) => token === undefined)")
        assert all("401" in problem for problem in tab.close())


ASKED = """void (() => {
  const real = fetch;
  globalThis.asked = [];
  globalThis.fetch = (url, init) => (asked.push([url, init.headers.Authorization]), real(url, init));
})()"""


async def test_a_client_of_the_page_can_be_passed(browser: Node, pages: Path, http: aiohttp.ClientSession) -> None:
    with serving(pages) as server:
        tab = Tab(browser, "page", f"{server.url}/?client=")
        tab.wait(LIVE)
        tab.do("say", field="input", text="a")
        tab.wait(text_is("#tasks", "a"))
        assert tab.look("client.state.board.tasks[0].title") == "a"
        tab.look("setShown(false)")
        await add(http, server, "b")
        tab.wait("client.state.board.tasks.length === 2")
        tab.look("setShown(true)")
        tab.wait(text_is("#tasks", "ab"))
        assert tab.look("client.health.phase") == "live"
        assert tab.close() == []


async def test_a_component_is_drawn_again_only_if_what_it_selects_has_changed(
    browser: Node, production: Path, http: aiohttp.ClientSession
) -> None:
    with serving(production) as server:
        await add(http, server, "a")
        tab = Tab(browser, "page", f"{server.url}/?slices=board,room/*")
        tab.wait(LIVE)
        tab.wait(text_is("#tasks", "a"))
        before = tab.look("({ ...renders })")
        for number in (1, 2):
            await count(http, server)
            tab.wait(text_is("#count", str(number)))
        await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="1")
        tab.wait(text_is("#room", "1: Ada"))
        after = tab.look("renders")
        assert {name: after[name] - before[name] for name in after} == {
            "board": 0, "phase": 0, "tasks": 0, "summary": 0, "count": 2, "parity": 2, "nested": 2, "room": 1,
        }  # fmt: skip
        assert tab.close() == []


async def test_many_changes_are_drawn_at_most_once_per_frame(
    browser: Node, production: Path, http: aiohttp.ClientSession
) -> None:
    with serving(production) as server:
        tab = Tab(browser, "page", f"{server.url}/?slices=board")
        tab.wait(LIVE)
        tab.look(FRAMES)
        before = tab.look("renders.count")
        for _ in range(10):
            await count(http, server, 100)
        tab.wait(text_is("#count", "1000"))
        drawn, most, passed = tab.look(f"[renders.count - {before}, most, frames]")
        assert most == 1
        assert 1 <= drawn <= passed
        assert tab.close() == []


WHILE_IT_CHANGES = """void (() => {
  const headers = { "Content-Type": "application/json" }, body = '{"type": "board/counted", "payload": {}}';
  for (let at = 0; at < 20; at += 1) void fetch("/dispatch", { method: "POST", headers, body });
  document.getElementById("heavy").click();
})()"""


def test_all_parts_of_a_drawing_show_the_same_state(browser: Node, production: Path) -> None:
    """Also of one that the browser interrupts, while the state changes."""
    with serving(production) as server:
        tab = Tab(browser, "page", f"{server.url}/?slices=board&show=heavy")
        tab.wait(text_is("#count", "0"))
        tab.look(WHILE_IT_CHANGES)
        tab.wait("document.querySelectorAll('i').length === 40 && document.querySelector('i').textContent === '20'")
        assert set(tab.look("[...document.querySelectorAll('i')].map((each) => each.textContent)")) == {"20"}
        assert set(tab.look("drawings")) <= {0, 1}
        assert tab.close() == []


async def test_without_a_provider_a_hook_says_what_is_missing(browser: Node, production: Path) -> None:
    with serving(production) as server:
        tab = Tab(browser, "page", f"{server.url}/?show=alone")
        tab.wait(text_is("output", "no_provider"))
        assert all("there is no StatestreamProvider around this component" in problem for problem in tab.close())


# rendering on a server


def rendered(packages: Path, folder: Path, server: Server, query: str) -> Any:
    program = bundle(
        HOOKS / "render.jsx", folder, packages, "--platform=node", '--define:process.env.NODE_ENV="production"'
    )
    done = subprocess.run(
        ["node", str(program), server.url, query], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def hydrated(whole: Any, pages: Path) -> Iterator[None]:
    """While the page is what a server has rendered."""
    data = json.dumps(whole["snapshot"]).replace("<", "\\u003c")
    write_page(pages, "page", whole["html"], f"globalThis.SNAPSHOT = {data}")
    yield
    write_page(pages, "page")


async def test_a_page_from_a_server_continues_after_its_snapshot(
    browser: Node, packages: Path, pages: Path, http: aiohttp.ClientSession
) -> None:
    query = "?slices=board,room/*"
    with serving(pages) as server:
        await add(http, server, "a", "<b>")
        await count(http, server, 3)
        whole = rendered(packages, pages, server, query)
        assert '<ul id="tasks"><li>a</li><li>&lt;b&gt;</li></ul><b id="count">3</b>' in whole["html"]
        assert "connecting" in whole["html"]
        await add(http, server, "meanwhile")
        await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="1")
        with hydrated(whole, pages):
            tab = Tab(browser, "page", f"{server.url}/{query}")
            tab.wait(LIVE)
            tab.wait(text_is("#room", "1: Ada"))
            assert tab.look(texts("#tasks", "#count")) == ["a<b>meanwhile", "3"]
            assert frames(tab)[0] == "state.resumed"
            assert "state.initial" not in frames(tab)
            assert tab.look("seen.connections") == 1
            tab.look(WATCH)
            tab.look("change({ slices: 'board' })")
            tab.wait("watched.length > 1 && watched.at(-1) === 'a<b>meanwhile'")
            assert "a<b>" not in tab.look("watched"), "a snapshot is shown once"
            assert tab.look("recovered") == []
            assert tab.close() == [], "a mismatch is an error in the console"


async def test_a_page_from_a_server_follows_other_slices_beside_its_snapshot(
    browser: Node, packages: Path, pages: Path, http: aiohttp.ClientSession
) -> None:
    query = "?slices=board"
    with serving(pages) as server:
        await add(http, server, "a")
        await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="1")
        with hydrated(rendered(packages, pages, server, query), pages):
            await add(http, server, "meanwhile")
            tab = Tab(browser, "page", f"{server.url}/{query}")
            tab.wait(LIVE)
            tab.wait(text_is("#room", "1: Ada"))
            tab.wait(text_is("#tasks", "ameanwhile"))
            states = tab.look("seen.events.filter(({ name }) => name === 'state.initial')")
            assert all("board" not in state["slices"] for state in states), "the snapshot was that of the board"
            assert tab.look("recovered") == []
            assert tab.close() == []


WATCH = """void (() => {
  globalThis.watched = [];
  const look = () => watched.push(document.getElementById("tasks").textContent);
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
})()"""


async def test_a_part_that_is_hydrated_later_shows_the_snapshot_first(
    browser: Node, packages: Path, pages: Path, http: aiohttp.ClientSession
) -> None:
    query = "?slices=board&show=parts"
    with serving(pages) as server:
        await add(http, server, "a")
        whole = rendered(packages, pages, server, query)
        assert '<ul id="tasks"><li>a</li></ul>' in whole["html"]
        with hydrated(whole, pages):
            tab = Tab(browser, "page", f"{server.url}/{query}")
            tab.wait(LIVE)
            await add(http, server, "b")
            await count(http, server)
            tab.wait(text_is("#count", "1"))
            assert tab.look(texts("#tasks")) == ["a"]
            tab.look("openGate()")
            tab.wait(text_is("#tasks", "ab"))
            assert tab.look("recovered") == []
            assert tab.close() == [], "a mismatch is an error in the console"
