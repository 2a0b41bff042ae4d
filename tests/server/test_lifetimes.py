"""Streams and sockets end when the credentials of their clients do: when they expire, and when they are revoked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import MODES, ROOT, PlainClient, Server, dispatch, eventually

LEASED = f"{ROOT / 'tests/apps/leased.py'}:app"
Http = aiohttp.ClientSession
SECOND = 1.0


@pytest.fixture(params=MODES[:2])
def leased(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = Server("serve", LEASED, env={"JOURNAL": f"sqlite:///{tmp_path / 'leased.db'}"})
    server.mode = request.param
    with server:
        yield server


def token(subject: str, *, seconds: float = 3600.0, issued: float | None = None) -> str:
    now = time.time()
    return f"{subject}:{now + seconds:.3f}:{now if issued is None else issued:.3f}"


def bearer(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text}"}


async def do(http: Http, server: Server, type: str, payload: Any) -> Any:
    async with http.post(
        f"{server.url}/dispatch", json={"type": type, "payload": payload}, headers=bearer(token("boss"))
    ) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_a_stream_ends_when_its_credentials_expire_and_resumes_with_new_ones(leased: Server, http: Http) -> None:
    with PlainClient(leased.port, token=token("ann", seconds=1.0)) as ann:
        frames = ann.read_until(lambda frame: frame.event == "stream.end")
        assert frames[-1].data["reason"] == "expired"
        assert frames[-1].data["retry"] > 0
        await do(http, leased, "board/noted", {"text": "meanwhile"})
        ann.connect()
        assert ann.status == 401
        ann.token = token("ann")
        ann.connect()
        frames = ann.read_until(lambda _: ann.state["board"] == {"text": "meanwhile"})
        assert frames[0].event == "state.resumed"


async def test_a_revocation_ends_what_is_open_and_survives_a_restart(leased: Server, http: Http) -> None:
    old = token("ann", issued=time.time() - 10)
    other = PlainClient(leased.port, token=token("bob"))
    with PlainClient(leased.port, token=old) as ann, PlainClient(leased.port, token=old) as twin, other as bob:
        async with http.ws_connect(f"{leased.url.replace('http', 'ws')}/ws", headers=bearer(old)) as socket:
            bob.read_until(lambda frame: frame.event == "state.initial")
            began = time.monotonic()
            await do(http, leased, "desk/revoked", {"subject": "ann"})
            for stream in (ann, twin):
                frames = stream.read_until(lambda frame: frame.event == "stream.end")
                assert frames[-1].data == {"type": "stream.end", "reason": "revoked"}
            closed = await socket.receive(timeout=60)
            assert (closed.type, closed.data, closed.extra) == (aiohttp.WSMsgType.CLOSE, 3003, "revoked")
            assert time.monotonic() - began < 10 * SECOND
        for _ in range(2):
            for path in ("state", "stream/state"):
                async with http.get(f"{leased.url}/{path}", headers=bearer(old)) as response:
                    assert response.status == 401
                    assert "revoked" in (await response.json(content_type=None))["detail"]
            leased.kill()
            leased.start()
        async with http.get(f"{leased.url}/state", headers=bearer(token("ann", issued=time.time() + 1))) as response:
            assert response.status == 200
        bob.connect()
        bob.read_until(lambda frame: frame.event == "state.resumed")
    await do(http, leased, "desk/reinstated", {"subject": "ann"})

    async def welcome() -> bool:
        async with http.get(f"{leased.url}/state", headers=bearer(old)) as response:
            return response.status == 200

    await eventually(welcome)


async def test_another_process_ends_them_too(leased: Server, http: Http, tmp_path: Path) -> None:
    second = Server("serve", LEASED, env={"JOURNAL": f"sqlite:///{tmp_path / 'leased.db'}"})
    with second, PlainClient(second.port, token=token("ann")) as ann:
        ann.read_until(lambda frame: frame.event == "state.initial")
        began = time.monotonic()
        await do(http, leased, "desk/revoked", {"subject": "ann"})
        ann.read_until(lambda frame: frame.event == "stream.end")
        assert time.monotonic() - began < 10 * SECOND


async def test_what_is_hidden_stays_hidden(leased: Server, http: Http) -> None:
    with PlainClient(leased.port, token=token("ann")) as ann:
        await do(http, leased, "desk/revoked", {"subject": "ann"})
        ann.read_until(lambda frame: frame.event == "stream.end")
    async with http.get(f"{leased.url}/history?slices=*&cause=full", headers=bearer(token("boss"))) as response:
        assert "revocation" not in await response.text()
    status, _ = await dispatch(http, leased.url, "revocation/reinstated", {}, key="x")
    assert status == 401
