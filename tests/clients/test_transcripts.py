"""The golden transcripts and the event streams of the standard, held against everything that reads them.

The pure replica goes through the transcripts frame by frame; the Python client, and the web client in Chromium and in
Node, through a server that plays them. Chromium's own EventSource says what it makes of the event streams that both
decoders are held to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import aiohttp
import pytest

import statestream
from statestream.client.replica import Replica, Update
from statestream.core.errors import Gap, StreamRefused
from statestream.protocol.sse import Decoder
from statestream.tools.conformance.clients.sse_vectors import SseVector
from statestream.tools.conformance.clients.transcript import NO_CURSOR, ExpectedState, Transcript
from statestream.tools.conformance.clients.transcript_server import ReportedState
from tests.support import ROOT, PlainClient, Server, dispatch, eventually
from tests.support.node import Node
from tests.support.scripted import Scripted

TRANSCRIPTS = Transcript.all()
LONG = 6_000
"""A `retry` from here on is not waited for in a test."""


def transcripts() -> list[Any]:
    return [pytest.param(one, id=one.name) for one in TRANSCRIPTS]


def told(updates: Sequence[Update]) -> list[Any]:
    return [
        ["initial", update.reason] if update.kind == "initial" else [update.kind, update.slice, update.version]
        for update in updates
    ]


def test_every_frame_of_the_protocol_has_its_transcript() -> None:
    sent = b"".join(frame for one in TRANSCRIPTS for exchange in one.exchanges for frame, _ in exchange.frames).decode()
    for event in ("state.initial", "state.resumed", "state.update", "state.catchup", "heartbeat", "stream.end"):
        assert f"event: {event}\n" in sent
    for reason in ("start", "expired", "forked", "invalid", "lagged", "shutdown", "busy", "unavailable", "too_large"):
        assert f'"reason":"{reason}"' in sent
    kinds = {told[0] for one in TRANSCRIPTS for expected in one.expected for told in expected.told}
    assert kinds == {"initial", "patches", "value", "removed"}


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("transcript", transcripts())
def test_the_replica_holds_and_tells_what_the_transcript_says(transcript: Transcript, size: int) -> None:
    replica = Replica()
    for exchange in transcript.exchanges:
        assert (replica.position or NO_CURSOR) == exchange.cursor
        if exchange.status != 200:
            continue  # there is no frame in it
        replica.end = None
        decoder = Decoder(last_id=replica.position or "")
        for frame, expected in exchange.frames:
            events = [event for at in range(0, len(frame), size) for event in decoder.feed(frame[at : at + size])]
            assert len(events) <= 1  # none: a comment
            updates: list[Update] = []
            if expected.kind == "gap":
                with pytest.raises(Gap):
                    replica.apply(events[0])
                replica.forget_position()
            elif events:
                updates = replica.apply(events[0])
            check(replica, updates, expected)
        assert decoder.feed(exchange.rest) == []


Form = tuple[Any, ...]


def forms(raw: bytes) -> set[Form]:
    """How a frame is written: its event, its fields, the members of its data, in their order.

    Each change of a catch-up is one by itself, and so is a cause; that of a whole cause counts where there is no actor.
    """
    fields = [line.partition(": ") for line in raw.decode().rstrip("\n").split("\n")]
    found = {name: value for name, _, value in fields}
    data = json.loads(found["data"])
    inside = {(found["event"], "updates", *item) for item in data.get("updates", [])}
    if "cause" in data:
        inside |= {("cause", *data["cause"]), ("cause", *(name for name in data["cause"] if name != "actor"))}
    return {(found["event"], tuple(name for name, _, _ in fields), *data), *inside}


class Hearing(PlainClient):
    """Keeps what it heard as it was written."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.forms: set[Form] = set()

    def _frame(self, block: bytes) -> Any:
        self.forms |= forms(block)
        return super()._frame(block)


async def session(server: Server, http: aiohttp.ClientSession) -> set[Form]:
    """Everything that a server has to say: what a brief reader, one of whole causes, and one who was away hear."""
    brief, full = Hearing(server.port).connect(), Hearing(server.port, "slices=*&cause=full").connect()
    away = Hearing(server.port).connect()
    assert next(away.frames()).event == "state.initial"
    await dispatch(http, server.url, "board/filled", {"size": 20_000})
    away.read_until(lambda frame: frame.event == "state.update")
    away.cut()
    for action in ("room/joined", "room/joined", "room/closed"):
        _, answer = await dispatch(http, server.url, action, {} if action == "room/closed" else {"name": "x"}, key="1")
    for client in (brief, full):
        client.read_to(answer["position"])
        client.read_until(lambda frame: frame.event == "heartbeat")
    tasks = [{"type": "board/task_added", "payload": {"id": str(n), "title": "t"}} for n in range(100)]
    rooms = [{"type": "room/joined", "payload": {"name": str(n)}, "key": str(n % 3)} for n in range(100)]
    for actions in (tasks, rooms):
        async with http.post(f"{server.url}/dispatch", json={"actions": actions}) as response:
            assert response.status == 200
    assert [frame.event for frame in islice(away.connect().frames(), 2)] == ["state.resumed", "state.catchup"]
    server.stop()
    for client in (brief, full, away):
        list(client.frames())
    return brief.forms | full.forms | away.forms


@pytest.mark.usefixtures("each_mode")
async def test_our_server_writes_its_frames_as_the_transcripts_do(http: aiohttp.ClientSession) -> None:
    """But for those that are odd on purpose. What the transcripts have and this session has not: an actor, no retry."""
    golden = {
        form
        for one in TRANSCRIPTS
        for exchange in one.exchanges
        for frame, expected in exchange.frames
        if frame and not one.name.startswith("unknown_") and expected.kind != "gap"
        for form in forms(frame)
    }
    env = {"HEARTBEAT": "0.2", "KEPT": "10000", "PYTHONPATH": str(ROOT)}
    with Server.serving(f"{ROOT / 'tests/apps/quick.py'}:app", env=env) as server:
        sent = await session(server, http)
    assert sent - golden == set()
    assert {form[0] for form in sent} == {form[0] for form in golden}


def check(replica: Replica, updates: list[Update], expected: ExpectedState) -> None:
    assert told(updates) == expected.told
    assert same(replica.state, expected.state)
    assert replica.versions == expected.versions
    assert replica.position == expected.position
    if expected.kind in ("ended", "over"):
        assert replica.end is not None
        assert replica.end.reason == expected.reason
        assert replica.end.final == (expected.kind == "over")


def same(one: Any, other: Any) -> bool:
    """As JSON: 1, 1.0 and true differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.fixture
async def scripted() -> Any:
    async with Scripted(VECTORS) as server:
        yield server


@pytest.mark.parametrize("transcript", transcripts())
async def test_the_client_asks_holds_and_tells_what_the_transcript_says(
    scripted: Scripted, transcript: Transcript
) -> None:
    last, seen, refused = transcript.last, [], None
    stream = statestream.connect(scripted.at(transcript.name), timeout=60)
    wanted = [one for expected in transcript.telling for one in expected.told]
    attempt = scripted.attempts[transcript.name]
    asked = attempt.asked

    async def said() -> None:
        while True:
            attempt.reported = ReportedState(position=stream.position)
            await asyncio.sleep(0.01)

    saying = asyncio.create_task(said())
    async with asyncio.timeout(60):
        try:
            async with stream:
                async for update in stream:
                    seen += told([update])
                    if len(seen) == len(wanted) and last.kind != "over":
                        break
                await eventually(lambda: stream.position == last.position and len(asked) == len(transcript.cursors))
        except StreamRefused as error:
            refused = error.reason
        finally:
            saying.cancel()
    assert refused == (last.reason if last.kind == "over" else None)
    assert asked == transcript.cursors
    assert seen == wanted
    assert same(stream.state, last.state)
    assert stream.versions == last.versions
    assert stream.position == last.position


# Chromium


VECTORS = SseVector.all()
CHROMIUM_DIFFERS = {
    "one leading U+FEFF is stripped, by the UTF-8 decode algorithm: a byte order mark, then the end of a line",
    "one leading U+FEFF is stripped, by the UTF-8 decode algorithm: a byte order mark before a CR",
}
"""It loses what follows. No server of ours sends a byte order mark."""


async def in_a_page(browser: Node, server: Scripted, script: str) -> Any:
    """What a function of play.js gives, in a window of its own."""
    ask = browser.ask
    await asyncio.to_thread(ask, "open", window="page", url=f"{server.url}/page")
    try:
        return await asyncio.to_thread(
            ask, "look", window="page", script=f"import('/play.js').then(async (at) => at.{script})"
        )
    finally:
        await asyncio.to_thread(ask, "close", window="page")


PARTS = """{
  ...(await import("/js/stream.js")), ...(await import("/js/health.js")), ...(await import("/js/replica.js")),
  ...(await import("/js/token.js")),
}"""


@pytest.fixture(scope="module")
def player() -> Iterator[Node]:
    """The web client in Node."""
    with Node("play.mjs") as running:
        yield running


def transcript_jobs(scripted: Scripted, token: str | None) -> list[dict[str, Any]]:
    return [
        {
            "url": f"{scripted.path}/{one.name}",
            "tellings": len(one.telling),
            "position": one.last.position,
            "asks": len(one.cursors),
            "over": one.last.reason if one.last.kind == "over" else None,
            "token": token,
        }
        for one in TRANSCRIPTS
    ]


@pytest.mark.parametrize("token", [None, "token"])
async def test_the_web_client_asks_holds_and_tells_in_a_page_what_the_transcripts_say(
    scripted: Scripted, browser: Node, token: str | None
) -> None:
    jobs = transcript_jobs(scripted, token)
    found = await in_a_page(browser, scripted, f"play({json.dumps(jobs)}, {PARTS})")
    check_played(scripted, found)


async def test_the_web_client_asks_holds_and_tells_in_node_what_the_transcripts_say(
    scripted: Scripted, player: Node
) -> None:
    jobs = transcript_jobs(scripted, None)
    check_played(scripted, await asyncio.to_thread(player.ask, "play", jobs=jobs, root=scripted.url))


def check_played(scripted: Scripted, found: list[Any]) -> None:
    for transcript, got in zip(TRANSCRIPTS, found, strict=True):
        wanted = [
            {"told": one.told, "state": one.state, "versions": one.versions, "position": one.position}
            for one in transcript.telling
        ]
        assert same(got.pop("seen"), wanted), transcript.name
        last = transcript.last
        assert got == {"state": last.state, "versions": last.versions, "position": last.position}, transcript.name
        assert scripted.asked(transcript.name) == transcript.cursors, transcript.name


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
async def test_chromiums_eventsource_says_what_the_standard_says(
    scripted: Scripted, browser: Node, pieces: str
) -> None:
    """Also what it comes back with: the last event id."""
    types = sorted({"message", *(event[0] for vector in VECTORS for event in vector.events)})
    jobs = [
        {"url": f"/vector/{number}/{pieces}", "types": types, "once": (vector.retry or 0) >= LONG}
        for number, vector in enumerate(VECTORS)
    ]
    found = await in_a_page(browser, scripted, f"hear({json.dumps(jobs)})")
    for number, (vector, events) in enumerate(zip(VECTORS, found, strict=True)):
        agrees = [tuple(event) for event in events] == list(vector.events)
        assert agrees is (vector.name not in CHROMIUM_DIFFERS), (vector.name, events)
        ids = ["", vector.last_id.strip()] if (vector.retry or 0) < LONG else [""]
        assert scripted.heard[f"{number} {pieces}"] == ids, vector.name


@pytest.mark.parametrize("pieces", ["whole", "bytes"])
@pytest.mark.parametrize("where", ["page", "node"])
async def test_the_web_clients_decoder_says_what_the_standard_says(
    scripted: Scripted, browser: Node, player: Node, pieces: str, where: str
) -> None:
    """Also what is the cursor after it, and the delay before the next connection."""
    jobs = [{"url": f"/vector/{number}/{pieces}"} for number in range(len(VECTORS))]
    if where == "page":
        found = await in_a_page(browser, scripted, f"decode({json.dumps(jobs)}, await import('/js/sse.js'))")
    else:
        found = await asyncio.to_thread(player.ask, "decode", jobs=jobs, root=scripted.url)
    for vector, got in zip(VECTORS, found, strict=True):
        assert [tuple(event) for event in got["events"]] == list(vector.events), vector.name
        assert (got["last"], got["retry"]) == (vector.last_id, vector.retry), vector.name
