"""Both replicas against other people's cases: json-patch-test-suite, whole, and what it does not ask.

The protocol has `add`, `remove` and `replace`, and array positions as indices. The Python replica applies patches
with a library that knows all of RFC 6902; the browser's knows the protocol's part, and must refuse the rest by
name: `NOT_OURS`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from statestream.draft import patched
from statestream.errors import Gap
from statestream.patch import replay
from statestream.values import canonical
from tests.test_browser import NODE, Node

FOLDER = NODE / "node_modules/json-patch-test-suite"
CASES = {
    f"{name} {number}: {case.get('comment', '')}": case
    for name in ("tests", "spec_tests")
    for number, case in enumerate(json.loads((FOLDER / f"{name}.json").read_text()))
}
LOST_BY_PARSING = {"tests 76: duplicate ops"}
"""Two members of one name: whoever parses the JSON sees one of them only. The suite has disabled it for this."""
NOT_OURS = {
    "tests 26: test against implementation-specific numeric parsing",
    "tests 41: spurious patch properties",
    "tests 42: null value should be valid obj property",
    "tests 44: null value should be valid obj property to be moved",
    "tests 45: null value should be valid obj property to be copied",
    "tests 48: test should pass despite rearrangement",
    "tests 49: test should pass despite (nested) rearrangement",
    "tests 50: test should pass - no error",
    "tests 52: Whole document",
    "tests 53: Empty-string element",
    "tests 54: ",
    "tests 55: Move to same location has no effect",
    "tests 56: ",
    "tests 57: ",
    "tests 58: ",
    'tests 60: Adding to "/-" adds to the end of the array',
    'tests 61: Adding to "/-" adds to the end of the array, even n levels down',
    "spec_tests 6: A.6.  Moving a Value",
    "spec_tests 7: A.7.  Moving an Array Element",
    "spec_tests 8: A.8.  Testing a Value: Success",
    "spec_tests 14: A.14. ~ Escape Ordering",
    "spec_tests 16: A.16. Adding an Array Value",
}
"""What the suite wants applied and the browser's replica refuses: `test`, `move`, `copy`, `-` for an array's end."""


@pytest.fixture(scope="module")
def replicas() -> Iterator[Node]:
    with Node("replica.mjs") as running:
        yield running


def test_the_suite_is_whole() -> None:
    assert len(CASES) == 95
    assert sum("error" in case for case in CASES.values()) == 25
    assert {name for name, case in CASES.items() if case.get("disabled")} >= LOST_BY_PARSING
    assert set(CASES) >= NOT_OURS
    for name in NOT_OURS:
        operations = CASES[name]["patch"]
        assert any(one["op"] in ("test", "move", "copy") or one["path"].endswith("/-") for one in operations), name


@pytest.mark.parametrize("apply", [patched, replay])
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
def test_javascript_makes_of_it_what_the_suite_says_or_refuses_it_by_name(replicas: Node, name: str) -> None:
    case = CASES[name]
    got = replicas.ask("patch", doc=case["doc"], patch=case["patch"], expected=case.get("expected", case["doc"]))
    if name in NOT_OURS:
        refused = next(one for one in case["patch"] if one["op"] in ("test", "move", "copy") or one["path"][-1:] == "-")
        why = (
            "no such element" if refused["op"] == "add" else f"an operation that is not the protocol's: {refused['op']}"
        )
        assert got == {"gap": why}
    elif "error" in case:
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
