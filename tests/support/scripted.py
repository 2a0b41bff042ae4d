"""The server of the transcripts, as the tests use it: one play, pages that follow it, and the vectors for browsers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from aiohttp import web

from statestream.browser import client_handler
from statestream.tools.conformance.clients.sse_vectors import SseVector
from statestream.tools.conformance.clients.transcript_server import TranscriptServer
from tests.support.paths import NODE

PAGES = {"/play.js": NODE / "play.js"}


class Scripted(TranscriptServer):
    """`async with Scripted() as server:`; `server.asked(name)` has the cursors of a transcript, in order.

    `server.heard` has those of each vector.
    """

    def __init__(self, vectors: Sequence[SseVector] = ()) -> None:
        super().__init__()
        self.path, self.attempts = self.begin()
        self.vectors = vectors
        self.heard: defaultdict[str, list[str]] = defaultdict(list)
        self.app.router.add_get("/vector/{number}/{pieces}", self.vector)
        self.app.router.add_get("/page", self.page)
        for path in PAGES:
            self.app.router.add_get(path, self.file)
        self.app.router.add_get("/js/{name}", client_handler())

    def at(self, name: str) -> str:
        return f"{self.url}{self.path}/{name}"

    def asked(self, name: str) -> list[str]:
        return self.attempts[name].asked

    async def page(self, _: web.Request) -> web.Response:
        text = "<!doctype html><link rel=icon href=data:,><title>transcripts</title>"
        return web.Response(text=text, content_type="text/html")

    async def file(self, request: web.Request) -> web.Response:
        return web.Response(text=PAGES[request.path].read_text(), content_type="text/javascript")

    async def vector(self, request: web.Request) -> web.StreamResponse:
        """The vector, whole or a byte a chunk; whoever comes back is told to stay away."""
        pieces = request.match_info["pieces"]
        key = f"{request.match_info['number']} {pieces}"
        self.heard[key].append(request.headers.get("Last-Event-ID", ""))
        if len(self.heard[key]) > 1:
            return web.Response(status=204)
        raw = self.vectors[int(request.match_info["number"])].raw
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        for sent in [raw] if pieces == "whole" else [raw[at : at + 1] for at in range(len(raw))]:
            await response.write(sent)
        return response
