"""One open stream, as the broadcaster sees it.

A reader is live, or it has a position behind the head: joining, resuming and lagging are that one state.
Invariants: no I/O and no state of the slices; a reader costs two small objects and nothing that runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from statestream.broadcast.sink import Sink
from statestream.core.change import START
from statestream.core.selection import Selection
from statestream.protocol.frames import Reason

if TYPE_CHECKING:
    from statestream.broadcast.audience import Audience


class Interest(Struct, frozen=True, kw_only=True):
    """What makes two readers the same to us: the slices, and whether causes carry the payload."""

    selection: Selection
    full: bool


class Reader:
    """`position` is up to where it has got everything, while it is behind; `resync` why it needs the state instead.

    `every` is for readers that want each change by itself, never coalesced, however many they have missed.
    `first`: nothing was sent yet; `ending`: the end was said. `place` is where it stands among the live. `task`
    brings it to head while that takes waiting. `left` is called once, when the stream has ended.
    """

    __slots__ = ("audience", "ending", "every", "first", "left", "place", "position", "resync", "sink", "task")

    def __init__(self, sink: Sink, audience: Audience, *, every: bool) -> None:
        self.sink, self.audience, self.every = sink, audience, every
        self.position = START
        self.place = -1
        self.resync: Reason | None = None
        self.first = True
        self.ending = False
        self.left: Callable[[], None] | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def interest(self) -> Interest:
        return self.audience.interest

    @property
    def live(self) -> bool:
        return self in self.audience.live
