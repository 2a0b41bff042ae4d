"""A server with a chat, and the requests that a person or a page sends to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.support import ROOT, Server, eventually

CHATTY = f"{ROOT / 'tests/apps/chatty.py'}:app"
KEY = "sk-canary-in-the-environment"
INTERRUPTED = "The reply was interrupted before it was done."


def chatty(upstream: str, **settings: str | float) -> Server:
    env = {f"CHATTY_{name.upper()}": str(value) for name, value in settings.items()}
    return Server.serving(
        CHATTY, env={"CHATTY_UPSTREAM": f"{upstream}/v1", "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY, **env}
    )


@dataclass
class Answer:
    """What the one who asked got. `cut`: the connection was lost before the end of the body."""

    status: int
    type: str
    text: str
    cut: bool

    @property
    def problem(self) -> Any:
        assert self.type == "application/problem+json"
        return json.loads(self.text)


async def new_chat(http: aiohttp.ClientSession, server: Server) -> str:
    async with http.post(f"{server.url}/api/chats") as response:
        assert response.status == 201
        return str((await response.json())["id"])


async def invite(http: aiohttp.ClientSession, server: Server, chat: str, name: str) -> int:
    async with http.post(f"{server.url}/api/chats/{chat}/participants", json={"subject": name}) as response:
        return response.status


async def read_chat(http: aiohttp.ClientSession, server: Server, chat: str) -> Any:
    async with http.get(f"{server.url}/api/chats/{chat}") as response:
        assert response.status == 200
        return await response.json()


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


async def post(http: aiohttp.ClientSession, server: Server, chat: str, body: Any, **more: Any) -> Answer:
    async with http.post(f"{server.url}/api/chats/{chat}/stream", json=body, **more) as response:
        return await received(response)


async def ask(http: aiohttp.ClientSession, server: Server, chat: str, question: str) -> Answer:
    return await post(http, server, chat, user(question))


def ui_question(chat: str, text: str, **more: Any) -> dict[str, Any]:
    """The body of a question to `/api/chat`. It has the id q1, so that it is asked once in a chat."""
    parts = [{"type": "text", "text": text}]
    return {"id": chat, "message": {"id": "q1", "role": "user", "parts": parts}, **more}


async def ui_reply(http: aiohttp.ClientSession, server: Server, body: dict[str, Any]) -> Any:
    """Asks a question of `ui_question`. Returns the reply, as the chat has it when it has ended."""
    async with http.post(f"{server.url}/api/chat", json=body) as response:
        assert response.status == 200, await response.text()
        await received(response)
    return await ended(http, server, body["id"])


async def received(response: aiohttp.ClientResponse) -> Answer:
    data, cut = b"", False
    try:
        async for part in response.content.iter_any():
            data += part
    except (aiohttp.ClientPayloadError, aiohttp.ClientOSError):
        cut = True
    finally:
        response.close()
    return Answer(response.status, response.content_type, data.decode(), cut)


async def read_until(response: aiohttp.ClientResponse, text: str) -> None:
    """Reads the answer up to `text`."""
    data = b""
    while text.encode() not in data:
        part = await response.content.readany()
        assert part, f"the answer ended after {data!r}"
        data += part


async def ended(http: aiohttp.ClientSession, server: Server, chat: str) -> Any:
    """The reply at the end of the chat, once it has ended. Another node may not know of it at first."""

    async def whole() -> Any:
        messages = (await read_chat(http, server, chat))["messages"]
        last = messages[-1] if messages else {"role": "user"}
        return last if last["role"] == "assistant" and last["status"] != "streaming" else None

    return await eventually(whole)


def text_of(message: Any) -> str:
    return "".join(part["text"] + "".join(part.get("chunks", ())) for part in message["parts"])


def assert_failed(message: Any, kind: str, text: str) -> None:
    """It says that it failed and how, for people; what was said before is there, folded."""
    assert message["status"] == "error"
    assert message["error"]["kind"] == kind
    assert message["error"]["message"].endswith(".")
    assert message["error"]["message"][0].isupper()
    assert message["parts"] == ([{"type": "text", "text": text}] if text else [])


async def assert_no_canary(http: aiohttp.ClientSession, server: Server, *more: str) -> None:
    """Nothing that the provider says of itself, or that is secret, is in the state or in these texts."""
    async with http.get(f"{server.url}/state?slices=*") as response:
        state = await response.text()
    for text in (state, *more):
        assert "canary" not in text
