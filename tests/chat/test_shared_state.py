"""State that AG-UI clients set: one action for each slice, based on what the server has sent them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from statestream import Slice, Store, create_app
from statestream.chat import Chat
from statestream.chat.shared_state import MARKS, SharedState, mark
from statestream.core.change import Position, SliceState
from statestream.core.errors import VersionConflict
from tests.support import ROOT, Server, dispatch
from tests.support.ag_ui_client import Client, Node

APP = f"{ROOT / 'tests/apps/sharing.py'}:app"
QUERY = "slices=board,note/*,count"
Http = aiohttp.ClientSession


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.serving(APP) as running:
        yield running


@pytest.fixture
async def client(node: Node, server: Server, request: pytest.FixtureRequest, http: Http) -> Client:
    """A client that has the state: an empty board."""
    assert (await dispatch(http, server.url, "board/cleared", {}))[0] == 200
    client = await Client(node, server, request.node.name).open(QUERY)
    await (await client.start()).done()
    return client


async def value_of(http: Http, server: Server, name: str) -> Any:
    async with http.get(f"{server.url}/state", params={"slices": name}) as response:
        return (await response.json())["slices"].get(name)


async def versions_of(http: Http, server: Server) -> Any:
    async with http.get(f"{server.url}/state", params={"slices": QUERY.removeprefix("slices=")}) as response:
        return (await response.json())["versions"]


def edited(client_state: Any, **members: Any) -> Any:
    return {**client_state, **members}


async def test_what_a_client_has_changed_is_set_before_the_agent_reads_it(
    client: Client, server: Server, http: Http
) -> None:
    state = (await client.seen()).state
    mine = edited(state, board={**state["board"], "tasks": ["Buy milk"]}, count={"n": 99}, more=1)
    seen = await (await client.start("What is on the board?", run="run1", state=mine)).done()
    assert seen.last["outcome"] == {"type": "success"}
    assert seen.messages[-1]["content"] == "Tasks: Buy milk."
    assert await value_of(http, server, "board") == {"tasks": ["Buy milk"], "weight": 1.0}
    assert await value_of(http, server, "count") == {"n": 0}, "nobody has said that clients may set it"
    assert "count" in seen.state
    assert "more" not in seen.state, "the state is what the server says"
    mark_before, mark_now = state[MARKS]["board"], seen.state[MARKS]["board"]
    assert mark_before != mark_now
    again = edited(seen.state, board={"tasks": ["Buy bread"], "weight": 0.5})
    await (await client.start("And now?", run="run2", state=again)).done()
    assert await value_of(http, server, "board") == {"tasks": ["Buy bread"], "weight": 0.5}


async def test_what_a_client_has_not_changed_sets_nothing(client: Client, server: Server, http: Http) -> None:
    """Also if somebody else has: it has only not heard of it."""
    before = await versions_of(http, server)
    await (await client.start("One?", run="run1")).done()
    assert await versions_of(http, server) == before
    await dispatch(http, server.url, "board/replaced", {"value": {"tasks": ["Theirs"], "weight": 2}})
    seen = await (await client.start("Two?", run="run2")).done()
    assert seen.messages[-1]["content"] == "Tasks: Theirs."
    assert seen.state["board"] == {"tasks": ["Theirs"], "weight": 2}


async def test_a_conflict_is_said_and_the_client_gets_the_current_state(
    client: Client, server: Server, http: Http
) -> None:
    state = (await client.seen()).state
    await dispatch(http, server.url, "board/replaced", {"value": {"tasks": ["Theirs"], "weight": 2}})
    mine = edited(state, board={"tasks": ["Mine"], "weight": 1})
    seen = await (await client.start("Whose?", id="q1", run="run1", state=mine)).done()
    assert seen.failure is None
    assert seen.types[-3:] == ["RUN_STARTED", "STATE_SNAPSHOT", "RUN_ERROR"]
    assert (seen.last["code"], "board has changed" in seen.last["message"]) == ("version_conflict", True)
    assert await value_of(http, server, "board") == {"tasks": ["Theirs"], "weight": 2}
    assert seen.state["board"]["tasks"] == ["Theirs"]
    seen = await (await client.start(run="run2")).done()  # the question is still the client's last message
    assert seen.messages[-1]["content"] == "Tasks: Theirs."


async def test_without_a_mark_nobody_knows_what_a_change_is_based_on(
    client: Client, server: Server, http: Http
) -> None:
    await dispatch(http, server.url, "board/replaced", {"value": {"tasks": ["Theirs"], "weight": 2}})
    seen = await (await client.start("Mine?", run="run1", state={"board": {"tasks": ["Mine"], "weight": 1}})).done()
    assert seen.last["code"] == "version_conflict"
    assert (await value_of(http, server, "board"))["tasks"] == ["Theirs"]


@pytest.mark.parametrize(
    ("value", "code"),
    [({"tasks": ["x"] * 6, "weight": 1}, "full"), ({"tasks": "none"}, "invalid_payload"), (None, "invalid_payload")],
)
async def test_what_the_action_refuses_is_refused(
    client: Client, server: Server, http: Http, value: Any, code: str
) -> None:
    state = (await client.seen()).state
    seen = await (await client.start("?", run="run1", state=edited(state, board=value))).done()
    assert (seen.last["type"], seen.last["code"]) == ("RUN_ERROR", code)
    assert seen.state["board"] == state["board"]


async def test_instances_and_several_slices_are_set_together(client: Client, server: Server, http: Http) -> None:
    await dispatch(http, server.url, "note/written", {"value": {"text": "old"}}, key="1")
    state = (await (await client.start(run="run1")).done()).state
    mine = edited(state, board={"tasks": ["x"] * 6, "weight": 1}, **{"note/1": {"text": "new"}})
    seen = await (await client.start("?", run="run2", state=mine)).done()
    assert seen.last["code"] == "full"
    assert await value_of(http, server, "note/1") == {"text": "old"}, "all or none"
    mine = edited(seen.state, board={"tasks": ["x"], "weight": 1}, **{"note/1": {"text": "new"}})
    await (await client.start("?", run="run3", state=mine)).done()
    assert await value_of(http, server, "note/1") == {"text": "new"}
    assert (await value_of(http, server, "board"))["tasks"] == ["x"]


async def test_a_client_that_follows_can_go_on_with_what_it_was_told(node: Node, server: Server, http: Http) -> None:
    """Marks come with the deltas, too."""
    following = await Client(node, server, "follows").open(f"{QUERY}&follow=1")
    await following.start()
    await following.until_finished(1)
    await dispatch(http, server.url, "board/replaced", {"value": {"tasks": ["Told later"], "weight": 1.5}})
    state = (await following.until("Told later")).state
    other = await Client(node, server, "goes on").open(QUERY)
    mine = edited(state, board={"tasks": ["Mine"], "weight": 1.5})
    seen = await (await other.start("?", state=mine)).done()
    assert seen.messages[-1]["content"] == "Tasks: Mine."
    await following.until("Mine")


async def test_rights_decide_who_may_set_state(node: Node) -> None:
    with Server.serving(APP, env={"AUTH": "yes"}) as server:
        for token, code in (("ann:editor", None), ("bob", "forbidden")):
            client = await Client(node, server, f"of {token}").open(QUERY, headers={"Authorization": f"Bearer {token}"})
            state = (await (await client.start()).done()).state
            mine = edited(state, board={"tasks": [token], "weight": 1})
            seen = await (await client.start("?", run="run1", state=mine)).done()
            assert seen.last.get("code") == code, seen.last


# pure


def state_at(value: Any, version: int) -> SliceState:
    return SliceState(value, Position(seq=version, tag="0" * 8))


@pytest.mark.parametrize("value", [1, 1.0, 2**60, [], {"b": 1, "a": [0.1, True, None]}, "text"])
def test_what_javascript_makes_of_a_value_is_no_change(value: Any) -> None:
    board: Slice[Any] = Slice("board", initial=None)

    @board.action
    def replaced(state: Any, *, value: Any) -> Any:
        return value

    shared = SharedState()
    shared.add(replaced)
    sent, now = state_at(value, 7), state_at("other", 8)
    posted = {"board": _as_javascript(value), MARKS: {"board": mark(sent)}}
    for states in ({"board": sent}, {"board": now}):
        assert shared.changes(posted, states) == ([], {})
    changed = {**posted, "board": "changed"}
    actions, expect = shared.changes(changed, {"board": sent})
    assert ([action.payload for action in actions], expect) == ([{"value": "changed"}], {"board": 7})
    with pytest.raises(VersionConflict):
        shared.changes(changed, {"board": now})
    for nonsense in (None, 7, [], {"board": 1}, {MARKS: 7}, {"board": value, MARKS: [1]}):
        states = {"board": sent} if nonsense != {"board": 1} else {}
        assert shared.changes(nonsense, states) == ([], {})


def _as_javascript(value: Any) -> Any:
    """Numbers are doubles, and members may come in another order."""
    if isinstance(value, dict):
        return {name: _as_javascript(value[name]) for name in reversed(value)}
    if isinstance(value, list):
        return [_as_javascript(each) for each in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(float(value)) if float(value).is_integer() else float(value)
    return value


def test_what_cannot_set_a_slice_is_refused_when_it_is_declared() -> None:
    chat, hidden = Chat(), Slice("hidden", initial={}, hidden=True)
    board: Slice[Any] = Slice("board", initial={})

    @board.action
    def added(state: Any, *, title: str) -> None: ...

    @board.action
    def replaced(state: Any, *, value: Any) -> Any: ...

    @board.action
    def also(state: Any, *, value: Any) -> Any: ...

    @hidden.action
    def changed(state: Any, *, value: Any) -> Any: ...

    for wrong, sentence in (
        (added, "the parameter `value`"),
        (changed, "for the server"),
        (len, "above the decorator"),
    ):
        with pytest.raises(TypeError, match=sentence):
            chat.shared_state(wrong)  # type: ignore[type-var]
    assert chat.shared_state(replaced) is replaced
    with pytest.raises(ValueError, match="has an action for shared state already"):
        chat.shared_state(also)
    board.view("guest")(lambda value: {})
    with pytest.raises(TypeError, match="board has one"):
        chat.setup(create_app(Store([board, *chat.slices])))
