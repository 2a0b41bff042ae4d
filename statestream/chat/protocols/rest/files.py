"""The routes for files: upload one to a chat, and read it.

Invariants: a file is for those who belong to its chat, at every step of an answer. Browsers ask each time whether
theirs is still the same, so nobody sees a file from a cache who may not see it any more. The type of an answer is the
one that was checked when the file was stored, and browsers neither guess another one nor execute it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, Literal

from aiohttp import web
from typing_extensions import NotRequired, TypedDict

from statestream.broadcast.budget import Share
from statestream.chat.blobs import BlobMissing, is_id
from statestream.chat.conversations import Conversations
from statestream.chat.file_urls import ROUTE
from statestream.chat.identity import visit
from statestream.chat.parameters import CHAT, FILE, FILENAME
from statestream.chat.protocols.rest.file_headers import POLICY, disposition, matches, range_of
from statestream.chat.protocols.rest.routes import key_of
from statestream.chat.protocols.rest.upload import upload_of
from statestream.chat.slices.uploads import FileEntry
from statestream.chat.visit import Visit
from statestream.core.errors import (
    HandlerFailed,
    NotFound,
    RangeNotSatisfiable,
    RateLimited,
    Refused,
    StatestreamError,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from statestream.server.abort import abort_response
from statestream.server.contract import Answer, Contract, Route, Schema
from statestream.server.dispatch_rate import admit
from statestream.server.problems import OUTCOME, problem
from statestream.server.request import check_query
from statestream.server.routes import json_response
from statestream.server.transfer import BUDGET, CHUNK, STALL_SECONDS

PIECE: Final = 256 << 10
"""The bytes that blobs give at a time."""


class Uploaded(TypedDict):
    """A file that is stored, as the part of a question that has it."""

    type: Literal["file"]
    mediaType: str
    url: str
    filename: NotRequired[str]
    size: int


def routes(conversations: Conversations) -> list[Route]:
    async def upload(request: web.Request) -> web.Response:
        check_query(request, "filename")
        admit(request)
        chats, key = visit(request, conversations), key_of(request)
        await chats.existing(key)
        with Share(request.config_dict[BUDGET]) as share:
            coming = await upload_of(request, share)
            part = await chats.upload(key, coming.content, coming.media_type, coming.filename, coming.size)
        return json_response(part, status=201)

    async def read(request: web.Request) -> web.StreamResponse:
        check_query(request)
        chats, key, file = visit(request, conversations), key_of(request), request.match_info["file"]
        await chats.existing(key)
        entry = await chats.file(key, file) if is_id(file) else None
        if entry is None:
            raise BlobMissing("there is no such file in this chat")
        tag = f'"{file}"'
        headers = _headers(entry, tag)
        if matches(request.headers.getall("If-None-Match", []), tag):
            return web.Response(status=304, headers=headers)
        try:
            wanted = range_of(_range_header(request, tag), entry["size"])
        except RangeNotSatisfiable as error:
            request[OUTCOME] = error.code
            refused = problem(error)
            refused.headers["Content-Range"] = f"bytes */{entry['size']}"
            return refused
        return await _send(request, chats, key, file, entry, headers, wanted)

    return [
        Route(method="POST", path="/api/chats/{id}/files", handler=upload, contract=UPLOAD),
        Route(method="GET", path=ROUTE, handler=read, contract=READ, head=True),
    ]


def _headers(entry: FileEntry, tag: str) -> dict[str, str]:
    return {
        "ETag": tag,
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
        "Content-Type": entry["mediaType"],
        "Content-Disposition": disposition(entry["mediaType"], entry.get("filename")),
    }


def _range_header(request: web.Request, tag: str) -> str | None:
    """The `Range`, unless it is about another file: an `If-Range` must name this one."""
    found = request.headers.getall("Range", [])
    same = request.headers.get("If-Range", tag).strip() == tag
    return found[0] if len(found) == 1 and same and request.method == "GET" else None


async def _send(
    request: web.Request,
    chats: Visit,
    key: str,
    file: str,
    entry: FileEntry,
    headers: dict[str, str],
    wanted: tuple[int, int] | None,
) -> web.StreamResponse:
    start, length = wanted or (0, entry["size"])
    more = {} if wanted is None else {"Content-Range": f"bytes {start}-{start + length - 1}/{entry['size']}"}
    response = web.StreamResponse(status=200 if wanted is None else 206, headers=headers | more)
    response.content_length = length
    with Share(request.config_dict[BUDGET]) as share:
        if not share.take(2 * PIECE):
            raise Unavailable("too many responses are waiting for slow clients; try again in a moment").over("memory")
        async with chats.reading(key, file, start, length) as pieces:
            await response.prepare(request)
            try:
                if request.method == "GET" and await _write(response, chats, key, pieces) < length:
                    abort_response(request)
            except (StatestreamError, TimeoutError):  # they left the chat, the disk fails, or nobody reads
                abort_response(request)
    return response


async def _write(response: web.StreamResponse, chats: Visit, key: str, pieces: AsyncIterator[bytes]) -> int:
    """Returns how many bytes there were. Raises NotFound, Unavailable, and TimeoutError if the client does not read."""
    sent = 0
    async for piece in pieces:
        await chats.existing(key)
        for begin in range(0, len(piece), CHUNK):
            async with asyncio.timeout(STALL_SECONDS):
                await response.write(piece[begin : begin + CHUNK])
        sent += len(piece)
    return sent


FORM: Final[Schema] = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "string", "format": "binary"}},
}
UPLOAD: Final = Contract(
    name="upload_file",
    summary="Stores a file, for a question in this chat. The body is the file, or a form with one.",
    parameters=(CHAT, FILENAME),
    content={"*/*": {}, "multipart/form-data": FORM},
    answers=(Answer(description="It is stored, and this is its part.", status=201, model=Uploaded),),
    errors=(NotFound, Refused, TooLarge, UnsupportedMediaType, RateLimited, HandlerFailed),
    access="identity",
)
_SENT: Final = ("ETag", "Accept-Ranges", "Content-Disposition")
READ: Final = Contract(
    name="file",
    summary="A file of a chat.",
    parameters=(CHAT, FILE),
    answers=(
        Answer(description="The file.", media_type="*/*", headers=_SENT),
        Answer(description="The bytes that `Range` asks for.", status=206, media_type="*/*", headers=_SENT),
        Answer(description="It is still what `If-None-Match` names.", status=304, headers=("ETag",)),
    ),
    errors=(NotFound, RangeNotSatisfiable),
    access="identity",
    cookie=True,
)
