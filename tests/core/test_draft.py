"""Drafts: the same result as plain mutation, patches that replay, a base that nobody touched."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import tracemalloc
from collections import OrderedDict
from collections.abc import Mapping, MutableMapping, MutableSequence
from typing import Any
from unittest import mock

import jsonpatch
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.core.change import REMOVED
from statestream.core.draft import Scratch, patched, produce, recorded, tracker
from statestream.core.errors import DraftClosed, HandlerFailed, NotJSON, TooLarge
from statestream.core.values import canonical
from tests.support.often import often
from tests.support.programs import base_documents, everything, programs, run, run_wild

Recipe = Any


def quiet(recipe: Recipe) -> Recipe:
    """The recipe without its result: a lambda gives back what a method returned."""
    return lambda state: (recipe(state), None)[1]


def check(base: Any, recipe: Recipe) -> tuple[Any, list[dict[str, Any]]]:
    """Runs `recipe` on a draft and on plain data; what both give must be the same, and the patch must replay."""
    before = canonical(base)
    model = copy.deepcopy(base)
    value, ops = produce(base, quiet(recipe))
    recipe(model)
    wire = orjson.loads(orjson.dumps(ops))
    assert canonical(value) == canonical(model)
    assert canonical(base) == before
    assert canonical(jsonpatch.apply_patch(base, wire)) == canonical(model)
    assert all(op["op"] in ("add", "remove", "replace") and not op["path"].endswith("/-") for op in wire)
    return value, wire


@settings(max_examples=often(75), deadline=None)
@given(base=base_documents, program=programs)
def test_any_program_does_the_same_to_a_draft_and_to_plain_data(base: Any, program: Any) -> None:
    check(base, lambda state: run(program, state))


@settings(max_examples=often(60), deadline=None)
@given(base=base_documents, program=programs, most=st.integers(0, 6))
@pytest.mark.slow
def test_a_program_that_does_too_much_replaces_the_whole_value(base: Any, program: Any, most: int) -> None:
    with mock.patch.object(tracker, "MAX_OPS", most):
        _, ops = check(base, lambda state: run(program, state))
    assert len(ops) <= most + 1 or not any(op["path"] == "" for op in ops)


def test_a_long_list_is_shuffled_in_one_operation() -> None:
    numbers = list(range(tracker.MAX_OPS + 100))
    value, ops = produce({"list": numbers}, lambda state: random.Random(1).shuffle(state["list"]))
    assert sorted(value["list"]) == numbers != value["list"]
    assert [op["path"] for op in ops] == [""]


def writing(times: int, *, stubborn: bool = False) -> Any:
    def recipe(state: Any) -> None:
        for number in range(times):
            with contextlib.suppress(TooLarge) if stubborn else contextlib.nullcontext():
                state["list"].append(number)

    return recipe


def again_and_again(state: Any) -> None:
    for number in range(tracker.MAX_WRITES + 1):
        state["n"] = number + 1


def while_it_is_out(state: Any) -> None:
    rows = state.pop("list")
    for number in range(tracker.MAX_WRITES):
        rows.append(number)
    state["list"] = rows


def limited(base: Any, recipe: Recipe, scratch: Scratch) -> tuple[Any, list[dict[str, Any]]]:
    return recorded(base, recipe, scratch, most=tracker.MAX_WRITES)


def test_a_handler_may_write_so_often() -> None:
    value, ops = limited({"list": []}, writing(tracker.MAX_WRITES), Scratch())
    assert value == {"list": list(range(tracker.MAX_WRITES))}
    assert [op["path"] for op in ops] == [""]


@pytest.mark.parametrize(
    "recipe",
    [
        writing(tracker.MAX_WRITES + 1),
        writing(tracker.MAX_WRITES + 1, stubborn=True),
        again_and_again,
        while_it_is_out,
        lambda state: random.Random(1).shuffle(state["long"]),
    ],
)
def test_a_handler_that_writes_more_often_is_refused_and_undone(recipe: Recipe) -> None:
    scratch = Scratch()
    base: Any = {"list": [], "n": 0, "long": list(range(10_000))}
    with pytest.raises(TooLarge, match=r"more than 15,000 members and elements one by one; make the new list"):
        limited(base, recipe, scratch)
    scratch.undo()
    assert base == {"list": [], "n": 0, "long": list(range(10_000))}


def add_in_place(state: Any) -> None:
    state["list"] += list(range(20_000))


@pytest.mark.parametrize(
    "recipe",
    [
        quiet(lambda state: state["list"].extend(range(20_000))),
        add_in_place,
        quiet(lambda state: state["by"].update({str(n): n for n in range(20_000)})),
        lambda state: {**state, "list": list(range(20_000))},
        lambda _: {str(number): {"n": number, "text": "x" * 60} for number in range(20_000)},
    ],
)
def test_what_is_ready_counts_as_one_write(recipe: Recipe) -> None:
    base = {"list": [1], "by": {"a": 1}}
    value, ops = limited(base, recipe, Scratch())
    wire = orjson.loads(orjson.dumps(ops))
    assert canonical(jsonpatch.apply_patch(base, wire)) == canonical(value)


def test_a_patch_from_elsewhere_may_be_longer() -> None:
    base = {str(number): {"n": number, "text": "x" * 60} for number in range(tracker.MAX_WRITES + 100)}
    value, ops = limited(base, lambda state: {key: {**row, "n": -1} for key, row in state.items()}, Scratch())
    assert len(ops) > tracker.MAX_WRITES
    assert canonical(patched(base, orjson.loads(orjson.dumps(ops)))) == canonical(value)


@pytest.mark.parametrize("make", [lambda n: n, str, lambda n: n % 7, lambda n: [n], lambda n: (n, str(n))[n % 2]])
@pytest.mark.parametrize(
    ("rewrite", "most"),
    [
        (lambda rows: rows[::-1], 1),
        (lambda rows: random.Random(1).sample(rows, len(rows)), 1),
        (lambda rows: [row for at, row in enumerate(rows) if at not in (5, 300, 700)], 3),
        (lambda rows: [*rows[:400], -1, *rows[400:], -2], 2),
        (lambda rows: rows * 2, 1),
    ],
)
def test_a_long_list_that_is_rewritten_is_sent_in_the_shorter_way(make: Recipe, rewrite: Recipe, most: int) -> None:
    rows = [make(number) for number in range(1_000)]
    _, ops = check({"rows": rows}, lambda state: state.update(rows=rewrite(list(state["rows"]))))
    assert len(ops) <= most or len(json.dumps(ops)) <= len(json.dumps(rewrite(rows)))


@settings(max_examples=often(60), deadline=None)
@given(base=base_documents, program=programs)
def test_whatever_moves_where_the_patch_leads_to_the_value(base: Any, program: Any) -> None:
    before = canonical(base)
    value, ops = produce(base, quiet(lambda state: run_wild(program, state)))
    assert canonical(jsonpatch.apply_patch(base, orjson.loads(orjson.dumps(ops)))) == canonical(value)
    assert canonical(base) == before
    places = [id(container) for container in everything(value)]
    assert len(places) == len(set(places)), "a container stands in two places"


ways = st.sampled_from(["writes", "fails", "returns", "cancels", "cancels and returns"])
batches = st.lists(st.tuples(programs, ways), min_size=2, max_size=5)


class Fails(Exception):
    """What a handler raises that has written already."""


def cancel(state: Any) -> None:
    """Writes that come to nothing, also to what was replaced by its equal."""
    if isinstance(state, MutableMapping):
        state["new"] = 1
        del state["new"]
    for key, old in list(state.items() if isinstance(state, MutableMapping) else enumerate(state)):
        if isinstance(old, MutableMapping | MutableSequence):
            state[key] = copy.deepcopy(old)
            old.update(more=9) if isinstance(old, MutableMapping) else old.append(9)


def in_turn(how: str, program: Any, runs: Any) -> Recipe:
    """A recipe that runs the program, or returns what is there in another order without the last."""

    def recipe(state: Any) -> Any:
        if how.startswith("cancels"):
            cancel(state)
        if how.endswith("returns"):
            places = list(state)[:-1][::-1]
            return {key: state[key] for key in places} if isinstance(state, MutableMapping) else places
        if how == "cancels":
            return None
        runs(program, state)
        if how == "fails":
            raise Fails
        return None

    return recipe


def written(value: Any, recipe: Recipe, scratch: Scratch) -> tuple[Any, list[Any] | None]:
    """The value after one recipe of a batch, and its operations as a reader gets them; None where it failed."""
    scratch.settle()
    try:
        after, ops = recorded(value, recipe, scratch)
    except Fails:
        scratch.undo()
        return value, None
    return after, orjson.loads(orjson.dumps(ops))


@pytest.mark.slow
@settings(max_examples=often(60), deadline=None)
@given(base=base_documents, batch=batches)
def test_a_batch_written_in_place_is_as_its_recipes_one_by_one(base: Any, batch: Any) -> None:
    """Those that fail leave nothing behind, and nobody sees what is not committed."""
    before, scratch, value = canonical(base), Scratch(), base
    model, wire = copy.deepcopy(base), copy.deepcopy(base)
    for program, how in batch:
        value, ops = written(value, in_turn(how, program, run), scratch)
        if ops is not None:
            returned = in_turn(how, program, run)(model)
            model = model if returned is None else returned
            wire = jsonpatch.apply_patch(wire, ops)
        assert canonical(value) == canonical(model) == canonical(wire)
        assert canonical(base) == before


@pytest.mark.slow
@settings(max_examples=often(60), deadline=None)
@given(base=base_documents, batch=batches)
def test_whatever_moves_in_a_batch_where_the_patches_lead_to_the_value(base: Any, batch: Any) -> None:
    before, scratch, value = canonical(base), Scratch(), base
    wire = copy.deepcopy(base)
    for program, how in batch:
        value, ops = written(value, in_turn(how, program, run_wild), scratch)
        wire = wire if ops is None else jsonpatch.apply_patch(wire, ops)
        assert canonical(value) == canonical(wire)
        assert canonical(base) == before
        places = [id(container) for container in everything(value)]
        assert len(places) == len(set(places)), "a container stands in two places"


def test_a_wide_list_is_copied_once_for_a_batch() -> None:
    scratch = Scratch()
    base = [[n] for n in range(1_000)]
    first, _ = recorded(base, lambda state: state[0].append(1), scratch)
    second, _ = recorded(first, lambda state: state[1].append(1), scratch)
    assert first is not base
    assert second is first
    assert base[:2] == [[0], [1]]
    assert second[2] is base[2]


def test_what_a_batch_does_and_undoes_keeps_its_order() -> None:
    scratch = Scratch()
    value, _ = recorded({"a": 1, "b": 2}, quiet(lambda state: state.update(c=3)), scratch)
    after, ops = recorded(value, quiet(lambda state: state.update(a=state.pop("a"))), scratch)
    assert ops == []
    assert list(after) == ["a", "b", "c"]


def test_a_batch_that_empties_an_object_copies_it_once() -> None:
    scratch = Scratch()
    value, _ = recorded({str(n): n for n in range(2_000)}, quiet(lambda state: state.update(more=1)), scratch)
    tracemalloc.start()
    try:
        value, _ = recorded(value, lambda state: [state.pop(key) for key in list(state)] and None, scratch)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value == {}
    assert most < 3_000_000


@settings(max_examples=often(60), deadline=None)
@given(old=base_documents, new=base_documents)
def test_a_returned_value_is_reached_by_its_operations(old: Any, new: Any) -> None:
    value, ops = produce(old, lambda _: new)
    assert canonical(value) == canonical(new)
    assert canonical(jsonpatch.apply_patch(old, orjson.loads(orjson.dumps(ops)))) == canonical(new)
    assert bool(ops) == (canonical(old) != canonical(new))


@pytest.mark.parametrize(
    ("recipe", "ops"),
    [
        (lambda s: s["list"].append(4), [{"op": "add", "path": "/list/3", "value": 4}]),
        (lambda s: s["list"].pop(), [{"op": "remove", "path": "/list/2"}]),
        (lambda s: s["list"].insert(-1, 9), [{"op": "add", "path": "/list/2", "value": 9}]),
        (lambda s: s["list"].clear(), [{"op": "replace", "path": "/list", "value": []}]),
        (lambda s: s.__setitem__("n", True), [{"op": "replace", "path": "/n", "value": True}]),
        (lambda s: s.__setitem__("n", 1.0), [{"op": "replace", "path": "/n", "value": 1.0}]),
        (lambda s: s["deep"]["a/b~c"].update(x=1), [{"op": "add", "path": "/deep/a~1b~0c/x", "value": 1}]),
        (
            lambda s: s["list"].__setitem__(slice(None), [x for x in s["list"] if x != 2]),
            [{"op": "remove", "path": "/list/1"}],
        ),
        (lambda s: s.__setitem__("list", [*s["list"], 4]), [{"op": "add", "path": "/list/3", "value": 4}]),
        (lambda s: s.pop("list"), [{"op": "remove", "path": "/list"}]),
    ],
)
def test_one_thing_done_is_one_operation(recipe: Recipe, ops: list[Any]) -> None:
    _, got = check({"n": 1, "list": [1, 2, 3], "deep": {"a/b~c": {}}}, recipe)
    assert canonical(got) == canonical(ops)


def increment_and_back(s: Any) -> None:
    s["n"] += 1
    s["n"] -= 1


def add_and_delete(s: Any) -> None:
    s["new"] = 1
    del s["new"]


def delete_and_restore(s: Any) -> None:
    del s["n"]
    s["n"] = 1


def append_nothing(s: Any) -> None:
    s["list"] += []


@pytest.mark.parametrize(
    "recipe",
    [
        increment_and_back, add_and_delete, delete_and_restore, append_nothing,
        lambda s: s.update(n=1), lambda s: s["list"].sort(), lambda s: s.__setitem__("list", [1, 2, 3]),
        lambda s: s.setdefault("n", 5), lambda s: s["list"].__setitem__(0, 1),
        lambda s: s.__setitem__("deep", s["deep"]),
        lambda s: s.__setitem__("deep", {"a": {"b": []}}), lambda s: dict(s), lambda s: [*s["list"]],
    ],
)  # fmt: skip
def test_what_changes_nothing_gives_no_operation(recipe: Recipe) -> None:
    base = {"n": 1, "list": [1, 2, 3], "deep": {"a": {"b": []}}}
    value, ops = produce(base, quiet(recipe))
    assert value is base
    assert ops == []


def test_untouched_parts_are_shared_and_touched_ones_are_copied() -> None:
    base = {"a": {"x": [1]}, "b": {"y": 2}}
    value, _ = produce(base, lambda s: s["b"].update(y=3))
    assert value["a"] is base["a"]
    assert value["b"] is not base["b"]


def test_the_caller_may_mutate_later_what_it_put_in() -> None:
    mine = {"tags": ["a"]}

    def recipe(s: Any) -> None:
        s["one"] = mine
        s["two"] = mine
        mine["tags"].append("b")
        s["one"]["tags"].append("c")

    value, ops = produce({}, recipe)
    assert value == {"one": {"tags": ["a", "c"]}, "two": {"tags": ["a"]}}
    assert jsonpatch.apply_patch({}, orjson.loads(orjson.dumps(ops))) == value


def test_a_draft_that_keeps_its_place_is_copied_when_put_elsewhere() -> None:
    def recipe(s: Any) -> None:
        s["b"] = s["a"]
        s["a"]["x"] = 1

    value, _ = produce({"a": {}}, recipe)
    assert value == {"a": {"x": 1}, "b": {}}


def spread_then_put_back(s: Any) -> None:
    old = s["k"]
    s["k"] = {**old, "n": 1}
    s["history"].append(old)


def test_a_container_never_stands_in_two_places() -> None:
    value, _ = check({"k": {"items": [1]}, "history": []}, spread_then_put_back)
    assert value["k"]["items"] is not value["history"][0]["items"]

    def next_action(s: Any) -> None:
        assert [h["items"] for h in s["history"]] == [[1]]
        s["k"]["items"].append("x")

    value, _ = produce(value, next_action)
    assert value == {"k": {"items": [1, "x"], "n": 1}, "history": [{"items": [1]}]}


def outer_and_inner(s: Any) -> None:
    outer = s.pop("k")
    inner = outer["items"]
    s["both"] = [outer, inner]
    s["again"] = [inner, outer]


@pytest.mark.parametrize(
    "replace",
    [lambda s: s.__setitem__("a", [[]]), lambda s: s["a"].__setitem__(slice(None), [[]])],
)
def test_what_was_replaced_by_its_equal_is_no_longer_there(replace: Recipe) -> None:
    def recipe(state: Any) -> None:
        held = state["a"][0]
        replace(state)
        held.append(1)

    assert produce({"a": [[]]}, recipe) == ({"a": [[]]}, [])


def test_what_has_moved_and_was_replaced_by_its_equal_is_there_no_longer() -> None:
    def recipe(state: Any) -> None:
        outer = state["a"]
        state["a"] = outer["b"]
        outer["b"] = {}
        outer["b"]["x"] = 1

    assert produce({"a": {"b": {}}}, recipe)[0] == {"a": {}}


def test_writes_that_cancel_before_a_value_is_returned_are_in_no_patch() -> None:
    scratch = Scratch()
    base, _ = recorded({"a": 1, "l": [0]}, quiet(lambda state: state["l"].append(1)), scratch)

    def recipe(state: Any) -> Any:
        state["n"] = 1
        del state["n"]
        held = state["l"]
        state["l"] = [0, 1]
        held.append(2)
        return {**state, "a": 2, "held": held}

    value, ops = recorded(base, recipe, scratch)
    assert value == {"a": 2, "l": [0, 1], "held": [0, 1, 2]}
    assert jsonpatch.apply_patch({"a": 1, "l": [0, 1]}, orjson.loads(orjson.dumps(ops))) == value


def test_what_left_the_tree_together_comes_back_in_one_place_only() -> None:
    value, _ = check({"k": {"items": [1]}}, outer_and_inner)
    places = [value["both"][0]["items"], value["both"][1], value["again"][0], value["again"][1]["items"]]
    assert len({id(place) for place in places}) == 4


def moved_within_what_left(s: Any) -> None:
    held = s.pop("l")
    held.append(held[0])
    s["l"] = held
    s["l"][0]["x"] = 1


def written_through_an_old_name(s: Any) -> None:
    held = s["b"]
    s["b"] = {**held, "n": 1}
    held["c"] = {**held["c"], "z": 0}
    s["b"]["c"]["a"]["x"] = 1


@pytest.mark.parametrize(
    ("base", "recipe", "expected"),
    [
        ({"l": [{}]}, moved_within_what_left, {"l": [{"x": 1}, {}]}),
        ({"b": {"c": {"a": {}}}}, written_through_an_old_name, {"b": {"c": {"a": {"x": 1}}, "n": 1}}),
    ],
)
def test_json_has_no_aliases(base: Any, recipe: Recipe, expected: Any) -> None:
    value, ops = produce(base, recipe)
    assert value == expected
    assert jsonpatch.apply_patch(base, orjson.loads(orjson.dumps(ops))) == expected


def restored_but_changed(s: Any) -> None:
    s["k"]["a"] = 1
    taken = s.pop("k")
    taken["z"] = 2
    s["k"] = dict(taken)


def written_after_it_moved(s: Any) -> None:
    old = s["k"]
    s["k"] = {**old, "n": 1}
    old.pop("x")
    s["k"]["x"]["v"] = 9


def put_where_equal_content_stands(s: Any) -> None:
    taken = s.pop("a")
    s["b"] = taken
    taken["v"] = 2


def reversed_equals(s: Any) -> None:
    first, _ = s["l"]
    s["l"].reverse()
    first["v"] = 2


@pytest.mark.parametrize(
    ("base", "recipe"),
    [
        ({"k": {"a": 0}}, restored_but_changed),
        ({"k": {"x": {"v": 1}}}, written_after_it_moved),
        ({"a": {"v": 1}, "b": {"v": 1}}, put_where_equal_content_stands),
        ({"l": [{"v": 1}, {"v": 1}]}, reversed_equals),
    ],
)
def test_what_moves_keeps_its_identity(base: Any, recipe: Recipe) -> None:
    check(base, recipe)


def test_the_limits_hold_for_what_moves_too() -> None:
    with pytest.raises(NotJSON, match="prototype"):
        produce({"x": {"prototype": 1}}, lambda s: {"constructor": s["x"]})
    with pytest.raises(NotJSON, match="prototype"):
        produce({}, lambda s: s.update(constructor=OrderedDict(prototype=1)))

    def deeper() -> None:
        state: Any = {"k": [[1]]}
        for _ in range(70):
            state, _ = produce(state, lambda s: s.__setitem__("k", [[s["k"][0]]]))

    with pytest.raises(NotJSON, match="containers"):
        deeper()


def test_a_draft_cannot_hold_itself() -> None:
    def recipe(s: Any) -> None:
        a = s.pop("a")
        a["self"] = a
        s["a"] = a

    value, _ = produce({"a": {}}, recipe)
    assert value == {"a": {"self": {}}}


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        (object(), "/x", "object"),
        ({"a": [1, {2}]}, "/x/a/1", "set"),
        (float("nan"), "/x", "finite"),
        (float("inf"), "/x", "finite"),
        (2**53, "/x", "2\\^53"),
        (b"raw", "/x", "bytes"),
        ("\ud800", "/x", "surrogate"),
        ({"a": {3: 1}}, "/x/a", "string as a key"),
        ({"__proto__": 1}, "/x", "prototype"),
        ({"constructor": {"prototype": 1}}, "/x/constructor", "prototype"),
        (json.loads("[" * 64 + "]" * 64), "/x" + "/0" * 63, "containers"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(value: Any, place: str, words: str) -> None:
    for recipe in (lambda s: s.__setitem__("x", value), lambda s: {"x": value}):
        with pytest.raises(NotJSON, match=words) as caught:
            produce({}, recipe)
        assert caught.value.place == place
    with pytest.raises(NotJSON):
        produce({"l": []}, lambda s: s["l"].append([value]))


@pytest.mark.parametrize(
    "use",
    [
        len,
        list,
        lambda d: d == 1,
        lambda d: 1 in d,
        lambda d: d.clear(),
        lambda d: d.pop(0),
        lambda d: d == d.copy(),
        lambda d: d.__setitem__(0, 1),
        lambda d: d[0],
    ],
)
def test_a_draft_refuses_to_be_used_after_its_action(use: Any) -> None:
    kept: list[Any] = []
    produce({"l": [{"x": 1}], "m": [{}]}, lambda s: kept.extend([s, s["l"], s["l"][0], s["m"].pop()]))
    for draft in kept:
        assert repr(draft) == "<Draft, closed>"
        with pytest.raises(DraftClosed):
            use(draft)


@pytest.mark.parametrize(
    "loop",
    [
        lambda s: [s["l"].append(x) for x in s["l"]],
        lambda s: [s["l"].remove(x) for x in s["l"]],
        lambda s: [s.__setitem__(k + "2", 1) for k in s],
        lambda s: [s.pop(k) for k in s],
    ],
)
def test_changing_the_size_while_iterating_raises(loop: Recipe) -> None:
    with pytest.raises(RuntimeError, match="during iteration"):
        produce({"l": [1, 2, 3], "m": 1}, loop)


def test_what_a_draft_says_of_itself() -> None:
    def recipe(s: Any) -> None:
        assert not isinstance(s, dict)
        assert isinstance(s, MutableMapping)
        assert isinstance(s["l"], MutableSequence)
        assert s == {"l": [1, {"a": 2}], "n": 1}
        assert s["l"] == [1, {"a": 2}]
        assert {"a": 2} in s["l"]
        assert s["l"].index({"a": 2}) == 1
        assert s["l"] < [2]
        assert s | {"z": 1} == {**s, "z": 1}
        assert copy.deepcopy(s) == s
        assert type(copy.deepcopy(s)) is dict
        match s:
            case {"n": 1, "l": [1, {"a": a}]}:
                assert a == 2
            case _:
                raise AssertionError("a draft must match a pattern")
        for dumps in (json.dumps, orjson.dumps):
            with pytest.raises(TypeError):
                dumps(s)
        with pytest.raises(TypeError):
            hash(s)
        assert isinstance(s, Mapping)

    assert produce({"l": [1, {"a": 2}], "n": 1}, recipe)[1] == []


def test_doing_both_or_awaiting_is_refused_with_the_reason() -> None:
    with pytest.raises(HandlerFailed, match="both"):
        produce({"l": [1]}, lambda s: s["l"].pop())

    async def later(s: Any) -> None: ...

    with pytest.raises(HandlerFailed, match="plain function"):
        produce({}, later)


def test_removed_and_scalars() -> None:
    assert produce({"a": 1}, lambda s: REMOVED) == (REMOVED, [])
    assert produce({"a": 1}, lambda s: (s.clear(), REMOVED)[1]) == (REMOVED, [])
    assert produce(1, lambda n: n + 1) == (2, [{"op": "replace", "path": "", "value": 2}])
    assert produce(1, lambda n: True)[1] == [{"op": "replace", "path": "", "value": True}]
    assert produce(1, lambda n: 1) == (1, [])


def test_a_recipe_that_raises_leaves_the_base_alone() -> None:
    base = {"l": [1, 2]}

    def recipe(s: Any) -> None:
        s["l"].append(3)
        raise LookupError("no")

    with pytest.raises(LookupError):
        produce(base, recipe)
    assert base == {"l": [1, 2]}


@settings(max_examples=often(50), deadline=None)
@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 5), max_size=12))
def test_list_rewrites_of_scalars_replay(old: list[int], new: list[int]) -> None:
    check({"l": old}, lambda s: s["l"].__setitem__(slice(None), new))


def test_what_produce_returns_is_plain_and_later_writes_do_not_reach_it() -> None:
    def recipe(state: Any) -> None:
        state["tasks"].append({"id": "1", "tags": ["a"]})
        state["tasks"][0]["tags"].append("b")
        state["box"] = {"deep": [1]}

    value, operations = produce({"tasks": [], "box": None}, recipe)
    expected = [
        {"op": "add", "path": "/tasks/0", "value": {"id": "1", "tags": ["a"]}},
        {"op": "add", "path": "/tasks/0/tags/1", "value": "b"},
        {"op": "replace", "path": "/box", "value": {"deep": [1]}},
    ]
    assert operations == expected
    for dumps in (json.dumps, orjson.dumps):
        assert orjson.loads(dumps(operations)) == expected
    operations[2]["value"]["deep"].append(2)
    assert value == {"tasks": [{"id": "1", "tags": ["a", "b"]}], "box": {"deep": [1]}}
