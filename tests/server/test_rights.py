"""Who may read and dispatch what: rules of slices, from outside, with everybody's own credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support import MODES, ROOT, PlainClient, Server, dispatch
from tests.support.exchange import exchange

GUARDED = f"{ROOT / 'tests/apps/guarded.py'}:app"
BOSS = "boss:chief,editor"


@pytest.fixture(params=[MODES[0], MODES[1]])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    server = Server("serve", GUARDED, env={"JOURNAL": f"sqlite:///{tmp_path / 'guarded.db'}"})
    server.mode = request.param
    with server:
        yield server


@pytest.fixture
async def people() -> AsyncIterator[dict[str, aiohttp.ClientSession]]:
    """A session for each of them; `nobody` has no credentials."""
    tokens = {"ann": "ann", "bob": "bob", "boss": BOSS, "viewer": "vic:viewer", "editor": "eve:editor,viewer"}
    sessions = {
        name: aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) for name, token in tokens.items()
    }
    sessions["nobody"] = aiohttp.ClientSession()
    yield sessions
    for session in sessions.values():
        await session.close()


People = dict[str, aiohttp.ClientSession]


async def do(who: aiohttp.ClientSession, server: Server, type: str, payload: Any = None, **more: Any) -> Any:
    status, answer = await dispatch(who, server.url, type, payload, **more)
    assert status == 200, answer
    return answer


async def read(who: aiohttp.ClientSession, server: Server, query: str = "slices=*") -> Any:
    async with who.get(f"{server.url}/state?{query}") as response:
        return response.status, await response.json(content_type=None)


@contextmanager
def following(server: Server, token: str | None, query: str = "slices=*") -> Iterator[PlainClient]:
    """A client that has received the state."""
    with PlainClient(server.port, query, token=token) as reader:
        assert reader.status == 200
        reader.read_until(lambda frame: frame.event == "state.initial")
        yield reader


async def test_a_snapshot_has_what_its_reader_may_read(guarded: Server, people: People) -> None:
    await do(people["ann"], guarded, "room/opened", key="1")
    await do(people["bob"], guarded, "room/opened", key="2")
    await do(people["ann"], guarded, "inbox/sent", {"text": "hi"}, key="bob")
    seen = {name: set((await read(session, guarded))[1]["slices"]) for name, session in people.items()}
    assert seen == {
        "ann": {"notice", "log", "people", "room/1"},
        "bob": {"notice", "log", "people", "room/2", "inbox/bob"},
        "boss": {"notice", "log", "people", "roster"},
        "viewer": {"notice", "log", "people"},
        "editor": {"notice", "log", "people"},
        "nobody": {"notice", "log"},
    }
    assert set((await read(people["ann"], guarded, "slices=room/1,room/2,room/3"))[1]["slices"]) == {"room/1"}
    assert set((await read(people["ann"], guarded, ""))[1]["slices"]) == {"notice", "log", "people"}


async def test_what_may_not_be_read_looks_as_if_it_did_not_exist(guarded: Server, people: People) -> None:
    await do(people["bob"], guarded, "room/opened", key="2")
    for path in ("state", "history", "stream/state"):
        for denied, absent in (
            ("salary", "celery"),
            ("roster", "toaster"),
            ("staff", "stiff"),
            ("salary/1", "celery/1"),
        ):
            answers = []
            for name in (denied, absent):
                async with people["ann"].get(f"{guarded.url}/{path}?slices={name}") as response:
                    text = (await response.text()).replace(name.partition("/")[0], "it")
                    answers.append((response.status, text))
            assert answers[0] == answers[1], (path, denied)
            assert answers[0][0] == 404
    for path in ("state", "history"):
        answers = []
        for name in ("room/2", "room/none", "inbox/bob", "inbox/none"):
            async with people["ann"].get(f"{guarded.url}/{path}?slices={name}") as response:
                answers.append((response.status, await response.text()))
        assert len(set(answers)) == 1, path


async def test_a_denied_dispatch_tells_nothing_about_what_cannot_be_read(guarded: Server, people: People) -> None:
    await do(people["bob"], guarded, "room/opened", key="2")
    said = {"text": "let me in"}
    there = await dispatch(people["ann"], guarded.url, "room/said", said, key="2")
    absent = await dispatch(people["ann"], guarded.url, "room/said", said, key="none")
    assert there == absent
    assert there[0] == 403
    for body in ({"payload": {"who": "x", "amount": 1}}, {"payload": {}}, {"payload": {}, "key": "7"}):
        for denied, absent_type in (("salary/paid", "celery/paid"), ("staff/told", "stiff/told")):
            first = await dispatch(people["ann"], guarded.url, denied, **body)
            second = await dispatch(people["ann"], guarded.url, absent_type, **body)
            assert json.dumps(first).replace(denied, "it") == json.dumps(second).replace(absent_type, "it")
            assert first[0] == 404
    version = (await read(people["bob"], guarded, "slices=room/2"))[1]["versions"]["room/2"]
    for expected in (0, version):
        body = {"type": "notice/posted", "payload": {"text": "x"}, "expect": {"room/2": expected}}
        async with people["editor"].post(f"{guarded.url}/dispatch", json=body) as response:
            assert response.status == (200 if expected == 0 else 409)


async def test_an_action_has_a_rule_of_its_own(guarded: Server, people: People) -> None:
    status, answer = await dispatch(people["ann"], guarded.url, "notice/posted", {"text": "x"})
    assert (status, answer["code"]) == (403, "forbidden")
    await do(people["editor"], guarded, "notice/posted", {"text": "x"})
    await do(people["ann"], guarded, "room/opened", key="1")
    assert (await dispatch(people["bob"], guarded.url, "room/said", {"text": "x"}, key="1"))[0] == 403
    answer = await do(people["ann"], guarded, "room/said", {"text": "x"}, key="1")
    assert {change["slice"] for change in answer["changes"]} == {"room/1", "log"}


async def test_a_right_holds_within_the_batch_that_takes_it_away(guarded: Server, people: People) -> None:
    """Rules are asked when an action takes effect: the second action of this request has no right any more."""
    await do(people["ann"], guarded, "room/opened", key="1")
    actions = [
        {"type": "room/expelled", "payload": {"name": "ann"}, "key": "1"},
        {"type": "room/said", "payload": {"text": "still here"}, "key": "1"},
    ]
    async with people["ann"].post(f"{guarded.url}/dispatch", json={"actions": actions}) as response:
        assert response.status == 403
    assert (await read(people["ann"], guarded, "slices=room/1"))[1]["slices"]["room/1"]["members"] == ["ann"]


async def test_somebody_without_credentials_is_asked_for_them(guarded: Server, people: People) -> None:
    for query in ("slices=salary", "slices=celery", "slices=people"):
        async with people["nobody"].get(f"{guarded.url}/state?{query}") as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (401, "unauthenticated")
            assert response.headers["WWW-Authenticate"] == "Bearer"
    for type in ("notice/posted", "celery/paid"):
        assert (await dispatch(people["nobody"], guarded.url, type, {"text": "x"}))[0] == 401
    assert (await read(people["nobody"], guarded, "slices=notice"))[0] == 200


async def test_a_reader_gains_and_loses_slices_at_exact_positions(guarded: Server, people: People) -> None:
    await do(people["ann"], guarded, "room/opened", key="1")
    await do(people["ann"], guarded, "room/said", {"text": "secret"}, key="1")
    with following(guarded, "bob") as bob, following(guarded, "ann") as ann:
        assert "room/1" not in bob.state
        invited = await do(people["ann"], guarded, "room/invited", {"name": "bob"}, key="1")
        [*_, gained] = bob.read_until(lambda _: "room/1" in bob.state)
        assert (gained.event, gained.id) == ("state.catchup", invited["position"])
        assert bob.state["room/1"] == {"members": ["ann", "bob"], "messages": ["secret"]}
        await do(people["bob"], guarded, "room/said", {"text": "thanks"}, key="1")
        [*_, update] = bob.read_until(lambda _: bob.state["room/1"]["messages"] == ["secret", "thanks"])
        assert update.event == "state.update"
        expelled = await do(people["ann"], guarded, "room/expelled", {"name": "bob"}, key="1")
        [*_, lost] = bob.read_until(lambda _: "room/1" not in bob.state)
        assert (lost.event, lost.id) == ("state.catchup", expelled["position"])
        await do(people["ann"], guarded, "room/said", {"text": "between us"}, key="1")
        await do(people["editor"], guarded, "notice/posted", {"text": "end"})
        frames = bob.read_until(lambda _: bob.state["notice"] == {"text": "end"})
        assert "between us" not in str(frames)
        ann.read_until(lambda _: ann.state["notice"] == {"text": "end"})
        assert ann.state["room/1"]["messages"] == ["secret", "thanks", "between us"]


async def test_a_right_that_comes_and_goes_within_a_request_has_its_positions_too(
    guarded: Server, people: People
) -> None:
    """What is sent in between has an id, from which a client can resume."""
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer ann:editor"}) as both:
        await do(both, guarded, "room/opened", key="1")
        with following(guarded, "bob") as bob:
            actions = [
                {"type": "room/invited", "key": "1", "payload": {"name": "bob"}},
                {"type": "notice/posted", "payload": {"text": "in between"}},
                {"type": "room/expelled", "key": "1", "payload": {"name": "bob"}},
            ]
            async with both.post(f"{guarded.url}/dispatch", json={"actions": actions}) as response:
                changes = [change["version"] for change in (await response.json())["changes"]]
            held = {}
            for frame in bob.frames():
                held[int(frame.id.partition(".")[0])] = "room/1" in bob.state
                if bob.state["notice"]["text"]:
                    break
            assert held.get(changes[1], True)
            bob.cut()
            bob.connect()
            frames = bob.read_until(lambda frame: frame.id.startswith(f"{changes[-1]}."))
            assert frames[0].event == "state.resumed"
            assert "room/1" not in bob.state


async def test_a_right_depends_on_another_slice(guarded: Server, people: People) -> None:
    with following(guarded, "bob") as bob, following(guarded, "bob", "") as default:
        await do(people["boss"], guarded, "roster/enrolled", {"name": "bob"})
        for reader in (bob, default):
            reader.read_until(lambda _, reader=reader: "staff" in reader.state)
        await do(people["bob"], guarded, "staff/told", {"text": "hello"})
        await do(people["boss"], guarded, "roster/dismissed", {"name": "bob"})
        for reader in (bob, default):
            reader.read_until(lambda _, reader=reader: "staff" not in reader.state)
            assert "roster" not in reader.state


async def test_an_old_cursor_brings_nothing_back(guarded: Server, people: People) -> None:
    await do(people["ann"], guarded, "room/opened", key="1")
    await do(people["ann"], guarded, "room/invited", {"name": "bob"}, key="1")
    with following(guarded, "bob") as bob:
        assert "room/1" in bob.state
        bob.close()
        await do(people["ann"], guarded, "room/said", {"text": "you may know"}, key="1")
        await do(people["ann"], guarded, "room/expelled", {"name": "bob"}, key="1")
        await do(people["ann"], guarded, "room/said", {"text": "you may not"}, key="1")
        bob.connect()
        frames = bob.read_until(lambda frame: frame.event == "heartbeat" or "room/1" not in bob.state)
        assert bob.reasons == ["start"]
        assert "room/1" not in bob.state
        assert "you may" not in str(frames)
        bob.close()
        await do(people["ann"], guarded, "room/invited", {"name": "bob"}, key="1")
        bob.connect()
        bob.read_until(lambda _: "room/1" in bob.state)
        assert bob.state["room/1"]["messages"] == ["you may know", "you may not"]


async def test_it_stays_so_after_a_restart(guarded: Server, people: People) -> None:
    """The past on which a right depends is read from the journal."""
    await do(people["ann"], guarded, "room/opened", key="1")
    await do(people["ann"], guarded, "room/invited", {"name": "bob"}, key="1")
    with following(guarded, "bob") as bob, following(guarded, "ann") as ann:
        bob.close()
        ann.close()
        await do(people["ann"], guarded, "room/expelled", {"name": "bob"}, key="1")
        await do(people["ann"], guarded, "room/said", {"text": "gone"}, key="1")
        guarded.kill()
        guarded.start()
        bob.connect()
        bob.read_until(lambda _: "room/1" not in bob.state)
        ann.connect()
        ann.read_until(lambda _: ann.state["room/1"]["messages"] == ["gone"])
        assert ann.reasons == bob.reasons == ["start"]


async def test_instances_that_appear_are_seen_by_those_who_may(guarded: Server, people: People) -> None:
    with following(guarded, "ann", "slices=room/*") as ann, following(guarded, "bob", "slices=room/*") as bob:
        await do(people["ann"], guarded, "room/opened", key="1")
        ann.read_until(lambda _: "room/1" in ann.state)
        await do(people["ann"], guarded, "room/closed", key="1")
        ann.read_until(lambda _: "room/1" not in ann.state)
        await do(people["bob"], guarded, "room/opened", key="1")
        bob.read_until(lambda _: "room/1" in bob.state)
        await do(people["ann"], guarded, "room/opened", key="3")
        frames = ann.read_until(lambda _: "room/3" in ann.state)
        assert '"room/1"' not in str(frames)
        assert set(ann.state) == {"room/3"}


async def test_the_past_is_readable_with_the_rights_of_now(guarded: Server, people: People) -> None:
    await do(people["ann"], guarded, "room/opened", key="1")
    said = await do(people["ann"], guarded, "room/said", {"text": "early"}, key="1")
    at = f"slices=*&at={said['position']}"
    assert "room/1" not in (await read(people["bob"], guarded, at))[1]["slices"]
    await do(people["ann"], guarded, "room/invited", {"name": "bob"}, key="1")
    assert (await read(people["bob"], guarded, at))[1]["slices"]["room/1"]["messages"] == ["early"]
    assert "early" in await history(people["bob"], guarded)
    await do(people["ann"], guarded, "room/expelled", {"name": "bob"}, key="1")
    assert "room/1" not in (await read(people["bob"], guarded, at))[1]["slices"]
    assert "early" not in await history(people["bob"], guarded)
    with following(guarded, "bob", "slices=*&after=earliest") as recorded:
        await do(people["editor"], guarded, "notice/posted", {"text": "end"})
        frames = recorded.read_until(lambda _: recorded.state["notice"] == {"text": "end"})
        assert "early" not in str(frames)
    with following(guarded, "ann", "slices=*&after=earliest") as recorded:
        recorded.read_until(lambda _: recorded.state["notice"] == {"text": "end"})
        assert recorded.state["room/1"]["messages"] == ["early"]


async def history(who: aiohttp.ClientSession, server: Server, query: str = "slices=*&cause=full") -> str:
    async with who.get(f"{server.url}/history?{query}") as response:
        assert response.status == 200
        return await response.text()


async def test_a_cause_does_not_carry_the_payload_of_another_slice(guarded: Server, people: People) -> None:
    with following(guarded, None, "slices=log&cause=full") as stranger:
        await do(people["ann"], guarded, "room/opened", key="1")
        await do(people["ann"], guarded, "room/said", {"text": "canary"}, key="1")
        [update] = stranger.read_until(lambda _: stranger.state["log"]["count"] == 1)
        assert update.data["cause"]["actor"] == "ann"
        assert "payload" not in update.data["cause"]
    assert "canary" not in await history(people["nobody"], guarded, "slices=log&cause=full")
    assert "canary" in await history(people["ann"], guarded)


async def test_a_view_is_the_slice_for_its_readers(guarded: Server, people: People) -> None:
    await do(people["boss"], guarded, "people/joined", {"name": "ann", "email": "ann@example.com"})
    query = "slices=people&cause=full"
    with (
        following(guarded, "vic:viewer", query) as viewer,
        following(guarded, "ann", query) as plain,
        following(guarded, "vic:viewer", "slices=people&after=earliest&cause=full") as recorder,
    ):
        assert viewer.state["people"] == {"by": {"ann": {"name": "ann"}}}
        for name in ("bob", "cyd"):
            await do(people["boss"], guarded, "people/joined", {"name": name, "email": f"{name}@example.com"})
        await do(people["boss"], guarded, "people/joined", {"name": "cyd", "email": "cyd@example.org"})
        plain.read_until(lambda _: plain.state["people"]["by"].get("cyd", {}).get("email") == "cyd@example.org")
        for reader in (recorder, viewer):
            frames = reader.read_until(lambda _, reader=reader: reader.versions == plain.versions)
            assert "@" not in str(frames)
            assert reader.state["people"] == {"by": {name: {"name": name} for name in ("ann", "bob", "cyd")}}
        assert frames[-1].data["patches"] == []
        cut = viewer.last_id
        viewer.close()
        await do(people["boss"], guarded, "people/joined", {"name": "dan", "email": "dan@example.com"})
        viewer.connect(cursor=cut)
        frames = viewer.read_until(lambda _: "dan" in viewer.state["people"]["by"])
        assert frames[0].event == "state.resumed"
        assert "@" not in str(frames)
    status, body = await read(people["viewer"], guarded, "slices=people")
    assert "@" not in str(body)
    assert status == 200
    assert "@" not in str((await read(people["viewer"], guarded, f"slices=people&at={body['position']}"))[1])
    assert "@" not in await history(people["viewer"], guarded, query)
    assert "@" in await history(people["ann"], guarded, query)


async def test_readers_with_equal_rights_share_a_group(guarded: Server, people: People) -> None:
    """A change to something that all of them may read is one frame for all, whatever else their rules say."""
    await do(people["ann"], guarded, "room/opened", key="1")
    with ExitStack() as stack:
        readers = [stack.enter_context(following(guarded, f"p{n}")) for n in range(20)]
        await do(people["editor"], guarded, "notice/posted", {"text": "x"})
        for reader in readers:
            reader.read_until(lambda _, reader=reader: reader.state["notice"]["text"] == "x")


RENAMED = """
from statestream import Slice, Store, create_app
from statestream.auth import anyone
from tests.apps.by_name import auth

room = Slice("room", initial={}, keyed=True, was="hall", read=anyone)
app = create_app(Store([room], removed=["lobby"]), auth=auth)
"""


def test_everything_can_be_asked_for_after_a_slice_was_renamed_or_removed(tmp_path: Path) -> None:
    program = tmp_path / "renamed.py"
    program.write_text(RENAMED)
    with Server("serve", f"{program}:app", env={"PYTHONPATH": str(ROOT)}) as server:
        assert exchange(server.port, "GET", "/state?slices=*").status == 200
        with following(server, "ann"):
            pass
