"""The way from a command to a server: requests whose failures are sentences.

Invariants: errors of aiohttp never leave this module. Redirects are followed as the client does: with headers, to
the same origin only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiohttp

from statestream.client import redirects
from statestream.client.trouble import trouble
from statestream.core.errors import StreamRefused, Unavailable
from statestream.tools.console.options import shown_url
from statestream.tools.target import Target, refusal

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0


def session(target: Target) -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENCE_SECONDS)
    return aiohttp.ClientSession(headers=dict(target.headers), timeout=timeout)


@asynccontextmanager
async def driver_errors_explained(target: Target) -> AsyncIterator[None]:
    """Turns errors of aiohttp into Unavailable with a sentence."""
    where = shown_url(target)
    try:
        yield
    except aiohttp.ClientPayloadError:
        raise Unavailable(f"the response of {where} was cut off") from None
    except aiohttp.ClientConnectorError as error:
        raise Unavailable(f"expected a server at {where}, found none: {trouble(error)}") from None
    except TimeoutError:
        raise Unavailable(f"{where} did not answer in time") from None
    except aiohttp.ClientError as error:
        raise Unavailable(f"expected a statestream server at {where}, got none: {trouble(error)}") from None


async def reach(target: Target) -> None:
    """Raises Unavailable if no server listens there.

    Commands that retry call this first: a wrong URL is then reported at once instead of after all attempts.
    """
    where = shown_url(target)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(target.url.host, target.url.port)
    except TimeoutError:
        raise Unavailable(f"expected a server at {where}, found none within {CONNECT_SECONDS:.0f} s") from None
    except OSError as error:
        raise Unavailable(f"expected a server at {where}, found none: {trouble(error)}") from None
    writer.close()


@asynccontextmanager
async def get(target: Target, path: str, kind: str, query: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response to `GET path`, which must have the content type `kind`. Raises StreamRefused, Unavailable."""
    if target.slices is not None:
        query = {"slices": target.slices, **query}
    async with (
        driver_errors_explained(target),
        session(target) as http,
        redirects.request(http, "GET", target.route(path).with_query(query)) as response,
    ):
        if response.status != 200:
            raise await refusal(f"{path} from {shown_url(target)}", response)
        if response.content_type != kind:
            raise not_statestream(target)
        yield response


def not_statestream(target: Target) -> StreamRefused:
    return StreamRefused(
        f"expected a statestream server at {shown_url(target)}, another program answered", reason="answer"
    )
