"""The server that is checked, and how it is asked: requests, dispatches, streams.

Invariants: how, never what for: no promise is checked here. Every wait has a limit, and to exceed it is a Violation.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import aiohttp
import orjson
from msgspec import Struct
from msgspec.structs import replace
from yarl import URL

from statestream.client.refusals import beginning_of
from statestream.core.errors import StreamRefused, Unavailable
from statestream.tools.conformance.servers.stream_under_test import PATIENCE, StreamUnderTest
from statestream.tools.conformance.strict_replica import StrictReplica, seq_of
from statestream.tools.conformance.violation import Violation, expect
from statestream.tools.target import Target
from statestream.tools.template import ActionTemplate

JSON: Final = {"Content-Type": "application/json"}
SHOWN_BYTES: Final = 200


class ResponseUnderTest(Struct, frozen=True, kw_only=True):
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Raises Violation if the body is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Violation(f"expected JSON with status {self.status}, got {self.body[:80]!r}") from None

    def kind(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip()

    def shown(self) -> str:
        return f"status {self.status}: {self.body[:SHOWN_BYTES].decode(errors='replace')}"


class ServerUnderTest:
    """`run` is the prefix of this run's ids. `target.slices` are the slices that the checks' streams follow."""

    def __init__(self, target: Target, template: ActionTemplate, run: str) -> None:
        self.target, self.template, self.run = target, template, run
        self._number = 0
        headers = dict(target.headers)
        self._http_1_0 = aiohttp.ClientSession(version=aiohttp.HttpVersion10, headers=headers, **_settings())
        self._session = aiohttp.ClientSession(headers=headers, **_settings())
        self._anonymous = aiohttp.ClientSession(**_settings())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._http_1_0.close()
        await self._anonymous.close()

    async def begin(self) -> None:
        """Dispatches once. Unless slices were given, follows from now on what that changed.

        Raises StreamRefused if there is nothing to check with, and Unavailable.
        """
        try:
            response = await self.dispatch(self.action())
        except Violation as violation:
            raise Unavailable(f"expected a server at {self.target.url}: {violation}") from None
        names = _changed_slices(response)
        if not names:
            message = f"expected {self.template.type} to change something, got {response.shown()}"
            raise StreamRefused(message, reason="refused", status=response.status)
        if self.target.slices is None:
            families = {f"{name.partition('/')[0]}/*" if "/" in name else name for name in names}
            self.target = replace(self.target, slices=",".join(sorted(families)))

    # requests

    def url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        """The URL of a request. One that reads has `slices` in its query, unless `query` has another."""
        chosen = {} if path in ("dispatch", "tickets") else {"slices": self.target.slices or "*"}
        return self.target.route(path).with_query(chosen | dict(query or {}))

    async def request(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, http_1_0: bool = False, **more: Any
    ) -> ResponseUnderTest:
        session = self._http_1_0 if http_1_0 else self._session
        return await self._asked(session, method, path, self.url(path, query), **more)

    async def anonymous(
        self, method: str, path: str, headers: Mapping[str, str], body: Any = None
    ) -> ResponseUnderTest:
        """The response to a request with these headers only, without the run's credentials."""
        data = None if body is None else orjson.dumps(body)
        return await self._asked(self._anonymous, method, path, self.url(path), headers=headers, data=data)

    async def opened(self, headers: Mapping[str, str]) -> ResponseUnderTest:
        """The head of the response to a request for a stream with these headers only. The stream is closed again."""
        url = self.url("stream/state")
        return await self._asked(self._anonymous, "GET", "stream/state", url, head_only=True, headers=headers)

    async def _asked(
        self,
        session: aiohttp.ClientSession,
        method: str,
        path: str,
        url: URL,
        *,
        head_only: bool = False,
        **more: Any,
    ) -> ResponseUnderTest:
        what = f"{method} /{path}"
        try:
            async with asyncio.timeout(PATIENCE):
                async with session.request(method, url, allow_redirects=False, **more) as response:
                    body = b"" if head_only else await response.read()
                    return ResponseUnderTest(status=response.status, headers=response.headers, body=body)
        except TimeoutError:
            raise Violation(f"expected a response to {what} within {PATIENCE:.0f} s, got none") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Violation(f"expected a response to {what}, got none: {error}") from None

    async def get(self, path: str, query: Mapping[str, str] | None = None, **more: Any) -> ResponseUnderTest:
        return await self.request("GET", path, query, **more)

    # dispatching

    def action(self) -> dict[str, Any]:
        """The next action, with an id of its own."""
        self._number += 1
        body: dict[str, Any] = orjson.loads(self.template.body(self.run, self._number))
        return body

    async def dispatch(self, body: Any, headers: Mapping[str, str] = JSON) -> ResponseUnderTest:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.request("POST", "dispatch", {}, data=data, headers=headers)

    async def act(self) -> Any:
        """Dispatches the next action and returns the answer to it. Raises Violation if it is refused."""
        response = await self.dispatch(self.action())
        expect(response.status == 200, f"expected a dispatch to be accepted, got {response.shown()}")
        return response.json

    async def write(self, count: int, at_once: int = 1) -> list[Any]:
        """Dispatches `count` actions and returns the answers, in the order of their positions."""
        left = iter(range(count))

        async def work() -> list[Any]:
            return [await self.act() for _ in left]

        found = [answer for some in await asyncio.gather(*(work() for _ in range(at_once))) for answer in some]
        return sorted(found, key=lambda answer: seq_of(answer["position"]))

    def followed(self, answer: Any) -> list[tuple[str, int]]:
        """The changes in an answer that the checks' streams receive."""
        return [(c["slice"], c["version"]) for c in answer["changes"] if self.target.follows(c["slice"])]

    async def state(self, query: Mapping[str, str] | None = None) -> StrictReplica:
        response = await self.get("state", query)
        expect(response.status == 200, f"expected the state, got {response.shown()}")
        body = response.json
        return StrictReplica(state=body["slices"], versions=body["versions"], position=body["position"])

    # streams

    @asynccontextmanager
    async def stream(
        self,
        replica: StrictReplica | None = None,
        *,
        header: str | None = None,
        query: Mapping[str, str] | None = None,
        http_1_0: bool = False,
    ) -> AsyncIterator[StreamUnderTest]:
        """Opens a stream into `replica`, or into a new one.

        The cursor in `Last-Event-ID` is `header`; without it, the replica's position, unless the query has `after`.
        """
        replica = StrictReplica() if replica is None else replica
        cursor = replica.position if header is None and "after" not in (query or {}) else header
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        session = self._http_1_0 if http_1_0 else self._session
        try:
            async with asyncio.timeout(PATIENCE):
                response = await session.get(self.url("stream/state", query), headers=headers, allow_redirects=False)
        except TimeoutError:
            raise Violation(f"expected a stream within {PATIENCE:.0f} s, got none") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Violation(f"expected a stream, got none: {error}") from None
        try:
            if response.status != 200:
                body = (await beginning_of(response))[:SHOWN_BYTES].decode(errors="replace")
                raise Violation(f"expected a stream with status 200, got {response.status}: {body}")
            yield StreamUnderTest(response, replica)
        finally:
            response.close()


def _settings() -> dict[str, Any]:
    return {
        "connector": aiohttp.TCPConnector(limit=0, force_close=True),
        "timeout": aiohttp.ClientTimeout(total=None, connect=PATIENCE),
        "cookie_jar": aiohttp.DummyCookieJar(),
    }


def _changed_slices(response: ResponseUnderTest) -> list[str]:
    """The slices that an accepted dispatch changed; none if the response is not one of the protocol."""
    try:
        return [str(change["slice"]) for change in response.json["changes"]] if response.status == 200 else []
    except (Violation, LookupError, TypeError):
        return []


def expect_problem(response: ResponseUnderTest, status: int, code: str, what: str) -> None:
    """Raises Violation unless it is an RFC 9457 problem document with this status and code."""
    expect(response.status == status, f"expected status {status} for {what}, got {response.shown()}")
    kind = response.kind()
    expect(kind == "application/problem+json", f"expected application/problem+json for {what}, got {kind or 'no type'}")
    body = response.json
    missing = {"type", "title", "status", "code", "detail"} - set(body)
    expect(not missing, f"expected {', '.join(sorted(missing))} in the problem for {what}, got none")
    expect(body["code"] == code, f"expected the code {code} for {what}, got {body['code']!r}")
    expect(body["status"] == status, f"expected its status in the problem for {what}, got {body['status']!r}")
    expect(body["detail"], f"expected a detail for {what}, got none")
