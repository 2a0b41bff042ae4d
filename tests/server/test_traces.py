"""Traces of a real server whose program has configured OpenTelemetry's SDK, which keeps the spans in memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes

from tests.support import ROOT, PlainClient, Server, dispatch, eventually

Http = aiohttp.ClientSession
APP = """
from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from statestream import Refused, Slice, Store, create_app
from statestream.chat import Chat
from statestream.chat.models import CallPiece, Finish, ModelFailed, Usage

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)


class Model:
    name = "canary-free"
    vendor = "openai"

    async def answer(self, turns, tools, settings):
        if turns[0].role == "system":
            yield "A title"
            yield Finish(reason="stop")
        elif "fail" in turns[-1].text:
            raise ModelFailed("rate_limit", "canary")
        elif turns[-1].role == "user":
            yield CallPiece(id="c1", name="look", arguments='{"at": "canary"}')
            yield CallPiece(id="c2", name="canary", arguments="{}")
            yield Usage(input=7, output=2)
            yield Finish(reason="tool_calls")
        else:
            yield "canary "
            yield "again"
            yield Usage(input=10, output=3, reasoning=1, cached=4)
            yield Finish(reason="stop")

    async def close(self):
        pass


board = Slice("board", initial={"title": ""})


@board.action
def named(state, *, title: str):
    if title == "no":
        raise Refused("taken", "canary")
    if title == "bug":
        raise LookupError("canary")
    state["title"] = title


chat = Chat(model=Model())


@chat.tool
def look(at: str) -> str:
    "Looks."
    return "canary"


app = create_app(Store([board, *chat.slices], journal="sqlite:///JOURNAL"))
chat.setup(app)


async def spans(request):
    return web.json_response([
        {
            "name": span.name,
            "kind": span.kind.name,
            "id": format(span.context.span_id, "016x"),
            "trace": format(span.context.trace_id, "032x"),
            "parent": span.parent and format(span.parent.span_id, "016x"),
            "status": span.status.status_code.name,
            "attributes": dict(span.attributes),
            "began": span.start_time,
            "ended": span.end_time,
        }
        for span in exporter.get_finished_spans()
    ])

app.router.add_get("/spans", spans)
"""
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(APP.replace("JOURNAL", str(tmp_path / "journal.db")))
    with Server("serve", f"{tmp_path / 'app.py'}:app") as running:
        yield running


class Spans:
    """The spans that the server has ended, without those of the requests for them."""

    def __init__(self, found: list[dict[str, Any]]) -> None:
        self.all = [span for span in found if span["name"] != "GET /spans"]

    def named(self, name: str) -> list[dict[str, Any]]:
        return [span for span in self.all if span["name"] == name]

    def one(self, name: str) -> dict[str, Any]:
        [span] = self.named(name)
        return span

    def within(self, span: dict[str, Any]) -> list[str]:
        return sorted(each["name"] for each in self.all if each["parent"] == span["id"])


async def spans_of(http: Http, server: Server, *names: str) -> Spans:
    """Once there are spans of these names."""

    async def there() -> Spans | None:
        async with http.get(f"{server.url}/spans") as response:
            text = await response.text()
            assert "canary" not in text.replace("canary-free", "")
            found = Spans(await response.json())
        return found if all(found.named(name) for name in names) else None

    spans: Spans = await eventually(there)
    return spans


async def post(http: Http, server: Server, title: str, headers: dict[str, str]) -> dict[str, Any]:
    body = {"type": "board/named", "payload": {"title": title}}
    async with http.post(f"{server.url}/dispatch", json=body, headers=headers) as response:
        done: dict[str, Any] = await response.json()
        return done


async def test_a_dispatch_is_followed_from_its_caller_to_the_sockets(server: Server, http: Http) -> None:
    with PlainClient(server.port, "slices=board") as reader:
        reader.read_until(lambda _: True)
        done = await post(http, server, "canary", TRACED)
        reader.read_until(lambda _: reader.state["board"]["title"] != "")
        spans = await spans_of(http, server, "statestream.broadcast")
    request, step = spans.one("POST /dispatch"), spans.one("statestream.dispatch")
    assert (request["trace"], request["parent"], request["kind"]) == (TRACE, PARENT, "SERVER")
    assert request["attributes"] == {
        http_attributes.HTTP_REQUEST_METHOD: "POST",
        http_attributes.HTTP_ROUTE: "/dispatch",
        http_attributes.HTTP_RESPONSE_STATUS_CODE: 200,
    }
    assert spans.within(request) == ["statestream.dispatch"]
    assert spans.within(step) == ["statestream.append", "statestream.broadcast", "statestream.handlers"]
    assert step["attributes"] == {
        "statestream.id": done["id"],
        "statestream.actions": ["board/named"],
        "statestream.position": done["position"],
        "statestream.duplicate": False,
    }
    times = [spans.one(f"statestream.{name}") for name in ("handlers", "append", "broadcast")]
    order = [moment for span in times for moment in (span["began"], span["ended"])]
    assert order == sorted(order)
    assert step["began"] <= order[0]
    assert {span["trace"] for span in spans.all if span["name"].startswith("statestream.")} == {TRACE}


async def test_requests_of_one_batch_have_a_trace_each(server: Server, http: Http) -> None:
    names = [f"{number:032x}" for number in range(1, 21)]
    bodies = [{"traceparent": f"00-{name}-{PARENT}-01"} for name in names]
    await asyncio.gather(*(post(http, server, f"t{at}", headers) for at, headers in enumerate(bodies)))
    spans = await spans_of(http, server, "statestream.append")
    assert sorted(span["trace"] for span in spans.named("statestream.append")) == names
    assert spans.named("statestream.broadcast") == [], "nobody follows"


async def test_a_refusal_is_no_error_of_the_server_and_a_bug_is(server: Server, http: Http) -> None:
    await post(http, server, "no", TRACED)
    await post(http, server, "bug", TRACED)
    spans = await spans_of(http, server, "POST /dispatch")
    steps, requests = spans.named("statestream.dispatch"), spans.named("POST /dispatch")
    assert [step["attributes"][error_attributes.ERROR_TYPE] for step in steps] == ["taken", "handler_failed"]
    assert [step["status"] for step in steps] == ["UNSET", "ERROR"]
    assert [request["status"] for request in requests] == ["UNSET", "ERROR"]
    statuses = [request["attributes"][http_attributes.HTTP_RESPONSE_STATUS_CODE] for request in requests]
    assert statuses == [409, 500]


async def test_what_the_caller_does_not_trace_is_not_traced(server: Server, http: Http) -> None:
    await post(http, server, "a", {"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert (await spans_of(http, server)).all == []
    await post(http, server, "b", {"traceparent": "canary"})
    assert (await spans_of(http, server, "statestream.dispatch")).one("POST /dispatch")["parent"] is None


async def test_model_calls_and_tools_follow_the_conventions(server: Server, http: Http) -> None:
    async with http.post(f"{server.url}/api/chats") as response:
        key = (await response.json())["id"]
    body = {"messages": [{"role": "user", "content": "canary"}]}
    async with http.post(f"{server.url}/api/chats/{key}/stream", json=body, headers=TRACED) as response:
        assert "canary" in await response.text()

    async def titled() -> Spans | None:
        spans = await spans_of(http, server, "statestream.reply")
        return spans if len(spans.named("chat canary-free")) == 3 else None

    spans = await eventually(titled)
    reply = spans.one("statestream.reply")
    assert reply["trace"] == TRACE
    assert reply["attributes"]["statestream.end"] == "complete"
    assert spans.within(spans.one("POST /api/chats/{id}/stream"))[-1] == "statestream.reply"
    calls = ["chat canary-free"] * 3 + ["execute_tool", "execute_tool look"]
    assert [name for name in spans.within(reply) if not name.startswith("statestream.")] == calls
    first, second, _ = spans.named("chat canary-free")
    assert (first["kind"], second["kind"]) == ("CLIENT", "CLIENT")
    time = second["attributes"].pop(gen_ai_attributes.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
    assert 0 < time < 60
    assert second["attributes"] == {
        gen_ai_attributes.GEN_AI_OPERATION_NAME: "chat",
        gen_ai_attributes.GEN_AI_PROVIDER_NAME: "openai",
        gen_ai_attributes.GEN_AI_REQUEST_MODEL: "canary-free",
        gen_ai_attributes.GEN_AI_REQUEST_STREAM: True,
        gen_ai_attributes.GEN_AI_CONVERSATION_ID: key,
        gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS: ["stop"],
        gen_ai_attributes.GEN_AI_USAGE_INPUT_TOKENS: 10,
        gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS: 3,
        gen_ai_attributes.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 1,
        gen_ai_attributes.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 4,
    }
    tool, unknown = spans.one("execute_tool look"), spans.one("execute_tool")
    assert tool["attributes"] == {
        gen_ai_attributes.GEN_AI_OPERATION_NAME: "execute_tool",
        gen_ai_attributes.GEN_AI_TOOL_TYPE: "function",
        gen_ai_attributes.GEN_AI_TOOL_CALL_ID: "c1",
        gen_ai_attributes.GEN_AI_TOOL_NAME: "look",
    }
    assert unknown["attributes"][error_attributes.ERROR_TYPE] == "tool_error"
    assert len(spans.named("statestream.append")) < 6, "the pieces of a reply are not traced"


async def test_the_work_of_an_agent_is_a_span(tmp_path: Path, http: Http) -> None:
    agent = "\n\n@chat.agent\nasync def helper(task, context):\n    yield 'canary'\n"
    text = APP.replace("JOURNAL", str(tmp_path / "journal.db")).replace("Chat(model=Model())", f"Chat(){agent}")
    (tmp_path / "app.py").write_text(text)
    with Server.serving(f"{tmp_path / 'app.py'}:app") as server:
        async with http.post(f"{server.url}/api/chat", json=QUESTION, headers=TRACED) as response:
            await response.text()
        spans = await spans_of(http, server, "statestream.reply")
    assert spans.within(spans.one("statestream.reply"))[0] == "invoke_agent helper"
    attributes = spans.one("invoke_agent helper")["attributes"]
    assert attributes[gen_ai_attributes.GEN_AI_AGENT_NAME] == "helper"
    assert attributes[gen_ai_attributes.GEN_AI_OPERATION_NAME] == "invoke_agent"


async def test_a_model_that_fails_is_an_error(server: Server, http: Http) -> None:
    async with http.post(f"{server.url}/api/chat", json=QUESTION, headers=TRACED) as response:
        await response.text()
    spans = await spans_of(http, server, "statestream.reply")
    for span in (spans.one("chat canary-free"), spans.one("statestream.reply")):
        assert (span["status"], span["attributes"][error_attributes.ERROR_TYPE]) == ("ERROR", "rate_limit")


QUESTION = {"id": "one", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "please fail"}]}]}
WITHOUT = """
import asyncio, sys
from statestream import Slice, Store
board = Slice("board", initial={})
@board.action
def touched(state): state["n"] = 1
async def main():
    async with Store([board]) as store:
        await store.dispatch(touched())
asyncio.run(main())
print(sorted(name for name in sys.modules if name.startswith("opentelemetry")))
"""


def test_without_a_configured_sdk_nothing_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_an_api_without_an_sdk_is_no_tracer(tmp_path: Path, http: Http) -> None:
    app = "import opentelemetry.trace\n" + WITHOUT.partition("async def")[0] + "store = Store([board])\n"
    (tmp_path / "app.py").write_text(app)
    with Server("serve", f"{tmp_path / 'app.py'}:store") as server:
        assert (await dispatch(http, server.url, "board/touched"))[0] == 200
        assert server.stop() == ""
