"""How an MCP server is reached: as a process that the application starts, or at a URL.

Invariants: each connection has a new transport. Whatever ends a process, its end is noticed at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from msgspec import Struct

if TYPE_CHECKING:
    from mcp.client import Transport

CONNECT_SECONDS: Final = 30.0
READ_SECONDS: Final = 300.0
"""How long a server may be silent on a connection that it keeps open."""


class Target(Struct, frozen=True, kw_only=True):
    """Where a server is: a command with arguments and additional environment variables, or a URL with headers."""

    command: Sequence[str] = ()
    env: Mapping[str, str] | None = None
    url: str = ""
    headers: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Raises TypeError and ValueError for an invalid server."""
        if isinstance(self.command, str):
            raise TypeError(f"expected a command as a list, as in {self.command.split()!r}, got {self.command!r}")
        if bool(self.command) == bool(self.url):
            raise ValueError("expected either the command of an MCP server or its URL")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise ValueError(f"expected the URL of an MCP server with https:// or http://, got {self.url!r}")
        if (self.env if self.url else self.headers) is not None:
            raise ValueError("`env` is for the command of an MCP server, and `headers` are for its URL")

    @property
    def shown(self) -> str:
        """For the log: without arguments and queries, which may be secret."""
        if self.command:
            return self.command[0]
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def transport(self, ended: Callable[[], None]) -> Transport:
        """What a client connects with. `ended` is called when the process has ended."""
        return self._process(ended) if self.command else self._http()

    @contextlib.asynccontextmanager
    async def _process(self, ended: Callable[[], None]) -> AsyncIterator[Any]:
        from mcp import StdioServerParameters, stdio_client

        command, *arguments = self.command
        env = None if self.env is None else dict(self.env)
        parameters = StdioServerParameters(command=command, args=arguments, env=env)
        async with stdio_client(parameters) as (read, write):
            yield _Reading(read, ended), write

    @contextlib.asynccontextmanager
    async def _http(self) -> AsyncIterator[Any]:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        timeout = httpx2.Timeout(CONNECT_SECONDS, read=READ_SECONDS)
        async with (
            httpx2.AsyncClient(headers=dict(self.headers or {}), timeout=timeout) as http,
            streamable_http_client(self.url, http_client=http) as streams,
        ):
            yield streams


class _Reading:
    """What a process writes. The client itself would notice the end of the process only at its next request."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream, self._ended = stream, ended

    async def receive(self) -> Any:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._stream)
        except StopAsyncIteration:
            self._ended()
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
