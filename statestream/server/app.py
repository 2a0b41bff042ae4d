"""The application: a store behind its routes.

Invariants: assembly only. The application opens the store when it starts. When it shuts down, it ends the streams
first, so that no client waits for a timeout.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection
from typing import Any

from aiohttp import web

from statestream.broadcast.budget import Budget
from statestream.broadcast.hub import Hub
from statestream.broadcast.sessions import Sessions
from statestream.core.principal import SERVER
from statestream.core.selection import Selection
from statestream.core.values import check_settings
from statestream.server import access_log, cors, health, inspection, routes, stream
from statestream.server.asyncapi import ASYNCAPI
from statestream.server.authentication import AUTH, OPEN, SESSIONS, Authenticator, authenticating, entered
from statestream.server.bodies import MAX_BODY, PARSING
from statestream.server.contract import add_routes
from statestream.server.dispatch_rate import limit_dispatches
from statestream.server.health import VITALS
from statestream.server.hosts import HOSTS, allowed_hosts
from statestream.server.inspection import WEIGHING
from statestream.server.inspector import INSPECTOR, PAGE, Inspect, Inspector
from statestream.server.limits import HOUR_SECONDS, LIMITED, LIMITS, Limits, nothing_limited, per
from statestream.server.metrics import COUNTED, METRICS
from statestream.server.openapi import OPENAPI
from statestream.server.origin import ORIGINS, allowed_origins
from statestream.server.problems import OUTCOMES, problems, starting
from statestream.server.request import QUERY, STORE
from statestream.server.stream import HANDOFF, HUB, STREAM_OBSERVERS
from statestream.server.tickets import STREAMS, TICKET, TICKETS, Tickets, give_cookie
from statestream.server.transfer import BUDGET
from statestream.store.revocations import NAME as REVOCATIONS
from statestream.store.revocations import revocation_slice
from statestream.store.store import Store
from statestream.store.tickets import ticket_slice

log = logging.getLogger("statestream")


def create_app(
    store: Store,
    *,
    heartbeat: float = 15.0,
    max_subscribers: int = 10_000,
    max_body: int = 1 << 20,
    handoff: bool = True,
    query: Collection[str] = (),
    auth: Authenticator | None = None,
    origins: Collection[str] = (),
    hosts: Collection[str] | None = None,
    limits: Limits | None = None,
    inspect: Inspect = None,
) -> web.Application:
    """An application with `/stream/state`, `/dispatch`, `/state`, `/history`, `/metrics`, `/health`, `/openapi.json`,
    `/asyncapi.json` and `/inspect`.

    Serve it alone, or mount it with `add_subapp`. `heartbeat`: every stream sends something within so many seconds.
    `max_subscribers`: the number of streams at a time; further ones are ended with `busy`. `max_body`: the bytes of a
    request's body. `handoff`: whether streams take their sockets from aiohttp, if they can (plain TCP and Unix sockets
    on Linux). A stream then takes a tenth of the memory, but aiohttp's access log, middlewares and signals see its
    request end when the stream begins. `query`: the names of query parameters that your own code reads, such as the
    `token` of a login; the routes refuse any that they do not know. `auth` recognizes who sends a request; with it,
    slices that declare no rules are closed. `origins`: the other origins whose pages may use the server, such as
    `https://app.example.com`. `hosts`: the names under which the server may be addressed; None: all, but only its own
    if it listens on a loopback address. `limits`: what one identity or address may do. `inspect`:
    whether there is an inspector at `/inspect`, or a rule that says which identities may see its readers and weights;
    None: if the server listens on a loopback address.
    """
    _check(store, heartbeat=heartbeat, max_subscribers=max_subscribers, max_body=max_body, query=query)
    app = web.Application(middlewares=[problems] if auth is None else [problems, authenticating(auth)])
    app[STORE] = store
    app[QUERY], app[OUTCOMES], app[COUNTED] = set(query), Counter(), []
    app[BUDGET] = Budget()
    app[INSPECTOR], app[WEIGHING] = Inspector.of(inspect), asyncio.Lock()
    if auth is not None:
        store.declare(revocation_slice, ticket_slice)
    app[LIMITS] = limits = _checked(limits)
    app[LIMITED] = nothing_limited()
    limit_dispatches(app, limits)
    store.view(SERVER).limit_creations(per(limits.instances_per_hour, HOUR_SECONDS))
    app[SESSIONS] = sessions = Sessions(
        store.view(SERVER), per_identity=limits.streams_per_identity, per_address=limits.streams_per_address
    )
    app[HUB] = Hub(
        store.view(SERVER),
        app[BUDGET],
        sessions,
        heartbeat=heartbeat,
        max_subscribers=max_subscribers,
        max_age=limits.stream_seconds,
    )
    app[VITALS], app[OPEN] = store.view(SERVER).vitals, {health.live, health.ready, *(each.handler for each in PAGE)}
    app[MAX_BODY] = max_body
    app[PARSING] = asyncio.Lock()
    app[HANDOFF] = handoff
    app[ORIGINS] = allowed_origins(origins)
    if hosts is not None:
        app[HOSTS] = allowed_hosts(hosts)
    app[STREAM_OBSERVERS] = []
    add_routes(app, [stream.STREAM, *routes.ROUTES, METRICS, *health.ROUTES, OPENAPI, ASYNCAPI])
    if app[INSPECTOR].on is not False:
        add_routes(app, [*PAGE, *inspection.ROUTES])
    app.on_response_prepare.append(starting)
    if origins:
        app.on_response_prepare.append(cors.share)
    if auth is not None:
        app[AUTH], app[TICKETS], app[STREAMS] = auth, Tickets(store.view(SERVER)), {stream.stream_state}
        add_routes(app, [TICKET])
        app.on_response_prepare.append(give_cookie)
        app.cleanup_ctx.append(_authenticator)
    app.cleanup_ctx.append(_running)
    app.on_shutdown.append(_end_streams)
    return app


def _check(store: Any, *, heartbeat: float, max_subscribers: int, max_body: int, query: Collection[str]) -> None:
    """Raises TypeError and ValueError for arguments that would fail later, at the first request."""
    if not isinstance(store, Store):
        what = f"the class {store.__name__}" if isinstance(store, type) else type(store).__name__
        raise TypeError(f"expected a store, as in create_app(Store([board])), got {what}")
    if isinstance(query, str):
        raise TypeError(f'expected `query` to be a list of names, such as ["{query}"], got one text')
    check_settings(heartbeat=heartbeat, max_subscribers=max_subscribers, max_body=max_body)


def _checked(limits: Any) -> Limits:
    """The limits, or those without a setting. Raises TypeError for anything else."""
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"expected `limits` to be Limits(streams_per_identity=…), got {type(limits).__name__}")
    return limits or Limits()


async def _authenticator(app: web.Application) -> AsyncIterator[None]:
    closed = app[STORE].view(SERVER).closed
    if closed:
        log.warning(
            "no client can see or change these slices, because the server authenticates and they have no rules: %s; "
            "pass read=… and dispatch=… to Slice, or hidden=True for state of the server's own",
            ", ".join(closed),
        )
    async with entered(app[AUTH]):
        yield


async def _running(app: web.Application) -> AsyncIterator[None]:
    view = app[STORE].view(SERVER)
    async with app[STORE], view.holding(Selection.family(REVOCATIONS)):  # asked by code that cannot wait
        hub = asyncio.create_task(app[HUB].run())
        unsubscribe = view.subscribe(app[SESSIONS])
        app[VITALS].tasks.append(hub)
        if access_log.is_on():
            app[HUB].sockets.count_bytes()
        try:
            yield
        finally:
            unsubscribe()
            app[SESSIONS].stop()
            hub.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hub


async def _end_streams(app: web.Application) -> None:
    await app[HUB].close()
