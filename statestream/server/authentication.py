"""Who sent a request, before a route sees it.

An authenticator is a function of the request, so that an application can use the sessions that it has.
`statestream.auth` has authenticators for tokens and for proxies.

Invariants: with an authenticator, no route but a health check runs before it has answered. Somebody without an identity
who is refused anything is asked to sign in instead, whether or not what they asked for exists.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from statestream.broadcast.sessions import Session, Sessions
from statestream.core.errors import Forbidden, NotFound, Unauthenticated, UnknownAction, UnknownSlice
from statestream.core.principal import Identity, Principal
from statestream.server.request import PRINCIPAL

Authenticator = Callable[[web.Request], Awaitable[Identity | None]]
"""Returns who sent a request; None if it has no credentials. Raises Unauthenticated for credentials that are wrong."""

SESSIONS: Final = web.AppKey("statestream_sessions", Sessions)
SESSION: Final = web.RequestKey("statestream_session", Session)
"""Of a sender with an identity. A route may replace what its `end` does, which cuts the connection."""
OPEN: Final = web.AppKey("statestream_open", Collection[Handler])
"""The routes that answer anybody."""
SIGN_IN: Final = "this needs credentials: send them as `Authorization: Bearer …`, or sign in"


def authenticating(auth: Authenticator) -> Middleware:
    """The middleware that asks an authenticator. Raises TypeError for anything else."""
    if not callable(auth):
        raise TypeError(f"expected `auth` to be an authenticator, got {type(auth).__name__}")

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.match_info.handler in request.config_dict[OPEN]:
            return await handler(request)
        identity = _checked(await auth(request), auth)
        request[PRINCIPAL] = Principal(identity=identity, closed=True)
        if identity is not None:
            return await _as(identity, request, handler)
        try:
            return await handler(request)
        except (Forbidden, NotFound, UnknownAction, UnknownSlice):
            raise Unauthenticated(SIGN_IN) from None

    return authenticate


async def _as(identity: Identity, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handles a request for as long as the credentials of its sender are valid."""
    sessions, task = request.config_dict[SESSIONS], asyncio.current_task()
    why_not = sessions.why_not(identity)
    if why_not is not None:
        raise Unauthenticated(f"the credentials {'have expired' if why_not == 'expired' else 'were revoked'}")
    session = sessions.open(identity, lambda _: abort(request, task))
    request[SESSION] = session
    try:
        return await handler(request)
    finally:
        sessions.close(session)


def abort(request: web.Request, task: asyncio.Task[Any] | None) -> None:
    """Ends the connection of a request that is still being answered."""
    if request.transport is not None:
        request.transport.abort()
    if task is not None:
        task.cancel()


def _checked(found: Any, auth: Authenticator) -> Identity | None:
    if found is None or isinstance(found, Identity):
        return found
    name = getattr(auth, "__qualname__", type(auth).__qualname__)
    raise TypeError(f"expected an Identity or None from {name}, got {type(found).__name__}")
