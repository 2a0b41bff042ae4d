"""A server that breaks one promise: a proxy in front of a good one, which spoils what goes through it on purpose.

Invariants: a fault is one function with a place: what is asked, the head of an answer, a whole answer, or a frame of a
stream: a block of events, a message of the server over a WebSocket, or what arrives of a text. Everything else goes
through untouched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Self

import aiohttp
from aiohttp import web

HOP = {"transfer-encoding", "connection", "content-length", "date", "server", "host", "content-encoding"}


@dataclass(slots=True, kw_only=True)
class Asked:
    """A request on its way to the good server; faults may write to it. `old`: HTTP/1.0."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    old: bool

    @property
    def cursor(self) -> str | None:
        return self.headers.get("Last-Event-ID") or self.query.get("after")


@dataclass(slots=True, kw_only=True)
class Answered:
    """An answer on its way back. A stream's body is not in it."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`frame` gets the number of a frame in its stream, and gives what is sent in its place; None: nothing."""

    ask: Callable[[Asked], None] = lambda asked: None
    answer: Callable[[Asked, Answered], None] = lambda asked, answered: None
    frame: Callable[[Asked, int, bytes], bytes | None] = lambda asked, number, frame: frame


@dataclass(slots=True, kw_only=True)
class Wrong:
    """`async with Wrong(good=server.url, fault=…) as wrong:`; `wrong.url`."""

    good: str
    fault: Fault = field(default_factory=Fault)
    url: str = ""
    runner: web.AppRunner | None = None
    session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self.through)
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True))
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.runner
        assert self.session
        await self.session.close()
        await self.runner.cleanup()

    async def through(self, request: web.Request) -> web.StreamResponse:
        assert self.session
        asked = Asked(
            method=request.method,
            path=request.path,
            query=dict(request.query),
            headers={name: value for name, value in request.headers.items() if name.lower() not in HOP},
            body=await request.read(),
            old=request.version < aiohttp.HttpVersion11,
        )
        self.fault.ask(asked)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request, asked)
        url, data = f"{self.good}{asked.path}", asked.body or None
        async with self.session.request(
            asked.method, url, params=asked.query, headers=asked.headers, data=data
        ) as response:
            headers = {name: value for name, value in response.headers.items() if name.lower() not in HOP}
            answered = Answered(status=response.status, headers=headers)
            texts = response.content_type == "text/plain" and response.status == 200
            streams = request.method != "HEAD" and (texts or response.content_type == "text/event-stream")
            if not streams:
                answered.body = await response.read()
            self.fault.answer(asked, answered)
            if not streams or answered.status != 200:
                return web.Response(status=answered.status, headers=answered.headers, body=answered.body)
            out = web.StreamResponse(headers=answered.headers)
            await out.prepare(request)
            number = 0
            async for frame in response.content.iter_any() if texts else _frames(response):
                spoilt = self.fault.frame(asked, number, frame)
                number += 1
                if spoilt:
                    with contextlib.suppress(ConnectionError):  # the client has gone
                        await out.write(spoilt)
            return out

    async def _socket(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        assert self.session
        out = web.WebSocketResponse()
        headers = {
            name: value for name, value in asked.headers.items() if not name.startswith("Sec-") and name != "Upgrade"
        }
        try:
            opened = await self.session.ws_connect(f"{self.good}{asked.path}", params=asked.query, headers=headers)
        except aiohttp.WSServerHandshakeError as error:
            return web.Response(status=error.status)
        async with opened as socket:
            await out.prepare(request)
            back = asyncio.create_task(self._answers(asked, socket, out))
            async for message in out:
                await socket.send_str(message.data)
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
        return out

    async def _answers(self, asked: Asked, socket: aiohttp.ClientWebSocketResponse, out: web.WebSocketResponse) -> None:
        number = 0
        with contextlib.suppress(ConnectionError):  # the client has gone
            async for message in socket:
                spoilt = self.fault.frame(asked, number, message.data.encode())
                number += 1
                for frame in (spoilt or b"").splitlines():
                    await out.send_str(frame.decode())
            await out.close()


async def _frames(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in response.content.iter_any():
        *frames, rest = (rest + chunk).split(b"\n\n")
        for frame in frames:
            yield frame + b"\n\n"
