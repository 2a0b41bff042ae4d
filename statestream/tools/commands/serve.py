"""`statestream serve TARGET`: serves the user's store or application.

Invariants: arguments, messages and exit codes only. An option that would have no effect is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import typer
from aiohttp import web

from statestream.server.app import create_app
from statestream.server.authentication import authenticates, check_authenticator
from statestream.server.hosts import allowed_hosts
from statestream.server.log_output import LogOutput
from statestream.server.origin import allowed_origins
from statestream.store.store import Store
from statestream.tools.console import serving
from statestream.tools.console.options import Host, Insecure, Port
from statestream.tools.console.program import ProgramObject

MIN_HEARTBEAT: Final = 0.1
MAX_HEARTBEAT: Final = 3600.0
OPTIONS: Final = {"handoff": "--no-handoff", "origins": "--origin", "hosts": "--allowed-host"}
"""Those that have another name than the setting of `create_app`."""
WITH_AUTH: Final = "pass --auth, or create_app(auth=…) for an application, or "


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
        typer.Option(help="Where to keep changes, in place of the store's journal: memory: or sqlite:///board.db."),
    ] = None,
    handoff: Annotated[
        bool,
        typer.Option(
            "--handoff/--no-handoff",
            help="Whether streams hand their sockets off from aiohttp, for a tenth of the memory.",
        ),
    ] = True,
    heartbeat: Annotated[
        float | None, typer.Option(help="The longest silence of a stream, in seconds. Default: 15.")
    ] = None,
    max_subscribers: Annotated[
        int | None, typer.Option(help="How many streams may be open; more are refused as busy. Default: 10,000.", min=1)
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Another origin whose pages may use the server, such as https://app.example.com. Repeatable."
        ),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name under which the server may be addressed, such as live.example.org behind a proxy. Repeatable. "
            "Default: any name, but only localhost if --host is a loopback address."
        ),
    ] = None,
    access_log: Annotated[
        bool,
        typer.Option("--access-log", help="Whether to log a line for each request, stream and reply, without content."),
    ] = False,
    log_format: Annotated[
        Literal["text", "json"] | None, typer.Option(help="Write the log with times, as text or JSON, a line each.")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What recognizes who sends a request, named like TARGET: auth.py:tokens."),
    ] = None,
    insecure: Insecure = False,
) -> None:
    """Serves your store, or your application made with create_app, until SIGTERM or Ctrl-C.

    Without authentication, it listens on this machine only.

    Exit code 0: you ended it. 1: it cannot be served. 2: invalid usage.

    \b
    statestream serve app.py:store
    statestream serve app.py:store --journal sqlite:///board.db --port 9000
    statestream serve app.py:store --auth auth.py:tokens --host 0.0.0.0
    statestream serve package.module:app
    """  # noqa: D301  # \b keeps the lines apart
    if heartbeat is not None and not MIN_HEARTBEAT <= heartbeat <= MAX_HEARTBEAT:
        message = f"expected {MIN_HEARTBEAT:g} to {MAX_HEARTBEAT:g} seconds, got {heartbeat:g}"
        raise typer.BadParameter(message, param_hint="--heartbeat")
    found = ProgramObject(target, "TARGET").load("a Store or a web.Application", _is_servable)
    settings: dict[str, Any] = {
        "heartbeat": heartbeat,
        "max_subscribers": max_subscribers,
        "handoff": None if handoff else False,
        "origins": _checked(allowed_origins, origin, "--origin"),
        "hosts": _checked(allowed_hosts, allowed_host, "--allowed-host"),
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(found, Store):
        if auth is not None:
            given["auth"] = ProgramObject(auth, "--auth").load("an authenticator", _is_authenticator)
        found = _application(found, journal, given)
    elif auth is not None:
        raise typer.BadParameter("goes with a store; pass it to create_app for an application", param_hint="--auth")
    elif given:
        name = next(iter(given))
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        raise typer.BadParameter("goes with a store; pass it to create_app for an application", param_hint=option)
    elif journal is not None:
        raise typer.BadParameter("goes with a store; an application has its own", param_hint="--journal")
    log = LogOutput(log_format or "text", requests=access_log) if access_log or log_format else None
    serving.serve(found, host, port, secure=insecure or authenticates(found), hint=WITH_AUTH, log=log)


def _checked(check: Callable[[list[str]], frozenset[str]], values: list[str] | None, option: str) -> Any:
    """The values of an option that may be repeated; None without any."""
    try:
        return check(values) if values else None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _application(store: Store, journal: str | None, settings: dict[str, Any]) -> web.Application:
    if journal is not None:
        try:
            store.use_journal(journal)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--journal") from None
    return create_app(store, **settings)


def _is_servable(value: Any) -> bool:
    return isinstance(value, Store | web.Application)


def _is_authenticator(value: Any) -> bool:
    try:
        check_authenticator(value)
    except TypeError:
        return False
    return True
