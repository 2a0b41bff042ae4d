"""aiohttp's request and response writer on a connection in memory.

Invariants: the ASGI server frames the body, and adds the headers that concern the connection. A header that could end a
line is refused as aiohttp refuses it.
"""

from __future__ import annotations

import re
from asyncio import AbstractEventLoop
from typing import Any, Final

from aiohttp import ClientConnectionResetError, web
from aiohttp.http import StreamWriter
from multidict import CIMultiDict

from statestream.asgi.transport import AsgiTransport, Headers
from statestream.server.edge import EdgeRequest
from statestream.server.request import MOUNT

OF_THE_SERVER: Final = frozenset({"connection", "date", "keep-alive", "server", "transfer-encoding"})
"""The headers that an ASGI server adds as they are true."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class AsgiWriter(StreamWriter):
    """Writes a response to the transport of its protocol."""

    def enable_chunking(self) -> None:
        """The ASGI server frames the body."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        self._connection().begin(int(status_line.split(" ", 2)[1]), _encoded(headers))

    async def write_eof(self, chunk: bytes = b"") -> None:
        await super().write_eof(chunk)
        self._connection().end()

    def _connection(self) -> AsgiTransport:
        """Raises ConnectionError if the client has left."""
        if not isinstance(self.transport, AsgiTransport):
            raise ClientConnectionResetError("the client has left")
        return self.transport


def _encoded(headers: CIMultiDict[str]) -> Headers:
    """Raises ValueError."""
    sent = [(name.lower(), value) for name, value in headers.items() if name.lower() not in OF_THE_SERVER]
    if any(_CONTROL.search(text) for header in sent for text in header):
        raise ValueError("a header of a response has a control character in it")
    return [(name.encode(), value.encode()) for name, value in sent]


class AsgiRequest(EdgeRequest):
    """Made for each request that arrives on an AsgiTransport."""

    def __init__(
        self,
        message: Any,
        payload: Any,
        protocol: web.RequestHandler,
        writer: Any,
        task: Any,
        loop: AbstractEventLoop,
        **settings: Any,
    ) -> None:
        transport = protocol.transport
        assert isinstance(transport, AsgiTransport)
        scheme = "https" if transport.secure else "http"
        super().__init__(message, payload, protocol, AsgiWriter(protocol, loop), task, loop, scheme=scheme, **settings)
        self[MOUNT] = transport.place.mount
