"""The browser's side: the page of a recording in a real window, and the replica against other people's and our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import statestream
from statestream.client.replica import Replica
from statestream.core.draft import produce
from statestream.core.errors import Gap
from statestream.protocol.sse import Event
from tests.support import Server
from tests.support.browser import Tab
from tests.support.node import Node
from tests.support.often import often
from tests.support.programs import base_documents, programs, run, values


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Server]:
    with Server("demo", "--journal", f"sqlite:///{tmp_path / 'demo.db'}") as running:
        yield running


# a recording's page


def test_a_served_recording_is_followed_by_its_page(browser: Node, demo: Server, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with statestream.connect_sync(demo.url, slices=["board", "chat/*"]) as stream, stream.record(path):
        for n in range(3):
            stream.dispatch("board/task_added", {"id": str(n), "title": f"<b>{n}</b>"})
        stream.wait_for(lambda state: len(state["board"]["tasks"]) == 3, timeout=60)
        position = stream.position
    with Server("replay", str(path), "--serve") as playback:
        window = Tab(browser, "playback", playback.url)
        window.wait(f"document.querySelector('#position').textContent === {json.dumps(position)}")
        shown = window.look("[...document.querySelectorAll('h2, pre')].map((part) => part.textContent)")
        assert shown[0] == f"board version {str(position).split('.')[0]}"
        assert json.loads(shown[1])["tasks"][2] == {"id": "2", "title": "<b>2</b>", "done": False}
        assert window.close() == []


# its replica


@settings(max_examples=often(75))
@given(base=base_documents, program=programs)
def test_what_a_draft_records_replays_in_javascript(replicas: Node, base: Any, program: Any) -> None:
    result, patch = produce(base, lambda state: run(program, state))
    got = replicas.ask("replay", base=base, patch=patch, result=result)
    assert got["ours"] == got["reordered"] == got["theirs"] == got["expected"]
    assert got["copied"] is None, f"a copy of what was not touched, at {got['copied']!r}"


@settings(max_examples=often(60))
@given(base=base_documents, new=base_documents)
@example(base={"~1": [1], "/": [1], "~01": [1]}, new={"~1": [2], "/": [3], "~01": [4]})  # unescaped in one order only
def test_what_a_diff_finds_replays_in_javascript(replicas: Node, base: Any, new: Any) -> None:
    result, patch = produce(base, lambda _: new)
    got = replicas.ask("replay", base=base, patch=patch, result=result)
    assert got["ours"] == got["reordered"] == got["theirs"] == got["expected"]
    assert got["copied"] is None, f"a copy of what was not touched, at {got['copied']!r}"


def follow(replicas: Node, *frames: Any, state: Any = None, versions: Any = None) -> Any:
    """The browser's replica after the frames; it holds `a` at 3 and `b` at 5 before."""
    state = {"a": {"n": 1, "l": [1]}, "b": [1]} if state is None else state
    versions = {"a": 3, "b": 5} if versions is None else versions
    return replicas.ask("follow", state=state, versions=versions, frames=frames)


def told(got: Any) -> list[Any]:
    """The updates of one frame, in short."""
    [updates] = got["told"]
    return [
        ["initial", one["reason"]] if one["kind"] == "initial" else [one["kind"], one["slice"], one["version"]]
        for one in updates
    ]


def update(name: str, start: int, version: int, **content: Any) -> dict[str, Any]:
    return {"type": "state.update", "slice": name, "from": start, "version": version, **content}


def bump(value: Any) -> list[Any]:
    return [{"op": "replace", "path": "/n", "value": value}]


def test_a_patch_is_applied_where_its_from_is_what_is_held(replicas: Node) -> None:
    frame = update("a", 3, 7, patches=bump(2))
    got = follow(replicas, frame)
    assert got["gap"] is None
    assert told(got) == [["patches", "a", 7]]
    assert got["state"] == {"a": {"n": 2, "l": [1]}, "b": [1]}
    assert got["versions"] == {"a": 7, "b": 5}


@pytest.mark.parametrize("content", [{"patches": bump(9)}, {"value": 9}, {"removed": True}])
@pytest.mark.parametrize("version", [1, 3])
def test_an_old_version_is_ignored_whatever_it_brings(replicas: Node, version: int, content: Any) -> None:
    got = follow(replicas, update("a", 0, version, **content))
    assert got["gap"] is None
    assert got["told"] == [[]]
    assert got["versions"] == {"a": 3, "b": 5}
    assert got["state"]["a"] == {"n": 1, "l": [1]}


@pytest.mark.parametrize("start", [2, 4, 0])
def test_a_newer_value_or_removal_is_taken_from_anywhere(replicas: Node, start: int) -> None:
    got = follow(replicas, update("a", start, 9, value=[]), update("b", start, 10, removed=True))
    assert got["gap"] is None
    assert got["state"] == {"a": []}
    assert got["versions"] == {"a": 9}


def test_what_was_removed_counts_as_0_and_is_made_again_by_a_value(replicas: Node) -> None:
    again = update("b", 0, 11, value=[2])
    got = follow(
        replicas, update("b", 5, 10, removed=True), again, update("b", 11, 12, patches=[{"op": "remove", "path": "/0"}])
    )
    assert got["gap"] is None
    assert got["state"]["b"] == []
    assert got["versions"]["b"] == 12


@pytest.mark.parametrize(
    "frame",
    [
        update("a", 2, 7, patches=bump(2)),
        update("a", 4, 7, patches=bump(2)),
        update("c", 1, 7, patches=bump(2)),
        update("c", 0, 7, patches=bump(2)),
        update("a", 3, 7, patches=[{"op": "replace", "path": "/m", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "remove", "path": "/m"}]),
        update("a", 3, 7, patches=[{"op": "add", "path": "/m/x", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "add", "path": "/n/x", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "add", "path": "/l/2", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "remove", "path": "/l/-"}]),
        update("a", 3, 7, patches=[*bump(2), {"op": "test", "path": "/n", "value": 3}]),
        update("a", 3, 7, patches=[*bump(2), {"op": "move", "from": "/m", "path": "/x"}]),
        update("a", 3, 7, patches=[*bump(2), {"op": "copy", "from": "/m", "path": "/x"}]),
        update("a", 3, 7, patches=[*bump(2), {"op": "increment", "path": "/n", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "replace", "path": "/l/1", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "replace", "path": "/l/00", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "add", "path": "/__proto__/x", "value": 1}]),
        update("a", 3, 7, patches=[{"op": "add", "path": "/constructor/x", "value": 1}]),
        {"type": "state.resumed", "versions": {"a": 3}},
        {"type": "state.resumed", "versions": {"a": 3, "b": 6}},
        {"type": "state.resumed", "versions": {"a": 3, "b": 5, "c": 1}},
        {"type": "state.catchup", "updates": [update("b", 5, 8, value=1), update("a", 2, 7, patches=bump(2))]},
    ],
    ids=lambda frame: json.dumps(frame.get("patches", frame)),
)
def test_what_does_not_continue_is_a_gap_and_leaves_the_replica_as_it_was(replicas: Node, frame: Any) -> None:
    got = follow(replicas, frame)
    assert got["gap"] == 0
    assert got["kept"]
    assert got["versions"] == {"a": 3, "b": 5}


def test_a_catchup_is_applied_whole_and_its_old_parts_are_ignored(replicas: Node) -> None:
    items = [update("a", 3, 7, patches=bump(2)), update("b", 1, 5, value=0), update("c", 0, 8, value="new")]
    got = follow(replicas, {"type": "state.catchup", "updates": items})
    assert got["gap"] is None
    assert told(got) == [["patches", "a", 7], ["value", "c", 8]]
    assert got["state"] == {"a": {"n": 2, "l": [1]}, "b": [1], "c": "new"}


def test_a_snapshot_replaces_everything_held(replicas: Node) -> None:
    got = follow(replicas, {"type": "state.initial", "reason": "forked", "slices": {"b": 1}, "versions": {"b": 2}})
    assert got["state"] == {"b": 1}
    assert got["versions"] == {"b": 2}
    assert told(got) == [["initial", "forked"]]


def test_heartbeats_resuming_and_frames_of_later_versions_change_nothing(replicas: Node) -> None:
    frames = [{"type": "state.resumed", "versions": {"b": 5, "a": 3}}, {"type": "heartbeat"}, {"type": "state.novelty"}]
    got = follow(replicas, *frames)
    assert got["gap"] is None
    assert got["told"] == [[], [], []]
    assert got["versions"] == {"a": 3, "b": 5}


def catchup(items: list[Any]) -> dict[str, Any]:
    return {"type": "state.catchup", "updates": items}


def initial(versions: dict[str, int]) -> dict[str, Any]:
    return {"type": "state.initial", "reason": "start", "slices": dict.fromkeys(versions, 0), "versions": versions}


names = st.sampled_from(["a", "b", "c/1"])
held = st.integers(0, 6)
some_versions = st.dictionaries(names, st.integers(1, 3), max_size=3)
contents = st.one_of(
    values.map(lambda value: {"value": value}),
    st.just({"removed": True}),
    st.lists(st.just({"op": "replace", "path": "", "value": 1}), max_size=1).map(lambda patches: {"patches": patches}),
)
updates = st.tuples(names, held, held, contents).map(lambda drawn: update(*drawn[:3], **drawn[3]))
frames = st.one_of(
    updates,
    st.lists(updates, max_size=3, unique_by=lambda item: item["slice"]).map(catchup),
    some_versions.map(initial),
    some_versions.map(lambda versions: {"type": "state.resumed", "versions": versions}),
)


@settings(max_examples=often(75))
@given(st.lists(frames, max_size=6))
def test_the_replicas_of_both_languages_agree_on_any_frames(replicas: Node, frames: list[Any]) -> None:
    got = follow(replicas, *frames, state={}, versions={})
    replica, gap = Replica(), None
    for index, frame in enumerate(frames):
        full = {"position": "1.x", "heartbeat": 1, "timestamp": 0, "cause": {}, **frame}
        try:
            replica.apply(Event(event=frame["type"], data=orjson.dumps(full).decode(), last_id="1.x"))
        except Gap:
            gap = index
            break
    assert got["gap"] == gap
    if gap is None:
        assert (got["state"], got["versions"]) == (replica.state, replica.versions)
