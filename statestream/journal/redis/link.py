"""One connection to a Redis server, which is made when it is needed and made again after it is lost.

Invariants: commands that are sent together are answered before the next ones are sent. A connection on which anything
went wrong, a cancelled caller included, is closed, because an answer that nobody has read would be taken for the next
one. Nothing is sent twice unless the server has certainly not run it. Every wait has a limit. While the server cannot
be reached, only one attempt is made in a while, and everybody else is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from statestream.core.errors import Unavailable
from statestream.journal.redis.address import Address
from statestream.journal.redis.driver import Connection, SSLConnection, exceptions
from statestream.journal.redis.keys import keys_of
from statestream.journal.redis.scripts import Script
from statestream.journal.redis.translation import REDIS_ERRORS, translated

ANSWER_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 2.0
BACKOFF_SECONDS: Final = (0.02, 0.5)
"""How long nobody tries to connect after a failure: from the first to the last."""

Argument = bytes | str | int


class Link:
    """A connection, and the journal's scripts on it. An answer may take `seconds`, with all that is asked before it."""

    def __init__(self, address: Address, seconds: float = ANSWER_SECONDS) -> None:
        self._address, self.seconds = address, seconds
        self._names = keys_of(address.namespace)
        self._keys = _bulk(len(self._names)) + b"".join(map(_bulk, self._names))
        self._moved: tuple[str, int] | None = None
        """Where a Redis Cluster has the keys, if it is not the server of the address."""
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._failures, self._not_before, self._refusal = 0, 0.0, Unavailable("the journal is closed")
        self._closed = True

    def open(self) -> None:
        """Allows connecting; nothing is sent yet."""
        self._closed, self._failures, self._not_before = False, 0, 0.0

    async def close(self) -> None:
        """Closes the connection. Whoever asks from now on is told that the journal is closed."""
        self._closed = True
        async with self._lock:
            await self._disconnect()

    async def run(self, script: Script, *arguments: Argument) -> list[Any]:
        """What the script returns; of a text its words. Raises Unavailable, JournalUnusable."""
        return (await self.run_with(script, arguments))[0]

    async def run_with(
        self, script: Script, arguments: Sequence[Argument], *more: Sequence[Argument]
    ) -> tuple[list[Any], list[Any]]:
        """The same, and the answers to more commands, which are sent together with it."""
        rest = b"".join(map(_bulk, arguments))
        further = [_packed(command) for command in more]
        try:
            try:
                answer, *others = await self._ask(self._call(b"EVALSHA", script.sha, rest, len(arguments)), *further)
            except exceptions.NoScriptError:  # it has not run: the server was restarted, or another one took its place
                answer, *others = await self._ask(self._call(b"EVAL", script.text, rest, len(arguments)), *further)
        except REDIS_ERRORS as error:
            raise translated(error) from error
        return (answer.split(b" ") if isinstance(answer, bytes) else answer), others

    def _call(self, command: bytes, script: bytes, arguments: bytes, count: int) -> bytes:
        """A command as bytes. redis-py takes longer to write thirty arguments than Redis to read them."""
        head = b"*%d\r\n%b%b" % (3 + len(self._names) + count, _bulk(command), _bulk(script))
        return b"".join((head, self._keys, arguments))

    async def command(self, *command: Argument) -> Any:
        """The answer to one command. Raises Unavailable, JournalUnusable."""
        try:
            [answer] = await self._ask(_packed(command))
        except REDIS_ERRORS as error:
            raise translated(error) from error
        return answer

    async def _ask(self, *commands: bytes) -> list[Any]:
        async with asyncio.timeout(self.seconds), self._lock:
            try:
                return await self._exchange(commands)
            except exceptions.MovedError as error:
                await self._disconnect()
                self._moved = (error.host or self._address.host, int(error.port))
                return await self._exchange(commands)
            except exceptions.ReadOnlyError:
                await self._disconnect()  # the address may lead to another server by now
                self._moved = None
                raise

    async def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        connection = await self._connected()
        try:
            await connection.send_packed_command(commands)
            answers = [await _answer(connection) for _ in commands]
        except BaseException:
            self._moved = None
            await self._disconnect()
            raise
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _connected(self) -> Connection:
        if self._closed:
            raise Unavailable("the journal is closed")
        if self._connection is not None and await self._connection.can_read():
            await self._disconnect()  # the server has closed it
        if self._connection is not None:
            return self._connection
        if monotonic() < self._not_before:
            raise Unavailable(str(self._refusal))
        connection = self._new()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()  # type: ignore[no-untyped-call]
        except BaseException as error:
            self._moved = None
            with contextlib.suppress(*REDIS_ERRORS):
                await connection.disconnect(nowait=True)
            if isinstance(error, REDIS_ERRORS):
                self._failed(error)
            raise
        self._connection, self._failures = connection, 0
        return connection

    def _new(self) -> Connection:
        settings = self._address.settings
        if self._moved is not None:
            settings["host"], settings["port"] = self._moved
        kind = SSLConnection if self._address.tls else Connection
        return kind(  # without `driver_info`, which takes a right and a round trip, and is logged where it is refused
            **settings, protocol=2, driver_info=None, socket_timeout=None, socket_connect_timeout=CONNECT_SECONDS
        )

    def _failed(self, error: Exception) -> None:
        first, last = BACKOFF_SECONDS
        self._not_before = monotonic() + min(last, first * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        self._refusal = Unavailable(str(translated(error)))

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*REDIS_ERRORS):
                await connection.disconnect(nowait=True)


async def _answer(connection: Connection) -> Any:
    """An error that the server answers with is returned: the answers to further commands follow it."""
    try:
        return await connection.read_response()
    except exceptions.ResponseError as error:
        return error


def _packed(command: Sequence[Argument]) -> bytes:
    return b"*%d\r\n%b" % (len(command), b"".join(map(_bulk, command)))


def _bulk(argument: Argument) -> bytes:
    text = argument if isinstance(argument, bytes) else str(argument).encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)
