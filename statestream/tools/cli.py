"""The `statestream` command: `serve` a store of yours, or the `demo`; `bench` measures a server that runs. What else
talks to one, or keeps what it says, stands in `commands`, and is only registered here.

Invariants: arguments, messages and exit codes only. Exit code 2 is a wrong call, 1 is a failure that the
message explains; a traceback is a bug, in the served module or here.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aiohttp import web
from typer.core import TyperCommand

from statestream import __version__
from statestream.core.errors import Malformed, TooLarge
from statestream.server.app import create_app
from statestream.store.store import Store
from statestream.tools.commands.asking import Headers, Url, explained, run, say
from statestream.tools.commands.conformance import conformance
from statestream.tools.commands.dispatch import dispatch
from statestream.tools.commands.history import history
from statestream.tools.commands.recording import record, replay
from statestream.tools.commands.serving import Host, Port, loop_factory
from statestream.tools.commands.serving import serve as _serve
from statestream.tools.commands.state import state
from statestream.tools.commands.transcripts import transcripts
from statestream.tools.watch.command import watch

MIN_HEARTBEAT: Final = 0.1
MAX_HEARTBEAT: Final = 3600.0


class Command(TyperCommand):
    """Says `Usage: … URL TYPE [PAYLOAD]` as manuals do: typer puts what is required into braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


app = typer.Typer(
    name="statestream",
    help="""State that many people share: actions in, patches out, over plain EventSource.

    `statestream demo` is the quickest look at it.
    `statestream COMMAND --help` shows how a command is called, with examples.

    Exit code 0: it worked, or you ended it. 2: a wrong call.
    1: it did not work, or something is wrong; a sentence on stderr says what.
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"statestream {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and end.")
    ] = False,
) -> None:
    """What goes before a command."""


@app.command(cls=Command)
def serve(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET", help="Where the store or web.Application is: app.py:store or package.module:app."
        ),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8000,
    journal: Annotated[
        str | None,
        typer.Option(help="Where changes are kept, instead of what the store says: memory: or sqlite:///board.db."),
    ] = None,
    handoff: Annotated[
        bool,
        typer.Option(
            "--handoff/--no-handoff",
            help="Whether streams take their sockets over from aiohttp: a tenth of the memory.",
        ),
    ] = True,
    heartbeat: Annotated[
        float | None, typer.Option(help="Seconds within which every stream says something; else 15.")
    ] = None,
    max_subscribers: Annotated[
        int | None, typer.Option(help="Streams at a time, one more is told `busy`; else 10,000.", min=1)
    ] = None,
) -> None:
    """Serves a store of yours, or an application made with create_app, until SIGTERM or Ctrl-C.

    Exit code 0: it was ended. 1: it cannot be served. 2: a wrong call.

    \b
    statestream serve app.py:store
    statestream serve app.py:store --journal sqlite:///board.db --port 9000
    statestream serve package.module:app --host 0.0.0.0
    """  # noqa: D301  # \b keeps the lines apart
    if heartbeat is not None and not MIN_HEARTBEAT <= heartbeat <= MAX_HEARTBEAT:
        said = f"expected {MIN_HEARTBEAT:g} to {MAX_HEARTBEAT:g} seconds, got {heartbeat:g}"
        raise typer.BadParameter(said, param_hint="--heartbeat")
    found = _load(target)
    settings = {"heartbeat": heartbeat, "max_subscribers": max_subscribers, "handoff": None if handoff else False}
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(found, Store):
        found = _application(found, journal, given)
    elif given:
        option = "--no-handoff" if "handoff" in given else f"--{next(iter(given)).replace('_', '-')}"
        raise typer.BadParameter("goes with a store; an application says so to create_app", param_hint=option)
    elif journal is not None:
        raise typer.BadParameter("goes with a store, not with an application that has one", param_hint="--journal")
    _serve(found, host, port)


def _application(store: Store, journal: str | None, settings: dict[str, Any]) -> web.Application:
    if journal is not None:
        try:
            store.use_journal(journal)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--journal") from None
    return create_app(store, **settings)


@app.command(cls=Command)
def demo(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    journal: Annotated[str, typer.Option(help="Where the demo keeps its changes.")] = "sqlite:///statestream-demo.db",
) -> None:
    """Serves a board and a chat with a page that follows both. OPENAI_API_KEY chooses a real model.

    Exit code 0: it was ended. 1: it cannot be served. 2: a wrong call.

    \b
    statestream demo
    statestream demo --port 9000 --journal memory:
    OPENAI_API_KEY=… STATESTREAM_MODEL=gpt-5-mini statestream demo
    """  # noqa: D301  # \b keeps the lines apart
    from statestream.tools.demo import demo_app

    _serve(demo_app(journal), host, port)


@app.command(cls=Command)
def bench(
    url: Url,
    action: Annotated[
        str | None, typer.Option(help="What to dispatch, like board/task_added; without it readers only listen.")
    ] = None,
    payload: Annotated[
        str, typer.Option(help="Its payload: JSON, with {n} for the number of the change, {run} for this run.")
    ] = "{}",
    key: Annotated[str | None, typer.Option(help="Its key, for an action of a keyed slice; may hold {n}.")] = None,
    slices: Annotated[str | None, typer.Option(help="What readers follow: names, name/*, *.")] = None,
    readers: Annotated[int, typer.Option(help="How many readers to open.", min=1)] = 1_000,
    rate: Annotated[float, typer.Option(help="Changes a second.", min=0.01, max=100_000)] = 20.0,
    seconds: Annotated[float, typer.Option(help="For how long.", min=0.1, max=86_400)] = 10.0,
    processes: Annotated[
        str, typer.Option(help="How many processes read; auto: one for 250 readers, a core left to the server.")
    ] = "auto",
    header: Headers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, and nothing else.")] = False,
) -> None:
    """Measures a server: many readers, changes at a rate, what came of it and when.

    The changes are real: they stay in the server's journal.

    Exit code 0: everything was accepted and delivered.
    1: something was not, or it was cut short.
    2: a wrong call, or more readers than fit.

    \b
    statestream bench URL --readers 1000
    statestream bench URL --action board/counted --rate 50 --seconds 30 --json
    statestream bench URL --action board/renamed --payload '{"title": "{n}"}'
    """  # noqa: D301  # \b keeps the lines apart
    from statestream.tools.bench import report
    from statestream.tools.bench.dispatcher import Template
    from statestream.tools.bench.progress import watcher
    from statestream.tools.bench.run import Plan
    from statestream.tools.bench.run import bench as run_bench
    from statestream.tools.bench.target import Target

    if action is None and (key is not None or payload != "{}"):
        raise typer.BadParameter("goes with --action", param_hint="--key" if key is not None else "--payload")
    if processes != "auto" and not (processes.isdecimal() and int(processes)):
        raise typer.BadParameter(f"expected auto or a number, got {processes!r}", param_hint="--processes")
    with explained(Malformed, TooLarge):
        plan = Plan(
            target=Target.parse(url, slices, header or []),
            template=Template(type=action, payload=payload, key=key) if action is not None else None,
            readers=readers,
            rate=rate,
            seconds=seconds,
            processes=None if processes == "auto" else int(processes),
        )

    async def work() -> Sequence[str]:
        with explained(Malformed, TooLarge), watcher() as show:
            found = await run_bench(plan, show)
        typer.echo(json.dumps(found) if as_json else report.text(found))
        problems: Sequence[str] = found["problems"]
        return problems

    problems = run(work(), interrupted=1, cut=1, loop_factory=loop_factory())
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)


for command in (watch, dispatch, state, history, record, replay, conformance, transcripts):
    app.command(cls=Command)(command)


def _load(target: str) -> Store | web.Application:
    """The object that `file.py:name` or `module:name` names."""
    where, colon, name = target.rpartition(":")
    if not colon or not name.isidentifier():
        raise typer.BadParameter(f"expected FILE.py:NAME or MODULE:NAME, got {target!r}", param_hint="TARGET")
    try:
        if where.endswith(".py"):
            module = _load_file(Path(where))
        else:
            sys.path.insert(0, str(Path.cwd()))
            module = importlib.import_module(where)
        found = getattr(module, name)
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise typer.BadParameter(f"cannot find {target}: {error}", param_hint="TARGET") from None
    if not isinstance(found, (Store, web.Application)):
        raise typer.BadParameter(
            f"expected a Store or a web.Application in {target}, got {type(found).__name__}", param_hint="TARGET"
        )
    return found


def _load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    sys.path.insert(0, str(path.resolve().parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
