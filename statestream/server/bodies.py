"""Request bodies: from bytes to validated values.

Invariants: every body is read here, with limits on its size and its time, and parsed within the JSON limits. aiohttp's
own `request.json()` and `request.read()` are not used, because they limit neither.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from statestream.core.errors import Malformed, TooLarge, UnsupportedMediaType
from statestream.core.slices import first_problem
from statestream.core.values import loads

BODY_SECONDS: Final = 30.0
MAX_BODY: Final = web.AppKey("statestream_max_body", int)

M = TypeVar("M", bound="Body")


class Body(BaseModel):
    """A JSON object with known members only."""

    model_config = ConfigDict(extra="forbid", strict=True)


async def read_json(request: web.Request) -> Any:
    """The value of the body. Raises UnsupportedMediaType, TooLarge, NotJSON, Malformed."""
    if request.content_type != "application/json":
        raise UnsupportedMediaType("expected Content-Type: application/json")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise UnsupportedMediaType("expected UTF-8, the only charset of JSON")
    if request.headers.get("Content-Encoding", "identity").lower() not in ("identity", "gzip", "deflate"):
        raise UnsupportedMediaType("expected Content-Encoding: gzip or deflate, or none")
    return loads(await _read(request, request.config_dict[MAX_BODY]))


async def _read(request: web.Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the body has more than {limit} bytes")
                chunks.append(chunk)
    except TimeoutError:
        raise Malformed(f"the body did not arrive within {BODY_SECONDS:.0f} s") from None
    except web.RequestPayloadError:
        raise Malformed("the body cannot be decoded") from None
    return b"".join(chunks)


def checked(model: type[M], value: Any) -> M:
    """The value as a `model`. Raises Malformed with the place of the first problem."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Malformed(first_problem(error)) from None
