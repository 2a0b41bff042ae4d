"""The ASGI application, and its lifespan.

Invariants: nothing is open outside of the lifespan, which opens the store and closes it; it is that of the ASGI server
or, where a framework does not pass that on, the context `lifespan()`. As soon as the process is asked to stop, the
streams end and the replies are finished, as under `statestream serve`; the store stays open until the lifespan ends,
because requests that are in progress, those of the framework too, may still need it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web

from statestream.asgi.exchange import Exchange, Receive, Send
from statestream.asgi.request import AsgiRequest
from statestream.asgi.scope import Scope
from statestream.asgi.signals import noticing_signals
from statestream.server.connection import READ_BYTES
from statestream.server.edge import Edge
from statestream.server.inflate import refuse_truncated
from statestream.server.limits import limited_in
from statestream.server.serve import SHUTDOWN_SECONDS, end

NOT_OPEN: Final = (
    "the statestream application is not open: its framework does not run the lifespan of what it mounts; "
    "open it with the framework's own, as in FastAPI(lifespan=live.lifespan), or in it with "
    "`async with live.lifespan():`"
)


class AsgiApp:
    """An application of `create_app`, or one that contains it, as an ASGI 3 application. Made by `asgi_app`."""

    def __init__(self, app: web.Application) -> None:
        if not isinstance(app, web.Application):
            raise TypeError(f"expected an application, as in asgi_app(create_app(store)), got {type(app).__name__}")
        self._app = app
        self._edge: Edge | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, one WebSocket, or the lifespan of the process. Raises RuntimeError if it is not open."""
        if scope["type"] == "lifespan":
            await self._follow(receive, send)
        elif scope["type"] not in ("http", "websocket"):
            raise ValueError(f"expected an ASGI scope of http, websocket or lifespan, got {scope['type']}")
        elif self._edge is None:
            raise RuntimeError(NOT_OPEN)
        else:
            await Exchange(scope, receive, send, self._edge.connection()).run()

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Opens the application, and closes it at the end: `async with live.lifespan():`.

        For frameworks that do not run the lifespan of applications that are mounted in them. Most of them take the
        method itself, as in `FastAPI(lifespan=live.lifespan)`, and call it with their own application, which is not
        used. Raises RuntimeError if it is open already, and what opening the store raises.
        """
        if self._edge is not None:
            raise RuntimeError("the statestream application is open already; open it once, in one place")
        refuse_truncated()
        logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)  # its warnings quote headers of clients
        runner = _Runner(
            self._app,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=0,  # a connection in memory has one request
            read_bufsize=READ_BYTES,
            shutdown_timeout=SHUTDOWN_SECONDS,
            tcp_keepalive=False,
        )
        try:
            await runner.setup()
            assert runner.server is not None
            self._edge = edge = Edge(runner.server, limited_in(self._app), AsgiRequest)
            stopping = _Stopping(edge, runner)
            with noticing_signals(stopping.begin):
                try:
                    yield
                finally:
                    await stopping.finish()
        finally:
            self._edge = None
            await end(runner)

    async def _follow(self, receive: Receive, send: Send) -> None:
        """The lifespan of the process, as its ASGI server tells it."""
        await receive()
        begun = False
        try:
            async with self.lifespan():
                begun = True
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except Exception as error:
            failed = "shutdown" if begun else "startup"
            await send({"type": f"lifespan.{failed}.failed", "message": f"{type(error).__name__}: {error}"})
            raise
        await send({"type": "lifespan.shutdown.complete"})


class _Runner(web.AppRunner):
    """Calls what the application registered for its shutdown once: when the process is asked to stop, or at the end."""

    __slots__ = ("_shut",)

    async def shutdown(self) -> None:
        if not hasattr(self, "_shut"):
            self._shut = True
            await super().shutdown()


class _Stopping:
    """The end of streams and replies, which begins as soon as the process is asked to stop."""

    def __init__(self, edge: Edge, runner: web.AppRunner) -> None:
        self._edge, self._runner = edge, runner
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._stop())

    async def finish(self) -> None:
        self.begin()
        assert self._task is not None
        await self._task

    async def _stop(self) -> None:
        await self._edge.stop(SHUTDOWN_SECONDS)
        await self._runner.shutdown()


def asgi_app(app: web.Application) -> AsgiApp:
    """An ASGI application that serves what `create_app` made, to be mounted or run by an ASGI server.

        live = asgi_app(create_app(store))
        api = FastAPI(lifespan=live.lifespan)
        api.mount("/live", live)

    The ASGI server opens the store at its start and closes it at its end. Where the application is mounted in another,
    that other one must do it, as above. Raises TypeError for anything that is not an application.
    """
    return AsgiApp(app)
