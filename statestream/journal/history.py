"""The history of a journal, whatever its engine: loading the state, time travel, checkpoints, trimming.

An engine stores changes and, if it can, checkpoints. Everything that follows from these is here, once for all engines:
which checkpoint a load starts from, how changes lead from one state to another, how far history is trimmed.

Invariants: a state is loaded whole or not at all. It is made of a checkpoint and every change after it. If a trim came
in between, the journal itself refuses (Expired), and loading starts again. Trimming removes the oldest changes up to
the first checkpoint after which the history is within the bounds of its Retention.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from statestream.core.change import PAGE, START, Change, Position, SliceState, Snapshot
from statestream.core.errors import Expired, Gap, JournalUnusable
from statestream.core.folding import Merged
from statestream.core.patch import apply_patch
from statestream.core.selection import EVERYTHING, Selection
from statestream.journal.contract import Checkpoint, Checkpoints, Journal, Retention

RECENT: Final = 1_000
"""Changes that a newly loaded node knows at least, for clients that return soon after a restart."""
LOAD_ATTEMPTS: Final = 5
PORTION: Final = 200
"""The slices that are read from a checkpoint at once."""
_BEGINNING: Final = Checkpoint(position=START, at=0, bytes=0)

Held = dict[str, tuple[Any, Position]]
"""Values and the positions of their last changes."""


class History:
    """Everything that can be asked of a journal beyond its primitives. The journal must be open."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._keeps: Checkpoints | None = journal if isinstance(journal, Checkpoints) else None
        if self._keeps is None and (some := _parts_of_checkpoints(journal)):
            raise TypeError(
                f"{type(journal).__name__} has only {', '.join(some)} of Checkpoints; implement all of it, or nothing"
            )

    @property
    def keeps(self) -> bool:
        """Whether a state can be read without the whole history."""
        return self._keeps is not None

    async def load(self, at: Position | None = None, selection: Selection = EVERYTHING) -> Snapshot:
        """The selected slices as of `at`; without `at`, as of the newest position.

        A load of the newest state also returns the changes that led there: at least the newest RECENT, and all since
        the last checkpoint. Raises Forked, Expired, Unavailable, and JournalUnusable if changes do not fit each other.
        """
        for _ in range(LOAD_ATTEMPTS):
            try:
                return await self._load(at, selection)
            except Expired:
                if at is not None and at.seq < (await self.journal.earliest()).seq:
                    raise
        raise Expired("the history was trimmed again and again while it was read; try again")

    async def _load(self, at: Position | None, selection: Selection) -> Snapshot:
        position = at or await self.journal.head()
        points = await self._points_until(position)
        checkpoint = points[-1].position
        since = checkpoint if at else _reaching_back(points, position.seq - RECENT)
        changes: list[Change] = []
        merged = Merged()
        if at is not None and is_few(selection):
            async for page in self._pages(checkpoint, position, selection):
                changes += page
            held = await self.saved(checkpoint, selection.names - created(changes))
            advance(held, merged(changes))
            changes = []
        else:
            held = await self._saved(checkpoint, selection)
            async for page in self._pages(since, position, selection):
                advance(held, merged(change for change in page if change.version > checkpoint.seq))
                if at is None:
                    changes += page
        return Snapshot(
            position=position,
            slices=states_of(held),
            checkpoint=checkpoint.seq,
            since=since,
            changes=tuple(changes),
            folded=frozenset(merged.open),
        )

    async def newest(self, wanted: Selection) -> Snapshot:
        """The newest position: the versions of all slices, and the states of plain slices and of those wanted.

        Otherwise as `load`.
        """
        for _ in range(LOAD_ATTEMPTS):
            with contextlib.suppress(Expired):
                return await self._newest(wanted)
        raise Expired("the history was trimmed again and again while it was read; try again")

    async def _newest(self, wanted: Selection) -> Snapshot:
        position = await self.journal.head()
        points = await self._points_until(position)
        checkpoint, since = points[-1].position, _reaching_back(points, position.seq - RECENT)
        versions = await self._index(checkpoint, EVERYTHING)
        if wanted.everything:
            held = await self._saved(checkpoint, EVERYTHING)
        else:
            held = await self.saved(checkpoint, {n for n in versions if "/" not in n or wanted.matches(n)})
        changes: list[Change] = []
        merged = Merged()
        async for page in self._pages(since, position, EVERYTHING):
            newer = [change for change in page if change.version > checkpoint.seq]
            _move(versions, newer)
            known = (change for change in newer if "/" not in change.slice or wanted.matches(change.slice))
            advance(held, merged(known))
            changes += page
        return Snapshot(
            position=position,
            slices=states_of(held),
            checkpoint=checkpoint.seq,
            since=since,
            changes=tuple(changes),
            versions=versions,
        )

    async def names(self, at: Position, selection: Selection) -> set[str]:
        """The names of the selected slices that existed at a position. Raises Forked, Expired, Unavailable."""
        if is_few(selection):
            return set(selection.names)
        points = await self._points_until(at)
        versions = await self._index(points[-1].position, selection)
        async for page in self._pages(points[-1].position, at, selection):
            _move(versions, page)
        return set(versions)

    async def is_at(self, position: Position) -> bool:
        """Whether nothing was written after a position. Raises Unavailable."""
        return await self.journal.head() == position

    async def checkpoint(self, until: Position) -> Position:
        """The newest checkpoint that is not after a position. Raises Forked, Expired, Unavailable."""
        return (await self._points_until(until))[-1].position

    async def older_checkpoint(self, latest: float) -> Position | None:
        """The newest checkpoint that was made at a time or before it, if there is one. Raises Unavailable."""
        return next((point.position for point in reversed(await self._points()) if 0 < point.at <= latest), None)

    async def _points_until(self, position: Position) -> Sequence[Checkpoint]:
        """Where a load of the state at a position can start, oldest first. Raises Forked, Expired."""
        await self.journal.read(position, 1)  # refuses a position of another history, and one that is too old
        points = [point for point in await self._points() if point.position.seq <= position.seq]
        if not points:
            raise Expired("the history was trimmed while it was read; try again")
        return points

    async def _pages(self, after: Position, until: Position, selection: Selection) -> AsyncIterator[Sequence[Change]]:
        """The selected changes in between, a page at a time."""
        while after.seq < until.seq:
            page = await self.journal.read(after, min(PAGE, until.seq - after.seq), selection)
            yield page.changes
            after = page.until
            await asyncio.sleep(0)  # a long history must not keep the loop's other tasks waiting

    async def _points(self) -> Sequence[Checkpoint]:
        """Where loading can start, oldest first: the checkpoints, and the beginning, if it was never trimmed."""
        if self._keeps is None:
            return [_BEGINNING]
        earliest = await self.journal.earliest()
        kept = [point for point in await self._keeps.checkpoints() if point.position.seq >= earliest.seq]
        return kept if earliest.seq else [_BEGINNING, *kept]

    async def _index(self, checkpoint: Position, selection: Selection) -> dict[str, int]:
        if self._keeps is None or checkpoint == START:
            return {}
        return dict(await self._keeps.index(checkpoint, selection))

    async def saved(self, checkpoint: Position, names: Collection[str]) -> Held:
        """The values of slices that exist at a checkpoint. Raises Expired if it is not kept any more."""
        held: Held = {}
        left = sorted(names)
        while left:
            portion, left = left[:PORTION], left[PORTION:]
            held |= await self._saved(checkpoint, Selection(names=frozenset(portion)))
            await asyncio.sleep(0)
        return held

    async def _saved(self, checkpoint: Position, selection: Selection) -> Held:
        if self._keeps is None or checkpoint == START:
            return {}
        saved = await self._keeps.saved(checkpoint, selection)
        try:
            return {each.name: (orjson.loads(each.data), each.position) for each in saved}
        except orjson.JSONDecodeError as error:
            raise JournalUnusable(f"a checkpoint of the journal cannot be read: {error}; restore a backup") from error

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        """Keeps the state at `position`, given what changed since the last time (None: removed).

        Does nothing if another node has made a later checkpoint. An engine without checkpoints keeps everything, and
        this does nothing either. Raises Forked, Unavailable.
        """
        if self._keeps is not None:
            with contextlib.suppress(Expired):  # the later checkpoint is now the beginning of the history
                await self._keeps.save(position, slices)

    async def trim(self) -> Position:
        """Trims to the retention, and returns the position of the newest checkpoint. Raises Unavailable."""
        points = await self._points()
        if self._keeps is not None:
            head, now = await self.journal.head(), self.journal.clock.now()
            target = trim_target(points, head, self.journal.retention, now)
            if target is not None:
                await self._keeps.trim(target)
        return points[-1].position if points else START  # none: another node has just trimmed

    async def tidy(self) -> None:
        """Lets the journal forget records and return space that it no longer needs. Raises Unavailable."""
        if self._keeps is not None:
            await self._keeps.tidy()


def _parts_of_checkpoints(journal: Journal) -> list[str]:
    """The methods of Checkpoints that an engine has."""
    return [name for name in vars(Checkpoints) if not name.startswith("_") and hasattr(journal, name)]


def _reaching_back(points: Sequence[Checkpoint], seq: int) -> Position:
    """The newest checkpoint at or before `seq`, else the oldest."""
    return next((point.position for point in reversed(points) if point.position.seq <= seq), points[0].position)


def advance(held: Held, changes: Iterable[Change]) -> None:
    """Applies changes, as `Merged` makes them, to values that nobody else holds: they are changed in place."""
    for change in changes:
        before = held.get(change.slice)
        _check_continues(change, before[1].seq if before else 0)
        if change.kind == "removed":
            held.pop(change.slice, None)
        elif change.kind == "value":
            held[change.slice] = (change.value, change.position)
        else:
            try:
                held[change.slice] = (apply_patch(held[change.slice][0], change.patches), change.position)
            except (Gap, KeyError) as error:
                raise JournalUnusable(
                    f"the journal's changes do not fit each other ({error}); restore a backup"
                ) from error


def created(changes: Iterable[Change]) -> set[str]:
    """The slices that did not exist before these changes."""
    first: dict[str, Change] = {}
    for change in changes:
        first.setdefault(change.slice, change)
    return {name for name, change in first.items() if change.from_version == 0}


def _move(versions: dict[str, int], changes: Iterable[Change]) -> None:
    """Applies changes to versions. Raises JournalUnusable if they do not fit."""
    for change in changes:
        _check_continues(change, versions.get(change.slice, 0))
        if change.kind == "removed":
            versions.pop(change.slice, None)
        else:
            versions[change.slice] = change.version


def _check_continues(change: Change, version: int) -> None:
    if change.from_version != version and not change.is_erased:
        raise JournalUnusable(f"change {change.version} of the journal does not continue its slice; restore a backup")


def is_few(selection: Selection) -> bool:
    """Whether the selection has names only."""
    return not (selection.everything or selection.families)


def states_of(held: Held) -> dict[str, SliceState]:
    return {name: SliceState(value, position) for name, (value, position) in held.items()}


def trim_target(points: Sequence[Checkpoint], head: Position, retention: Retention, now: int) -> Position | None:
    """The checkpoint to trim to; None if there is nothing to trim.

    `points` are in order, and the first of them is where the history begins. `now` is of the clock of their `at`.
    """
    target = None
    size = sum(point.bytes for point in points[1:])
    for point in points[1:]:
        too_many = retention.changes and head.seq - point.position.seq >= retention.changes
        too_old = retention.age and point.at < now - retention.age * 1000
        too_much = retention.bytes and size > retention.bytes
        if not (too_many or too_old or too_much):
            break
        target = point.position
        size -= point.bytes
    return target
