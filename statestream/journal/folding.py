"""Folds the history of a journal, whatever the engine; `core/folding.py` says what that means.

The history is looked through once, a portion at a time, up to the newest checkpoint that is as old as the retention
says. A run ends where something else happens to its slice. Then its last change becomes the summary, and the others are
folded, a few at a time.

Invariants: the journal notes how far it was looked through only once everything before is done, so whoever is killed is
continued by another node or the next start. Several nodes may fold at the same time: each replaces only what is as it
has read it, in the order that `core/folding.py` demands.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Final

from statestream.core.change import PAGE, Change, Page, Position
from statestream.core.errors import Expired, Forked
from statestream.core.folding import Run, folded, is_step
from statestream.core.selection import Selection
from statestream.journal.contract import Foldable
from statestream.journal.history import History

MOST: Final = 5_000
"""The changes of one run. Beyond, another begins."""
SPAN: Final = 50_000
"""A run is folded as it is once so many changes have followed its first one: what is noted does not go beyond it."""
PORTION: Final = 100
"""The changes that are folded at once. Appends may have to wait for them."""


class Folding:
    """Looks through the history of one journal."""

    def __init__(self, history: History) -> None:
        self._history, journal = history, history.journal
        self._journal = journal if isinstance(journal, Foldable) and history.keeps else None
        self._after: Position | None = None
        self._runs: dict[str, Run] = {}
        """The runs that have not ended yet, by their slices."""

    async def fold(self, gradual: Collection[str]) -> bool:
        """Looks through a portion of the history, for changes of these actions. Returns whether more is due.

        Raises Unavailable, JournalUnusable.
        """
        age = self._history.journal.retention.fold_after
        until = None if self._journal is None or age is None or not gradual else await self._due(age)
        if until is None:
            return False
        try:
            return await self._look(gradual, until)
        except (Expired, Forked):  # trimmed meanwhile, or another history
            self._forget()
            return False

    def _forget(self) -> None:
        self._after, self._runs = None, {}

    async def _due(self, age: float) -> Position | None:
        """Up to where the history is old enough; None if it has been looked through."""
        latest = self._history.journal.clock.now() - age * 1000
        until = await self._history.older_checkpoint(latest)
        return None if until is None or (self._after is not None and self._after.seq >= until.seq) else until

    async def _look(self, gradual: Collection[str], until: Position) -> bool:
        assert self._journal is not None
        noted = await self._journal.folded_until()
        earliest = await self._history.journal.earliest()
        if noted.seq < earliest.seq:
            noted = earliest
        if self._after is None or self._after.seq < noted.seq:  # another node was first
            self._after, self._runs = noted, {}
        if self._after.seq >= until.seq:
            return False
        page = await self._history.journal.read(
            self._after, min(PAGE, until.seq - self._after.seq), _slices_of(gradual)
        )
        for run in self._ended(page, gradual, self._after):
            await self._fold(run, gradual)
        self._after = page.until
        oldest = min((run.since for run in self._runs.values()), key=lambda since: since.seq, default=page.until)
        await self._journal.note_folded(oldest)
        return page.until.seq < until.seq

    def _ended(self, page: Page, gradual: Collection[str], since: Position) -> list[Run]:
        """The runs that end within a page. Its changes become part of others."""
        ended = []
        for change in page.changes:
            if change.is_folded:
                continue
            run = self._runs.get(change.slice)
            if not is_step(change, gradual):
                ended += [] if run is None else [self._runs.pop(change.slice)]
            elif run is None:
                self._runs[change.slice] = Run.of(change, since)
            else:
                run.add(change)
                if run.count >= MOST:
                    ended.append(self._runs.pop(change.slice))
        old = [name for name, run in self._runs.items() if page.until.seq - run.since.seq > SPAN]
        return ended + [self._runs.pop(name) for name in old]

    async def _fold(self, run: Run, gradual: Collection[str]) -> None:
        """Folds a run, unless that would save nothing, or it is not there any more."""
        assert self._journal is not None
        if run.count == 1:
            return
        selection = Selection(names=frozenset((run.last.slice,)))
        try:
            state = (await self._history.load(run.last.position, selection)).slices.get(run.last.slice)
            if state is None or state.version != run.last.version:
                return
            summary = run.summary(state.value)
            if len(summary.data) < run.bytes and await self._journal.rewrite([(run.last, summary)]):
                await self._fold_steps([step for step in await self._steps(run, selection) if is_step(step, gradual)])
        except Expired:
            return

    async def _steps(self, run: Run, selection: Selection) -> list[Change]:
        """The changes of a run but for the last one. Raises Forked, Expired, Unavailable."""
        found: list[Change] = []
        after, end = run.since, run.last.version - 1
        while after.seq < end:
            page = await self._history.journal.read(after, min(PAGE, end - after.seq), selection)
            found += (change for change in page.changes if change.version > run.before)
            after = page.until
        return found

    async def _fold_steps(self, steps: Sequence[Change]) -> None:
        """From the newest to the oldest, with pauses. Stops at what has been erased or folded in the meantime."""
        assert self._journal is not None
        for end in range(len(steps), 0, -PORTION):
            began = time.monotonic()
            if not await self._journal.rewrite([(step, folded(step)) for step in steps[max(0, end - PORTION) : end]]):
                return
            await asyncio.sleep(time.monotonic() - began)  # appends may have as much of the journal as this


def _slices_of(gradual: Collection[str]) -> Selection:
    """The slices of these actions, whether they are keyed or not."""
    names = frozenset(type.partition("/")[0] for type in gradual)
    return Selection(names=names, families=names)
