"""The token of a page: where the web client sends it, when it is renewed, and that no URL contains it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from statestream.browser import file_handler
from tests.support import Server, serving
from tests.support.browser import Tab
from tests.support.logins import AUDIENCE, ISSUER, SECRET, claims, login_server, signed
from tests.support.node import Node

LATER = int(time.time()) + 24 * 3600  # later than the last test of a slow run
GOOD, BAD = signed(claims(exp=LATER)), signed(claims(exp=LATER, aud="others"))
FOLLOW = """
void import("/js/statestream.js").then(({ connect }) => {
  Object.assign(globalThis, { states: [], statuses: [], urls: [], asked: 0 });
  const request = (url, init) => (urls.push(url), globalThis.fetch(url, init));
  const client = (globalThis.client = connect("/", { token: TOKEN, fetch: request }));
  client.select((state) => state, (state) => states.push(state));
  client.subscribe(() => statuses.push([client.health.phase, client.health.error?.code, client.health.error?.detail]));
})
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    auth = f'JWT(issuer="{ISSUER}", audience="{AUDIENCE}", algorithms=["HS256"], key="{SECRET}")'
    with login_server(auth) as running:
        yield running


@pytest.fixture
def tab(browser: Node, server: Server) -> Iterator[Tab]:
    opened = Tab(browser, "token", server.url)
    yield opened
    urls = opened.look("urls")
    assert any("/stream/state" in url for url in urls)
    assert not any(GOOD[:40] in url for url in urls)
    opened.close()


def follow(tab: Tab, token: str) -> None:
    """`token` is an expression of JavaScript."""
    tab.look(FOLLOW.replace("TOKEN", token))


def last_status(tab: Tab) -> Any:
    return tab.look("statuses.at(-1)")


def test_a_page_follows_with_a_token(tab: Tab) -> None:
    follow(tab, json.dumps(GOOD))
    tab.wait("globalThis.states?.length === 1")
    assert last_status(tab)[0] == "live"


def test_a_page_dispatches_with_a_token_too(tab: Tab) -> None:
    follow(tab, f"() => {json.dumps([GOOD, BAD, GOOD])}[asked++]")
    tab.wait("globalThis.states?.length === 1")
    tab.look("client.dispatch('board/counted')")
    tab.wait("states.at(-1).board.count === 1")
    assert tab.look("asked") == 1, "a dispatch uses the newest token"


def test_a_token_that_is_refused_ends_it_with_the_reason(tab: Tab) -> None:
    follow(tab, json.dumps(BAD))
    tab.wait("globalThis.statuses?.at(-1)?.[0] === 'ended'")
    assert last_status(tab) == ["ended", "unauthenticated", "the token is for another audience"]


def test_a_function_is_asked_for_each_connection_and_after_a_401(tab: Tab, server: Server) -> None:
    tokens = json.dumps([BAD, GOOD])
    follow(tab, f"async () => {tokens}[Math.min(1, asked++)]")
    tab.wait("globalThis.states?.length === 1")
    assert tab.look("asked") == 2
    server.kill()
    tab.wait("statuses.at(-1)[0] !== 'live'")
    server.start()
    tab.wait("statuses.at(-1)[0] === 'live'")
    assert tab.look("asked") >= 3


def test_a_function_is_asked_twice_at_most_for_a_connection(tab: Tab) -> None:
    follow(tab, f"() => (asked++, {json.dumps(BAD)})")
    tab.wait("globalThis.statuses?.at(-1)?.[1] === 'unauthenticated' && client.health.phase === 'ended'")
    assert tab.look("asked") == 2


def test_a_function_that_fails_is_asked_again(tab: Tab) -> None:
    follow(tab, f"async () => {{ if (asked++ === 0) throw new Error('no network'); return {json.dumps(GOOD)}; }}")
    tab.wait("globalThis.states?.length === 1")
    assert ["waiting", "unavailable", "the function that returns the token failed"] in tab.look("statuses")


def test_a_page_outlives_its_token(tab: Tab) -> None:
    brief = signed(claims(exp=int(time.time()) - 7))  # the leeway is ten seconds
    follow(tab, f"() => {json.dumps([brief, GOOD])}[asked++]")
    tab.wait("globalThis.statuses?.some(([_, code]) => code === 'expired') && statuses.at(-1)[0] === 'live'")
    assert tab.look("[asked, states.length]") == [2, 1], "it resumed at its cursor"


def ended(browser: Node, url: str) -> Any:
    """The status with which a page ends that follows a URL with a token."""
    tab = Tab(browser, "redirected", url)
    follow(tab, json.dumps(GOOD))
    tab.wait("globalThis.statuses?.at(-1)?.[0] === 'ended'")
    found = last_status(tab)
    tab.close()
    return found


async def test_a_token_is_not_sent_to_where_a_server_redirects(browser: Node) -> None:
    """Another port is another origin."""
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(request.path)
        return web.Response(headers={"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"})

    async def moved(request: web.Request) -> web.StreamResponse:
        if request.path == "/":
            return web.Response(text="<!doctype html><link rel=icon href=data:,>", content_type="text/html")
        if request.path.startswith("/js/"):
            return await file_handler(request.path.removeprefix("/js/"))(request)
        return web.Response(status=307, headers={"Location": f"{other}{request.path}"})

    async with serving(elsewhere) as other, serving(moved) as url:
        found = await asyncio.to_thread(ended, browser, url)
    assert found == ["ended", "redirect", "the server redirects to where this client does not follow; use the new URL"]
    assert seen == []
