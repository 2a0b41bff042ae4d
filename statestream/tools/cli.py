"""The command `statestream`: all commands, and the options that precede a command.

Invariants: registration only. Exit code 2 is invalid usage, 1 is a failure that the message explains; a traceback is a
bug, in the served module or here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand
from typer.main import get_command

from statestream import __version__
from statestream.tools.commands.bench import bench
from statestream.tools.commands.check import check
from statestream.tools.commands.conformance import conformance
from statestream.tools.commands.demo import demo
from statestream.tools.commands.dispatch import dispatch
from statestream.tools.commands.history import history
from statestream.tools.commands.journal.backup import backup
from statestream.tools.commands.journal.export import export
from statestream.tools.commands.journal.import_ import import_
from statestream.tools.commands.journal.info import info
from statestream.tools.commands.journal.repair import repair
from statestream.tools.commands.journal.verify import verify
from statestream.tools.commands.migrate import migrate
from statestream.tools.commands.record import record
from statestream.tools.commands.replay import replay
from statestream.tools.commands.runs.list_ import list_
from statestream.tools.commands.runs.stop import stop
from statestream.tools.commands.serve import serve
from statestream.tools.commands.state import state
from statestream.tools.commands.transcripts import transcripts
from statestream.tools.commands.types import types
from statestream.tools.commands.watch import watch

COMMANDS = (
    serve,
    demo,
    check,
    types,
    migrate,
    bench,
    watch,
    dispatch,
    state,
    history,
    record,
    replay,
    conformance,
    transcripts,
)
JOURNAL_COMMANDS: dict[str, Callable[..., None]] = {
    "info": info,
    "verify": verify,
    "export": export,
    "import": import_,
    "backup": backup,
    "repair": repair,
}
RUNS_COMMANDS: dict[str, Callable[..., None]] = {"list": list_, "stop": stop}


class PlainUsageCommand(TyperCommand):
    """Prints `Usage: … URL TYPE [PAYLOAD]` as manuals do; typer puts required arguments into braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]


app = typer.Typer(
    name="statestream",
    help="""State that many clients share: actions in, patches out, over EventSource.

    `statestream demo` is the quickest way to see it at work.
    `statestream COMMAND --help` explains a command, with examples.

    Exit code 0: it worked, or you ended it. 2: invalid usage.
    1: it failed, or something is wrong; a sentence on stderr explains it.
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"statestream {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The options that precede a command."""


for each in COMMANDS:
    app.command(cls=PlainUsageCommand)(each)

journal = typer.Typer(
    name="journal",
    help="""Looks at a journal, moves it to another engine, backs it up, or repairs it.

    `statestream journal COMMAND --help` explains a command, with examples.

    Exit code 0: it worked. 1: it failed, or something is wrong; a sentence on
    stderr explains it. 2: invalid usage.
    """,
    no_args_is_help=True,
)
for name, about_a_journal in JOURNAL_COMMANDS.items():
    journal.command(name, cls=PlainUsageCommand)(about_a_journal)
app.add_typer(journal)

runs = typer.Typer(
    name="runs",
    help="""Lists the replies of chats that are in progress, queued or waiting, or stops one.

    `statestream runs COMMAND --help` explains a command, with examples.

    Exit code 0: it worked. 1: it failed; a sentence on stderr explains it.
    2: invalid usage.
    """,
    no_args_is_help=True,
)
for name, about_runs in RUNS_COMMANDS.items():
    runs.command(name, cls=PlainUsageCommand)(about_runs)
app.add_typer(runs)
command: Final = get_command(app)
"""What runs. Making it of the signatures of all commands takes as long as starting a server."""
