"""An authenticator for tests: the token is the identity itself, `ann:editor,viewer`, percent-encoded."""

from __future__ import annotations

from urllib.parse import unquote

from aiohttp import web

from statestream import Identity


async def auth(request: web.Request) -> Identity | None:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer":
        return None
    subject, _, roles = unquote(token).partition(":")
    return Identity(subject=subject, roles=[each for each in roles.split(",") if each])
