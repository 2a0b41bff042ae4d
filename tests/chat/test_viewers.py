"""Ten viewers in five protocols on one chat, late, cut, and with the server killed in the middle: all see the same.

`SOAK_SECONDS` says how long the soak talks (180).
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from tests.support import ROOT
from tests.support.ag_ui_client import Node as Agents
from tests.support.chats import chatty
from tests.support.node import Node
from tests.support.provider import asked, script
from tests.support.viewers import SDK, AgUi, CutStream, Phases, Stream, Talk, Text, Viewer, shown

WORDS = ("so ", "it ", "goes, ", "größer ", "👩‍👩‍👧 ", "\n", "and ", "on. ", "— ", "Łódź ")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(sock_read=60)) as session:
        yield session


@pytest.fixture
async def agents() -> AsyncIterator[Agents]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(ROOT / "tests/node/ag_ui.mjs"), stdin=pipe, stdout=pipe, limit=1 << 26
    )
    assert process.stdin
    assert process.stdout
    running = Agents(process.stdout, process.stdin)
    yield running
    await running.end()
    await process.wait()


class Conversation:
    """Asks one question after the other; now and then the server is killed while it is answered."""

    def __init__(self, talk: Talk, upstream: str, rng: random.Random) -> None:
        self.talk, self.upstream, self.rng = talk, upstream, rng
        self.kills = self.tokens = 0

    async def question(self, number: int, *, kill: bool) -> None:
        tokens = [self.rng.choice(WORDS) for _ in range(self.rng.randint(20, 60))]
        steps = [step for token in tokens for step in ({"say": token}, {"pause": self.rng.choice((0, 0.01, 0.03))})]
        text = f"Question {number} of {self.talk.chat}?"
        await script(self.talk.http, self.upstream, text, *steps, {"finish": "stop"})
        self.tokens += len(tokens)
        self.talk.asked.append((f"q{number}", text))
        if kill:
            await self._until(lambda state: len(state["messages"]) == 2 * number and self._grown(state))
            await asyncio.to_thread(self.talk.server.kill)
            await asyncio.to_thread(self.talk.server.start)
            self.kills += 1
        await self._until(lambda state: len(state["messages"]) == 2 * number and self._ended(state))

    async def _until(self, so: object) -> None:
        async with asyncio.timeout(60):
            while not so(await self.talk.read()):  # type: ignore[operator]
                await asyncio.sleep(0.02)

    def _grown(self, state: object) -> bool:
        last = state["messages"][-1]  # type: ignore[index]
        return last["status"] == "streaming" and len(shown([last])[0][1]) > self.rng.randint(0, 20)

    def _ended(self, state: object) -> bool:
        return state["messages"][-1]["status"] != "streaming"  # type: ignore[index, no-any-return]


async def talk_with_ten(
    upstream: str, http: aiohttp.ClientSession, agents: Agents, journal: Path, *, seconds: float
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with ExitStack() as stack:
        server = stack.enter_context(chatty(upstream, journal=f"sqlite:///{journal}"))
        six, seven = (stack.enter_context(Node("ai_sdk.mjs", major)) for major in "67")
        async with http.post(f"{server.url}/api/chats") as response:
            talk = Talk(server, (await response.json())["id"], http)
        viewers: dict[str, Viewer] = {
            "text, asks": Text(talk),
            "state": Stream(talk),
            "AI SDK 6": SDK(talk, six),
            "AG-UI": AgUi(talk, agents),
            "phases": Phases(talk, None),
        }
        late: dict[str, Viewer] = {
            "text, late": Text(talk),
            "state, cut": CutStream(talk, rng),
            "AI SDK 7, late": SDK(talk, seven),
            "AG-UI, late": AgUi(talk, agents),
            "phases, cut": Phases(talk, rng),
        }
        conversation = Conversation(talk, upstream, rng)
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            for viewer in viewers.values():
                tasks.create_task(viewer.follow())
            number, waiting = 0, list(late.values())
            while number < 4 or time.monotonic() < until:
                number += 1
                kill = number == 3 or (number > 4 and rng.random() < 0.3)
                asking = tasks.create_task(conversation.question(number, kill=kill))
                while waiting and number > 1:
                    await asyncio.sleep(rng.random() / 2)
                    tasks.create_task(waiting.pop().follow())
                await asking
            talk.over = True
            async with asyncio.timeout(60):
                truth = await talk.read()
        screens = {name: viewer.screen(truth) for name, viewer in (viewers | late).items()}
        questions = [len(await asked(http, upstream, text)) for _, text in talk.asked]
    print(f"{number} questions, {conversation.tokens} tokens, {conversation.kills} kills")
    print({name: vars(viewer).get("streamed", vars(viewer).get("cuts")) for name, viewer in (viewers | late).items()})
    assert questions == [1] * number, "the model was asked more or less than once"
    assert conversation.kills > 0
    statuses = [message["status"] for message in truth["messages"]]
    assert statuses.count("error") == conversation.kills
    for name, screen in screens.items():
        assert screen == shown(truth["messages"]), name
    assert len(screens) == 10


async def test_ten_viewers_in_five_protocols_end_with_the_same_messages(
    upstream: str,
    http: aiohttp.ClientSession,
    agents: Agents,
    tmp_path: Path,
) -> None:
    await talk_with_ten(upstream, http, agents, tmp_path / "journal.db", seconds=0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_ten_viewers_for_minutes(
    upstream: str,
    http: aiohttp.ClientSession,
    agents: Agents,
    tmp_path: Path,
) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS", "180"))
    await talk_with_ten(upstream, http, agents, tmp_path / "journal.db", seconds=seconds)
