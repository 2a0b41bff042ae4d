"""A server of one slice that speaks the protocol and breaks it on purpose, to see that somebody notices.

It shares no code with the product. `fault(reader, seq, frame)` gives the bytes that this reader gets for a
change in place of its frame; None cuts the reader off. Readers are counted from 0, which is the probe.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

Fault = Callable[[int, int, bytes], bytes | None]
HEARTBEAT_MS = 15_000


def frame(event: str, seq: int, **data: Any) -> bytes:
    body = json.dumps({"type": event, **data, "timestamp": 1})
    return f"event: {event}\nid: {seq}.tag\ndata: {body}\n\n".encode()


def initial(seq: int) -> bytes:
    return frame(
        "state.initial", seq, versions={"s": seq}, slices={"s": {"n": seq}}, reason="start", heartbeat=HEARTBEAT_MS
    )


def update(seq: int, cause: str) -> bytes:
    patches = [{"op": "replace", "path": "/n", "value": seq}]
    why = {"type": "s/counted", "id": cause}
    return frame("state.update", seq, cause=why, patches=patches, version=seq, slice="s", **{"from": seq - 1})


def catchup(since: int, seq: int) -> bytes:
    item = {"slice": "s", "from": since, "version": seq, "value": {"n": seq}}
    return frame("state.catchup", seq, updates=[item], position=f"{seq}.tag")


def heartbeat(seq: int) -> bytes:
    return frame("heartbeat", seq, position=f"{seq}.tag")


class Faulty:
    """`async with Faulty(fault) as server:`. `answer(seq)` may give another status for a dispatch; none
    is answered before as many as `barrier` are under way.
    """

    def __init__(
        self,
        fault: Fault = lambda reader, seq, frame: frame,
        *,
        answer: Callable[[int], int] = lambda seq: 200,
        barrier: int = 0,
        token: str | None = None,
        prefix: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.fault, self.answer, self.token, self.prefix, self.tls = fault, answer, token, prefix, tls
        self.barrier, self.arrived, self.enough = barrier, 0, asyncio.Event()
        self.seq = 1
        self.readers: dict[int, web.StreamResponse] = {}
        self.seen = 0
        self.peers: list[str | None] = []

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(f"{self.prefix}/stream/state", self.stream)
        app.router.add_post(f"{self.prefix}/dispatch", self.dispatch)
        self.runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=self.tls).start()
        scheme, host = ("https", "localhost") if self.tls else ("http", "127.0.0.1")
        self.url = f"{scheme}://{host}:{self.runner.addresses[0][1]}{self.prefix}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.cleanup()

    def check(self, request: web.Request) -> None:
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            raise web.HTTPUnauthorized(text="who are you?")

    async def stream(self, request: web.Request) -> web.StreamResponse:
        self.check(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        number, self.seen = self.seen, self.seen + 1
        self.peers.append(request.remote)
        await response.write(initial(self.seq))
        self.readers[number] = response
        try:
            await asyncio.Event().wait()  # the handler is cancelled when the reader goes
        finally:
            self.readers.pop(number, None)
        return response

    async def dispatch(self, request: web.Request) -> web.Response:
        self.check(request)
        asked = await request.json()
        self.arrived += 1
        if self.arrived >= self.barrier:
            self.enough.set()
        await self.enough.wait()
        status = self.answer(self.seq + 1)
        if status != 200:
            return web.json_response({"code": "unavailable", "detail": "not now"}, status=status)
        self.seq += 1
        seq, normal = self.seq, update(self.seq, asked["id"])
        for number, response in list(self.readers.items()):
            said = self.fault(number, seq, normal)
            if said is not None:
                await response.write(said)
            elif (transport := response._req.transport) is not None:  # type: ignore[union-attr]
                del self.readers[number]  # not only when its handler is cancelled: the next change is not for it
                transport.abort()
        changes = [{"slice": "s", "version": seq}]
        return web.json_response({"id": asked["id"], "position": f"{seq}.tag", "duplicate": False, "changes": changes})
