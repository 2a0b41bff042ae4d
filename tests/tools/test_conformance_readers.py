"""The readers of `statestream conformance --chat` hold what the protocols' own clients hold after the same frames.

The frames are those of tests/dialogues.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from typing import Any

import pytest

from statestream.tools.conformance.chats.ag_ui_thread import ThreadReader
from statestream.tools.conformance.chats.event_blocks import EventBlocks
from statestream.tools.conformance.chats.phases_chat import PhasesReader
from statestream.tools.conformance.chats.plain_text import PlainTextReader
from statestream.tools.conformance.chats.ui_message import UIMessageReader
from tests.dialogues import DIALOGUES, HERE, KEY, QUESTION
from tests.support import ROOT
from tests.support.ag_ui_client import Client
from tests.support.ag_ui_client import Node as Agents
from tests.support.ai_sdk import as_in_seven, said
from tests.support.node import Node


def golden(name: str, protocol: str) -> bytes:
    return (HERE / f"{name}.{protocol}").read_bytes()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("major", ["6", "7"])
def test_a_page_of_the_ai_sdk(major: str) -> None:
    with Node("ai_sdk.mjs", major) as node:
        for name in DIALOGUES:
            heard = node.ask("hear", bytes=encoded(golden(name, "ui")), size=1 << 20, transport="ui")
            reader = UIMessageReader()
            reader.begin()
            for block in EventBlocks().feed(golden(name, "ui")):
                reader.take(block)
            assert (as_in_seven(heard["message"]), heard["error"]) == (reader.message, reader.error), name
            text = PlainTextReader()
            text.take(golden(name, "text"))
            plain = node.ask("hear", bytes=encoded(golden(name, "text")), size=1 << 20, transport="text")
            assert said([plain["message"]]) == [text.held()["text"]], name


def test_a_page_over_a_websocket() -> None:
    with Node("ai_sdk.mjs", "7") as node:
        for name in DIALOGUES:
            items = [json.loads(line) for line in golden(name, "socket").splitlines()]
            heard = node.ask("hearFrames", frames=items)
            reader = UIMessageReader()
            reader.begin()
            for item in items:
                if item["type"] == "chunk":
                    reader.chunk(item["chunk"])
            assert (as_in_seven(heard["message"]), heard["error"]) == (reader.message, reader.error), name


async def test_an_agent_of_ag_ui() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "node", str(ROOT / "tests/node/ag_ui.mjs"), stdin=pipe, stdout=pipe, limit=1 << 26
    )
    assert process.stdin
    assert process.stdout
    node = Agents(process.stdout, process.stdin)
    question = {"id": QUESTION, "role": "user", "content": "What is it?"}
    for name in DIALOGUES:
        stream = golden(name, "agui")
        client = await Client(node, None, KEY).open(bytes=encoded(stream), messages=[question])
        seen = await (await client.start()).done()
        reader = ThreadReader(dict(question))
        for block in EventBlocks().feed(stream):
            reader.take(block)
        assert (seen.messages, seen.failure) == (reader.messages, None), name
    await node.end()
    await process.wait()


def test_a_client_of_the_three_phases() -> None:
    for name in ("text", "tools", "failed", "stopped"):
        done = subprocess.run(
            ["node", str(ROOT / "tests/node/phases.mjs"), str(HERE / f"{name}.phases")],
            capture_output=True,
            check=True,
            text=True,
        )
        reader = PhasesReader()
        for line in golden(name, "phases").splitlines():
            reader.take(line)
        texts: dict[str, Any] = {message["id"]: message["content"] for message in reader.held()}
        assert json.loads(done.stdout) == texts, name
