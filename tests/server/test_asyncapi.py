"""GET /asyncapi.json: AsyncAPI 3.0 by its own schema, complete, and true for whatever streams and sockets carry."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import aiohttp
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from statestream.tools.conformance.clients.transcript import Transcript
from tests.apps.contracted import ADA, app
from tests.dialogues import HERE as DIALOGUES
from tests.support import ROOT, Server
from tests.support.exchange import exchange
from tests.support.paths import NODE

CONTRACTED = f"{ROOT / 'tests/apps/contracted.py'}:app"
QUICK = f"{ROOT / 'tests/apps/quick.py'}:app"
PATHS = {"PYTHONPATH": str(ROOT)}
STREAMS = {"text/event-stream", "application/x-ndjson"}
LATER = {"end_with_unreadable_retry", "keys"}
"""Transcripts with values that no server of this version sends: clients must take them all the same."""
LOGIN = {"Authorization": f"Bearer {ADA}"}
EVENT = re.compile(r"^event: (.+)$", re.MULTILINE)
DATA = re.compile(r"^data: (.+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def contracted() -> Iterator[Server]:
    with Server.serving(CONTRACTED, env=PATHS) as running:
        yield running


@pytest.fixture(scope="module")
def described(contracted: Server) -> Described:
    return Described(contracted)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers=LOGIN) as session:
        yield session


class Described:
    """The document of a server, and what it says of messages."""

    def __init__(self, server: Server) -> None:
        answer = exchange(server.port, "GET", "/asyncapi.json")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        self.document = json.loads(answer.body)
        schemas = self.document["components"]["schemas"]
        self._schemas = {False: schemas, True: without_others(schemas)}

    def sent(self, channel: str) -> dict[str, Any]:
        """The messages that the server sends in a channel."""
        operations = self.document["operations"]
        operation = operations.get(f"{channel}_send") or operations[channel]
        listed = operation.get("reply", operation)["messages"]
        names = [each["$ref"].rpartition("/")[2] for each in listed]
        return {name: self.document["channels"][channel]["messages"][name] for name in names}

    def problems(self, message: Any, value: Any, *, closed: bool = True) -> list[str]:
        """What the schema of a message has against a value. `closed`: members that it does not name are wrong."""
        schema = {**message["payload"], "components": {"schemas": self._schemas[closed]}}
        return [error.message for error in Draft202012Validator(schema).iter_errors(value)]

    def check(self, channel: str, value: Any, name: str | None = None) -> str:
        """The name of the one message whose schema a value fits: that with the name, or any."""
        messages = self.sent(channel)
        fitting = [each for each in ([name] if name else messages) if not self.problems(messages[each], value)]
        assert len(fitting) == 1, (channel, name, value, self.problems(messages[name], value) if name else fitting)
        return fitting[0]


def without_others(value: Any) -> Any:
    """The schema without members that it does not name."""
    if isinstance(value, list):
        return [without_others(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: without_others(each) for key, each in value.items()}
    if value.get("type") == "object" and "properties" in value:
        found.setdefault("additionalProperties", False)
    return found


def data_of(events: str) -> Iterator[str]:
    for event in events.split("\n\n"):
        if event and not event.startswith(":"):
            [data] = DATA.findall(event)
            yield data


def frames_of(events: str) -> Iterator[tuple[str, Any]]:
    for event in events.split("\n\n"):
        if event and not event.startswith(":"):
            [name], [data] = EVENT.findall(event), DATA.findall(event)
            yield name, json.loads(data)


def test_it_is_asyncapi(described: Described) -> None:
    path = NODE / "node_modules/@asyncapi/specs/schemas/3.0.0.json"
    validator = Draft7Validator(json.loads(path.read_text()))
    assert [error.message for error in validator.iter_errors(described.document)] == []
    broken = json.loads(json.dumps(described.document))
    broken["operations"]["follow"]["action"] = "publish"
    assert not validator.is_valid(broken)


def test_references_lead_somewhere(described: Described) -> None:
    def follow(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if isinstance(value.get("$ref"), str) else [])
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from follow(each)

    for reference in set(follow(described.document)):
        found = described.document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_no_stream_and_no_socket_is_missing(contracted: Server, described: Described) -> None:
    """Every route that answers with a stream, or that opens a WebSocket, is a channel, and nothing else is."""
    openapi = json.loads(exchange(contracted.port, "GET", "/openapi.json").body)
    streaming = {
        (method.upper(), path)
        for path, item in openapi["paths"].items()
        for method, operation in item.items()
        for status, answer in operation["responses"].items()
        if status == "101" or STREAMS & set(answer.get("content", {}))
    }
    found = {tuple(channel["title"].split(" ")) for channel in described.document["channels"].values()}
    assert found == streaming | {("POST", "/api/chats/{id}/stream")}  # plain text, like a few other answers
    assert found <= {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource}


def test_sockets_are_opened_with_a_login(described: Described) -> None:
    operations = described.document["operations"]
    schemes = [each["$ref"].rpartition("/")[2] for each in operations["connect_receive"]["security"]]
    assert schemes == ["bearer", "X-API-Key", "ticket"]
    assert "security" not in operations["follow"]  # anybody may follow what anybody may read
    assert set(described.document["components"]["securitySchemes"]) == set(schemes)


def test_the_frames_of_the_golden_transcripts_are_as_described(described: Described) -> None:
    """All whole frames that a client can use. Members and reasons that it does not know may come in a later version."""
    messages, checked = described.sent("follow"), 0
    for transcript in Transcript.all():
        for exchanged in transcript.exchanges:
            for frame, expected in exchanged.frames if exchanged.status == 200 else ():
                name = EVENT.search(frame.decode())
                if name is None or name[1] not in messages or expected.kind == "gap" or transcript.name in LATER:
                    continue
                [data] = DATA.findall(frame.decode())
                value = json.loads(data)
                if value.get("reason") == "a reason of later":
                    continue
                assert described.problems(messages[name[1]], value, closed=False) == [], transcript.name
                checked += 1
    assert checked > 50


@pytest.mark.parametrize(
    ("kind", "channel"), [("ui", "ask"), ("socket", "connect_ui"), ("agui", "run"), ("phases", "connect")]
)
def test_the_golden_dialogues_are_as_described(described: Described, kind: str, channel: str) -> None:
    files = sorted(DIALOGUES.glob(f"*.{kind}"))
    assert files
    messages = described.document["channels"][channel]["messages"]
    for file in files:
        text = file.read_text()
        for data in data_of(text) if kind in ("ui", "agui") else text.splitlines():
            if data == "[DONE]":
                assert messages["end_of_stream"]["payload"] == {"const": data}
            else:
                described.check(channel, json.loads(data))


async def read(response: aiohttp.ClientResponse, *names: str) -> list[tuple[str, Any]]:
    """The frames of a stream, until each of these events has come, as often as it is named."""
    text, found = "", list[tuple[str, Any]]()
    while not Counter(names) <= Counter(name for name, _ in found):
        part = await response.content.readany()
        assert part, f"the stream ended after {found}"
        text += part.decode()
        whole, _, text = text.rpartition("\n\n")
        found += frames_of(whole)
    return found


async def test_the_frames_of_a_live_server_are_as_described(http: aiohttp.ClientSession, described: Described) -> None:
    """Every event, with changes of each kind and payloads: followed, resumed, caught up, and ended by the server."""
    seen: set[tuple[str, str]] = set()

    def check(found: Iterable[tuple[str, Any]]) -> None:
        for name, value in found:
            described.check("follow", value, name)
            seen.update((name, member) for update in (value, *value.get("updates", ())) for member in update)

    with Server.serving(QUICK, env={"HEARTBEAT": "0.2", "KEPT": "1000"}) as server:
        url = f"{server.url}/stream/state?slices=*&cause=full"
        async with http.get(url) as response:
            check(await read(response, "state.initial"))
            await acted(http, server, "board/filled", size=20_000)
            position = await acted(http, server, "counter/added", by=1)
            await acted(http, server, "room/joined", "1", name="Ada")
            await acted(http, server, "room/joined", "1", name="Ben")
            await acted(http, server, "room/closed", "1")
            await acted(http, server, "board/counted")
            check(await read(response, *["state.update"] * 7, "heartbeat"))
        await acted(http, server, *["board/counted"] * 100)
        async with http.get(url, headers={"Last-Event-ID": position}) as response:
            check(await read(response, "state.resumed", "state.catchup"))
        async with http.get(f"{server.url}/history?slices=*&cause=full") as response:
            lines = (await response.text()).splitlines()
        assert len(lines) > 100
        for line in lines:
            described.check("history", json.loads(line))
        async with http.get(url, headers={"Last-Event-ID": "of another world"}) as response:
            check(await read(response, "state.initial"))
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            check(await read(response, "stream.end"))
        await stopping
    kinds = {("state.update", kind) for kind in ("patches", "value", "removed")} | {("state.catchup", "patches")}
    assert kinds <= seen
    assert set(described.sent("follow")) == {name for name, _ in seen}


async def acted(http: aiohttp.ClientSession, server: Server, type: str, *more: str, **payload: Any) -> str:
    """The position after an action, or after as many of them as there are types; `more` may be a key instead."""
    action: Any = {"type": type, "payload": payload}
    if more[1:]:
        action = {"actions": [action] * (1 + len(more))}
    elif more:
        action["key"] = more[0]
    async with http.post(f"{server.url}/dispatch", json=action) as response:
        assert response.status == 200
        return str((await response.json())["position"])


async def test_the_streams_of_a_live_chat_are_as_described(
    http: aiohttp.ClientSession, contracted: Server, described: Described
) -> None:
    question = {"role": "user", "content": "What is it?"}
    async with http.post(f"{contracted.url}/api/chat", json={"id": "ui", "messages": [question]}) as response:
        chunks = list(data_of(await response.text()))
    assert chunks.pop() == "[DONE]"
    assert {described.check("ask", json.loads(chunk)) for chunk in chunks} == {"chunk"}
    url = f"{contracted.url}/ag-ui?slices=board"
    posted = {"threadId": "ag", "runId": "1", "messages": [{**question, "id": "q1"}]}
    async with http.post(url, json=posted) as response:
        events = [json.loads(data) for data in data_of(await response.text())]
    assert {"RUN_STARTED", "STATE_SNAPSHOT", "RUN_FINISHED"} <= {event["type"] for event in events}
    assert {described.check("run", event) for event in events} == {"event"}
    async with http.post(f"{contracted.url}/api/chats/ag/stream", json={"messages": [question]}) as response:
        assert described.check("ask_text", await response.text()) == "text"


async def test_the_sockets_of_a_live_chat_are_as_described(
    http: aiohttp.ClientSession, contracted: Server, described: Described
) -> None:
    said = {"type": "message", "content": "What is it?", "session_id": "phases"}
    assert accepted(described, "connect", "question", said)
    seen = set()
    async with http.ws_connect(f"{contracted.url}/ws") as socket:
        await socket.send_json(said)
        await socket.send_json({"type": "message"})  # a refusal is three phases, too
        ended = 0
        while ended < 2:
            item = await socket.receive_json()
            seen.add(described.check("connect", item))
            ended += item.get("stream_end", False)
    assert seen == {"message", "start", "chunk", "end"}
    sent = {"type": "send", "requestId": "1", "id": "socket", "messages": [{"role": "user", "content": "What is it?"}]}
    assert accepted(described, "connect_ui", "send", sent)
    seen = set()
    async with http.ws_connect(f"{contracted.url}/api/chat") as socket:
        await socket.send_json({"type": "send", "requestId": "0"})
        await socket.send_json(sent)
        item = {}
        while item.get("type") != "end":
            item = await socket.receive_json()
            seen.add(described.check("connect_ui", item))
        resume = {"type": "resume", "requestId": "2", "id": "socket"}
        assert accepted(described, "connect_ui", "resume", resume)
        await socket.send_json(resume)
        assert (await socket.receive_json())["type"] == "no-active"
    assert seen == {"boundary", "chunk", "error"}


def accepted(described: Described, channel: str, name: str, value: Any) -> bool:
    """Whether a client may send it, by the document."""
    message = described.document["channels"][channel]["messages"][name]
    return not described.problems(message, value, closed=False)
