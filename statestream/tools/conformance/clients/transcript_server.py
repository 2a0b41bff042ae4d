"""A server that plays the golden transcripts to a client in any language, and reports what came of it.

    GET /                             a new play: each transcript with its URL, and what it must lead to
    GET /{play}/{name}/stream/state   the stream: each request receives the next exchange's response
    POST /{play}/{name}               what the client has by now; the response has its cursors, and its problem
    GET /vectors                      event streams of the standard, with the events in them

Invariants: the transcripts define what is right; here it is played, noted and compared. Pages of any origin may use it.
A refusal is played twice and noted once, because an EventSource hides the status: its page has to ask again to see it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

import msgspec
import orjson
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType, field

from statestream.core.values import canonical
from statestream.tools.conformance.clients import sse_vectors
from statestream.tools.conformance.clients.transcript import NO_CURSOR, Exchange, Transcript

STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
CORS_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Accept, Cache-Control, Content-Type, Last-Event-ID",
}
LOSS_SECONDS: Final = 1.0
"""How long a connection that will be lost waits for the client to read; bytes that it has not read may be lost, too."""
POLL_SECONDS: Final = 0.01


class ReportedState(Struct, frozen=True, kw_only=True):
    """What a client reports. A member that it leaves out is not compared. `over`: it has ended for good."""

    state: dict[str, Any] | UnsetType = UNSET
    versions: dict[str, int] | UnsetType = UNSET
    position: str | UnsetType | None = UNSET
    over: bool = False


class Attempt(Struct, kw_only=True):
    """A transcript and a client that follows it. `asked` has the client's cursors in order, `-` for none."""

    transcript: Transcript
    asked: list[str] = field(default_factory=list)
    reported: ReportedState | None = None
    may_repeat: bool = False

    def next_exchange(self, cursor: str) -> Exchange | None:
        """Notes a request, and returns what to play to it; None if the transcript is at its end."""
        exchanges = self.transcript.exchanges
        if self.may_repeat and cursor == self.asked[-1]:
            self.may_repeat = False
        else:
            self.asked.append(cursor)
            self.may_repeat = len(self.asked) <= len(exchanges) and exchanges[len(self.asked) - 1].status != 200
        return exchanges[len(self.asked) - 1] if len(self.asked) <= len(exchanges) else None

    @property
    def hopeless(self) -> bool:
        """Whether it has asked with a wrong cursor, so that the problem cannot go away."""
        return self.asked != self.transcript.cursors[: len(self.asked)]

    def problem(self) -> str | None:
        """What differs from the transcript, finally or so far; None if nothing does."""
        if self.asked != self.transcript.cursors:
            wanted, more = self.transcript.cursors, len(self.asked) - len(self.transcript.cursors) - 1
            got = [*self.asked[: len(wanted) + 1], *(["…"] if more > 0 else [])]
            return f"expected requests with the cursors {_list(wanted)}, got {_list(got)}"
        if self.reported is None:
            return "expected a report of what the client has, got none"
        if self.reported.over is not (self.transcript.last.kind == "over"):
            should = "to continue: nothing has ended" if self.reported.over else "to end: the server has, for good"
            return f"expected the client {should}"
        for name, wanted in _end(self.transcript).items():
            got = getattr(self.reported, name)
            if got is not UNSET and not _same(got, wanted):
                return f"expected {name} {orjson.dumps(wanted).decode()} at the end, got {_shown(got)}"
        return None

    async def reach(self, position: str | None) -> None:
        """Waits until the client reports the position, but for LOSS_SECONDS at most."""
        for _ in range(round(LOSS_SECONDS / POLL_SECONDS)):
            if position is None or (self.reported is not None and self.reported.position == position):
                return
            await asyncio.sleep(POLL_SECONDS)


class TranscriptServer:
    """`async with TranscriptServer() as server:` listens on a free port of 127.0.0.1; or serve its `app` yourself."""

    def __init__(self) -> None:
        self.plays: list[dict[str, Attempt]] = []
        self.transcripts = Transcript.all()
        self._shutdown = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/", self._begin)
        self.app.router.add_get("/vectors", self._vectors)
        self.app.router.add_get("/{play}/{name}/stream/state", self._stream)
        self.app.router.add_post("/{play}/{name}", self._report)
        self.app.router.add_route("OPTIONS", "/{path:.*}", self._preflight)
        self.app.on_response_prepare.append(_allow_any_origin)
        self.app.on_shutdown.append(self._end)

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def begin(self) -> tuple[str, dict[str, Attempt]]:
        """Begins a play. Returns the path of its transcripts, and an attempt for each by its name."""
        self.plays.append({each.name: Attempt(transcript=each) for each in self.transcripts})
        return f"/{len(self.plays)}", self.plays[-1]

    def _attempt(self, request: web.Request) -> Attempt:
        play, name = request.match_info["play"], request.match_info["name"]
        number = int(play) if play.isascii() and play.isdigit() and len(play) < 10 else 0
        if not 1 <= number <= len(self.plays) or name not in self.plays[number - 1]:
            raise web.HTTPNotFound(text="this is not the URL of a transcript; GET / begins a play and returns them")
        return self.plays[number - 1][name]

    async def _begin(self, request: web.Request) -> web.Response:
        path, play = self.begin()
        root = f"{request.scheme}://{request.host}{path}"
        listed = [
            {
                "name": name,
                "promise": attempt.transcript.promise,
                "url": f"{root}/{name}",
                "asks": attempt.transcript.cursors,
                "end": _end(attempt.transcript) | {"over": attempt.transcript.last.kind == "over"},
            }
            for name, attempt in play.items()
        ]
        return _json(orjson.dumps(listed, option=orjson.OPT_INDENT_2))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        attempt = self._attempt(request)
        cursor = request.headers.get("Last-Event-ID") or request.query.get("after") or NO_CURSOR
        exchange = attempt.next_exchange(cursor)
        if exchange is None:
            return web.Response(status=204)  # which tells an EventSource not to reconnect
        if exchange.status != 200:
            return web.Response(status=exchange.status, body=exchange.problem, content_type="application/problem+json")
        response = web.StreamResponse(headers=STREAM_HEADERS)
        await response.prepare(request)
        for sent in [*(frame for frame, _ in exchange.frames), exchange.rest]:
            await response.write(sent)
        if exchange.ending == "X":
            await attempt.reach(exchange.frames[-1][1].position if exchange.frames else None)
            if request.transport is not None:
                request.transport.close()  # everything is sent, but the response has no end
        elif exchange.ending == "open":
            await self._shutdown.wait()  # the handler is cancelled when the client disconnects
        return response

    async def _report(self, request: web.Request) -> web.Response:
        attempt = self._attempt(request)
        try:
            attempt.reported = msgspec.json.decode(await request.read(), type=ReportedState)
        except (msgspec.DecodeError, RecursionError) as error:
            raise web.HTTPBadRequest(text=f"expected what the client has as JSON: {error}") from None
        return _json(orjson.dumps({"asked": attempt.asked, "problem": attempt.problem()}))

    async def _vectors(self, _: web.Request) -> web.Response:
        return _json(sse_vectors.text())

    async def _preflight(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _end(self, _: web.Application) -> None:
        self._shutdown.set()


async def _allow_any_origin(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(CORS_HEADERS)


def _end(transcript: Transcript) -> dict[str, Any]:
    last = transcript.last
    return {"state": last.state, "versions": last.versions, "position": last.position}


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON: 1, 1.0 and true differ. A value that is not JSON equals nothing."""
    try:
        return canonical(one) == canonical(other)
    except TypeError:
        return False


def _shown(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return repr(value)


def _list(cursors: list[str]) -> str:
    return f"[{', '.join(cursors)}]"
