"""Asks the questions that have waited: for the end of a reply, or for their time.

Every node looks for them, at regular intervals and when a reply that it makes has ended. Two nodes may try to ask one
question at the same time: the request of one of them is refused.

Invariants: what is to be asked is in the store only, so a node that is lost takes no question with it. A question that
can never be asked is removed, so that it does not hold up those behind it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from statestream.chat.nodes.in_progress import InProgress
from statestream.chat.slices import conversation, later, waits
from statestream.chat.slices.later import Later
from statestream.chat.slices.turn import UNFINISHED
from statestream.core.change import now_ms
from statestream.core.errors import NotFound, Refused, StatestreamError, Unavailable
from statestream.store.view import StoreView

log = logging.getLogger("statestream")

EVERY_SECONDS: Final = 0.5
NOT_NOW: Final = UNFINISHED | {later.GONE}
"""The codes of refusals after which there is nothing to do: another question is being answered, or another node was
first.
"""


class AskingLater:
    """Call `run` in a task of its own. `ask` asks a question now."""

    def __init__(
        self, view: StoreView, in_progress: InProgress, ask: Callable[[str, Later], Awaitable[object]]
    ) -> None:
        self._view, self._in_progress, self._ask = view, in_progress, ask
        self._news = asyncio.Event()
        self._stopping = False

    def wake(self) -> None:
        """A reply of this node has ended."""
        self._news.set()

    def stop(self) -> None:
        """Nothing is asked any more: the node stops, and others go on."""
        self._stopping = True

    async def run(self) -> None:
        """Asks what is due, until cancelled."""
        while True:
            self._news.clear()
            now = now_ms()
            for key, at in tuple(self._in_progress.later.items()):
                if at <= now and self._is_idle(key) and not self._stopping:
                    await self._ask_next(key, now)
            try:
                async with asyncio.timeout(EVERY_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue

    def _is_idle(self, key: str) -> bool:
        return key not in self._in_progress.replies and not self._view.version(f"{waits.NAME}/{key}")

    async def _ask_next(self, key: str, now: int) -> None:
        try:
            found = await self._view.complete(lambda: later.due(self._view, key, now))
            if found is not None:
                await self._try(key, found)
        except StatestreamError as error:
            self._view.vitals.troubles.warn("a question that has waited could not be asked: %s", error)
        except Exception:
            log.exception("a question that has waited could not be asked, trying again soon")

    async def _try(self, key: str, found: Later) -> None:
        try:
            await self._ask(key, found)
        except Unavailable:
            raise
        except StatestreamError as error:
            if isinstance(error, Refused) and error.reason in NOT_NOW:
                return
            if not isinstance(error, Refused) or error.reason != conversation.KNOWN:
                log.warning("removed a queued or scheduled question that cannot be asked: %s", error)
            await self._remove(key, found)

    async def _remove(self, key: str, found: Later) -> None:
        id = found.question["id"]
        removal = later.dequeued(key, question=id) if found.at is None else later.taken(key, id=id)
        try:
            await self._view.dispatch(removal)
        except (Refused, NotFound):  # somebody else has removed it
            return
