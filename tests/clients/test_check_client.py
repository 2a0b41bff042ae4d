"""`check_client` and `statestream transcripts`: good clients pass, and each way of being wrong is found out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

import statestream
from statestream.client.replica import Replica
from statestream.core.errors import Gap, Malformed, StreamRefused
from statestream.protocol.sse import Decoder
from statestream.testing import ClientState, Outcome, check_client
from statestream.tools.conformance.clients import check_client as checking
from statestream.tools.conformance.clients.sse_vectors import SseVector
from statestream.tools.conformance.clients.transcript import Transcript
from tests.support import ROOT, Server, scripted
from tests.support.node import Node
from tests.support.pages import files_of

Show = Callable[[ClientState], None]
NAMES = [one.name for one in Transcript.all()]


async def ours(url: str, show: Show) -> None:
    stream = statestream.connect(url)
    show(stream)
    try:
        async with stream:
            async for _ in stream:
                pass
    except StreamRefused:
        pass


class Plain:
    """A client from the parts of ours; who is wrong overrides one of its methods."""

    def __init__(self) -> None:
        self.replica = Replica()

    def cursor(self) -> str | None:
        return self.replica.position

    def misfit(self) -> None:
        """A frame does not fit. Raises Gap where it is to start again."""
        self.replica.forget_position()
        raise Gap

    def is_over(self) -> bool:
        return self.replica.end is not None and self.replica.end.final

    def is_final(self, status: int) -> bool:
        return 400 <= status < 500 and status not in (408, 425, 429)

    def silence(self) -> float | None:
        """The seconds after which a connection is dead."""
        return None if self.replica.heartbeat_ms is None else 2.5 * self.replica.heartbeat_ms / 1000

    async def __call__(self, url: str, show: Show) -> None:
        show(self.replica)
        async with aiohttp.ClientSession() as http:
            while not self.is_over():
                self.replica.end = None
                cursor = self.cursor()
                headers = {"Last-Event-ID": cursor} if cursor else {}
                async with http.get(f"{url}/stream/state", headers=headers) as response:
                    if self.is_final(response.status):
                        return
                    try:
                        await self.read(response, Decoder(last_id=cursor or ""))
                    except (Gap, TimeoutError, aiohttp.ClientPayloadError):
                        continue

    async def read(self, response: aiohttp.ClientResponse, decoder: Decoder) -> None:
        while self.replica.end is None and (chunk := await self.chunk(response)):
            for event in decoder.feed(chunk):
                try:
                    self.replica.apply(event)
                except Gap:
                    self.misfit()

    async def chunk(self, response: aiohttp.ClientResponse) -> bytes:
        async with asyncio.timeout(self.silence()):
            return await response.content.readany()


class Forgetful(Plain):
    def cursor(self) -> str | None:
        return None


class Careless(Plain):
    def misfit(self) -> None:
        """It goes on."""


class Stubborn(Plain):
    def is_over(self) -> bool:
        return False


class Hasty(Plain):
    """Takes any end for good."""

    def is_over(self) -> bool:
        return self.replica.end is not None


class Relentless(Plain):
    """Treats no status as final."""

    def is_final(self, status: int) -> bool:
        return False


class Faint(Plain):
    """Treats every status as final."""

    def is_final(self, status: int) -> bool:
        return status != 200


class Trusting(Plain):
    """Waits for as long as the connection is open."""

    def silence(self) -> float | None:
        return None


class Polite(Plain):
    """Waits for the server to close the connection after `stream.end`."""

    async def read(self, response: aiohttp.ClientResponse, decoder: Decoder) -> None:
        async for chunk in response.content.iter_any():
            for event in decoder.feed(chunk):
                self.replica.apply(event)


class Deaf(Plain):
    async def read(self, response: aiohttp.ClientResponse, decoder: Decoder) -> None:
        """Catch-ups are nothing to it."""
        async for chunk in response.content.iter_any():
            for event in decoder.feed(chunk):
                if event.event != "state.catchup":
                    self.replica.apply(event)


async def raises(url: str, show: Show) -> None:
    raise LookupError("no such thing")


async def says_nothing(url: str, show: Show) -> None:
    await ours(url, lambda _: None)


async def gives_up(url: str, show: Show) -> None:
    async with statestream.connect(url) as stream:
        show(stream)


async def gives_up_soon(url: str, show: Show) -> None:
    async with statestream.connect(url) as stream:
        show(stream)
        await asyncio.sleep(0.05)


async def shows_nothing_of_ours(url: str, show: Show) -> None:
    show(SimpleNamespace(state={}))  # type: ignore[arg-type]
    await asyncio.Event().wait()


async def never_ends(url: str, show: Show) -> None:
    following = asyncio.create_task(ours(url, show))
    while not following.done():
        try:
            await asyncio.wait([following])
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_later(0.5, following.cancel)


def failed(outcomes: list[Outcome]) -> dict[str, str]:
    return {outcome.check.name: outcome.problem for outcome in outcomes if outcome.problem is not None}


async def test_our_client_passes_every_transcript() -> None:
    told: list[Outcome] = []
    outcomes = await check_client(ours, tell=told.append)
    assert failed(outcomes) == {}
    assert [outcome.check.name for outcome in outcomes] == NAMES
    assert sorted(outcome.check.name for outcome in told) == NAMES
    assert all(outcome.check.promise.endswith(".") for outcome in outcomes)


async def test_a_client_of_its_own_passes_every_transcript() -> None:
    assert failed(await check_client(lambda url, show: Plain()(url, show))) == {}


WRONG: list[tuple[Callable[[str, Show], Awaitable[object]], str, str]] = [
    (Forgetful(), "resumed", "expected requests with the cursors [-, 2.b], got [-, -]"),
    (Careless(), "gap", "expected requests with the cursors [-, -], got [-]"),
    (Stubborn(), "end_for_good", "got [-, 2.b"),
    (Hasty(), "end_with_retry", "got [-]"),
    (Relentless(), "refused_for_good", "got [-, -"),
    (Relentless(), "refused_for_good_later", "got [-, 1.a, 1.a"),
    (Faint(), "refused_for_now", "got [-, 1.a]"),
    (Trusting(), "silence", "got [-]"),
    (Polite(), "end_left_open", "got [-]"),
    (Deaf(), "catchup", "expected state {"),
    (raises, "initial", "it raised LookupError('no such thing')"),
    (says_nothing, "initial", "a report of what the client has, got none"),
    (gives_up, "initial", "expected the client to continue"),
    (gives_up_soon, "initial", "expected the client to continue"),
    (shows_nothing_of_ours, "initial", "it raised AttributeError"),
    (never_ends, "initial", "but it continues"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "name", "word"),
    WRONG,
    ids=[f"{getattr(run, '__name__', type(run).__name__)}-{name}" for run, name, _ in WRONG],
)
async def test_a_client_that_is_wrong_is_found_out(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[str, Show], Awaitable[object]], name: str, word: str
) -> None:
    monkeypatch.setattr(checking, "STOP_SECONDS", 0.2)
    ends_by_itself = run in (raises, gives_up, gives_up_soon)
    [outcome] = await check_client(run, only=[name], timeout=20 if ends_by_itself else 1.5)
    assert outcome.check.name == name
    assert word in str(outcome.problem)


async def test_an_unknown_transcript_is_refused() -> None:
    with pytest.raises(Malformed, match="the checks are catchup, "):
        await check_client(ours, only=["nonsense"])


# any language


@pytest.fixture(scope="module")
def playing() -> Iterator[Server]:
    with Server("transcripts") as running:
        yield running


async def checked_in_a_page(browser: Node, root: str, patience: int = 10_000) -> Any:
    """What check.mjs of the docs says, in a page from elsewhere than the transcripts."""
    async with scripted.Scripted() as pages:
        await asyncio.to_thread(browser.ask, "open", window="check", url=f"{pages.url}/page")
        script = f"import('/check.mjs').then((at) => at.check('{root}', {patience}))"
        try:
            return await asyncio.to_thread(browser.ask, "look", window="check", script=script)
        finally:
            await asyncio.to_thread(browser.ask, "close", window="check")


@pytest.fixture
def check_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    file = tmp_path / "check.mjs"
    file.write_text(files_of("conformance.md")["check.mjs"])
    monkeypatch.setitem(scripted.PAGES, "/check.mjs", file)
    return file


@pytest.mark.usefixtures("check_file")
async def test_the_browsers_client_passes_as_the_page_says(browser: Node, playing: Server) -> None:
    assert await checked_in_a_page(browser, playing.url) == []


@pytest.mark.usefixtures("check_file")
async def test_a_wrong_client_in_a_page_is_found_out(
    browser: Node, playing: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = (ROOT / "statestream/browser/replica.js").read_text()
    wrong = right.replace('    if (type !== "stream.end") this.position = lastId || null;\n', "")
    assert wrong != right
    (tmp_path / "wrong.js").write_text(wrong)
    monkeypatch.setitem(scripted.PAGES, "/js/replica.js", tmp_path / "wrong.js")
    problems = await checked_in_a_page(browser, playing.url, 200)
    assert any(problem.startswith("resumed: expected requests with the cursors [-, 2.b], got") for problem in problems)


async def test_what_is_asked_and_held_is_compared_over_http(playing: Server, http: aiohttp.ClientSession) -> None:
    async def say(url: str, **held: Any) -> Any:
        async with http.post(url, json=held) as response:
            return await response.json()

    async with http.get(playing.url) as response:
        one = {one["name"]: one for one in await response.json()}["end_for_good"]
    assert one["asks"] == ["-"]
    assert await say(one["url"]) == {"asked": [], "problem": "expected requests with the cursors [-], got []"}
    async with http.get(f"{one['url']}/stream/state") as response:
        assert await response.content.read()
    assert "has, for good" in (await say(one["url"], state=one["end"]["state"]))["problem"]
    assert "expected state" in (await say(one["url"], state={}, over=True))["problem"]
    assert await say(one["url"], **one["end"]) == {"asked": ["-"], "problem": None}
    assert await say(one["url"], over=True) == {"asked": ["-"], "problem": None}
    async with http.get(f"{one['url']}/stream/state", params={"after": "2.b"}) as response:
        assert response.status == 204
    assert "got [-, 2.b]" in (await say(one["url"], **one["end"]))["problem"]


async def test_each_play_starts_afresh(playing: Server, http: aiohttp.ClientSession) -> None:
    for _ in range(2):
        async with http.get(playing.url) as response:
            url = {one["name"]: one["url"] for one in await response.json()}["end_for_good"]
        async with http.get(f"{url}/stream/state") as response:
            assert response.status == 200


async def test_what_cannot_be_played_is_explained(playing: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(playing.url) as response:
        url = (await response.json())[0]["url"]
    for path in ("/0/initial", "/99999/initial", "/x/initial", "/1/nonsense"):
        async with http.get(f"{playing.url}{path}/stream/state") as response:
            assert (response.status, "GET / begins a play" in await response.text()) == (404, True)
    for body in ("nonsense", "[]", json.dumps({"state": 1})):
        async with http.post(url, data=body) as response:
            assert (response.status, "expected what the client has" in await response.text()) == (400, True)


async def test_the_vectors_are_there_too(playing: Server, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{playing.url}/vectors") as response:
        assert len((await response.json())["vectors"]) == len(SseVector.all())
