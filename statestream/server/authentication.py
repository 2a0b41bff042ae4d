"""Who sent a request, before a route sees it.

An authenticator is a function of the request, so that an application can use the sessions that it has.
`statestream.auth` has authenticators for tokens and for proxies.

Invariants: with an authenticator, no route but a health check runs before it has answered. Somebody without an identity
who is refused anything is asked to sign in instead, whether or not what they asked for exists. A failed login is one
line of the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from statestream.broadcast.sessions import Session, Sessions
from statestream.core.errors import Forbidden, NotFound, Unauthenticated, UnknownAction, UnknownSlice
from statestream.core.functions import kind_of
from statestream.core.principal import Identity, Principal
from statestream.server import audit
from statestream.server.peer import network_of
from statestream.server.request import PRINCIPAL
from statestream.server.subapps import serving
from statestream.server.tickets import identity_of_cookie

Authenticator = Callable[[web.Request], Awaitable[Identity | None]]
"""Returns who sent a request; None if it has no credentials. Raises Unauthenticated for credentials that are wrong.

It is an async function, or an object with an async `__call__`. If the object is an async context manager as well, the
application enters it when it starts, and leaves it when it has stopped. `credential_headers` of the object are the
headers with credentials, for the documents about the routes.
"""

AUTH: Final = web.AppKey("statestream_auth", object)
SESSIONS: Final = web.AppKey("statestream_sessions", Sessions)
SESSION: Final = web.RequestKey("statestream_session", Session)
"""Of a sender with an identity. A route may replace what its `end` does, which cuts the connection."""
OPEN: Final = web.AppKey("statestream_open", Collection[Handler])
"""The routes that answer anybody."""
SIGN_IN: Final = "this needs credentials: send them as `Authorization: Bearer …`, or sign in"


def authenticating(auth: Authenticator) -> Middleware:
    """The middleware that asks an authenticator. Raises TypeError for anything else."""
    check_authenticator(auth)

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        config = request.config_dict
        if request.match_info.handler in config[OPEN]:
            return await handler(request)
        sessions = config[SESSIONS]
        try:
            identity = await _recognized(request, auth, sessions)
        except Unauthenticated as error:
            audit.login_failed(request, error.kind)
            raise
        request[PRINCIPAL] = Principal(identity=identity, closed=True)
        if identity is not None:
            return await _as(identity, request, handler, sessions)
        try:
            return await handler(request)
        except (Forbidden, NotFound, UnknownAction, UnknownSlice):
            raise Unauthenticated(SIGN_IN) from None

    return authenticate


async def _recognized(request: web.Request, auth: Authenticator, sessions: Sessions) -> Identity | None:
    """What the authenticator returns, or else who has the cookie of a ticket.

    Raises Unauthenticated also if that is not valid any more, and TypeError.
    """
    found: Any = await auth(request)
    if found is None:
        found = await identity_of_cookie(request)
    if found is None:
        return None
    if not isinstance(found, Identity):
        name = getattr(auth, "__qualname__", type(auth).__qualname__)
        raise TypeError(f"expected an Identity or None from {name}, got {type(found).__name__}")
    why_not = sessions.why_not(found)
    if why_not is not None:
        raise Unauthenticated(
            f"the credentials {'have expired' if why_not == 'expired' else 'were revoked'}", kind=why_not
        )
    return found


async def _as(identity: Identity, request: web.Request, handler: Handler, sessions: Sessions) -> web.StreamResponse:
    """Handles a request for as long as the credentials of its sender are valid."""
    task = asyncio.current_task()
    session = sessions.open(identity, lambda _: abort(request, task))
    request[SESSION] = session
    try:
        return await handler(request)
    finally:
        if request.get(SESSION) is session:  # otherwise a stream has it
            sessions.close(session)


def hold(request: web.Request) -> Session | None:
    """Counts a stream or WebSocket that begins, for its sender and their address. Raises TooManyStreams.

    Returns the session to close at its end; None if nothing is counted.
    """
    sessions = request.config_dict[SESSIONS]
    session = sessions.hold(request.get(SESSION), network_of(request) if sessions.counts_addresses else None)
    if session is not None:
        request[SESSION] = session
    return session


@contextmanager
def held(request: web.Request) -> Iterator[None]:
    """Holds a stream or WebSocket for as long as the context lasts. Raises TooManyStreams."""
    session = hold(request)
    try:
        yield
    finally:
        if session is not None:
            request.config_dict[SESSIONS].close(session)


def abort(request: web.Request, task: asyncio.Task[Any] | None) -> None:
    """Ends the connection of a request that is still being answered."""
    if request.transport is not None:
        request.transport.abort()
    if task is not None:
        task.cancel()


def check_authenticator(auth: Any) -> None:
    """Raises TypeError for anything that is not an authenticator."""
    if isinstance(auth, type):
        raise TypeError(f"expected an authenticator, got the class {auth.__name__}; make an object of it")
    if not callable(auth):
        raise TypeError(f"expected an authenticator, got {type(auth).__name__}")
    if (kind := kind_of(auth)) != "coroutine function":
        raise TypeError(f"expected an authenticator, which is an async function of a request, got a plain {kind}")


def credential_headers(auth: object) -> Sequence[str]:
    """The headers in which an authenticator looks for credentials, if it says so."""
    found: Sequence[str] = getattr(auth, "credential_headers", ("Authorization",))
    return found


@asynccontextmanager
async def entered(auth: object) -> AsyncIterator[None]:
    """Enters an authenticator that is an async context manager."""
    if isinstance(auth, AbstractAsyncContextManager):
        async with auth:
            yield
    else:
        yield


def authenticates(app: web.Application) -> bool:
    """Whether an application serves a store, and each store that it serves has an authenticator."""
    apps = serving(app)
    return bool(apps) and all(AUTH in each for each in apps)
