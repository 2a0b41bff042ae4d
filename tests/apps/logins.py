"""An application that says who asks. AUTH is the expression of its authenticator."""

from __future__ import annotations

import os
from pathlib import Path  # noqa: F401 - for the expression

from aiohttp import web

from statestream import Identity, Slice, Store, create_app
from statestream.auth import JWT, AnyOf, ProxyHeader, Tokens
from statestream.server.request import identity_of
from statestream.server.routes import json_response


async def me(request: web.Request) -> web.Response:
    identity = identity_of(request)
    if identity is None:
        return json_response(None)
    known = {"subject": identity.subject, "roles": sorted(identity.roles), "claims": dict(identity.claims)}
    return json_response(known | {"expires": identity.expires})


NAMES = {"JWT": JWT, "AnyOf": AnyOf, "ProxyHeader": ProxyHeader, "Tokens": Tokens, "Identity": Identity, "Path": Path}
app = create_app(Store([Slice("board", initial={})]), auth=eval(os.environ["AUTH"], NAMES))
app.router.add_get("/me", me)
