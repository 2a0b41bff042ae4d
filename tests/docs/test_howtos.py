"""The files of the how-tos, used as their readers would: in a browser, from another program, with pytest.

`pip install fastapi uvicorn django` runs two more: they are no dependencies of the project.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shlex
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import statestream.client
from statestream.tools.conformance.clients.transcript import Transcript
from tests.support import ROOT, Server, dispatch, eventually, get_state, scripted
from tests.support.browser import Tab, is_of_the_cut, text_is
from tests.support.node import Node
from tests.support.pages import DOCS, files_of, write_files
from tests.support.paths import NODE
from tests.support.provider import open_gate, script
from tests.support.typed import Typed, free_port

USED = {
    "conformance.md": {"check.mjs"},
    "howto/asgi.md": {"live.py", *(f"with_{each}.py" for each in ("django", "fastapi", "litestar", "starlette"))},
    "howto/dashboard.md": {"dashboard.py", "dashboard.html"},
    "howto/chat-page.md": {"chatpage.py", "chat.html"},
    "howto/chat-kits.md": {  # by tests/docs/test_chat_kits.py
        *("kits.py", "index.html", "thread.js", "copilot.jsx", "kits.css", "assistant.jsx", "assistant.css"),
    },
    "howto/ai-sdk.md": {"aichat.py", "index.html", "chat.jsx"},
    "howto/producers.md": {"live.py", "shop_fastapi.py", "shop_django.py"},
    "howto/eventsource.md": {"client.mjs", "least.mjs"},
    "howto/proxies.md": {"statestream.conf", "Caddyfile"},
    "howto/authenticate.md": {"board.py", "auth.py", "people.py", "proxied.py", "sessions.py"},  # test_authenticate.py
    "howto/client.md": {"board.py", "worker.py", "diary.py", "tidy.py"},
    "howto/erase.md": {"forget.py"},
    "howto/evolve.md": {"board.py"},  # by tests/tools/test_check.py
    "howto/origins.md": {"live.py", "front.html"},
    "howto/frameworks.md": {  # by tests/docs/test_frameworks.py
        *("live.py", "client.js", "page.html", "vite.config.js", "useSlice.js", "Board.vue", "vue.js"),
        *("live.svelte.js", "Board.svelte", "svelte.js", "dom.js", "query.jsx", "redux.jsx"),
    },
    "howto/testing.md": {"board.py", "test_board.py"},
    "howto/types.md": {"app.py", "follow.py", "page.ts"},  # by tests/tools/test_types.py
    "operations.md": {"roles.sql", "grants.sql"},  # by tests/postgresql/test_schema.py
    "react.md": {  # by tests/docs/test_frameworks.py
        *("main.tsx", "hooks.ts", "chat.tsx", "app/page.tsx", "app/board.tsx", "next.config.mjs"),
    },
    "web-client.md": {"live.py", "index.html"},
    "tutorial.md": {"follow.py", "at the end of app.py", "index.html"},  # by tests/docs/test_walkthroughs.py
}
NO_KEY = {"OPENAI_API_KEY": ""}


def test_every_file_of_a_page_is_used_by_a_test() -> None:
    found = {str(page.relative_to(DOCS)): set(files_of(str(page.relative_to(DOCS)))) for page in DOCS.rglob("*.md")}
    assert {page: names for page, names in found.items() if names} == USED


def served(page: str, target: str, folder: Path, env: dict[str, str] = NO_KEY) -> Server:
    """The server of a page, with its files, and its journal, in a folder of its own."""
    write_files(page, folder)
    program = folder / target
    text = program.read_text().replace("sqlite:///", f"sqlite:///{folder}/")
    program.write_text(text)
    return Server("serve", f"{program}:app", env=env)


async def test_the_dashboard_shows_both_slices_and_redraws_only_what_has_changed(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    with served("howto/dashboard.md", "dashboard.py", tmp_path) as server:
        tab = Tab(browser, "dashboard", server.url)
        tab.wait(text_is("#status", "live"))
        await dispatch(http, server.url, "machine/reported", {"load": 40, "job": "backup"}, key="a")
        await dispatch(http, server.url, "machine/reported", {"load": 10}, key="%C5%81")
        await dispatch(http, server.url, "totals/ordered", {"amount": 1250})
        tab.wait(text_is("#revenue", "12.50"))
        tab.wait("document.querySelectorAll('#machines li').length === 2")
        assert tab.look("[...document.querySelectorAll('li')].map((li) => li.textContent.trim())") == ["Ł", "a  backup"]
        tab.look("void (globalThis.kept = document.querySelector('li:last-child meter'))")
        await dispatch(http, server.url, "totals/ordered", {"amount": 1})
        tab.wait(text_is("#orders", "2"))
        assert tab.look("kept.isConnected"), "a machine that nothing happened to was drawn again"
        assert tab.look("kept.value") == 40
        await dispatch(http, server.url, "machine/left", key="a")
        tab.wait("document.querySelectorAll('#machines li').length === 1")
        assert tab.close() == []


def test_the_quick_start_of_the_web_client_adds_a_task_in_two_windows(browser: Node, tmp_path: Path) -> None:
    with served("web-client.md", "live.py", tmp_path) as server:
        tabs = [Tab(browser, name, server.url) for name in ("first", "second")]
        for tab in tabs:
            tab.wait(text_is("#status", "live"))
        tabs[0].do("say", field="input", text="Ship it")
        for tab in tabs:
            tab.wait(text_is("#tasks", "Ship it"))
        tabs[0].wait("document.querySelector('input').value === ''")
        assert [tab.close() for tab in tabs] == [[], []]


def test_the_chats_page_shows_a_reply_in_two_windows(browser: Node, tmp_path: Path) -> None:
    with served("howto/chat-page.md", "chatpage.py", tmp_path) as server:
        first = Tab(browser, "first", server.url)
        first.wait("location.hash.length > 1")
        second = Tab(browser, "second", str(first.look("location.href")))
        first.do("say", field="input", text="What is this?")
        replies = [tab.wait("document.querySelector('.assistant.complete')?.textContent") for tab in (first, second)]
        assert replies[0] == replies[1]
        assert replies[0].startswith("You said: “What is this?”.")
        first.do("say", field="input", text="One")
        second.wait("document.querySelector('.streaming') !== null")
        second.do("say", field="input", text="Two")
        assert "A reply is in progress" in second.wait("document.querySelector('#problem').textContent")
        first.wait("document.querySelectorAll('.assistant.complete').length === 2")
        assert first.close() == []
        assert [problem for problem in second.close() if "409" not in problem] == []


def test_a_front_end_from_another_origin_follows_and_dispatches(browser: Node, tmp_path: Path) -> None:
    port = free_port()
    write_files("howto/origins.md", tmp_path)
    program, front = tmp_path / "live.py", tmp_path / "front.html"
    program.write_text(program.read_text().replace("sqlite:///", f"sqlite:///{tmp_path}/").replace("9000", str(port)))
    with Server("serve", f"{program}:app") as server:
        front.write_text(front.read_text().replace("http://127.0.0.1:8000", server.url))
        command = [sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
        pages = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert pages.stdout
            assert b"Serving" in pages.stdout.readline()
            tab = Tab(browser, "front", f"http://127.0.0.1:{port}/front.html")
            tab.wait(text_is("#status", "live"))
            tab.do("say", field="input", text="Ship it")
            tab.wait(text_is("#tasks", "Ship it"))
            assert tab.look("document.querySelector('#problem').textContent") == ""
            assert tab.close() == []
        finally:
            pages.kill()
            pages.communicate()


def bundled(folder: Path, major: str) -> None:
    """What the page's shell lines do, with the SDK of that major."""
    line = next(line for line in (DOCS / "howto/ai-sdk.md").read_text().splitlines() if line.startswith("npx esbuild"))
    _, *command = shlex.split(line)
    command[0] = str(NODE / "node_modules/.bin/esbuild")
    modules = {"NODE_PATH": str(NODE / f"ai{major}/node_modules")}
    subprocess.run([*command, "--log-level=error"], cwd=folder, env=os.environ | modules, timeout=60, check=True)


class AiTab(Tab):
    """A window on the page of the AI SDK."""

    def say(self, text: str) -> None:
        self.do("say", field="input", text=text)

    def click(self, target: str) -> None:
        self.do("click", target=target)

    def wait_until_it_streams(self, text: str) -> None:
        self.wait(f"{text_is('output', 'streaming')} && {text_is('li:last-child.assistant span', text)}")

    def wait_until_it_shows(self, messages: list[Any]) -> None:
        """The messages, their text and how they ended; and that nothing is under way any more."""
        shown = [[message["role"], message["metadata"].get("status", ""), said(message)] for message in messages]
        text = "[...li.querySelectorAll('span')].map((s) => s.textContent).join('')"
        each = f"[...document.querySelectorAll('li')].map((li) => [...li.className.split(' '), {text}])"
        there = f"JSON.stringify({each}) === {json.dumps(json.dumps(shown, ensure_ascii=False, separators=(',', ':')))}"
        self.wait(f"{text_is('output', 'ready')} && {there}")


def said(message: Any) -> str:
    return "".join(part.get("text", "") for part in message["parts"])


TOO_LATE = """globalThis.fetch = ((real) => async (url, given) =>
    String(url).endsWith("/stream") ? new Response(null, { status: 204 }) : real(url, given))(fetch)"""
"""A page that always comes too late to resume, as one does when a reply ends after it was loaded."""


@pytest.mark.parametrize("major", ["6", "7"])
async def test_the_ai_sdks_page_asks_stops_resumes_and_follows(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession, upstream: str, major: str
) -> None:
    async def answers(question: str, gate: str) -> None:
        """The model says one word, and the others when the gate is open."""
        gate = f"{major} {gate}"
        await script(http, upstream, question, {"say": "Well, "}, {"wait": gate}, {"say": "so."}, {"finish": "stop"})

    async def opened(gate: str) -> None:
        await open_gate(http, upstream, f"{major} {gate}")

    async def shown_in_both(count: int) -> list[Any]:
        """The chat as the server has it, when its last reply has ended and both windows show that."""
        for tab in tabs:
            tab.wait(text_is("output", "ready"))
        async with http.get(f"{server.url}/api/chat/{chat}") as response:
            messages: list[Any] = (await response.json())["messages"]
        assert len(messages) == count
        for tab in tabs:
            tab.wait_until_it_shows(messages)
        return messages

    model = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{upstream}/v1"}
    with served("howto/ai-sdk.md", "aichat.py", tmp_path, model) as server:
        bundled(tmp_path, major)
        await script(http, upstream, "user: One?\n\nassistant: Well, so.", {"say": "A title"}, {"finish": "stop"})
        first = AiTab(browser, "first", server.url)
        first.wait("document.querySelector('input') !== null")
        chat = str(first.look("location.hash.slice(1)"))
        await answers("One?", "one")
        first.say("One?")
        first.wait_until_it_streams("Well, ")
        second = AiTab(browser, "second", str(first.look("location.href")))
        tabs = (first, second)
        second.wait_until_it_streams("Well, ")  # resumed when it was loaded
        await opened("one")
        assert [said(message) for message in await shown_in_both(2)] == ["One?", "Well, so."]

        await answers("Two?", "never")
        first.say("Two?")
        second.wait_until_it_streams("Well, ")  # it was not asked here
        second.click("#stop")
        assert (await shown_in_both(4))[-1]["metadata"]["status"] == "stopped"

        await answers("Two?", "again")
        second.click("#again")
        for tab in tabs:
            tab.wait_until_it_streams("Well, ")
        second.do("reload")
        second.wait_until_it_streams("Well, ")
        await opened("again")
        assert [said(message) for message in await shown_in_both(4)][2:] == ["Two?", "Well, so."]

        await answers("Otherwise?", "otherwise")
        first.click("li.user:first-child button")
        first.say("Otherwise?")
        for tab in tabs:
            tab.wait_until_it_streams("Well, ")
        await opened("otherwise")
        assert [said(message) for message in await shown_in_both(2)] == ["Otherwise?", "Well, so."]

        await answers("Late?", "late")
        second.look(f"void ({TOO_LATE})")
        first.say("Late?")
        first.wait_until_it_streams("Well, ")
        second.wait("document.querySelectorAll('li').length === 4")
        assert second.look(text_is("output", "ready"))
        await opened("late")
        first.wait(text_is("li:last-child.assistant span", "Well, so."))
        assert [said(message) for message in await shown_in_both(4)][2:] == ["Late?", "Well, so."]
        assert (first.close(), second.close()) == ([], [])


def test_the_boards_tests_pass_and_can_fail(tmp_path: Path) -> None:
    write_files("howto/testing.md", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout
    board = tmp_path / "board.py"
    board.write_text(board.read_text().replace('task["done"] = True', "pass"))
    assert subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60, check=False).returncode == 1


async def test_the_programs_of_the_client_go_on_over_restarts_and_do_nothing_twice(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async def added(*names: str) -> None:
        for name in names:
            await dispatch(http, server.url, "board/task_added", {"id": name, "title": name})

    async def done(*names: str) -> list[Any]:
        """The tasks, once these are done."""

        async def board() -> list[Any] | None:
            tasks: list[Any] = (await get_state(http, server.url))["slices"]["board"]["tasks"]
            return tasks if {task["id"] for task in tasks if task["done"]} == set(names) else None

        found: list[Any] = await eventually(board, seconds=60)
        return found

    write_files("howto/client.md", tmp_path)
    target = tmp_path / "board.py"
    target.write_text(target.read_text().replace("sqlite:///", f"sqlite:///{tmp_path}/"))
    with Server("serve", f"{target}:store", "--heartbeat", "0.2") as server:
        async with (
            Typed(tmp_path, "python worker.py ada", STATESTREAM_URL=server.url) as ada,
            Typed(tmp_path, "python worker.py bob", STATESTREAM_URL=server.url) as bob,
            Typed(tmp_path, "python diary.py run.jsonl", STATESTREAM_URL=server.url) as diary,
        ):
            for worker in (ada, bob):
                await worker.says("stream: healthy")
            await diary.says("0 tasks so far")
            await added("one", "two", "three")
            await done("one", "two", "three")
            await added("four")
            server.kill()  # while they take it or do it
            await ada.says("stream: failed")
            async with Typed(tmp_path, "python tidy.py", STATESTREAM_URL=server.url) as tidy:
                server.start()
                assert await tidy.ends() == ["sorted 4 tasks"]
            await done("one", "two", "three", "four")
            server.kill()
            for path in tmp_path.glob("board.db*"):
                path.unlink()
            server.start()
            await diary.says("started over: forked")
            await added("five")
            await done("five")
        doing = [line for worker in (ada, bob) for line in worker.lines if line.startswith("doing ")]
        assert sorted(doing) == ["doing five", "doing four", "doing one", "doing three", "doing two"]
        assert "board/task_added {'id': 'one', 'title': 'one'}" in diary.lines
        replay = statestream.client.replay(tmp_path / "run.jsonl", speed=math.inf)
        reasons = [update.reason async for update in replay if update.kind == "initial"]
        assert reasons == ["start", "forked"]
        async with Typed(tmp_path, "python worker.py ada", STATESTREAM_URL=f"{server.url}/nowhere") as lost:
            await lost.ends(1)
            assert lost.errors[0].startswith("StreamRefused: ")


CLIENT_APP = """
from pathlib import Path
from tests.apps.board import board, counter, room
from statestream import Store, create_app
app = create_app(Store([board, room, counter], journal="sqlite:///{folder}/journal.db"))
app.router.add_static("/page", "{folder}")
app.router.add_static("/patch", "{patch}")
"""
CLIENT_PAGE = """<!doctype html><link rel="icon" href="data:,"><title>client</title>
<script type="importmap">{"imports": {"fast-json-patch": "/patch/index.mjs"}}</script>
<script type="module">
  import { listen } from "./client.mjs";
  import { watch } from "./least.mjs";
  globalThis.shown = [];
  listen(new URL("/stream/state?slices=board,room/*", location), (state) => shown.push(structuredClone(state)));
  watch((board) => (globalThis.least = board));
</script>"""


async def test_the_plain_clients_show_the_servers_state_also_after_a_kill(
    browser: Node, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    write_files("howto/eventsource.md", tmp_path)
    (tmp_path / "index.html").write_text(CLIENT_PAGE)
    (tmp_path / "app.py").write_text(CLIENT_APP.format(folder=tmp_path, patch=NODE / "node_modules/fast-json-patch"))
    with Server("serve", f"{tmp_path / 'app.py'}:app", env={"PYTHONPATH": str(ROOT)}) as server:
        tab = Tab(browser, "client", f"{server.url}/page/index.html")
        tab.wait("globalThis.shown?.length === 1")
        for number in range(20):
            await dispatch(http, server.url, "board/task_added", {"id": str(number), "title": "Ship it"})
        await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key="42")
        await self_same(tab, http, server)
        assert {"patches", "value"} <= kinds(tab)
        server.kill()
        server.start()
        await dispatch(http, server.url, "board/task_moved", {"at": 3, "to": 9})
        await self_same(tab, http, server)
        names = tab.look("seen.events.map((event) => event.name)")
        assert names.count("state.initial") == 2  # one for each of the two clients
        assert names.count("state.resumed") == 2
        assert [problem for problem in tab.close() if not is_of_the_cut(problem)] == []


async def self_same(tab: Tab, http: aiohttp.ClientSession, server: Server) -> None:
    state = (await get_state(http, server.url, "slices=board,room/*"))["slices"]
    await eventually(lambda: tab.look("shown.at(-1)") == state)
    await eventually(lambda: tab.look("least") == state["board"])


def kinds(tab: Tab) -> set[str]:
    return set(tab.look("seen.events.flatMap((event) => Object.keys(event))"))


LISTEN = """import("/client.mjs").then(async ({ listen }) => {
  const sorted = (_, it) => it?.constructor === Object ? Object.fromEntries(Object.entries(it).sort()) : it;
  const text = (value) => JSON.stringify(value, sorted);
  const waiting = JOBS, found = {};
  async function one({ name, path, asks, state }) {
    let at = null, shown = null;
    class Heard extends EventSource {
      addEventListener(name, listener) {
        super.addEventListener(name, (event) => {
          listener(event);
          at = event.lastEventId || at;
        });
      }
    }
    const client = listen(new URL(`${path}/stream/state`, location), (state) => (shown = state), Heard);
    const until = performance.now() + 20000;
    while (performance.now() < until) {
      const held = JSON.stringify({ position: at });
      const { asked } = await (await fetch(path, { method: "POST", body: held })).json();
      if (asked.length >= asks && text(shown) === text(state)) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    client.close();
    found[name] = shown;
  }
  const worker = async () => {
    while (waiting.length) await one(waiting.shift());
  };
  await Promise.all([worker(), worker(), worker(), worker()]); // a browser opens six connections to a host
  return found;
})"""
LIBRARY_TAKES = {"gap_no_such_dash"}
"""What the protocol rules out in a server, and a library for RFC 6902 accepts."""


async def test_the_plain_client_asks_and_holds_what_the_transcripts_say(
    browser: Node, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = NODE / "node_modules/fast-json-patch"
    client = tmp_path / "client.mjs"
    client.write_text(files_of("howto/eventsource.md")["client.mjs"].replace('"fast-json-patch"', '"/index.mjs"'))
    monkeypatch.setitem(scripted.PAGES, "/client.mjs", client)
    for name in ("index.mjs", "module/core.mjs", "module/duplex.mjs", "module/helpers.mjs"):
        monkeypatch.setitem(scripted.PAGES, f"/{name}", library / name)
    chosen = [one for one in Transcript.all() if one.name not in LIBRARY_TAKES and one.telling]
    async with scripted.Scripted() as server:
        jobs = [
            {"name": one.name, "path": f"{server.path}/{one.name}", "asks": len(one.cursors), "state": one.last.state}
            for one in chosen
        ]
        page = f"{server.url}/page"
        shown = await asyncio.to_thread(in_a_tab, browser, page, LISTEN.replace("JOBS", json.dumps(jobs)))
        got = {name: (state, server.asked(name)) for name, state in shown.items()}
    assert got == {one.name: (one.last.state, one.cursors) for one in chosen}


def in_a_tab(browser: Node, url: str, script: str) -> Any:
    tab = Tab(browser, "scripted", url)
    try:
        return tab.look(script)
    finally:
        tab.close()


OUTBOX = """
import json, sqlite3, sys, time, live
connection = sqlite3.connect("outbox.db", timeout=5)
connection.execute(live.TABLE)
for type, payload, id in json.loads(sys.argv[1]):
    live.put(connection.execute, type, payload, id=id)
connection.commit()
live.start(lambda: sqlite3.connect("outbox.db", timeout=5))
while connection.execute("SELECT 1 FROM live_outbox WHERE refused IS NULL").fetchone():
    time.sleep(0.02)
print(json.dumps([refused for (refused,) in connection.execute("SELECT refused FROM live_outbox")]))
"""


async def sent(folder: Path, server: Server, *actions: tuple[str, Any, str]) -> Any:
    """What an outbox keeps of these actions, once all of them are answered."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OUTBOX, json.dumps(actions),
        cwd=folder, env=os.environ | {"STATESTREAM_URL": server.url}, stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(output)


async def test_an_outbox_waits_for_a_server_that_is_away_and_counts_once(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    write_files("howto/producers.md", tmp_path)
    order = ("totals/ordered", {"amount": 5}, "order-1")
    with served("howto/dashboard.md", "dashboard.py", tmp_path) as server:
        server.kill()
        waiting = asyncio.create_task(sent(tmp_path, server, order))
        with socket.create_server(("127.0.0.1", server.port)) as nobody:
            nobody.setblocking(False)
            connection, _ = await asyncio.get_running_loop().sock_accept(nobody)  # it has begun to try
            connection.close()
        server.start()
        assert await waiting == []
        assert await sent(tmp_path, server, order) == []
        assert (await get_state(http, server.url))["slices"]["totals"] == {"orders": 1, "revenue": 5}
        wrong, right = ("totals/ordered", {"amount": "5"}, "order-2"), ("totals/ordered", {"amount": 6}, "order-3")
        [refused] = await sent(tmp_path, server, wrong, right)
        assert "/amount" in refused
        assert (await get_state(http, server.url))["slices"]["totals"] == {"orders": 2, "revenue": 11}


DJANGO = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"],
                   DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.db"}})
django.setup()
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.urls import path
import live
connection.cursor().execute(live.TABLE)
import shop_django
urlpatterns = [path("orders", shop_django.order)]
application = get_wsgi_application()
import sys
from wsgiref.simple_server import make_server
with make_server("127.0.0.1", int(sys.argv[1]), application) as server:
    server.serve_forever()
"""


@contextmanager
def running(folder: Path, port: int, *command: str, env: dict[str, str]) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, *command], cwd=folder, env=os.environ | env, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.parametrize("framework", ["fastapi", "django"])
async def test_an_order_does_not_wait_for_the_server_and_counts_once(
    framework: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    write_files("howto/producers.md", tmp_path)
    (tmp_path / "serve_django.py").write_text(DJANGO)
    port = free_port()
    command = {
        "fastapi": ("-m", "uvicorn", "shop_fastapi:app", "--port", str(port)),
        "django": ("serve_django.py", str(port)),
    }[framework]
    with (
        served("howto/dashboard.md", "dashboard.py", tmp_path) as server,
        running(tmp_path, port, *command, env={"STATESTREAM_URL": server.url}) as shop,
    ):

        async def counted() -> Any:
            return (await get_state(http, server.url))["slices"]["totals"] == {"orders": 1, "revenue": 900}

        server.kill()
        for _ in range(2):  # both are answered while nobody listens
            assert await eventually(lambda: asyncio.to_thread(order, shop), seconds=30) == 201
        server.start()
        assert await eventually(counted, seconds=60)
        assert await asyncio.to_thread(order, shop) == 201
        assert await counted()


def order(shop: str) -> int | None:
    """The status of the answer; None while nobody listens."""
    body = json.dumps({"number": "7", "amount": 900}).encode()
    request = urllib.request.Request(f"{shop}/orders", data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError:
        raise
    except OSError:
        return None
