"""An unexpected response: whether to try again, and the server's explanation.

Invariants: the explanation of a refusal is informative only. Whether or not the body can be read, the status decides.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import aiohttp
import orjson

TEMPORARY: Final = (408, 425, 429)
"""Statuses below 500 after which a retry may succeed."""
REFUSED: Final = "refused"
"""The reason where the response has no code of the protocol."""
MAX_BYTES: Final = 4096
EXPLANATION_SECONDS: Final = 3.0
SHOWN_CHARACTERS: Final = 200


async def beginning_of(response: aiohttp.ClientResponse) -> bytes:
    """The part of the body that arrives in time, up to MAX_BYTES."""
    body = b""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(EXPLANATION_SECONDS):
            while len(body) < MAX_BYTES and (chunk := await response.content.read(MAX_BYTES - len(body))):
                body += chunk
    return body


def explained(body: bytes) -> tuple[str, str]:
    """The code and the detail of a problem document; REFUSED and the beginning of any other text, but not of a page."""
    problem: Any = None
    with contextlib.suppress(orjson.JSONDecodeError):
        problem = orjson.loads(body)
    if isinstance(problem, dict) and "detail" in problem:
        return str(problem.get("code", REFUSED)), str(problem["detail"])
    text = body[:SHOWN_CHARACTERS].decode(errors="replace")
    return REFUSED, "another program answered; check the URL" if "<" in text else text
