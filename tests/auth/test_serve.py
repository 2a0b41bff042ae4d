"""Who can reach a server where nobody has to log in, and how the command is given an authenticator."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

import statestream
from statestream.tools import cli
from statestream.tools.console import serving
from tests.support import BOARD, Server
from tests.support.logins import who

TOKEN = "token-1234567890-canary-abcdefghij"
PROGRAM = f"""
import sys
from aiohttp import web

from statestream import Identity, Slice, Store, create_app
from statestream.auth import Tokens, signed_in
from statestream.chat import Chat

print("read", file=sys.stderr)
board = Slice("board", initial={{}}, read=signed_in)
store = Store([board])
tokens = Tokens({{{TOKEN!r}: {{"subject": "ada"}}}})


async def header(request: web.Request) -> Identity | None:
    name = request.headers.get("X-Name")
    return Identity(subject=name) if name else None


def plain(request: web.Request) -> Identity | None:
    return None


def application(**more):
    return create_app(Store([Slice("board", initial=0)]), **more)


app, own = application(), application(auth=tokens)
outer, half, other = web.Application(), web.Application(), web.Application()
outer.add_subapp("/inner", application(auth=tokens))
half.add_subapp("/one", application(auth=tokens))
half.add_subapp("/two", application())
number, Class = 7, Tokens

chat = Chat()
hidden, ruled = Slice("hidden", initial={{}}, hidden=True), Slice("ruled", initial={{}}, dispatch=signed_in)
forgetful = create_app(Store([Slice("z", initial={{}}), Slice("a", initial={{}}), hidden, ruled]), auth=tokens)
careful = create_app(Store([*chat.slices, hidden, ruled]), auth=tokens)
chat.setup(careful)
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds to it
    monkeypatch.delitem(sys.modules, "program", raising=False)
    (tmp_path / "program.py").write_text(PROGRAM)
    return str(tmp_path / "program.py")


def refused(*arguments: str) -> str:
    """The sentence with which the command ends, with exit code 2, before it serves anything."""
    ran = CliRunner().invoke(cli.app, list(arguments), env={"COLUMNS": "2000", "TERM": "dumb"})
    assert ran.exit_code == 2, ran.output
    return " ".join(ran.output.split())


@pytest.fixture
def recording(tmp_path: Path) -> str:
    path = tmp_path / "run.jsonl"
    with Server.serving() as server, statestream.connect_sync(server.url) as stream, stream.record(path):
        stream.dispatch("board/counted", {"by": 1})
    return str(path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_without_a_login_only_this_machine_reaches_a_server(host: str) -> None:
    sentence = refused("serve", BOARD, "--host", host)
    assert f"other machines can reach {host or 'every address'}, and nobody has to log in" in sentence
    assert "pass --auth, or create_app(auth=…) for an application, or pass --insecure" in sentence


def test_this_holds_for_each_command_that_serves(recording: str) -> None:
    for command in (["demo"], ["transcripts"], ["replay", recording, "--serve"]):
        sentence = refused(*command, "--host", "0.0.0.0")
        assert "nobody has to log in: pass --insecure if something else protects" in sentence
    assert "goes with --serve" in refused("replay", recording, "--insecure")


@pytest.mark.parametrize("name", ["app", "half", "other"])
def test_every_store_of_an_application_must_have_a_login(program: str, name: str) -> None:
    assert "nobody has to log in" in refused("serve", f"{program}:{name}", "--host", "0.0.0.0")


def test_this_machine_needs_no_login() -> None:
    with Server("serve", BOARD, "--host", "localhost") as server:
        socket.create_connection(("localhost", server.port)).close()


@pytest.mark.parametrize(
    ("host", "secure"), [("127.0.0.2", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("::", False)]
)
def test_an_address_is_of_this_machine_or_not(host: str, secure: bool) -> None:
    assert serving.is_loopback(host) == secure


def test_an_operator_can_insist(recording: str) -> None:
    with Server("replay", recording, "--serve", "--host", "0.0.0.0", "--insecure") as server:
        socket.create_connection(("127.0.0.1", server.port)).close()


@pytest.mark.parametrize("name", ["own", "outer"])
def test_an_application_with_a_login_is_served_to_all(program: str, name: str) -> None:
    with Server("serve", f"{program}:{name}", "--host", "0.0.0.0") as server:
        socket.create_connection(("127.0.0.1", server.port)).close()


async def test_the_command_takes_an_authenticator(program: str, http: aiohttp.ClientSession) -> None:
    """An object or a function, here from the file of the store, which is run once."""
    good = {"Authorization": f"Bearer {TOKEN}", "X-Name": "ada"}
    for auth, bad in (("tokens", {"Authorization": "Bearer canary"}), ("header", {"X-Name": "canary" * 11})):
        with Server("serve", f"{program}:store", "--auth", f"{program}:{auth}", "--host", "0.0.0.0") as server:
            assert [await status(http, server.url, headers) for headers in (good, {}, bad)] in (
                [200, 401, 401],
                [200, 401, 400],
            )
            log = server.stop()
            assert "canary" not in log
            assert log.count("read\n") == 1


async def status(http: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> int:
    async with http.get(f"{url}/state?slices=board", headers=headers) as response:
        return response.status


async def test_an_authenticator_of_the_application_is_asked(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    (tmp_path / "sessions.py").write_text(SESSIONS)
    with Server("serve", f"{tmp_path / 'sessions.py'}:app", "--host", "0.0.0.0") as server:
        assert (await who(http, server.url, {"Cookie": "session=s1"}))[1] == "ada"
        assert (await who(http, server.url, {}))[1] is None
        for cookie, found in (
            ("session=s2", 401),
            ("session=expired", 401),
            ("session=bug", 500),
            ("session=text", 500),
        ):
            status, problem = await who(http, server.url, {"Cookie": f"{cookie}; secret=canary"})
            assert status == found, problem
            assert "canary" not in str(problem)
        log = server.stop()
        assert log.count("login_failed reason=session method=GET route=/me peer=127.0.0.1\n") == 1
        assert log.count("login_failed reason=expired method=GET route=/me peer=127.0.0.1\n") == 1
        assert "expected an Identity or None from AnyOf, got str" in log
        assert "entered\n" in log
        assert log.rstrip().endswith("left")
        assert "canary" not in log


SESSIONS = """
import sys
from aiohttp import web
from statestream import Identity, Slice, Store, Unauthenticated, create_app
from statestream.auth import AnyOf
from statestream.server.request import identity_of

PEOPLE = {"s1": Identity(subject="ada"), "expired": Identity(subject="eve", expires=1.0), "text": "ada"}


class Pool:
    async def __aenter__(self):
        print("entered", file=sys.stderr)

    async def __aexit__(self, *_):
        print("left", file=sys.stderr)

    async def __call__(self, request):
        return None


async def session(request):
    cookie = request.cookies.get("session")
    if cookie == "bug":
        raise LookupError("no such table")
    if cookie is not None and cookie not in PEOPLE:
        raise Unauthenticated("This session has ended.", kind="session")
    return PEOPLE.get(cookie)


async def me(request):
    identity = identity_of(request)
    return web.json_response(None if identity is None else identity.subject)


app = create_app(Store([Slice("board", initial=0)]), auth=AnyOf(Pool(), session))
app.router.add_get("/me", me)
"""


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        ("{program}", "expected FILE.py:NAME or MODULE:NAME"),
        ("{program}:tokns", "there is no tokns in it; did you mean tokens?"),
        ("{program}:plain", "expected an authenticator in"),
        ("{program}:number", "got int"),
        ("{program}:Class", "expected an authenticator in"),
        ("nowhere.py:auth", "there is no file nowhere.py"),
        ("nowhere:auth", "cannot find the module nowhere"),
    ],
)
def test_an_authenticator_that_is_none_is_explained(program: str, auth: str, words: str) -> None:
    sentence = refused("serve", f"{program}:store", "--auth", auth.format(program=program))
    assert words in sentence
    assert "--auth" in sentence
    assert "canary" not in sentence


def test_an_application_has_its_own(program: str) -> None:
    sentence = refused("serve", f"{program}:app", "--auth", f"{program}:tokens")
    assert "pass it to create_app for an application" in sentence


@pytest.mark.parametrize(("name", "slices"), [("forgetful", "a, z"), ("careful", "")])
def test_the_log_names_slices_that_no_rule_opens(program: str, name: str, slices: str) -> None:
    with Server("serve", f"{program}:{name}") as server:
        said = server.stop()
    sentence = f"the server authenticates and they have no rules: {slices}; pass read=… and dispatch=… to Slice"
    assert sentence in said if slices else "no rules" not in said


@pytest.mark.parametrize(
    ("auth", "words"),
    [
        (7, "expected an authenticator, got int"),
        (object, "got the class object; make an object of it"),
        (lambda request: None, "an async function of a request, got a plain function"),
    ],
)
def test_what_does_not_authenticate_is_refused_at_once(auth: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        statestream.create_app(statestream.Store([]), auth=auth)
