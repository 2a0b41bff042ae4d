"""For readers that want every single change: `after=earliest`.

Law: a page at a time, whatever the history's length; each page is taken by the reader before the
next is read. The caller brings the reader to head from where this leaves it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from statestream.broadcast import frames
from statestream.broadcast.audience import Reader
from statestream.broadcast.frames import Frame
from statestream.errors import Unavailable
from statestream.store import Store

EARLIEST: Final = "earliest"
PAGE: Final = 1_000


async def replay(
    store: Store,
    reader: Reader,
    drained: Callable[[Reader], Awaitable[bool]],
    *,
    first: bool,
    rewind: bool,
    heartbeat: int,
) -> None:
    """Writes the first frame, if it is due, and every change that is no longer in memory.

    `rewind` begins at the oldest position that is kept, with the state there; else `state.resumed` is due.
    Raises Forked, Expired, TooLarge, and Unavailable where the journal or the reader is away.
    """
    if first:
        await _begin(store, reader, rewind, heartbeat)
    selection, full = reader.interest.selection, reader.interest.full
    while reader.position.seq < store.position.seq and store.bus.after(reader.position) is None:
        page = await store.journal.read(reader.position, PAGE)
        kept = [frames.update(change, full=full) for change in page if selection.matches(change.slice)]
        await _write(reader, b"".join(kept), drained)
        reader.position = page[-1].position


async def _begin(store: Store, reader: Reader, rewind: bool, heartbeat: int) -> None:
    snapshot = await store.journal.load(await store.journal.floor() if rewind else reader.position)
    reader.position = snapshot.position
    selection = reader.interest.selection
    if rewind:
        slices = selection.snapshot(snapshot.slices)
        frame = frames.initial("start", reader.position, slices, heartbeat, retry=frames.RETRY_MS)
    else:
        versions = {name: state.version for name, state in selection.of(snapshot.slices)}
        frame = frames.resumed(reader.position, versions, heartbeat)
    reader.sink.write(Frame(frame))


async def _write(reader: Reader, frames_: bytes, drained: Callable[[Reader], Awaitable[bool]]) -> None:
    """One write that is taken whole, once the reader has taken what was before it."""
    if frames_ and not (await drained(reader) and reader.sink.write(Frame(frames_))):
        raise Unavailable("expected a reader that takes its frames, it has gone")
