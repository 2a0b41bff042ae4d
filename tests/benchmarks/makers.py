"""What a token costs with each maker of replies: the chat's own model, an agent without a framework, three frameworks.

All of them ask the same provider, in chat completions. Tokens come `all at once`, or `one by one`, five hundred per
second. What is counted is the processor time of the server, on a SQLite journal, while one person waits for the reply
as plain text. The bytes are those of the columns that a reply's changes have in the journal, at a hundred tokens per
second.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.benchmarks.measure import median, short, table
from tests.benchmarks.tokens import EVENT, TOKEN, cpu_of, provider
from tests.support import ROOT, Server
from tests.support.provider import script

FRAMEWORKS: Final = ("plain", "pydantic_ai", "openai_agents", "langgraph")
MAKERS: Final = {"chat": "models", **dict.fromkeys(FRAMEWORKS, "agents")}
"""The names of the makers, as tests/apps/makers.py knows them, and the server on which they are."""
ONE, ALL, PER_SECOND, ROUNDS = "one by one", "all at once", 500, 3
COUNTS: Final = {ALL: 10_000, ONE: 1_000}
STORED: Final = 1_000
COLUMNS: Final = "length(data) + length(payload) + length(slice) + length(type) + length(request) + length(tag) + 4 * 8"


async def scripted(http: aiohttp.ClientSession, url: str) -> None:
    for maker in MAKERS:
        flood = {"flood": {"text": EVENT, "times": COUNTS[ALL]}}
        drip = {"drip_raw": {"text": EVENT, "times": COUNTS[ONE], "every": 1 / PER_SECOND}}
        slow = {"drip_raw": {"text": EVENT, "times": STORED, "every": 0.01}}
        for how, step in ((ALL, flood), (ONE, drip), ("stored", slow)):
            await script(http, url, f"{maker}: {how}", step, {"finish": "stop"})


async def asked(http: aiohttp.ClientSession, server: Server, maker: str, how: str, count: int) -> str:
    """The chat in which the maker has said so many tokens."""
    async with http.post(f"{server.url}/api/chats") as response:
        chat = str((await response.json())["id"])
    body: dict[str, Any] = {"messages": [{"role": "user", "content": f"{maker}: {how}"}]}
    if MAKERS[maker] == "agents":
        body["agent"] = maker
    async with http.post(f"{server.url}/api/chats/{chat}/stream", json=body) as response:
        text = await response.text()
    assert len(text) == count * len(TOKEN), f"{maker} has not said everything: {text[:200]}"
    return chat


def bytes_of(journal: Path, chats: dict[str, str]) -> dict[str, tuple[int, int]]:
    """The changes of each maker's chat, and their bytes."""
    with sqlite3.connect(journal) as database:
        sql = f"SELECT count(*), sum({COLUMNS}) FROM changes WHERE slice = ?"
        return {maker: database.execute(sql, (f"chat/{chat}",)).fetchone() for maker, chat in chats.items()}


async def measured() -> tuple[dict[tuple[str, str], list[float]], dict[str, tuple[int, int]]]:
    figures = dict[tuple[str, str], list[float]]()
    stored = dict[str, tuple[int, int]]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        async with provider() as url, aiohttp.ClientSession() as http:
            await scripted(http, url)
            env = {"CHATTY_UPSTREAM": f"{url}/v1", "OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none"}
            servers = dict[str, Server]()
            for kind in ("models", "agents"):
                mine = env | {"MAKERS": kind, "JOURNAL": f"sqlite:///{folder}/{kind}.db"}
                servers[kind] = Server.serving(f"{ROOT / 'tests/apps/makers.py'}:app", env=mine)
                stack.enter_context(servers[kind])
            for maker, kind in MAKERS.items():  # everything is imported and connected
                await asked(http, servers[kind], maker, ALL, COUNTS[ALL])
            for _ in range(ROUNDS):
                for how, count in COUNTS.items():
                    for maker, kind in MAKERS.items():
                        before = cpu_of(servers[kind].pid)
                        await asked(http, servers[kind], maker, how, count)
                        each = (cpu_of(servers[kind].pid) - before) / count * 1e6
                        figures.setdefault((maker, how), []).append(each)
            waiting = [asked(http, servers[kind], maker, "stored", STORED) for maker, kind in MAKERS.items()]
            chats = dict(zip(MAKERS, await asyncio.gather(*waiting), strict=True))
            for kind in servers:
                mine = {maker: chat for maker, chat in chats.items() if MAKERS[maker] == kind}
                stored |= bytes_of(folder / f"{kind}.db", mine)
    return figures, stored


def main() -> None:
    figures, stored = asyncio.run(measured())
    tokens = f"{COUNTS[ALL]:,} tokens all at once, and {COUNTS[ONE]:,} one by one"
    print(f"Medians of {ROUNDS} interleaved rounds of {tokens}.\n")
    rows = []
    for maker in MAKERS:
        each = [short(median(figures[maker, how])) for how in COUNTS]
        changes, size = stored[maker]
        rows.append([maker, *each, str(changes), short(size / STORED)])
    table(["maker", f"CPU µs per token, {ALL}", f"{ONE}", "changes per 1,000 tokens", "journal bytes per token"], rows)
