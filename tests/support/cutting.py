"""A bad network between clients and a server: a TCP proxy that cuts connections between any two bytes, or drops bytes.

It knows nothing of what it carries, except where the head of an answer ends. The server behind it may be killed and
come back on the same port.
"""

from __future__ import annotations

import asyncio
import random
from typing import Literal, Self

HEAD_END = b"\r\n\r\n"


class Proxy:
    """`async with Proxy(port) as proxy:`; clients go to `proxy.url`.

    While `swallow` is set, bytes of the server are lost without an error: all of them, what follows the head of an
    answer, or all of the answers whose length is unknown when they begin. A connection that has lost bytes stays silent
    for ever. `swallowed` counts those.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.cuts = self.swallowed = 0
        self.swallow: Literal["nothing", "all", "bodies", "streams"] = "nothing"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def cut(self, chance: random.Random) -> None:
        """Cuts one of those that are open, at random."""
        if self._open:
            chance.choice(list(self._open.values())).transport.abort()
            self.cuts += 1

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        there: asyncio.StreamWriter | None = None
        try:
            answers, there = await asyncio.open_connection("127.0.0.1", self._port)
            ways = [asyncio.ensure_future(_pipe(reader, there)), asyncio.ensure_future(self._answer(answers, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except OSError:
            pass  # nobody is there: the client is told by being cut
        finally:
            del self._open[task]
            for end in (writer, there):
                if end is not None:
                    end.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent = False
        while data := await reader.read(1 << 16):
            known = self.swallow == "streams" and b"content-length:" in data.partition(HEAD_END)[0].lower()
            if not silent and self.swallow != "nothing" and not known:
                silent, self.swallowed = True, self.swallowed + 1
                head, end, _ = data.partition(HEAD_END)
                data = head + end if self.swallow == "bodies" and data.startswith(b"HTTP/") else b""
            elif silent:
                data = b""
            writer.write(data)
            await writer.drain()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
