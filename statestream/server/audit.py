"""Lines of the log about rights: who could not sign in, who was refused what, who erased something, whose rights were
revoked, who stopped the reply of a chat as an operator.

The logger is `statestream.audit`, at the level WARNING, so that its lines are written unless somebody turns them off.

Invariants: one line for each event. No line has a credential, or a part of one. `reason` is a word of our own.
"""

from __future__ import annotations

import logging
from typing import Final

from aiohttp import web

from statestream.server.access_log import route_of, sender_of
from statestream.server.log_line import Line, line

log = logging.getLogger("statestream.audit")

FAILED: Final = web.RequestKey("statestream_login_failed", bool)


def login_failed(request: web.Request, reason: str) -> None:
    """The credentials of a request were not accepted. The refusal that follows has no line of its own."""
    request[FAILED] = True
    log.warning(_about(request, "login_failed", reason))


def refused(request: web.Request, reason: str) -> None:
    """The sender of a request may not do what it asks for."""
    if FAILED not in request:
        log.warning(_about(request, "refused", reason))


def revoked(subject: str, *, by: str | None = None) -> None:
    """The rights of a subject were revoked. `by` is the subject who did that, if it was done by a request."""
    log.warning(line("revoked", subject=subject, by=by))


def erased(request: web.Request, family: str) -> None:
    """The sender of a request has erased an instance of a slice, whose key may be about a person."""
    log.warning(line("erased", slice=family, **sender_of(request)))


def run_stopped(request: web.Request, chat: str) -> None:
    """An operator has stopped the reply of a chat."""
    log.warning(line("run_stopped", chat=chat, **sender_of(request)))


def _about(request: web.Request, event: str, reason: str) -> Line:
    return line(event, reason=reason, method=request.method, route=route_of(request), **sender_of(request))
