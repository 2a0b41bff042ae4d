"""Arguments and options that several commands have, and how their values are parsed.

Invariants: a value that cannot be parsed is invalid usage, found before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from statestream.tools.console.exit_codes import wrong_call
from statestream.tools.console.text import safe
from statestream.tools.target import Target

T = TypeVar("T")

Url = Annotated[str, typer.Argument(metavar="URL", help="The root URL of the server, such as http://127.0.0.1:8000.")]
Slices = Annotated[
    str | None,
    typer.Option(help="Names, name/* for a family, * for everything, separated by commas. Default: every plain slice."),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        "-H",
        metavar="HEADER",
        help="A header for every request, such as 'Authorization: Bearer …'. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]
Host = Annotated[str, typer.Option(help="The address to listen on.")]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Listen on other machines' networks although nobody has to log in.")
]
Port = Annotated[int, typer.Option(help="The port to listen on; 0 picks a free one.", min=0, max=65535)]
Payload = Annotated[
    str, typer.Option(help="The action's payload as JSON. {n} is the number of the change, {run} names the run.")
]
Key = Annotated[str | None, typer.Option(help="The action's key, if its slice is keyed. May contain {n}.")]


def target_of(url: str, slices: str | None, header: list[str] | None) -> Target:
    with wrong_call("--header"):
        Target.parse("http://localhost", None, header or [])  # so that the error names the parameter that is wrong
    with wrong_call("URL"):
        return Target.parse(url, slices, header or [])


def shown_url(target: Target) -> str:
    return safe(str(target.url).rstrip("/"))


def parsed(parse: Callable[[str], T], text: str | None, parameter: str) -> T | None:
    """Returns `parse(text)`, or None without a text. Malformed is invalid usage."""
    if text is None:
        return None
    with wrong_call(parameter):
        return parse(text)
