"""All checks of a server, run one after the other.

Invariants: no other client may change the server meanwhile. A response that does not have the protocol's form is a
broken promise, never an exception of the caller.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from statestream.tools.conformance.checks import Outcome, select
from statestream.tools.conformance.servers.cursor_checks import CURSORS
from statestream.tools.conformance.servers.dispatch_checks import DISPATCH, ERRORS, LIMITS
from statestream.tools.conformance.servers.origin_checks import ORIGINS
from statestream.tools.conformance.servers.poll_checks import POLLS
from statestream.tools.conformance.servers.server_check import ServerCheck
from statestream.tools.conformance.servers.server_under_test import ServerUnderTest
from statestream.tools.conformance.servers.state_checks import STATES
from statestream.tools.conformance.servers.stream_checks import STREAM
from statestream.tools.conformance.servers.ticket_checks import TICKETS
from statestream.tools.conformance.violation import Violation
from statestream.tools.target import Target
from statestream.tools.template import ActionTemplate

SECTIONS: Final = (STREAM, CURSORS, POLLS, DISPATCH, STATES, ERRORS, LIMITS, ORIGINS, TICKETS)
CHECKS: Final[Sequence[ServerCheck]] = tuple(check for section in SECTIONS for check in section.checks)
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
    """Verifies that the server at `url`, its root, keeps the protocol's promises. Returns an outcome for each check.

    It writes to the server with `action`, a type such as `board/task_added`, which must change something each time.
    `payload` is its payload as JSON, `key` its key if the slice is keyed; in both, `{n}` stands for the number of the
    change and `{run}` for the run. `slices` are followed: names, `name/*` or `*`; None follows what the action changes.
    `headers` are sent with every request; a user and a password in `url` become one of them. `only` has the names of
    the checks to run; by default all run. `tell` is called with each outcome as soon as it is known.

    Raises Malformed for an argument that cannot be parsed, Unavailable if no server answers, StreamRefused if the
    action changes nothing or another program answers.
    """
    checks = select(CHECKS, only)
    target = Target.parse(url, None if slices is None else ",".join(slices), [])
    target = replace(target, headers={**target.headers, **(headers or {})})
    template = ActionTemplate(type=action, payload=payload, key=key)
    template.body("run-", 1)  # raises Malformed before the first request
    outcomes = []
    async with ServerUnderTest(target, template, f"conformance-{secrets.token_hex(4)}-") as server:
        await server.begin()
        for check in checks:
            outcomes.append(Outcome(check=check, problem=await _problem(check, server)))
            tell(outcomes[-1])
    return outcomes


async def _problem(check: ServerCheck, server: ServerUnderTest) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check.verify(server)
    except Violation as violation:
        return str(violation)
    except TimeoutError:
        return f"expected the check to end within {CHECK_SECONDS:.0f} s, but it did not"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        # A server may answer anything, and the checks use responses without looking at each member first.
        return f"expected a response in the protocol's form, got another ({error!r})"
    return None
