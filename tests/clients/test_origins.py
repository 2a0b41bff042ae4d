"""Chromium with pages of other origins: one that the server allows, foreign ones, and a name that was rebound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support import ROOT, Server, get_state, serving
from tests.support.browser import CHROMIUM, Tab
from tests.support.node import Node

APP = f"{ROOT / 'tests/apps/embedded.py'}:app"
REBOUND = "rebound.example"
"""A name whose address the browser learns anew, as it would from the name server of an attacker."""
PAGE = """<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<script>
  const server = new URLSearchParams(location.search).get("server");
  const got = (path, headers = {}) => fetch(`${server}${path}`, { credentials: "include", headers });
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, credentials: "include" };
  const counted = JSON.stringify({ type: "board/counted", payload: {} });
  const question = { id: "q1", role: "user", parts: [{ type: "text", text: "Hello?" }] };

  function opened(target) {
    return new Promise((resolve) => {
      target.addEventListener("open", () => { target.close(); resolve("open"); });
      target.addEventListener("error", () => { target.close(); resolve("refused"); });
    });
  }
  function initial(url) {
    return new Promise((resolve) => {
      const source = new EventSource(url, { withCredentials: true });
      source.addEventListener("state.initial", (event) => { source.close(); resolve(JSON.parse(event.data).slices); });
      source.addEventListener("error", () => { source.close(); resolve("refused"); });
    });
  }
  const tried = {
    login: async () => (await fetch(`${server}/login`, { method: "POST", credentials: "include" })).status,
    stream: () => initial(`${server}/stream/state?slices=counter`),
    state: async () => {
      const answer = await got("/state?slices=counter");
      return [answer.headers.get("ETag") !== null, (await answer.json()).slices];
    },
    conditional: async () => (await got("/state", { "If-None-Match": "*" })).status,
    missing: async () => (await (await got("/state?slices=nothing")).json()).code,
    nowhere: async () => (await (await got("/nowhere")).json()).code,
    dispatch: async () => (await (await fetch(`${server}/dispatch`, { ...json, body: counted })).json()).duplicate,
    token: async () => {
      const headers = { ...json.headers, Authorization: "Bearer t", "X-API-Key": "k" };
      return (await fetch(`${server}/dispatch`, { ...json, headers, body: counted })).status;
    },
    chat: async () => {
      const body = JSON.stringify({ id: "c", messages: [question] });
      const answer = await fetch(`${server}/api/chat`, { ...json, body });
      const kind = answer.headers.get("x-vercel-ai-ui-message-stream");
      return [kind, (await answer.text()).endsWith("data: [DONE]\\n\\n")];
    },
    socket: () => opened(new WebSocket(`${server.replace("http", "ws")}/ws`)),
    sdk: () => opened(new WebSocket(`${server.replace("http", "ws")}/api/chat`)),
    form: async () => {
      const simple = { method: "POST", mode: "no-cors", credentials: "include", body: counted };
      await fetch(`${server}/dispatch`, { ...simple, headers: { "Content-Type": "text/plain" } });
      await fetch(`${server}/api/chats`, simple);
      return "sent";
    },
  };
  const outcome = (name) => tried[name]().catch((error) => error.name);
</script>
"""
EXPECTED: dict[str, Any] = {
    "login": 204,
    "stream": {"counter": 0},
    "state": [True, {"counter": 0}],
    "conditional": 304,
    "missing": "unknown_slice",
    "nowhere": "not_found",
    "dispatch": False,
    "token": 200,
    "chat": ["v1", True],
    "socket": "open",
    "sdk": "open",
}
REFUSED = {name: "refused" if name in ("stream", "socket", "sdk") else "TypeError" for name in EXPECTED}


@pytest.fixture(scope="module")
def browser() -> Iterator[Node]:
    """Chromium, for which the name REBOUND has the address 127.0.0.1."""
    rules = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
    with Node("browser.mjs", CHROMIUM, rules) as running:
        yield running


async def page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


@asynccontextmanager
async def window(browser: Node, url: str) -> AsyncIterator[Tab]:
    opened = await asyncio.to_thread(Tab, browser, "window", url)
    try:
        yield opened
    finally:
        await asyncio.to_thread(opened.close)


async def outcomes(tab: Tab, names: Any) -> dict[str, Any]:
    return {name: await asyncio.to_thread(tab.look, f"outcome({json.dumps(name)})") for name in names}


@pytest.mark.usefixtures("each_mode")
async def test_a_page_of_an_allowed_origin_does_what_the_servers_own_pages_do(
    browser: Node, http: aiohttp.ClientSession
) -> None:
    async with serving(page) as front:
        with Server.serving(APP, env={"ORIGINS": front, "PYTHONPATH": str(ROOT)}) as server:
            async with window(browser, f"{front}/?server={server.url}") as tab:
                assert await outcomes(tab, EXPECTED) == EXPECTED
            assert (await get_state(http, server.url, "slices=counter"))["slices"]["counter"] == 2
            async with http.get(f"{server.url}/cookies") as response:
                with_cookie = set(await response.json())
    paths = {"/state", "/nowhere", "/stream/state", "/ws", "/api/chat"}
    assert with_cookie == {*(f"GET {path}" for path in paths), "POST /dispatch", "POST /api/chat"}


@pytest.mark.parametrize("where", ["of the same site", "of another site"])
async def test_a_foreign_page_can_do_nothing(browser: Node, http: aiohttp.ClientSession, where: str) -> None:
    async with serving(page) as front, serving(page) as foreign:
        with Server.serving(APP, env={"ORIGINS": front, "PYTHONPATH": str(ROOT)}) as server:
            address = foreign if where == "of the same site" else foreign.replace("127.0.0.1", "localhost")
            async with window(browser, f"{address}/?server={server.url}") as tab:
                assert await outcomes(tab, EXPECTED) == REFUSED
                assert await outcomes(tab, ["form"]) == {"form": "sent"}
            assert (await get_state(http, server.url, "slices=counter"))["slices"]["counter"] == 0
            refused = await server.metric(http, 'requests_total{outcome="forbidden_origin"}')
    assert refused >= 8  # the preflights, the login, both forms and both handshakes


async def test_a_rebound_name_reads_and_changes_nothing(browser: Node, http: aiohttp.ClientSession) -> None:
    """For the browser, the page that the name leads to has the origin of the attacker's page."""
    with Server.serving(APP, env={"PYTHONPATH": str(ROOT)}) as server:
        address = f"http://{REBOUND}:{server.port}"
        async with window(browser, f"{address}/state") as tab:
            assert '"misdirected_request"' in await asyncio.to_thread(tab.look, "document.body.innerText")
            await asyncio.to_thread(tab.look, f"void document.write({json.dumps(PAGE)})")
            await asyncio.to_thread(tab.look, f"void history.replaceState(null, '', '/?server={address}')")
            done = await asyncio.to_thread(
                tab.look,
                "fetch('/dispatch', {method: 'POST', headers: {'Content-Type': 'application/json'}, "
                "body: JSON.stringify({type: 'board/counted', payload: {}})}).then((answer) => answer.status)",
            )
            assert done == 421
            read = "fetch('/stream/state?slices=counter').then((answer) => answer.status)"
            assert await asyncio.to_thread(tab.look, read) == 421
            handshake = f"opened(new WebSocket('ws://{REBOUND}:{server.port}/ws'))"
            assert await asyncio.to_thread(tab.look, handshake) == "refused"
        assert (await get_state(http, server.url, "slices=counter"))["slices"]["counter"] == 0


async def test_a_front_end_elsewhere_follows_with_the_servers_own_client(
    browser: Node, http: aiohttp.ClientSession
) -> None:
    """Cookies are sent as the page's `fetch` says."""
    async with AsyncExitStack() as stack:
        front = await stack.enter_async_context(serving(page))
        server = stack.enter_context(Server.serving(APP, env={"ORIGINS": front, "PYTHONPATH": str(ROOT)}))
        tab = await stack.enter_async_context(window(browser, f"{front}/?server={server.url}"))
        await outcomes(tab, ["login"])
        follow = f"""import("{server.url}/js/statestream.js").then(({{ connect }}) => {{
          globalThis.seen = [];
          globalThis.withCookies = (url, init) => fetch(url, {{ ...init, credentials: "include" }});
          globalThis.follow = (slices, options) => {{
            globalThis.client = connect("{server.url}", {{ slices, ...options }});
            client.select((state) => state, (state) => seen.push(state));
          }};
        }})"""
        await asyncio.to_thread(tab.look, follow)
        await asyncio.to_thread(tab.look, "void globalThis.follow('counter')")
        await asyncio.to_thread(tab.wait, "seen.length === 1 && client.health.phase === 'live'")
        async with http.get(f"{server.url}/cookies") as response:
            assert await response.json() == []
        await asyncio.to_thread(tab.look, "void globalThis.follow('counter', { fetch: withCookies })")
        await asyncio.to_thread(tab.wait, "seen.length === 2")
        await asyncio.to_thread(tab.look, "void globalThis.follow('nothing', { fetch: withCookies })")
        await asyncio.to_thread(tab.wait, "client.health.error?.code === 'unknown_slice'")
        async with http.get(f"{server.url}/cookies") as response:
            assert await response.json() == ["GET /stream/state"] * 2


async def test_our_page_works_under_its_policy(browser: Node) -> None:
    with Server.serving(APP, env={"PYTHONPATH": str(ROOT)}) as server:
        tab = await asyncio.to_thread(Tab, browser, "window", f"{server.url}/page")
        await asyncio.to_thread(tab.wait, "document.querySelector('#status').textContent === 'live'")
        blocked = await asyncio.to_thread(
            tab.look,
            """new Promise((resolve) => {
              addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
              const script = document.createElement("script");
              script.textContent = "globalThis.ran = 1";
              document.body.append(script);
            })""",
        )
        assert (blocked, await asyncio.to_thread(tab.look, "globalThis.ran ?? 0")) == ("script-src-elem", 0)
        problems = await asyncio.to_thread(tab.close)
        assert all("Content Security Policy" in problem and "inline script" in problem for problem in problems)
        assert len(problems) == 1
