"""The runs of one process: a task for each reply, and for other work that must not end with a request.

Invariants: every task that is started here ends here: when `close` returns, none is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from http import HTTPStatus
from typing import Any, Final, TypeVar

from statestream.chat.prices import Spending
from statestream.chat.replies.ends import STOPPED
from statestream.chat.replies.measurements import Totals
from statestream.chat.replies.reply_run import ReplyRun
from statestream.core.errors import StatestreamError, Unavailable
from statestream.store import tracing

log = logging.getLogger("statestream")
T = TypeVar("T")

CLOSE_SECONDS: Final = 3.0


class ReplyTasks:
    """The replies that this process makes, by their ids, and their tasks, which are named after the node."""

    def __init__(self, node: str) -> None:
        self._name = f"chat {node} reply"
        self._runs: dict[str, ReplyRun] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.totals = Totals()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, reply: str) -> bool:
        """Whether this process makes that reply."""
        return reply in self._runs

    def spending_of(self, reply: str) -> Spending | None:
        """What the run of a reply has used so far; None if it is not one of this process."""
        run = self._runs.get(reply)
        return None if run is None else run.measurements.spending

    def start(self, run: ReplyRun, then: Callable[[], Awaitable[None]]) -> None:
        """Makes the reply, then does what follows it."""
        self._runs[run.reply] = run
        if self._closed:
            run.stop()
        run.span = tracing.begin("statestream.reply")
        self._start(self._run(run, then), tracing.inside(None))  # what it dispatches is not traced: see `tracing`

    async def _run(self, run: ReplyRun, then: Callable[[], Awaitable[None]]) -> None:
        try:
            await run.run()
        finally:
            if self._runs.get(run.reply) is run:  # another run may have continued the reply
                del self._runs[run.reply]
            run.place.give_back()
            self.totals.add(run.outcome, run.measurements, run.maker)
            run.report()
        with contextlib.nullcontext() if run.span is None else run.span.current():
            await then()

    def _start(self, work: Coroutine[Any, Any, T], context: Context | None = None) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=self._name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_log_failure)
        return task

    def shielded(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The result of work that continues even if its caller is cancelled. Raises Unavailable once closed."""
        if self._closed:
            work.close()
            raise Unavailable("the server is stopping; ask again in a moment")
        result = asyncio.shield(self._start(work))
        # the caller may have left: mark the exception as retrieved
        result.add_done_callback(lambda done: done.cancelled() or done.exception())
        return result

    def stop(self, reply: str) -> bool:
        """Ends a reply as stopped, keeping its text. Returns False if this process does not make it."""
        run = self._runs.get(reply)
        if run is None:
            return False
        run.stop(STOPPED)
        return True

    def abandon(self, reply: str) -> None:
        """Stops working on a reply that has ended or waits, whether or not this process is the cause."""
        if (run := self._runs.get(reply)) is not None:
            run.abandon()

    async def close(self) -> None:
        """Ends the replies in progress. Each keeps its text and is marked as interrupted, if the journal allows."""
        self._closed = True
        for run in self._runs.values():
            run.stop()
        loop = asyncio.get_running_loop()
        late = loop.time() + CLOSE_SECONDS
        while self._tasks:  # a task may start another one when it ends: asking a question starts a reply
            tasks = tuple(self._tasks)
            remaining = max(0.0, late - loop.time())
            await asyncio.wait(tasks, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            if loop.time() >= late:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _log_failure(task: asyncio.Task[Any]) -> None:
    """Logs failures, because nobody may be waiting for the task. A refusal answers the caller and is no failure."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, StatestreamError):
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("a reply could not be made or finished: %s", error)
    elif error is not None:
        log.error("a reply could not be made or finished", exc_info=error)
