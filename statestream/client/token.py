"""The token with which a client authenticates, and requests that carry it.

Invariants: a token is sent to the first server only, in a header. A function is asked for each connection, and once
more after a 401; requests that find out at the same time share one call. No error and no log line contains a token.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from yarl import URL

from statestream.client import redirects
from statestream.core.errors import Malformed, StreamRefused, Unavailable

log = logging.getLogger("statestream")

TokenSource = str | Callable[[], str | Awaitable[str]]
"""A token, or a function that returns one."""
UNAUTHENTICATED: Final = 401
_TOKEN: Final = re.compile(r"[!-~]+", re.ASCII)


class Token:
    """Sends requests with a token, or without one for None. Raises Malformed."""

    def __init__(self, source: TokenSource | None) -> None:
        if not callable(source) and source is not None and not _is_token(source):
            raise Malformed("expected a token as text without blanks, or a function that returns one")
        self._source = source
        self._newest = source if isinstance(source, str) else None
        self._asking = asyncio.Lock()

    @asynccontextmanager
    async def request(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: URL | str,
        *,
        headers: Mapping[str, str],
        data: bytes | None = None,
        new_connection: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to the request; if that is a 401, to the same request with the function's next token.

        A `new_connection` begins with a new token. Raises what `redirects.request` raises, Unavailable if the function
        raises, and StreamRefused if it returns something else.
        """
        token = await self._next(self._newest) if new_connection or self._newest is None else self._newest
        for last in (False, True):
            sent = headers if token is None else {**headers, "Authorization": f"Bearer {token}"}
            async with redirects.request(session, method, url, headers=sent, data=data) as response:
                if response.status != UNAUTHENTICATED or last or not callable(self._source):
                    yield response
                    return
            token = await self._next(token)

    async def _next(self, known: str | None) -> str | None:
        """The function's next token, unless another request has asked for it since `known`."""
        async with self._asking:
            if callable(self._source) and self._newest == known:
                self._newest = await _called(self._source)
            return self._newest


async def _called(function: Callable[[], str | Awaitable[str]]) -> str:
    try:
        found: Any = function()
        if inspect.isawaitable(found):
            found = await found
    except Exception as error:
        log.exception("the function that returns the token raised")
        raise Unavailable(f"the function that returns the token raised {type(error).__name__}") from None
    if not _is_token(found):
        raise StreamRefused("the function that returns the token returned something else", reason="token")
    return str(found)


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None
