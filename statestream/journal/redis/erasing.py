"""Erases slices from a Redis journal: first for everybody who reads, then from the memory of the server.

One script appends the erasures and notes the slices. From then on, every script that reads returns these notes with
what it finds, and `unfinished` takes out what is erased. So an erasure takes effect at once, however much there is to
erase. What the journal still holds of it is then overwritten, a portion at a time: chunks of changes, rows of
checkpoints and idempotency records. An entry of a stream cannot be replaced, so `lua/replace.lua` moves it to a sorted
set. A last script notes that nothing is left, and Redis is asked to write its append-only file anew.

Invariants: all portions can be repeated, and any node can go on after any of them. Nothing is replaced by what was made
of something older, so several nodes can do the same work at the same time. A node that has missed a failover replaces
nothing: every portion is refused if the history does not have the erasure.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from statestream.core.change import START, Position, new_tag
from statestream.core.errors import JournalUnusable, StatestreamError, Unavailable
from statestream.journal.erasing import erasure
from statestream.journal.redis.driver import exceptions
from statestream.journal.redis.link import Argument, Link
from statestream.journal.redis.packing import HOLE, packed_erasure, packed_name, record_without, repacked
from statestream.journal.redis.scripts import (
    BATCH,
    COMPACTED,
    ERASE,
    FINISH,
    HEAD,
    HELD,
    NAMED,
    PENDING,
    REPLACE,
    REWRITE,
    SEARCH,
    UNSAVE,
    Script,
)
from statestream.journal.redis.server_info import ServerInfo
from statestream.journal.redis.stored import StoredChunk, stored_chunks
from statestream.journal.redis.unfinished import Erasures, changes_left, erasures_of
from statestream.journal.redis.verdicts import verified

SEARCH_BYTES: Final = 512 << 10
"""What one script looks at."""
PORTION_CHUNKS: Final = 8
"""The chunks that one script replaces. With their neighbours, that takes some milliseconds."""
PORTION_ROWS: Final = 500

Confirmed = Callable[[Script, Sequence[Argument]], Awaitable[Sequence[Any]]]


class _Pending(NamedTuple):
    """The newest erasure, those that are not finished, and what the append-only file may contain, 0 for nothing."""

    newest: tuple[int, str]
    erasures: Erasures
    compact: int


class Erasing:
    """The erasures of one journal. `confirmed` runs a script, and waits for replicas if the journal does."""

    def __init__(self, writing: Link, reading: Link, confirmed: Confirmed) -> None:
        self._writing, self._reading, self._confirmed = writing, reading, confirmed
        self._lock = asyncio.Lock()

    async def erase(self, names: Collection[str], actor: str | None, now: int) -> Position | None:
        """None if nothing is kept of any of the slices. Raises Unavailable."""
        wanted = sorted(names)
        position = await self._append(wanted, actor, now) if await self._is_kept(wanted) else None
        await self.finish()
        return position

    async def _append(self, names: Sequence[str], actor: str | None, now: int) -> Position:
        tag = new_tag()
        arguments = packed_erasure(erasure(START, dict.fromkeys(names, HOLE), actor), tag, now)
        _, seq, _ = verified(await self._writing.run(ERASE, *arguments))
        return Position(seq=int(seq), tag=tag)

    async def _is_kept(self, names: Sequence[str]) -> bool:
        """Whether there is anything of the slices that is not erased yet."""
        _, held = verified(await self._reading.run(HELD, *names))
        if held:
            return True
        erasures = (await self._pending()).erasures
        async for batch in self._batches(names, math.inf):
            changes = changes_left([change for chunk in batch for change in chunk.changes], erasures)
            if any(change.slice in names and not change.is_erased for change in changes):
                return True
        everything = dict.fromkeys(names, math.inf)
        async for _, value in self._records(names):
            left = record_without(value, erasures)
            if record_without(left, everything) != left:
                return True
        return False

    async def _pending(self) -> _Pending:
        _, seq, tag, erasures, compact = verified(await self._writing.run(PENDING))
        return _Pending((int(seq), tag.decode()), erasures_of(erasures), int(compact))

    # overwriting

    async def finish(self) -> None:
        """Leaves nothing in the journal of what was erased, and of what another node has begun. Raises Unavailable."""
        async with self._lock:  # those that wait find that it was done for them, too
            pending = await self._pending()
            if pending.erasures:
                await self._overwrite(pending)
                verified(await self._confirmed(FINISH, pending.newest))
                pending = await self._pending()
            if pending.compact:
                await self._compact(pending.compact)

    async def _overwrite(self, pending: _Pending) -> None:
        erasures = pending.erasures
        async for batch in self._batches(erasures, pending.newest[0]):
            left: Sequence[StoredChunk] | None = batch
            while left is not None:
                left = await self._overwrite_batch(left, pending)
        rows = [text for name, seq in erasures.items() for text in (name, f"{seq:016d}")]
        more = 1
        while more:
            _, more = verified(await self._writing.run(UNSAVE, *pending.newest, PORTION_ROWS, *rows))
        async for key, value in self._records(erasures):
            left_of_it = record_without(value, erasures)
            if left_of_it != value:
                verified(await self._writing.run(REWRITE, *pending.newest, key, value, left_of_it))

    async def _overwrite_batch(self, batch: Sequence[StoredChunk], pending: _Pending) -> Sequence[StoredChunk] | None:
        """The batch as it is now if another erasure has changed it meanwhile; else None."""
        every = [change for chunk in batch for change in chunk.changes]
        after = {change.version: change for change in changes_left(every, pending.erasures)}
        edits: list[tuple[int, str, bytes]] = []
        for chunk in batch:
            changes = [after[change.version] for change in chunk.changes]
            if changes != chunk.changes:
                edits.append((chunk.last, chunk.sha, repacked(changes)))
        for begin in range(0, len(edits), PORTION_CHUNKS):
            portion = [each for edit in edits[begin : begin + PORTION_CHUNKS] for each in edit]
            _, done = verified(await self._writing.run(REPLACE, *pending.newest, *portion))
            if not done:
                return await self._batch(batch[-1].last)
        return None

    async def _batches(self, names: Iterable[str], until: float) -> AsyncIterator[Sequence[StoredChunk]]:
        """The batches up to a seq that may have changed some slices."""
        needles = [packed_name(name) for name in names]
        after, last = 0, 0
        until = min(until, int(verified(await self._reading.run(HEAD))[1]))
        while after < until:
            _, looked, found = verified(await self._reading.run(SEARCH, after, int(until), SEARCH_BYTES, *needles))
            after = int(looked)
            for seq in map(int, found):
                batch = await self._batch(seq) if seq > last else ()
                if batch:
                    last = batch[-1].last
                    yield batch

    async def _batch(self, seq: int) -> Sequence[StoredChunk]:
        """The chunks of the batch with a change; none if it was trimmed."""
        _, found = verified(await self._reading.run(BATCH, seq))
        return stored_chunks(found)

    async def _records(self, names: Iterable[str]) -> AsyncIterator[tuple[bytes, bytes]]:
        """The idempotency records that may name some slices, with their keys."""
        needles = [packed_name(name) for name in names]
        cursor = b""
        while cursor != b"0":
            _, cursor, found = verified(await self._reading.run(NAMED, cursor or b"0", PORTION_ROWS, *needles))
            each = iter(found)
            for pair in zip(each, each, strict=True):
                yield pair

    async def _compact(self, until: int) -> None:
        """Asks Redis to write its append-only file anew, unless it is doing that: then it has begun too early."""
        if ServerInfo.parse(await self._writing.command("INFO")).appends:
            try:
                await self._writing.command("BGREWRITEAOF")
            except (Unavailable, JournalUnusable) as error:
                if not _is_refused(error):
                    return
        verified(await self._writing.run(COMPACTED, until))


def _is_refused(error: StatestreamError) -> bool:
    """Whether the server will not do it later either, because the user may not ask for it, or nobody may."""
    cause = error.__cause__
    return isinstance(cause, exceptions.ResponseError) and "in progress" not in str(cause)
