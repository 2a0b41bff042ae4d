"""The browser's side: the demo's page in real windows, and its replica against other people's and our own.

`python -m tests.clients.test_browser` takes the picture of the README: the demo in two windows, a reply half grown.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import tempfile
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
from tests.support import ROOT, Server
from tests.support.browser import LEFT, RIGHT, is_of_the_cut, text_is
from tests.support.chats import INTERRUPTED
from tests.support.node import Node
from tests.support.often import often
from tests.support.programs import base_documents, programs, run, values


class Window:
    """A window on the demo, and what a person would do there."""

    def __init__(self, browser: Node, name: str, url: str, **size: int) -> None:
        self.browser, self.name = browser, name
        self.do("open", url=url, **size)
        self.wait("document.querySelector('#status').textContent === 'live'")

    def do(self, what: str, **more: Any) -> Any:
        return self.browser.ask(what, window=self.name, **more)

    def look(self, script: str) -> Any:
        return self.do("look", script=script)

    def wait(self, script: str) -> Any:
        return self.do("wait", script=script)

    def ask(self, text: str) -> None:
        self.do("say", field="#ask input", text=text)

    def add(self, title: str) -> None:
        self.do("say", field="#add input", text=title)
        self.wait(f"[...document.querySelectorAll('#tasks span')].some((s) => s.textContent === {json.dumps(title)})")

    def tick(self, number: int) -> None:
        self.do("click", target=f"#tasks li:nth-child({number}) input")

    def wait_until_it_has_grown(self, times: int = 3) -> None:
        streaming = "document.querySelector('#messages li:last-child.streaming') !== null"
        self.wait(f"seen.lengths.length >= {times} && {streaming}")

    def wait_until_the_reply_is(self, status: str) -> str:
        """The text of the newest message, once its status is that."""
        self.wait(f"document.querySelector('#messages li.assistant:last-child.{status}') !== null")
        return self.reply

    @property
    def url(self) -> str:
        return str(self.look("location.href"))

    @property
    def reply(self) -> str:
        return str(self.look("document.querySelector('#messages li:last-child span')?.textContent ?? ''"))

    @property
    def tasks(self) -> list[list[Any]]:
        """Titles, and whether they are ticked."""
        each = "[li.querySelector('span').textContent, li.querySelector('input').checked]"
        return list(self.look(f"[...document.querySelectorAll('#tasks li')].map((li) => {each})"))

    @property
    def lengths(self) -> list[int]:
        """How long the reply was each time when it was seen to be longer or shorter while it streamed."""
        return list(self.look("seen.lengths"))

    def events(self, name: str) -> list[Any]:
        return [event for event in self.look("seen.events") if event["name"] == name]

    @property
    def problems(self) -> list[str]:
        """What the browser has complained about since the last look: console, scripts, network."""
        return list(self.do("problems"))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Server]:
    with Server("demo", "--journal", f"sqlite:///{tmp_path / 'demo.db'}") as running:
        yield running


@pytest.fixture
def windows(browser: Node, demo: Server) -> Iterator[tuple[Window, Window]]:
    """Two windows on one chat; the first one has made it."""
    left = Window(browser, LEFT, demo.url)
    right = Window(browser, RIGHT, left.url)
    yield left, right
    left.do("close")
    right.do("close")


# a recording's page


def test_a_served_recording_is_followed_by_its_page(browser: Node, demo: Server, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with statestream.connect_sync(demo.url, slices=["board", "chat/*"]) as stream, stream.record(path):
        for n in range(3):
            stream.dispatch("board/task_added", {"id": str(n), "title": f"<b>{n}</b>"})
        stream.wait_for(lambda state: len(state["board"]["tasks"]) == 3, timeout=60)
        position = stream.position
    with Server("replay", str(path), "--serve") as playback:
        window = Window(browser, LEFT, playback.url)
        window.wait(f"document.querySelector('#position').textContent === {json.dumps(position)}")
        shown = window.look("[...document.querySelectorAll('h2, pre')].map((part) => part.textContent)")
        assert shown[0] == f"board version {str(position).split('.')[0]}"
        assert json.loads(shown[1])["tasks"][2] == {"id": "2", "title": "<b>2</b>", "done": False}
        assert window.problems == []
        window.do("close")


# the page


def test_a_reply_grows_in_two_windows_and_ends_the_same(windows: tuple[Window, Window]) -> None:
    left, _ = windows
    left.ask("What is this?")
    texts = [window.wait_until_the_reply_is("complete") for window in windows]
    assert texts[0] == texts[1]
    assert texts[0].startswith("You said: “What is this?”. ")
    for window in windows:
        assert len(window.lengths) >= 3
        assert window.lengths == sorted(set(window.lengths))
        assert window.look("document.querySelector('#messages li.user').textContent") == "What is this?"
        assert window.problems == []


def test_a_task_that_one_window_adds_and_ticks_shows_in_the_other(windows: tuple[Window, Window]) -> None:
    left, right = windows
    left.add("Buy milk")
    right.wait("document.querySelectorAll('#tasks li').length === 1")
    assert left.tasks == right.tasks == [["Buy milk", False]]
    right.tick(1)
    for window in windows:
        window.wait("document.querySelector('#tasks li.done') !== null")
        assert window.tasks == [["Buy milk", True]]
    left.do("click", target="#tasks button")
    right.wait("document.querySelectorAll('#tasks li').length === 0")
    for window in windows:
        assert len(window.events("state.initial")) == 1
        assert window.problems == []


@pytest.mark.parametrize("width", [320, 390])
def test_long_words_fit_into_a_narrow_window(browser: Node, demo: Server, width: int) -> None:
    narrow = Window(browser, LEFT, demo.url, width=width, height=500)
    narrow.add("a" * 150)
    narrow.ask("b" * 150)
    narrow.wait_until_the_reply_is("complete")
    assert narrow.look("document.documentElement.scrollWidth") == width
    demo.kill()
    narrow.wait(text_is("#status", "reconnecting"))
    assert narrow.look("document.documentElement.scrollWidth") == width
    narrow.do("close")


def test_a_task_that_this_window_adds_is_scrolled_into_view(browser: Node, demo: Server) -> None:
    with statestream.connect_sync(demo.url, slices=["board"]) as stream:
        for n in range(30):
            stream.dispatch("board/task_added", {"id": str(n), "title": f"Task {n}"})
    window = Window(browser, LEFT, demo.url, height=400)
    window.add("Mine")
    bottom = "document.querySelector('{}').getBoundingClientRect().bottom"
    assert window.look(f"{bottom.format('#tasks li:last-child')} <= {bottom.format('#tasks')}")
    window.do("close")


def chat_of(window: Window) -> str:
    return str(window.look("location.hash.slice(1)"))


def test_a_first_visit_makes_one_chat_and_loads_once(windows: tuple[Window, Window]) -> None:
    left, _ = windows
    assert left.look("performance.getEntriesByType('navigation')[0].type") == "navigate"
    assert left.look("history.length") == 2  # the blank page and this one
    assert left.look("seen.connections") == 1
    names = set(left.look("Object.keys(stream.versions)"))
    assert names - {f"presence/{chat_of(left)}"} == {"board", f"chat/{chat_of(left)}"}


def test_a_growing_reply_leaves_the_elements_of_the_board_alone(windows: tuple[Window, Window]) -> None:
    left, _ = windows
    left.add("Stay")
    left.look("void (globalThis.kept = document.querySelector('#tasks input'))")
    left.ask("Go on")
    left.wait_until_it_has_grown()
    assert left.look("kept.isConnected")


def test_the_chats_refusal_is_shown_to_who_asked(windows: tuple[Window, Window]) -> None:
    left, right = windows
    left.ask("First")
    left.wait_until_it_has_grown(1)
    left.ask("Second")
    assert "in progress" in left.wait("document.querySelector('#problem').textContent")
    assert left.look("document.querySelector('#ask input').value") == "Second"
    assert right.look("document.querySelector('#problem').textContent") == ""
    left.wait_until_the_reply_is("complete")
    assert left.look("document.querySelectorAll('#messages li.user').length") == 1


def test_both_windows_go_on_by_themselves_when_the_server_is_killed_in_a_reply(
    windows: tuple[Window, Window], demo: Server
) -> None:
    left, right = windows
    left.add("Survive")
    left.ask("Tell me everything")
    for window in windows:
        window.wait_until_it_has_grown(5)
    assert left.problems == right.problems == []
    demo.kill()
    shown = [window.reply for window in windows]
    demo.start()
    kept = [window.wait_until_the_reply_is("error") for window in windows]
    assert kept[0] == kept[1]
    assert all(kept[0].startswith(text) for text in shown), (kept, shown)
    assert min(map(len, shown)) > 0
    for window in windows:
        assert window.look("document.querySelector('#messages small').textContent") == INTERRUPTED
        assert [event["reason"] for event in window.events("state.initial")] == ["start"]
        assert len(window.events("state.resumed")) == 1
        assert window.tasks == [["Survive", False]]
    right.ask("And now?")
    texts = [window.wait_until_the_reply_is("complete") for window in windows]
    assert texts[0] == texts[1]
    for window in windows:
        assert [problem for problem in window.problems if not is_of_the_cut(problem)] == []


def test_both_windows_come_back_where_they_were_after_an_orderly_restart(
    windows: tuple[Window, Window], demo: Server
) -> None:
    left, right = windows
    left.add("Before")
    right.wait("document.querySelectorAll('#tasks li').length === 1")
    assert demo.stop() == ""
    demo.start()
    for window in windows:
        window.wait("seen.events.some((event) => event.name === 'state.resumed')")
        assert [event["reason"] for event in window.events("stream.end")] == ["shutdown"]
        assert len(window.events("state.initial")) == 1
    right.add("After")
    left.wait("document.querySelectorAll('#tasks li').length === 2")
    assert left.tasks == right.tasks == [["Before", False], ["After", False]]


def test_a_window_that_finds_a_gap_takes_the_state_anew(windows: tuple[Window, Window]) -> None:
    left, right = windows
    for title in ("One", "Two"):  # from now on a patch is smaller than the value
        left.add(title)
    right.wait("document.querySelectorAll('#tasks li').length === 2")
    right.look("void (stream.versions.board -= 1)")
    left.add("Three")
    right.wait("document.querySelectorAll('#tasks li').length === 3")
    assert right.tasks == left.tasks
    left.add("Four")
    right.wait("document.querySelectorAll('#tasks li').length === 4")
    assert right.look("seen.connections") == 1, "what it shares the stream with has no gap"
    assert right.problems == []


def test_a_page_that_throws_at_a_change_loses_nothing_of_the_stream(windows: tuple[Window, Window]) -> None:
    left, _ = windows
    throwing = "other.select((state) => state, () => { throw new Error('the page is broken') })"
    broken = f"globalThis.other = connect('/', {{ slices: 'board' }}); {throwing}"
    left.look(f"import('/js/statestream.js').then(({{ connect }}) => {{ {broken} }})")
    left.add("One")
    left.add("Two")
    left.wait("other.state.board.tasks.length === 2")
    assert left.look("seen.connections") == 2
    assert {problem.partition("Error: ")[2] for problem in left.problems} == {"the page is broken"}


# its replica


@settings(max_examples=often(150))
@given(base=base_documents, program=programs)
def test_what_a_draft_records_replays_in_javascript(replicas: Node, base: Any, program: Any) -> None:
    result, patch = produce(base, lambda state: run(program, state))
    got = replicas.ask("replay", base=base, patch=patch, result=result)
    assert got["ours"] == got["reordered"] == got["theirs"] == got["expected"]
    assert got["copied"] is None, f"a copy of what was not touched, at {got['copied']!r}"


@settings(max_examples=often(100))
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


@settings(max_examples=often(150))
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


# the picture


FRAME = """<body style="margin:0;padding:18px;display:flex;gap:18px;background:#cbd5e1">
<style>div{border-radius:10px;overflow:hidden;box-shadow:0 4px 14px #0f172a40}img{display:block}
p{margin:0;height:28px;padding-left:12px;background:#334155;color:#94a3b8;font:22px/26px sans-serif;letter-spacing:4px}
</style>"""


def take_picture(path: Path) -> None:
    """Two windows on one chat, joined in a third one. The server is halted in its reply, so that both stand still."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Server("demo", "--journal", f"sqlite:///{folder}/demo.db") as demo,
        Node("browser.mjs", str(shutil.which("chromium"))) as browser,
    ):
        left = Window(browser, LEFT, demo.url, width=673, height=590)
        right = Window(browser, RIGHT, left.url, width=673, height=590)
        for title in ("Ship the release", "Book the train", "Water the plants", "Call Ada"):
            left.add(title)
        right.tick(2)
        left.ask("Who else can see this?")
        left.wait_until_the_reply_is("complete")
        right.ask("And if I close this window?")
        left.wait("document.querySelectorAll('#messages li').length === 4")
        left.wait("document.querySelector('#messages li:last-child').textContent.length > 150")
        os.kill(demo.pid, signal.SIGSTOP)
        text = left.reply
        right.wait(f"document.querySelector('#messages li:last-child').textContent === {json.dumps(text)}")
        shots = [window.do("picture") for window in (left, right)]
        os.kill(demo.pid, signal.SIGCONT)
        images = "".join(f'<div><p>•••</p><img src="data:image/png;base64,{shot}"></div>' for shot in shots)
        source = "data:text/html;charset=utf-8;base64," + base64.b64encode((FRAME + images).encode()).decode()
        browser.ask("open", window="both", url=source, width=1400, height=654)
        browser.ask("picture", window="both", path=str(path))


if __name__ == "__main__":
    take_picture(ROOT / "docs/images/demo.png")
