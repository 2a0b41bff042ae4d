"""The layout of an answer: its text, its calls and what stands between them, in order, whatever has become of it."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from statestream.chat.models import ToolCall, Turn
from statestream.chat.models.layout import Place, parts_of

said = st.lists(
    st.one_of(st.text(alphabet="ab \n", min_size=1, max_size=4), st.just("call"), st.integers(0, 99)), max_size=8
)


def answer(parts: list[Any]) -> tuple[Turn, list[tuple[Any, str, int]]]:
    """A turn with these parts, and each item with the text and the number of calls before it."""
    place, text, calls, opaque = Place(), "", list[ToolCall](), list[str]()
    items: list[tuple[Any, str, int]] = []
    for part in parts:
        if part == "call":
            calls.append(ToolCall(id=f"c{len(calls)}", name="look", arguments="{}"))
            place.calls += 1
        elif isinstance(part, str):
            text += part
            place.text += len(part)
        else:
            items.append(({"number": part}, text, len(calls)))
            opaque.append(place.of({"number": part}).data)
    return Turn(role="assistant", text=text, calls=tuple(calls), opaque=tuple(opaque)), items


def check(turn: Turn, items: list[tuple[Any, str, int]] | None = None) -> None:
    """Everything is there, in order, and nothing is last that needs a successor. `items`: where these have to be."""
    text, calls, found = "", list[ToolCall](), list[tuple[Any, str, int]]()
    parts = parts_of(turn)
    for part in parts:
        if isinstance(part, str):
            assert part.strip()
            text += part
        elif isinstance(part, ToolCall):
            calls.append(part)
        else:
            found.append((part, text.rstrip(), len(calls)))
    assert (text.rstrip(), calls) == (turn.text.rstrip(), list(turn.calls))
    assert not parts or not isinstance(parts[-1], dict)
    if items is not None:
        assert found == [(item, before.rstrip(), count) for item, before, count in items][: len(found)]
        behind = [
            item
            for item, before, count in items[len(found) :]
            if before.rstrip() != turn.text.rstrip() or count < len(calls)
        ]
        assert not behind, "an item is missing that has a successor"


@given(said)
def test_the_parts_come_back_in_order(parts: list[Any]) -> None:
    check(*answer(parts))


@given(said, st.integers(0, 4), st.integers(0, 3))
def test_text_and_calls_that_were_lost_since_do_no_harm(parts: list[Any], letters: int, calls: int) -> None:
    turn, _ = answer(parts)
    check(Turn(role="assistant", text=turn.text[:letters], calls=turn.calls[:calls], opaque=turn.opaque))


def test_without_items_there_are_none() -> None:
    turn, _ = answer(["a", 1, "call"])
    assert parts_of(turn, items=False) == ["a", *turn.calls]
