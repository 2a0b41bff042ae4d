"""All checks, and the run through them: one after the other, on a server that nobody else uses meanwhile."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from statestream.tools.bench.dispatcher import Template
from statestream.tools.bench.target import Target
from statestream.tools.conformance.check import Breach, Outcome, Trial, chosen
from statestream.tools.conformance.cursors import CURSORS
from statestream.tools.conformance.dispatches import DISPATCH, ERRORS, LIMITS
from statestream.tools.conformance.states import STATES
from statestream.tools.conformance.streams import STREAM
from statestream.tools.conformance.subject import Subject

SECTIONS: Final = (STREAM, CURSORS, DISPATCH, STATES, ERRORS, LIMITS)
CHECKS: Final[Sequence[Trial]] = tuple(check for section in SECTIONS for check in section.checks)
CHECK_SECONDS: Final = 300.0


async def check_server(
    url: str,
    *,
    action: str,
    payload: str = "{}",
    key: str | None = None,
    slices: Sequence[str] | None = None,
    headers: Mapping[str, str] | None = None,
    only: Collection[str] = (),
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Checks whether the server at `url` (its root) keeps the protocol's promises: an outcome for each.

    It writes to the server by `action`, a type like `board/task_added`, which is to change something each time.
    `payload` is its payload as JSON and `key` its key, for an action of a keyed slice; in both `{n}` stands for the
    number of the change, `{run}` for what tells this run from others. `slices`: what is followed, names, `name/*`
    or `*`; None: what the action changes. `headers` go with every request; a user and a password in `url` are one
    of them. `only`: names of checks, else all are run; `tell` hears of each outcome as soon as it is there.

    Raises Malformed for an argument that cannot be read, Unavailable where no server is, StreamRefused where
    something else answers or the action changes nothing.
    """
    trials = chosen(CHECKS, only)
    target = Target.parse(url, None if slices is None else ",".join(slices), [])
    target = replace(target, headers={**target.headers, **(headers or {})})
    template = Template(type=action, payload=payload, key=key)
    template.body("run-", 1)
    outcomes = []
    async with Subject(target, template, f"conformance-{secrets.token_hex(4)}-") as subject:
        await subject.learn()
        for trial in trials:
            outcomes.append(Outcome(check=trial, problem=await _problem(trial, subject)))
            tell(outcomes[-1])
    return outcomes


async def _problem(trial: Trial, subject: Subject) -> str | None:
    """A server may answer anything: what cannot be read as the protocol says is a breach as well."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await trial.tried(subject)
    except Breach as breach:
        return str(breach)
    except TimeoutError:
        return f"expected the check to end within {CHECK_SECONDS:.0f} s, it did not"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as odd:
        return f"expected an answer in the protocol's form, got something else ({odd!r})"
    return None
