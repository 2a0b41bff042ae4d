"""Accepts connections, a few at a time.

When thousands arrive at once, an event loop's own server accepts all of them in one iteration and answers all of them
in the next, and clients that are connected already wait for both. Here a few newcomers are accepted, and while they are
answered, in the next PAUSE iterations, the others wait in the kernel's queue.

A process that shares its port with others accepts the connections of its own share at once. One that another process
has not accepted for HELP_SECONDS, because it has died, is starting or is blocked, is accepted here.

Invariants: a connection belongs to this file until the event loop has made a transport for it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Final

from aiohttp import web

from statestream.server.binding import Sockets

log = logging.getLogger("statestream")

BACKLOG: Final = 4_096
AT_ONCE: Final = 8
PAUSE: Final = 4
"""Iterations in which those who were accepted are answered."""
PAUSE_SECONDS: Final = 0.05
HELP_SECONDS: Final = 0.1
COMPLAIN_SECONDS: Final = 60.0
EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Site(web.BaseSite):
    """The listening sockets of an aiohttp runner. `connection` makes the protocol of each connection."""

    def __init__(
        self, runner: web.BaseRunner, sockets: Sockets, connection: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._connection = connection
        self._own, self._others = sockets.own, sockets.others
        self._newcomers: set[asyncio.Task[None]] = set()
        self._helping: dict[socket.socket, asyncio.TimerHandle] = {}
        self._paused = 0
        """The iterations that are left for the newcomers."""
        self._complained_at = float("-inf")

    @property
    def name(self) -> str:
        host, port = self.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def address(self) -> tuple[str, int]:
        """The address it listens on, with the port that the system chose for 0."""
        host, port = self._own[0].getsockname()[:2]
        return host, port

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses it listens on, without their ports."""
        return tuple(listening.getsockname()[0] for listening in self._own)

    async def start(self) -> None:
        """Raises OSError if another program has begun to listen on the address."""
        await super().start()
        for listening in (*self._own, *self._others):
            listening.listen(self._backlog)
            self._listen(listening)

    def _listen(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            accept = self._help_later if listening in self._others else self._accept
            asyncio.get_running_loop().add_reader(listening, accept, listening)

    def _help_later(self, listening: socket.socket) -> None:
        """Leaves a connection to the process whose share it is in, for a while."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self._helping[listening] = loop.call_later(HELP_SECONDS, self._help, listening)

    def _help(self, listening: socket.socket) -> None:
        self._listen(listening)
        self._accept(listening)

    def _accept(self, listening: socket.socket) -> None:
        if self._paused:
            return
        self._paused = PAUSE
        asyncio.get_running_loop().call_soon(self._continue)
        self._take(listening, AT_ONCE)

    def _take(self, listening: socket.socket, most: int) -> None:
        """Accepts at most so many of the connections that wait."""
        for _ in range(most):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            connection.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._welcome(connection))
            self._newcomers.add(task)
            task.add_done_callback(self._newcomers.discard)

    def _continue(self) -> None:
        """Once in each iteration of a pause. As long as it is scheduled, the loop does not sleep."""
        self._paused -= 1
        if self._paused:
            asyncio.get_running_loop().call_soon(self._continue)

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """Out of descriptors or memory: pauses, because trying again at once would only spin."""
        if error.errno not in EXHAUSTED:
            raise error
        loop = asyncio.get_running_loop()
        if loop.time() > self._complained_at + COMPLAIN_SECONDS:
            self._complained_at = loop.time()
            log.error("no connection can be accepted (%s); trying again until there is room", error)
        loop.remove_reader(listening)
        loop.call_later(PAUSE_SECONDS, self._listen, listening)

    async def _welcome(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, connection)
        except OSError:
            connection.close()  # the client left while it waited

    async def stop(self) -> None:
        loop = asyncio.get_running_loop()
        for timer in self._helping.values():
            timer.cancel()
        for listening in (*self._own, *self._others):
            loop.remove_reader(listening)
        for listening in self._own:
            self._take(listening, BACKLOG)  # otherwise the kernel resets them, unless another process listens as well
        for listening in (*self._own, *self._others):
            listening.close()
        if self._newcomers:
            await asyncio.wait(self._newcomers)
        await super().stop()
