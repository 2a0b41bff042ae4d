"""A server that plays the golden transcripts to a client in any language, and says what came of it.

    GET /                             a new play: each transcript with its URL, and what it must lead to
    GET /{play}/{name}/stream/state   what a server sends: each request gets the next connection
    POST /{play}/{name}               what the client holds by now; the answer says what it asked, and what is wrong
    GET /vectors                      event streams of the standard, with the events in them

Invariants: what is right stands in the transcripts; here it is played, noted and compared. A page from anywhere may use
it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

import msgspec
import orjson
from aiohttp import web
from msgspec import UNSET, Struct, UnsetType, field

from statestream.core.values import canonical
from statestream.tools.conformance import vectors
from statestream.tools.conformance.transcripts import NO_CURSOR, Connection, Transcript

STREAM: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}
FROM_ANYWHERE: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Headers": "Accept, Cache-Control, Content-Type, Last-Event-ID",
}
CUT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.01


class Held(Struct, frozen=True, kw_only=True):
    """What a client says that it holds. What it leaves out is not compared. `over`: it has ended for good."""

    state: dict[str, Any] | UnsetType = UNSET
    versions: dict[str, int] | UnsetType = UNSET
    position: str | UnsetType | None = UNSET
    over: bool = False


class Part(Struct, kw_only=True):
    """A transcript and the client that goes through it. `asked`: its cursors in order, `-` for none."""

    transcript: Transcript
    asked: list[str] = field(default_factory=list)
    held: Held | None = None

    def answer(self, cursor: str) -> Connection | None:
        """What is played to a request; None where the transcript has no more."""
        self.asked.append(cursor)
        connections = self.transcript.connections
        return connections[len(self.asked) - 1] if len(self.asked) <= len(connections) else None

    @property
    def astray(self) -> bool:
        """Whether it has asked what it should not, so that nothing can become right any more."""
        return self.asked != self.transcript.asks[: len(self.asked)]

    def problem(self) -> str | None:
        """What is not yet, or never will be, as the transcript says; None where all is."""
        if self.asked != self.transcript.asks:
            wanted, more = self.transcript.asks, len(self.asked) - len(self.transcript.asks) - 1
            got = [*self.asked[: len(wanted) + 1], *(["…"] if more > 0 else [])]
            return f"expected requests with the cursors {_list(wanted)}, got {_list(got)}"
        if self.held is None:
            return "expected to be told what the client holds, heard nothing"
        if self.held.over is not (self.transcript.last.kind == "over"):
            should = "to go on: nothing has ended" if self.held.over else "to end: the server has, for good"
            return f"expected the client {should}"
        for name, wanted in _holds(self.transcript).items():
            got = getattr(self.held, name)
            if got is not UNSET and not _same(got, wanted):
                return f"expected {name} {orjson.dumps(wanted).decode()} at the end, got {_shown(got)}"
        return None

    async def has(self, position: str | None) -> None:
        """Waits until the client stands there, but not for long: whoever is cut may lose what is unread."""
        for _ in range(round(CUT_SECONDS / LOOK_SECONDS)):
            if position is None or (self.held is not None and self.held.position == position):
                return
            await asyncio.sleep(LOOK_SECONDS)


class Player:
    """`async with Player() as player:` serves on a free port of 127.0.0.1; or serve `player.app` yourself."""

    def __init__(self) -> None:
        self.plays: list[dict[str, Part]] = []
        self.transcripts = Transcript.all()
        self._over = asyncio.Event()
        self.app = web.Application()
        self.app.router.add_get("/", self._begin)
        self.app.router.add_get("/vectors", self._vectors)
        self.app.router.add_get("/{play}/{name}/stream/state", self._stream)
        self.app.router.add_post("/{play}/{name}", self._told)
        self.app.router.add_route("OPTIONS", "/{path:.*}", self._allowed)
        self.app.on_response_prepare.append(_from_anywhere)
        self.app.on_shutdown.append(self._end)

    async def __aenter__(self) -> Self:
        self._runner = web.AppRunner(self.app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def begin(self) -> tuple[str, dict[str, Part]]:
        """A new play: the path of its transcripts, and each by its name."""
        self.plays.append({one.name: Part(transcript=one) for one in self.transcripts})
        return f"/{len(self.plays)}", self.plays[-1]

    def _part(self, request: web.Request) -> Part:
        play, name = request.match_info["play"], request.match_info["name"]
        number = int(play) if play.isascii() and play.isdigit() and len(play) < 10 else 0
        if not 1 <= number <= len(self.plays) or name not in self.plays[number - 1]:
            raise web.HTTPNotFound(text="expected the URL of a transcript: GET / begins a play and names them")
        return self.plays[number - 1][name]

    async def _begin(self, request: web.Request) -> web.Response:
        path, play = self.begin()
        root = f"{request.scheme}://{request.host}{path}"
        listed = [
            {
                "name": name,
                "promise": part.transcript.promise,
                "url": f"{root}/{name}",
                "asks": part.transcript.asks,
                "end": _holds(part.transcript) | {"over": part.transcript.last.kind == "over"},
            }
            for name, part in play.items()
        ]
        return _json(orjson.dumps(listed, option=orjson.OPT_INDENT_2))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        part = self._part(request)
        connection = part.answer(request.headers.get("Last-Event-ID") or request.query.get("after") or NO_CURSOR)
        if connection is None:
            return web.Response(status=204)
        response = web.StreamResponse(headers=STREAM)
        await response.prepare(request)
        for sent in [*(frame for frame, _ in connection.frames), connection.rest]:
            await response.write(sent)
        if connection.ending == "X":
            await part.has(connection.frames[-1][1].position if connection.frames else None)
            if request.transport is not None:
                request.transport.close()  # all is sent, but the body has no end
        elif connection.ending == "open":
            await self._over.wait()  # the handler is cancelled when the client goes
        return response

    async def _told(self, request: web.Request) -> web.Response:
        part = self._part(request)
        try:
            part.held = msgspec.json.decode(await request.read(), type=Held)
        except (msgspec.DecodeError, RecursionError) as error:
            raise web.HTTPBadRequest(text=f"expected what the client holds as JSON: {error}") from None
        return _json(orjson.dumps({"asked": part.asked, "problem": part.problem()}))

    async def _vectors(self, _: web.Request) -> web.Response:
        return _json(vectors.text())

    async def _allowed(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _end(self, _: web.Application) -> None:
        self._over.set()


async def _from_anywhere(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(FROM_ANYWHERE)


def _holds(transcript: Transcript) -> dict[str, Any]:
    last = transcript.last
    return {"state": last.state, "versions": last.versions, "position": last.position}


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})


def _same(one: Any, other: Any) -> bool:
    """As JSON: 1, 1.0 and true differ. What is no JSON is like nothing."""
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
