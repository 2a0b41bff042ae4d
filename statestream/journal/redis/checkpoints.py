"""The checkpoints of a Redis journal: saving them in portions, reading them in pages, and deleting what they supersede.

A checkpoint consists of rows, one for each slice that has changed since the one before. A row is a fact, a slice as of
a position, and true whether the checkpoint is completed or not. So nodes need no claims: two that make a checkpoint at
the same time write facts, and the first one that completes a later position wins.

What must be true is that a checkpoint has a row for everything that has changed since the checkpoint before it. A
failover can lose a checkpoint, but none of the changes. The node that made it, and those that know of it, would then
save too little. So whoever finds that the newest checkpoint is not the newest that it knows of compares the changes.

Invariants: a script writes, reads or deletes about a portion at most, because everybody else waits meanwhile. Every
portion is refused unless its position is part of the history: a node that missed a failover writes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from statestream.core.change import PAGE, START, Page, Position, SliceState
from statestream.core.clock import AgeClock
from statestream.core.errors import Expired, Unavailable
from statestream.core.selection import Selection
from statestream.journal.contract import PAGE_BYTES, Checkpoint, SavedSlice
from statestream.journal.redis.link import Link
from statestream.journal.redis.packing import packed_state, unpacked_states
from statestream.journal.redis.scripts import CLEAR, COMPLETE, POINTS, SAVE, SAVED, TRIM
from statestream.journal.redis.verdicts import verified

PORTION_BYTES: Final = 256 << 10
PORTION_ROWS: Final = 500
"""What one script writes, reads or deletes: it takes some milliseconds, for which an append may have to wait."""

Range = tuple[bytes, bytes]
"""The rows from the first text, up to the second one and without it."""
ReadPage = Callable[[Position, int], Awaitable[Page]]


class KeptCheckpoints:
    """The checkpoints of one journal. `read` returns a page of changes after a position."""

    def __init__(self, writing: Link, reading: Link, clock: AgeClock, read: ReadPage) -> None:
        self._writing, self._reading, self._clock, self._read = writing, reading, clock, read
        self._known = START
        """The latest one that was listed or made here: whoever saves the next one builds on this one at most."""
        self.lost = False
        """Whether a checkpoint is gone on which this node builds. It has to load its state again."""

    async def complete(self) -> list[Checkpoint]:
        """Oldest first."""
        points = await self._points()
        if points:
            self._note(points[-1].position)
        return points

    async def _points(self) -> list[Checkpoint]:
        _, members = verified(await self._reading.run(POINTS))
        return [_checkpoint(member) for member in members]

    def _note(self, newest: Position) -> None:
        if newest.seq >= self._known.seq:
            self._known = newest

    async def saved(self, checkpoint: Position, selection: Selection) -> list[SavedSlice]:
        """Raises Expired if the checkpoint is not kept."""
        return await self._saved(checkpoint, selection, "")

    async def index(self, checkpoint: Position, selection: Selection) -> dict[str, int]:
        """The versions of these slices, by name. Raises Expired if the checkpoint is not kept."""
        return {each.name: each.position.seq for each in await self._saved(checkpoint, selection, "index")}

    async def _saved(self, checkpoint: Position, selection: Selection, what: str) -> list[SavedSlice]:
        found: list[SavedSlice] = []
        ranges, start = _ranges(selection), b""
        while ranges:
            texts = [text for each in ranges for text in each]
            at = (checkpoint.seq, checkpoint.tag, _digits(checkpoint))
            answer = await self._reading.run(SAVED, *at, PAGE_BYTES, PORTION_ROWS, what, start, *texts)
            if answer[0] == b"gone":
                raise Expired("the checkpoint is not kept any more; read the checkpoints again")
            _, rows, done, start = verified(answer)
            found += unpacked_states(rows)
            ranges = ranges[done:]
        return found

    async def save(self, position: Position, slices: Mapping[str, SliceState | None]) -> None:
        await self._save_rows(position, [])  # refuses a position of another history
        points = await self._points()
        newest = points[-1].position if points else START
        if newest.seq >= position.seq:
            return
        if newest != self._known and not await self._covers(newest, position, slices):
            self.lost = True
            raise Unavailable("a checkpoint was lost in a failover; the state is loaded again")
        size = 0
        for rows in _portions(slices):
            await self._save_rows(position, rows)
            size += sum(map(len, rows[1::2]))
        arguments = (position.seq, position.tag, self._clock.now(), size, newest.seq)
        [outcome] = verified(await self._writing.run(COMPLETE, *arguments))
        if outcome == b"lost":
            raise Unavailable("a checkpoint was lost in a failover while the next one was made; trying again")
        self._note(position)

    async def _save_rows(self, position: Position, rows: list[bytes]) -> None:
        verified(await self._writing.run(SAVE, position.seq, position.tag, _digits(position), *rows))

    async def _covers(self, after: Position, until: Position, slices: Mapping[str, SliceState | None]) -> bool:
        """Whether `slices` has everything that has changed in between."""
        while after.seq < until.seq:
            page = await self._read(after, min(PAGE, until.seq - after.seq))
            if any(change.slice not in slices for change in page.changes):
                return False
            after = page.until
        return True

    async def trim(self, until: Position) -> None:
        verified(await self._writing.run(TRIM, until.seq, until.tag))
        await self.clear()

    async def clear(self) -> None:
        """Deletes what lies before the earliest position."""
        more = 1
        while more:
            _, more = verified(await self._writing.run(CLEAR, PORTION_ROWS))


def _digits(position: Position) -> str:
    return f"{position.seq:016d}"


def _checkpoint(member: bytes) -> Checkpoint:
    seq, tag, at, size, _ = member.decode().split(" ")
    return Checkpoint(position=Position(seq=int(seq), tag=tag), at=int(at), bytes=int(size))


def _ranges(selection: Selection) -> list[Range]:
    """Which rows to look at: `lua/keys.lua` says how they are named."""
    if selection.everything:
        return [(b"", b"\xff")]
    families = [(f"{family}/", f"{family}0") for family in sorted(selection.families)]  # 0 comes after the slash
    names = [(f"{name}\0", f"{name}\1") for name in sorted(selection.names)]
    return [(first.encode(), last.encode()) for first, last in (*names, *families)]


def _portions(slices: Mapping[str, SliceState | None]) -> Iterator[list[bytes]]:
    """Names and values in turn, as many at a time as one script should write."""
    rows: list[bytes] = []
    size = 0
    for name, state in slices.items():
        rows += (name.encode(), packed_state(state))
        size += len(rows[-1])
        if size >= PORTION_BYTES or len(rows) >= 2 * PORTION_ROWS:
            yield rows
            rows, size = [], 0
    if rows:
        yield rows
