"""What can be called, set or asked for stands in the documentation, in the section where its reader looks for it.

Options are taken from the command itself, routes from the routers of real applications, settings from the signatures:
what is new is missing until it is explained. It must stand there as code, for a word in the prose explains nothing.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from msgspec import Struct
from typer.main import get_group

import statestream
from statestream import Slice, Store, auth, create_app
from statestream.chat import Budget, Chat, Concurrency, ModelSettings, Price, Timeouts
from statestream.chat.models.anthropic import AnthropicModel
from statestream.chat.models.openai import OpenAIModel
from statestream.chat.models.responses import OpenAIResponsesModel
from statestream.client.recording.recorder import StreamRecorder
from statestream.client.recording.replay import replay
from statestream.client.replica import Replica
from statestream.core.names import escape_key
from statestream.journal import MemoryJournal, PostgresqlJournal, Retention, SqliteJournal
from statestream.journal.redis import RedisJournal
from statestream.protocol.sse import Event
from statestream.store.store import RESERVED
from statestream.tools import cli
from statestream.tools.conformance.clients.transcript_server import TranscriptServer
from statestream.tools.demo import demo_app
from statestream.tools.playback import create_playback
from tests.support import ROOT
from tests.support.pages import DOCS

COMMANDS = {
    "statestream": "operations.md#The command",
    "serve": "operations.md#The command",
    "demo": "operations.md#The command",
    "check": "howto/evolve.md#Look before you deploy",
    "journal": "operations.md#The journal as a whole",
    "runs": "operations.md#Runs of chats",
    "types": "howto/types.md#Write TypeScript",
    "migrate": "operations.md#Journals",
    "bench": "operations.md#Measuring it",
    "watch": "watching.md#watch",
    "dispatch": "watching.md#dispatch",
    "state": "watching.md#state",
    "history": "watching.md#history",
    "record": "recording.md#Record",
    "replay": "recording.md#Replay",
    "conformance": "conformance.md",
    "transcripts": "conformance.md#Clients",
}
CALLS: dict[Callable[..., Any], str] = {
    statestream.connect: "howto/client.md#Connect",
    statestream.connect_sync: "howto/client.md#Connect",
    statestream.create_app: "operations.md#The command",
    statestream.Limits: "operations.md#Limits",
    auth.Tokens: "howto/authenticate.md#Tokens for programs",
    auth.JWT: "howto/authenticate.md#Signed tokens of a login service",
    auth.ProxyHeader: "howto/authenticate.md#A proxy that logs people in",
    auth.AnyOf: "howto/authenticate.md#Sessions of your own",
    escape_key: "protocol.md#2. Names, keys, ids and positions",
    replay: "recording.md#Replay",
    statestream.Slice: "handlers.md#What a handler is",
    statestream.Store: "operations.md#In code",
    create_playback: "recording.md#Serve",
    SqliteJournal: "operations.md#Journals",
    MemoryJournal: "operations.md#Journals",
    PostgresqlJournal: "operations.md#Journals",
    RedisJournal: "operations.md#Journals",
    Retention: "operations.md#Journals",
    Chat: "chat.md + replies.md",
    Timeouts: "replies.md + tools.md",
    Concurrency: "replies.md#How many at once",
    Price: "replies.md#Costs and budgets",
    Budget: "replies.md#Costs and budgets",
    ModelSettings: "models.md#Settings",
    AnthropicModel: "models.md",
    OpenAIModel: "models.md",
    OpenAIResponsesModel: "models.md",
}
HELD = {
    statestream.Stream: "howto/client.md",
    statestream.BlockingStream: "howto/client.md",
    statestream.Store: "operations.md#In code",
}
"""What a program has in its hands: by its methods and properties."""


def code_of(place: str) -> list[str]:
    """The code of a page: all of it, or what stands in one section and before the first. Of a program its keywords."""
    page, _, title = place.partition("#")
    text = (DOCS / page).read_text()
    if title:
        first, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
        [found] = [section for section in sections if re.match(rf"{re.escape(title)}( {{.*}})?\n", section)]
        text = first + found
    programs = re.findall(r"^```python.*?^```", text, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`]+)`", " ".join(prose.split())) + re.findall(r"\b(\w+)=", "".join(programs))


def missing(words: Iterable[str], place: str) -> set[str]:
    """Those which the code there does not have as a word of its own. ` + ` joins several places."""
    code = [each for part in place.split(" + ") for each in code_of(part)]
    return {word for word in words if not any(re.search(rf"(?<![\w-]){word}(?![\w-])", each) for each in code)}


@pytest.mark.parametrize("name", ["statestream", *get_group(cli.app).commands])
def test_every_parameter_of_a_command_is_explained_beside_it(name: str) -> None:
    tree: Any = get_group(cli.app)
    command = tree.commands.get(name, tree)
    within = getattr(command, "commands", {}) if command is not tree else {}  # of a group such as `journal`
    params = [param for each in (command, *within.values()) for param in each.params]
    options = {name for each in params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")}
    arguments = {each.metavar for each in params if each.param_type_name == "argument"} | set(within)
    assert options | arguments
    assert not missing((options | arguments) - {"URL"}, COMMANDS[name])  # an address is in every example


def routes(app: web.Application) -> set[str]:
    """As `GET /state`. What answers HEAD beside GET is one of them."""
    found = {(route.method, route.resource.canonical) for route in app.router.routes() if route.resource is not None}
    return {f"{method} {path}" for method, path in found if method != "HEAD" or ("GET", path) not in found}


def test_every_route_is_explained(tmp_path: Path) -> None:
    path, replica = tmp_path / "run.jsonl", Replica()
    state = {
        "reason": "start",
        "position": "1.k3v9x2m",
        "slices": {},
        "versions": {},
        "heartbeat": 1000,
        "timestamp": 0,
    }
    replica.apply(Event(event="state.initial", data=json.dumps(state), last_id="1.k3v9x2m"))
    StreamRecorder(path, url="http://127.0.0.1", slices=None, replica=replica).close()
    chat = Chat()
    app = create_app(
        Store([Slice("board", initial={}), *chat.slices]), auth=auth.ProxyHeader("X-User", proxies=["unix"])
    )
    chat.setup(app)
    answered = routes(app) | routes(demo_app("memory:"))
    assert "GET /stream/state" in answered
    pages = ("protocol.md", "chat.md", "operations.md", "howto/monitoring.md", "inspector.md")
    said = {code.split("?")[0] for page in pages for code in code_of(page)}
    assert not answered - said
    assert not routes(create_playback(path)) - set(code_of("recording.md#Serve"))
    asked_by_browsers = {"OPTIONS /{path}"}
    assert not routes(TranscriptServer().app) - asked_by_browsers - set(code_of("conformance.md#Clients"))


def parameters(call: Callable[..., Any]) -> set[str]:
    """Without those that are only there to be refused with a sentence: `Store(board, room)`."""
    known = inspect.signature(call).parameters
    return {name for name, each in known.items() if each.kind is not each.VAR_POSITIONAL} - {"self"}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_every_setting_is_explained(call: Callable[..., Any]) -> None:
    assert not missing(parameters(call), CALLS[call])


@pytest.mark.parametrize("kind", HELD, ids=lambda kind: kind.__name__)
def test_everything_that_can_be_done_with_it_is_explained(kind: type) -> None:
    members = {name: member for name, member in inspect.getmembers(kind) if not name.startswith("_")}
    assert not missing(members, HELD[kind])
    for member in filter(inspect.isfunction, members.values()):
        assert not missing(parameters(member), HELD[kind]), member


def test_no_public_call_is_left_out() -> None:
    named = [getattr(statestream, name) for name in statestream.__all__]
    public = {value for value in named if inspect.isroutine(value) or inspect.isclass(value)}
    values = {kind for kind in public if isinstance(kind, type) and issubclass(kind, (Exception, Struct, Enum))}
    assert public - values == ({*CALLS, *HELD} & public) - values


def test_every_reserved_name_is_explained() -> None:
    assert not missing(RESERVED, "rights.md#Reserved names")


def test_every_variable_of_the_environment_is_explained() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "statestream").rglob("*.py"))
    names = re.findall(r"""os\.environ\.get\("(\w+)\"""", source)
    found = re.findall(r"\b(?:environ|getenv)\b", source)
    assert len(names) == len(found), "each is read by its name, so that it is found here"
    assert not missing(set(names) - {"NOTIFY_SOCKET"}, "models.md")
    assert not missing(set(names) & {"NOTIFY_SOCKET"}, "operations.md#Several processes")
