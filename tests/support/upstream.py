"""A provider that does what it is told, also what a well-behaved mock cannot do, in each of the APIs of `wires`.

    python -m tests.support.upstream         says "serving on http://127.0.0.1:PORT" and serves until it is ended
    POST /scripts   {"question", "steps"}    what happens when the last user message is `question`; what follows the
                                             outcomes of tools stands under the question with a + for each round
    POST /gates/NAME                         lets every {"wait": NAME} go on, now and later
    GET  /v1/gates/NAME                      answers once that gate is open
    GET  /requests?question=                 what was asked so far: body, key, what was looked at, how it ended

A step is an object with one member. Each API writes these in its own way:

    {"think": text}     a piece of reasoning              {"call": {"index", "id"?, "name"?, "arguments"?}}
    {"say": text}       a piece of text                   {"decline": text}   a piece of a refusal
    {"finish": reason}  the end of the answer             {"last": reason}    the reason alone, if more may follow
    {"end": {"reason", "input", "output", "cached", "reasoning"}}   the end with usage
    {"fail": kind}      an error in the stream: `rate_limited` or `failed`

and these are the same for all:

    {"flood": {"text", "times"}}                      that, as it is, so many times
    {"raw": text}       that, as it is                {"pause": s}      waits; {"wait": NAME} for a gate
    {"look": url}       GETs the url and records what it found, before going on
    {"cut": true}       loses the connection
    {"refuse": {"status", "body", "headers"?, "without"?, "times"?}}   answers that instead of a stream; with `without`
                                                      only a request that has this member, with `times` only so often
    {"distrust": text}  answers 400 with that message if a thought is sent back
    {"demand": name}    answers 400 unless every answer in the conversation has that member; {"reject": name} if one has
    {"drip": {"text", "times", "every"}}              says it `times` times at a steady pace; `drip_raw`: as it is

Chat completions also have {"chunk": {…}} and {"delta": {…}}, which are written as they are, and {"usage": {…}}. The two
others have {"thought": true}, after which another thought begins, {"redact": data} and {"phase": name}.

A stream that reaches its last step ends cleanly, with or without `finish`.

It is as strict as the strictest provider: a conversation that one of them refuses is answered with 400 and what is
wrong with it, see `wires`. What it has sent with an answer that called tools must come back with that answer, as it was
and where it was.

Invariants: it shares no code with the product. A script is data, so that a test reads as what happens.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp import web

from tests.support.wires import Speaker, Step, Wire
from tests.support.wires.chat import ChatCompletions
from tests.support.wires.messages import Messages
from tests.support.wires.responses import Responses
from tests.support.wires.rules import violation

WIRES: tuple[Wire, ...] = (ChatCompletions(), Messages(), Responses())


MANY = 1_000_000


class Upstream:
    """The scripts, the gates, and what was asked."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Step]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.requests: list[dict[str, Any]] = []
        self.sent: dict[tuple[str, str], list[Any]] = {}
        """What each model has answered, by the question with a + for each round."""

    def count(self, question: str) -> int:
        """How often that was asked."""
        return sum(request["question"] == question for request in self.requests)

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

    async def complete(self, wire: Wire, request: web.Request) -> web.StreamResponse:
        """Answers by the script of the last user message."""
        body = await request.json()
        messages = wire.conversation(body)
        rounds = self.rounds(messages)
        question = rounds[-1].rstrip("+")
        wrong = wire.violation(body, request.headers) or violation(messages)
        if not any("reject" in step for step in self.scripts.get(question, [])):
            wrong = wrong or wire.lost(body, lambda place: self.sent.get((body["model"], rounds[place])))
        key = request.headers.get("Authorization") or request.headers.get("X-Api-Key")
        headers = {name.lower(): value for name, value in request.headers.items()}
        record = {"question": question, "body": body, "key": key, "looked": [], "headers": headers}
        record["peer"] = list(request.transport.get_extra_info("peername")) if request.transport else None
        self.requests.append(record | {"ended": None, "wrong": wrong})
        if wrong:
            return web.json_response(wire.problem(wrong), status=400)
        record = self.requests[-1]
        call = Call(self, wire, request, record, messages, self.scripts[rounds[-1]])
        try:
            response = await call.run()
        except (asyncio.CancelledError, ConnectionError):
            record["ended"] = "gone"
            raise
        record["ended"] = "done"
        self.sent[body["model"], rounds[-1]] = call.speaker.sent
        return response

    def rounds(self, messages: list[Any]) -> list[str]:
        """The question of each answer in the conversation, and of the one that is due, with a + for each round."""
        rounds, question, answers = [], "", 0
        for message in messages:
            if message["role"] == "user":
                question, answers = self.question(message), 0
            elif message["role"] == "assistant":
                rounds.append(question + "+" * answers)
                answers += 1
        return [*rounds, question + "+" * answers]

    def question(self, message: Any) -> str:
        """What the message asks: questions whose replies said nothing may stand before it."""
        text = text_of(message)
        return text if text in self.scripts else text.rpartition("\n\n")[2]


def text_of(message: Any) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


class Call:
    """One request being answered."""

    def __init__(
        self,
        upstream: Upstream,
        wire: Wire,
        request: web.Request,
        record: dict[str, Any],
        messages: list[Any],
        steps: list[Step],
    ) -> None:
        self.upstream, self.wire, self.request, self.record = upstream, wire, request, record
        self.body = json.dumps(record["body"])
        self.messages, self.steps = messages, steps
        self.asked: set[Any] = {None, *record["body"]}
        self.response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self.speaker: Speaker = wire.speaker(self.do_raw, steps)

    async def run(self) -> web.StreamResponse:
        for step in self.steps:
            ((name, value),) = step.items()
            if name == "refuse" and value.get("without") not in self.asked:
                continue
            if name == "refuse" and self.upstream.count(self.record["question"]) > value.get("times", MANY):
                continue
            if name == "distrust" and ('"signature"' in self.body or '"encrypted_content"' in self.body):
                return web.json_response(self.wire.problem(value), status=400)
            if name in ("demand", "reject") and self.complains(name, value):
                return web.json_response({"error": {"message": f"{value} is missing or unknown"}}, status=400)
            if name == "refuse":
                return web.json_response(value["body"], status=value["status"], headers=value.get("headers"))
            do: Callable[[Any], Awaitable[None]] = getattr(self, f"do_{name}", None) or getattr(
                self.speaker, f"do_{name}"
            )
            await do(value)
        await self.begin()
        await self.response.write_eof()
        return self.response

    def complains(self, what: str, name: str) -> bool:
        answers = [message for message in self.messages if message["role"] == "assistant"]
        return any((name in message) == (what == "reject") for message in answers)

    async def do_demand(self, _: str) -> None:
        """It has what is demanded."""

    do_reject = do_distrust = do_demand

    async def begin(self) -> None:
        if not self.response.prepared:
            await self.response.prepare(self.request)

    async def do_raw(self, text: str) -> None:
        await self.begin()
        await self.response.write(text.encode())

    async def do_flood(self, flood: Any) -> None:
        await self.do_raw(flood["text"] * flood["times"])

    async def do_drip(self, drip: Any) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(drip["times"]):
            await self.speaker.do_say(drip["text"])
            await asyncio.sleep(began + (number + 1) * drip["every"] - clock())

    async def do_drip_raw(self, drip: Any) -> None:
        for _ in range(drip["times"]):
            await self.do_raw(drip["text"])
            await asyncio.sleep(drip["every"])

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
    app = web.Application(client_max_size=1 << 24)
    for wire in WIRES:
        app.router.add_post(wire.path, partial(upstream.complete, wire))
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
