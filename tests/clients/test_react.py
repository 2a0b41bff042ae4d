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
from urllib.parse import quote

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch, eventually
from tests.support.browser import Tab, is_of_the_cut, text_is
from tests.support.bundling import bundle, bundled_page, write_page
from tests.support.chats import ask, invite, new_chat
from tests.support.node import Node
from tests.support.paths import NODE
from tests.support.provider import open_gate, script

pytestmark = pytest.mark.slow
APP = f"{ROOT / 'tests/apps/hooked.py'}:app"
HOOKS = NODE / "hooks"
VERSIONS = {"18": NODE / "react18", "19": NODE / "web"}
LIVE = text_is("output", "live")


@pytest.fixture(scope="module", params=VERSIONS)
def packages(request: pytest.FixtureRequest) -> Path:
    return VERSIONS[request.param]


@pytest.fixture(scope="module")
def pages(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page in development, where Strict Mode runs everything twice."""
    return bundled_page(HOOKS / "page.jsx", tmp_path_factory.mktemp("pages"), packages)


@pytest.fixture(scope="module")
def production(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled_page(HOOKS / "page.jsx", tmp_path_factory.mktemp("production"), packages, production=True)


@pytest.fixture
def gate(request: pytest.FixtureRequest) -> str:
    """A gate of the upstream that only this test opens."""
    return re.sub(r"\W", "-", request.node.name)


@contextmanager
def serving(pages: Path, **env: str) -> Iterator[Server]:
    with Server("serve", APP, env={"PAGES": str(pages), "PYTHONPATH": str(ROOT), **env}) as running:
        yield running


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


def texts(*selectors: str) -> str:
    """A script: what these elements show."""
    return f"{json.dumps(selectors)}.map((each) => document.querySelector(each)?.textContent)"


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


FRAMES = """void (() => {
  Object.assign(globalThis, { frames: 0, most: 0 });
  const real = requestAnimationFrame, drawn = () => Math.max(...Object.values(renders));
  let before = { ...renders };
  const tick = () => {
    frames += 1;
    for (const name of Object.keys(renders)) most = Math.max(most, renders[name] - (before[name] ?? renders[name]));
    before = { ...renders };
    real(tick);
  };
  real(tick);
})()"""
"""`most` is how often one component was drawn between two frames."""


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


# chats


async def say(tab: Tab, text: str) -> None:
    tab.do("say", field="input[name=text]", text=text)


async def test_a_token_draws_one_component_once_per_frame(
    browser: Node, production: Path, upstream: str, gate: str, http: aiohttp.ClientSession
) -> None:
    first = await script(http, upstream, "One?", {"say": "First."}, {"finish": "stop"})
    steps = [{"say": "begun "}, {"wait": gate}, {"drip": {"text": "word ", "times": 120, "every": 0.004}}]
    second = await script(http, upstream, "Two?", *steps, {"wait": f"{gate}-end"}, {"finish": "stop"})
    with serving(production, UPSTREAM=f"{upstream}/v1") as server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, first)
        tab = Tab(browser, "page", f"{server.url}/?show=chat&chat={chat}")
        tab.wait("document.querySelectorAll('li.complete').length === 2")
        tab.do("say", field="input", text=second)
        tab.wait("document.querySelector('li.streaming')?.textContent === 'begun '")
        tab.look(FRAMES)
        before = tab.look("({ ...renders })")
        await open_gate(http, upstream, gate)
        tab.wait(f"document.querySelector('li.streaming')?.textContent === 'begun ' + {json.dumps('word ' * 120)}")
        after, most, passed = tab.look("[renders, most, frames]")
        drawn = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        [(name, times)] = drawn.items()
        assert name.startswith("message ")
        assert most == 1
        assert 2 <= times <= passed
        print(f"120 tokens: {times} renderings of one component in {passed} frames")
        tab.do("click", target="#all")  # from here on, this component reads the messages
        tab.wait(text_is("#texts", "One?|First.|Two?|begun " + "word " * 120))
        await open_gate(http, upstream, f"{gate}-end")
        tab.wait("document.querySelectorAll('li.complete').length === 4")
        assert tab.close() == []


async def test_every_viewer_sees_the_reply_grow(
    browser: Node, pages: Path, upstream: str, gate: str, http: aiohttp.ClientSession
) -> None:
    steps = [{"say": "It "}, {"wait": gate}, {"say": "grows."}, {"finish": "stop"}]
    question = await script(http, upstream, "Grow?", *steps)
    with serving(pages, UPSTREAM=f"{upstream}/v1") as server:
        chat = await new_chat(http, server)
        tabs = [Tab(browser, name, f"{server.url}/?show=chat&chat={chat}") for name in ("left", "right")]
        for tab in tabs:
            tab.wait(text_is("output", "ready"))
        tabs[0].do("say", field="input", text=question)
        for tab in tabs:
            tab.wait(f"{texts('output', '.user', '.assistant')}.join('|') === 'streaming|Grow?|It '")
        await open_gate(http, upstream, gate)
        for tab in tabs:
            tab.wait(f"{texts('output', '.user', '.assistant')}.join('|') === 'ready|Grow?|It grows.'")
            assert tab.close() == []


async def test_a_chat_is_started_stopped_edited_answered_again_and_branched(
    browser: Node, pages: Path, upstream: str, http: aiohttp.ClientSession
) -> None:
    begun = await script(http, upstream, "Begin?", {"say": "So far"}, {"wait": "never"})
    again = await script(http, upstream, "Better?", {"say": "Better."}, {"finish": "stop"})
    with serving(pages, UPSTREAM=f"{upstream}/v1") as server:
        tab = Tab(browser, "page", f"{server.url}/?show=chat&simple=yes")
        assert tab.wait("chat?.status === 'ready'")
        tab.do("say", field="input", text=begun)
        tab.wait("chat.status === 'streaming' && chat.messages[1]?.text === 'So far'")
        busy = tab.look("chat.send('Now?').catch(({ code, reason }) => [code, reason])")
        assert busy == ["refused", "busy"]
        tab.look("chat.stop()")
        tab.wait("chat.messages[1].status === 'stopped'")
        tab.look(f"chat.edit(chat.ids[0], {json.dumps(again)})")
        tab.wait("chat.messages[1]?.text === 'Better.' && chat.status === 'ready'")
        assert tab.look("chat.messages.map(({ siblings }) => siblings.length)") == [2, 1]
        tab.look("chat.regenerate()")
        tab.wait("chat.messages[1]?.siblings.length === 2 && chat.status === 'ready'")
        tab.look("chat.branch(chat.messages[0].siblings[0])")
        tab.wait("chat.messages[1]?.text === 'So far'")
        assert tab.look("chat.messages.map(({ text }) => text)") == [begun, "So far"]
        tab.look("chat.branch(chat.messages[0].siblings[1])")
        tab.wait("chat.messages[1]?.text === 'Better.'")
        assert all("409" in problem for problem in tab.close())


async def test_older_messages_are_loaded_from_the_archive(
    browser: Node, production: Path, upstream: str, http: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "One more?", {"say": "Yes."}, {"finish": "stop"})
    many, shown = 230, "document.querySelectorAll('li').length"
    with serving(production, UPSTREAM=f"{upstream}/v1", MANY=str(many), KEEP="20") as server:
        witness = Tab(browser, "witness", f"{server.url}/?show=chat&chat=long")
        witness.wait(f"{shown} === {many} && document.querySelector('#older') === null")
        witness.do("say", field="input", text=question)
        witness.wait(f"{shown} === {many + 2} && document.querySelector('output').textContent === 'ready'")
        assert witness.wait("document.querySelector('#older') === null"), "nothing that was shown has gone"
        tab = Tab(browser, "late", f"{server.url}/?show=chat&chat=long")
        tab.wait(f"{shown} === 32 && document.querySelector('#older') !== null")
        before = tab.look("({ ...renders })")
        tab.do("click", target="#older")
        tab.wait(f"{shown} === 132")
        after = tab.look("renders")
        assert [after[name] for name in before if name.startswith("message")] == [1] * 32, "each is drawn once"
        assert after["conversation"] == before["conversation"] + 1
        assert "Message 100," in tab.look("document.querySelector('li').textContent")
        tab.do("click", target="#older")
        tab.wait(f"{shown} === {many + 2} && document.querySelector('#older') === null")
        again = await script(http, upstream, "And now?", {"say": "Now, too."}, {"finish": "stop"})
        tab.do("say", field="input", text=again)
        for each in (tab, witness):
            each.wait(f"{shown} === {many + 4} && document.querySelector('li:last-child').textContent === 'Now, too.'")
            assert each.look("renders['message m0']") == 1
            assert each.close() == []


async def test_a_chat_that_does_not_exist_is_missing(browser: Node, pages: Path) -> None:
    with serving(pages) as server:
        tab = Tab(browser, "page", f"{server.url}/?show=chat&simple=yes&chat={quote('no/such (chat)')}")
        tab.wait(text_is("output", "missing"))
        assert tab.look("chat.send('Hello?').catch(({ status }) => status)") == 404
        assert all("404" in problem for problem in tab.close())


async def test_people_see_who_is_here_and_who_is_typing(browser: Node, pages: Path, upstream: str) -> None:
    with serving(pages, UPSTREAM=f"{upstream}/v1", AUTH="yes") as server:
        headers = {"Authorization": "Bearer ann"}
        async with aiohttp.ClientSession(headers=headers) as http:
            chat = await new_chat(http, server)
            assert await invite(http, server, chat, "bob s") == 200
        ann, bob = (
            Tab(browser, name, f"{server.url}/?show=people&slices=chat/{chat}&chat={chat}&token={quote(quote(name))}")
            for name in ("ann", "bob s")
        )
        for tab in (ann, bob):
            tab.wait("document.querySelectorAll('#people li').length === 2")
        bob.look("setTyping()")
        ann.wait("document.querySelector('#people').textContent.includes('bob s is typing')")
        bob.look("setTyping(false)")
        ann.wait("!document.querySelector('#people').textContent.includes('typing')")
        assert bob.close() == []
        ann.wait(text_is("#people", "ann"))
        assert ann.close() == []
