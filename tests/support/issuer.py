"""An issuer's JWK set on a real server in this process, which a test changes, breaks and slows down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from tests.support.stand_in import serving


class Issuer:
    """`keys` is what it publishes. `answer` replaces the whole response; `gate` delays each until it is set."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.answer: web.Response | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[web.Request] = []
        self.url = ""

    async def respond(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        await self.gate.wait()
        if self.answer is None:
            return web.json_response({"keys": self.keys})
        return web.Response(
            status=self.answer.status, body=self.answer.body, headers=self.answer.headers, content_type=None
        )


@asynccontextmanager
async def issuer(*keys: dict[str, Any]) -> AsyncIterator[Issuer]:
    found = Issuer()
    found.keys = list(keys)
    async with serving(found.respond) as root:
        found.url = f"{root}/jwks.json"
        yield found
