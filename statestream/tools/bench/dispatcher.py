"""Sends the changes, each when it is due, whatever became of those before it: an open loop.

Invariants: change n is due at a time that is fixed before the first is sent. A server that falls behind is not
waited for, so what its readers wait is counted whole.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, Final

import aiohttp
import orjson
from msgspec import Struct, field

from statestream.core.errors import Malformed, StatestreamError, StreamRefused
from statestream.core.names import check_key
from statestream.core.values import loads
from statestream.tools.bench.histogram import Histogram
from statestream.tools.bench.target import Target, refusal
from statestream.tools.bench.worker import Start

ANSWER_SECONDS: Final = 30.0


class Template(Struct, frozen=True, kw_only=True):
    """An action with `{n}` for the number of the change and `{run}` for what tells this run from others."""

    type: str
    payload: str = "{}"
    key: str | None = None

    def body(self, run: str, number: int) -> bytes:
        """Raises Malformed where it is no request."""
        payload = loads(self._filled(self.payload, run, number).encode())
        if not isinstance(payload, dict):
            raise Malformed('expected the payload to be a JSON object like {"id": "{n}"}')
        body = {"type": self.type, "payload": payload, "id": f"{run}{number}"}
        if self.key is not None:
            body["key"] = check_key(self._filled(self.key, run, number))
        return orjson.dumps(body)

    def _filled(self, text: str, run: str, number: int) -> str:
        return text.replace("{n}", str(number)).replace("{run}", run.strip("-").rpartition("-")[2])


class Answers(Struct, kw_only=True):
    """What the server said. `seqs`: the seq of each accepted change's last one in a followed slice."""

    accepted: int = 0
    unseen: int = 0
    seqs: dict[int, int] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)


class Dispatcher:
    """`run` sends all changes and returns when all are answered. Raises StreamRefused if none is accepted at first."""

    def __init__(self, target: Target, template: Template, run: str, session: aiohttp.ClientSession) -> None:
        self._target, self._template, self._run, self._session = target, template, run, session
        self.answers = Answers()
        self.sent = 0

    async def run(self, start: Start) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(start.changes):
                due = start.first_ns + number * start.apart_ns
                while (left := due - time.monotonic_ns()) > 0:
                    await asyncio.sleep(left / 1e9)
                self.answers.late.add((time.monotonic_ns() - due) // 1_000)
                self.sent += 1
                group.create_task(self._one(number, due))

    async def _one(self, number: int, due: int) -> None:
        body = self._template.body(self._run, number)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self._target.dispatch_url, data=body, headers=headers) as response:
                if response.status != 200:
                    await self._refused(response)
                    return
                answer = orjson.loads(await response.read())
            self._accepted(number, answer)
            self.answers.latency.add((time.monotonic_ns() - due) // 1_000)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise StreamRefused("expected a dispatch's answer, got something else", reason="answer") from None
        except TimeoutError:
            self.answers.errors["no answer in time"] += 1
        except (aiohttp.ClientError, OSError):
            self.answers.errors["connection lost"] += 1

    def _accepted(self, number: int, answer: Any) -> None:
        self.answers.accepted += 1
        followed = [change["version"] for change in answer["changes"] if self._target.follows(change["slice"])]
        if followed:
            self.answers.seqs[number] = max(followed)
            return
        self.answers.unseen += 1
        if not self.answers.seqs:
            raise StreamRefused(self._why_unseen(answer["changes"]), reason="unseen")

    def _why_unseen(self, changes: Any) -> str:
        action = self._template.type
        if not changes:
            return (
                f"expected {action} to change something, it did not: {{n}} and {{run}} in the payload differ "
                "from change to change and from run to run"
            )
        names = ",".join(sorted({change["slice"] for change in changes}))
        return f"expected {action} to change what the readers follow, it changed {names}: give --slices"

    async def _refused(self, response: aiohttp.ClientResponse) -> None:
        error: StatestreamError = await refusal(f"{self._template.type} to be accepted", response)
        if response.status < 500 and not self.answers.accepted:
            raise error
        self.answers.errors[str(response.status)] += 1
