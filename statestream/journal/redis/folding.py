"""Folded changes of a Redis journal: replaces what folding makes of them, and notes how far it has got.

Redis cannot replace an entry of a stream. So the oldest entries, up to the changes that are to be folded, first move to
a sorted set, as an erasure does with some. There, successive chunks are one member, a bundle, and take no more memory
than in the stream, and less once their changes are folded. A bundle is small, because all of it is written again for
each of the slices whose changes are folded in it.

Invariants: moving changes nothing that can be read, and any node can stop and go on with it. One script replaces: it
compares tags and contents of all chunks, and looks for what is trimmed or erased, in the same step. What it finds
changed is read again, and compared change by change.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from statestream.core.change import Change, Position
from statestream.journal.redis.link import Link
from statestream.journal.redis.packing import packed_folding, repacked
from statestream.journal.redis.scripts import BUNDLE, FIND, FOLD, NOTE, NOTED
from statestream.journal.redis.stored import StoredChunk, stored_chunks
from statestream.journal.redis.verdicts import verified

BUNDLE_BYTES: Final = 2 << 10
"""How large a bundle becomes before it is folded. One that is larger saves little, and takes longer to write again."""


async def rewrite(writing: Link, reading: Link, pairs: Sequence[tuple[Change, Change]]) -> bool:
    """Whether all of the changes were as they were read, and have been replaced."""
    before = {change.version: change for change, _ in sorted(pairs, key=lambda pair: pair[0].version)}
    after = {change.version: change for _, change in pairs}
    done = -1
    while done < 0:
        chunks = stored_chunks(verified(await reading.run(FIND, *before))[1])
        found = {change.version: change for chunk in chunks for change in chunk.changes}
        if any(found.get(seq) != change for seq, change in before.items()):
            return False
        await _move(writing, chunks[-1].last)
        _, done = verified(await writing.run(FOLD, *_arguments(before, after, chunks)))
    return done == 1


def _arguments(before: dict[int, Change], after: dict[int, Change], chunks: Sequence[StoredChunk]) -> list[bytes]:
    """What `lua/fold.lua` expects."""
    head = packed_folding(before, after, [chunk.last for chunk in chunks], [chunk.tag for chunk in chunks])
    data = [repacked([after.get(change.version, change) for change in chunk.changes]) for chunk in chunks]
    return [head, *(text for chunk, new in zip(chunks, data, strict=True) for text in (chunk.sha.encode(), new))]


async def _move(writing: Link, until: int) -> None:
    """Leaves no chunk up to a seq in the stream. Appends may have as much of the server as this."""
    more = 1
    while more:
        began = time.monotonic()
        _, more = verified(await writing.run(BUNDLE, until, BUNDLE_BYTES))
        await asyncio.sleep(time.monotonic() - began if more else 0)


async def folded_until(reading: Link) -> Position:
    _, seq, tag = verified(await reading.run(NOTED))
    return Position(seq=int(seq), tag=tag.decode())


async def note(writing: Link, position: Position) -> None:
    """Raises Forked, Expired if it is not a position of the history."""
    verified(await writing.run(NOTE, position.seq, position.tag))
