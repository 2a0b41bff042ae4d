"""The AG-UI protocol's own `HttpAgent`, in a Node process.

Invariants: the agent drops events that it does not recognize and only warns, so a warning fails the test here.
"""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import Any

from tests.support import Server

_numbers = count(1)


class Node:
    """The process in which the clients run; several commands may be under way. `end` ends what it is given, alone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.reading = asyncio.create_task(self.read())

    async def read(self) -> None:
        async for line in self.reader:
            answer = json.loads(line)
            self.waiting.pop(answer["id"]).set_result(answer)

    async def ask(self, do: str, **command: Any) -> Any:
        number = next(_numbers)
        self.waiting[number] = future = asyncio.get_running_loop().create_future()
        self.writer.write(json.dumps({"id": number, "do": do, **command}).encode() + b"\n")
        async with asyncio.timeout(30):
            answer = await future
        assert "error" not in answer, answer["error"]
        return answer["result"]

    async def end(self) -> None:
        self.writer.close()
        await self.reading


class Seen:
    """What one client has by now."""

    def __init__(self, found: Any) -> None:
        self.messages, self.state, self.events = found["messages"], found["state"], found["events"]
        self.over, self.failure = found["over"], found["failure"]
        assert found["warnings"] == []

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    @property
    def last(self) -> Any:
        return self.events[-1]

    @property
    def roles(self) -> list[str]:
        return [message["role"] for message in self.messages]


class Client:
    """An agent of the protocol's own."""

    def __init__(self, node: Node, server: Server | None, thread: str) -> None:
        self.node, self.server, self.thread = node, server, thread
        self.name = f"client{next(_numbers)}"

    async def open(self, query: str = "", **more: Any) -> Client:
        url = f"{self.server.url}/ag-ui?{query}" if self.server else "http://unused.invalid"
        await self.node.ask("open", name=self.name, url=url, thread=self.thread, **more)
        return self

    async def start(self, said: str | None = None, *, id: str | None = None, run: str = "run0", **more: Any) -> Client:
        """Runs, with that message if there is one."""
        say = {"say": {"id": id or f"q{next(_numbers)}", "content": said}} if said is not None else {}
        await self.node.ask("start", name=self.name, run=run, **say, **more)
        return self

    async def until(self, text: str) -> Seen:
        """Until that text is in a message or in the state."""
        await self.node.ask("until", name=self.name, text=text)
        seen = await self.seen()
        assert text in json.dumps([seen.messages, seen.state], ensure_ascii=False), (text, seen.messages, seen.events)
        return seen

    async def until_finished(self, times: int) -> Seen:
        await self.node.ask("until", name=self.name, finished=times)
        return await self.seen()

    async def seen(self) -> Seen:
        return Seen(await self.node.ask("seen", name=self.name))

    async def done(self) -> Seen:
        return Seen(await self.node.ask("done", name=self.name))
