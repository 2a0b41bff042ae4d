"""Both replicas against other people's cases: json-patch-test-suite, whole, and what it does not ask.

The protocol has `add`, `remove` and `replace`, and array positions as indices; both replicas apply all of RFC 6902.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.core.draft import patched
from statestream.core.errors import Gap
from statestream.core.patch import apply_patch
from statestream.core.values import canonical
from tests.support.node import Node
from tests.support.often import often
from tests.support.paths import NODE

FOLDER = NODE / "node_modules/json-patch-test-suite"
CASES = {
    f"{name} {number}: {case.get('comment', '')}": case
    for name in ("tests", "spec_tests")
    for number, case in enumerate(json.loads((FOLDER / f"{name}.json").read_text()))
}
LOST_BY_PARSING = {"tests 76: duplicate ops"}
"""Two members of one name: whoever parses the JSON sees one of them only. The suite has disabled it for this."""


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 95
    assert sum("error" in case for case in CASES.values()) == 25
    assert {name for name, case in CASES.items() if case.get("disabled")} >= LOST_BY_PARSING


@pytest.mark.parametrize("apply", [patched, apply_patch])
@pytest.mark.parametrize("name", [name for name in CASES if name not in LOST_BY_PARSING])
def test_python_makes_of_it_what_the_suite_says(name: str, apply: Callable[[Any, Any], Any]) -> None:
    """`patched` never touches what it is given; `replay` may, but not where it fails. 1, 1.0 and true differ."""
    case = CASES[name]
    document, operations = copy.deepcopy((case["doc"], case["patch"]))
    if "error" in case:
        with pytest.raises(Gap):
            apply(document, operations)
    else:
        assert canonical(apply(document, operations)) == canonical(case.get("expected", case["doc"]))
    if "error" in case or apply is patched:
        assert canonical(document) == canonical(case["doc"])
    assert canonical(operations) == canonical(case["patch"])


@pytest.mark.parametrize("name", [name for name in CASES if name not in LOST_BY_PARSING])
def test_javascript_makes_of_it_what_the_suite_says(replicas: Node, name: str) -> None:
    case = CASES[name]
    got = replicas.ask("patch", doc=case["doc"], patch=case["patch"], expected=case.get("expected", case["doc"]))
    if "error" in case:
        assert set(got) == {"gap"}
    else:
        assert got["after"] == got["expected"]


BEYOND: list[tuple[Any, Any]] = [
    ({"a": 1}, {"op": "remove", "path": ""}),
    ({"a": 1}, {"op": "spam", "path": "", "value": 2}),
    ({"a": 1}, {"op": "add", "path": ""}),
    ({"a": 1}, {"op": "add", "path": "/b"}),
    ({"a": 1}, {"op": "replace", "path": "/a"}),
    ({"a": 1}, {"op": "add", "value": 1}),
    ({"a": 1}, {"op": "add", "path": None, "value": 1}),
    ({"xa": 1}, {"op": "replace", "path": "xa", "value": 1}),
    ({"a": 1}, {"op": "replace", "path": "xa", "value": 1}),
    ({"~2": 1}, {"op": "replace", "path": "/~2", "value": 2}),
    ({"~": 1}, {"op": "replace", "path": "/~", "value": 2}),
    ({"a": 1}, {"op": "add", "path": "/__proto__", "value": {"b": 1}}),
    ({"a": 1}, {"op": "add", "path": "/__proto__/b", "value": 1}),
    ({"a": "text"}, {"op": "remove", "path": "/a/0"}),
    ({"a": "text"}, {"op": "replace", "path": "/a/length", "value": 1}),
    ([1, 2], {"op": "replace", "path": "/length", "value": 1}),
    ([1, 2], {"op": "add", "path": "/3", "value": 1}),
    ([1, 2], {"op": "add", "path": "/-1", "value": 1}),
    ([1, 2], {"op": "add", "path": "/01", "value": 1}),
    ([1, 2], {"op": "add", "path": "/1e0", "value": 1}),
    ([1, 2], {"op": "add", "path": "/ 1", "value": 1}),
    ([1, 2], {"op": "add", "path": "/²", "value": 1}),
    ([1, 2], {"op": "remove", "path": "/2"}),
    ([1, 2], {"op": "remove", "path": "/-"}),
    ({"a": {}}, {"op": "move", "from": "/a", "path": "/a/b"}),
    ([[], []], {"op": "move", "from": "/0", "path": "/0/0"}),
    ({"a": 1}, {"op": "move", "from": "", "path": "/b"}),
    ({"a": 1}, {"op": "move", "from": "/b", "path": "/b"}),
    ({"a": 1}, {"op": "move", "path": "/b"}),
    ({"a": 1}, {"op": "move", "from": "a", "path": "/b"}),
    ({"a": 1}, {"op": "move", "from": "/a", "path": "/__proto__"}),
    ({"a": 1}, {"op": "copy", "path": "/b"}),
    ({"a": 1}, {"op": "copy", "from": "/__proto__", "path": "/b"}),
    ({"a": 1}, {"op": "copy", "from": "/constructor", "path": "/b"}),
    ({"a": "text"}, {"op": "copy", "from": "/a/0", "path": "/b"}),
    ([1, 2], {"op": "copy", "from": "/length", "path": "/0"}),
    ([1, 2], {"op": "copy", "from": "/-", "path": "/0"}),
    ([1, 2], {"op": "copy", "from": "/0", "path": "/3"}),
    ([1, 2], {"op": "test", "path": "/length", "value": 2}),
    ([1, 2], {"op": "test", "path": "/-", "value": 2}),
    ({"a": 1}, {"op": "test", "path": "/a"}),
    ({"a": {}}, {"op": "test", "path": "/a", "value": []}),
    ({"a": {}}, {"op": "test", "path": "/a", "value": None}),
    ({"a": "1"}, {"op": "test", "path": "/a", "value": 1}),
    ({"a": {"b": 1}}, {"op": "test", "path": "/a", "value": {"c": 1}}),
    ({"a": [1, 2]}, {"op": "test", "path": "/a", "value": [2, 1]}),
    (None, {"op": "add", "path": "/a", "value": 1}),
    (1, {"op": "replace", "path": "/a", "value": 1}),
]


@pytest.mark.parametrize(("document", "operation"), BEYOND)
def test_what_the_suite_does_not_ask_is_a_gap_in_both_languages(replicas: Node, document: Any, operation: Any) -> None:
    held = copy.deepcopy(document)
    with pytest.raises(Gap):
        patched(held, [operation])
    assert canonical(held) == canonical(document)
    assert set(replicas.ask("patch", doc=document, patch=[operation], expected=None)) == {"gap"}


def test_a_value_of_another_type_is_another_value() -> None:
    for value in (1, 1.0, True, "1", None, [], {}):
        operations = [{"op": "replace", "path": "/a", "value": value}]
        for old in (1, 1.0, True, "1", None, [], {}):
            assert canonical(patched({"a": old}, operations)) == canonical({"a": value})


LEAVES = st.sampled_from(["x", "y", 1, None])
NAMES = st.sampled_from(["", "a", "b", "length", "0", "1"])
DOCUMENTS = st.recursive(
    LEAVES, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(NAMES, inside, max_size=3), max_leaves=8
)
POINTERS = st.lists(NAMES | st.just("-"), max_size=3).map(lambda names: "".join(f"/{name}" for name in names))
OPERATIONS = st.fixed_dictionaries({"op": st.sampled_from(["add", "remove", "replace"]), "path": POINTERS}).flatmap(
    lambda one: st.just(one) if one["op"] == "remove" else DOCUMENTS.map(lambda value: one | {"value": value})
) | st.fixed_dictionaries({"op": st.sampled_from(["move", "copy"]), "from": POINTERS, "path": POINTERS})


@settings(max_examples=often(75), deadline=None)
@given(document=DOCUMENTS, operations=st.lists(OPERATIONS, min_size=1, max_size=4), data=st.data())
def test_both_languages_make_the_same_of_any_patch(
    replicas: Node, document: Any, operations: list[Any], data: st.DataObject
) -> None:
    """Also what they share with what they were given, and whether they agree that a `test` holds."""
    try:
        expected = patched(document, operations[:1])
    except Gap:
        expected = document
    else:
        operations[1:1] = [{"op": "test", "path": "", "value": data.draw(st.sampled_from([expected, document]))}]
    try:
        expected = patched(document, operations)
    except Gap:
        assert set(replicas.ask("patch", doc=document, patch=operations, expected=None)) == {"gap"}
    else:
        got = replicas.ask("patch", doc=document, patch=operations, expected=expected)
        assert got == {"after": got["expected"], "expected": got["expected"], "copied": None}


def test_what_is_copied_and_then_written_to_is_written_to_in_one_place(replicas: Node) -> None:
    """Also where the copied value was made by the same patch."""
    operations = [
        {"op": "add", "path": "/a/x", "value": 1},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/b/y", "value": 2},
        {"op": "add", "path": "/a/z", "value": 3},
        {"op": "copy", "from": "", "path": "/b/all"},
    ]
    a, b = {"x": 1, "z": 3}, {"x": 1, "y": 2}
    expected = {"a": a, "b": b | {"all": {"a": a, "b": b}}}
    assert patched({"a": {}}, operations) == expected
    got = replicas.ask("patch", doc={"a": {}}, patch=operations, expected=expected)
    assert got["after"] == got["expected"]
