"""What every request for the state has: on whose behalf it is made, which slices it selects, how much detail it wants.

A parameter that a route does not know is refused, because it is most likely misspelt.

Invariants: routes call `view_of` and never use the store. Who is behind a request was decided before, in
`authentication`.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.core.change import Position
from statestream.core.errors import Malformed
from statestream.core.principal import ANYBODY, Identity, Principal
from statestream.core.selection import Selection
from statestream.core.suggestions import instead, named
from statestream.store.store import Store
from statestream.store.view import StoreView

STORE: Final = web.AppKey("statestream_store", Store)
"""For assembling an application only."""
QUERY: Final = web.AppKey("statestream_query", set[str])
"""The parameters that the application's own code reads. Every route accepts them beside its own."""
MOUNT: Final = web.RequestKey("statestream_mount", str)
"""Where the application is mounted in the server of somebody else, who also frames the bodies of responses. Missing if
the server is aiohttp's."""
PRINCIPAL: Final = web.RequestKey("statestream_principal", Principal)
"""Who sent the request. Missing if the server does not authenticate."""


def view_of(request: web.Request) -> StoreView:
    """The store as the sender of a request may see it."""
    return request.config_dict[STORE].view(request.get(PRINCIPAL, ANYBODY))


def identity_of(request: web.Request) -> Identity | None:
    """The identity of the sender; None if there is none, or if the server does not authenticate."""
    principal: Principal = request.get(PRINCIPAL, ANYBODY)
    return principal.identity


def check_query(request: web.Request, *known: str) -> None:
    """Raises Malformed for a parameter that neither the route nor the application's own code reads."""
    if not request.query_string:
        return
    accepted = {*known, *request.config_dict.get(QUERY, ())}
    for name in request.query:
        if name not in accepted:
            raise Malformed(f"there is no query parameter{named(name)} here{instead(name, accepted, 'parameters')}")


def position_of(request: web.Request, parameter: str) -> Position | None:
    """The position that a parameter of the query names; None without it. Raises Malformed."""
    text = request.query.get(parameter)
    try:
        return None if text is None else Position.parse(text)
    except Malformed as error:
        raise Malformed(f"in `{parameter}`: {error}") from None


async def asked_of(request: web.Request, view: StoreView) -> Selection:
    """What the query's `slices` ask for. Raises Malformed, UnknownSlice, Unavailable."""
    asked = request.query.getall("slices", None)
    text = None if asked is None else ",".join(asked)
    return await view.complete(lambda: view.asked(text))


def wants_payloads(request: web.Request) -> bool:
    """The query's `cause`: whether causes contain payloads. Raises Malformed."""
    cause = request.query.get("cause", "brief")
    if cause not in ("brief", "full"):
        raise Malformed("expected cause=brief or cause=full")
    return cause == "full"
