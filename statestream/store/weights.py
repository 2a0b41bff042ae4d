"""What slices weigh: the bytes of their values in memory, and of their changes in the journal.

Invariants: it reads through a view, so somebody learns the weight only of what they may read. It changes nothing, not
even what stays in memory. A journal can be of any size, so only its newest part is read, in pages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from time import perf_counter
from typing import Final

from msgspec import Struct

from statestream.core.change import Position
from statestream.store.pause import rest
from statestream.store.view import StoreView

MAX_BYTES: Final = 32 << 20
MAX_CHANGES: Final = 50_000
"""Of the part of a journal that is read: half a second of work, in pieces."""
AT_ONCE: Final = 2_000
"""Values that are measured before others have a turn."""


class Weight(Struct, kw_only=True):
    """Of a plain slice, or of all instances of a keyed one, of which `loaded` are in memory, with so many bytes."""

    instances: int = 0
    loaded: int = 0
    memory_bytes: int = 0
    changes: int = 0
    history_bytes: int = 0


class Weights(Struct, frozen=True, kw_only=True):
    """The weights of families. Changes are those after `since`; `whole`: the journal keeps no older ones."""

    since: Position
    until: Position
    whole: bool
    families: Mapping[str, Weight]


async def weigh(view: StoreView) -> Weights:
    """Weighs everything that may be read. Raises TooLarge, Expired, Unavailable, JournalUnusable."""
    families: dict[str, Weight] = defaultdict(Weight)
    asked = await view.complete(lambda: view.asked("*"))
    granted = await view.complete(lambda: view.grant(asked).selection)
    names = list(view.versions(granted))
    for begin in range(0, len(names), AT_ONCE):
        began = perf_counter()
        for name in names[begin : begin + AT_ONCE]:
            weight, size = families[_family(name)], view.measured(name)
            weight.instances += 1
            if size is not None:
                weight.loaded += 1
                weight.memory_bytes += size
        await rest(perf_counter() - began)
    since, until = await _since(view), view.position
    after = since
    while after.seq < min(until.seq, since.seq + 2 * MAX_CHANGES):  # an engine without checkpoints keeps everything
        page, began = await view.past.counted(after, asked), perf_counter()
        for change in page.changes:
            weight = families[_family(change.slice)]
            weight.changes += 1
            weight.history_bytes += change.size
        if page.until == after:
            break
        after = page.until
        await rest(perf_counter() - began)
    whole = since == await view.past.earliest()
    return Weights(since=since, until=after, whole=whole, families=dict(sorted(families.items())))


async def _since(view: StoreView) -> Position:
    """The oldest checkpoint after which no more of the journal is kept than is read."""
    earliest, head = await view.past.earliest(), view.position
    size, since = 0, head
    points = [each for each in await view.past.checkpoints() if each.position.seq > earliest.seq]
    for point in reversed(points):
        if head.seq - point.position.seq > MAX_CHANGES or size > MAX_BYTES:
            return since
        since, size = point.position, size + point.bytes
    fits = head.seq - earliest.seq <= MAX_CHANGES and size <= MAX_BYTES
    return earliest if fits or not points else since


def _family(name: str) -> str:
    family, slash, _ = name.partition("/")
    return f"{family}/*" if slash else family
