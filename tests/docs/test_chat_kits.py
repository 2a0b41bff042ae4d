"""The page on CopilotKit and assistant-ui: its files as their readers would use them, in two windows of Chromium.

Both kits are tried in the same way. CopilotKit's packages take half a gigabyte and a minute to install, so `make soak`
adds them.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import Server, eventually
from tests.support.browser import Tab
from tests.support.chats import read_chat, ui_question
from tests.support.node import Node
from tests.support.pages import DOCS, write_files
from tests.support.paths import NODE
from tests.support.provider import open_gate, script

pytestmark = pytest.mark.slow
PAGE = "howto/chat-kits.md"
KITS = {"assistant-ui": "assistant.jsx", "copilotkit": "copilot.jsx"}
STOP = {"assistant-ui": "button:text-is('Stop')", "copilotkit": "[data-testid=copilot-send-button]"}
LICENCE = "`selfManagedAgents` is part of CopilotKit's Enterprise"
"""What CopilotKit says in the console, see the page."""
DONE, CALLS = {"finish": "stop"}, {"finish": "tool_calls"}


@pytest.fixture(scope="module", params=["assistant-ui", pytest.param("copilotkit", marks=pytest.mark.soak)])
def kit(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def server(kit: str, upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_files(PAGE, tmp_path_factory.mktemp(kit))
    bundled(folder, kit)
    program = folder / "kits.py"
    program.write_text(program.read_text().replace("sqlite:///", f"sqlite:///{folder}/"))
    env = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": f"{upstream}/v1"}
    with Server("serve", f"{program}:app", env=env) as running:
        yield running


def bundled(folder: Path, kit: str) -> None:
    """What the page's shell lines do."""
    text = (DOCS / PAGE).read_text().replace("\\\n", "")
    [line] = [line for line in text.splitlines() if line.startswith(f"npx esbuild {KITS[kit]}")]
    command = [str(NODE / "node_modules/.bin/esbuild"), *shlex.split(line)[2:], "--log-level=error"]
    modules = {"NODE_PATH": str(NODE / kit / "node_modules")}
    subprocess.run(command, cwd=folder, env=os.environ | modules, timeout=120, check=True)


class Window(Tab):
    """A window on the page. Nothing that it does is to be a problem, except what `close` is told."""

    def __init__(self, browser: Node, kit: str, name: str, url: str) -> None:
        super().__init__(browser, name, url)
        self.kit = kit
        self.wait("document.querySelector('textarea') !== null")

    def ask(self, text: str) -> None:
        self.do("say", field="textarea", text=text)

    def shows(self, text: str, *, but: str = "a text that nobody says") -> None:
        shown = "document.body.innerText"
        self.wait(f"{shown}.includes({json.dumps(text)}) && !{shown}.includes({json.dumps(but)})")

    def click(self, target: str) -> None:
        self.do("click", target=target)

    def close(self) -> list[str]:
        return [problem for problem in super().close() if LICENCE not in problem]


class Chat:
    """A chat in two windows, and its model."""

    def __init__(self, browser: Node, kit: str, server: Server, upstream: str, http: aiohttp.ClientSession) -> None:
        self.browser, self.kit, self.server, self.upstream, self.http = browser, kit, server, upstream, http
        self.first = Window(browser, kit, "first", server.url)
        self.id = str(self.first.look("location.hash.slice(1)"))
        self.second = Window(browser, kit, "second", f"{server.url}/#{self.id}")
        self.both = (self.first, self.second)

    async def answers(self, question: str, *steps: Any) -> str:
        """Scripts the answer to a question of this chat alone. `{"wait"}` is a gate of this chat."""
        own = [{"wait": f"{self.id} {step['wait']}"} if "wait" in step else step for step in steps]
        return await script(self.http, self.upstream, question, *own)

    async def calls(self, question: str, tool: str, arguments: str, then: str) -> str:
        """The model calls a tool, always with the same id, as some providers do, and then says that."""
        call = {"index": 0, "id": "call_0", "name": tool, "arguments": arguments}
        await self.answers(f"{question}+", {"say": then}, DONE)
        return await self.answers(question, {"think": "Hm."}, {"say": "I look. "}, {"call": call}, CALLS)

    async def open(self, gate: str) -> None:
        await open_gate(self.http, self.upstream, f"{self.id} {gate}")

    async def last(self, status: str) -> Any:
        """The last message, once it has that status."""

        async def found() -> Any:
            message = (await read_chat(self.http, self.server, self.id))["messages"][-1]
            return message if message["status"] == status else None

        return await eventually(found)

    def close(self) -> None:
        assert [window.close() for window in self.both] == [[], []]


@pytest.fixture
async def chat(
    browser: Node, kit: str, server: Server, upstream: str, http: aiohttp.ClientSession
) -> AsyncIterator[Chat]:
    opened = Chat(browser, kit, server, upstream, http)
    yield opened
    opened.close()


async def test_text_grows_in_both_windows_and_a_reload_goes_on(chat: Chat) -> None:
    await script(chat.http, chat.upstream, "user: One?\n\nassistant: Well, so.", {"say": "A title"}, DONE)
    chat.first.ask(await chat.answers("One?", {"say": "Well, "}, {"wait": "one"}, {"say": "so."}, DONE))
    for window in chat.both:
        window.shows("Well,", but="so.")
    chat.second.do("reload")
    chat.second.shows("Well,", but="so.")
    await chat.open("one")
    for window in chat.both:
        window.shows("so.")
    # nobody in a window has asked this, but a program
    question = ui_question(
        chat.id, await chat.answers("Two?", {"say": "Once "}, {"wait": "two"}, {"say": "more."}, DONE)
    )
    async with chat.http.post(f"{chat.server.url}/api/chat", json=question) as response:
        for window in chat.both:
            window.shows("Once", but="more.")
        await chat.open("two")
        await response.read()
    for window in chat.both:
        window.shows("more.")


async def test_tools_run_on_the_server_in_the_window_and_with_approval_from_another_window(chat: Chat) -> None:
    chat.first.ask(await chat.calls("Weather?", "weather", '{"city": "Ulm"}', "It is sunny."))
    for window in chat.both:
        window.shows("It is sunny.")
        window.shows("weather")
    chat.second.ask(await chat.calls("Refund?", "refund", '{"order": 7}', "It is back."))
    for window in chat.both:
        window.shows("Approve")
    chat.second.do("reload")
    chat.second.shows("Approve")
    chat.first.click("text=Approve")
    for window in chat.both:
        window.shows("It is back.", but="Approve")
    assert (await chat.last("complete"))["parts"][2]["result"] == "Order 7 is refunded."
    chat.first.ask(await chat.calls("Again?", "refund", '{"order": 8}', "It is not."))
    for window in chat.both:
        window.shows("Approve")
    chat.second.click("text=Deny")
    for window in chat.both:
        window.shows("It is not.", but="Approve")
    assert (await chat.last("complete"))["parts"][2]["status"] == "denied"
    chat.first.ask(await chat.calls("How wide?", "window_width", "{}", "So wide."))
    for window in chat.both:
        window.shows("So wide.")
    assert (await chat.last("complete"))["parts"][2]["result"] == 1000


async def test_a_reply_is_stopped_for_everybody_fails_and_is_asked_again(chat: Chat) -> None:
    chat.first.ask(await chat.answers("Stop?", {"say": "As far "}, {"wait": "never"}, DONE))
    for window in chat.both:
        window.shows("As far")
    chat.second.click(STOP[chat.kit])
    await chat.last("stopped")
    chat.second.ask(await chat.answers("Fail?", {"say": "And then "}, {"cut": True}))
    await chat.last("error")
    chat.second.shows("The connection to the model was lost.")
    chat.first.shows("And then")
    chat.first.ask(await chat.answers("Better?", {"say": "Much."}, DONE))
    for window in chat.both:
        window.shows("Much.")
    await chat.last("complete")


async def test_questions_are_edited_and_answered_again(chat: Chat) -> None:
    if chat.kit == "copilotkit":
        pytest.skip("its chat does not offer this, see the page")
    for number in ("One", "Two"):
        chat.first.ask(await chat.answers(f"{number}?", {"say": f"{number}."}, DONE))
        for window in chat.both:
            window.shows(f"{number}.")
    await chat.answers("Two?", {"say": "Twice."}, DONE)
    chat.second.click("text=Answer again")
    for window in chat.both:
        window.shows("Twice.", but="Two.")
    await chat.answers("Otherwise?", {"say": "So be it."}, DONE)
    chat.first.click("text=Change")
    chat.first.do("fill", target="[aria-label='Your question']", text="Otherwise?")
    chat.first.click("text=Ask")
    for window in chat.both:
        window.shows("So be it.", but="Twice.")
    kept = (await read_chat(chat.http, chat.server, chat.id))["messages"]
    assert len(kept) == 7, "what was hidden is kept"
