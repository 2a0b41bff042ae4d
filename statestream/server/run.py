"""Serving an application until the process is told to stop.

Law: production settings live here: handlers are cancelled when their client goes, so that a reader
that left is forgotten at once; as many descriptors as the system allows; what start-up made is taken out
of the garbage collector's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable
from typing import Final

from aiohttp import web

from statestream.server.listen import Site

SHUTDOWN_SECONDS: Final = 5.0
KEEPALIVE_SECONDS: Final = 75.0
COLLECT_AFTER: Final = (10_000, 20, 20)
"""Changes are kept for a while and hold no cycles: Python's own (700, 10, 10) spends a tenth of the time on them."""


async def serve(app: web.Application, *, host: str, port: int, ready: Callable[[int], None]) -> None:
    """Serves until SIGTERM or SIGINT. `ready` is told the port, which matters where `port` is 0."""
    _allow_descriptors()
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
        tcp_keepalive=False,  # its site has said so to the listening socket, which passes it on
    )
    try:
        await runner.setup()
        site = Site(runner, host, port)
        await site.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        ready(site.address[1])
        await stop.wait()
    finally:
        await runner.cleanup()


def _allow_descriptors() -> None:
    """As many as the system allows this process: a reader is one."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # some systems call the limit infinite and refuse it
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
