"""What every request for the state has: on whose behalf it is made, which slices it selects, how much detail it wants.

Invariants: routes call `view_of` and never use the store. Who is behind a request is decided here: so far, everybody is
anybody.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from statestream.core.errors import Malformed
from statestream.core.principal import ANYBODY
from statestream.core.selection import Selection
from statestream.store.store import Store
from statestream.store.view import StoreView

STORE: Final = web.AppKey("statestream_store", Store)
"""For assembling an application only."""


def view_of(request: web.Request) -> StoreView:
    """The store as the sender of a request may see it."""
    return request.config_dict[STORE].view(ANYBODY)


def selection_of(request: web.Request, view: StoreView) -> Selection:
    """The selection of the query's `slices`. Raises Malformed, UnknownSlice."""
    asked = request.query.getall("slices", None)
    return view.selection(None if asked is None else ",".join(asked))


def wants_payloads(request: web.Request) -> bool:
    """The query's `cause`: whether causes contain payloads. Raises Malformed."""
    cause = request.query.get("cause", "brief")
    if cause not in ("brief", "full"):
        raise Malformed("expected cause=brief or cause=full")
    return cause == "full"
