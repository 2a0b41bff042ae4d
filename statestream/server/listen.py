"""Accepts connections, a few at a time.

When thousands arrive at once, an event loop's own server accepts all of them in one iteration and answers all of them
in the next, and clients that are connected already wait for both. Here a few newcomers are accepted, and while they are
answered, in the next PAUSE iterations, the others wait in the kernel's queue.

Invariants: a connection belongs to this file until the event loop has made a transport for it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from statestream.broadcast.kernel_limits import UNACKNOWLEDGED_MS

log = logging.getLogger("statestream")

BACKLOG: Final = 4_096
AT_ONCE: Final = 8
PAUSE: Final = 4
"""Iterations in which those who were accepted are answered."""
SILENT_SECONDS: Final = 5
"""The kernel reports a connection when its first bytes arrive, so newcomers and requests come in the same iteration."""
PAUSE_SECONDS: Final = 0.05
COMPLAIN_SECONDS: Final = 60.0
ABSENT: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Site(web.BaseSite):
    """A listening socket of an aiohttp runner. `connection` makes the protocol of each connection."""

    def __init__(
        self, runner: web.BaseRunner, host: str, port: int, connection: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._connection = connection
        self._address = (host, port)
        self._sockets: list[socket.socket] = []
        self._newcomers: set[asyncio.Task[None]] = set()
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
        host, port = self._sockets[0].getsockname()[:2]
        return host, port

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses it listens on, without their ports."""
        return tuple(listening.getsockname()[0] for listening in self._sockets)

    async def start(self) -> None:
        """Raises OSError if the address cannot be used."""
        await super().start()
        host, port = self._address
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        missing: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                self._bind(family, (address[0], self.address[1] if self._sockets else port, *address[2:]))
            except OSError as error:
                if error.errno not in ABSENT:
                    raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
                missing = error  # a name may resolve to an IPv6 address on a machine without IPv6
        if missing is not None and not self._sockets:
            raise OSError(missing.errno, f"cannot listen on {host}:{port}: {missing.strerror}")
        for listening in self._sockets:
            self._listen(listening)

    def _bind(self, family: int, address: tuple[Any, ...]) -> None:
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit it: it holds for every response
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS)
            if hasattr(socket, "TCP_DEFER_ACCEPT"):
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, SILENT_SECONDS)
            listening.bind(address)
            listening.setblocking(False)
            listening.listen(self._backlog)
        except BaseException:
            listening.close()
            raise
        self._sockets.append(listening)

    def _listen(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        if self._paused:
            return
        self._paused = PAUSE
        asyncio.get_running_loop().call_soon(self._continue)
        for _ in range(AT_ONCE):
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
        for listening in self._sockets:
            loop.remove_reader(listening)
            listening.close()
        if self._newcomers:
            await asyncio.wait(self._newcomers)
        await super().stop()
