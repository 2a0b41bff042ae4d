"""`statestream serve`, but an ASGI server serves: `python -m tests.support.asgi_serve uvicorn serve TARGET …`.

The arguments and the first line of the output are those of the command. So the tests of the server can run against
uvicorn and hypercorn.
"""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from aiohttp import web

from statestream.asgi import AsgiApp, asgi_app
from statestream.server.binding import Sockets, port_of
from statestream.tools import cli
from statestream.tools.console import serving

GRACE_SECONDS = 5
BACKLOG = 2048


async def _uvicorn(app: Any, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS,
        proxy_headers=False,  # otherwise whoever is on this machine says which address it has
    )
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises the signal once more when it is done
    await uvicorn.Server(config).serve(sockets=[listening])


async def _hypercorn(app: Any, listening: socket.socket) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.loglevel = "WARNING"
    config.graceful_timeout = GRACE_SECONDS
    await serve(app, config)


SERVERS = {"uvicorn": _uvicorn, "hypercorn": _hypercorn}


class Announced:
    """Calls `ready` when the application is open: its socket listens already."""

    def __init__(self, app: AsgiApp, ready: Callable[[], None]) -> None:
        self._app, self._ready = app, ready

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def announced(message: Any) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self._ready()

        await self._app(scope, receive, announced if scope["type"] == "lifespan" else send)


def main(name: str) -> None:
    async def serve(
        app: web.Application, *, host: str, sockets: Callable[[], Sockets], ready: Callable[[int], None]
    ) -> None:
        share = sockets().own
        port = port_of(share)  # asked now, because hypercorn takes the descriptor away
        with share[0] as listening:
            listening.listen(BACKLOG)
            await SERVERS[name](Announced(asgi_app(app), lambda: ready(port)), listening)

    serving.serve_app = serve
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    cli.command()


if __name__ == "__main__":
    main(sys.argv.pop(1))
