"""A chat whose tools people have to approve (tests/apps/approving.py), and what they do there."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from tests.support import ROOT, Server
from tests.support.chats import KEY, ended, received, ui_question
from tests.support.provider import script

APP = f"{ROOT / 'tests/apps/approving.py'}:app"
Http = aiohttp.ClientSession


def serving(upstream: str, **env: str) -> Server:
    given = {"CHATTY_UPSTREAM": f"{upstream}/v1", "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    return Server.serving(APP, env=given | env)


def call(called: int | str, name: str = "order", index: int = 0, **arguments: Any) -> dict[str, Any]:
    return {"call": {"index": index, "id": f"call_{called}", "name": name, "arguments": json.dumps(arguments)}}


async def orders(http: Http, upstream: str, question: str, *ids: int, then: str = "Done.") -> str:
    """The model orders these books, and says `then` once it knows what came of that."""
    calls = [call(id, index=index, id=id) for index, id in enumerate(ids)]
    await script(http, upstream, f"{question}+", {"say": then}, {"finish": "stop"})
    return await script(http, upstream, question, {"say": "I order. "}, *calls, {"finish": "tool_calls"})


async def waiting(http: Http, server: Server, chat: str, text: str, **more: Any) -> Any:
    """Asks a question; the reply, which waits."""
    async with http.post(f"{server.url}/api/chat", json=ui_question(chat, text, **more)) as response:
        assert response.status == 200, await response.text()
        await received(response)
    reply = await ended(http, server, chat)
    assert reply["status"] == "waiting"
    assert "node" not in reply["run"]
    return reply


def approvals(reply: Any) -> list[str]:
    return [part["approval"]["id"] for part in reply["parts"] if part.get("status") == "waiting"]


async def decide(http: Http, server: Server, chat: str, *decisions: dict[str, Any]) -> tuple[int, Any]:
    async with http.post(f"{server.url}/api/chats/{chat}/approvals", json={"decisions": list(decisions)}) as response:
        return response.status, await response.json()
