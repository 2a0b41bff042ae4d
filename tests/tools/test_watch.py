"""What `statestream watch` shows, without a terminal: texts, marks, the tree, the whole picture."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from statestream.client.replica import Replica
from statestream.core.patch import apply_patch
from statestream.protocol.sse import Event
from statestream.tools.console import change_lines, text
from statestream.tools.watch.activity import Activity, Rate
from statestream.tools.watch.change_marks import MAX_KEPT, Mark, Marks
from statestream.tools.watch.screen import ScreenContent, screen
from statestream.tools.watch.state_tree import chosen, shares, state_tree
from statestream.tools.watch.terminal import STYLES, as_text
from statestream.tools.watch.value_line import Row, row_cells, shortened, whole

NASTY = "\x1b]0;owned\x07\x1b[2J\r\n\t\x00\x7f\x9b31m\u202eabc\u2028\u200b\ufeff"
WIDE = "日本語🦊 Łódź e\u0301 ❤\ufe0f 👩\u200d🚀"
texts = st.text(max_size=30) | st.sampled_from([NASTY, WIDE, "x" * 500, "漢" * 200, '"\\'])
keys = st.sampled_from(["a", "b", "tasks", "", "/", "~1", NASTY, WIDE, "k" * 90])
scalars = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=12) | st.dictionaries(keys, inner, max_size=8), max_leaves=30
)
states = st.dictionaries(st.sampled_from(["board", "room/1", "room/2", "s" * 64]), values, max_size=4)


def plain(rows: list[Row]) -> list[str]:
    return ["".join(piece for piece, _ in row) for row in rows]


def styled(rows: list[Row], style: str) -> str:
    return "".join(piece for row in rows for piece, its in row if its == style)


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from places(item, (*path, step))


# other people's text


@given(texts)
@example(NASTY)
@example(WIDE)
def test_safe_text_is_only_printed(value: str) -> None:
    for made in (text.safe(value), text.quoted(value), text.name(value), text.middle(value, 20)):
        assert made.isprintable()
        assert not re.search("[\ufe00-\ufe0f]", made)


@given(texts, st.integers(0, 60))
def test_what_is_cut_fits(value: str, width: int) -> None:
    for made in (text.cut(text.safe(value), width), text.middle(value, width), text.brief({"a": [value]}, width)):
        assert text.cells(made) <= width


def test_what_fits_is_left_as_it_is() -> None:
    assert text.cut("abc", 3) == "abc"
    assert text.cut("abcd", 3) == "ab…"
    assert text.middle("abc", 5) == '"abc"'
    assert text.middle("the beginning and the end", 13) == '"the b…e end"'
    assert text.brief({"a": [1, None, "x"], "b c": True}, 40) == '{a: [1, null, "x"], "b c": true}'


@given(values)
def test_json_for_a_terminal_is_the_same_json(value: Any) -> None:
    made = text.json_text(orjson.dumps(value))
    assert orjson.loads(made) == value
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2066-\u2069\u200b]", made.decode())


def test_a_long_value_costs_no_more_than_its_line() -> None:
    class Counting(dict[str, Any]):
        seen = 0

        def items(self) -> Any:
            for pair in super().items():
                Counting.seen += 1
                yield pair

    big = Counting((f"key{n}", n) for n in range(10_000))
    assert whole(big, None, 40, 0.0, "") is None
    assert row_cells(shortened(big, None, 40, 0.0, "")) == 40
    text.brief(big, 40)
    assert Counting.seen < 60


# a line a change


def test_a_change_is_one_line() -> None:
    change = {
        "position": "12.abc",
        "slice": "board",
        "patches": [{"op": "add", "path": "/tasks/1", "value": {"id": "2"}}, {"op": "remove", "path": "/tasks/0"}] * 2,
        "cause": {"type": "board/moved", "id": "x", "actor": "ada", "payload": {"at": 1}},
        "timestamp": 0,
    }
    line = change_lines.change_line(change, 120)
    assert re.sub(r"^\S+", "TIME", line) == (
        '12.abc  board  board/moved by ada  + /tasks/1 {id: "2"}  - /tasks/0  + /tasks/1 {id: "2"}  … 1 more'
        "  120 B  payload {at: 1}".join(["TIME  ", ""])
    )
    assert change_lines.operations({"value": [1]}) == "= [1]"
    assert change_lines.operations({"removed": True}) == "removed"


def test_a_line_from_a_hostile_server_is_still_a_line() -> None:
    change = {
        "position": NASTY,
        "slice": NASTY,
        "patches": [{"op": "add", "path": f"/{NASTY}", "value": NASTY}, {"op": NASTY, "path": None}],
        "cause": {"type": NASTY, "actor": NASTY, "payload": NASTY},
        "timestamp": NASTY,
    }
    assert change_lines.change_line(change, 1).isprintable()


# marks


def found(root: Mark, *path: str | int) -> Mark:
    mark = root
    for step in path:
        mark = mark.below[step]
    return mark


def test_marks_stand_where_patches_point() -> None:
    marks = Marks()
    value = {"tasks": [{"votes": 1}], "a/b": 2, "7": 3}
    marks.patched(
        "board",
        value,
        [
            {"op": "replace", "path": "/tasks/0/votes", "value": 1},
            {"op": "add", "path": "/a~1b", "value": 2},
            {"op": "replace", "path": "/7", "value": 3},
        ],
        5.0,
    )
    assert found(marks.root, "board", "tasks", 0, "votes").how == "changed"
    assert found(marks.root, "board", "a/b").how == "added"
    assert found(marks.root, "board", "7").at == 5.0
    assert marks.root.newest == 5.0


def test_a_removal_marks_what_it_was_taken_from() -> None:
    marks = Marks()
    marks.patched("board", {"a": 1, "b": 2}, [{"op": "add", "path": "/a", "value": 1}], 1.0)
    marks.patched("board", {"a": 1}, [{"op": "remove", "path": "/b"}], 2.0)
    assert (found(marks.root, "board").how, found(marks.root, "board").at) == ("removed", 2.0)
    assert list(found(marks.root, "board").below) == ["a"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), max_size=12), st.integers(0, 5))
def test_a_mark_moves_with_its_element(steps: list[tuple[bool, int]], at: int) -> None:
    elements: list[Any] = [{"id": n} for n in range(6)]
    marks, watched = Marks(), elements[at]
    marks.patched("s", elements, [{"op": "replace", "path": f"/{at}/id", "value": at}], 1.0)
    for number, (adds, where) in enumerate(steps):
        where %= len(elements) + 1 if adds else max(1, len(elements))
        if adds:
            patch = {"op": "add", "path": f"/{where}", "value": {"id": 100 + number}}
        elif elements and elements[where] is not watched:
            patch = {"op": "remove", "path": f"/{where}"}
        else:
            continue
        elements = apply_patch(elements, [copy.deepcopy(patch)])
        marks.patched("s", elements, [patch], 2.0)
    now = next(index for index, element in enumerate(elements) if element is watched)
    assert found(marks.root, "s", now, "id").at == 1.0


def test_patches_that_fit_nothing_mark_the_slice() -> None:
    marks = Marks()
    marks.patched("s", {"a": 1}, [{"op": "add", "path": "/a/b/c", "value": 1}], 1.0)
    assert found(marks.root, "s").at == 1.0
    marks.patched("s", [1], [{"op": "replace", "path": "/²", "value": 1}], 2.0)
    assert found(marks.root, "s").at == 2.0


def test_marks_forget_what_changed_longest_ago() -> None:
    marks = Marks()
    for number in range(5 * MAX_KEPT):
        marks.touch(["s", f"k{number}", "deep"], "changed", float(number))
    below = found(marks.root, "s").below
    assert len(below) <= 2 * MAX_KEPT
    assert f"k{5 * MAX_KEPT - 1}" in below
    assert "k0" not in below


# the tree


@given(st.integers(0, 300), st.lists(st.integers(-3, 300), max_size=40), st.integers(1, 40))
def test_those_who_changed_last_are_chosen(count: int, newest: list[int], room: int) -> None:
    found = chosen(count, newest, room)
    assert found == sorted(set(found))
    assert all(0 <= at < count for at in found)
    assert len(found) + (len(found) < count) <= max(room, count if count <= room else 0)
    assert len(found) == (count if count <= room else room - 1)
    exist = [at for at in newest if 0 <= at < count]
    assert set(exist[: room - 1]) <= set(found) or count <= room


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(0, 100))
def test_lines_are_shared_fairly(needs: list[int], more: int) -> None:
    room = len(needs) + more
    given_ = shares(needs, room)
    assert all(1 <= share <= need for share, need in zip(given_, needs, strict=True))
    assert sum(given_) == min(room, sum(needs))
    short = [share for share, need in zip(given_, needs, strict=True) if share < need]
    assert max(given_) <= min(short, default=max(given_)) + 1


@given(states, st.integers(1, 200), st.integers(0, 60), st.data())
def test_a_tree_keeps_to_its_room(state: Any, width: int, room: int, data: st.DataObject) -> None:
    marks = Marks()
    everywhere = [place for place in places(state) if place]
    for place in data.draw(st.lists(st.sampled_from(everywhere), max_size=8)) if everywhere else []:
        marks.touch(place, data.draw(st.sampled_from(["added", "changed", "removed"])), data.draw(st.floats(0, 2)))
    rows = state_tree(state, {}, marks.root, 2.0, width, room)
    assert len(rows) <= room
    assert all(row_cells(row) <= width for row in rows)
    assert all(line.isprintable() for line in plain(rows))
    assert {style for row in rows for _, style in row} <= set(STYLES)


def test_a_small_state_is_shown_whole() -> None:
    state = {"board": {"tasks": [{"id": "1", "title": "Ship it"}], "text": "x" * 30}, "counter": 5}
    assert plain(state_tree(state, {"board": 12}, Mark(), 0.0, 48, 20)) == [
        "board: {2}  version 12",
        '  tasks: [{id: "1", title: "Ship it"}]',
        f'  text: "{"x" * 30}"',
        "counter: 5",
    ]
    assert plain(state_tree({}, {}, Mark(), 0.0, 80, 5)) == ["none of the selected slices exists"]


def test_a_huge_list_shows_what_changed_and_counts_the_rest() -> None:
    state = {"room": {"messages": [{"id": f"m{n}", "likes": 0, "text": "t" * 40} for n in range(1_000)]}}
    marks = Marks()
    marks.touch(["room", "messages", 700, "likes"], "changed", 1.0)
    marks.touch(["room", "messages", 3, "likes"], "changed", 9.9)
    rows = state_tree(state, {"room": 4}, marks.root, 10.0, 80, 7)
    assert [line.split(":")[0].strip() for line in plain(rows)] == [
        "room",
        "messages",
        "2",
        "3",
        "4",
        "700",
        "… 996 more",
    ]
    assert styled(rows, "changed fresh") == "likes: 0"


def test_a_change_fades() -> None:
    marks = Marks()
    marks.touch(["counter"], "added", 10.0)
    ages = [state_tree({"counter": 5}, {}, marks.root, 10.0 + age, 80, 5)[0][-1][1] for age in (0.1, 0.7, 1.1)]
    assert ages == ["added fresh", "added warm", "scalar"]


def test_what_is_hidden_shows_that_it_changed() -> None:
    state = {"a": {"list": list(range(500))}, "b": {"text": "x" * 300, "n": {"deep": [1] * 100}}}
    marks = Marks()
    marks.touch(["b", "n", "deep", 99], "changed", 1.0)
    rows = state_tree(state, {}, marks.root, 1.0, 40, 4)
    assert "n: " in styled(rows, "changed fresh") or "b: " in styled(rows, "changed fresh")


def test_of_a_list_that_grows_the_newest_is_seen() -> None:
    value = {"chunks": [f"word{n}" for n in range(100)], "beside": 1}
    marks = Marks()
    marks.patched("reply", value, [{"op": "add", "path": "/chunks/99", "value": "word99"}], 1.0)
    rows = state_tree({"reply": value}, {}, marks.root, 1.0, 80, 3)
    assert plain(rows)[1] == '  chunks: [… 95, "word95", "word96", "word97", "word98", "word99"]'
    assert styled(rows, "added fresh") == '"word99"'


def test_what_is_left_after_a_removal_is_not_new() -> None:
    marks = Marks()
    marks.touch(["list"], "removed", 1.0)
    [row] = state_tree({"list": [1, 2]}, {}, marks.root, 1.0, 40, 4)
    assert styled([row], "removed fresh") == "list: []"
    assert styled([row], "scalar") == "12"


def test_a_deep_state_ends_at_the_edge() -> None:
    value: Any = "the bottom"
    for _ in range(60):
        value = {"inside": value, "beside": "x" * 20}
    rows = state_tree({"deep": value}, {}, Mark(), 0.0, 60, 200)
    assert all(row_cells(row) <= 60 for row in rows)
    assert plain(rows)[-1].startswith("  ")


# the picture


def content(replica: Replica, activity: Activity, now: float = 1.0, **more: Any) -> ScreenContent:
    changes, size = activity.rate.at(now)
    given_: dict[str, Any] = {
        "url": "http://127.0.0.1:8000",
        "slices": "every plain slice",
        "state": replica.state,
        "versions": replica.versions,
        "marks": activity.marks.root,
        "log": activity.log,
        "health": "healthy",
        "is_open": True,
        "trouble": "",
        "position": replica.position,
        "opened_with": activity.opened_with,
        "changes_per_second": changes,
        "bytes_per_second": size,
        "reconnects": 0,
        "now": now,
    }
    return ScreenContent(**given_ | more)


def test_before_the_first_stream_the_picture_says_so() -> None:
    replica = Replica()
    waiting = content(replica, Activity(replica), is_open=False, trouble="there was no response")
    shown = plain(screen(waiting, 80, 8))
    assert shown[1].startswith("● connecting")
    assert shown[2] == "the state has not arrived yet"


class Following:
    """A replica, its activity, and frames for both."""

    def __init__(self) -> None:
        self.replica = Replica()
        self.activity = Activity(self.replica)
        self.version = 0

    def frame(self, kind: str, now: float = 1.0, **data: Any) -> None:
        encoded = orjson.dumps({"type": kind, "timestamp": 1_000, **data}).decode()
        event = Event(event=kind, data=encoded, last_id=f"{self.version}.abc")
        self.activity.received(event, self.replica.apply(event), now)

    def starts(self, reason: str = "start", **slices: Any) -> Following:
        self.version = 1
        versions = dict.fromkeys(slices, 1)
        self.frame("state.initial", reason=reason, heartbeat=1_000, slices=slices, versions=versions)
        return self

    def changes(self, name: str, now: float = 1.0, **content: Any) -> None:
        self.version += 1
        held = self.replica.versions.get(name, 0)
        cause = {"type": f"{name}/changed", "id": "x", "actor": "ada"}
        self.frame("state.update", now, slice=name, version=self.version, cause=cause, **{"from": held}, **content)


def test_a_picture_says_all_of_it() -> None:
    following = Following().starts(board={"tasks": [], "filler": "x" * 100})
    following.changes("board", patches=[{"op": "add", "path": "/tasks/0", "value": "Ship it"}])
    rows = screen(content(following.replica, following.activity, reconnects=1), 100, 12)
    shown = plain(rows)
    assert len(rows) == 12
    assert shown[0].startswith("http://127.0.0.1:8000  every plain slice")
    assert shown[0].endswith("Ctrl-C ends")
    assert re.fullmatch(r"● healthy  2\.abc  0\.5 changes/s  opened: start  1 reconnect  \d+ B/s", shown[1])
    assert '  tasks: ["Ship it"]' in shown
    assert styled(rows, "added fresh") == '"Ship it"'
    assert shown[-3].startswith("── newest changes ──")
    assert re.search(r'board +board/changed by ada  \+ /tasks/0 "Ship it" +\d+ B$', shown[-2])
    assert "the whole state: start" in shown[-1]
    assert "\n".join(shown) == as_text(rows).plain


def test_a_lost_connection_is_seen() -> None:
    following = Following().starts(board=1)
    shown = plain(screen(content(following.replica, following.activity, is_open=False, trouble="refused"), 100, 10))
    assert "● lost, reconnecting: refused" in shown[1]
    assert "healthy" not in shown[1]


@given(states, st.integers(1, 160), st.integers(1, 50), texts)
def test_a_picture_has_the_size_of_the_terminal(state: Any, width: int, height: int, trouble: str) -> None:
    following = Following().starts(**state)
    following.changes("board", value={NASTY: NASTY})
    following.changes("board", patches=[{"op": "add", "path": f"/{NASTY}x", "value": WIDE}])
    seen = content(
        following.replica, following.activity, is_open=False, trouble=trouble, opened_with=NASTY, position=NASTY
    )
    rows = screen(seen, width, height)
    assert len(rows) == height
    assert all(row_cells(row) <= width for row in rows)
    assert all(line.isprintable() for line in plain(rows))
    assert {style for row in rows for _, style in row} <= set(STYLES)


def test_a_small_value_is_marked_where_it_differs() -> None:
    following = Following().starts(presence={"online": ["Ada"], "typing": None})
    following.changes("presence", value={"online": ["Ada"], "typing": "Ada"})
    rows = screen(content(following.replica, following.activity), 80, 10)
    assert styled(rows, "changed fresh") == 'typing: "Ada"'


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("state.resumed", {"versions": {"a": 1}, "heartbeat": 1_000}, "resumed where it was interrupted"),
        ("stream.end", {"reason": "shutdown", "retry": 1}, "the server ended the stream: shutdown"),
        ("state.catchup", {"updates": [{"slice": "a", "version": 2, "value": 7}]}, "caught up"),
        (
            "state.initial",
            {"reason": "lagged", "heartbeat": 1, "slices": {}, "versions": {}},
            "the whole state: lagged",
        ),
    ],
)
def test_what_is_no_change_is_told_in_the_log(kind: str, data: Any, said: str) -> None:
    following = Following().starts(a=1)
    following.frame(kind, **data)
    assert any(said in line for line in plain(screen(content(following.replica, following.activity), 80, 12)))
    opening = {"state.resumed": "resumed", "state.initial": "lagged"}.get(kind, "start")
    assert following.activity.opened_with == opening


def test_heartbeats_and_what_is_known_already_are_not_news() -> None:
    following = Following().starts(a=1)
    following.frame("heartbeat")
    following.frame("state.update", slice="a", version=1, value=2, cause={"type": "a/b", "id": "x"}, **{"from": 0})
    assert len(following.activity.log) == 1


def test_a_removed_slice_leaves_the_tree() -> None:
    following = Following().starts(**{"room/1": [1], "room/2": [2]})
    following.changes("room/1", removed=True)
    rows = screen(content(following.replica, following.activity), 80, 8)
    assert plain(rows)[2] == "room/2: [2]"
    assert any(line.startswith("00:") or "removed" in line for line in plain(rows)[4:])


def test_a_rate_is_that_of_the_last_two_seconds() -> None:
    rate = Rate()
    for step in range(1_000):
        rate.add(step / 100, 2, 100)
    assert rate.at(10.0)[0] == pytest.approx(200, rel=0.1)
    assert rate.at(13.0) == (0, 0)
