"""Tools of MCP servers, through real servers of both kinds, and a provider that calls their tools.

What the model is offered is seen in the requests that the upstream has recorded.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from statestream import Store
from statestream.chat import Chat, Question
from statestream.chat.mcp.server import LOOK_SECONDS
from statestream.chat.models import Finish, Piece
from tests.support import ROOT, Server, eventually
from tests.support.approvals import approvals, decide, waiting
from tests.support.approvals import call as calling
from tests.support.chats import ask, ended, new_chat
from tests.support.provider import asked, script
from tests.support.typed import free_port

APP = f"{ROOT / 'tests/apps/with_toolbox.py'}:app"
TOOLBOX = ROOT / "tests/apps/toolbox.py"
COMMAND = [sys.executable, str(TOOLBOX)]
Http = aiohttp.ClientSession
DONE = ({"say": "Done."}, {"finish": "stop"})
SOON = LOOK_SECONDS - 5
"""Before the tools would be listed without a reason."""
_numbers = count(1)


@contextmanager
def toolbox(port: int, **env: str) -> Iterator[subprocess.Popen[str]]:
    """The server at a URL, which serves from the first line that says so."""
    process = subprocess.Popen(
        [*COMMAND, str(port)], stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **env}
    )
    try:
        assert process.stderr
        assert any("running on" in line for line in process.stderr), "the MCP server did not start"
        yield process
    finally:
        process.kill()
        process.communicate()


def chat_with(upstream: str, **env: str) -> Server:
    return Server.serving(APP, env={"CHATTY_UPSTREAM": f"{upstream}/v1", "OPENAI_API_KEY": "sk-canary", **env})


def by_command(upstream: str, **env: str) -> Server:
    return chat_with(upstream, TOOLBOX_COMMAND=shlex.join(COMMAND), **env)


def by_url(upstream: str, port: int, **env: str) -> Server:
    return chat_with(upstream, TOOLBOX_URL=f"http://127.0.0.1:{port}/mcp", **env)


@pytest.fixture(scope="module")
def patient(upstream: str) -> Iterator[Server]:
    """A chat that gives a tool two seconds."""
    with by_command(upstream, CHATTY_TOOL="2") as running:
        yield running


@pytest.fixture
async def server(patient: Server, http: Http, upstream: str) -> Server:
    await until_offered(http, patient, upstream, "toolbox_add")
    return patient


async def offered(http: Http, server: Server, upstream: str) -> list[str]:
    """The names of the tools that the model is offered at the moment."""
    question = await script(http, upstream, f"Question {next(_numbers)}.", *DONE)
    chat = await new_chat(http, server)
    await ask(http, server, chat, question)
    [request] = await asked(http, upstream, question)
    return [tool["function"]["name"] for tool in request["body"].get("tools", [])]


async def call(http: Http, server: Server, upstream: str, name: str, arguments: str = "{}") -> Any:
    """The part of the reply with that call."""
    called = {"call": {"index": 0, "id": "c1", "name": name, "arguments": arguments}}, {"finish": "tool_calls"}
    question = await script(http, upstream, f"Question {next(_numbers)}.", *called)
    await script(http, upstream, question + "+", *DONE)
    chat = await new_chat(http, server)
    await ask(http, server, chat, question)
    reply = await ended(http, server, chat)
    assert reply["status"] == "complete", reply
    return reply["parts"][0]


async def until_offered(
    http: Http, server: Server, upstream: str, name: str, there: bool = True, seconds: float = 60
) -> None:
    async def as_wanted() -> bool:
        return (name in await offered(http, server, upstream)) is there

    await eventually(as_wanted, seconds=seconds)


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True], ids=["newest protocol", "older protocol"])
async def test_a_process_is_followed_and_started_again(http: Http, upstream: str, older: bool) -> None:
    with by_command(upstream, **({"OLDER": "1"} if older else {})) as server:
        await until_offered(http, server, upstream, "toolbox_add")
        assert (await call(http, server, upstream, "toolbox_grow"))["result"] == {"result": "Growing."}
        await until_offered(http, server, upstream, "toolbox_grown", seconds=SOON)
        first = (await call(http, server, upstream, "toolbox_process"))["result"]["pid"]
        os.kill(first, signal.SIGKILL)
        await until_offered(http, server, upstream, "toolbox_grown", there=False, seconds=SOON)
        await until_offered(http, server, upstream, "toolbox_add")
        second = (await call(http, server, upstream, "toolbox_process"))["result"]["pid"]
        assert first != second
        errors = server.stop()
        assert f"the MCP server toolbox ({sys.executable}) is not there, trying again: MCPError" in errors
        assert not Path(f"/proc/{second}").exists()


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True], ids=["newest protocol", "older protocol"])
async def test_a_url_is_followed_and_connected_to_again(http: Http, upstream: str, older: bool) -> None:
    port, env = free_port(), {"OLDER": "1"} if older else {}
    with by_url(upstream, port) as server:
        assert await offered(http, server, upstream) == ["toolbox_taken"], "it is not there yet"
        with toolbox(port, **env) as process:
            await until_offered(http, server, upstream, "toolbox_add")
            assert (await call(http, server, upstream, "toolbox_add", '{"a": 1, "b": 2}'))["result"] == {"result": 3}
            await call(http, server, upstream, "toolbox_grow")
            await until_offered(http, server, upstream, "toolbox_grown", seconds=SOON)
            process.kill()
            lost = await call(http, server, upstream, "toolbox_add", '{"a": 1, "b": 2}')
            assert lost["status"] == "error"
            await until_offered(http, server, upstream, "toolbox_add", there=False)
            gone = await call(http, server, upstream, "toolbox_add", '{"a": 1, "b": 2}')
            assert gone["error"] == "There is no tool of that name."
        with toolbox(port, **env):
            await until_offered(http, server, upstream, "toolbox_add")
            assert "toolbox_grown" not in await offered(http, server, upstream)
            errors = server.stop()
        where = f"(http://127.0.0.1:{port}/mcp)"
        assert errors.count(f"the MCP server toolbox {where} is not there, trying again: ") == 2, errors


async def test_a_server_that_cannot_be_started_is_reported(http: Http, upstream: str) -> None:
    with chat_with(upstream, TOOLBOX_COMMAND="no-such-program --at-all") as server:
        assert await offered(http, server, upstream) == ["toolbox_taken"]
        errors = server.stop()
    assert "the MCP server toolbox (no-such-program) is not there, trying again: FileNotFoundError" in errors


@pytest.mark.slow
async def test_a_server_that_says_nothing_holds_up_nobody(http: Http, upstream: str) -> None:
    """The chat waits for it for ten seconds when it starts, and a moment when it ends."""
    with chat_with(upstream, TOOLBOX_COMMAND="sleep 600") as server:
        assert await offered(http, server, upstream) == ["toolbox_taken"]
        [child] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        server.stop()
        assert not Path(f"/proc/{child}").exists()


async def test_headers_go_with_each_request(http: Http, upstream: str) -> None:
    port = free_port()
    with toolbox(port, SECRET="known"):
        with by_url(upstream, port, TOOLBOX_TOKEN="known") as server:
            assert "toolbox_add" in await offered(http, server, upstream)
        with by_url(upstream, port, TOOLBOX_TOKEN="guessed") as server:
            assert await offered(http, server, upstream) == ["toolbox_taken"]
            errors = server.stop()
            assert f"(http://127.0.0.1:{port}/mcp) is not there" in errors
            assert "guessed" not in errors


OUTCOMES: dict[str, tuple[str, str, Any]] = {
    "an object": ("toolbox_weather", '{"city": "Ulm"}', {"city": "Ulm", "celsius": 20}),
    "another value": ("toolbox_add", '{"a": 1, "b": 2}', {"result": 3}),
    "text and a picture": ("toolbox_say", '{"text": "Hello."}', "Hello.\n[image]\nAnd that is all."),
    "a page": ("toolbox_look_up", "null", "See\n[A page](https://example.org/page)"),
    "a tool of the chat": ("toolbox_taken", "{}", "mine"),
}


@pytest.mark.parametrize("case", OUTCOMES)
async def test_what_a_tool_returns_is_its_result(http: Http, server: Server, upstream: str, case: str) -> None:
    name, arguments, result = OUTCOMES[case]
    assert (await call(http, server, upstream, name, arguments))["result"] == result


async def test_a_call_can_need_approval(http: Http, server: Server, upstream: str) -> None:
    called = calling(1, "toolbox_add", a=2_000, b=1), {"finish": "tool_calls"}
    question = await script(http, upstream, "Add a lot.", *called)
    await script(http, upstream, question + "+", *DONE)
    [id] = approvals(await waiting(http, server, "costly", question))
    status, _ = await decide(http, server, "costly", {"id": id, "approved": True, "arguments": {"a": 3_000, "b": 1}})
    assert status == 200
    assert (await ended(http, server, "costly"))["parts"][0]["result"] == {"result": 3_001}


ERRORS: dict[str, tuple[str, str, str]] = {
    "what the server says": ("toolbox_weather", '{"city": "Atlantis"}', "There is no weather in Atlantis."),
    "arguments that do not fit": ("toolbox_add", '{"a": 1}', "Error executing tool add: 1 validation error"),
    "arguments that are cut short": ("toolbox_add", '{"a": 1', "The arguments of toolbox_add are not valid JSON"),
    "arguments that are a list": ("toolbox_add", "[1, 2]", "The arguments of toolbox_add do not fit"),
    "no end": ("toolbox_hang", "{}", "toolbox_hang did not end within 2 seconds."),
    "a tool without a name": ("toolbox_" + "x" * 64, "{}", "There is no tool of that name."),
}


@pytest.mark.parametrize("case", ERRORS)
async def test_whatever_goes_wrong_is_the_error_of_the_call(
    http: Http, server: Server, upstream: str, case: str
) -> None:
    name, arguments, sentence = ERRORS[case]
    part = await call(http, server, upstream, name, arguments)
    assert part["error"].removeprefix("Error executing tool weather: ").startswith(sentence), part


async def test_a_call_that_ends_the_server_has_failed(http: Http, upstream: str) -> None:
    with by_command(upstream) as server:
        await until_offered(http, server, upstream, "toolbox_die")
        part = await call(http, server, upstream, "toolbox_die")
        assert part["error"] == "toolbox_die failed: Connection closed"
        await until_offered(http, server, upstream, "toolbox_die")


async def test_what_the_model_is_offered_says_where_it_comes_from(http: Http, upstream: str) -> None:
    with by_command(upstream) as server:
        await until_offered(http, server, upstream, "toolbox_add")
        names = await offered(http, server, upstream)
        assert names[0] == "toolbox_taken"
        assert len(set(names)) == len(names)
        assert "toolbox_look_up" in names
        process = (await call(http, server, upstream, "toolbox_process"))["result"]
        assert (process["secret"], process["key"]) == ("known", None), "it has what it is given, and no keys of ours"
        errors = server.stop()
    assert "the tool 'taken' of the MCP server toolbox is left out: there is another one of that name" in errors
    assert f"the tool '{'x' * 64}' of the MCP server toolbox is left out: its name is too long" in errors


async def test_a_process_ends_with_the_chat_however_that_ends(http: Http, upstream: str) -> None:
    with by_command(upstream) as server:
        await until_offered(http, server, upstream, "toolbox_process")
        pid = (await call(http, server, upstream, "toolbox_process"))["result"]["pid"]
        server.kill()

    async def gone() -> bool:
        return not Path(f"/proc/{pid}").exists()

    await eventually(gone)


class Listing:
    """A model that says which tools it is offered."""

    name = "listing"

    async def answer(self, turns: Any, tools: Any, settings: Any) -> AsyncIterator[Piece]:
        yield " ".join(tool.name for tool in tools) or "none"
        yield Finish(reason="stop")

    async def close(self) -> None:
        pass


async def test_two_stores_of_one_chat_have_the_same_connection() -> None:
    chat = Chat(model=Listing(), titles=False)
    chat.mcp("box", command=COMMAND)

    async def tools(store: Store, conversations: Any) -> str:
        key = await conversations.create()
        await conversations.ask(key, Question.text("Which?"))

        async def complete() -> Any:
            message = (await store.read(f"chat/{key}"))["messages"][-1]
            return message["parts"][0]["text"] if message["status"] == "complete" else None

        return str(await eventually(complete))

    async def until_there(store: Store, conversations: Any) -> None:
        async def there() -> bool:
            return "box_add" in await tools(store, conversations)

        await eventually(there, seconds=60)

    async with Store(chat.slices) as first, Store(chat.slices) as second, AsyncExitStack() as owning:
        sooner = await owning.enter_async_context(chat.conversations(first))
        async with chat.conversations(second) as later:
            await until_there(first, sooner)
            await until_there(second, later)
            await owning.aclose()
            await until_there(second, later)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "box"}, ValueError, "either the command"),
        ({"name": "box", "command": ["a"], "url": "http://b"}, ValueError, "either the command"),
        ({"name": "box", "command": "npx -y server"}, TypeError, r"as in \['npx', '-y', 'server'\]"),
        ({"name": "box", "url": "ftp://b"}, ValueError, "https:// or http://"),
        ({"name": "box", "url": "http://b", "env": {}}, ValueError, "for the command"),
        ({"name": "box", "command": ["a"], "headers": {}}, ValueError, "for its URL"),
        ({"name": "the box", "command": ["a"]}, ValueError, "letters, digits and _"),
        ({"name": "box", "command": ["a"], "approval": "yes"}, TypeError, "expected True, False or an Approval"),
        ({"name": "other", "command": ["a"]}, ValueError, "named other already"),
    ],
)
def test_what_cannot_be_a_server_is_refused_at_once(arguments: Any, error: type[Exception], message: str) -> None:
    chat = Chat()
    chat.mcp("other", url="http://127.0.0.1:1/mcp")
    with pytest.raises(error, match=message):
        chat.mcp(**arguments)
