"""Plain copies that share what has not changed with an earlier one."""

from __future__ import annotations

import copy
from collections import OrderedDict
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.core.errors import NotJSON
from statestream.core.sharing import shared
from statestream.core.values import MAX_DEPTH, canonical, plain

WORDS = st.sampled_from(["", "a", "b", "1", "true", "é", "constructor"])
SCALARS = WORDS | st.sampled_from([0, 1, 2**53 - 1, 0.0, 1.0, True, False, None])
KNOWN: Any = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=12
)
STRANGE = st.sampled_from([float("nan"), 2**53, "\ud800", Decimal(1), (1, "a"), OrderedDict(a=1), object])
KEYS: Any = WORDS | st.sampled_from(["__proto__", "prototype", 1])
ANY: Any = st.recursive(
    SCALARS | STRANGE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@st.composite
def edited(draw: st.DrawFn) -> tuple[Any, Any]:
    """A plain value, and what somebody made of a copy of it."""
    known = draw(KNOWN)
    value = copy.deepcopy(known)
    for _ in range(draw(st.integers(0, 2))):
        value = _edit(draw, value)
    return known, value


def _edit(draw: st.DrawFn, value: Any) -> Any:
    if not isinstance(value, (dict, list)) or not value or draw(st.booleans()):
        return copy.deepcopy(draw(ANY))
    place = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
    if isinstance(value, list) and draw(st.booleans()):
        value.insert(place, copy.deepcopy(draw(ANY))) if draw(st.booleans()) else value.pop(place)
    else:
        value[place] = _edit(draw, value[place])
    return value


def outcome(made: Any) -> bytes | str:
    try:
        return canonical(made())
    except NotJSON as error:
        return str(error)


@given(edited())
def test_it_is_what_plain_makes_of_it_or_is_refused_in_the_same_words(pair: tuple[Any, Any]) -> None:
    known, value = pair
    before = orjson.dumps(known)
    assert outcome(lambda: shared(value, known)) == outcome(lambda: plain(value))
    assert orjson.dumps(known) == before


def test_what_is_the_same_is_the_same_object() -> None:
    known = {"people": {"ada": {"n": 1}, "bob": {"n": 2}}, "rows": [{"id": n} for n in range(5)], "rest": [{}]}
    value = copy.deepcopy(known)
    value["people"]["bob"]["n"] = 3  # type: ignore[index,call-overload]
    del value["rows"][2]  # type: ignore[attr-defined]
    result = shared(value, known)
    assert result == value
    assert result["people"]["ada"] is known["people"]["ada"]  # type: ignore[index,call-overload]
    rows: Any = known["rows"]
    assert [id(row) for row in result["rows"]] == [id(row) for row in (*rows[:2], *rows[3:])]
    assert result["rest"] is known["rest"]
    assert shared(copy.deepcopy(known), known) is known


class Rude:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", [{"a": Rude()}, {"a": [Rude()]}, {"a": {"b": Rude()}}])
def test_an_object_that_cannot_be_compared_is_refused_as_no_json(value: Any) -> None:
    with pytest.raises(NotJSON, match="Rude"):
        shared(value, {"a": {"b": 1}})
    with pytest.raises(NotJSON, match="Rude"):
        shared(value, {"a": [1]})


def test_the_depth_counts_from_the_root() -> None:
    """One level more, at the place where the two differ."""
    known: Any = 1
    value: Any = [1]
    for _ in range(MAX_DEPTH):
        known, value = [known], [value]
    assert shared(copy.deepcopy(known), known) is known
    with pytest.raises(NotJSON, match="deep"):
        shared(value, known)
