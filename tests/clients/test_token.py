"""The token of a Python client: where it is sent, when it is renewed, and that it is written nowhere."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import statestream
from statestream import Malformed, StreamRefused, Unauthenticated, Unavailable, Update
from tests.support import eventually, serving
from tests.support.logins import AUDIENCE, ISSUER, claims, jwk, login_server, new_key, signed

KEYS = {name: new_key("RS256") for name in ("1", "2")}


class Login:
    """A server that accepts tokens signed by the keys that it is given, and a program that has others in reserve."""

    def __init__(self, folder: Path) -> None:
        self.path, self.calls = folder / "keys.json", 0
        self.accept("1")
        common = f'issuer="{ISSUER}", audience="{AUDIENCE}", algorithms=["RS256"]'
        self.server = login_server(f"JWT({common}, jwks=Path({str(self.path)!r}))").start()

    def accept(self, *names: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps({"keys": [jwk(KEYS[name], "RS256", kid=name) for name in names]}))
        new.replace(self.path)

    def token(self, name: str) -> str:
        return signed(claims(secret="canary"), KEYS[name], "RS256", kid=name)

    def function(self, *names: str) -> Any:
        """Returns a token by each of these keys, and then the last one again."""
        left = list(names)

        async def token() -> str:
            self.calls += 1
            return self.token(left.pop(0) if len(left) > 1 else left[0])

        return token


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    found = Login(tmp_path_factory.mktemp("login"))
    yield found
    log = found.server.stop()
    assert not any(found.token(name)[:60] in log for name in KEYS)


@pytest.fixture
def login(running: Login, caplog: pytest.LogCaptureFixture) -> Iterator[Login]:
    """Accepts the first key. What the client logs has no token."""
    caplog.set_level(logging.DEBUG)
    running.accept("1")
    running.calls = 0
    yield running
    assert not any(running.token(name)[:60] in caplog.text for name in KEYS)


async def test_a_token_is_sent_with_each_request(login: Login) -> None:
    async with statestream.connect(login.server.url, token=login.token("1")) as stream:
        assert (await stream.dispatch("board/counted", {})).changes[0][0] == "board"
    with pytest.raises(StreamRefused, match="a key that its issuer does not have") as error:
        await statestream.connect(login.server.url, token=login.token("2")).__aenter__()
    assert (error.value.status, error.value.reason) == (401, "unauthenticated")


async def test_a_function_is_asked_for_each_connection(login: Login) -> None:
    async with statestream.connect(login.server.url, token=login.function("1")) as stream:
        await stream.dispatch("board/counted", {})
        assert login.calls == 1, "a dispatch uses the token of the stream"
        login.server.kill()
        login.server.start()
        await stream.wait_for(lambda state: state["board"]["count"] == 0, timeout=60)
        assert login.calls >= 2


def test_a_plain_function_serves_a_program_without_a_loop(login: Login) -> None:
    with statestream.connect_sync(login.server.url, token=lambda: login.token("1")) as stream:
        assert stream.dispatch("board/counted", {}).changes[0][0] == "board"


async def test_after_a_401_it_is_asked_once_more(login: Login) -> None:
    async with statestream.connect(login.server.url, token=login.function("2", "1")):
        assert login.calls == 2
    with pytest.raises(StreamRefused) as error:
        await statestream.connect(login.server.url, token=login.function("2")).__aenter__()
    assert (error.value.status, login.calls) == (401, 4)


async def test_dispatches_that_are_refused_share_a_new_token(login: Login) -> None:
    async with statestream.connect(login.server.url, token=login.function("1", "2")) as stream:
        login.accept("2")
        results = await asyncio.gather(*(stream.dispatch("board/counted", {}) for _ in range(10)))
        assert login.calls == 2
        assert len({str(result.position) for result in results}) == 10
        login.accept("1")
        with pytest.raises(Unauthenticated):
            await stream.dispatch("board/counted", {})
        assert login.calls == 3


async def test_a_function_that_fails_is_asked_again(login: Login) -> None:
    async def token() -> str:
        login.calls += 1
        if login.calls < 3:
            raise ConnectionError("canary")
        return login.token("1")

    async with statestream.connect(login.server.url, token=token):
        assert login.calls == 3

    async def never() -> str:
        raise LookupError

    with pytest.raises(Unavailable, match="the function that returns the token raised LookupError"):
        await statestream.connect(login.server.url, token=never, timeout=0.2).__aenter__()


@pytest.mark.parametrize("found", [None, "", "two words", "a\r\nX-Role: admin", 7, b"bytes"])
async def test_what_is_no_token_is_not_sent(login: Login, found: Any) -> None:
    with pytest.raises(StreamRefused, match="returned something else"):
        await statestream.connect(login.server.url, token=lambda: found).__aenter__()
    if found is not None:
        with pytest.raises(Malformed, match="a token as text without blanks"):
            statestream.connect(login.server.url, token=found)


def test_there_is_one_source_of_an_authorization() -> None:
    for url, headers in (("http://me:canary@127.0.0.1:1", {}), ("http://127.0.0.1:1", {"authorization": "canary"})):
        with pytest.raises(Malformed, match="got both") as error:
            statestream.connect(url, headers=headers, token="token")
        assert "canary" not in str(error.value)


async def test_a_token_stays_at_its_origin(login: Login) -> None:
    """Another port is another origin. Within one, a redirect is followed, and the token goes along."""
    seen: list[tuple[str, str | None]] = []

    async def away(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.get("Authorization")))
        target = login.server.url if request.path.startswith("/new") else "/new"
        return web.Response(status=307, headers={"Location": f"{target}{request.path}"})

    async with serving(away) as url:
        with pytest.raises(StreamRefused, match=f"status 307: {login.server.url}.* headers"):
            await statestream.connect(url, token=login.function("1")).__aenter__()
    token = f"Bearer {login.token('1')[:20]}"
    assert [(path, (sent or "")[: len(token)]) for path, sent in seen] == [
        ("/stream/state", token),
        ("/new/stream/state", token),
    ]
    assert login.calls == 1


async def test_a_stream_outlives_its_token(login: Login) -> None:
    """The server ends it with `expired`, and the client goes on at its cursor, with another token."""
    left = [{"exp": int(time.time()) - 8}, {}]  # the leeway is ten seconds

    async def token() -> str:
        login.calls += 1
        return signed(claims(**left.pop(0)), KEYS["1"], "RS256", kid="1")

    async with statestream.connect(login.server.url, token=token) as stream:
        await eventually(lambda: login.calls == 2)
        position = (await stream.dispatch("board/counted", {})).position
        await stream.wait_for(lambda _: stream.position == position, timeout=60)
        reasons = [update.reason async for update in first(stream, 2)]
    assert reasons == ["start", None], "it resumed"


async def first(updates: AsyncIterable[Update], count: int) -> AsyncIterator[Update]:
    async for update in updates:
        yield update
        count -= 1
        if not count:
            return


INITIAL = {
    "type": "state.initial",
    "reason": "start",
    "position": "1.a",
    "slices": {"board": 1},
    "versions": {"board": 1},
    "heartbeat": 15000,
    "timestamp": 0,
}


async def test_after_the_end_of_its_credentials_a_stream_goes_on_with_new_ones() -> None:
    """At the same cursor. After `revoked`, which has no `retry`, nothing is tried."""
    seen: list[tuple[str | None, str | None]] = []

    async def ending(request: web.Request) -> web.StreamResponse:
        seen.append((request.headers.get("Authorization"), request.headers.get("Last-Event-ID")))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if len(seen) == 1:
            await response.write(frame("state.initial", INITIAL, id="1.a"))
            await response.write(frame("stream.end", {"type": "stream.end", "reason": "expired", "retry": 10}))
        else:
            await response.write(frame("stream.end", {"type": "stream.end", "reason": "revoked"}))
        return response

    tokens = iter(["first", "second", "third"])
    async with serving(ending) as url, statestream.connect(url, token=lambda: next(tokens)) as stream:
        with pytest.raises(StreamRefused, match="for good: revoked") as error:
            [update async for update in stream]
    assert error.value.reason == "revoked"
    assert seen == [("Bearer first", None), ("Bearer second", "1.a")]


def frame(event: str, data: Any, id: str | None = None) -> bytes:
    lines = [f"event: {event}", *([f"id: {id}"] if id else []), f"data: {json.dumps(data)}", "", ""]
    return "\n".join(lines).encode()


async def test_a_function_that_hangs_does_not_hold_a_dispatch_for_good(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("statestream.client.dispatch.RESPONSE_SECONDS", 0.05)
    monkeypatch.setattr("statestream.client.dispatch.MAX_DELAY", 0.01)
    asked = 0

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return login.token("1")

    async with statestream.connect(login.server.url, token=token) as stream:
        login.accept("2")
        with pytest.raises(Unavailable, match="8 attempts"):
            await stream.dispatch("board/counted", {})
        assert asked == 9
        login.accept("1")

        async def works() -> bool:
            try:
                await stream.dispatch("board/counted", {})
            except Unavailable:
                return False
            return True

        await eventually(works)
