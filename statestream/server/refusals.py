"""The errors with which a route can answer, as responses of a document.

Invariants: statuses, codes and what they mean come from the classes of the errors. What every route can answer is
decided here, what only some routes can answer beside the routes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from msgspec import Struct

from statestream.core.errors import (
    ForbiddenOrigin,
    Malformed,
    Misdirected,
    NotFound,
    Refused,
    StatestreamError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from statestream.server.contract import Route, Schema
from statestream.server.schemas import Schemas, reference

PROBLEM: Final[Schema] = {
    "type": "object",
    "description": "An error, by RFC 9457.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For programs."},
        "detail": {"type": "string", "description": "For people: what is wrong, and what to do."},
    },
}
REASON: Final[Schema] = {"reason": {"type": "string", "description": "The code that the handler gave."}}
RETRY_AFTER: Final[Schema] = {
    "Retry-After": {"description": "The seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}
AUTHENTICATE: Final[Schema] = {
    "WWW-Authenticate": {"description": "The scheme of the credentials.", "schema": {"type": "string"}}
}


class Refusal(Struct, frozen=True, kw_only=True):
    """One way in which a request can be refused: what a problem says of it."""

    status: int
    code: str
    sentence: str
    retryable: bool = False

    @classmethod
    def of(cls, kind: type[StatestreamError]) -> Refusal:
        sentence = " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
        return cls(status=kind.status, code=kind.code, sentence=sentence, retryable=kind.retryable)


OF_HTTP: Final = (
    Refusal(status=405, code="method_not_allowed", sentence="The route does not take this method; `Allow` has those."),
    Refusal(status=408, code="request_timeout", sentence="The head of the request did not arrive in time."),
    Refusal(status=500, code="internal", sentence="The server has a bug; its log has the details."),
)
"""What no class of errors stands for."""
OUTSIDE: Final = {each.code for each in OF_HTTP} | {
    kind.code for kind in (ForbiddenOrigin, Misdirected, Unauthenticated)
}
"""The codes of refusals in which no route has a part."""
EVERYWHERE: Final[tuple[type[StatestreamError], ...]] = (Malformed, NotFound, Misdirected, Unavailable)
OF_BODIES: Final[tuple[type[StatestreamError], ...]] = (TooLarge, UnsupportedMediaType)


def refusals(route: Route, *, authenticates: bool) -> list[Refusal]:
    """All refusals of a route, by status and code. `authenticates`: whether the application has an authenticator."""
    kinds = {*EVERYWHERE, *route.contract.errors}
    if route.contract.body is not None:
        kinds.update(OF_BODIES)
    if route.changes:
        kinds.add(ForbiddenOrigin)
    if authenticates and route.contract.access != "open":
        kinds.add(Unauthenticated)
    found = {(each.status, each.code): each for each in (*OF_HTTP, *map(Refusal.of, kinds))}
    return [found[place] for place in sorted(found)]


def responses(found: Iterable[Refusal], schemas: Schemas, *, sentences: bool) -> Schema:
    """The refusals as responses by status. `sentences`: the route's own are plain text."""
    schemas.add("Problem", PROBLEM)
    by_status: dict[int, list[Refusal]] = {}
    for each in found:
        by_status.setdefault(each.status, []).append(each)
    return {str(status): _response(each, schemas, sentences=sentences) for status, each in by_status.items()}


def _response(found: list[Refusal], schemas: Schemas, *, sentences: bool) -> Schema:
    problems = [_problem(each, schemas) for each in found]
    content: Schema = {"application/problem+json": {"schema": problems[0] if len(found) == 1 else {"anyOf": problems}}}
    if sentences and not {each.code for each in found} <= OUTSIDE:
        content["text/plain"] = {"schema": {"type": "string"}}
    description = " ".join(f"`{each.code}`: {each.sentence}" for each in found)
    return {"description": description, **_headers(found), "content": content}


def _headers(found: list[Refusal]) -> Schema:
    if found[0].status == HTTPStatus.UNAUTHORIZED:
        return {"headers": AUTHENTICATE}
    return {"headers": RETRY_AFTER} if any(each.retryable for each in found) else {}


def _problem(refusal: Refusal, schemas: Schemas) -> Schema:
    """The problem of one code."""
    properties: dict[str, Any] = {
        "title": {"const": HTTPStatus(refusal.status).phrase},
        "status": {"const": refusal.status},
        "code": {"const": refusal.code},
    }
    required: Schema = {}
    if refusal.code == Refused.code:
        properties, required = properties | REASON, {"required": ["reason"]}
    problem = {"description": refusal.sentence, "allOf": [reference("Problem")], "properties": properties, **required}
    return schemas.add(f"Problem.{refusal.code}", problem)
