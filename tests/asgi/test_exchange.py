"""What an ASGI server may do that uvicorn and hypercorn rarely do, played by the test: it suspends, fails, cancels."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from statestream import Store, create_app
from statestream.asgi import AsgiApp, asgi_app
from statestream.server.abort import abort_response
from tests.apps.board import board


class Request:
    """One GET, as an ASGI server passes it on. Each `send` waits until other tasks have run."""

    def __init__(self, path: str, http_version: str = "1.1") -> None:
        headers = [(b"host", b"localhost")]
        self.scope = {"type": "http", "method": "GET", "path": path, "headers": headers, "http_version": http_version}
        self.sent: list[Any] = []
        self.left = asyncio.Event()
        self.begun = asyncio.Event()

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.begun.set()

    async def ask(self, app: AsgiApp) -> None:
        await app(self.scope, self.receive, self.send)


async def slowly(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"one")
    await asyncio.sleep(0)
    await response.write(b"x" * 200_000)
    return response


async def cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"as far as this")
    abort_response(request)
    return response


def app_under_test() -> AsgiApp:
    inner = create_app(Store([board]))
    inner.router.add_get("/slowly", slowly)
    inner.router.add_get("/cut", cut)
    return asgi_app(inner)


async def test_a_response_is_ended_once_however_long_the_server_takes() -> None:
    app, request = app_under_test(), Request("/slowly")
    async with app.lifespan():
        await request.ask(app)
    first, *bodies = request.sent
    assert first["type"] == "http.response.start"
    assert b"".join(body["body"] for body in bodies) == b"one" + b"x" * 200_000
    assert [body["more_body"] for body in bodies] == [True] * (len(bodies) - 1) + [False]
    assert max(len(body["body"]) for body in bodies) <= 64 << 10


async def test_what_was_written_before_a_cut_arrives() -> None:
    app, request = app_under_test(), Request("/cut")
    async with app.lifespan():
        with pytest.raises(ConnectionAbortedError):
            await request.ask(app)
    assert b"".join(each.get("body", b"") for each in request.sent) == b"as far as this"
    assert all(each["more_body"] for each in request.sent[1:])


async def test_a_client_that_leaves_ends_its_stream_quietly() -> None:
    app, request = app_under_test(), Request("/stream/state")
    async with app.lifespan():
        streaming = asyncio.create_task(request.ask(app))
        await request.begun.wait()
        request.left.set()
        await streaming
        metrics = Request("/metrics")
        await metrics.ask(app)
    assert b"statestream_subscribers 0.0" in b"".join(each.get("body", b"") for each in metrics.sent)
    assert all(body["more_body"] for body in request.sent[1:])


async def test_a_server_that_cancels_a_stream_ends_it() -> None:
    app, request = app_under_test(), Request("/stream/state")
    async with app.lifespan():
        streaming = asyncio.create_task(request.ask(app))
        await request.begun.wait()
        streaming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await streaming


@pytest.mark.parametrize("code", [1000, 1006])
async def test_what_a_client_has_sent_before_it_left_reaches_the_handler(code: int) -> None:
    """hypercorn says 1006 of every client that leaves, also of one that has closed its WebSocket in order."""
    heard: list[Any] = []

    async def slow(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await asyncio.sleep(0.01)
            heard.append(message.data)
        heard.append("closed")
        return socket

    inner = create_app(Store([board]))
    inner.router.add_get("/slow", slow)
    headers = [(b"host", b"localhost"), (b"sec-websocket-version", b"13"), (b"sec-websocket-key", b"A" * 22 + b"==")]
    scope = {"type": "websocket", "path": "/slow", "headers": headers, "http_version": "1.1", "subprotocols": []}
    coming = [
        {"type": "websocket.connect"},
        *({"type": "websocket.receive", "text": text} for text in ("one", "two", "three")),
        {"type": "websocket.disconnect", "code": code},
    ]
    accepted = asyncio.Event()

    async def receive() -> Any:
        if len(coming) < 5:
            await accepted.wait()
        return coming.pop(0)

    async def send(message: Any) -> None:
        accepted.set()

    app = asgi_app(inner)
    async with app.lifespan():
        await app(scope, receive, send)
    assert heard == ["one", "two", "three", "closed"]


async def test_it_is_opened_once_and_not_served_unless_it_is_open() -> None:
    app = app_under_test()
    with pytest.raises(RuntimeError, match="is not open"):
        await Request("/state").ask(app)
    async with app.lifespan():
        with pytest.raises(RuntimeError, match="open already"):
            async with app.lifespan():
                pass
        await Request("/state").ask(app)
    with pytest.raises(TypeError, match=r"asgi_app\(create_app\(store\)\), got Store"):
        asgi_app(Store([board]))  # type: ignore[arg-type]
