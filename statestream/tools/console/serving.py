"""Running a server until it is stopped: the line that shows where, the event loop, the exit code.

Invariants: messages and exit codes only; `server/serve.py` serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from typing import Any

import typer
from aiohttp import web

from statestream.core.errors import StatestreamError
from statestream.server.log_output import LogOutput
from statestream.server.serve import serve as serve_app
from statestream.tools.console.exit_codes import failure


def serve(application: web.Application, host: str, port: int, log: LogOutput | None = None) -> None:
    """Serves until SIGTERM or SIGINT. Exits with 1 if it cannot. `log` writes the log, instead of Python's default."""

    def ready(bound: int) -> None:
        typer.echo(f"statestream is serving on http://{f'[{host}]' if ':' in host else host}:{bound}")
        sys.stdout.flush()  # a program that started this one waits for the line

    try:
        with log or contextlib.nullcontext(), asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve_app(application, host=host, port=port, ready=ready))
    except StatestreamError as error:
        raise failure(str(error)) from None
    except OSError as error:
        raise failure(f"cannot listen on {host}, port {port}: {_reason(error)}") from None


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
