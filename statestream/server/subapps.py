"""The applications within an application, some of which serve a store.

Invariants: an application is among them before it is frozen and after.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from statestream.server.request import STORE


def serving(app: web.Application) -> list[web.Application]:
    """Those that serve a store: the application itself, or what is mounted in it."""
    return [each for each in _all(app) if STORE in each]


def _all(app: web.Application) -> Iterator[web.Application]:
    yield app
    for resource in app.router.resources():
        inner = resource.get_info().get("app")
        if inner is not None:
            yield from _all(inner)
