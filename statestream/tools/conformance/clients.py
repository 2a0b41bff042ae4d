"""Whether a client keeps the protocol's promises: it follows each golden transcript, and must end where that ends.

Invariants: black boxes only. A client is known by what it asks and by what it says that it holds; in which language it
is written is nothing to us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Final, Protocol

from statestream.tools.conformance.check import Check, Outcome, chosen
from statestream.tools.conformance.player import LOOK_SECONDS, Held, Part, Player
from statestream.tools.conformance.transcripts import SECTION

AT_ONCE: Final = 4
STOP_SECONDS: Final = 5.0


class Holding(Protocol):
    """What is looked at while a client follows: anything with these three attributes, like a `statestream.Stream`."""

    @property
    def state(self) -> Mapping[str, Any]:
        """The value of each slice, by name."""

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of each slice."""

    @property
    def position(self) -> str | None:
        """The cursor that it would come back with."""


Client = Callable[[str, Callable[[Holding], None]], Awaitable[object]]


async def check_client(
    run: Client,
    *,
    only: Collection[str] = (),
    timeout: float = 10.0,  # noqa: ASYNC109  # one for each transcript
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """Checks whether a client does as the golden transcripts say: an outcome for each.

    `run(url, show)` is the client. It follows the stream at `url + "/stream/state"`, gives `show` an object whose
    `state`, `versions` and `position` are what it holds at any time, and goes on until it is cancelled; it returns
    only when the server has ended the stream for good. What is compared: the cursors it asked with, one after
    another, what it holds at the end, and whether it returned.

    `only`: names of transcripts, else all are played, a few at a time. `timeout`: seconds that the client has for
    one. `tell` hears of each outcome as soon as it is there. Raises Malformed for an unknown name; what the client
    raises is an outcome.
    """
    async with Player() as player:
        path, play = player.begin()
        checks = [Check(name=one.name, section=SECTION, promise=one.promise) for one in player.transcripts]
        wanted = chosen(checks, only)
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(check: Check) -> Outcome:
            async with gate:
                problem = await _problem(run, f"{player.url}{path}/{check.name}", play[check.name], timeout)
            outcome = Outcome(check=check, problem=problem)
            tell(outcome)
            return outcome

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(check)) for check in wanted]
        return [task.result() for task in tasks]


async def _problem(run: Client, url: str, part: Part, seconds: float) -> str | None:
    """What the client has made of the transcript that is wrong, as soon as it is certain, or when its time is up."""
    shown: list[Holding] = []

    async def followed() -> object:
        return await run(url, shown.append)

    following = asyncio.create_task(followed())
    try:
        async with asyncio.timeout(seconds):
            while (problem := _seen(part, shown, following)) and not part.astray and not following.done():
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        pass
    except Exception as error:  # of what it has shown
        problem = f"expected to see what the client holds, it raised {error!r}"
    finally:
        following.cancel()
        await asyncio.wait([following], timeout=STOP_SECONDS)
    if not following.done():
        return f"expected the client to end within {STOP_SECONDS:.0f} s when it is cancelled, it goes on"
    if not following.cancelled() and (raised := following.exception()) is not None:
        return f"expected the client to follow, it raised {raised!r}"
    return problem


def _seen(part: Part, shown: list[Holding], following: asyncio.Task[object]) -> str | None:
    """The problem by now."""
    if shown:
        now, over = shown[-1], following.done()
        part.held = Held(state=dict(now.state), versions=dict(now.versions), position=now.position, over=over)
    return part.problem()
