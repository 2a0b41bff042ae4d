"""Upkeep: the work of a node beside its requests that keeps restarts quick and the journal within its retention.

It makes checkpoints, has the history trimmed and folded, and has the journal tidied. A checkpoint is due after a number
of changes, after a number of bytes, or after a time; each of these bounds what lies after the newest checkpoint, which
cannot be trimmed. The upkeep looks for history to trim after each checkpoint and periodically, so that a quiet store
forgets as well.

Invariants: a checkpoint is made from states that never change, while requests go on. Captured changes are either saved
or due again. Only one checkpoint is made at a time, and only one look is taken at a time. `run` is the only task; its
starter awaits it. Cancelling it leaves the journal intact.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from statestream.core.change import START, Change, Position, SliceState, Snapshot, total_size
from statestream.core.errors import Expired, StatestreamError
from statestream.core.selection import Selection
from statestream.journal.contract import CheckpointClaimed, Journal
from statestream.journal.folding import Folding
from statestream.journal.history import History
from statestream.store.loaded import LoadedSlices
from statestream.store.troubles import Troubles

log = logging.getLogger("statestream")

SLACK: Final = 8
"""A bound of the retention is exceeded by at most this fraction of it."""
LEAST_BYTES: Final = 64 << 10
LOOK_SECONDS: Final = (0.25, 60.0)
MOST_SECONDS: Final = 3600.0
"""The longest time that a change waits for a checkpoint, so that a server that often crashes forgets as well."""
RETRY_SECONDS: Final = 5.0
FINISH_SECONDS: Final = 2.0
"""A store that is closing trims for at most this long; the next start continues."""
FOLD_SECONDS: Final = 0.5
PACE: Final = 10
"""A checkpoint that is due only by age waits this many times longer than the last checkpoint took."""


class Captured(Struct, frozen=True, kw_only=True):
    """The contents of the next checkpoint, the bytes of changes to save, and the time since which they wait.

    `away` are the instances whose values another node has changed, and this one does not have.
    """

    position: Position
    slices: Mapping[str, SliceState | None]
    away: frozenset[str]
    bytes: int
    since: float


class Upkeep:
    """The upkeep of a node's journal. `slices` are the committed states, which `applied` reports changes of.

    `gradual` returns the actions whose changes are folded.
    """

    def __init__(
        self,
        slices: LoadedSlices,
        journal: Journal,
        troubles: Troubles,
        gradual: Callable[[], Collection[str]],
    ) -> None:
        self._slices, self._troubles, self._gradual = slices, troubles, gradual
        self._due = asyncio.Event()
        self._saving = asyncio.Lock()
        self._position = START
        self._captured: Captured | None = None
        self._dirty: set[str] = set()
        self._enough: float = 0
        self._took = 0.0
        self._not_before = 0.0
        self.use(journal)
        self._saved_until(0)

    def use(self, journal: Journal) -> None:
        """Sets the journal, until the state is first loaded."""
        self._history, self._retention = History(journal), journal.retention
        self._folding = Folding(self._history)
        few = 0 < self._retention.changes < self._retention.checkpoint
        self._every = max(1, self._retention.changes // SLACK) if few else self._retention.checkpoint

    # what there is to save

    def loaded(self, snapshot: Snapshot) -> None:
        """The state has been replaced by what the journal holds."""
        newer = [change for change in snapshot.changes if change.version > snapshot.checkpoint]
        self._captured = None
        self._position = snapshot.position
        self._saved_until(snapshot.checkpoint)
        self._dirty = {change.slice for change in newer}
        self._bytes = total_size(newer)

    def is_dirty(self, name: str) -> bool:
        """Whether a slice has changed since the last checkpoint."""
        captured = self._captured
        return name in self._dirty or (captured is not None and name in captured.slices)

    def _saved_until(self, seq: int) -> None:
        """Forgets the changes to save up to a checkpoint; nothing is known about later ones."""
        self._saved = seq
        self._dirty = set()
        self._bytes = 0
        self._since = time.monotonic()
        self._enough = max(self._retention.bytes // SLACK, LEAST_BYTES) if self._retention.bytes else math.inf

    def applied(self, changes: Sequence[Change]) -> None:
        """Changes have been applied to the state."""
        if not self._bytes:
            self._since = time.monotonic()
        for change in changes:
            self._dirty.add(change.slice)
            self._bytes += change.size
        self._position = changes[-1].position
        if self._captured is None and self._is_due():
            self._capture()

    def erased(self, names: Collection[str]) -> None:
        """These slices do not exist any more, and must not be in a checkpoint of the past either."""
        captured = self._captured
        if captured is not None and not captured.slices.keys().isdisjoint(names):
            slices = {name: None if name in names else state for name, state in captured.slices.items()}
            self._captured = replace(captured, slices=slices)

    def _is_due(self) -> bool:
        """Whether enough lies after the last checkpoint to make the next one."""
        if self._position.seq - self._saved < self._every:
            if self._bytes < self._enough:
                return False
            self._enough = max(self._enough, self._size_of_dirty())  # saving must not cost more than the changes did
            if self._bytes < self._enough:
                return False
        return time.monotonic() >= self._not_before

    def _size_of_dirty(self) -> int:
        return sum(state.measured for name in self._dirty if (state := self._slices.peek(name)) is not None)

    def _capture(self) -> None:
        """Captures the contents of the next checkpoint. States never change, so it can be written later."""
        away = self._slices.missing(self._dirty)
        self._captured = Captured(
            position=self._position,
            slices={name: self._slices.peek(name) for name in self._dirty - away},
            away=frozenset(away),
            bytes=self._bytes,
            since=self._since,
        )
        self._saved_until(self._saved)
        self._due.set()

    # making checkpoints

    async def run(self) -> None:
        """Keeps the journal within its retention until cancelled."""
        while True:
            try:
                await self._look()
            except StatestreamError as error:
                self._troubles.begin("trimming", str(error))
            except Exception:
                self._troubles.begin("trimming")
                log.exception("the journal could not be trimmed, trying again soon")
            else:
                self._troubles.end("trimming")
            await self._until_due()

    async def _until_due(self) -> None:
        """Returns when the next look is to be taken: at once, if much has changed while a checkpoint was made."""
        if self._is_due():
            return
        least, most = LOOK_SECONDS
        if "trimming" in self._troubles or time.monotonic() < self._not_before:
            most = RETRY_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max((self._retention.age or math.inf) / (4 * SLACK), least), most)):
                await self._due.wait()
        self._due.clear()

    async def _look(self) -> None:
        """Makes a checkpoint if one is due, trims and tidies."""
        if self._captured is None and (self._is_due() or self._is_due_by_age()):
            self._capture()
        await self._save()
        self._saved_by_others(await self._history.trim())
        await self._fold()
        await self._history.tidy()

    async def _fold(self) -> None:
        """Folds what is due, for a moment: the rest must not keep a checkpoint waiting."""
        began = turn = time.monotonic()
        try:
            while await self._folding.fold(self._gradual()):
                now = time.monotonic()
                if self._is_due() or now - began > FOLD_SECONDS:
                    self._due.set()
                    return
                await asyncio.sleep(now - turn)
                turn = time.monotonic()
        except StatestreamError as error:
            log.warning("the history could not be folded, trying again soon: %s", error)

    def _is_due_by_age(self) -> bool:
        now = time.monotonic()
        wait = max(min(self._retention.age / (2 * SLACK), MOST_SECONDS), PACE * self._took)
        waited = bool(self._retention.age and self._bytes) and now - self._since >= wait
        return waited and now >= self._not_before

    def _saved_by_others(self, newest: Position) -> None:
        """Another node may have made a checkpoint of what this one would have to save."""
        if self._captured is not None or not self._saved < newest.seq <= self._position.seq:
            return
        self._troubles.end("checkpoints")
        since, left = self._since, self._bytes
        dirty = {name for name in self._dirty if not 0 < self._slices.version(name) <= newest.seq}
        self._saved_until(newest.seq)
        if newest != self._position:
            self._dirty, self._bytes, self._since = dirty, left, since

    async def finish(self, *, certain: bool) -> None:
        """Saves the captured changes, and the current state if it is certain and has changed since; then trims."""
        await self._save()
        if certain and self._captured is None and self._position.seq > self._saved:
            self._capture()
        await self._save()
        with contextlib.suppress(StatestreamError, TimeoutError):
            async with asyncio.timeout(FINISH_SECONDS):
                await self._history.trim()

    async def _save(self) -> None:
        """Makes a checkpoint of the captured changes, if there are any."""
        async with self._saving:
            captured, began = self._captured, time.monotonic()
            if captured is None:
                return
            saved = False
            try:
                await self._history.save(captured.position, await self._states(captured))
                saved = True
            except CheckpointClaimed:
                pass  # what is due is in that one, or is saved later
            except StatestreamError as error:
                self._troubles.begin("checkpoints", str(error))
            finally:
                self._took = time.monotonic() - began
                if self._captured is captured:  # otherwise the state was replaced meanwhile
                    self._captured = None
                    self._settle(captured, saved=saved)

    async def _states(self, captured: Captured) -> Mapping[str, SliceState | None]:
        """What to save. What is away is read for it, as it was; a later checkpoint of another node contains it."""
        if not captured.away:
            return captured.slices
        try:
            then = await self._history.load(captured.position, Selection(names=captured.away))
        except Expired:
            return captured.slices
        return {**captured.slices, **then.slices}

    def _settle(self, captured: Captured, *, saved: bool) -> None:
        """Notes that the captured changes are saved, or still have to be saved."""
        if saved:
            self._troubles.end("checkpoints")
            self._saved = captured.position.seq
        else:
            self._dirty |= captured.slices.keys() | captured.away
            self._bytes += captured.bytes
            self._since = captured.since
            self._not_before = time.monotonic() + RETRY_SECONDS
