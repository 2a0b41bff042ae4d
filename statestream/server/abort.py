"""Cutting a response whose status is sent already: the only way left to say that it is not whole."""

from __future__ import annotations

import socket
import struct
from typing import Final

from aiohttp import HttpVersion11, web

_RESET: Final = struct.pack("ii", 1, 0)


def cut(request: web.Request) -> None:
    """Ends the connection so that nobody takes the body for whole: without chunks only a reset says so."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if request.version < HttpVersion11 and connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    request.transport.abort()
