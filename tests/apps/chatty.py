"""The application under test for the chat: its model is wherever CHATTY_UPSTREAM says, through the openai package.

CHATTY_JOURNAL, CHATTY_FIRST, CHATTY_IDLE, CHATTY_TOTAL, CHATTY_TOOL, CHATTY_LEASE (seconds), CHATTY_KEEP, CHATTY_MODEL,
CHATTY_API (`chat`, `messages` or `responses`), CHATTY_SETTINGS (JSON), CHATTY_TITLES, CHATTY_CONCURRENCY (JSON),
CHATTY_WHILE_BUSY, CHATTY_RETRIES, CHATTY_PRICES and CHATTY_BUDGET (JSON), CHATTY_AUTH (people have names, see
`by_name`; the role `operator` makes operators) and AHEAD (see `moved_clock`) come from the environment too: an
application has no options on the command line. The key is OPENAI_API_KEY or ANTHROPIC_API_KEY, as in production. A tool
that waits is let go on by the upstream's gate of that name.
"""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

import aiohttp

from statestream import Refused, Store, create_app
from statestream.auth import role
from statestream.chat import Budget, Chat, Concurrency, ModelSettings, Price, Timeouts
from statestream.chat.models import Model
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.openai import OpenAIModel
from statestream.chat.models.responses import OpenAIResponsesModel
from tests.apps.by_name import auth
from tests.support import moved_clock

if "AHEAD" in os.environ:
    moved_clock.follow(os.environ["AHEAD"])

UPSTREAM = os.environ["CHATTY_UPSTREAM"]


def seconds(name: str, default: str) -> float:
    return float(os.environ.get(f"CHATTY_{name}", default))


def model(name: str) -> Model:
    api = os.environ.get("CHATTY_API", "chat")
    if api == "messages":
        return AnthropicModel(name, base_url=UPSTREAM.removesuffix("/v1"))
    return (OpenAIModel if api == "chat" else OpenAIResponsesModel)(name, base_url=UPSTREAM)


chat = Chat(
    model=model(os.environ.get("CHATTY_MODEL", "test-model")),
    settings=ModelSettings(**json.loads(os.environ.get("CHATTY_SETTINGS", "{}"))),
    timeouts=Timeouts(
        first=seconds("FIRST", "30"),
        idle=seconds("IDLE", "30"),
        total=seconds("TOTAL", "60"),
        tool=seconds("TOOL", "10"),
    ),
    lease=seconds("LEASE", "1"),
    keep=int(os.environ.get("CHATTY_KEEP", "500")),
    titles=os.environ.get("CHATTY_TITLES", "") == "yes",
    retries=int(os.environ.get("CHATTY_RETRIES", "0")),
    prices={name: Price(**price) for name, price in json.loads(os.environ.get("CHATTY_PRICES", "{}")).items()},
    budget=Budget(**json.loads(os.environ.get("CHATTY_BUDGET", "{}"))),
    while_busy="queue" if os.environ.get("CHATTY_WHILE_BUSY") == "queue" else "refuse",
    concurrency=Concurrency(**json.loads(os.environ.get("CHATTY_CONCURRENCY", "{}"))),
)


@chat.tool
def weather(city: str, days: int = 1) -> dict[str, Any]:
    """The weather in a city."""
    if city == "Atlantis":
        raise Refused("no_city", "There is no weather in Atlantis.")
    return {"city": city, "celsius": [20 + day for day in range(days)]}


@chat.tool
async def wait(gate: str) -> str:
    """Waits for a gate of the upstream."""
    async with aiohttp.ClientSession() as session, session.get(f"{UPSTREAM}/gates/{gate}") as response:
        return await response.text()


@chat.tool
def block(gate: str) -> str:
    """Waits for a gate of the upstream, and its thread with it."""
    with urllib.request.urlopen(f"{UPSTREAM}/gates/{gate}") as response:
        return str(response.read().decode())


@chat.tool
async def broken() -> None:
    """Fails."""
    raise ValueError("sk-canary in a traceback")


app = create_app(
    Store(chat.slices, journal=os.environ.get("CHATTY_JOURNAL", "memory:")),
    auth=auth if os.environ.get("CHATTY_AUTH") else None,
    inspect=role("operator") if os.environ.get("CHATTY_AUTH") else None,
)
chat.setup(app)
