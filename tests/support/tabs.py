"""The tabs of one browser with clients of the web client, on the application `tests/apps/paged.py`."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import aiohttp

from tests.support.api import dispatch
from tests.support.browser import Tab
from tests.support.node import Node
from tests.support.paths import ROOT
from tests.support.polling import eventually
from tests.support.server import Server

PAGED = f"{ROOT / 'tests/apps/paged.py'}:app"
CONNECT = """
import("/js/statestream.js").then(({ connect }) => {
  Object.assign(globalThis, { connect, told: [], phases: [] });
  globalThis.client = connect("/", OPTIONS);
  client.subscribe((updates) => told.push(...updates));
  client.subscribe(() => phases.at(-1) !== client.health.phase && phases.push(client.health.phase));
})
"""


class Tabs:
    """The tabs of one browser."""

    def __init__(self, browser: Node, url: str) -> None:
        self.browser, self.url, self.open, self.numbers = browser, url, list[Tab](), itertools.count()

    def add(self, *slices: str, **options: Any) -> Tab:
        """A new tab that follows."""
        tab = self.blank()
        follow(tab, **({"slices": slices or ("board",)} | options))
        return tab

    def blank(self) -> Tab:
        """A new tab without a client."""
        beside = self.open[0] if self.open else None
        tab = Tab(self.browser, f"tab {next(self.numbers)}", self.url, beside=beside)
        self.open.append(tab)
        return tab

    @property
    def leader(self) -> Tab:
        [leader] = [tab for tab in self.open if tab.look("seen.open") == 1]
        return leader

    @property
    def followers(self) -> list[Tab]:
        leader = self.leader
        return [tab for tab in self.open if tab is not leader]

    def drop(self, tab: Tab, how: str = "close") -> None:
        if how == "crash":
            tab.do("crash")
        self.open.remove(tab)
        tab.do("close")

    def everywhere(self, script: str) -> None:
        for tab in self.open:
            tab.wait(script)

    def close(self) -> None:
        for tab in self.open:
            tab.do("close")


def follow(tab: Tab, **options: Any) -> None:
    tab.look(CONNECT.replace("OPTIONS", json.dumps(options)))
    tab.wait("globalThis.client?.health.phase === 'live'")


async def streams(http: aiohttp.ClientSession, server: Server) -> int:
    """How many are open, as the server counts."""
    async with http.get(f"{server.url}/metrics") as response:
        [count] = re.findall(r"^statestream_subscribers (\d+)", await response.text(), re.MULTILINE)
    return int(count)


async def come_to(http: aiohttp.ClientSession, server: Server, count: int) -> None:
    """Waits until so many streams are open."""

    async def are_open() -> bool:
        return await streams(http, server) == count

    await eventually(are_open, seconds=15)


async def count(http: aiohttp.ClientSession, server: Server, times: int = 1) -> None:
    for _ in range(times):
        status, _ = await dispatch(http, server.url, "board/counted", {})
        assert status == 200


def versions(tab: Tab) -> list[Any]:
    """What the tab was told, in order: versions, and the reasons of whole states."""
    return list(tab.look("told.map((each) => (each.kind === 'initial' ? each.reason : each.version))"))


def check(tab: Tab) -> None:
    """Each change was told once, in order, after the first state. Each action changes two slices, and it has one."""
    first, *rest = versions(tab)
    assert first == "start"
    assert not rest or rest == list(range(rest[0], rest[-1] + 1, 2))
