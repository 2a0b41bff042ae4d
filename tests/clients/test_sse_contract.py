"""LaunchDarkly's `sse-contract-tests` against both clients: the behaviour that users of event streams expect.

The suite sends events that no statestream server sends, so each client is used below its replica.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from statestream.browser import client_handler
from statestream.client.connection import Connection
from statestream.client.health import HeartbeatMonitor
from statestream.client.replica import Replica, Update
from statestream.client.token import Token
from statestream.protocol.sse import Event
from tests.support.browser import CHROMIUM
from tests.support.contract_service import ContractService, Tell, suite
from tests.support.node import Node
from tests.support.paths import NODE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        suite() is None,
        reason="sse-contract-tests is not on the PATH; `.ci/setup test` builds it where Go and GitHub can be reached",
    ),
    pytest.mark.timeout(600),
]


class AnyEvents(Replica):
    """Uses the id of every event as its cursor, and holds no state."""

    def apply(self, event: Event) -> list[Update]:
        self.position = event.last_id or None
        return []


async def start_python(asked: dict[str, Any], tell: Tell) -> Callable[[], Awaitable[None]]:
    replica = AnyEvents()
    replica.position = asked.get("lastEventId")

    def on_event(event: Event, _: object) -> None:
        tell({"kind": "event", "event": {"type": event.event, "data": event.data, "id": event.last_id}})

    connection = Connection(asked["streamUrl"], {}, replica, HeartbeatMonitor(None), on_event, Token(None))
    connection.retry_ms = asked.get("initialDelayMs", 10)

    async def follow() -> None:
        async with aiohttp.ClientSession(headers=asked.get("headers", {})) as http:
            tell({"kind": "error", "comment": str(await connection.run(http))})

    task = asyncio.create_task(follow())

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return stop


async def test_the_python_client_keeps_the_contract() -> None:
    capabilities = ["bom", "headers", "last-event-id", "server-directed-shutdown-request"]
    async with ContractService(start_python, capabilities) as service:
        code, printed = await service.run()
    assert code == 0, printed


PAGE = "<!doctype html><link rel=icon href=data:,><title>contract</title><script type=module src=/contract.js></script>"


class Window:
    """The page, which runs a connection of the web client for each stream of the suite."""

    def __init__(self, browser: Node) -> None:
        self._browser = browser
        self._tell: dict[int, Tell] = {}

    def add_to(self, app: web.Application) -> None:
        app.router.add_get("/page", self._page)
        app.router.add_get("/contract.js", self._script)
        app.router.add_get("/js/{name}", client_handler())
        app.router.add_post("/told/{number}", self._told)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _script(self, _: web.Request) -> web.Response:
        return web.Response(text=(NODE / "contract.js").read_text(), content_type="text/javascript")

    async def _told(self, request: web.Request) -> web.Response:
        self._tell[int(request.match_info["number"])](await request.json())
        return web.Response(status=204)

    async def open(self, url: str) -> None:
        await asyncio.to_thread(self._browser.ask, "open", window="contract", url=f"{url}/page")
        await self._do("wait", "globalThis.ready")

    async def _do(self, what: str, script: str) -> None:
        await asyncio.to_thread(self._browser.ask, what, window="contract", script=script)

    async def start(self, asked: dict[str, Any], tell: Tell) -> Callable[[], Awaitable[None]]:
        number = len(self._tell)
        self._tell[number] = tell
        await self._do("look", f"void start({number}, {json.dumps(asked)})")

        async def stop() -> None:
            await self._do("look", f"void stop({number})")

        return stop


@pytest.mark.long
async def test_the_browsers_client_keeps_the_contract() -> None:
    """In a browser that lets the page read from the suite's server, which is of another origin and has no CORS."""
    with Node("browser.mjs", CHROMIUM, "--disable-web-security") as browser:
        window = Window(browser)
        service = ContractService(window.start, ["bom", "last-event-id", "server-directed-shutdown-request"])
        window.add_to(service.app)
        async with service:
            await window.open(service.url)
            code, printed = await service.run()
    assert code == 0, printed
