"""Pieces of tool calls, in process: however a provider distinguishes its calls, they are joined as intended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.chat.approvals import Approval
from statestream.chat.models import CallPiece, ModelFailed
from statestream.chat.replies.reply_builder import ReplyBuilder
from tests.support.often import often

SHIFTED = "one more later", "zero later"
WAYS = [
    (indexes, ids, names)
    for indexes in ("count", "none", "zero", *SHIFTED)
    for ids in ("first", "every", "none", "the same")
    for names in ("first", "every")
    if not (indexes in SHIFTED and names == "every" and ids in ("first", "none"))  # a call, or a piece of the last?
]
"""Which indexes, ids and names a provider sends."""

arguments = st.dictionaries(st.text('a}{" é', max_size=3), st.integers(0, 9) | st.just({"b": {}}), max_size=2)
calls = st.lists(st.tuples(st.sampled_from(["look", "go"]), arguments, st.lists(st.integers(1, 30))), max_size=4)


def pieces_of(calls: list[Any], indexes: str, ids: str, names: str) -> Iterator[CallPiece]:
    for number, (name, given_arguments, cuts) in enumerate(calls):
        text = json.dumps({**given_arguments, "number": number})
        ends = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
        for at, (start, end) in enumerate(pairwise(ends)):
            later = at > 0
            index = {"count": number, "zero": 0, "one more later": number + later, "zero later": 0 if later else number}
            id = {"first": "" if later else f"id{number}", "every": f"id{number}", "none": "", "the same": "id"}
            yield CallPiece(
                index=index.get(indexes),
                id=id[ids],
                name=name if names == "every" or not later else "",
                arguments=text[start:end],
            )


def joined(pieces: Iterator[CallPiece]) -> list[Any]:
    builder = ReplyBuilder("c", "r", "p")
    for piece in pieces:
        builder.call(piece)
    return [(call.name, json.loads(call.arguments)) for call in builder.calls.values()]


@settings(max_examples=often(75))
@given(calls, st.sampled_from(WAYS))
def test_calls_are_joined_as_the_provider_meant(calls: list[Any], way: tuple[str, str, str]) -> None:
    wanted = [(name, {**given_arguments, "number": number}) for number, (name, given_arguments, _) in enumerate(calls)]
    assert joined(pieces_of(calls, *way)) == wanted


def test_opaque_data_of_a_call_is_kept_once_however_often_it_comes() -> None:
    builder = ReplyBuilder("c", "r", "p")
    for piece in ("s1", "s1", "", "s2"):
        builder.call(CallPiece(index=0, id="a", name="look", opaque=piece))
    *_, sent = builder.take()
    assert sent.type == "provider/sent"
    assert [entry["data"] for entry in sent.payload["entries"]] == ["s1", "s2"]
    assert all("s1" not in json.dumps(action.payload) for action in builder.take())


def test_arguments_without_a_call_are_no_call() -> None:
    with pytest.raises(ModelFailed, match="without a name"):
        joined(iter([CallPiece(index=0, id="a", arguments="{}")]))


def test_an_agent_cannot_ask_for_approval_under_an_id_that_it_has_used() -> None:
    """Whoever reads a decision by that id could take it for another call."""
    builder = ReplyBuilder("c", "r", None)
    builder.use("buy", "buy", {"id": 1}, Approval())
    for approval in (Approval(), Approval(role="boss")):
        with pytest.raises(ModelFailed, match="under the id of another call"):
            builder.use("buy", "buy", {"id": 2}, approval)
    builder.use("look", "look", {})
    builder.use("look", "look", {}, Approval())  # the same call, which turns out to need approval
    assert [action.type for action in builder.take()][-1] == "chat/requested"
