"""Dispatching over HTTP, so that an action takes effect once, whatever happens to the connection.

Invariants: every request has an id, so it is safe to repeat. An error of the server is raised as the same class here.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import orjson

from statestream.core.change import Action, Position, Result
from statestream.core.errors import Malformed, Refused, StatestreamError, StreamRefused, Unavailable
from statestream.core.values import plain

ATTEMPTS: Final = 8
MAX_DELAY: Final = 5.0
BUSY: Final = (429, 502, 503, 504)
"""Statuses after which a retry may succeed. A proxy in between may send them as well, without our error codes."""
RESPONSE_SECONDS: Final = 30.0


async def dispatch(
    session: aiohttp.ClientSession,
    url: str,
    actions: Sequence[Action],
    *,
    id: str | None,
    expect: Mapping[str, int] | None,
) -> Result:
    """Raises what `Store.dispatch` raises, and Unavailable if no attempt was answered."""
    bodies = [_body_of(action) for action in actions]
    body = {**(bodies[0] if len(bodies) == 1 else {"actions": bodies}), "id": id or uuid.uuid4().hex}
    if expect:
        body["expect"] = dict(expect)
    encoded = orjson.dumps(body)
    for attempt in range(ATTEMPTS):
        result = await _post(session, url, encoded)
        if result is not None:
            return result
        await asyncio.sleep(min(MAX_DELAY, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311  # only spreads
    raise Unavailable(f"{url} did not answer in {ATTEMPTS} attempts; the outcome is unknown")


def _body_of(action: Action) -> dict[str, Any]:
    key = {} if action.key is None else {"key": action.key}
    return {"type": action.type, "payload": plain(action.payload), **key}


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> Result | None:
    """The result; None if a retry may succeed."""
    headers = {"Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=RESPONSE_SECONDS)
    try:
        async with session.post(
            f"{url}/dispatch", data=body, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            answer = await response.read()
            if response.status == 200:
                return _result(answer)
            error = _error_of(answer, response.status, response.headers.get("Location"))
            if error.retryable or response.status in BUSY:
                return None
            raise error
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


def _result(body: bytes) -> Result:
    try:
        answer = orjson.loads(body)
        return Result(
            id=answer["id"],
            position=Position.parse(answer["position"]),
            duplicate=answer["duplicate"],
            changes=tuple((change["slice"], change["version"]) for change in answer["changes"]),
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, Malformed):
        raise StreamRefused(
            "expected the answer of a statestream server, got something else; check the URL", reason="answer"
        ) from None


def detail_of(body: bytes) -> str:
    """The `detail` of a problem document, or the beginning of any other text."""
    with contextlib.suppress(orjson.JSONDecodeError, TypeError, KeyError):
        return str(orjson.loads(body)["detail"])
    return body[:200].decode(errors="replace")


def _error_of(body: bytes, status: int, location: str | None) -> StatestreamError:
    """The error that the server raised, from its problem document; StreamRefused for any other response."""
    try:
        problem = orjson.loads(body)
        code, detail = problem["code"], str(problem.get("detail", ""))
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        problem, code, detail = {}, "", location or detail_of(body)
    if code == Refused.code:
        return Refused(str(problem.get("reason", "")), detail)
    for kind in StatestreamError.__subclasses__():
        if kind.code == code and kind is not StreamRefused:
            return kind(detail)
    reason = str(code) or "refused"
    return StreamRefused(f"the server refused with status {status}: {detail}", reason=reason, status=status)
