"""Sends a body that may be large, no faster than its reader takes it.

Invariants: a response that is not read holds only memory that it shares with others, and CHUNK bytes of its own. It is
aborted if nothing was read for STALL_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web

from statestream.broadcast.budget import Budget, Share
from statestream.core.errors import Unavailable
from statestream.server.abort import abort_response

BUDGET: Final = web.AppKey("statestream_budget", Budget)
CHUNK: Final = 64 << 10
STALL_SECONDS: Final = 30.0


async def send(request: web.Request, parts: Sequence[bytes], headers: Mapping[str, str]) -> web.StreamResponse:
    """Raises Unavailable if too much is being sent already. `parts` are one body; the longest are best shared."""
    if sum(map(len, parts)) <= CHUNK:
        return web.Response(body=b"".join(parts), headers=headers)
    with Share(request.config_dict[BUDGET]) as share:
        if not all(share.hold(part) for part in parts):
            raise Unavailable("too many responses are waiting for slow clients; try again in a moment").over("memory")
        response = web.StreamResponse(headers=headers)
        response.content_length = sum(map(len, parts))
        await response.prepare(request)
        try:
            await _write(response, parts)
        except TimeoutError:
            abort_response(request)
        return response


async def _write(response: web.StreamResponse, parts: Sequence[bytes]) -> None:
    """Joins small parts. Raises TimeoutError if the client does not read."""
    small = bytearray()
    for part in parts:
        small += part[:CHUNK]
        for begin in range(CHUNK, len(part), CHUNK):
            await _write_one(response, small)
            small = bytearray(part[begin : begin + CHUNK])
        if len(small) >= CHUNK:
            await _write_one(response, small)
            small = bytearray()
    await _write_one(response, small)


async def _write_one(response: web.StreamResponse, data: bytearray) -> None:
    if data:
        async with asyncio.timeout(STALL_SECONDS):
            await response.write(bytes(data))
