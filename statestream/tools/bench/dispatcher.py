"""Sends each change when it is due, whatever became of the changes before it: an open loop.

Invariants: the due time of every change is fixed before the first is sent. A slow server is not waited for, so the
latencies include all of the time that its readers wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, Final

import aiohttp
import orjson
from msgspec import Struct, field

from statestream.core.errors import StatestreamError, StreamRefused
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.messages import Schedule
from statestream.tools.target import Target, refusal
from statestream.tools.template import ActionTemplate

RESPONSE_SECONDS: Final = 30.0


class DispatchCounters(Struct, kw_only=True):
    """What became of the dispatches. `seqs` has the seq of each accepted change, the last in a followed slice.

    `unseen` counts changes of slices that no reader follows. `latency` is from the due time to the response, `late`
    from the due time to the request, both in µs.
    """

    accepted: int = 0
    unseen: int = 0
    seqs: dict[int, int] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)


class Dispatcher:
    """Sends the changes of a schedule. Raises StreamRefused if the first ones are refused: all others would be, too."""

    def __init__(self, target: Target, template: ActionTemplate, run: str, session: aiohttp.ClientSession) -> None:
        self._target, self._template, self._run, self._session = target, template, run, session
        self._url = target.route("dispatch")
        self.counters = DispatchCounters()
        self.sent = 0

    async def run(self, schedule: Schedule) -> None:
        """Returns when all changes have been sent and answered."""
        async with asyncio.TaskGroup() as group:
            for number in range(schedule.changes):
                due = schedule.due(number)
                while (left := due - time.monotonic_ns()) > 0:
                    await asyncio.sleep(left / 1e9)
                self.counters.late.add((time.monotonic_ns() - due) // 1_000)
                self.sent += 1
                group.create_task(self._send(number, due))

    async def _send(self, number: int, due: int) -> None:
        body = self._template.body(self._run, number)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                self._url, data=body, headers=headers, allow_redirects=False
            ) as response:  # the session's headers may be credentials for this server only
                if response.status != 200:
                    await self._refused(response)
                    return
                answer = orjson.loads(await response.read())
            self._accepted(number, answer)
            self.counters.latency.add((time.monotonic_ns() - due) // 1_000)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise StreamRefused(
                "expected the answer of a statestream server, got something else; check the URL", reason="answer"
            ) from None
        except TimeoutError:
            self.counters.errors["no answer in time"] += 1
        except (aiohttp.ClientError, OSError):
            self.counters.errors["connection lost"] += 1

    def _accepted(self, number: int, answer: Any) -> None:
        self.counters.accepted += 1
        followed = [change["version"] for change in answer["changes"] if self._target.follows(change["slice"])]
        if followed:
            self.counters.seqs[number] = max(followed)
            return
        self.counters.unseen += 1
        if not self.counters.seqs:
            raise StreamRefused(self._why_unseen(answer["changes"]), reason="unseen")

    def _why_unseen(self, changes: Any) -> str:
        action = self._template.type
        if not changes:
            return (
                f"expected {action} to change something, but it did not; use {{n}} and {{run}} in the payload, which "
                "differ from change to change and from run to run"
            )
        names = ",".join(sorted({change["slice"] for change in changes}))
        return f"expected {action} to change what the readers follow, but it changed {names}; use --slices"

    async def _refused(self, response: aiohttp.ClientResponse) -> None:
        error: StatestreamError = await refusal(f"{self._template.type} to be accepted", response)
        if response.status < 500 and not self.counters.accepted:
            raise error
        self.counters.errors[str(response.status)] += 1
