"""Whether a client keeps the protocol's promises: it follows each golden transcript, and must end as that ends.

Invariants: black boxes only; see the package.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol

from statestream.tools.conformance.checks import Check, Outcome, select
from statestream.tools.conformance.clients.transcript import SECTION
from statestream.tools.conformance.clients.transcript_server import (
    POLL_SECONDS,
    Attempt,
    ReportedState,
    TranscriptServer,
)

AT_ONCE: Final = 4
STOP_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.2
"""How long a client must continue once it has everything."""


class ClientState(Protocol):
    """What a client has: any object with these three attributes, such as a `statestream.Stream`."""

    @property
    def state(self) -> Mapping[str, Any]:
        """The value of each slice, by name."""

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice, by name."""

    @property
    def position(self) -> str | None:
        """The cursor that it would resume with."""


Client = Callable[[str, Callable[[ClientState], None]], Awaitable[object]]


async def check_client(
    run: Client,
    *,
    only: Collection[str] = (),
    timeout: float = 10.0,  # noqa: ASYNC109  # for each transcript, not for the call
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Verifies that a client follows the golden transcripts as prescribed. Returns an outcome for each of them.

    `run(url, show)` is the client. It follows the stream at `url + "/stream/state"`, calls `show` with an object whose
    `state`, `versions` and `position` are always what it has, and runs until it is cancelled; it returns only after the
    server has ended the stream for good. The check compares the cursors that it asked with, in order, what it has at
    the end, and whether it returned.

    `only` has the names of the transcripts to play; by default all are played, a few at a time. `timeout` is how many
    seconds the client has for each. `tell` is called with each outcome as soon as it is known. Raises Malformed for an
    unknown name. An exception that the client raises is an outcome.
    """
    async with TranscriptServer() as server:
        path, play = server.begin()
        checks = [Check(name=each.name, section=SECTION, promise=each.promise) for each in server.transcripts]
        selected = select(checks, only)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(check: Check) -> Outcome:
            async with gate:
                problem = await _problem(run, f"{server.url}{path}/{check.name}", play[check.name], timeout)
            outcome = Outcome(check=check, problem=problem)
            tell(outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(check)) for check in selected]
        return [task.result() for task in tasks]


async def _problem(run: Client, url: str, attempt: Attempt, seconds: float) -> str | None:
    """The client's problem with a transcript, as soon as it is certain, or when its time is up."""
    shown: list[ClientState] = []

    async def followed() -> object:
        return await run(url, shown.append)

    following = asyncio.create_task(followed())
    try:
        async with asyncio.timeout(seconds):
            while (problem := _current(attempt, shown, following)) and not attempt.hopeless and not following.done():
                await asyncio.sleep(POLL_SECONDS)
        if problem is None:  # a client that is about to give up has what it should have
            await asyncio.wait([following], timeout=SETTLE_SECONDS)
            problem = _current(attempt, shown, following)
    except TimeoutError:
        pass
    except Exception as error:  # raised by the object that the client shows
        problem = f"expected to read the client's state, but it raised {error!r}"
    finally:
        following.cancel()
        await asyncio.wait([following], timeout=STOP_SECONDS)
    if not following.done():
        return f"expected the client to end within {STOP_SECONDS:.0f} s after it was cancelled, but it continues"
    if not following.cancelled() and (raised := following.exception()) is not None:
        return f"expected the client to follow, but it raised {raised!r}"
    return problem


def _current(attempt: Attempt, shown: list[ClientState], following: asyncio.Task[object]) -> str | None:
    """The problem at this moment, which may still go away."""
    if shown:
        now, over = shown[-1], following.done()
        attempt.reported = ReportedState(
            state=dict(now.state), versions=dict(now.versions), position=now.position, over=over
        )
    return attempt.problem()
