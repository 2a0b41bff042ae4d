"""Serves an application until the process is asked to stop.

Invariants: the settings for production are here. Handlers are cancelled when their client leaves, so that a subscriber
that left is forgotten at once. No client can keep the process from ending, and every request that was arriving is
answered. The process may open as many descriptors as the system allows. Objects that were created at start-up are
hidden from the garbage collector.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from statestream.server.allocator import return_unneeded, reuse_large_blocks
from statestream.server.binding import Sockets
from statestream.server.connection import READ_BYTES
from statestream.server.edge import Edge
from statestream.server.hosts import LISTENING, Listening
from statestream.server.inflate import refuse_truncated
from statestream.server.limits import limited_in
from statestream.server.listen import Site

SHUTDOWN_SECONDS: Final = 5.0
STALLED_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.02
KEEPALIVE_SECONDS: Final = 75.0
SWITCH_SECONDS: Final = 0.0005
"""While a thread parses a large body, the event loop waits so long for the interpreter after each system call. Python's
default is ten times as much.
"""
COLLECT_AFTER: Final = (10_000, 20, 20)
"""Changes are kept for a while and have no cycles; with Python's default (700, 10, 10) a tenth of the time is spent
on looking for some."""


async def serve(
    app: web.Application, *, host: str, sockets: Callable[[], Sockets], ready: Callable[[int], None]
) -> None:
    """Serves until SIGTERM or SIGINT, on the sockets that `sockets` returns once the application has started.

    `host` is the name by which they were bound. `ready` is called with their port.
    """
    _allow_descriptors()
    library = reuse_large_blocks()
    refuse_truncated()
    sys.setswitchinterval(SWITCH_SECONDS)
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)  # its warnings quote headers of clients
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app[LISTENING] = listening = Listening(name=host)
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        keepalive_timeout=KEEPALIVE_SECONDS,
        read_bufsize=READ_BYTES,
        shutdown_timeout=SHUTDOWN_SECONDS,
        tcp_keepalive=False,  # accepted sockets inherit it from the listening one, which has it set
    )
    memory = asyncio.create_task(return_unneeded(library))
    try:
        await runner.setup()
        assert runner.server is not None
        edge = Edge(runner.server, limited_in(app))
        site = Site(runner, sockets(), edge.connection)
        await site.start()
        listening.addresses = site.addresses
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        ready(site.address[1])
        await stop.wait()
        await site.stop()
        await edge.stop(SHUTDOWN_SECONDS)
    finally:
        memory.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await memory
        await end(runner)


async def end(runner: web.AppRunner) -> None:
    """Ends the application and its connections, whether or not their clients read what is left."""
    connections = runner.server.connections if runner.server else []
    transports = [connection.transport for connection in connections if connection.transport is not None]
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_abort_stalled(transports, ended))
        await runner.cleanup()
        ended.set()


async def _abort_stalled(transports: Sequence[asyncio.Transport], ended: asyncio.Event) -> None:
    """Aborts connections whose clients read nothing of what is left. Returns when all have read theirs."""
    loop = asyncio.get_running_loop()
    seen: dict[asyncio.Transport, tuple[int, float]] = {}
    while not ended.is_set() or any(transport.get_write_buffer_size() for transport in transports):
        now = loop.time()
        for transport in transports:
            left = transport.get_write_buffer_size()
            before, since = seen.get(transport, (0, now))
            seen[transport] = (left, since) if before and left >= before else (left, now)
            if left and now - seen[transport][1] > STALLED_SECONDS:
                transport.abort()
        await asyncio.sleep(POLL_SECONDS)


def _allow_descriptors() -> None:
    """As many as the system allows this process: each subscriber takes one."""
    with contextlib.suppress(ImportError):  # not on Windows
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError, OSError):  # some systems report an infinite limit and refuse it
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
