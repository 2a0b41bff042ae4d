"""Aborts a response whose status has been sent already: the only way left to signal that it is incomplete.

Invariants: no client may mistake a truncated response for a complete one.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from aiohttp import HttpVersion11, web

from statestream.server.problems import OUTCOME

_RESET: Final = struct.pack("ii", 1, 0)


def abort_response(request: web.Request) -> None:
    """Ends the connection so that no client takes the body for complete.

    A body without chunks ends with the connection, so that only a reset tells it from a complete one.
    """
    request[OUTCOME] = "cut"
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    if request.version < HttpVersion11 and connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    request.transport.abort()
