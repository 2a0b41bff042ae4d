"""Chromium with a ticket: a plain EventSource and a WebSocket, which send no header and come back by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.support import ROOT, Server, serving
from tests.support.browser import Tab, is_of_the_cut
from tests.support.node import Node

APP = f"{ROOT / 'tests/apps/ticketed.py'}:app"
TICKET = """
import("/js/statestream.js").then(async ({ ticket }) => {
  globalThis.asked = 0;
  await ticket("/tickets", TOKEN);
  return asked;
})
"""
WITH_COOKIES = "(url, init) => fetch(url, { ...init, credentials: 'include' })"
FOLLOW = """
void (() => {
  globalThis.got = [];
  globalThis.source = new EventSource("/stream/state?slices=board");
  for (const name of ["state.initial", "state.resumed", "state.update"])
    source.addEventListener(name, (event) => got.push([name, JSON.parse(event.data)]));
})()
"""
CONNECT = """
new Promise((resolve) => {
  const socket = new WebSocket("/who");
  socket.onmessage = (event) => resolve(event.data);
  socket.onerror = () => resolve("refused");
})
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server("serve", APP, env={"JOURNAL": f"sqlite:///{tmp_path / 'board.db'}"}) as running:
        yield running


@pytest.fixture
def tab(browser: Node, server: Server) -> Iterator[Tab]:
    opened = Tab(browser, "tickets", server.url)
    yield opened
    opened.close()


async def noted(http: aiohttp.ClientSession, server: Server, text: str) -> None:
    body = {"type": "board/noted", "payload": {"text": text}}
    async with http.post(f"{server.url}/dispatch", json=body, headers={"Authorization": "Bearer bob"}) as response:
        assert response.status == 200


async def test_an_event_source_comes_back_by_itself(tab: Tab, server: Server, http: aiohttp.ClientSession) -> None:
    assert tab.look(TICKET.replace("TOKEN", "'ann'")) == 0
    tab.look(FOLLOW)
    tab.wait("got.length === 1")
    server.kill()
    tab.wait("source.readyState === EventSource.CONNECTING")
    server.start()
    tab.wait("got.some(([name]) => name === 'state.resumed')")
    await noted(http, server, "meanwhile")
    tab.wait("JSON.stringify(got.at(-1)).includes('meanwhile')")
    assert tab.look("document.cookie") == "", "no script sees the cookie"
    assert tab.look(CONNECT) == "ann", "a WebSocket opens with what the stream was given"
    assert all(is_of_the_cut(problem) for problem in tab.do("problems"))


def test_a_web_socket_opens_with_a_ticket_and_again_without_another(tab: Tab) -> None:
    assert tab.look(CONNECT) == "nobody"
    tab.look(TICKET.replace("TOKEN", "'ann'"))
    assert [tab.look(CONNECT), tab.look(CONNECT)] == ["ann", "ann"]
    tab.look(FOLLOW)
    tab.wait("got.length === 1")


def test_a_function_is_asked_for_another_token_and_a_refusal_has_a_reason(tab: Tab) -> None:
    bad, good = "ann:1:0", "ann"
    assert tab.look(TICKET.replace("TOKEN", f"() => ['{bad}', '{good}'][asked++]")) == 2
    refused = TICKET.replace("TOKEN", f"'{bad}'") + ".catch((error) => error.message)"
    assert tab.look(refused) == "the credentials have expired"


def followed_elsewhere(browser: Node, page: str, server: Server) -> Any:
    """Whose WebSocket a page of another origin opens, once its stream is open."""
    tab = Tab(browser, "elsewhere", page)
    script = TICKET.replace('"/', f'"{server.url}/').replace("TOKEN", f"'ann', {{ fetch: {WITH_COOKIES} }}")
    tab.look(script)
    path = '"/stream/state?slices=board"'
    tab.look(FOLLOW.replace(path, f'"{server.url}{path[1:]}, {{ withCredentials: true }}'))
    tab.wait("got.length === 1")
    found = tab.look(CONNECT.replace('"/who"', f'"{server.url}/who"'))
    tab.close()
    return found


async def test_a_page_of_an_allowed_origin_gets_a_ticket_too(browser: Node) -> None:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<!doctype html><link rel=icon href=data:,>", content_type="text/html")

    async with serving(page) as url:
        with Server("serve", APP, env={"ORIGINS": url}) as server:
            assert await asyncio.to_thread(followed_elsewhere, browser, url, server) == "ann"
