"""What a token costs: to read it from a provider, in several ways, and end to end through a whole chat.

A provider in a process of its own sends the same chunks to each way: `one by one`, each in a write of its own with
a pause behind it, as models talk, or `all at once`, as fast as they can be read. `typed` is the openai package's own
stream, `ours` is OpenAIModel, `floor` is aiohttp and orjson with nothing between. `messages` is AnthropicModel and
`responses` is OpenAIResponsesModel, with the events of their APIs. What is counted is processor time: of this process,
and for the whole chat of its server, on the memory journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import openai
import orjson

from statestream.chat.models import Model, Turn
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.openai import OpenAIModel
from statestream.chat.models.responses import OpenAIResponsesModel
from statestream.chat.models.settings import ModelSettings
from tests.benchmarks.measure import TICKS, interleaved, median, ratio, run, short, table
from tests.support import ROOT, Server

TOKEN: Final = " token"
MANY: Final = 20_000
PACED: Final = 1_500
PAUSE: Final = 0.0004
ROUNDS: Final = 5
CHAT_TOKENS: Final = 60_000
VIEWERS: Final = (0, 10)
ONE, ALL = "one by one", "all at once"
CHUNK: Final = {
    "id": "chatcmpl-C7q9Zt2mXw4R0bYkLnVd8sHf3JpGa",
    "object": "chat.completion.chunk",
    "created": 1_795_274_036,
    "model": "test-model-2026-08-07",
    "service_tier": "default",
    "system_fingerprint": "fp_0a1b2c3d4e",
    "choices": [{"index": 0, "delta": {"content": TOKEN}, "logprobs": None, "finish_reason": None}],
    "usage": None,
}
EVENT: Final = f"data: {json.dumps(CHUNK)}\n\n"
OTHERS: Final = {
    "messages": {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": TOKEN},
    },
    "responses": {
        "type": "response.output_text.delta",
        "sequence_number": 1_234,
        "item_id": "msg_0a1b2c3d4e5f60718293a4b5c6d7e8f9",
        "output_index": 0,
        "content_index": 0,
        "delta": TOKEN,
        "logprobs": [],
        "obfuscation": "aBcDeFgHiJ",
    },
}
"""A token in the events of the other APIs."""
Reader = Callable[[str], Awaitable[int]]
Way = contextlib.AbstractAsyncContextManager[Reader]


def event_of(way: str) -> str:
    """The event with a token, as this way reads it."""
    if way not in OTHERS:
        return EVENT
    return f"event: {OTHERS[way]['type']}\ndata: {json.dumps(OTHERS[way])}\n\n"


@contextlib.asynccontextmanager
async def provider() -> AsyncIterator[str]:
    """The URL of a provider that knows the questions."""
    command = (sys.executable, "-m", "tests.support.upstream")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout
        url = (await process.stdout.readline()).decode().split()[-1]
        finish = {"finish": "stop"}
        scripts = {"chat": [{"flood": {"text": EVENT, "times": CHAT_TOKENS}}, finish]}
        for way in WAYS:
            event = event_of(way)
            slowly = [step for _ in range(PACED) for step in ({"raw": event}, {"pause": PAUSE})]
            scripts[f"{ONE} {way}"] = [*slowly, finish]
            scripts[f"{ALL} {way}"] = [{"flood": {"text": event, "times": MANY}}, finish]
        async with aiohttp.ClientSession() as http:
            for question, steps in scripts.items():
                async with http.post(f"{url}/scripts", json={"question": question, "steps": steps}) as response:
                    response.raise_for_status()
        yield url
    finally:
        process.terminate()
        await process.wait()


# the ways to read


@contextlib.asynccontextmanager
async def typed(url: str) -> AsyncIterator[Reader]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:

        async def read(question: str) -> int:
            size = 0
            messages: Any = [{"role": "user", "content": question}]
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            async for chunk in stream:
                size += len(chunk.choices[0].delta.content or "")
            return size

        yield read


@contextlib.asynccontextmanager
async def through(model: Model) -> AsyncIterator[Reader]:
    async def read(question: str) -> int:
        size = 0
        async for piece in model.answer([Turn(role="user", text=question)], [], ModelSettings()):
            size += len(piece) if isinstance(piece, str) else 0
        return size

    yield read
    await model.close()


@contextlib.asynccontextmanager
async def floor(url: str) -> AsyncIterator[Reader]:
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer none"}) as http:

        async def read(question: str) -> int:
            size = 0
            body = {"model": "m", "messages": [{"role": "user", "content": question}], "stream": True}
            async with http.post(f"{url}/v1/chat/completions", json=body) as response:
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        size += len(orjson.loads(line[6:])["choices"][0]["delta"].get("content", ""))
            return size

        yield read


def ours(url: str) -> Way:
    return through(OpenAIModel("m", base_url=f"{url}/v1", api_key="none"))


def messages(url: str) -> Way:
    return through(AnthropicModel("m", base_url=url, api_key="none"))


def responses(url: str) -> Way:
    return through(OpenAIResponsesModel("m", base_url=f"{url}/v1", api_key="none"))


WAYS: Final = {"floor": floor, "ours": ours, "typed": typed, "messages": messages, "responses": responses}


async def microseconds(way: str, url: str, question: str) -> float:
    """Of processor time a token, once everything is imported and connected."""
    count = PACED if question == ONE else MANY
    async with WAYS[way](url) as read:
        await read(f"{ALL} {way}")
        start = time.process_time()
        size = await read(f"{question} {way}")
        used = time.process_time() - start
    assert size == count * len(TOKEN), f"{way} has not read everything"
    return used / count * 1e6


# the whole chat


def cpu_of(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def watch(server: Server, chat: str, size: int) -> None:
    """Reads what a viewer is sent: the text as it grows, and once more, folded, at the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(f"GET /stream/state?slices=chat/{chat} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    got = 0
    while got < 2 * size:
        data = await reader.read(1 << 18)
        assert data, "the stream ended before the reply did"
        got += len(data)
    writer.close()


async def asked(http: aiohttp.ClientSession, server: Server, question: str, viewers: int) -> tuple[float, float]:
    """Seconds of the server's processor time, and of the clock, until everybody has all of a reply."""
    async with http.post(f"{server.url}/api/chats") as response:
        chat = (await response.json())["id"]
    watching = [asyncio.create_task(watch(server, chat, CHAT_TOKENS * len(TOKEN))) for _ in range(viewers)]
    await asyncio.sleep(0.1)  # the viewers are there
    cpu, clock = cpu_of(server.pid), time.perf_counter()
    body = {"messages": [{"role": "user", "content": question}]}
    async with http.post(f"{server.url}/api/chats/{chat}/stream", json=body) as response:
        text = await response.text()
    await asyncio.gather(*watching)
    figures = cpu_of(server.pid) - cpu, time.perf_counter() - clock
    assert set(text.split()) == {TOKEN.strip()}, "the reply is not what was streamed"
    return figures


async def whole(url: str) -> dict[int, list[tuple[float, float]]]:
    """For each number of viewers, the figures of each round."""
    env = {"CHATTY_UPSTREAM": f"{url}/v1", "OPENAI_API_KEY": "none"}
    figures: dict[int, list[tuple[float, float]]] = {viewers: [] for viewers in VIEWERS}
    with Server.serving(f"{ROOT / 'tests/apps/chatty.py'}:app", env=env) as server:
        async with aiohttp.ClientSession() as http:
            await asked(http, server, f"{ALL} ours", 0)
            for _ in range(ROUNDS):
                for viewers in VIEWERS:
                    figures[viewers].append(await asked(http, server, "chat", viewers))
    return figures


async def measured() -> tuple[dict[str, dict[str, list[float]]], dict[int, list[tuple[float, float]]]]:
    async with provider() as url:

        def measure(way: str, question: str) -> float:
            return run(microseconds(way, url, question))

        def rounds(question: str) -> dict[str, list[float]]:
            return interleaved({way: lambda way=way: measure(way, question) for way in WAYS}, ROUNDS)

        read = {question: await asyncio.to_thread(rounds, question) for question in (ONE, ALL)}
        return read, await whole(url)


def main() -> None:
    read, chat = asyncio.run(measured())
    print(f"Chunks of {len(EVENT)} bytes; medians of {ROUNDS} interleaved rounds.\n")
    rows = []
    for question, rounds in read.items():
        for way, each in rounds.items():
            rows.append([question, way, short(median(each)), f"x{short(ratio(each, rounds['floor']))}"])
    table(["chunks arrive", "read by", "CPU µs per token", "relative to floor"], rows)
    print(f"\nA whole chat, {CHAT_TOKENS:,} tokens all at once, with the person who asks and further viewers.\n")
    rows = []
    for viewers, each in chat.items():
        cpu, clock = ([figures[at] for figures in each] for at in (0, 1))
        a_token = median(cpu) / CHAT_TOKENS * 1e6
        rows.append([str(viewers), short(a_token), short(1e6 / a_token), short(CHAT_TOKENS / median(clock))])
    table(["viewers", "CPU µs per token", "tokens per second and core", "tokens per second"], rows)
