"""The errors for a client's mistakes over HTTP: the thing, the place, and what the client may have meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support import ROOT, Server, dispatch

Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    """One board for all: a request that is refused changes nothing."""
    with Server.serving() as server:
        yield server


async def asked(http: Http, url: str, path: str, *, method: str = "GET", body: Any = None) -> tuple[int, str, str]:
    """The status, the code and the sentence of an answer."""
    async with http.request(method, f"{url}{path}", json=body) as response:
        problem = await response.json(content_type=None)
        return response.status, problem["code"], problem["detail"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/state?slices=bord", 404, "in `slices`: there is no slice bord; did you mean board?"),
        ("/state?slices=rom", 404, "did you mean room/<key>?"),
        ("/state?slices=nothing_like_it", 404, "the slices are board, counter, room/<key>"),
        ("/state?slices=room", 404, "room is a keyed slice: name an instance as room/<key>, or all of them as room/*"),
        ("/state?slices=board/1", 404, "board is a plain slice"),
        ("/state?slices=board/*", 404, "board is a plain slice"),
        ("/state?slices=board,%20room/1", 400, "got another text; leave out the blanks"),
        ("/state?slices=Board", 400, "got Board"),
        ("/state?slices=", 400, "got none"),
        ("/state?slices=room/a%20b", 400, "did you mean a%20b?"),
        ("/state?slice=board", 400, "there is no query parameter slice here; did you mean slices?"),
        ("/state?after=0.0", 400, "the parameters are at, slices"),
        ("/state?at=yesterday", 400, "in `at`: expected a position"),
        ("/history?after=yesterday", 400, "in `after`: expected a position"),
        ("/history?limits=1", 400, "did you mean limit?"),
        ("/history?limit=all", 400, "`limit`"),
        ("/stream/state?slcies=board", 400, "did you mean slices?"),
        ("/stream/state?lastEventId=1.a", 400, "the parameters are after, cause, live, slices"),
        ("/stream/state?user=Ada", 400, "there is no query parameter user here"),
        ("/stream/state?cause=ful", 400, "cause=brief or cause=full"),
        ("/stream/state?%7B%22secret%22%7D=1", 400, "there is no query parameter here"),
        ("/stat", 404, "did you mean /state?"),
        ("/stream", 404, "did you mean /stream/state?"),
        (
            "/nowhere/else/at/all",
            404,
            "the routes are /asyncapi.json, /dispatch, /history, /openapi.json, /state, /state/{slice}/{key}, "
            "/stream/state",
        ),
        ("/dispatch", 405, "it takes POST"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_with_what_may_have_been_meant(
    running: Server, http: Http, path: str, status: int, words: str
) -> None:
    answered = await asked(http, running.url, path)
    assert answered[0] == status
    assert words in answered[2]
    assert "secret" not in answered[2]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"type": "board/task_aded", "payload": {}}, 404, "did you mean board/task_added?"),
        ({"type": "bord/cleared", "payload": {}}, 404, "did you mean board/cleared?"),
        ({"type": "cleared", "payload": {}}, 404, "a type is a slice, a slash and a name"),
        ({"typ": "board/cleared", "payload": {}}, 400, "at /typ: there is no such field; did you mean type?"),
        ({"type": "board/cleared"}, 400, "at /payload: Field required"),
        (
            {"type": "board/cleared", "payload": {}, "actor": "Ada"},
            400,
            "the fields are expect, id, key, ",
        ),
        ({"actions": [{"type": "board/cleared", "paylod": {}}]}, 400, "at /actions/0/paylod: there is no such field"),
        ({"actions": [{"type": "board/cleared", "paylod": {}}]}, 400, "did you mean payload?"),
        ({"actions": ["board/cleared"]}, 400, "at /actions/0: expected a JSON object"),
        (["board/cleared"], 400, "at the root: expected a JSON object"),
        (
            {"type": "board/task_added", "payload": {"id": "1", "titel": "x"}},
            422,
            "/titel: there is no such field; did",
        ),
        ({"type": "room/joined", "payload": {"name": "x"}}, 400, "room/joined needs a key"),
        ({"type": "room/joined", "payload": {"name": "x"}, "key": "a b"}, 400, "did you mean a%20b?"),
        ({"type": "board/cleared", "payload": {}, "key": "1"}, 400, "board is a plain slice; leave out `key`"),
        ({"type": "board/cleared", "payload": {}, "expect": {"room": 1}}, 404, "in `expect`: room is a keyed slice"),
    ],
)
async def test_a_body_that_is_wrong_is_refused_with_what_may_have_been_meant(
    running: Server, http: Http, body: Any, status: int, words: str
) -> None:
    answered = await asked(http, running.url, "/dispatch", method="POST", body=body)
    assert answered[0] == status
    assert words in answered[2]


async def test_a_parameter_of_a_dispatch_is_refused(running: Server, http: Http) -> None:
    body = {"type": "board/cleared", "payload": {}}
    status, _, detail = await asked(http, running.url, "/dispatch?id=1", method="POST", body=body)
    assert (status, detail) == (400, "there is no query parameter id here; there are no parameters")


SECRETS = """
from statestream import Slice, Store

def counted(state):
    return state + 1

board, ours = Slice("board", initial=0), Slice("boarding", initial=0, internal=True)
secret = Slice("boards", initial=0, hidden=True)
for each in (board, ours, secret):
    each.action(counted)
store = Store([board, ours, secret])
"""


@pytest.fixture
def secretive(tmp_path: Any) -> Iterator[Server]:
    (tmp_path / "app.py").write_text(SECRETS)
    with Server("serve", f"{tmp_path / 'app.py'}:store") as server:
        yield server


async def test_only_what_a_client_may_know_is_suggested(secretive: Server, http: Http) -> None:
    for path in ("/state?slices=board_", "/state?slices=boardss"):
        assert (await asked(http, secretive.url, path))[2].endswith("did you mean board?")
    detail = (await asked(http, secretive.url, "/state?slices=x"))[2]
    assert detail.endswith("the slices are board, boarding")
    for action in ("boards/countd", "boardin/counted", "x/y", "boardings"):
        status, answer = await dispatch(http, secretive.url, action)
        assert status == 404
        assert "boards/" not in answer["detail"].replace(action, "")
        assert "boarding/" not in answer["detail"].replace(action, "")


CHATTY = f"{ROOT / 'tests/apps/chatty.py'}:app"


@pytest.fixture(scope="module")
def chatty() -> Iterator[Server]:
    with Server("serve", CHATTY, env={"OPENAI_API_KEY": "x", "CHATTY_UPSTREAM": "http://127.0.0.1:9/v1"}) as server:
        yield server


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/api/chats", {"id": "mine"}, "the server chooses the id"),
        ("POST", "/api/chats?user=Ada", {}, "there is no query parameter user here"),
        ("GET", "/api/chats/x?full=1", None, "there is no query parameter full here"),
        ("GET", "/api/chats/x/messages?befor=y", None, "did you mean before?"),
        ("POST", "/api/chats/x/branch", {"mesage": "y"}, "at /mesage: there is no such field; did you mean message?"),
        ("POST", "/api/chats/x/stop", {"stream": "y"}, "the fields are activeStreamId"),
        ("POST", "/api/chats/x/typing", {"typing": True}, "pass `auth` to create_app"),
        ("POST", "/api/chats/x/participants", {"subject": "Ada"}, "pass `auth` to create_app"),
        ("POST", "/api/chats/x/stream?follow=1", {}, "there is no query parameter follow here"),
        ("POST", "/ag-ui?folow=1", {}, "did you mean follow?"),
    ],
)
async def test_a_mistake_in_a_request_to_a_chat_is_refused(
    chatty: Server, http: Http, method: str, path: str, body: Any, words: str
) -> None:
    status, code, detail = await asked(http, chatty.url, path, method=method, body=body)
    assert (status, code) == (400, "malformed")
    assert words in detail


async def test_front_ends_may_post_more_than_is_needed(chatty: Server, http: Http) -> None:
    """The bodies of the AI SDK and of AG-UI are open by their own specifications."""
    async with http.post(f"{chatty.url}/api/chat/x/stop", json={"more": 1}) as response:
        assert response.status != 400
    run = {"threadId": "t", "runId": "r", "messages": [], "state": {}, "tools": [], "context": [], "more": 1}
    async with http.post(f"{chatty.url}/ag-ui", json=run) as response:
        assert response.status == 200
