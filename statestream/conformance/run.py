"""All checks, and the run through them: one after the other, on a server that nobody else uses meanwhile."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Final

from statestream.bench.dispatcher import Template
from statestream.bench.target import Target
from statestream.conformance.check import Breach, Check, Outcome
from statestream.conformance.cursors import CURSORS
from statestream.conformance.dispatches import DISPATCH, ERRORS, LIMITS
from statestream.conformance.states import STATES
from statestream.conformance.streams import STREAM
from statestream.conformance.subject import Subject
from statestream.errors import Malformed

SECTIONS: Final = (STREAM, CURSORS, DISPATCH, STATES, ERRORS, LIMITS)
CHECKS: Final[Sequence[Check]] = tuple(check for section in SECTIONS for check in section.checks)
CHECK_SECONDS: Final = 300.0


async def check_server(
    target: Target,
    template: Template,
    *,
    only: Collection[str] = (),
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Runs the checks, or those named in `only`; `tell` hears of each.

    Raises Malformed for an unknown name, Unavailable and StreamRefused where the server or the action is not to be had.
    """
    names = [check.name for check in CHECKS]
    unknown = sorted(set(only) - set(names))
    if unknown:
        raise Malformed(f"expected names of checks, got {', '.join(unknown)}; there are {', '.join(names)}")
    outcomes = []
    async with Subject(target, template, f"conformance-{secrets.token_hex(4)}-") as subject:
        await subject.learn()
        for check in CHECKS:
            if not only or check.name in only:
                outcomes.append(Outcome(check=check, problem=await _problem(check, subject)))
                tell(outcomes[-1])
    return outcomes


async def _problem(check: Check, subject: Subject) -> str | None:
    """A server may answer anything: what cannot be read as the protocol says is a breach as well."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check.tried(subject)
    except Breach as breach:
        return str(breach)
    except TimeoutError:
        return f"expected the check to end within {CHECK_SECONDS:.0f} s, it did not"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as odd:
        return f"expected an answer in the protocol's form, got something else ({odd!r})"
    return None
