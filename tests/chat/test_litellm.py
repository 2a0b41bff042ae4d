"""A chat on the proxy of LiteLLM, as `OpenAIModel` reaches models of any provider: here one of Anthropic's API.

The proxy translates chat completions for our upstream, which checks Anthropic's rules. `.ci/setup soak` installs it in
an environment of its own, because it needs more than a hundred packages. It must reach nothing else, so its way out is
blocked.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server
from tests.support.chats import ask, chatty, ended, new_chat
from tests.support.provider import asked, script, started

LITELLM = ROOT / ".ready/litellm/bin/litellm"
KEY = "sk-canary-of-the-proxy"
CONFIG = """
model_list:
  - model_name: claude
    litellm_params: {{model: anthropic/claude-sonnet-4-5, api_base: "{upstream}", api_key: none}}
litellm_settings: {{telemetry: false, num_retries: 0}}
router_settings: {{disable_cooldowns: true}}
general_settings: {{master_key: {key}}}
"""
ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
}

pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not LITELLM.exists(), reason="`.ci/setup soak` installs LiteLLM"),
]


@pytest.fixture(scope="module")
def proxy(upstream: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config: Path = tmp_path_factory.mktemp("litellm") / "config.yaml"
    config.write_text(CONFIG.format(upstream=upstream, key=KEY))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    variables = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    command = ("env", *variables, str(LITELLM), "--config", str(config), "--host", "127.0.0.1", "--port", str(port))
    with contextmanager(started)(*command) as url:
        yield url.split()[0]


@pytest.fixture(scope="module")
def server(proxy: str) -> Iterator[Server]:
    settings = {"instructions": "Be brief.", "effort": "low", "max_tokens": 9_000}
    server = chatty(proxy, model="claude", settings=json.dumps(settings))
    server.env["OPENAI_API_KEY"] = KEY
    with server:
        yield server


async def test_signed_thoughts_and_tools_pass_through_it(
    server: Server, upstream: str, http: aiohttp.ClientSession
) -> None:
    """In the form of chat completions, and back as Anthropic wants them: the upstream refuses anything else."""
    call = {"call": {"index": 0, "id": "toolu_1", "name": "weather", "arguments": '{"city": "Ulm"}'}}
    end = {"input": 30, "cached": 20, "output": 9, "reasoning": 5}
    first = [
        {"think": "Ulm? "},
        {"think": "I look."},
        {"say": "I look."},
        call,
        {"end": {"reason": "tool_calls", **end}},
    ]
    await script(http, upstream, "Weather?", *first)
    await script(http, upstream, "Weather?+", {"say": "Sunny."}, {"end": {"reason": "stop", **end}})
    chat = await new_chat(http, server)
    assert (await ask(http, server, chat, "Weather?")).text == "I look.Sunny."
    message = await ended(http, server, chat)
    assert message["status"] == "complete", message
    assert message["parts"][0] == {"type": "reasoning", "text": "Ulm? I look."}
    assert message["usage"]["input"] == 60
    assert message["usage"]["cached"] == 40
    asking, telling = [request["body"] for request in await asked(http, upstream, "Weather?")]
    assert json.dumps(asking["system"]).count("Be brief.") == 1
    assert asking["max_tokens"] == 9_000
    assert asking["thinking"]["type"] == "enabled"
    assert [block["type"] for block in telling["messages"][1]["content"]] == ["thinking", "text", "tool_use"]


REFUSED: dict[str, tuple[int, str]] = {
    "a wrong key": (401, "unauthenticated"),
    "an unknown model": (404, "unknown_model"),
    "too many requests": (429, "rate_limited"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_errors_keep_their_kind(server: Server, upstream: str, http: aiohttp.ClientSession, what: str) -> None:
    status, kind = REFUSED[what]
    error: dict[str, Any] = {"type": "error", "error": {"type": "x", "message": "x"}}
    refusal = {"status": status, "body": error, "headers": {"x-should-retry": "false"}}
    chat = await new_chat(http, server)
    await ask(http, server, chat, await script(http, upstream, what, {"refuse": refusal}))
    assert (await ended(http, server, chat))["error"]["kind"] == kind
