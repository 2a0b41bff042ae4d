"""A journal with many shelves, written as an engine is asked to write, which is faster than dispatching."""

from __future__ import annotations

from statestream.core.change import Cause, PendingChange, SliceState, now_ms
from statestream.core.values import encode
from statestream.journal import Checkpoints, Journal
from statestream.journal.contract import Batch, Entry

BATCH = 1_000
CAUSE = Cause(type="shelf/filled", id="fill", actor=None, payload=b"{}")


def books_of(number: int, size: int) -> list[str]:
    """About `size` bytes of short texts: as objects they take a multiple of this."""
    return [f"{number} has the book {at}" for at in range(size // 25)]


async def filled(journal: Journal, count: int, size: int, *, times: int = 1) -> None:
    """Shelves 0 to `count`, each written `times` times, with a checkpoint after each batch as a node makes them."""
    assert isinstance(journal, Checkpoints)
    await journal.open()
    versions = dict[str, int]()
    for time in range(times):
        for start in range(0, count, BATCH):
            values = {
                f"shelf/{n}": {"books": books_of(n + time, size)} for n in range(start, min(start + BATCH, count))
            }
            changes = [PendingChange(slice=n, kind="value", data=encode(v), cause=CAUSE) for n, v in values.items()]
            entry = Entry(idempotency_key=None, digest=b"", changes=tuple(changes), at=now_ms())
            based_on = {name: versions.get(name, 0) for name in values}
            [done] = await journal.append(Batch(read=await journal.head(), versions=based_on, entries=[entry]))
            states = {each.slice: SliceState(each.value, each.position, each.data) for each in done.changes}
            await journal.save(done.position, states)
            versions |= {name: state.version for name, state in states.items()}
    await journal.close()
