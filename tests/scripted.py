"""A server that plays transcripts: each request for a stream gets the next connection, and its cursor is noted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Self

from aiohttp import web

from tests.support import ROOT, eventually
from tests.transcripts import NO_CURSOR, Transcript
from tests.vectors import Vector

PAGES = {
    "/statestream.js": ROOT / "statestream/browser/statestream.js",
    "/play.js": ROOT / "tests/node/play.js",
}


class Scripted:
    """`async with Scripted() as server:`; `server.asked` has the cursors of each transcript, or vector, in order.

    `position[name]()` is where a transcript's client stands: no connection is cut before it has what was sent, because
    whoever is cut may lose what it has not read.
    """

    def __init__(self, vectors: Sequence[Vector] = ()) -> None:
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        self.position: defaultdict[str, Callable[[], str | None]] = defaultdict(lambda: lambda: None)
        self.transcripts = {one.name: one for one in Transcript.all()}
        self.vectors = vectors

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{name}/stream/state", self.stream)
        app.router.add_get("/vector/{number}/{pieces}", self.vector)
        app.router.add_get("/asked/{name}", self.count)
        app.router.add_get("/", self.page)
        for path in PAGES:
            app.router.add_get(path, self.file)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    async def page(self, _: web.Request) -> web.Response:
        text = "<!doctype html><link rel=icon href=data:,><title>transcripts</title>"
        return web.Response(text=text, content_type="text/html")

    async def file(self, request: web.Request) -> web.Response:
        return web.Response(text=PAGES[request.path].read_text(), content_type="text/javascript")

    async def count(self, request: web.Request) -> web.Response:
        """How often there was a request; and the page says where it stands."""
        name, position = request.match_info["name"], request.query["at"]
        self.position[name] = lambda: position
        return web.json_response(len(self.asked[name]))

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        return response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        self.asked[name].append(request.headers.get("Last-Event-ID") or request.query.get("after") or NO_CURSOR)
        number, connections = len(self.asked[name]), self.transcripts[name].connections
        if number > len(connections):
            return web.Response(status=204)  # it is written down: the test finds one request too many
        connection = connections[number - 1]
        response = await self._begin(request)
        for sent in [*(frame for frame, _ in connection.frames), connection.rest]:
            await response.write(sent)
        if connection.ending == "X":
            wanted = connection.frames[-1][1].position if connection.frames else None
            await eventually(lambda: wanted is None or self.position[name]() == wanted)
            assert request.transport
            request.transport.close()  # all is sent, but the body has no end
        elif connection.ending == "open":
            await asyncio.Event().wait()  # the handler is cancelled when the client goes
        return response

    async def vector(self, request: web.Request) -> web.StreamResponse:
        """The vector, whole or a byte a chunk; whoever comes back is told to stay away."""
        pieces = request.match_info["pieces"]
        key = f"{request.match_info['number']} {pieces}"
        self.asked[key].append(request.headers.get("Last-Event-ID", ""))
        if len(self.asked[key]) > 1:
            return web.Response(status=204)
        raw = self.vectors[int(request.match_info["number"])].raw
        response = await self._begin(request)
        for sent in [raw] if pieces == "whole" else [raw[at : at + 1] for at in range(len(raw))]:
            await response.write(sent)
        return response
