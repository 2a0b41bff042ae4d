"""Two routes that an application under test adds to its own: which objects its process has in memory.

GET /garbage    how many objects of each type only the garbage collector could free, which it frees
GET /alive      how many objects of each type there are, of those that connections and requests are made of, and how
                many tasks
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

from aiohttp import web

from statestream.broadcast.sink import TransportSink
from statestream.broadcast.sockets import SocketSink
from statestream.broadcast.subscribers import Subscriber
from statestream.chat.viewing.socket import Socket

KINDS = (
    web.RequestHandler,
    web.BaseRequest,
    web.StreamResponse,
    Socket,
    SocketSink,
    TransportSink,
    Subscriber,
)


def tell_objects(app: web.Application) -> None:
    """Adds the routes."""
    app.router.add_get("/garbage", garbage)
    app.router.add_get("/alive", alive)


async def garbage(_: web.Request) -> web.Response:
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    gc.collect()
    return web.json_response(kinds)


async def alive(_: web.Request) -> web.Response:
    counts = Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, KINDS))
    return web.json_response({**counts, "tasks": len(asyncio.all_tasks())})
