"""The server whose chat is checked, and how it is asked: requests, streams, WebSockets.

Invariants: only the public routes of a chat. How, never what for: no promise is checked here, except that a request is
answered as it must be.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import orjson

from statestream.client.refusals import beginning_of
from statestream.core.errors import StreamRefused, Unavailable
from statestream.tools.conformance.chats.connections import BodyConnection, EventConnection, SocketConnection
from statestream.tools.conformance.violation import Violation, expect
from statestream.tools.target import Target

PATIENCE: Final = 30.0
ABSENT: Final = (404, 405, 501)
MAX_MESSAGE: Final = 64 << 20
SHOWN_CHARACTERS: Final = 200


class ChatServer:
    """`async with ChatServer(target) as server:`."""

    def __init__(self, target: Target) -> None:
        self.target = target
        # Each connection is a new one, as that of a client whose network has failed.
        self._session = aiohttp.ClientSession(
            headers=dict(target.headers),
            auto_decompress=True,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE),
            read_bufsize=1 << 16,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    # requests

    async def offers(self, method: str, path: str, body: Any = None) -> bool:
        """Whether the server has such a route. Raises Unavailable, and StreamRefused if it refuses the credentials."""
        try:
            async with asyncio.timeout(PATIENCE), self._request(method, path, body) as response:
                if response.status in (401, 403):
                    said = (await beginning_of(response)).decode(errors="replace")[:SHOWN_CHARACTERS]
                    message = f"expected to be let in to the chat, got status {response.status}: {said}"
                    raise StreamRefused(message, reason="refused", status=response.status)
                return response.status not in ABSENT
        except TimeoutError:
            raise Unavailable(f"expected an answer to {method} {path}, got none in {PATIENCE:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"expected a server at {self.target.url}, found none: {error!r}") from None

    async def offers_socket(self, path: str, **query: str) -> bool:
        """Whether the server opens a WebSocket there."""
        try:
            await (await self.socket(path, **query)).close()
        except Violation:
            return False
        return True

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of a response, which must be a success. Raises Violation."""
        try:
            async with asyncio.timeout(PATIENCE), self._request(method, path, body) as response:
                data = await response.read()
        except TimeoutError:
            raise Violation(f"expected an answer to {method} {path}, got none in {PATIENCE:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Violation(f"expected an answer to {method} {path}, got none: {error!r}") from None
        said = data[:SHOWN_CHARACTERS].decode(errors="replace")
        expect(response.status in (200, 201), f"expected {method} {path} to succeed, got {response.status}: {said}")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            raise Violation(f"expected JSON from {method} {path}, got {said!r}") from None

    async def events(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> EventConnection | None:
        """An event stream; None if the answer is 204. Raises Violation."""
        response = await self._opened(method, path, body, headers, "text/event-stream")
        return None if response is None else EventConnection(response)

    async def text(self, path: str, body: Any = None) -> BodyConnection | None:
        """A stream of plain text; None if the answer is 204. Without a body, it is resumed. Raises Violation."""
        response = await self._opened("GET" if body is None else "POST", path, body, None, "text/plain")
        return None if response is None else BodyConnection(response)

    async def socket(self, path: str, **query: str) -> SocketConnection:
        """An open WebSocket. Raises Violation."""
        url = self.target.route(path).with_query(query)
        try:
            async with asyncio.timeout(PATIENCE):
                return SocketConnection(await self._session.ws_connect(url, max_msg_size=MAX_MESSAGE))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Violation(f"expected a WebSocket at /{path}, got none: {error!r}") from None

    async def _opened(
        self, method: str, path: str, body: Any, headers: Mapping[str, str] | None, kind: str
    ) -> aiohttp.ClientResponse | None:
        try:
            async with asyncio.timeout(PATIENCE):
                response: aiohttp.ClientResponse = await self._request(method, path, body, headers)
                if response.status == 200 and response.content_type == kind:
                    return response
                said = "" if response.status == 204 else (await beginning_of(response)).decode(errors="replace")
                response.close()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Violation(f"expected a stream from {method} {path}, got none: {error!r}") from None
        got = f"{response.status} and {response.content_type}: {said[:SHOWN_CHARACTERS]}"
        expect(response.status == 204, f"expected {kind} from {method} {path}, got {got}")
        return None

    def _request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        route, _, query = path.partition("?")
        url = self.target.url.with_path(f"{self.target.url.raw_path.rstrip('/')}/{route}", encoded=True).with_query(
            query
        )
        sent = {"Accept": "*/*", **(headers or {})}
        data = None if body is None else orjson.dumps(body)
        if body is not None:
            sent["Content-Type"] = "application/json"
        return self._session.request(method, url, data=data, headers=sent, allow_redirects=False)


def in_path(id: str) -> str:
    """An id in the path of a URL."""
    return quote(id, safe="")
