"""Dispatching over HTTP, so that an action takes effect once, whatever happens to the connection.

Invariants: every request has an id, so it is safe to repeat. An error of the server is raised as the same class here.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import orjson

from statestream.client.refusals import TEMPORARY, explained
from statestream.client.token import Token
from statestream.core.change import Action, Result
from statestream.core.errors import Refused, StatestreamError, StreamRefused, Unavailable
from statestream.core.values import plain

ATTEMPTS: Final = 8
MAX_DELAY: Final = 5.0
BUSY: Final = (*TEMPORARY, 502, 503, 504)
"""Statuses after which a retry may succeed. A proxy in between may send them as well, without our error codes."""
RESPONSE_SECONDS: Final = 30.0


async def dispatch(
    session: aiohttp.ClientSession,
    url: str,
    actions: Sequence[Action],
    *,
    id: str | None,
    expect: Mapping[str, int] | None,
    token: Token,
) -> Result:
    """Raises what `Store.dispatch` raises, and Unavailable if no attempt was answered.

    If the first attempt is redirected to an address where nobody answers, it raises Unavailable at once: the redirect
    may be wrong.
    """
    bodies = [_body_of(action) for action in actions]
    body = {**(bodies[0] if len(bodies) == 1 else {"actions": bodies}), "id": id or uuid.uuid4().hex}
    if expect:
        body["expect"] = dict(expect)
    encoded = orjson.dumps(body)
    for attempt in range(ATTEMPTS):
        if session.closed:
            outcome = "the outcome is unknown" if attempt else "nothing was sent"
            raise Unavailable(f"the stream was closed; {outcome}")
        try:
            result = await _post(session, url, encoded, token)
        except Unavailable:
            if attempt == 0:
                raise
            result = None
        if result is not None:
            return result
        await asyncio.sleep(min(MAX_DELAY, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311  # only spreads
    raise Unavailable(f"{url} did not answer in {ATTEMPTS} attempts; the outcome is unknown")


def _body_of(action: Action) -> dict[str, Any]:
    key = {} if action.key is None else {"key": action.key}
    return {"type": action.type, "payload": plain(action.payload), **key}


async def _post(session: aiohttp.ClientSession, url: str, body: bytes, token: Token) -> Result | None:
    """The result; None if a retry may succeed. Raises Unavailable if the target of a redirect does not answer."""
    headers = {"Content-Type": "application/json"}
    try:
        async with (
            asyncio.timeout(RESPONSE_SECONDS),
            token.request(session, "POST", f"{url}/dispatch", headers=headers, data=body) as response,
        ):
            answer = await response.read()
            if response.status == 200:
                return _result(answer)
            error = _error_of(answer, response.status)
            if error.retryable or response.status in BUSY:
                return None
            raise error
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _result(body: bytes) -> Result:
    """The position stays text: to a client it is opaque."""
    try:
        answer = orjson.loads(body)
        return Result(
            id=answer["id"],
            position=str(answer["position"]),
            duplicate=answer["duplicate"],
            changes=tuple((change["slice"], change["version"]) for change in answer["changes"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise StreamRefused(
            "expected the answer of a statestream server, got something else; check the URL", reason="answer"
        ) from None


def _error_of(body: bytes, status: int) -> StatestreamError:
    """The error that the server raised, from its problem document; StreamRefused for any other response."""
    try:
        problem = orjson.loads(body)
        code, detail = problem["code"], str(problem.get("detail", ""))
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        problem, (code, detail) = {}, explained(body)
    if code == Refused.code:
        return Refused(str(problem.get("reason", "")), detail)
    for kind in StatestreamError.__subclasses__():
        if kind.code == code and kind is not StreamRefused:
            return kind(detail)
    return StreamRefused(f"the server refused with status {status}: {detail}", reason=str(code), status=status)
