"""The service through which LaunchDarkly's `sse-contract-tests` run a client: HTTP in, callbacks out.

https://github.com/launchdarkly/sse-contract-tests/blob/main/docs/service_spec.md

Invariants: it knows the suite's requests and no client. Callbacks of a client go out one after the other, with numbers.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp
import orjson
from aiohttp import web

from tests.support.paths import ROOT

Tell = Callable[[dict[str, Any]], None]
Start = Callable[[dict[str, Any], Tell], Awaitable[Callable[[], Awaitable[None]]]]
"""Starts a client as the suite requests it. Returns a function that stops it."""
SUITE = "sse-contract-tests"


def suite() -> str | None:
    """The program: on the PATH, or as `.ci/setup test` has built it."""
    built = ROOT / ".ready" / SUITE
    return str(built) if built.exists() else shutil.which(SUITE)


class Reports:
    """What one client has to tell, in order."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(self._send())

    def tell(self, message: dict[str, Any]) -> None:
        self._messages.put_nowait(message)

    async def _send(self) -> None:
        async with aiohttp.ClientSession() as http:
            number = 0
            while True:
                message = await self._messages.get()
                number += 1
                body = io.BytesIO(orjson.dumps(message))  # aiohttp warns of a large body that is not a file
                async with http.post(f"{self._url}/{number}", data=body) as response:
                    await response.read()


class ContractService:
    """`async with ContractService(start, capabilities) as service:`, then `await service.run()`."""

    def __init__(self, start: Start, capabilities: list[str]) -> None:
        self._start, self._capabilities = start, capabilities
        self._running: dict[str, tuple[Callable[[], Awaitable[None]], Reports]] = {}
        self._begun = 0
        self.app = web.Application(client_max_size=64 << 20)  # the suite has events of megabytes
        self.app.router.add_get("/", self._status)
        self.app.router.add_post("/", self._create)
        self.app.router.add_delete("/streams/{number}", self._close)

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for number in list(self._running):
            await self._stop(number)
        await self._runner.cleanup()

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({"capabilities": self._capabilities})

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self._begun += 1
        reports = Reports(asked["callbackUrl"])
        self._running[str(self._begun)] = (await self._start(asked, reports.tell), reports)
        return web.Response(status=201, headers={"Location": f"{self.url}/streams/{self._begun}"})

    async def _close(self, request: web.Request) -> web.Response:
        await self._stop(request.match_info["number"])
        return web.Response(status=204)

    async def _stop(self, number: str) -> None:
        stop, reports = self._running.pop(number)
        await stop()
        reports.task.cancel()
        await asyncio.gather(reports.task, return_exceptions=True)

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Runs the suite. Returns its exit code and what it printed."""
        program = suite()
        assert program is not None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            program,
            *("--url", self.url, "--host", "127.0.0.1", "--port", str(port), *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode or 0, printed.decode()
