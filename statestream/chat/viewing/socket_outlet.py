"""A WebSocket as an outlet of viewers: it sends their items, takes the client's messages, and owns the tasks for both.

Invariants: the tasks end with the WebSocket. When the server stops, they may finish what they send, for a short while;
then the WebSocket is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Self

from aiohttp import WSMessage, web

from statestream.chat.viewing.projection import Item
from statestream.chat.viewing.socket import CLOSE_SECONDS, Socket
from statestream.store.notifier import Notifier


class SocketOutlet:
    """`async with SocketOutlet(request, notifier, max_message=…)` opens it.

    Raises Forbidden for a page of another host. `max_message` is the limit on the bytes of the client's messages.
    """

    keep_alive_seconds = None  # the socket sends pings

    def __init__(self, request: web.Request, notifier: Notifier, *, max_message: int) -> None:
        self.writing = asyncio.Lock()
        self._socket = Socket(request, notifier, max_message=max_message)
        self._notifier = notifier
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def response(self) -> web.WebSocketResponse:
        return self._socket.response

    async def __aenter__(self) -> Self:
        await self._socket.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._socket.__aexit__(*error)

    async def serve(self, take: Callable[[WSMessage], Awaitable[None]], *work: Coroutine[Any, Any, None]) -> None:
        """Does the work, and passes the client's messages to `take` one by one, until the WebSocket has ended."""
        async with self._group:
            for each in work:
                self.start(each)
            closing = self._group.create_task(self._close_when_stopping())
            async for message in self._socket.messages():
                await take(message)
            for task in (closing, *self._tasks):
                task.cancel()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the WebSocket. Call it while `serve` runs."""
        task = self._group.create_task(_until_gone(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _close_when_stopping(self) -> None:
        with self._notifier.on(()) as signal:
            while not self._notifier.closed:
                signal.clear()
                await signal.wait()
        if self._tasks:  # they send how the replies ended
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        await self._socket.go_away()

    async def send(self, items: Sequence[Item]) -> None:
        """Sends each item as JSON. Raises ConnectionError."""
        for item in items:
            await self._socket.send(item)

    async def keep_alive(self) -> None:
        """Never called."""


async def _until_gone(work: Coroutine[Any, Any, None]) -> None:
    """Does the work. A client that has gone ends it quietly; `serve` notices that by itself."""
    with contextlib.suppress(ConnectionError):
        await work
