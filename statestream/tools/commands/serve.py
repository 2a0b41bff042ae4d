"""`statestream serve TARGET`: serves the user's store or application.

Invariants: the target is the user's program; importing it may run anything, and a traceback from it is shown as it is.
Only problems with the target itself are reported as a sentence.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
from aiohttp import web

from statestream.core.suggestions import instead
from statestream.server.app import create_app
from statestream.server.hosts import allowed_hosts
from statestream.server.log_output import LogOutput
from statestream.server.origin import allowed_origins
from statestream.store.store import Store
from statestream.tools.console import serving
from statestream.tools.console.options import Host, Port

MIN_HEARTBEAT: Final = 0.1
MAX_HEARTBEAT: Final = 3600.0
OPTIONS: Final = {"handoff": "--no-handoff", "origins": "--origin", "hosts": "--allowed-host"}
"""Those that have another name than the setting of `create_app`."""


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
) -> None:
    """Serves your store, or your application made with create_app, until SIGTERM or Ctrl-C.

    Exit code 0: you ended it. 1: it cannot be served. 2: invalid usage.

    \b
    statestream serve app.py:store
    statestream serve app.py:store --journal sqlite:///board.db --port 9000
    statestream serve package.module:app --host 0.0.0.0
    """  # noqa: D301  # \b keeps the lines apart
    if heartbeat is not None and not MIN_HEARTBEAT <= heartbeat <= MAX_HEARTBEAT:
        message = f"expected {MIN_HEARTBEAT:g} to {MAX_HEARTBEAT:g} seconds, got {heartbeat:g}"
        raise typer.BadParameter(message, param_hint="--heartbeat")
    found = _load(target)
    settings: dict[str, Any] = {
        "heartbeat": heartbeat,
        "max_subscribers": max_subscribers,
        "handoff": None if handoff else False,
        "origins": _checked(allowed_origins, origin, "--origin"),
        "hosts": _checked(allowed_hosts, allowed_host, "--allowed-host"),
    }
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(found, Store):
        found = _application(found, journal, given)
    elif given:
        name = next(iter(given))
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        raise typer.BadParameter("goes with a store; pass it to create_app for an application", param_hint=option)
    elif journal is not None:
        raise typer.BadParameter("goes with a store; an application has its own", param_hint="--journal")
    log = LogOutput(log_format or "text", requests=access_log) if access_log or log_format else None
    serving.serve(found, host, port, log)


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


def _load(target: str) -> Store | web.Application:
    """The object that `file.py:name` or `module:name` names."""
    where, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        hint = f"; for example {target}:store" if target.endswith(".py") else ""
        raise _wrong(f"expected FILE.py:NAME or MODULE:NAME, got {target!r}{hint}")
    module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    servable = sorted(key for key, value in vars(module).items() if isinstance(value, (Store, web.Application)))
    if not hasattr(module, name):
        what = "a Store or a web.Application"
        raise _wrong(f"cannot find {target}: there is no {name} in it{instead(name, servable, f'names of {what}')}")
    found = getattr(module, name)
    if not isinstance(found, (Store, web.Application)):
        other = f"; did you mean {where}:{servable[0]}?" if servable else ""
        raise _wrong(f"expected a Store or a web.Application in {target}, got {type(found).__name__}{other}")
    return found


def _wrong(sentence: str) -> typer.BadParameter:
    return typer.BadParameter(sentence, param_hint="TARGET")


def _load_module(name: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module exists, but an import in it fails
        raise _wrong(f"cannot find the module {name}; for a file, write {name.replace('.', '/')}.py") from None


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise _wrong(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise _wrong(f"{path} is not a Python file")
    sys.path.insert(0, str(path.resolve().parent))  # so that the file can import its neighbours
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
