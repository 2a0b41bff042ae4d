"""An application that says who asks. AUTH is the expression of its authenticator.

JWKS has other limits for fetches. LOG is the level of what is logged.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from statestream import Identity, Slice, Store, create_app
from statestream.auth import JWT, AnyOf, ProxyHeader, Tokens, jwks, signed_in
from statestream.browser import client_handler
from statestream.server.request import identity_of
from statestream.server.routes import json_response

board = Slice("board", initial={"count": 0}, read=signed_in, dispatch=signed_in)


@board.action
def counted(state: Any, *, by: int = 1) -> None:
    state["count"] += by


async def me(request: web.Request) -> web.Response:
    identity = identity_of(request)
    if identity is None:
        return json_response(None)
    known = {"subject": identity.subject, "roles": sorted(identity.roles), "claims": dict(identity.claims)}
    return json_response(known | {"expires": identity.expires})


async def page(request: web.Request) -> web.Response:
    """An empty page, in which a test runs its own scripts."""
    text = "<!doctype html><link rel=icon href=data:,><title>logins</title>"
    return web.Response(text=text, content_type="text/html")


logging.basicConfig(level=os.environ.get("LOG", "WARNING"), format="%(message)s")
vars(jwks).update(json.loads(os.environ.get("JWKS", "{}")))
NAMES = {"JWT": JWT, "AnyOf": AnyOf, "ProxyHeader": ProxyHeader, "Tokens": Tokens, "Identity": Identity, "Path": Path}
app = create_app(Store([board]), auth=eval(os.environ["AUTH"], NAMES))
app.router.add_get("/me", me)
app.router.add_get("/", page)
app.router.add_get("/js/{name}", client_handler())
