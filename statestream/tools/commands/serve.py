"""`statestream serve TARGET`: serves the user's store or application.

Invariants: arguments, messages and exit codes only. An option that would have no effect is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, Never

import typer

from statestream.server.authentication import authenticates
from statestream.server.binding import Sockets, port_of
from statestream.server.hosts import allowed_hosts
from statestream.server.origin import allowed_origins
from statestream.tools.console import serving
from statestream.tools.console.options import Host, Insecure, Port
from statestream.tools.console.systemd import notify
from statestream.tools.workers.served import Served
from statestream.tools.workers.supervisor import Supervisor

MIN_HEARTBEAT: Final = 0.1
MAX_HEARTBEAT: Final = 3600.0
MAX_WORKERS: Final = 256
CLIENTS: Final = "Who may use it"
CAPACITY: Final = "Streams and processes"
LOG: Final = "Log"
SOCKETS: Final = "Sockets"
"""The panels of `--help`. Each has columns of its own; in a single table, 19 letters would be left for a help text."""


def serve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="The store or web.Application to serve: app.py:store or package.module:app."
        ),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    journal: Annotated[
        str | None,
        typer.Option(
            help="Where to keep changes, in place of the store's journal: sqlite:///board.db, "
            "postgresql://host/database, redis://host."
        ),
    ] = None,
    handoff: Annotated[
        bool,
        typer.Option(
            "--handoff/--no-handoff",
            rich_help_panel=SOCKETS,
            help="Whether streams hand their sockets off from aiohttp, for a tenth of the memory.",
        ),
    ] = True,
    heartbeat: Annotated[
        float | None,
        typer.Option(rich_help_panel=CAPACITY, help="The longest silence of a stream, in seconds. Default: 15."),
    ] = None,
    max_subscribers: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=CAPACITY,
            help="How many streams may be open; more are refused as busy. Default: 10,000.",
            min=1,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            rich_help_panel=CLIENTS,
            help="Another origin whose pages may use the server, such as https://app.example.com. Repeatable.",
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=CLIENTS,
            help="A name under which the server may be addressed, such as live.example.org behind a proxy. Repeatable. "
            "Default: any name, but only localhost if --host is a loopback address.",
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option(
            "--access-log",
            rich_help_panel=LOG,
            help="Whether to log a line for each request, stream and reply, without content.",
        ),
    ] = False,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(rich_help_panel=LOG, help="Write the log with times, as text or JSON, a line each."),
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            rich_help_panel=CLIENTS,
            help="What recognizes who sends a request, named like TARGET: auth.py:tokens.",
        ),
    ] = None,
    insecure: Insecure = False,
    inspect: Annotated[
        bool | None,
        typer.Option(
            "--inspect/--no-inspect",
            rich_help_panel=CLIENTS,
            help="Whether there is an inspector at /inspect. Default: only if --host is a loopback address.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_WORKERS,
            rich_help_panel=CAPACITY,
            help="Serve with so many processes. A supervisor replaces those that end, and restarts them one after the "
            "other on SIGHUP. Default: this process alone.",
        ),
    ] = None,
) -> None:
    """Serves your store, or your application made with create_app, until SIGTERM or Ctrl-C.

    Without authentication, it listens on this machine only.

    Exit code 0: you ended it. 1: it cannot be served. 2: invalid usage.

    \b
    statestream serve app.py:store
    statestream serve app.py:store --journal sqlite:///board.db --port 9000
    statestream serve app.py:store --auth auth.py:tokens --host 0.0.0.0
    statestream serve app.py:store --journal sqlite:///board.db --workers 4
    statestream serve package.module:app
    """  # noqa: D301  # \b keeps the lines apart
    if heartbeat is not None and not MIN_HEARTBEAT <= heartbeat <= MAX_HEARTBEAT:
        message = f"expected {MIN_HEARTBEAT:g} to {MAX_HEARTBEAT:g} seconds, got {heartbeat:g}"
        raise typer.BadParameter(message, param_hint="--heartbeat")
    settings: dict[str, Any] = {
        "heartbeat": heartbeat,
        "max_subscribers": max_subscribers,
        "handoff": None if handoff else False,
        "inspect": inspect,
        "origins": _checked(allowed_origins, origin, "--origin"),
        "hosts": _checked(allowed_hosts, allowed_host, "--allowed-host"),
    }
    served = Served(
        target=target,
        host=host,
        journal=journal,
        auth=auth,
        settings={name: value for name, value in settings.items() if value is not None},
        insecure=insecure,
        access_log=access_log,
        log_format=log_format,
    )
    if workers is not None:
        _supervise(served, port, workers)
    application = served.application()
    serving.check_reach(host, secure=insecure or authenticates(application), hint=serving.WITH_AUTH)

    def ready(bound: int) -> None:
        serving.announce(host, bound)
        notify("READY=1")

    serving.run(application, host, lambda: Sockets(own=serving.bound(host, port)[0]), ready=ready, log=served.log())


def _supervise(served: Served, port: int, workers: int) -> Never:
    """Serves in processes of their own, until SIGTERM or SIGINT."""
    shares = serving.bound(served.host, port, workers)
    bound = port_of(shares[0])
    with served.log() or contextlib.nullcontext():
        supervisor = Supervisor(served, shares, lambda: serving.announce(served.host, bound))
        code = asyncio.run(supervisor.run())
    raise typer.Exit(code)


def _checked(check: Callable[[list[str]], frozenset[str]], values: list[str] | None, option: str) -> Any:
    """The values of an option that may be repeated; None without any."""
    try:
        return sorted(check(values)) if values else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
