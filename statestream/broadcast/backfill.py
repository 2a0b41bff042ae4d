"""Sends every single change of the past, for subscribers that ask for it: `after=earliest`.

Invariants: a page at a time, however long the history is. The subscriber has read a page before the next one is
fetched. It brings the subscriber to a position that is in memory; the synchronizer does the rest, as for any other
subscriber.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from statestream.broadcast.backlog import page_after
from statestream.broadcast.subscribers import State, Subscriber
from statestream.broadcast.subscription import EARLIEST
from statestream.core.change import Position, Snapshot
from statestream.core.errors import Expired, Unavailable
from statestream.core.folding import Merged
from statestream.protocol import frames

ATTEMPTS: Final = 5

Drained = Callable[[Subscriber], Awaitable[bool]]
"""Waits until a subscriber has read what it was sent. False: it is gone."""


class Backfill:
    """Brings one subscriber from its cursor to what is in memory. `heartbeat` in ms."""

    def __init__(self, subscriber: Subscriber, drained: Drained, heartbeat: int) -> None:
        self._subscriber, self._drained, self._heartbeat = subscriber, drained, heartbeat
        self._view, self._asked = subscriber.view, subscriber.followed
        self._merged = Merged()

    async def run(self) -> None:
        """Writes every change that is not in memory any more, after the state at the cursor or its versions.

        Raises Forked, Expired, TooLarge, and Unavailable if the journal is down or the subscriber gone.
        """
        subscriber = self._subscriber
        if subscriber.cursor == EARLIEST:
            await self._begin()
        while isinstance(cursor := subscriber.cursor, Position) and not self._in_memory(cursor):
            if subscriber.state is State.SYNCING:
                await self._resume(cursor)
                continue
            page = await page_after(self._view.past.history, self._view.position, cursor, self._asked)
            full = subscriber.subscription.detail.payloads
            updates = b"".join(frames.update(change, full=full) for change in self._merged(page.changes))
            await self._write(updates or frames.heartbeat(page.until))
            if subscriber.cursor == cursor:  # otherwise a reset came in between, and set another one
                subscriber.cursor = page.until

    def _in_memory(self, position: Position) -> bool:
        """Whether what follows is in memory, in single changes: not if it is seen through views, or folded."""
        single = not self._subscriber.subscription.scope.views and not self._merged.open
        return position.seq >= self._view.position.seq or (single and self._view.in_memory(position))

    async def _begin(self) -> None:
        """Opens the stream with the state at the earliest position."""
        snapshot = await self._earliest()
        if self._subscriber.cursor != EARLIEST:
            return
        self._subscriber.started(snapshot.position)
        frame = frames.initial(
            "start",
            snapshot.position,
            snapshot.slices,
            self._heartbeat,
            retry=frames.RETRY_MS,
            view=self._subscriber.subscription.scope.tag,
        )
        await self._write(frame)

    async def _resume(self, cursor: Position) -> None:
        """Opens the stream at the client's cursor."""
        snapshot = await self._view.past.snapshot_at(cursor, self._asked)
        if self._subscriber.cursor != cursor:
            return
        if snapshot.folded:
            raise Expired("the changes around the cursor were folded")
        self._subscriber.started(cursor)
        versions = {name: state.version for name, state in snapshot.slices.items()}
        await self._write(
            frames.resumed(
                cursor, orjson.dumps(versions), self._heartbeat, view=self._subscriber.subscription.scope.tag
            )
        )

    async def _earliest(self) -> Snapshot:
        """The oldest state that is kept. A trim may come between asking where it is and reading it."""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(Expired):
                return await self._view.past.snapshot_at(await self._view.past.earliest(), self._asked)
        raise Unavailable("the oldest state was trimmed again and again while it was read; try again")

    async def _write(self, data: bytes) -> None:
        """Writes and waits until the subscriber has read it: the synchronizer expects nothing to be waiting."""
        self._subscriber.sink.write(self._subscriber.subscription.encoding.encode(data))
        if not await self._drained(self._subscriber):
            raise Unavailable("the subscriber is gone")
