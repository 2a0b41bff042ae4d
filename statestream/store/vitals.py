"""The vitals of a node: how long its work takes, what is wrong with it, and whether its journal can be written to.

A node that is not asked for anything would not notice that its journal has become unusable, and one that is known to
be unusable is sent no requests, so it would not notice the recovery either. So whoever asks for the health of a node
makes it look at its journal.

Invariants: whatever asks, and however often, the node looks once per LOOK_SECONDS at most. It writes to the journal
only to find out whether a trouble is over. Nothing here raises an error of the journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from statestream.core.change import Position
from statestream.core.errors import StatestreamError
from statestream.core.histogram import Histogram
from statestream.journal.contract import Journal, Writable
from statestream.store.tracing import Span
from statestream.store.troubles import Troubles

log = logging.getLogger("statestream")

LOOK_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 2.0
"""A journal that does not answer in this time counts as one that cannot be written to."""


class Vitals:
    """`dispatch` has the time from a request to its answer, `journal` that of each append, and `follow` the time from
    another node's request to this node's knowledge of what it changed, all in seconds.
    """

    def __init__(self, journal: Journal) -> None:
        self.dispatch, self.journal, self.follow = Histogram(), Histogram(), Histogram()
        self.appends_failed = 0
        self.troubles = Troubles()
        self.tasks: list[asyncio.Task[None]] = []
        """Without these the node does not work, and none of them ends before the node does."""
        self.announcing: Sequence[Span] = ()
        """The requests whose changes are being announced, if they are traced."""
        self._looking = asyncio.Lock()
        self._next_look = 0.0
        self.use(journal)

    def use(self, journal: Journal) -> None:
        """Sets the journal, until the state is first loaded."""
        self._journal = journal

    @property
    def alive(self) -> bool:
        """Whether all tasks of the node still run."""
        return not any(task.done() for task in self.tasks)

    def appended(self, seconds: float) -> None:
        """The journal has accepted a batch."""
        self.journal.observe(seconds)
        self.troubles.end("journal")

    def append_failed(self, error: Exception) -> None:
        """The outcome of an append is unknown."""
        self.appends_failed += 1
        self.troubles.begin("journal", _why(error))

    async def look(self) -> Troubles:
        """The troubles, after a look at the journal unless the last one was a moment ago."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if loop.time() >= self._next_look:
                await self._look()
                self._next_look = loop.time() + LOOK_SECONDS
        return self.troubles

    async def _look(self) -> None:
        journal = self._journal
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                if isinstance(journal, Writable):
                    await journal.check_writable(by_writing="journal" in self.troubles)
                else:
                    await journal.head()
        except (StatestreamError, TimeoutError) as error:
            self.troubles.begin("journal", _why(error))
        except Exception:
            log.exception("the journal could not be checked")
            self.troubles.begin("journal")
        else:
            self.troubles.end("journal")

    async def lag(self, position: Position) -> int | None:
        """The number of changes by which the journal is ahead of a position; None if it does not say."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return max(0, (await self._journal.head()).seq - position.seq)
        except (StatestreamError, TimeoutError):
            return None


def _why(error: Exception) -> str:
    """For the log. Errors that are not ours are logged where they arrive."""
    if isinstance(error, StatestreamError):
        return str(error)
    return "it does not answer" if isinstance(error, TimeoutError) else ""
