"""A summary leads to the end of its run, from wherever in the run a replica is."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.core.change import FOLDED, START, Cause, Change, Position
from statestream.core.folding import Merged, Run, folded, is_step
from statestream.core.patch import apply_patch, diff
from statestream.core.values import encode
from tests.support.often import often

LEAVES = st.integers(0, 3) | st.sampled_from(["", "a", "~/"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "~/", "0"]), inner, max_size=3)
    ),
    max_leaves=8,
)
STATES = st.lists(st.dictionaries(st.sampled_from(["x", "y"]), VALUES, max_size=2), min_size=2, max_size=6)


def change(version: int, before: int, operations: Any, type: str = "r/grew", name: str = "r/1") -> Change:
    cause = Cause(type=type, id=f"id{version}", actor=None, payload=b"{}")
    position = Position(seq=version, tag="t")
    data = encode(operations)
    return Change(
        position=position, slice=name, from_version=before, kind="patches", data=data, cause=cause, at=version
    )


def run_of(states: list[Any]) -> tuple[Run, list[Change]]:
    """The changes from each state to the next."""
    changes = []
    for number, (one, other) in enumerate(pairwise(states), 2):
        operations = diff(one, other)
        if operations:
            changes.append(change(number, changes[-1].version if changes else 1, operations))
    run = Run.of(changes[0], START)
    for each in changes[1:]:
        run.add(each)
    return run, changes


@given(STATES)
@settings(max_examples=often(60), deadline=None)
def test_a_summary_leads_to_the_end_from_everywhere_in_its_run(states: list[Any]) -> None:
    if all(not diff(one, other) for one, other in pairwise(states)):
        return
    run, _ = run_of(states)
    summary = run.summary(states[-1])
    assert (summary.position, summary.from_version) == (run.last.position, run.last.from_version)
    for state in states:
        if summary.kind == "value":
            assert summary.value == states[-1]
        else:
            assert apply_patch(copy.deepcopy(state), summary.patches) == states[-1]


def op(op: str, path: str, value: Any = 1) -> dict[str, Any]:
    return {"op": op, "path": path, "value": value}


@pytest.mark.parametrize(
    ("operations", "path"),
    [
        ([[op("add", "/m/1/chunks/7")], [op("add", "/m/1/chunks/8")]], ("m", "1", "chunks")),
        ([[op("add", "/m/1/parts/0", {})], [op("add", "/m/1/parts/0/chunks/1")]], ("m", "1", "parts")),
        ([[op("replace", "/at/ada~1~0")], [op("replace", "/at/ada~1~0")]], ("at", "ada/~")),
        ([[op("replace", "/at/ada/x"), op("replace", "/at/bob/x")]], ("at",)),
        ([[op("add", "/a")]], ()),
    ],
)
def test_it_assigns_the_deepest_place_that_all_of_them_touch(operations: list[Any], path: tuple[str, ...]) -> None:
    run = Run.of(change(2, 1, operations[0]), START)
    for number, each in enumerate(operations[1:], 3):
        run.add(change(number, number - 1, each))
    assert run.path == path


def test_only_changes_of_gradual_actions_of_the_slice_itself_are_steps() -> None:
    gradual = {"r/grew"}
    assert is_step(change(2, 1, []), gradual)
    assert not is_step(change(2, 1, [], type="r/ended"), gradual)
    assert not is_step(change(2, 1, [], name="board"), gradual), "what another slice makes of it"
    assert not is_step(change(2, 0, []), gradual), "it creates the instance"
    assert not is_step(folded(change(2, 1, [])), gradual)


def test_readers_see_a_run_as_one_change_that_continues_what_they_hold() -> None:
    changes = [change(2, 1, []), change(3, 2, []), change(4, 0, [], name="r/2"), change(5, 3, []), change(6, 5, [])]
    history = [folded(changes[0]), folded(changes[1]), *changes[2:]]
    for page in (1, 2, 5):
        merged = Merged()
        seen = [each for at in range(0, 5, page) for each in merged(history[at : at + page])]
        assert [(each.version, each.from_version) for each in seen] == [(4, 0), (5, 1), (6, 5)]
        assert not merged.open
    assert [each.from_version for each in Merged()(history[1:])] == [0, 2, 5], "a reader that was inside"
    assert all(each.cause.type != FOLDED for each in seen)
