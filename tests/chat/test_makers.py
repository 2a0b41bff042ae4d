"""All that can make a reply keeps the same promises: agents of each framework, one without, and each kind of model.

One conversation with each of them: nobody waits for a reply, it is stopped in the middle of a tool, the server is
killed with `kill -9` while one waits for approval and another one grows, and the approval comes from another window
after that. Five people follow all five turns in five protocols, of whom none has asked anything. `make soak` adds the
models, whose other tests kill and stop them as well.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server, eventually
from tests.support.ag_ui_client import Node as Agents
from tests.support.approvals import decide
from tests.support.chats import KEY, ended, read_chat, read_until, received, text_of, ui_question
from tests.support.node import Node
from tests.support.provider import open_gate, script
from tests.support.viewers import SDK, AgUi, Phases, Screen, Stream, Talk, Text, Viewer, shown

pytestmark = pytest.mark.long
APP = f"{ROOT / 'tests/apps/makers.py'}:app"
MAKERS = {
    "agents": ("plain", "pydantic_ai", "openai_agents", "langgraph"),
    "models": ("chat", "messages", "responses"),
}
DONE, CALLS = {"finish": "stop"}, {"finish": "tool_calls"}


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(sock_read=60)) as session:
        yield session


class Maker:
    """A conversation with one maker, which five people follow, and a second one that nobody follows."""

    def __init__(self, name: str, talk: Talk, upstream: str, agents: Agents, page: Node) -> None:
        self.name, self.talk, self.upstream = name, talk, upstream
        self.alone = f"{talk.chat}-alone"
        self.viewers: dict[str, Viewer] = {
            "state": Stream(talk),
            "AI SDK": SDK(talk, page),
            "AG-UI": AgUi(talk, agents),
            "phases": Phases(talk, None),
        }

    @property
    def http(self) -> aiohttp.ClientSession:
        return self.talk.http

    async def scripted(self, text: str, *rounds: Any) -> str:
        question = f"{self.name}: {text}"
        for number, steps in enumerate(rounds):
            await script(self.http, self.upstream, question + "+" * number, *steps)
        return question

    def body(self, question: str, chat: str | None = None, **more: Any) -> Any:
        agent = {"agent": self.name} if self.name in MAKERS["agents"] else {}
        body = ui_question(chat or self.talk.chat, question, **agent, **more)
        if chat is None:
            body["message"]["id"] = f"q{len(self.talk.asked) + 1}"
            self.talk.asked.append((body["message"]["id"], question))
        return body

    def post(self, body: Any) -> Any:
        return self.http.post(f"{self.talk.server.url}/api/chat", json=body)

    async def reply(self, chat: str | None = None) -> Any:
        return await ended(self.http, self.talk.server, chat or self.talk.chat)

    async def before(self) -> None:
        """What happens before the server is killed."""
        question = await self.scripted("close", [{"say": "So "}, {"wait": f"{self.name} close"}, {"say": "far."}, DONE])
        async with self.post(self.body(question)) as response:
            await read_until(response, "So ")  # and the tab is closed
        await open_gate(self.http, self.upstream, f"{self.name} close")
        assert text_of(await self.reply()) == "So far.", self.name

        call = {"call": {"index": 0, "id": "c1", "name": "wait", "arguments": '{"what": "never"}'}}
        question = await self.scripted("stop", [{"say": "I wait. "}, call, CALLS])
        async with self.post(self.body(question)) as response:
            await eventually(self.runs_a_tool)
            async with self.http.post(f"{self.talk.server.url}/api/chats/{self.talk.chat}/stop") as stopped:
                assert stopped.status == 200
            await received(response)
        stopped_reply = await self.reply()
        statuses = [part.get("status") for part in stopped_reply["parts"]]
        assert (stopped_reply["status"], statuses) == ("stopped", [None, "error"]), self.name

        call = {"call": {"index": 0, "id": "c1", "name": "buy", "arguments": f'{{"what": "{self.name}"}}'}}
        question = await self.scripted("buy", [{"say": "I buy. "}, call, CALLS], [{"say": "Bought."}, DONE])
        async with self.post(self.body(question)) as response:
            await received(response)
        assert (await self.reply())["status"] == "waiting", self.name

        question = await self.scripted("cut", [{"say": "As far "}, {"wait": "never"}, DONE])
        async with self.post(self.body(question, self.alone)) as response:
            await read_until(response, "As far ")

    async def runs_a_tool(self) -> Any:
        reply = (await self.talk.read())["messages"][-1]
        return reply["parts"][1:] and reply["parts"][1]["status"] == "running"

    async def after(self) -> None:
        """What happens when the server is there again."""
        cut = await self.reply(self.alone)
        assert (cut["status"], cut["error"]["kind"], text_of(cut)) == ("error", "interrupted", "As far "), self.name
        question = await self.scripted("cut", [{"say": "Again."}, DONE])
        again = self.body(question, self.alone, trigger="regenerate-message", messageId=cut["id"])
        async with self.post(again) as response:
            await received(response)
        assert text_of(await self.reply(self.alone)).endswith("Again."), self.name

        [id] = [part["approval"]["id"] for part in (await self.reply())["parts"] if "approval" in part]
        status, _ = await decide(self.http, self.talk.server, self.talk.chat, {"id": id, "approved": True})
        assert status == 200, self.name
        bought = await eventually(self.is_bought)
        assert [part["type"] for part in bought["parts"]] == ["text", "tool", "text"], self.name
        for more in ("more", "most"):
            question = await self.scripted(more, [{"say": "Good "}, {"say": f"{more}."}, DONE])
            async with self.post(self.body(question)) as response:
                await received(response)
            assert text_of(await self.reply()) == f"Good {more}.", self.name

    async def is_bought(self) -> Any:
        reply = await self.reply()
        return reply if reply["status"] == "complete" else None


def joined(screen: Screen) -> Screen:
    """Each reply as one text, where a protocol has a message for each of its steps."""
    together = itertools.groupby(screen, lambda pair: pair[0])
    return [(role, "".join(text for _, text in pairs)) for role, pairs in together]


@pytest.mark.parametrize("kind", ["agents", pytest.param("models", marks=pytest.mark.soak)])
async def test_whoever_makes_a_reply_it_is_finished_stopped_approved_and_seen_by_everybody(
    kind: str, upstream: str, node: Agents, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    env = {"MAKERS": kind, "JOURNAL": f"sqlite:///{tmp_path}/journal.db", "CHECKPOINTS": f"{tmp_path}/checkpoints.db"}
    env |= {"CHATTY_UPSTREAM": f"{upstream}/v1", "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}
    with ExitStack() as stack:
        server = stack.enter_context(Server.serving(APP, env=env))
        makers = []
        for name in MAKERS[kind]:
            async with http.post(f"{server.url}/api/chats") as response:
                talk = Talk(server, (await response.json())["id"], http)
            page = stack.enter_context(Node("ai_sdk.mjs", "7"))
            makers.append(Maker(name, talk, upstream, node, page))
        async with asyncio.TaskGroup() as tasks:
            for viewer in (viewer for maker in makers for viewer in maker.viewers.values()):
                tasks.create_task(viewer.follow())
            await asyncio.gather(*(maker.before() for maker in makers))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            await asyncio.gather(*(maker.after() for maker in makers))
            for maker in makers:
                maker.talk.over = True
        for maker in makers:
            truth = await read_chat(http, server, maker.talk.chat)
            assert [message["status"] for message in truth["messages"][1::2]] == [
                "complete",
                "stopped",
                "complete",
                "complete",
                "complete",
            ]
            maker.viewers["text"] = Text(maker.talk)  # which asks for each reply again
            await maker.viewers["text"].follow()
            for protocol, viewer in maker.viewers.items():
                assert joined(viewer.screen(truth)) == shown(truth["messages"]), (maker.name, protocol)
