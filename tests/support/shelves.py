"""A journal with many shelves, written as an engine is asked to write, which is faster than dispatching."""

from __future__ import annotations

from statestream.core.change import Cause, Change, PendingChange, SliceState
from statestream.core.values import encode
from statestream.journal import Checkpoints, Journal
from statestream.journal.contract import Batch, Entry

BATCH = 500
CAUSE = Cause(type="shelf/filled", id="fill", actor=None, payload=b"{}")


def books_of(number: int, size: int) -> list[str]:
    """About `size` bytes of short texts: as objects they take a multiple of this."""
    return [f"{number} has the book {at}" for at in range(size // 25)]


async def filled(journal: Journal, count: int, size: int, *, times: int = 1) -> None:
    """Shelves 0 to `count`, each written `times` times, and a checkpoint of all of them. The history is kept."""
    assert isinstance(journal, Checkpoints)
    await journal.open()
    newest: dict[str, Change] = {}
    for time in range(times):
        for start in range(0, count, BATCH):
            values = {
                f"shelf/{n}": {"books": books_of(n + time, size)} for n in range(start, min(start + BATCH, count))
            }
            changes = [PendingChange(slice=n, kind="value", data=encode(v), cause=CAUSE) for n, v in values.items()]
            entry = Entry(idempotency_key=None, digest=b"", changes=tuple(changes), at=1)
            versions = {name: newest[name].version if name in newest else 0 for name in values}
            [done] = await journal.append(Batch(read=await journal.head(), versions=versions, entries=[entry]))
            newest |= {change.slice: change for change in done.changes}
    states = {name: SliceState(change.value, change.position, change.data) for name, change in newest.items()}
    await journal.save(await journal.head(), states)
    await journal.close()
