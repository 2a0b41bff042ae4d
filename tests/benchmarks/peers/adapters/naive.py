"""What one writes first: aiohttp-sse, a queue, make_patch and json.dumps for each connection."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import jsonpatch
from aiohttp import web
from aiohttp_sse import sse_response

from tests.benchmarks.peers import workload


class Source:
    def __init__(self) -> None:
        self.state = workload.initial()
        self.queues: set[asyncio.Queue[Any]] = set()

    async def make(self, due: list[tuple[int, int]]) -> None:
        for seq, was_due in due:
            self.state = workload.after(self.state, seq)
            payload = workload.stamp(seq, was_due)
            for queue in self.queues:
                queue.put_nowait((self.state, seq, payload))


source = Source()
ticker = workload.Ticker(source.make)


async def stream(request: web.Request) -> web.StreamResponse:
    async with sse_response(request) as response:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        sent = source.state
        source.queues.add(queue)
        try:
            await response.send(json.dumps(workload.snapshot(sent)), id="0", event="state.initial")
            while True:
                state, seq, payload = await queue.get()
                patches = jsonpatch.make_patch(sent, state).patch
                sent = state
                frame = json.dumps(workload.update(seq, patches, payload))
                await response.send(frame, id=str(seq), event="state.update")
        finally:
            source.queues.discard(queue)
    return response


async def control(request: web.Request) -> web.Response:
    return web.json_response(ticker.control(request.query))


app = web.Application()
app.add_routes([web.get("/stream/state", stream), web.get("/ctl", control)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=workload.PORT, print=None, access_log=None, backlog=4096)
