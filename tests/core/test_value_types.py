"""Types of values: which are used as they are, what does not fit them, and that no message contains a value."""

from __future__ import annotations

import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal, NewType
from uuid import UUID
from zoneinfo import ZoneInfo

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field
from typing_extensions import NotRequired, TypedDict

from statestream import Slice
from statestream.core.draft import patched, produce
from statestream.core.errors import InvalidPayload, InvalidValue
from statestream.core.value_type import ValueType
from statestream.core.values import encode, plain
from tests.support.often import often

SECRET = "a-value-that-nobody-may-see"
Name = NewType("Name", str)


class Kind(StrEnum):
    BUG = "bug"


class Color(Enum):
    RED = "red"


class Item(TypedDict):
    text: Annotated[str, Field(max_length=10)]
    done: NotRequired[bool]


class Tree(TypedDict):
    value: float
    children: list[Tree]


class Awkward(TypedDict):
    """Its members have the names of members of pydantic's schemas."""

    type: int
    metadata: str
    default: str
    serialization: str
    schema: dict[str, Item]


class Cat(TypedDict):
    kind: Literal["cat"]
    lives: int


class Dog(TypedDict):
    kind: Literal["dog"]
    barks: int


class Late(TypedDict):
    at: datetime


class Model(BaseModel):
    by_alias: int = Field(default=1, alias="byAlias")
    color: Color = Color.RED
    price: Decimal = Decimal("1.50")
    inner: list[Model] = []


def even(number: int) -> int:
    if number % 2:
        raise ValueError("expected an even number")
    return number


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int


@dataclass
class Point:
    x: float
    y: float = 0.0
    when: datetime | None = None
    span: timedelta = timedelta(0)
    ids: frozenset[UUID] = frozenset()
    days: dict[int, date] = field(default_factory=dict)


class Struct(msgspec.Struct):
    a: int = 1
    color: Color = Color.RED
    points: list[Point] = []
    counts: dict[int, str] = {}


class Sparse(msgspec.Struct, omit_defaults=True):
    a: int = 1


class Tagged(msgspec.Struct, tag="tagged"):
    a: int


class Other(msgspec.Struct, tag="other"):
    b: int


@pytest.mark.parametrize(
    "kind",
    [
        Item, Tree, Awkward, Cat | Dog, dict[str, list[Item]], list[int | None], int, str, None, Any, Name, list[Any],
        Annotated[Cat | Dog, Field(discriminator="kind")], dict[Literal["a", "b"], int], dict[str, Any], list[Tree],
    ],
    ids=str,
)  # fmt: skip
def test_what_consists_of_json_is_used_as_it_is(kind: Any) -> None:
    assert ValueType(kind, "it").plain


@pytest.mark.parametrize(
    "kind",
    [
        Late, Model, Point, Struct, Kind, Color, date, Decimal, tuple[int, int], set[str], list[Late], dict[Color, int],
        dict[int, str], dict[str, Point], Literal[Color.RED], Sequence[int], Item | Late, list[Struct], Tagged | Other,
    ],
    ids=str,
)  # fmt: skip
def test_anything_else_becomes_objects(kind: Any) -> None:
    assert not ValueType(kind, "it").plain


OBJECTS: list[tuple[Any, Any, Any]] = [
    (Model, Model(), {"byAlias": 1, "color": "red", "price": "1.50", "inner": []}),
    (Model, Model(inner=[Model()]), {"byAlias": 1, "color": "red", "price": "1.50",
                                     "inner": [{"byAlias": 1, "color": "red", "price": "1.50", "inner": []}]}),
    (Point, Point(1.5, days={1: date(2026, 1, 2)}), {"x": 1.5, "y": 0.0, "when": None, "span": "PT0S", "ids": [],
                                                     "days": {"1": "2026-01-02"}}),
    (Struct, Struct(counts={1: "x"}), {"a": 1, "color": "red", "points": [], "counts": {"1": "x"}}),
    (Sparse, Sparse(), {}),
    (Tagged | Other, Other(b=1), {"type": "other", "b": 1}),
    (tuple[int, int], (1, 2), [1, 2]),
    (Late, {"at": datetime(2026, 1, 2, tzinfo=UTC)}, {"at": "2026-01-02T00:00:00Z"}),
    (Color, Color.RED, "red"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "expected"), OBJECTS, ids=lambda each: "")
def test_objects_become_json_and_json_becomes_the_same_objects(kind: Any, value: Any, expected: Any) -> None:
    declared = ValueType(kind, "it")
    dumped = declared.dump(value)
    assert dumped == expected == plain(dumped)
    assert declared.of(dumped) == declared.load(encode(dumped)) == value
    assert declared.first(value) == declared.first(dumped) == dumped
    jsonschema.validate(dumped, declared.schema())


def test_fields_with_a_default_are_there_unless_they_are_left_out() -> None:
    required = ValueType(Model, "it").schema()["$defs"]["Model"]["required"]
    assert required == ["byAlias", "color", "price", "inner"]
    assert set(ValueType(Struct, "it").schema()["$defs"]["Struct"]["required"]) == {"a", "color", "points", "counts"}
    assert "required" not in ValueType(Item | Late, "it").schema()["$defs"]["Item"].get("done", {})
    assert ValueType(Sparse, "it").schema()["$defs"]["Sparse"]["required"] == []


WRONG: list[tuple[Any, Any, str]] = [
    (Item, {"text": 1}, "at /text: Input should be a valid string"),
    (Item, {}, "at /text: Field required"),
    (Item, SECRET, "at the root: expected a JSON object"),
    (Item, {"text": SECRET}, "at /text: String should have at most 10 characters"),
    (list[Item], [{"text": ""}, {"text": "", "done": SECRET}], "at /1/done: Input should be a valid boolean"),
    (dict[str, Item], {"a/b~c": {"text": 1}}, "at /a~1b~0c/text: Input should be a valid string"),
    (Cat | Dog, {"kind": "dog", "barks": SECRET}, "at /kind: Input should be 'cat'"),
    (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": "dog", "barks": SECRET},
     "at /barks: Input should be a valid integer"),
    (Annotated[Cat | Dog, Field(discriminator="kind")], {"kind": SECRET},
     "at the root: expected one of the tags 'cat', 'dog'"),
    (list[int | str], [1, [SECRET]], "at /1: Input should be a valid integer"),
    (dict[str, list[int] | int], {"list[int]": [1, SECRET]}, "at /list[int]/1: Input should be a valid integer"),
    (dict[str, Item | int], {"a": {}}, "at /a/text: Field required"),
    (dict[int, list[Point]], {"7": [{"x": 1, "y": SECRET}]}, "at /7/0/y: Input should be a valid number"),
    (Closed, {"a": 1, "b": SECRET}, "at /b: there is no such field"),
    (Tree, {"value": 1, "children": [{"value": 1.0, "children": [{"value": SECRET, "children": []}]}]},
     "at /children/0/children/0/value: Input should be a valid number"),
    (Color, SECRET, "at the root: Input should be 'red'"),
    (list[IPv4Address], [SECRET], "at /0: the value is not valid"),
    (IPv4Network, f"10.0.0.0/{SECRET}", "at the root: the value is not valid"),
    (ZoneInfo, SECRET, "at the root: the value is not valid"),
    (ByteSize, f"10 {SECRET}", "at the root: the value is not valid"),
    (Annotated[int, AfterValidator(even)], 3, "at the root: Value error, expected an even number"),
    (Point, {"x": 1.0, "when": SECRET}, "at /when: Input should be a valid datetime"),
    (Struct, {"color": SECRET}, "at /color: Invalid enum value"),
    (Struct, {"points": [{"x": SECRET}]}, "at /points/0/x: Expected `float`, got `str`"),
    (Struct, {"counts": {SECRET: ""}}, "at /counts"),
    (Tagged | Other, {"type": SECRET}, "at /type: Invalid value"),
    (int, True, "at the root: Input should be a valid integer"),
    (int, 1.5, "at the root: Input should be a valid integer"),
    (float, "1", "at the root: Input should be a valid number"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "sentence"), WRONG, ids=lambda each: "")
def test_what_does_not_fit_is_refused_with_its_place_and_without_the_value(
    kind: Any, value: Any, sentence: str
) -> None:
    with pytest.raises(InvalidValue) as refused:
        ValueType(kind, "the value of board").check(encode(value))
    assert str(refused.value).startswith(f"the value of board does not fit its type: {sentence}")
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Point, Point(SECRET)),  # type: ignore[arg-type]
        (Point, 5),
        (Point, Point(1.0, days={1: object()})),  # type: ignore[dict-item]
        (Model, Model.model_construct(color=SECRET)),
        (Struct, Struct(a=SECRET)),  # type: ignore[arg-type]
        (Struct, Struct(points=[object()])),  # type: ignore[list-item]
        (tuple[int, int], (1, 2, 3)),
        (Late, {"at": SECRET}),
    ],
    ids=lambda each: "",
)
def test_objects_that_do_not_fit_are_refused(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidValue) as refused:
        ValueType(kind, "the value of board").dump(value)
    assert "the value of board does not fit its type: " in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        (object(), "use what JSON has"),
        (typing.TypedDict("Old", {"a": int}), "import TypedDict from typing_extensions"),
        (TypedDict("Unknown", {"a": "Nowhere"}), "it names a type that is not known there"),  # noqa: F821
        (dict[str, type(iter([]))], "use what JSON has"),  # type: ignore[misc]
    ],
    ids=lambda each: "",
)
def test_a_type_that_json_cannot_have_is_refused(kind: Any, hint: str) -> None:
    with pytest.raises(TypeError) as refused:
        ValueType(kind, "the value of board")
    assert hint in str(refused.value)


def test_an_initial_value_that_does_not_fit_is_refused_where_the_slice_is_declared() -> None:
    with pytest.raises(ValueError, match=r"in `initial` of the slice board: .* at /text: Field required"):
        Slice("board", initial={}, type=Item)
    with pytest.raises(ValueError, match="in the initial value of the slice board"):
        Slice("board", initial={"text": math.nan}, type=Item)
    with pytest.raises(TypeError, match="`validate` with `type` only"):
        Slice("board", initial={}, validate=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(json_values)
@settings(max_examples=often(100), deadline=None)
def test_no_value_is_in_a_message_and_what_fits_comes_back(value: Any) -> None:
    for kind in (Item, Tree, Cat | Dog, Model, Struct, dict[str, Item | int], list[int | list[str]]):
        declared = ValueTypes.of(kind)
        try:
            seen = declared.of(value) if not declared.plain else declared.first(value)
        except InvalidValue as error:
            place = str(error).partition(" type: at ")[2].partition(": ")[0]
            assert place == "the root" or place.startswith("/")
        else:
            assert declared.plain or declared.of(declared.dump(seen)) == seen


@dataclass
class Branch:
    value: float
    name: str | None
    by_name: dict[str, list[int]]
    children: list[Branch]


branches = st.recursive(
    st.builds(
        Branch,
        st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.text(max_size=3),
        st.dictionaries(st.text(max_size=2).filter(lambda key: key != "__proto__"), st.lists(st.integers(0, 3))),
        st.just([]),
    ),
    lambda inner: st.builds(Branch, st.just(0.0), st.none(), st.just({}), st.lists(inner, max_size=4)),
    max_leaves=8,
)


@given(st.lists(branches, min_size=2, max_size=4))
@settings(max_examples=often(60), deadline=None)
def test_what_a_handler_leaves_becomes_the_value_and_its_operations_lead_there(states: list[Branch]) -> None:
    declared = ValueTypes.of(Branch)
    value = declared.dump(states[0])
    for following in states[1:]:

        def returned(state: Branch, following: Branch = following) -> Branch:
            return following

        def changed(state: Branch, following: Branch = following) -> None:
            vars(state).update(vars(following))

        outcomes = [produce(value, declared.handling(handler)) for handler in (returned, changed)]
        assert outcomes[0] == outcomes[1]
        after, operations = outcomes[0]
        assert after == declared.dump(following)
        assert declared.of(after) == following
        assert patched(value, operations) == after
        assert produce(after, declared.handling(lambda state: None)) == (after, [])
        value = after


def test_a_tag_of_a_payload_is_not_quoted() -> None:
    declared = Slice("board", initial={})

    @declared.action
    def drew(state: Any, *, pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> None: ...

    with pytest.raises(InvalidPayload) as refused:
        drew(pet={"kind": SECRET})  # type: ignore[arg-type, typeddict-item]
    assert str(refused.value) == "board/drew: at /pet: expected one of the tags 'cat', 'dog'"


class ValueTypes:
    """Made once each: that takes longer than to use one."""

    made: typing.ClassVar[dict[str, ValueType]] = {}

    @classmethod
    def of(cls, kind: Any) -> ValueType:
        return cls.made.setdefault(str(kind), ValueType(kind, "it"))
