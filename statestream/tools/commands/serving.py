"""What every command that serves has in common: the line that says where, the loop, the exit code.

Invariants: messages and exit codes only; how an application is served stands in server/run.py.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer
from aiohttp import web

from statestream.core.errors import StatestreamError
from statestream.server.serve import serve as serve_app
from statestream.tools.commands.asking import failed

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)]


def serve(application: web.Application, host: str, port: int) -> None:
    """Until SIGTERM or SIGINT. Exit code 1 where it cannot be served."""

    def ready(bound: int) -> None:
        typer.echo(f"statestream is serving on http://{f'[{host}]' if ':' in host else host}:{bound}")
        sys.stdout.flush()

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(serve_app(application, host=host, port=port, ready=ready))
    except (StatestreamError, OSError) as error:
        raise failed(str(error)) from None


def loop_factory() -> Any:
    """uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
