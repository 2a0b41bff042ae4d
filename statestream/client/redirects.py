"""A request to a server, and its redirects, which are followed as far as that is safe.

Invariants: a returned response is never a redirect. There are at most MAX_REDIRECTS. A request with a token, or with
headers of the program, each of which may be a credential, stays at its origin; no request goes from https to http. A
redirect that is not followed raises StreamRefused, which names the target without the query.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from statestream.core.errors import StreamRefused, Unavailable

REDIRECTS: Final = (301, 302, 303, 307, 308)
SEE_OTHER: Final = 303
MAX_REDIRECTS: Final = 10
SHOWN_CHARACTERS: Final = 200


@asynccontextmanager
async def request(
    session: aiohttp.ClientSession,
    method: str,
    url: URL | str,
    *,
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
) -> AsyncIterator[aiohttp.ClientResponse]:
    """The response to the request, which is sent again to wherever the server redirects it.

    The method stays the same, except that 303 asks for a GET. Raises StreamRefused, errors of aiohttp, and Unavailable
    if the target of a redirect does not answer.
    """
    first = target = URL(url)
    has_credentials = bool(session.headers) or "Authorization" in (headers or {})
    for _ in range(MAX_REDIRECTS + 1):
        try:
            answer = await session.request(method, target, headers=headers, data=data, allow_redirects=False)
        except (aiohttp.ClientError, OSError) as error:
            if target == first:
                raise
            raise Unavailable(f"{_shown(first)} redirects to {_shown(target)}, which fails: {error}") from None
        async with answer as response:
            if response.status not in REDIRECTS:
                yield response
                return
            target = _next(response, has_credentials=has_credentials)
            if response.status == SEE_OTHER:
                method, data = "GET", None
    raise _refused(response, target, f"there were more than {MAX_REDIRECTS} redirects in a row")


def _next(response: aiohttp.ClientResponse, *, has_credentials: bool) -> URL:
    """Where the redirect leads. Raises StreamRefused if it must not be followed."""
    location = response.headers.get("Location", "")
    if not location:
        raise _refused(response, None, "its Location is missing or empty")
    try:
        target = response.url.join(URL(location)).with_fragment(None)
        origin = target.origin()  # raises ValueError without a host
    except ValueError:
        raise _refused(response, None, "its Location is not a URL") from None
    if target.scheme not in ("http", "https"):
        raise _refused(response, target, "only http and https are followed")
    if target.user is not None or target.password is not None:
        raise _refused(response, target, "its Location contains a login")
    if response.url.scheme == "https" and target.scheme == "http":
        raise _refused(response, target, "it leads from https to http")
    if has_credentials and origin != response.url.origin():
        raise _refused(response, target, "the headers of this client are for the first server only; use the new URL")
    return target


def _refused(response: aiohttp.ClientResponse, target: URL | None, why: str) -> StreamRefused:
    where = "" if target is None else f": {_shown(target)}"
    return StreamRefused(
        f"{_shown(response.url)} redirects with status {response.status}{where}, which is not followed: {why}",
        reason="refused",
        status=response.status,
    )


def _shown(url: URL) -> str:
    shown = str(url.with_user(None).with_query(None)) if url.host else url.scheme
    return shown[:SHOWN_CHARACTERS]
