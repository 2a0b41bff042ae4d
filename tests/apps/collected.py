"""The chat under test, and two more routes: the objects that wait for the garbage collector, and those that are alive.

GET /garbage    the number of objects that only the collector could free, which it frees
GET /alive      how many objects of each type there are, of those that connections and requests are made of
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

from aiohttp import web

from statestream.chat.viewing.socket import Socket
from tests.apps.chatty import app

KINDS = (web.RequestHandler, web.BaseRequest, web.StreamResponse, Socket)


async def garbage(_: web.Request) -> web.Response:
    return web.json_response(gc.collect())


async def alive(_: web.Request) -> web.Response:
    counts = Counter(type(each).__name__ for each in gc.get_objects() if isinstance(each, KINDS))
    return web.json_response({**counts, "tasks": len(asyncio.all_tasks())})


app.router.add_get("/garbage", garbage)
app.router.add_get("/alive", alive)
