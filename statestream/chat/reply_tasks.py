"""The runs that this process makes: each reply and title a task, found by its chat, all awaited at the end.

Invariants: a task that was started here ends here: `close` returns when none is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from http import HTTPStatus
from typing import Any, Final, TypeVar

from statestream.chat.generation import STOPPED, Generation
from statestream.core.errors import StatestreamError, Unavailable

log = logging.getLogger("statestream")
T = TypeVar("T")

CLOSE_SECONDS: Final = 3.0


class ReplyTasks:
    """Replies in the making, by their ids, and whatever else must not end with a request."""

    def __init__(self) -> None:
        self._making: dict[str, Generation] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._making)

    def __contains__(self, reply: str) -> bool:
        """Whether that reply is made here."""
        return reply in self._making

    def start(self, generation: Generation, then: Callable[[], Awaitable[None]]) -> None:
        """Makes the reply, then what comes after it."""
        self._making[generation.reply] = generation
        if self._closed:
            generation.stop()
        self.own(self._make(generation, then))

    async def _make(self, generation: Generation, then: Callable[[], Awaitable[None]]) -> None:
        try:
            await generation.run()
        finally:
            del self._making[generation.reply]
        await then()

    def own(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """A task that nobody need wait for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_look)
        return task

    def owned(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The result of work that goes on whatever becomes of its caller. Raises Unavailable once closed."""
        if self._closed:
            work.close()
            raise Unavailable("the server is stopping; ask again in a moment")
        result = asyncio.shield(self.own(work))
        result.add_done_callback(lambda done: done.cancelled() or done.exception())  # its caller may have left
        return result

    def stop(self, reply: str) -> bool:
        """Ends that reply, if this process makes it: it keeps its text and is marked as stopped."""
        generation = self._making.get(reply)
        if generation is None:
            return False
        generation.stop(STOPPED)
        return True

    def let_go(self, reply: str) -> None:
        """The reply has ended, by whatever hand: nothing more need be read for it."""
        if (generation := self._making.get(reply)) is not None:
            generation.stop()

    async def close(self) -> None:
        """Ends what is being made: each reply keeps its text and is marked as interrupted, if the journal is there."""
        self._closed = True
        for generation in self._making.values():
            generation.stop()
        late = asyncio.get_running_loop().time() + CLOSE_SECONDS
        while self._tasks:  # one that ends may have started another: a question becomes a reply
            tasks = tuple(self._tasks)
            await asyncio.wait(
                tasks,
                timeout=max(0.0, late - asyncio.get_running_loop().time()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if asyncio.get_running_loop().time() >= late:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)


def _look(task: asyncio.Task[Any]) -> None:
    """Nobody may be waiting for the task: what went wrong is logged. That a caller was told no is an answer."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, StatestreamError):
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("a reply could not be made or finished: %s", error)
    elif error is not None:
        log.error("a reply could not be made or finished", exc_info=error)
