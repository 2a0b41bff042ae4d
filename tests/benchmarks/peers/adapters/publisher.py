"""Makes the changes for nchan and posts them over one connection. It runs on the load's core, for nchan's benefit.

nchan's control endpoint is this process's, on PORT; what it publishes to is NCHAN_PORT. The patch is known, not
computed, again for nchan's benefit.
"""

from __future__ import annotations

import asyncio
import os

import orjson
from aiohttp import web

from tests.benchmarks.peers import workload

PATH = f"/items/{workload.ITEMS - 1}/n"


def post(event: str, data: object) -> bytes:
    body = orjson.dumps(data)
    head = f"POST /publish HTTP/1.1\r\nHost: x\r\nX-EventSource-Event: {event}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Publisher:
    def __init__(self) -> None:
        self.ticker = workload.Ticker(self.make)

    async def make(self, due: list[tuple[int, int]]) -> None:
        for seq, was_due in due:
            patches = [{"op": "replace", "path": PATH, "value": seq}]
            self.writer.write(post("state.update", workload.update(seq, patches, workload.stamp(seq, was_due))))

    async def start(self, app: web.Application) -> None:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", int(os.environ["NCHAN_PORT"]))
        self.writer.write(post("state.initial", workload.snapshot(workload.initial())))
        await self.reader.readline()
        self.answers = asyncio.create_task(self.discard())

    async def discard(self) -> None:
        while await self.reader.read(1 << 16):
            pass

    async def control(self, request: web.Request) -> web.Response:
        return web.json_response(self.ticker.control(request.query))


if __name__ == "__main__":
    publisher = Publisher()
    app = web.Application()
    app.router.add_get("/ctl", publisher.control)
    app.on_startup.append(publisher.start)
    web.run_app(app, host="127.0.0.1", port=workload.PORT, print=None, access_log=None)
