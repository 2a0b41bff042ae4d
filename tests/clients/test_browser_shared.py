"""One connection for all tabs of a browser: who has it, what it follows, and what the others see when that one is gone.

How many streams are open is what the server counts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch, eventually
from tests.support.browser import Tab
from tests.support.logins import AUDIENCE, ISSUER, SECRET, claims, login_server, signed
from tests.support.node import Node
from tests.support.tabs import CONNECT, PAGED, Tabs, check, come_to, count, follow, streams, versions

UNTIL_TAKEN_OVER = """new Promise((resolve) => {
  const look = () => (client.state.board.count === 3 ? resolve() : setTimeout(look, 50));
  look();
})"""
"""For longer than a test usually waits."""
SOON = 1.0
"""A bound of seconds that the page promises."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    env = {"JOURNAL": f"sqlite:///{tmp_path / 'board.db'}", "PYTHONPATH": str(ROOT), "HEARTBEAT": "2"}
    with Server("serve", PAGED, env=env) as running:
        yield running


async def test_clients_of_one_page_share_a_stream(tabs: Tabs, server: Server, http: aiohttp.ClientSession) -> None:
    tab = tabs.add()
    tab.look("void (globalThis.more = ['board', ['board'], undefined].map((slices) => connect('/', { slices })))")
    tab.wait("more.every((client) => client.health.phase === 'live')")
    await count(http, server)
    tab.wait("more.every((client) => client.state.board.count === 1)")
    tab.wait("more[0].state.board.count === 1 && !('counter' in more[0].state) && 'counter' in more[2].state")
    assert await streams(http, server) == 2, "who names no slices follows another stream than who does"


async def test_who_joins_gets_the_state_without_a_request(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    first = tabs.add("board", "room/*")
    await count(http, server, 3)
    first.wait("client.state.board.count === 3")
    second = tabs.add("board")
    assert second.look("[client.state.board.count, client.position === null, seen.urls]") == [3, False, []]
    assert second.look("Object.keys(client.state)") == ["board"]
    await count(http, server)
    tabs.everywhere("client.state.board.count === 4")
    for tab in tabs.open:
        tab.wait("told.length >= 2")
        check(tab)
    assert await streams(http, server) == 1


@pytest.mark.slow
async def test_twenty_tabs_are_one_connection_and_hold_up_no_request(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    for _ in range(20):
        await asyncio.to_thread(tabs.add)
    assert await streams(http, server) == 1
    for tab in tabs.open:
        assert tab.look("client.dispatch('board/counted').then(({ duplicate }) => duplicate)") is False
    tabs.everywhere("client.state.board.count === 20")
    leader = tabs.leader
    before = time.monotonic()
    tabs.drop(leader)
    tabs.open[7].wait("phases.length > 2 || client.health.phase === 'live'")
    await count(http, server)
    tabs.open[7].wait("client.state.board.count === 21")
    assert time.monotonic() - before < 5 * SOON, "twenty tabs on a busy machine"
    tabs.everywhere("client.state.board.count === 21")
    for tab in tabs.open:
        check(tab)
    await come_to(http, server, 1)


@pytest.mark.parametrize("how", ["close", "crash", "client", "freeze"])
async def test_another_tab_takes_over_at_the_cursor(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession, how: str
) -> None:
    for _ in range(3):
        tabs.add()
    await count(http, server, 3)
    tabs.everywhere("client.state.board.count === 3")
    leader = tabs.leader
    if how == "client":
        leader.look("client.close()")
        tabs.open.remove(leader)
    elif how == "freeze":
        leader.look("void document.dispatchEvent(new Event('freeze'))")
        tabs.open.remove(leader)
    else:
        tabs.drop(leader, how)
    before = time.monotonic()
    for tab in tabs.open:
        tab.look("void (phases.length = 0)")
    await count(http, server, 3)
    tabs.everywhere("client.state.board.count === 6 && client.health.phase === 'live'")
    assert time.monotonic() - before < 3 * SOON
    for tab in tabs.open:
        check(tab)
        assert "waiting" not in tab.look("phases")
    await come_to(http, server, 1)
    assert tabs.leader.look("seen.events.map(({ name }) => name)")[0] == "state.resumed"
    if how in ("client", "freeze"):
        tabs.open.append(leader)
    if how == "freeze":
        leader.look("void document.dispatchEvent(new Event('resume'))")
        leader.wait("client.state.board.count === 6 && client.health.phase === 'live'")
        assert await streams(http, server) == 1


async def test_the_stream_follows_what_all_want(tabs: Tabs, server: Server, http: aiohttp.ClientSession) -> None:
    for key in "12":
        await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key=key)
    first = tabs.add("board")
    await count(http, server)
    first.wait("client.state.board.count === 1")
    first.look("void (phases.length = 0)")
    second, third = tabs.add("room/1"), tabs.add("room/2", "board")
    assert second.look("client.state['room/1'].members") == ["Ada"]
    assert third.look("Object.keys(client.state)") == ["board", "room/2"]
    assert set(first.look("phases")) <= {"live"}, "those who followed before notice nothing"
    await dispatch(http, server.url, "room/joined", {"name": "Bob"}, key="2")
    await count(http, server)
    third.wait("client.state['room/2'].members.length === 2 && client.state.board.count === 2")
    first.wait("client.state.board.count === 2 && told.length === 3")
    assert first.look("told[0].kind === 'initial' && told.slice(1).every(({ slice }) => slice === 'board')")
    assert await streams(http, server) == 1
    assert asked(first)[-1] == "board,room/1,room/2"
    tabs.drop(third)
    tabs.drop(second, "crash")
    first.wait("new URL(seen.urls.at(-1)).searchParams.get('slices') === 'board' && seen.open === 1")
    await count(http, server)
    first.wait("told.length === 4 && client.state.board.count === 3")
    assert first.look("phases") == ["live"]


def asked(tab: Tab) -> list[str]:
    return list(tab.look("seen.urls.map((url) => new URL(url).searchParams.get('slices'))"))


@pytest.mark.parametrize("how", ["close", "crash"])
async def test_whoever_takes_over_follows_what_the_others_want(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession, how: str
) -> None:
    leader = tabs.add("board")
    rooms = [tabs.add(f"room/{key}") for key in "12"]
    for key in "12":
        await dispatch(http, server.url, "room/joined", {"name": "Ada"}, key=key)
    for tab, key in zip(rooms, "12", strict=True):
        tab.wait(f"client.state['room/{key}'] !== undefined")
    tabs.drop(leader, how)
    for key in "12":
        await dispatch(http, server.url, "room/joined", {"name": "Bob"}, key=key)
    for tab, key in zip(rooms, "12", strict=True):
        tab.wait(f"client.state['room/{key}'].members.length === 2 && told.length >= 3")
        assert [each if each == "start" else "change" for each in versions(tab)] == ["start", "change", "change"]
    await come_to(http, server, 1)
    assert asked(tabs.leader)[-1] == "room/1,room/2"


async def test_what_is_refused_to_one_tab_concerns_no_other(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    first = tabs.add("board")
    first.look("void (phases.length = 0)")
    wrong = Tab(tabs.browser, "wrong", server.url, beside=first)
    for slices, code in (("bored", "unknown_slice"), ("room/%zz", "malformed"), ("", "malformed")):
        wrong.look(CONNECT.replace("OPTIONS", json.dumps({"slices": slices})))
        wrong.wait("globalThis.client?.health.phase === 'ended'")
        assert wrong.look("client.health.error.code") == code
        wrong.look("void (globalThis.client = undefined)")
    await count(http, server)
    first.wait("client.state.board.count === 1 && told.length === 2")
    check(first)
    assert first.look("phases") == ["live"]
    follow(wrong, slices="board")
    assert await streams(http, server) == 1
    wrong.do("close")


HOLD = """
Object.assign(globalThis, { held: [], request: fetch, answers: [] });
globalThis.fetch = async (url, init) => {
  if (url.includes("/state?") && url.includes("at=")) {
    if (answers.length) return new Response("busy", { status: answers.shift() });
    await new Promise((resolve) => held.push(resolve));
  }
  return request(url, init);
};
undefined
"""
"""`held` are the requests for the slices that the leader adds; before, it gets `answers`."""


async def test_who_joins_a_leader_that_is_not_prepared_gets_the_state_as_soon_as_it_is(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    leader, second, third = tabs.add("board"), tabs.add("board"), tabs.add("room/1")
    for tab in (second, third):
        tab.look(HOLD)
    tabs.drop(leader)
    await eventually(lambda: second.look("held.length") or third.look("held.length"))
    last = Tab(tabs.browser, "last", server.url, beside=second)
    tabs.open.append(last)
    last.look(CONNECT.replace("OPTIONS", json.dumps({"slices": ["board"]})))
    last.wait("globalThis.client !== undefined && navigator.locks.query().then(({ held }) => held.length >= 4)")
    for tab in (second, third):
        tab.look("held.forEach((release) => release()), undefined")
    tabs.everywhere("client.health.phase === 'live'")
    await count(http, server)
    last.wait("client.state.board?.count === 1")


async def test_a_server_that_is_busy_has_not_refused_the_slices_of_a_tab(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    first = tabs.add("board")
    first.look(HOLD + "; answers.push(429, 503), undefined")
    second = Tab(tabs.browser, "second", server.url, beside=first)
    tabs.open.append(second)
    second.look(CONNECT.replace("OPTIONS", json.dumps({"slices": ["room/1"]})))
    first.wait("held.length === 1")
    first.look("held[0](), undefined")
    tabs.everywhere("client.health.phase === 'live'")
    await come_to(http, server, 1)
    assert second.look("seen.urls") == []


@pytest.mark.parametrize("answer", [503, None])
async def test_nobody_waits_for_slices_that_the_server_does_not_give_to_another_tab(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession, answer: int | None
) -> None:
    first, second = tabs.add("board"), tabs.add("board")
    first.look(HOLD + f"; answers.push(...{[answer] * 100 if answer else []}), undefined")
    for tab in (first, second):
        tab.look("void (phases.length = 0)")
    third = Tab(tabs.browser, "third", server.url, beside=first)
    tabs.open.append(third)
    third.look(CONNECT.replace("OPTIONS", json.dumps({"slices": ["room/1"]})))
    if answer is None:
        first.wait("held.length === 1")
    else:
        third.wait("client?.health.phase === 'waiting' && client.health.error.status === 503")
    for number in range(1, 4):
        await count(http, server)
        for tab in (first, second):
            tab.wait(f"client.state.board.count === {number}")
    assert [tab.look("phases") for tab in (first, second)] == [["live"], ["live"]]
    assert third.look("client.health.phase") != "live"
    third.look("void document.dispatchEvent(new Event('visibilitychange'))")  # it asks, and gets an answer
    first.look("answers.length = 0, held.forEach((release) => release()), held.push = (release) => release()")
    third.wait("client.health.phase === 'live'")
    await come_to(http, server, 1)
    for tab in (first, second):
        tab.wait("told.length === 4")
        check(tab)
    assert asked(first)[-1] == "board,room/1"
    assert tabs.leader is first


async def test_whoever_leads_with_slices_that_are_refused_makes_room(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    first = tabs.add("board")
    both = "globalThis.wrong = connect('/', { slices: 'bored' }); globalThis.right = connect('/', { slices: 'board' })"
    first.look(f"void (client.close(), {both.replace(';', ',')})")
    first.wait("wrong.health.phase === 'ended' && right.health.phase === 'live'")
    assert first.look("wrong.health.error.code") == "unknown_slice"
    await come_to(http, server, 1)


@pytest.mark.slow
async def test_a_union_that_the_server_refuses_leaves_each_tab_its_own_stream(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    """Its URL is too long."""
    for part in range(2):
        tabs.add("board", *(f"room/{part}-{n}" for n in range(350)))
    await count(http, server, 2)
    tabs.everywhere("client.state.board.count === 2 && client.health.phase === 'live'")
    for tab in tabs.open:
        check(tab)
    assert await streams(http, server) == 2


async def test_all_resume_when_the_server_was_killed(tabs: Tabs, server: Server, http: aiohttp.ClientSession) -> None:
    for _ in range(3):
        tabs.add()
    await count(http, server)
    tabs.everywhere("client.state.board.count === 1")
    server.kill()
    tabs.everywhere("client.health.phase === 'waiting' && client.health.error.code === 'unavailable'")
    server.start()
    await count(http, server, 2)
    tabs.everywhere("client.state.board.count === 3 && client.health.phase === 'live'")
    for tab in tabs.open:
        check(tab)
    assert await streams(http, server) == 1


async def test_all_are_back_when_the_network_is(tabs: Tabs, server: Server, http: aiohttp.ClientSession) -> None:
    for _ in range(3):
        tabs.add()
    tabs.open[0].do("unplug", offline=True)
    server.kill()
    tabs.everywhere("client.health.phase === 'waiting'")
    server.start()
    await count(http, server, 2)
    tabs.open[0].do("unplug", offline=False)
    tabs.everywhere("client.state.board.count === 2 && client.health.phase === 'live'")
    for tab in tabs.open:
        check(tab)


@pytest.mark.slow
async def test_a_leader_that_stands_still_is_replaced(tabs: Tabs, server: Server, http: aiohttp.ClientSession) -> None:
    for _ in range(3):
        tabs.add()
    leader, others = tabs.leader, tabs.followers
    leader.look("void setTimeout(() => { for (const end = Date.now() + 40000; Date.now() < end; ); }, 100)")
    others[0].wait("client.health.level === 'degraded'")
    before = time.monotonic()
    await count(http, server, 3)
    for tab in others:
        tab.look(UNTIL_TAKEN_OVER)
        tab.wait("client.state.board.count === 3 && client.health.phase === 'live'")
        check(tab)
    assert time.monotonic() - before < 4 * SOON, "a leader has one second to answer, or two by chance"
    tabs.open.remove(leader)
    assert sum(tab.look("seen.open") for tab in others) == 1
    tabs.open.append(leader)


async def test_a_tab_that_stood_still_is_live_when_its_leader_has_answered(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        tabs.add()
    [follower] = tabs.followers
    await count(http, server)
    follower.wait("client.state.board.count === 1")
    shown = """(() => {
      for (const end = Date.now() + 3500; Date.now() < end; );
      const before = client.health.phase;
      document.dispatchEvent(new Event("visibilitychange"));
      return [before, client.health.phase];
    })()"""
    assert follower.look(shown) == ["live", "connecting"]
    await count(http, server)
    follower.wait("client.state.board.count === 2 && client.health.phase === 'live'")
    assert tabs.leader is not follower
    check(follower)


ROUND = 30
"""How many actions run while a leader dies. A tab that has missed those of two rounds gets them one by one."""


@pytest.mark.slow
async def test_every_change_is_told_once_in_every_tab_while_leaders_die(
    tabs: Tabs, server: Server, http: aiohttp.ClientSession
) -> None:
    for _ in range(4):
        await asyncio.to_thread(tabs.add)
    deaths = ("crash", "close", "crash", "close", "crash", "close")
    allowed = asyncio.Semaphore(0)
    done = 0

    async def keep_counting() -> None:
        nonlocal done
        for _ in range(len(deaths) * ROUND):
            await allowed.acquire()
            await count(http, server)
            done += 1

    counting = asyncio.create_task(keep_counting())
    for how in deaths:
        for _ in range(ROUND):
            allowed.release()
        leader = await asyncio.to_thread(lambda: tabs.leader)
        await asyncio.to_thread(tabs.drop, leader, how)
        await asyncio.to_thread(tabs.add)
        await asyncio.to_thread(tabs.everywhere, f"client.state.board.count >= {done}")
    await counting
    await asyncio.to_thread(tabs.everywhere, f"client.state.board.count === {done}")
    for tab in tabs.open:
        await asyncio.to_thread(check, tab)
    await come_to(http, server, 1)


LATER = int(time.time()) + 24 * 3600
ADA, ALSO_ADA, BOB = (signed(claims(exp=LATER + n, sub=sub)) for n, sub in enumerate(["ada", "ada", "bob"]))


@pytest.fixture(scope="module")
def logins() -> Iterator[Server]:
    auth = f'JWT(issuer="{ISSUER}", audience="{AUDIENCE}", algorithms=["HS256"], key="{SECRET}")'
    with login_server(auth) as running:
        yield running


def open_with(browser: Node, server: Server, options: Sequence[str]) -> Tab:
    """A page with one client for each of the options."""
    tab = Tab(browser, "logins", server.url)
    made = ", ".join(f"connect('/', {each})" for each in options)
    tab.look(f"import('/js/statestream.js').then(({{ connect }}) => void (globalThis.clients = [{made}]))")
    tab.wait("globalThis.clients?.every(({ health }) => ['live', 'ended'].includes(health.phase))")
    return tab


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([f"{{ token: '{ADA}' }}", f"{{ token: '{ADA}' }}"], 1),
        ([f"{{ token: '{ADA}' }}", f"{{ token: '{BOB}' }}"], 2),
        ([f"{{ token: '{ADA}' }}", f"{{ token: '{ALSO_ADA}' }}"], 2),
        ([f"{{ token: '{ADA}', identity: 'ada' }}", f"{{ token: () => '{ALSO_ADA}', identity: 'ada' }}"], 1),
        ([f"{{ token: '{ADA}', identity: 'ada' }}", f"{{ token: '{BOB}', identity: 'bob' }}"], 2),
        ([f"{{ token: () => '{ADA}' }}", f"{{ token: () => '{ADA}' }}"], 2),
        ([f"{{ token: '{ADA}', fetch: (...given) => fetch(...given) }}", f"{{ token: '{ADA}' }}"], 2),
    ],
)
def test_identities_do_not_share(browser: Node, logins: Server, options: list[str], expected: int) -> None:
    tab = open_with(browser, logins, options)
    assert tab.look("clients.map(({ health }) => health.phase)") == ["live", "live"]
    assert tab.look("seen.open") == expected
    names = "navigator.locks.query().then(({ held }) => JSON.stringify(held))"
    assert not any(secret in tab.look(names) for secret in (ADA, BOB, ADA.split(".")[2], "identity"))
    tab.close()


def test_who_has_not_said_who_they_are_shares_nothing_if_the_server_asks(browser: Node, logins: Server) -> None:
    """It may know a person by a cookie, which no script can see."""
    tab = open_with(browser, logins, ["{ slices: 'board' }"] * 3)
    assert tab.look("[...new Set(seen.urls)].length") == 1
    tab.close()
