"""How many actions an identity may dispatch per second.

Invariants: a request is refused before its body is read, and counted with all of its actions once they are known. Who
has no identity is not limited here: a proxy can limit addresses.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

from aiohttp import web

from statestream.core.allowances import Allowances
from statestream.core.errors import RateLimited
from statestream.server.limits import Limits
from statestream.server.request import identity_of

DISPATCHES: Final = web.AppKey("statestream_dispatches", Allowances)
"""Missing without a limit."""


def limit_dispatches(app: web.Application, limits: Limits) -> None:
    if limits.dispatches_per_second is not None:
        app[DISPATCHES] = Allowances(limits.dispatches_per_second, limits.dispatch_burst)


def admit(request: web.Request) -> None:
    """Counts one action of the sender. Raises RateLimited."""
    identity, allowances = identity_of(request), request.config_dict.get(DISPATCHES)
    if identity is None or allowances is None:
        return
    now = monotonic()
    if wait := allowances.wait(identity.subject, now):
        sentence = f"your login has dispatched too many actions; try again in {wait:.1f} s"
        raise RateLimited(sentence, limit="dispatches", retry_after=wait)
    allowances.spend(identity.subject, 1, now)


def charge(request: web.Request, actions: int) -> None:
    """Counts further actions of a request that was admitted."""
    identity, allowances = identity_of(request), request.config_dict.get(DISPATCHES)
    if identity is not None and allowances is not None:
        allowances.spend(identity.subject, actions, monotonic())
