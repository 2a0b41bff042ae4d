"""Viewers, and the loop that shows conversations to them, over whatever connection.

Invariants: there is one loop. It wakes when something has changed, sends what is new, and keeps the connection alive in
between. A viewer whose person no longer belongs to a chat sees it as one that does not exist. While a viewer is being
sent something, changes gather: they are one look, however many they are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from statestream.chat.messages import State, showing
from statestream.chat.slices.conversation import name_of
from statestream.chat.viewing.projection import Item, Look, Projection, SlicesBeside
from statestream.chat.visit import Visit
from statestream.store.notifier import Notifier, Signal


class Outlet(Protocol):
    """Where the items of viewers go."""

    writing: asyncio.Lock
    """Held from a look until its items are sent: what one of them says of its viewer's place is true until then."""

    async def send(self, items: Sequence[Item]) -> None:
        """Returns when there is room for more. Raises ConnectionError."""

    @property
    def keep_alive_seconds(self) -> float | None:
        """How long the connection may be silent; None if it keeps itself alive."""

    async def keep_alive(self) -> None:
        """Called after so many seconds of silence. Raises ConnectionError."""


class Viewer:
    """One viewer of one conversation, and of the slices beside it.

    `branch` is a message of the branch that the viewer looks at; None: the one that the chat shows.
    """

    def __init__(
        self,
        chats: Visit,
        key: str,
        projection: Projection,
        beside: SlicesBeside | None = None,
        branch: str | None = None,
    ) -> None:
        self.key, self.projection = key, projection
        self._chats, self._beside, self._branch = chats, beside, branch
        self._looked: tuple[State, State] | None = None
        """The state of the last look at a branch, and as it was shown."""

    @property
    def names(self) -> list[str]:
        """What to wait for, as a Notifier takes it."""
        return [name_of(self.key), *([] if self._beside is None else self._beside.names)]

    async def look(self, changed: set[str] | None, *, last: bool) -> list[Item]:
        """What is new. `changed` names the slices that have changed since the last look; None: any may have."""
        beside = None if self._beside is None else await self._beside.looked(changed)
        return self.projection.new(Look(state=await self._state(), beside=beside, last=last))

    async def _state(self) -> State:
        """The chat's state, as it looks on the viewer's branch: the same object for the same state."""
        state = await self._chats.find(self.key)
        if self._branch is None:
            return state
        if self._looked is None or self._looked[0] is not state:
            self._looked = state, showing(state, self._branch)
        return self._looked[1]


async def show(notifier: Notifier, viewer: Viewer, outlet: Outlet) -> None:
    """Shows one conversation to one viewer until that is over, or the server stops."""
    with notifier.on(viewer.names) as signal:
        await show_all([viewer], signal, notifier, outlet)


async def show_all(viewers: Collection[Viewer], signal: Signal, notifier: Notifier, outlet: Outlet) -> None:
    """Shows conversations to viewers who share an outlet, until all are over, or the server stops.

    `signal` is set when one of them has changed. Viewers may be added meanwhile: set the signal then.
    """
    while True:
        signal.clear()
        changed, last = signal.names(), notifier.closed
        for viewer in tuple(viewers):
            async with outlet.writing:
                if items := await viewer.look(changed, last=last):
                    await outlet.send(items)
            if items and len(viewers) > 1:
                await asyncio.sleep(0)  # a hundred long chats must not keep everybody else waiting
        if last or (viewers and all(viewer.projection.over for viewer in viewers)):
            return
        await _changed(signal, outlet)


async def _changed(signal: Signal, outlet: Outlet) -> None:
    """Returns when the signal is set, or after the outlet has been kept alive."""
    try:
        async with asyncio.timeout(outlet.keep_alive_seconds):
            await signal.wait()
    except TimeoutError:
        await outlet.keep_alive()
