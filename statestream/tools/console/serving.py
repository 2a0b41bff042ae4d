"""Running a server until it is stopped: the line that shows where, the event loop, the exit code.

Invariants: messages and exit codes only; `server/serve.py` serves. A server where nobody has to log in cannot be
reached from other machines, unless its operator has said so.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import typer
from aiohttp import web

from statestream.core.errors import StatestreamError
from statestream.server.binding import Share, Sockets, bind
from statestream.server.log_output import LogOutput
from statestream.server.peer import address_of
from statestream.server.serve import serve as serve_app
from statestream.tools.console.exit_codes import failure

WITH_AUTH: Final = "pass --auth, or create_app(auth=…) for an application, or "


def serve(application: web.Application, host: str, port: int, *, secure: bool) -> None:
    """Serves on an address until SIGTERM or SIGINT. Exits with 1 if it cannot."""
    check_reach(host, secure=secure)
    run(application, host, lambda: Sockets(own=bound(host, port)[0]), ready=lambda at: announce(host, at))


def check_reach(host: str, *, secure: bool, hint: str = "") -> None:
    """If it is not `secure`, `host` has to be an address that other machines cannot reach.

    `hint` is the beginning of what to do about it.
    """
    if not secure and not is_loopback(host):
        raise typer.BadParameter(
            f"other machines can reach {host or 'every address'}, and nobody has to log in: {hint}"
            "pass --insecure if something else protects this server",
            param_hint="--host",
        )


def bound(host: str, port: int, shares: int = 1) -> list[Share]:
    """The sockets of an address. Exits with 1 if it cannot be used."""
    try:
        return bind(host, port, shares)
    except OSError as error:
        raise failure(f"cannot listen on {host}, port {port}: {_reason(error)}") from None


def announce(host: str, port: int) -> None:
    """Writes where the server can be reached, for people and for a program that has started it."""
    typer.echo(f"statestream is serving on http://{f'[{host}]' if ':' in host else host}:{port}")
    sys.stdout.flush()


def run(
    application: web.Application,
    host: str,
    sockets: Callable[[], Sockets],
    *,
    ready: Callable[[int], None],
    log: LogOutput | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT. Exits with 1 if it cannot. `log` writes the log, instead of Python's default."""
    listening = False  # otherwise, an OSError is one of the application, as it starts or ends

    def begin() -> Sockets:
        nonlocal listening
        listening = True
        return sockets()

    def begun(port: int) -> None:
        nonlocal listening
        listening = False
        ready(port)

    try:
        with log or contextlib.nullcontext(), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve_app(application, host=host, sockets=begin, ready=begun))
    except StatestreamError as error:
        raise failure(str(error)) from None
    except OSError as error:
        if not listening:
            raise
        raise failure(f"cannot listen on {host}: {_reason(error)}") from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host. True also for a name that cannot be resolved: listening fails."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        return all(address_of(str(entry[4][0])).is_loopback for entry in found)
    except (OSError, UnicodeError):
        return True


def _reason(error: OSError) -> str:
    hints = {
        errno.EADDRINUSE: "; choose another port with --port",
        errno.EADDRNOTAVAIL: "; --host must be an address of this machine",
    }
    if isinstance(error, socket.gaierror):
        return "the host name cannot be resolved; --host must be an address of this machine"
    if error.errno is None or error.errno <= 0:
        return str(error)
    return f"{os.strerror(error.errno).lower()}{hints.get(error.errno, '')}"


def loop_factory() -> Any:
    """The factory of uvloop if it is installed; else None, which stands for asyncio's own loop."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
