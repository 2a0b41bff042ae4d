"""Running a command, so that each way to end it has an exit code, and each error is one sentence.

Invariants: 2 is invalid usage. 1 is a refusal, a server that cannot be reached, or an outcome that is unknown. 0 is
everything else, including Ctrl-C and a closed pipe. Where 0 and 1 are a verdict (`conformance`), 3 means no verdict.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import typer

from statestream.core.errors import Malformed, StatestreamError
from statestream.tools.console.output import discard_stdout, notice
from statestream.tools.console.text import safe

T = TypeVar("T")

NO_VERDICT: Final = 3
"""The exit code of a check that has not come to a verdict."""


def run(
    coroutine: Coroutine[Any, Any, T],
    *,
    interrupted: int = 0,
    unwritable: int | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Runs a command's coroutine to its end.

    `interrupted` is the exit code after Ctrl-C. `unwritable` is the exit code if stdout accepts no more output; None
    stands for 0 if its reader closed it, and for 1 otherwise.
    """
    if sys.stdout is None:  # the shell's `>&-`
        coroutine.close()
        raise failure("stdout is closed; this command writes its result to it", code=unwritable or 1)
    try:
        with errors_explained(), asyncio.Runner(loop_factory=loop_factory) as runner:
            result = runner.run(coroutine)
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(interrupted) from None
    except BrokenPipeError:
        discard_stdout()
        raise typer.Exit(unwritable or 0) from None
    except OSError as error:
        discard_stdout()
        raise failure(f"cannot write: {error}", code=unwritable or 1) from None
    return result


@contextmanager
def errors_explained(*wrong_call: type[StatestreamError]) -> Iterator[None]:
    """Turns errors into one sentence and exit code 1, or 2 for errors of the classes `wrong_call`."""
    try:
        yield
    except StatestreamError as error:
        raise failure(str(error), code=2 if isinstance(error, wrong_call) else 1) from None


def failure(sentence: str, *, code: int = 1) -> typer.Exit:
    """Writes the sentence to stderr, and returns the exit to raise."""
    notice(sentence)
    return typer.Exit(code)


@contextmanager
def wrong_call(parameter: str) -> Iterator[None]:
    """Turns Malformed into invalid usage of `parameter`: exit code 2."""
    try:
        yield
    except Malformed as error:
        raise typer.BadParameter(safe(str(error)), param_hint=parameter) from None
