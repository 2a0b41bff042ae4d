"""The server that is checked, and how it is asked: requests, dispatches, streams.

Invariants: how, never what for: no promise is tried here. Every wait has a limit, and running into it is a Breach.
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

from statestream.core.errors import StreamRefused, Unavailable
from statestream.tools.bench.dispatcher import Template
from statestream.tools.bench.target import Target
from statestream.tools.conformance.check import Breach, expect
from statestream.tools.conformance.view import Frame, View, seq_of

PATIENCE: Final = 10.0
JSON: Final = {"Content-Type": "application/json"}


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Breach(f"expected JSON with status {self.status}, got {self.body[:80]!r}") from None

    def kind(self) -> str:
        return self.headers.get("Content-Type", "").partition(";")[0].strip()


class Subject:
    """`run` tells this run's ids from others. `target.slices` is what the readers of the checks follow."""

    def __init__(self, target: Target, template: Template, run: str) -> None:
        self.target, self.template, self.run = target, template, run
        self._number = 0
        self._old = aiohttp.ClientSession(version=aiohttp.HttpVersion10, **self._settings())
        self._session = aiohttp.ClientSession(**self._settings())

    def _settings(self) -> dict[str, Any]:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        timeout = aiohttp.ClientTimeout(total=None, connect=PATIENCE)
        return {"connector": connector, "timeout": timeout, "headers": dict(self.target.headers)}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await self._old.close()

    async def learn(self) -> None:
        """Dispatches once, and follows what that changed, if nothing else is asked for.

        Raises StreamRefused where there is nothing to check with, and Unavailable.
        """
        try:
            answer = await self.dispatch(self.action())
        except Breach as nothing:
            raise Unavailable(f"expected a server at {self.target.url}: {nothing}") from None
        names = _changed(answer)
        if not names:
            said = f"expected {self.template.type} to change something, got {refusal(answer)}"
            raise StreamRefused(said, reason="refused", status=answer.status)
        if self.target.slices is None:
            families = {f"{name.partition('/')[0]}/*" if "/" in name else name for name in names}
            self.target = replace(self.target, slices=",".join(sorted(families)))

    # requests

    def url(self, path: str, query: Mapping[str, str] | None = None) -> URL:
        """`slices` stands in the query of every reading request, unless it says something else."""
        asked = {"slices": self.target.slices or "*"} | dict(query or {})
        return self.target.url.with_path(f"{self.target.url.path.rstrip('/')}{path}").with_query(asked)

    async def ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, *, old: bool = False, **more: Any
    ) -> Answer:
        session, what = (self._old if old else self._session), f"{method} {path}"
        try:
            async with asyncio.timeout(PATIENCE):
                async with session.request(method, self.url(path, query), allow_redirects=False, **more) as response:
                    return Answer(status=response.status, headers=response.headers, body=await response.read())
        except TimeoutError:
            raise Breach(f"expected an answer to {what} within {PATIENCE:.0f} s, got none") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Breach(f"expected an answer to {what}, got none: {error}") from None

    async def get(self, path: str, query: Mapping[str, str] | None = None, **more: Any) -> Answer:
        return await self.ask("GET", path, query, **more)

    # dispatching

    def action(self) -> dict[str, Any]:
        """The next action, with an id of its own."""
        self._number += 1
        body: dict[str, Any] = orjson.loads(self.template.body(self.run, self._number))
        return body

    async def dispatch(self, body: Any, headers: Mapping[str, str] = JSON) -> Answer:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return await self.ask("POST", "/dispatch", {}, data=data, headers=headers)

    async def act(self) -> Any:
        """A change: the answer to it."""
        answer = await self.dispatch(self.action())
        expect(answer.status == 200, f"expected a dispatch to be accepted, got {refusal(answer)}")
        return answer.json

    async def write(self, count: int, at_once: int = 1) -> list[Any]:
        """So many changes: their answers, in the order of their positions."""
        left = iter(range(count))

        async def work() -> list[Any]:
            return [await self.act() for _ in left]

        found = [answer for some in await asyncio.gather(*(work() for _ in range(at_once))) for answer in some]
        return sorted(found, key=lambda answer: seq_of(answer["position"]))

    def followed(self, answer: Any) -> list[tuple[str, int]]:
        """The changes of an answer that readers get."""
        return [(c["slice"], c["version"]) for c in answer["changes"] if self.target.follows(c["slice"])]

    async def state(self, query: Mapping[str, str] | None = None) -> View:
        answer = await self.get("/state", query)
        expect(answer.status == 200, f"expected the state, got {refusal(answer)}")
        body = answer.json
        return View(state=body["slices"], versions=body["versions"], position=body["position"])

    # streams

    @asynccontextmanager
    async def watch(
        self,
        view: View | None = None,
        *,
        header: str | None = None,
        query: Mapping[str, str] | None = None,
        old: bool = False,
    ) -> AsyncIterator[Watch]:
        """A stream. `view` is what the reader holds; `header` the cursor, that of `view` where nothing is said."""
        view = View() if view is None else view
        cursor = view.position if header is None and "after" not in (query or {}) else header
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        session = self._old if old else self._session
        try:
            async with asyncio.timeout(PATIENCE):
                response = await session.get(self.url("/stream/state", query), headers=headers)
        except TimeoutError:
            raise Breach(f"expected a stream within {PATIENCE:.0f} s, got none") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Breach(f"expected a stream, got none: {error}") from None
        try:
            if response.status != 200:
                body = (await response.content.read(500)).decode(errors="replace")
                raise Breach(f"expected a stream with status 200, got {response.status}: {body}")
            yield Watch(response, view)
        finally:
            response.close()


class Watch:
    """An open stream, and what its reader holds."""

    def __init__(self, response: aiohttp.ClientResponse, view: View) -> None:
        self.response, self.view = response, view
        self.frames: list[Frame] = []
        self._rest = b""

    async def next(self, seconds: float = PATIENCE) -> Frame:
        """The next frame, applied. Raises Breach where none comes in time."""
        try:
            async with asyncio.timeout(seconds):
                while (frame := self._taken()) is None:
                    await self._more(1 << 16)
        except TimeoutError:
            raise Breach(f"expected a frame within {seconds:.1f} s, got none") from None
        return frame

    async def first(self, event: str = "state.initial") -> Frame:
        frame = await self.next()
        expect(frame.event == event, f"expected {event} as the first frame, got {frame.event}: {_reason(frame)}")
        return frame

    async def until(self, position: str) -> None:
        """Reads up to that position at least."""
        while self.view.position is None or seq_of(self.view.position) < seq_of(position):
            frame = await self.next()
            expect(frame.event != "stream.end", f"expected the changes up to {position}, got stream.end")

    async def some(self, size: int) -> None:
        """Takes that many bytes off the stream, wherever they end, and applies the frames that are whole."""
        while size > 0:
            try:
                async with asyncio.timeout(PATIENCE):
                    size -= await self._more(size)
            except TimeoutError:
                return
            while self._taken() is not None:
                pass

    async def _more(self, size: int) -> int:
        try:
            data = await self.response.content.read(size)
        except (aiohttp.ClientError, OSError) as error:
            raise Breach(f"expected the stream to go on, it broke: {error!r}") from None
        if not data:
            raise Breach("expected the stream to go on, it ended")
        self._rest += data
        return len(data)

    def _taken(self) -> Frame | None:
        while b"\n\n" in self._rest:
            block, self._rest = self._rest.split(b"\n\n", 1)
            frame = Frame.parse(block)
            if frame is not None:
                self.view.apply(frame)
                self.frames.append(frame)
                return frame
        return None


def _changed(answer: Answer) -> list[str]:
    """The slices that an accepted dispatch has changed. Whoever answers may be no server of the protocol: then none."""
    try:
        return [str(change["slice"]) for change in answer.json["changes"]] if answer.status == 200 else []
    except (Breach, LookupError, TypeError):
        return []


def _reason(frame: Frame) -> str:
    return str(frame.data.get("reason", "no reason"))


def refusal(answer: Answer) -> str:
    return f"status {answer.status}: {answer.body[:200].decode(errors='replace')}"


def expect_problem(answer: Answer, status: int, code: str, what: str) -> None:
    """Raises Breach unless it is an RFC 9457 problem with this status and code."""
    expect(answer.status == status, f"expected status {status} for {what}, got {refusal(answer)}")
    kind = answer.kind()
    expect(kind == "application/problem+json", f"expected application/problem+json for {what}, got {kind or 'no type'}")
    body = answer.json
    missing = {"type", "title", "status", "code", "detail"} - set(body)
    expect(not missing, f"expected {', '.join(sorted(missing))} in the problem for {what}, got none")
    expect(body["code"] == code, f"expected the code {code} for {what}, got {body['code']!r}")
    expect(body["status"] == status, f"expected its status in the problem for {what}, got {body['status']!r}")
    expect(body["detail"], f"expected a detail for {what}, got none")
