"""Request bodies: from bytes to validated values.

Invariants: every body is read here, with limits on its size and its time, and parsed within the JSON limits. aiohttp's
own `request.json()` and `request.read()` are not used, because they limit neither, and its `content_type` takes time
that grows with the square of the header's length. A large body is parsed in a thread, one at a time with a pause after
each, so that nobody else waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeVar, get_args

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from statestream.broadcast.budget import Share
from statestream.core.errors import Malformed, TooLarge, Unavailable, UnsupportedMediaType
from statestream.core.signature import first_problem
from statestream.core.values import loads
from statestream.server.transfer import BUDGET
from statestream.store.pause import rest

BODY_SECONDS: Final = 30.0
MAX_BODY: Final = web.AppKey("statestream_max_body", int)
LARGE: Final = 32 << 10
"""A text of this size may take several milliseconds to parse."""
ENCODINGS: Final = "expected Content-Encoding: gzip or deflate, or none"
PARSING: Final = web.AppKey("statestream_parsing", asyncio.Lock)

M = TypeVar("M", bound="Body")


class Body(BaseModel):
    """A JSON object with known members only."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def read_json(request: web.Request) -> Any:
    """The value of the body. Raises UnsupportedMediaType, TooLarge, NotJSON, Malformed."""
    _check_media_type(request.headers.get("Content-Type", ""))
    if request.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip", "deflate"):
        raise UnsupportedMediaType(ENCODINGS)
    with Share(request.config_dict[BUDGET]) as share:
        return await parsed(request, await _read(request, request.config_dict[MAX_BODY], share))


async def parsed(request: web.Request, data: bytes) -> Any:
    """The value of what a client sent as JSON. Raises NotJSON."""
    if len(data) < LARGE:
        return loads(data)
    async with request.config_dict[PARSING]:
        began = perf_counter()
        value = await asyncio.to_thread(loads, data)
        await rest(perf_counter() - began)  # whoever sent the text before this one has had it accepted meanwhile
        return value


def _check_media_type(header: str) -> None:
    """Raises UnsupportedMediaType unless it is JSON in UTF-8. Other parameters mean nothing and are ignored."""
    media_type, *parameters = header.split(";")
    if media_type.strip().lower() != "application/json":
        raise UnsupportedMediaType("expected Content-Type: application/json")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower().startswith("charset") and value.strip(' \t"').lower() not in ("utf-8", "utf8"):
            raise UnsupportedMediaType("expected UTF-8, the only charset of JSON")


async def _read(request: web.Request, limit: int, share: Share) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                if not share.take(len(chunk)):
                    raise _crowded()
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the body has more than {limit} bytes").over("body")
                chunks.append(chunk)
    except TimeoutError:
        raise Malformed(f"the body did not arrive within {BODY_SECONDS:.0f} s").over("body_time") from None
    except web.RequestPayloadError:
        raise Malformed("the body cannot be decoded") from None
    return b"".join(chunks)


def _crowded() -> Unavailable:
    return Unavailable("clients are sending too much data at the same time; try again in a moment").over("memory")


def checked(model: type[M], value: Any) -> M:
    """The value as a `model`. Raises Malformed with the place of the first problem."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Malformed(first_problem(error, partial(_fields, model))) from None


def _fields(model: type[BaseModel], place: Sequence[Any]) -> Collection[str]:
    """The fields of the object at a place within a body."""
    for name in place:
        field = model.model_fields.get(str(name))
        if field is not None:  # otherwise it is an index: the annotation of the list leads to its elements
            kinds = (field.annotation, *get_args(field.annotation))
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model.model_fields
