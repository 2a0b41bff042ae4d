"""What the commands share: their options, the way to the server, and errors as one sentence and an exit code.

Invariants: exit code 2 is a wrong call, 1 what the server or the way to it refused, or what is not known to have
happened, 0 all else, also Ctrl-C and a reader of stdout who has seen enough. Where 0 and 1 are a verdict
(`conformance`), what cuts it off is 3. Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, Final, TypeVar

import aiohttp
import typer

from statestream.core.errors import Malformed, StatestreamError, StreamRefused, Unavailable
from statestream.tools.bench.target import Target, refusal
from statestream.tools.commands.text import json_text, safe

T = TypeVar("T")

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0

Url = Annotated[str, typer.Argument(metavar="URL", help="The server's root, like http://127.0.0.1:8000.")]
Slices = Annotated[
    str | None,
    typer.Option(help="Names, name/* for a family, * for everything, with commas between; else every plain slice."),
]
Headers = Annotated[
    list[str] | None, typer.Option("--header", "-H", help="Sent with every request; may be given again.")
]


@contextmanager
def as_wrong_call(parameter: str) -> Iterator[None]:
    """What is malformed in here was given as `parameter`: exit code 2."""
    try:
        yield
    except Malformed as error:
        raise typer.BadParameter(safe(str(error)), param_hint=parameter) from None


def target_of(url: str, slices: str | None, header: list[str] | None) -> Target:
    with as_wrong_call("--header"):
        Target.parse("http://localhost", None, header or [])
    with as_wrong_call("URL"):
        return Target.parse(url, slices, header or [])


def shown_url(target: Target) -> str:
    return safe(str(target.url).rstrip("/"))


def run(
    coroutine: Coroutine[Any, Any, T],
    *,
    interrupted: int = 0,
    cut: int | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Runs a command's work to its end, whatever that is.

    `interrupted`: the exit code of Ctrl-C. `cut`: that of a stdout that takes no more; None: 0 where its reader has
    closed it, else 1.
    """
    if sys.stdout is None:
        coroutine.close()
        raise failed("expected a stdout to write to, it is closed", code=cut or 1)
    try:
        with explained(), asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(coroutine)
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(interrupted) from None
    except BrokenPipeError:
        raise seen_enough(cut or 0) from None
    except OSError as error:
        say(f"cannot write: {error}")
        raise seen_enough(cut or 1) from None
    return result


@contextmanager
def explained(*wrong: type[StatestreamError]) -> Iterator[None]:
    """An error in here is one sentence and exit code 1; 2 where it is of `wrong`: a wrong call."""
    try:
        yield
    except StatestreamError as error:
        raise failed(str(error), code=2 if isinstance(error, wrong) else 1) from None


def failed(sentence: str, *, code: int = 1) -> typer.Exit:
    say(sentence)
    return typer.Exit(code)


def say(sentence: str) -> None:
    """What is not the result: to stderr."""
    typer.echo(f"statestream: {safe(sentence)}", err=True)


def seen_enough(code: int = 0) -> typer.Exit:
    """Stdout takes no more, mostly because its reader has closed it: what is left in the buffer goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return typer.Exit(code)


def write(line: bytes) -> None:
    """One line of the result."""
    sys.stdout.buffer.write(line + b"\n")


def write_json(encoded: bytes) -> None:
    write(json_text(encoded))


def session(target: Target) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    return aiohttp.ClientSession(headers=dict(target.headers), timeout=timeout)


@asynccontextmanager
async def no_driver_errors(target: Target) -> AsyncIterator[None]:
    """What aiohttp raises in here becomes a sentence."""
    try:
        yield
    except aiohttp.ClientPayloadError:
        raise Unavailable(f"expected the whole answer of {shown_url(target)}, it was cut off") from None
    except aiohttp.ClientConnectorError as error:
        raise Unavailable(f"expected a server at {shown_url(target)}, found none: {error.os_error}") from None
    except TimeoutError:
        raise Unavailable(f"expected an answer from {shown_url(target)}, got none in time") from None
    except aiohttp.ClientError as error:
        raise Unavailable(f"expected a statestream server at {shown_url(target)}, got: {error or 'nothing'}") from None


async def reach(target: Target) -> None:
    """Whether somebody listens there: said at once, where trying again would take long. Raises Unavailable."""
    where = shown_url(target)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(target.url.host, target.url.port)
    except TimeoutError:
        raise Unavailable(f"expected a server at {where}, found none in {CONNECT_SECONDS:.0f} s") from None
    except OSError as error:
        raise Unavailable(f"expected a server at {where}, found none: {error}") from None
    writer.close()


@asynccontextmanager
async def answer(target: Target, path: str, kind: str, query: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
    """The server's answer of the content type `kind`. Raises StreamRefused, Unavailable."""
    url = target.url.with_path(f"{target.url.path.rstrip('/')}/{path}")
    if target.slices is not None:
        query = {"slices": target.slices, **query}
    async with (
        no_driver_errors(target),
        session(target) as http,
        http.get(url, params=query, allow_redirects=False) as response,
    ):
        if response.status != 200:
            raise await refusal(f"{path} from {shown_url(target)}", response)
        if response.content_type != kind:
            raise not_ours(target)
        yield response


def not_ours(target: Target) -> StreamRefused:
    return StreamRefused(
        f"expected {shown_url(target)} to be a statestream server, something else answered", reason="answer"
    )


def checked(check: Callable[[str], T], text: str | None, parameter: str) -> T | None:
    """`check(text)`, where there is one. What it finds malformed is a wrong call."""
    if text is None:
        return None
    with as_wrong_call(parameter):
        return check(text)
