"""An OpenAI-compatible provider that does what it is told: the faults that a well-behaved mock cannot make.

    python tests/support/upstream.py            says "serving on http://127.0.0.1:PORT" and serves until it is ended
    POST /scripts   {"question", "steps"}    what happens when the last user message is `question`; what follows the
                                             outcomes of tools stands under the question with a + for each round
    POST /gates/NAME                         lets every {"wait": NAME} go on, now and later
    GET  /v1/gates/NAME                      answers once that gate is open
    GET  /requests?question=                 what was asked so far: body, key, what was looked at, how it ended

A step is an object with one member:

    {"think": text}     a chunk of reasoning              {"call": {"index", "id"?, "name"?, "arguments"?}}
    {"say": text}       a chunk with that text        {"chunk": {…}}    a chunk with that body
    {"flood": {"text", "times"}}                      that, as it is, so many times
    {"raw": text}       that, as it is                {"pause": s}      waits; {"wait": NAME} for a gate
    {"look": url}       GETs the url and records what it found, before going on
    {"finish": reason}  the last chunk and [DONE]     {"cut": true}     loses the connection
    {"last": reason}    the same without [DONE], for a usage that follows
    {"delta": {…}}      a chunk with that delta
    {"decline": text}   a chunk of a refusal              {"usage": {…}}  the chunk that comes last
    {"refuse": {"status", "body", "headers"?, "without"?}}   answers that instead of a stream; with `without` only
                                                      a request that has this member
    {"demand": name}    answers 400 unless every answer in the conversation has that member; {"reject": name} if one has
    {"drip": {"text", "times", "every"}}              says it `times` times at a steady pace; `drip_raw`: as it is

A stream that reaches its last step ends cleanly, with or without `finish`.

It is as strict as the strictest provider: a conversation that one of them refuses is answered with 400 and what is
wrong with it, see `violation`. What it has sent with an answer that called tools must come back with that answer, by
the script: the thoughts under their name, other members of the delta and of its calls as they were.

Invariants: it shares no code with the product. A script is data, so that a test reads as what happens.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
from aiohttp import web

Step = dict[str, Any]
CHUNK = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}


class Upstream:
    """The scripts, the gates, and what was asked."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Step]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.requests: list[dict[str, Any]] = []
        self.answered: dict[str, str] = {}
        """The model that has answered each question."""

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    async def set_script(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.scripts[body["question"]] = body["steps"]
        return web.json_response({})

    async def open_gate(self, request: web.Request) -> web.Response:
        self.gate(request.match_info["name"]).set()
        return web.json_response({})

    async def await_gate(self, request: web.Request) -> web.Response:
        await self.gate(request.match_info["name"]).wait()
        return web.Response(text="open")

    async def asked(self, request: web.Request) -> web.Response:
        question = request.query.get("question")
        return web.json_response([r for r in self.requests if question in (None, r["question"])])

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/chat/completions, by the script of the last user message."""
        body = await request.json()
        question = self.question([message for message in body["messages"] if message["role"] == "user"][-1])
        wrong = violation(body["messages"])
        if not any("reject" in step for step in self.scripts.get(question, [])):
            wrong = wrong or self.missing(body["model"], body["messages"])
        record = {"question": question, "body": body, "key": request.headers.get("Authorization"), "looked": []}
        record["peer"] = list(request.transport.get_extra_info("peername")) if request.transport else None
        self.requests.append(record | {"ended": None, "wrong": wrong})
        if wrong:
            return web.json_response({"error": {"message": wrong}}, status=400)
        record = self.requests[-1]
        self.answered[question] = body["model"]
        try:
            response = await Call(self, request, record).run(self.scripts[question + "+" * rounds(body["messages"])])
        except (asyncio.CancelledError, ConnectionError):
            record["ended"] = "gone"
            raise
        record["ended"] = "done"
        return response

    def question(self, message: Any) -> str:
        """What the message asks: questions whose replies said nothing may stand before it."""
        text = text_of(message)
        return text if text in self.scripts else text.rpartition("\n\n")[2]

    def missing(self, model: str, messages: list[Any]) -> str | None:
        """The data that does not come back as this model sent it."""
        question, answer = "", 0
        for message in messages:
            if message["role"] == "user":
                question, answer = self.question(message), 0
            elif message["role"] == "assistant":
                steps = self.scripts.get(question + "+" * answer, [])
                ours = self.answered.get(question) == model and message.get("tool_calls")
                if ours and (lost := next(lost_of(steps, message), None)) is not None:
                    return f"{lost} must be passed back as it was sent"
                answer += 1
        return None


def lost_of(steps: list[Step], message: Any) -> Iterator[str]:
    """The data that an answer with tool calls has lost."""
    thought = "".join(step.get("think", "") for step in steps)
    if thought and message.get("reasoning_content") != thought:
        yield "reasoning_content"
    deltas = [step["delta"] for step in steps if "delta" in step]
    signed = [call for delta in deltas for call in delta.get("tool_calls", ()) if "extra_content" in call]
    for call in signed:
        same = [back for back in message["tool_calls"] if back["id"] == call["id"]]
        if not same or same[0].get("extra_content") != call["extra_content"]:
            yield "extra_content"
    blocks = [block for delta in deltas for block in delta.get("thinking_blocks", ())]
    if blocks:
        whole = {"type": "thinking", "thinking": "".join(block["thinking"] for block in blocks)}
        if message.get("thinking_blocks") != [{**whole, "signature": blocks[-1]["signature"]}]:
            yield "thinking_blocks"


def violation(messages: list[Any]) -> str | None:
    """The first rule of a known provider that a conversation breaks, or None."""
    roles = [message["role"] for message in messages]
    if roles[:1] == ["system"]:
        roles, messages = roles[1:], messages[1:]
    if roles[:1] != ["user"]:
        return "the conversation must begin with a user message"
    if roles[-1] not in ("user", "tool"):
        return "the last message must be a user's or a tool's"
    ids: set[str] = set()
    waiting: list[str] = []
    for before, message in zip([None, *messages], messages, strict=False):
        role = message["role"]
        if role == "tool":
            if waiting[:1] != [message["tool_call_id"]]:
                return "a tool message must answer the next call of the message before it"
            waiting.pop(0)
        elif waiting:
            return "every call must be followed by its outcome"
        elif before is not None and (role == "assistant") == (before["role"] == "assistant"):
            return "user and assistant must alternate"
        elif before is not None and before["role"] == "tool" and role != "assistant":
            return "an assistant message must follow the outcomes of tools"
        for call in message.get("tool_calls", ()):
            if call["id"] in ids or not call["id"]:
                return "the ids of calls must differ"
            if not re.fullmatch("[a-zA-Z0-9_-]{1,64}", call["function"]["name"]):
                return "the name of a function has only letters, digits, _ and -"
            if type(parsed(call["function"]["arguments"])) is not dict:
                return "the arguments of a call must be an object"
            ids.add(call["id"])
            waiting.append(call["id"])
        if not message.get("tool_calls") and not has_content(message["content"]):
            return "a message must not be empty"
    return "every call must be followed by its outcome" if waiting else None


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def has_content(content: Any) -> bool:
    """Whether there is text or a part, and no text is blank."""
    if isinstance(content, list):
        return bool(content) and all(has_content(part["text"]) for part in content if part["type"] == "text")
    return bool(content and content.strip())


def text_of(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def rounds(messages: list[Any]) -> int:
    """How often the model has called tools since the last question."""
    roles = [message["role"] for message in messages]
    behind = roles[len(roles) - roles[::-1].index("user") :]
    return behind.count("assistant")


class Call:
    """One request being answered."""

    def __init__(self, upstream: Upstream, request: web.Request, record: dict[str, Any]) -> None:
        self.upstream, self.request, self.record = upstream, request, record
        self.asked: set[Any] = {None, *record["body"]}
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})

    async def run(self, steps: list[Step]) -> web.StreamResponse:
        for step in steps:
            ((name, value),) = step.items()
            if name == "refuse" and value.get("without") not in self.asked:
                continue
            if name in ("demand", "reject") and self.complains(name, value):
                return web.json_response({"error": {"message": f"{value} is missing or unknown"}}, status=400)
            if name == "refuse":
                return web.json_response(value["body"], status=value["status"], headers=value.get("headers"))
            do: Callable[[Any], Awaitable[None]] = getattr(self, f"do_{name}")
            await do(value)
        await self.begin()
        await self.response.write_eof()
        return self.response

    def complains(self, what: str, name: str) -> bool:
        answers = [message for message in self.record["body"]["messages"] if message["role"] == "assistant"]
        return any((name in message) == (what == "reject") for message in answers)

    async def do_demand(self, _: str) -> None:
        """It has what is demanded."""

    do_reject = do_demand

    async def begin(self) -> None:
        if not self.response.prepared:
            await self.response.prepare(self.request)

    async def do_raw(self, text: str) -> None:
        await self.begin()
        await self.response.write(text.encode())

    async def do_flood(self, flood: Any) -> None:
        await self.do_raw(flood["text"] * flood["times"])

    async def do_chunk(self, body: Any) -> None:
        await self.do_raw(f"data: {json.dumps(body)}\n\n")

    async def do_say(self, text: str) -> None:
        await self.do_delta({"content": text})

    async def do_think(self, text: str) -> None:
        await self.do_delta({"reasoning_content": text})

    async def do_call(self, call: Any) -> None:
        function = {name: call[name] for name in ("name", "arguments") if name in call}
        ids = {"id": call["id"], "type": "function"} if "id" in call else {}
        await self.do_delta({"tool_calls": [{"index": call["index"], **ids, "function": function}]})

    async def do_decline(self, text: str) -> None:
        await self.do_delta({"refusal": text})

    async def do_delta(self, delta: Any) -> None:
        await self.do_chunk({**CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    async def do_usage(self, usage: Any) -> None:
        await self.do_chunk({**CHUNK, "choices": [], "usage": usage})

    async def do_drip(self, drip: Any) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(drip["times"]):
            await self.do_say(drip["text"])
            await asyncio.sleep(began + (number + 1) * drip["every"] - clock())

    async def do_drip_raw(self, drip: Any) -> None:
        for _ in range(drip["times"]):
            await self.do_raw(drip["text"])
            await asyncio.sleep(drip["every"])

    async def do_last(self, reason: str) -> None:
        await self.do_chunk({**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})

    async def do_finish(self, reason: str) -> None:
        await self.do_last(reason)
        await self.do_raw("data: [DONE]\n\n")

    async def do_pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def do_wait(self, gate: str) -> None:
        await self.upstream.gate(gate).wait()

    async def do_look(self, url: str) -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            self.record["looked"].append(await response.json())

    async def do_cut(self, _: bool) -> None:
        """Closes without the last chunk: what was said arrives, the rest never comes."""
        await self.begin()
        if self.request.transport is not None:
            self.request.transport.close()


async def serve() -> None:
    upstream = Upstream()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.complete)
    app.router.add_post("/scripts", upstream.set_script)
    app.router.add_post("/gates/{name}", upstream.open_gate)
    app.router.add_get("/v1/gates/{name}", upstream.await_gate)
    app.router.add_get("/requests", upstream.asked)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"serving on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
