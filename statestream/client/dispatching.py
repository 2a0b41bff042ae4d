"""Dispatching over HTTP so that it happens once, whatever becomes of the connection.

Invariants: a request always has an id, so trying again is safe; what the server refused is raised as the error that
it was there.
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

TRIES: Final = 8
BUSY: Final = (429, 502, 503, 504)  # also said by what stands in between
ANSWER_SECONDS: Final = 30.0


async def dispatch(
    session: aiohttp.ClientSession,
    url: str,
    actions: Sequence[Action],
    *,
    id: str | None,
    expect: Mapping[str, int] | None,
) -> Result:
    """Raises what `Store.dispatch` raises, and Unavailable when trying again has not helped."""
    said = [_said(action) for action in actions]
    body = {**(said[0] if len(said) == 1 else {"actions": said}), "id": id or uuid.uuid4().hex}
    if expect:
        body["expect"] = dict(expect)
    encoded = orjson.dumps(body)
    for attempt in range(TRIES):
        answer = await _post(session, url, encoded)
        if answer is not None:
            return answer
        await asyncio.sleep(min(5.0, 0.1 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311
    raise Unavailable(f"expected an answer from {url}, got none in {TRIES} tries; the outcome is unknown")


def _said(action: Action) -> dict[str, Any]:
    key = {} if action.key is None else {"key": action.key}
    return {"type": action.type, "payload": plain(action.payload), **key}


async def _post(session: aiohttp.ClientSession, url: str, body: bytes) -> Result | None:
    """The answer, or None where trying again may help."""
    headers = {"Content-Type": "application/json"}
    limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with session.post(
            f"{url}/dispatch", data=body, headers=headers, timeout=limit, allow_redirects=False
        ) as response:
            answer = await response.read()
            if response.status == 200:
                return _result(answer)
            error = _from_problem(answer, response.status, response.headers.get("Location"))
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
            "expected a dispatch's answer, got something else; is this the right URL?", reason="answer"
        ) from None


def detail_of(body: bytes) -> str:
    """The sentence of a problem, or the beginning of whatever else it is."""
    with contextlib.suppress(orjson.JSONDecodeError, TypeError, KeyError):
        return str(orjson.loads(body)["detail"])
    return body[:200].decode(errors="replace")


def _from_problem(body: bytes, status: int, location: str | None) -> StatestreamError:
    """The error that the server raised, from its problem; what somebody in between says is StreamRefused."""
    try:
        answer = orjson.loads(body)
        code, detail = answer["code"], str(answer.get("detail", ""))
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
        answer, code, detail = {}, "", location or detail_of(body)
    if code == Refused.code:
        return Refused(str(answer.get("reason", "")), detail)
    for kind in StatestreamError.__subclasses__():
        if kind.code == code and kind is not StreamRefused:
            return kind(detail)
    reason = str(code) or "refused"
    return StreamRefused(f"the server refused with status {status}: {detail}", reason=reason, status=status)
