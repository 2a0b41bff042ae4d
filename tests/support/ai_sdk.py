"""A page of the AI SDK: its own `Chat` in a Node process, what a person does there, and its messages."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp

from tests.support import Server, eventually
from tests.support.node import Node


class Page:
    """What a person does on a page, and what they see there."""

    def __init__(self, node: Node, server: Server, chat: str) -> None:
        self.node, self.server, self.chat = node, server, chat

    def begin(self, messages: Any = (), *, transport: str = "ui") -> Page:
        """The page is loaded: nothing of what was there before is left."""
        text = f"{self.server.url}/api/chats/{quote(self.chat, safe='')}/stream"
        api = text if transport == "text" else f"{self.server.url}/api/chat"
        self.node.ask("begin", id=self.chat, api=api, messages=list(messages), transport=transport)
        return self

    def send(self, said: str, **more: Any) -> None:
        self.node.ask("send", message={"text": said, **more})

    def regenerate(self, **options: Any) -> None:
        self.node.ask("regenerate", **options)

    def change(self, messages: Any) -> None:
        """The page changes what it holds: `setMessages`."""
        self.node.ask("change", messages=messages)

    def resume(self) -> None:
        self.node.ask("resume")

    def stop(self) -> None:
        self.node.ask("stop")

    async def answered(self, requests: int) -> None:
        """Until so many of the page's requests have been answered: with a status, not with all of a stream."""

        async def counted() -> bool:
            posts = self.node.ask("look")["posts"]
            return len(posts) == requests and "status" in posts[-1]

        await eventually(counted)

    def wait(self, **until: str) -> Any:
        return self.node.ask("wait", **until)

    def settled(self) -> Any:
        """The page when nothing is under way any more."""
        return self.node.ask("settled")

    def ask(self, said: str, **more: Any) -> Any:
        """The page when that was answered."""
        self.send(said, **more)
        return self.settled()


async def loaded(http: aiohttp.ClientSession, page: Page) -> list[Any]:
    """What the page would be given when it is loaded now."""
    async with http.get(f"{page.server.url}/api/chat/{quote(page.chat, safe='')}") as response:
        assert response.status == 200
        answer = await response.json()
    assert answer["id"] == page.chat
    return list(answer["messages"])


def said(messages: list[Any]) -> list[str]:
    return ["".join(part.get("text", "") for part in message["parts"]) for message in messages]


def as_in_seven(message: Any) -> Any:
    """The majors keep arguments that are no JSON under different names: 6 as `rawInput`, 7 as `input`."""
    parts = [
        {("input" if name == "rawInput" else name): value for name, value in part.items()} for part in message["parts"]
    ]
    return {**message, "parts": parts}


def without_approvals(message: Any) -> Any:
    """A message as somebody has it who came after its tool calls were approved: the stream has no chunk for that."""
    return {
        **message,
        "parts": [{name: part[name] for name in part if name != "approval"} for part in message["parts"]],
    }
