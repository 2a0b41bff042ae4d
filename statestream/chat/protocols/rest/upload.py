"""An upload: what a request says of a file, and its bytes as they come.

    POST …/files?filename=a.png     the body is the file, and Content-Type its type
    POST …/files                    multipart/form-data, whose first file counts

Invariants: no body is held as a whole, and none is decompressed. One that arrives too slowly, or not as a whole, is an
error at the place where it is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from msgspec import Struct

from statestream.broadcast.budget import Share
from statestream.chat.protocols.rest.multipart import FilePart, boundary_of
from statestream.core.errors import Malformed, Unavailable, UnsupportedMediaType
from statestream.server.bodies import BODY_SECONDS

CHUNK: Final = 256 << 10
LEAST_RATE: Final = 16 << 10
"""Bytes per second that a client has to send, after the time that every body has."""
FORM: Final = "multipart/form-data"


class Upload(Struct, frozen=True, kw_only=True):
    """A file on its way in. `size` is the most that it can have, if that is known."""

    media_type: str
    filename: str | None
    size: int | None
    content: AsyncIterator[bytes]


async def upload_of(request: web.Request, share: Share) -> Upload:
    """Reads a request up to the bytes of its file. Raises Malformed, UnsupportedMediaType, Unavailable."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType("expected the file as it is, without a Content-Encoding")
    kind, named = request.headers.get("Content-Type", "").strip(), request.query.get("filename")
    arriving = _gathered(_timely(request), share)
    if kind.partition(";")[0].strip().lower() != FORM:
        return Upload(media_type=kind, filename=named, size=request.content_length, content=arriving)
    part = FilePart(boundary_of(kind))
    first = b""
    while not part.begun:
        first += part.feed(await _next(arriving))
    filename = part.filename if named is None else named
    content = _of_form(part, first, arriving)
    return Upload(media_type=part.media_type, filename=filename or None, size=request.content_length, content=content)


async def _next(arriving: AsyncIterator[bytes]) -> bytes:
    try:
        return await anext(arriving)
    except StopAsyncIteration:
        raise Malformed("the multipart body ended before its file did") from None


async def _of_form(part: FilePart, first: bytes, arriving: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    while not part.complete:
        yield part.feed(await _next(arriving))


async def _gathered(arriving: AsyncIterator[bytes], share: Share) -> AsyncIterator[bytes]:
    """The same bytes in pieces of about CHUNK, because each costs a thread. Raises Unavailable.

    What is held, twice for a moment, is reserved as it comes: who sends nothing takes no room from others.
    """
    gathered, reserved = bytearray(), 0
    async for piece in arriving:
        gathered += piece
        if (more := 2 * len(gathered) - reserved) > 0:
            if not share.take(more):
                sentence = "clients are sending too much data at the same time; try again in a moment"
                raise Unavailable(sentence).over("memory")
            reserved += more
        if len(gathered) >= CHUNK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def _timely(request: web.Request) -> AsyncIterator[bytes]:
    """Raises Malformed if the body arrives too slowly, or is cut."""
    loop, received, chunks = asyncio.get_running_loop(), 0, request.content.iter_any()
    began = loop.time()
    while True:
        try:
            async with asyncio.timeout_at(began + BODY_SECONDS + received / LEAST_RATE):
                piece = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Malformed("the file did not arrive in time").over("body_time") from None
        except web.RequestPayloadError:
            raise Malformed("the file did not arrive as a whole") from None
        received += len(piece)
        yield piece
