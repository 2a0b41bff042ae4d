"""Tabs that the browser freezes or keeps in its back/forward cache: what they show afterwards, who goes on meanwhile.

The tabs are as people have them: the ones behind are hidden, and Chromium itself freezes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT, Server
from tests.support.browser import CHROMIUM, Tab
from tests.support.expecting import follow, titles_come_to
from tests.support.node import Node
from tests.support.tabs import PAGED, Tabs, check, come_to, count, streams

WATCH = """
Object.assign(globalThis, { live: [], events: [] });
const note = () => client.health.phase === "live" && live.push(client.state.board.count);
const on = (target, name, kind, work) => target.addEventListener(name, (event) => (events.push(kind(event)), work()));
on(document, "freeze", () => "away", () => (live.length = 0));
on(window, "pagehide", () => "away", () => (live.length = 0));
on(document, "resume", () => "back", note);
on(window, "pageshow", ({ persisted }) => (persisted ? "back" : "loaded"), note);
on(document, "visibilitychange", () => document.visibilityState, note);
void client.subscribe(note);
"""
"""`live` is what the page has shown as live since it was put away, at each event and whenever listeners were told."""
SOON = 2.0
"""Seconds after which the others go on when the leader is frozen."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Node]:
    with Node("browser.mjs", CHROMIUM, "--tabs") as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    env = {"JOURNAL": f"sqlite:///{tmp_path / 'board.db'}", "PYTHONPATH": str(ROOT), "HEARTBEAT": "2"}
    with Server("serve", PAGED, env=env) as running:
        yield running


def put_away(tabs: Tabs, some: list[Tab], how: str) -> None:
    for tab in some:
        tab.do("freeze") if how == "freeze" else tab.do("visit", url=f"{tabs.url}/elsewhere")


def bring_back(some: list[Tab], how: str) -> None:
    """Fails if the browser has loaded a page again."""
    for tab in some:
        tab.do("thaw" if how == "freeze" else "back")
    for tab in some:
        tab.wait("globalThis.events?.includes('back')")


@pytest.mark.parametrize("how", ["freeze", "cache"])
@pytest.mark.parametrize("who", ["leader", "follower", "all"])
async def test_nothing_old_is_shown_as_live_and_the_others_go_on(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession, who: str, how: str
) -> None:
    for _ in range(3):
        await asyncio.to_thread(tabs.add)
    for tab in tabs.open:
        tab.look(WATCH)
    await count(http, server)
    for tab in tabs.open:
        await asyncio.to_thread(tab.wait, "client.state.board.count === 1")
    leader, followers = tabs.leader, tabs.followers
    away = {"leader": [leader], "follower": followers[:1], "all": list(tabs.open)}[who]
    stay = [tab for tab in tabs.open if tab not in away]
    await asyncio.to_thread(put_away, tabs, away, how)
    await come_to(http, server, 1 if stay else 0)
    before = time.monotonic()
    await count(http, server, 3)
    for tab in stay:
        await asyncio.to_thread(tab.wait, "client.state.board.count === 4 && client.health.phase === 'live'")
    assert time.monotonic() - before < SOON + len(stay), "a tab that is hidden looks once per second"
    if how == "freeze":
        assert [tab.look("[client.health.phase, events.at(-1)]") for tab in away] == [["waiting", "away"]] * len(away)
    await asyncio.to_thread(bring_back, away, how)
    for tab in away:
        await asyncio.to_thread(tab.wait, "live.includes(4)")
        shown = tab.look("live")  # a stream that resumes is live where it ended, for the moment until the rest arrives
        assert shown == sorted(shown)
        assert set(shown) <= {1, 2, 3, 4}
    await come_to(http, server, 1)
    await count(http, server)
    for tab in tabs.open:
        await asyncio.to_thread(tab.wait, "client.state.board.count === 5 && told.at(-1).version === 11")
    for tab in stay:
        check(tab)
    assert await streams(http, server) == 1


UNPREPARED = "void (navigator.locks.query = () => new Promise(() => {}))"
"""Whoever leads does not come to open a connection."""


async def test_a_tab_that_is_frozen_before_it_has_a_connection_holds_up_no_other(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    leader = await asyncio.to_thread(tabs.add)
    others = [await asyncio.to_thread(tabs.add) for _ in range(2)]
    others[0].look(UNPREPARED)
    tabs.drop(leader)
    await come_to(http, server, 0)
    await count(http, server)
    await asyncio.to_thread(others[0].do, "freeze")
    before = time.monotonic()
    await asyncio.to_thread(others[1].wait, "client.state.board.count === 1 && client.health.phase === 'live'")
    assert time.monotonic() - before < SOON
    others[0].do("close")
    tabs.open.remove(others[0])


# actions


HELD = """
Object.assign(globalThis, { held: [] });
globalThis.fetch = ((real) => async (url, init) => {
  if (!url.endsWith("/dispatch")) return real(url, init);
  const answer = await real(url, init);
  return new Promise((resolve) => held.push((other) => resolve(other ?? answer)));
})(fetch);
undefined
"""
"""The server has an action, and its answer waits in `held`."""
BUSY = """(() => {
  const busy = new Response("", { status: 503, headers: { "Retry-After": "3600" } });
  return Object.defineProperty(busy, "body", { get: () => void (globalThis.isRead = true) });
})()"""


@pytest.mark.parametrize("how", ["freeze", "cache"])
async def test_an_action_whose_sender_is_put_away_takes_effect_once(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession, how: str
) -> None:
    first, second = tabs.blank(), tabs.blank()
    await asyncio.to_thread(follow, first)
    await asyncio.to_thread(follow, second)
    first.look(HELD)
    first.look("add('a')")
    await titles_come_to(http, server, "a")
    await asyncio.to_thread(first.wait, "held.length === 1")
    await asyncio.to_thread(put_away, tabs, [first], how)
    await asyncio.to_thread(second.wait, "sent === 1 && titles() === 'a'")
    second.look("add('b')")
    await asyncio.to_thread(second.wait, "done.length === 1 && titles() === 'ab'")
    await asyncio.to_thread(first.do, "thaw" if how == "freeze" else "back")
    await asyncio.to_thread(first.wait, "titles() === 'ab' && done.length === 1")
    first.look("add('c')")
    await asyncio.to_thread(first.wait, "titles() === 'abc' && done[1]?.duplicate === false")
    await titles_come_to(http, server, "abc")
    for tab in tabs.open:
        assert all(len(set(text)) == len(text) for text in tab.look("seen_titles")), "nothing is there twice"


async def test_a_tab_that_was_frozen_while_it_sent_goes_on_sending(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    tab = tabs.blank()
    await asyncio.to_thread(follow, tab)
    tab.look(HELD)
    tab.look("add('a')")
    await asyncio.to_thread(tab.wait, "held.length === 1")
    await asyncio.to_thread(tab.do, "freeze")
    await asyncio.to_thread(tab.do, "thaw")
    await asyncio.to_thread(tab.wait, "held.length === 2")
    tab.look("held[1](), undefined")
    await asyncio.to_thread(tab.wait, "done.length === 1")
    tab.look(f"held[0]({BUSY}), undefined")  # the first attempt fails at last
    await asyncio.to_thread(tab.wait, "globalThis.isRead")
    tab.look("add('b')")
    await asyncio.to_thread(tab.wait, "held.length === 3")
    tab.look("held[2](), undefined")
    await asyncio.to_thread(tab.wait, "done.length === 2 && titles() === 'ab'")
    await titles_come_to(http, server, "ab")


async def test_a_page_in_the_cache_learns_that_another_one_has_sent_its_action(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    first, second = tabs.blank(), tabs.blank()
    await asyncio.to_thread(follow, first, blocked=True)
    first.look("add('a')")
    await asyncio.to_thread(follow, second)
    await asyncio.to_thread(second.wait, "titles() === 'a'")
    first.look("void (blocked = false)")
    await asyncio.to_thread(put_away, tabs, [first], "cache")
    await asyncio.to_thread(second.wait, "sent === 1")
    await titles_come_to(http, server, "a")
    second.look("add('b')")
    await asyncio.to_thread(second.wait, "done.length === 1 && titles() === 'ab'")
    await asyncio.to_thread(first.do, "back")
    assert await asyncio.to_thread(first.wait, "globalThis.done"), "the browser has loaded it again"
    await asyncio.to_thread(first.wait, "titles() === 'ab' && done[0] === 'unavailable'")
    first.look("add('c')")
    await asyncio.to_thread(first.wait, "titles() === 'abc' && done[1]?.duplicate === false")


@pytest.mark.parametrize("how", ["freeze", "cache"])
async def test_what_another_tab_has_sent_meanwhile_is_not_shown_twice(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession, how: str
) -> None:
    """The tab knows the action, and does not hear that it was sent. Its next state has it."""
    first, second, third = (tabs.blank() for _ in range(3))
    await asyncio.to_thread(follow, first, blocked=True)
    await asyncio.to_thread(follow, second)
    first.look("add('a')")
    await asyncio.to_thread(second.wait, "titles() === 'a'")
    second.look("void (seen_titles.length = 0)")
    await asyncio.to_thread(put_away, tabs, [second], how)
    tabs.drop(first)
    third.look(HELD)
    await asyncio.to_thread(follow, third)
    await titles_come_to(http, server, "a")
    await count(http, server)
    await asyncio.to_thread(third.wait, "held.length === 1 && client.state.board.count === 1")
    await asyncio.to_thread(second.do, "thaw" if how == "freeze" else "back")
    await asyncio.to_thread(second.wait, "client.health.phase === 'live' && titles() === 'a'")
    third.look("held[0](), undefined")
    await asyncio.to_thread(second.wait, "client.state.board.count === 1 && titles() === 'a'")
    assert set(second.look("seen_titles")) <= {"a"}
