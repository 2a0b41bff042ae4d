"""Ten people on one chat, two in each of five protocols: what each of them has on the screen in the end.

Every viewer follows the chat until it is told that the conversation is over; whatever happens to the server or to its
own connection, it comes back as its protocol's clients do. `screen` is what it shows then: (role, text) for each
message.

Invariants: a viewer shares nothing with the others and asks the server for nothing but what its protocol gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp

import statestream
from tests.support import PlainClient, Server
from tests.support.ag_ui_client import Client as Agent
from tests.support.ag_ui_client import Node as Agents
from tests.support.ai_sdk import Page
from tests.support.node import Node
from tests.support.phases import Fold

Screen = list[tuple[str, str]]
AWAY = (aiohttp.ClientError, ConnectionError, TimeoutError, OSError)
PAUSE = 0.05
"""How long a client that was sent away waits before it comes back."""


class Talk:
    """What everybody knows: where the chat is, what was asked so far, and whether it is over."""

    def __init__(self, server: Server, chat: str, http: aiohttp.ClientSession) -> None:
        self.server, self.chat, self.http = server, chat, http
        self.asked: list[tuple[str, str]] = []
        self.over = False

    async def read(self) -> Any:
        """The chat as the server has it, once there is one to answer."""
        while True:
            try:
                async with self.http.get(f"{self.server.url}/api/chats/{self.chat}") as response:
                    if response.status == 200:
                        return await response.json()
            except AWAY:
                pass
            await asyncio.sleep(PAUSE)


class Viewer(Protocol):
    async def follow(self) -> None:
        """Until the conversation is over and all of it has been seen."""

    def screen(self, truth: Any) -> Screen:
        """What it shows. `truth` gives the order, where its protocol has none, and the last position."""


def said(message: Any) -> str:
    parts = (part for part in message["parts"] if part["type"] == "text")
    return "".join(part["text"] + "".join(part.get("chunks", ())) for part in parts)


def shown(messages: Any) -> Screen:
    return [(message["role"], said(message)) for message in messages]


class Stream:
    """`/stream/state` through the Python client, which comes back by itself."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.state = talk, {"messages": []}

    async def follow(self) -> None:
        name = f"chat/{self.talk.chat}"
        async with statestream.connect(self.talk.server.url, slices=[name]) as stream:
            while not self.talk.over or self._behind:  # after a few failures the client waits for seconds
                with contextlib.suppress(statestream.TimedOut):
                    await stream.wait_for(lambda state: state.get(name) != self.state, timeout=0.5)
                self.state = stream.state.get(name, self.state)

    @property
    def _behind(self) -> bool:
        messages = self.state["messages"]
        return len(messages) < 2 * len(self.talk.asked) or messages[-1]["status"] == "streaming"

    def screen(self, truth: Any) -> Screen:
        return shown(self.state["messages"])


class CutStream:
    """`/stream/state` on a plain socket that is cut after every few frames, and resumed by its cursor."""

    def __init__(self, talk: Talk, rng: random.Random) -> None:
        self.talk, self.rng = talk, rng
        self.client = PlainClient(talk.server.port, f"slices=chat/{talk.chat}", path="/stream/state")
        self.cuts = 0

    async def follow(self) -> None:
        while not self.talk.over or self._behind:
            await asyncio.to_thread(self._read, self.rng.randint(1, 12))

    @property
    def _behind(self) -> bool:
        messages = self.client.state.get(f"chat/{self.talk.chat}", {"messages": []})["messages"]
        return not messages or messages[-1]["status"] == "streaming"

    def _read(self, frames: int) -> None:
        try:
            self.client.connect(timeout=1.0)
            for _, _ in zip(range(frames), self.client.frames(), strict=False):
                pass
        except (OSError, EOFError):
            return
        finally:
            self.client.cut()
        self.cuts += 1

    def screen(self, truth: Any) -> Screen:
        return shown(self.client.state[f"chat/{self.talk.chat}"]["messages"])


class Text:
    """Plain text: posts each question by its id, and again until it was answered; every time the whole reply."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.replies = talk, {}

    async def follow(self) -> None:
        while not self.talk.over or len(self.replies) < len(self.talk.asked):
            if len(self.replies) < len(self.talk.asked):
                message_id, question = self.talk.asked[len(self.replies)]
                self.replies[question] = await self.ask(message_id, question)
            await asyncio.sleep(PAUSE)

    async def ask(self, message_id: str, question: str) -> str:
        message = {"id": message_id, "role": "user", "parts": [{"type": "text", "text": question}]}
        while True:
            state = await self.talk.read()
            known = [m for m in state["messages"] if m.get("parent") == message_id]
            text, whole = await self._post({"messages": [message]})
            if whole or (known and known[0]["status"] == "error" and text is not None):
                return text or ""
            await asyncio.sleep(PAUSE)

    async def _post(self, body: Any) -> tuple[str | None, bool]:
        """The text, and whether the answer ended well. A failed reply is cut, and so is one whose server is killed."""
        data = b""
        try:
            async with self.talk.http.post(
                f"{self.talk.server.url}/api/chats/{self.talk.chat}/stream", json=body
            ) as response:
                if response.status != 200:
                    return None, False
                async for part in response.content.iter_any():
                    data += part
        except aiohttp.ClientPayloadError:
            return data.decode(), False
        except AWAY:
            return None, False
        return data.decode(), True

    def screen(self, truth: Any) -> Screen:
        return [pair for question, reply in self.replies.items() for pair in (("user", question), ("assistant", reply))]


class SDK:
    """The AI SDK's own Chat: a page that is loaded, resumes what is being made, and is loaded again after that."""

    def __init__(self, talk: Talk, node: Node) -> None:
        self.talk, self.page = talk, Page(node, talk.server, talk.chat)
        self.messages: list[Any] = []
        self.streamed = 0

    async def follow(self) -> None:
        last = False
        while not last:
            last = self.talk.over
            try:
                async with self.talk.http.get(f"{self.talk.server.url}/api/chat/{self.talk.chat}") as response:
                    loaded = (await response.json())["messages"]
            except AWAY:
                last = False
                await asyncio.sleep(PAUSE)
                continue
            page = await asyncio.to_thread(self._resumed, loaded)
            last = last and page["status"] == "ready"
            if page["status"] == "ready":
                self.messages = page["messages"]
                self.streamed += page["posts"][-1].get("status") == 200
            await asyncio.sleep(PAUSE)

    def _resumed(self, loaded: list[Any]) -> Any:
        self.page.begin(loaded).resume()
        return self.page.settled()

    def screen(self, truth: Any) -> Screen:
        return shown(self.messages)


class AgUi:
    """AG-UI's own HttpAgent in follow mode, which runs again when its stream is lost."""

    def __init__(self, talk: Talk, agents: Agents) -> None:
        self.talk, self.agent = talk, Agent(agents, talk.server, talk.chat)
        self.messages: list[Any] = []
        self.between = False

    async def follow(self) -> None:
        await self.agent.open("follow=1")
        while not (self.talk.over and self._whole):
            await self.agent.start(run="follow", connect=True)
            while not (seen := await self.agent.seen()).over and not (self.talk.over and self._whole):
                self.messages, self.between = seen.messages, seen.types[-1:] in (["RUN_FINISHED"], ["RUN_ERROR"])
                await asyncio.sleep(PAUSE)
            await asyncio.sleep(PAUSE)
        await self.agent.node.ask("abort", name=self.agent.name)
        await self.agent.done()

    @property
    def _whole(self) -> bool:
        """Whether every question that was asked is there, and nothing is being made."""
        return self.between and [m["role"] for m in self.messages].count("user") == len(self.talk.asked)

    def screen(self, truth: Any) -> Screen:
        said = [m for m in self.messages if m["role"] in ("user", "assistant")]
        return [(m["role"], m.get("content", "")) for m in said]


class Phases:
    """`/ws` in three phases, cut after every few frames or never, and back with its last position."""

    def __init__(self, talk: Talk, rng: random.Random | None) -> None:
        self.talk, self.rng, self.fold = talk, rng, Fold()
        self.cuts = 0

    async def follow(self) -> None:
        while not self.talk.over or not await self._seen_all():
            try:
                await self._connected(self.rng.randint(1, 9) if self.rng else 1 << 30)
            except AWAY:
                await asyncio.sleep(PAUSE)

    async def _connected(self, frames: int) -> None:
        position = self.fold.positions.get(self.talk.chat, "")
        query = urlencode({"session_id": self.talk.chat, "position": position})
        async with self.talk.http.ws_connect(f"{self.talk.server.url}/ws?{query}") as socket:
            for _ in range(frames):
                try:
                    message = await socket.receive(timeout=0.5)
                except TimeoutError:
                    if self.talk.over:
                        return
                    continue
                if message.type is not aiohttp.WSMsgType.TEXT:
                    return
                self.fold.take(message.json())
            self.cuts += 1
            if self.rng:
                transport = socket.get_extra_info("socket")
                transport.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER of nothing: a reset, as a lost network

    async def _seen_all(self) -> bool:
        return all(message["id"] in self.fold.ended for message in (await self.talk.read())["messages"])

    def screen(self, truth: Any) -> Screen:
        return [(m["role"], self.without_sentence(m)) for m in truth["messages"]]

    def without_sentence(self, message: Any) -> str:
        """This protocol says what went wrong as a chunk, behind the text."""
        text = self.fold.texts[message["id"]]
        if "error" not in message:
            return text
        sentence = message["error"]["message"]
        assert text.endswith(sentence)
        return text.removesuffix(sentence).removesuffix("\n\n")
