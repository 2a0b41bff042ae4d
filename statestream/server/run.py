"""Serving an application until the process is told to stop.

Law: production settings live here: handlers are cancelled when their client goes, so that a reader
that left is forgotten at once; the accept queue is long enough for everyone to come back together;
what start-up made is taken out of the garbage collector's way.
"""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable
from typing import Final

from aiohttp import web

BACKLOG: Final = 4_096
SHUTDOWN_SECONDS: Final = 5.0
KEEPALIVE_SECONDS: Final = 75.0


async def serve(app: web.Application, *, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serves until SIGTERM or SIGINT. `ready` is told the port, which matters where `port` is 0."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
    )
    try:
        await runner.setup()
        site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_address=True)
        await site.start()
        gc.collect()
        gc.freeze()
        ready(runner.addresses[0][1])
        await stop.wait()
    finally:
        await runner.cleanup()
