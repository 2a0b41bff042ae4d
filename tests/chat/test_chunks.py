"""A provider's bytes as pieces: any JSON, any bytes, any split of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.chat.models import CallPiece, Finish, ModelFailed, Opaque, Piece, Reasoning, Refusal, Usage
from statestream.chat.models.chunks import Chunks, pieces_of
from statestream.chat.models.opaque import members_of
from tests.support.often import often
from tests.support.pieces import anything, counts, events, members, pieces_from, texts

functions = members(name=texts, arguments=texts, signature=anything)
calls = st.lists(
    members(index=st.integers(-1, 3), id=texts, function=functions, name=texts, extra_content=anything), max_size=3
)
blocks = st.lists(members(type=texts, index=st.integers(0, 2), text=texts, thinking=texts, signature=texts), max_size=3)
deltas = members(
    content=texts,
    reasoning=texts,
    reasoning_content=texts,
    refusal=texts,
    tool_calls=calls,
    function_call=functions,
    reasoning_details=blocks,
    thinking_blocks=blocks,
    extra_content=anything,
)
choices = st.lists(members(index=st.integers(0, 2), delta=deltas, finish_reason=texts), max_size=3)
details = members(reasoning_tokens=counts, cached_tokens=counts)
usages = members(
    prompt_tokens=counts, completion_tokens=counts, prompt_tokens_details=details, completion_tokens_details=details
)
chunks = st.one_of(members(choices=choices, usage=usages), members(choices=choices, error=texts), anything)


def read(*parts: bytes) -> tuple[list[Piece], str | None]:
    """The pieces, and the kind of failure that ended them."""
    return pieces_from(Chunks(thoughts=True), *parts)


@settings(max_examples=often(120))
@given(chunks)
def test_whatever_a_chunk_is_its_pieces_are_what_they_say(chunk: Any) -> None:
    try:
        pieces = list(pieces_of(chunk))
    except ModelFailed:
        return
    for piece in pieces:
        assert_typed(piece)


def assert_typed(piece: Piece) -> None:
    match piece:
        case str() | Reasoning(text=str()) | Refusal(text=str()) | Finish(reason=str()):
            pass
        case CallPiece(index=int() | None, id=str(), name=str(), arguments=str(), opaque=str()):
            members_of([piece.opaque] if piece.opaque else [])
        case Opaque(data=str()):
            members_of([piece.data])
        case Usage():
            assert all(0 <= count < 2**53 for count in (piece.input, piece.output, piece.reasoning, piece.cached))
        case _:
            raise AssertionError(piece)


def piece_of(delta: Any, **more: Any) -> Any:
    return {"choices": [{"index": 0, "delta": delta, **more}]}


def test_the_last_usage_and_the_last_reason_count() -> None:
    used = [{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": count}} for count in (1, 2, 3)]
    raw = events(
        used[0], piece_of({"content": "a"}, finish_reason="length"), used[1], piece_of({}, finish_reason="stop")
    )
    pieces, _ = read(raw, events(used[2], {"choices": [], "usage": {}}), b"data: [DONE]\n\n")
    assert pieces == ["a", Usage(input=5, output=3), Finish(reason="stop")]


def test_a_chunk_may_say_everything_at_once() -> None:
    delta = {
        "content": "text",
        "reasoning": "why",
        "refusal": "no",
        "tool_calls": [{"index": 2, "id": "i", "function": {"name": "n", "arguments": "{"}}, {"function": None}],
        "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
    }
    chunk = piece_of(delta, finish_reason="stop") | {"usage": {"prompt_tokens": 1}}
    assert list(pieces_of(chunk)) == [
        Reasoning(text="why"),
        "text",
        Refusal(text="no"),
        Opaque(data='{"reasoning_details":[{"type":"reasoning.encrypted","data":"x"}]}'),
        CallPiece(index=2, id="i", name="n", arguments="{"),
        CallPiece(index=1),
        Finish(reason="stop"),
        Usage(input=1, output=0),
    ]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ("x", "failed"),
        ({"code": 429}, "rate_limited"),
        ({"code": "429"}, "failed"),
        ({"code": True}, "failed"),
        ({"code": 500}, "failed"),
        ({"code": [1]}, "failed"),
        (["x"], "failed"),
        (7, "failed"),
    ],
)
def test_an_error_in_the_stream_is_a_failure_of_its_kind(error: Any, kind: str) -> None:
    raw = events(piece_of({"content": "a"}), {"error": error, "choices": [{"delta": {"content": "b"}}]})
    assert read(raw) == (["a"], kind)
    assert read(b"event: error\ndata: " + json.dumps(error).encode() + b"\n\n") == ([], kind)


def calls_in(*deltas: Any) -> list[CallPiece]:
    pieces, _ = read(events(*map(piece_of, deltas)))
    return [piece for piece in pieces if isinstance(piece, CallPiece)]


ULM: dict[str, Any] = {"name": "weather", "arguments": '{"city":"Ulm"}'}
SHAPES: dict[str, Any] = {
    "arguments that are an object": {"tool_calls": [{"id": "a", "function": {**ULM, "arguments": {"city": "Ulm"}}}]},
    "an index that is null": {"tool_calls": [{"index": None, "id": "a", "function": ULM}]},
    "an object instead of a list": {"tool_calls": {"id": "a", "function": ULM}},
    "no function around its members": {"tool_calls": [{"id": "a", **ULM}]},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_is_read_in_whatever_shape_it_comes(shape: str) -> None:
    assert calls_in(SHAPES[shape]) == [CallPiece(id="a", name="weather", arguments='{"city":"Ulm"}')]


def test_a_call_of_the_old_shape_is_read() -> None:
    first, second = calls_in(
        {"function_call": {"name": "weather", "arguments": ""}}, {"function_call": {"arguments": "{}"}}
    )
    assert (first, second) == (CallPiece(name="weather"), CallPiece(arguments="{}"))


def test_arguments_that_begin_as_an_empty_object_are_still_to_come() -> None:
    start = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": {}}}
    rest = {"index": 0, "function": {"arguments": '{"city":"Ulm"}'}}
    assert (
        "".join(piece.arguments for piece in calls_in({"tool_calls": [start]}, {"tool_calls": [rest]}))
        == ULM["arguments"]
    )


def test_an_id_may_be_a_number() -> None:
    assert calls_in({"tool_calls": [{"index": 0, "id": 7, "function": ULM}]})[0].id == "7"


# what must come back


def test_what_belongs_to_a_call_comes_with_it() -> None:
    signature = {"google": {"thought_signature": "c2lnbmVk"}}
    call = {"index": 0, "id": "a", "type": "function", "extra_content": signature, "empty": None}
    (piece,) = calls_in({"tool_calls": [{**call, "function": {**ULM, "signature": "s"}}]})
    assert members_of([piece.opaque]) == {"extra_content": signature, "function": {"signature": "s"}}


def test_what_belongs_to_an_answer_is_one_piece_before_its_first_call_and_one_at_its_end() -> None:
    begin = {"thinking_blocks": [{"type": "thinking", "thinking": "I ", "signature": None}]}
    more = {"thinking_blocks": [{"type": "thinking", "thinking": "look.", "signature": None}]}
    signed = {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s1"}]}
    another = {"thinking_blocks": [{"type": "redacted_thinking", "data": "hidden"}]}
    call = {"tool_calls": [{"index": 0, "id": "a", "function": ULM}]}
    pieces, _ = read(events(*map(piece_of, (begin, more, signed, another, call, {"extra_content": {"x": 1}}))))
    first, second, third = pieces
    assert isinstance(first, Opaque)
    assert isinstance(second, CallPiece)
    assert isinstance(third, Opaque)
    assert members_of([first.data, third.data])["members"] == {
        "thinking_blocks": [
            {"type": "thinking", "thinking": "I look.", "signature": "s1"},
            {"type": "redacted_thinking", "data": "hidden"},
        ],
        "extra_content": {"x": 1},
    }


def test_blocks_of_thought_are_told_apart_by_their_index_and_their_signature() -> None:
    def detail(index: int, text: str, **more: Any) -> Any:
        return {"reasoning_details": [{"type": "reasoning.text", "index": index, "text": text, **more}]}

    deltas = (detail(0, "A"), detail(0, "B", signature="s"), detail(0, "C"), detail(1, "D"), detail(1, "E"))
    (piece,), _ = read(events(*map(piece_of, deltas)))
    assert isinstance(piece, Opaque)
    kept = members_of([piece.data])["members"]["reasoning_details"]
    assert [(block["text"], block.get("signature")) for block in kept] == [("AB", "s"), ("C", None), ("DE", None)]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_the_name_of_thoughts_is_kept_and_their_text_is_not(name: str) -> None:
    raw = events(*(piece_of({name: text}) for text in ("Hm. ", "So.")), piece_of({"content": "Yes."}))
    pieces, _ = read(raw)
    assert pieces == [
        Reasoning(text="Hm. "),
        Reasoning(text="So."),
        "Yes.",
        Opaque(data=json.dumps({"thought": name}).replace(" ", "")),
    ]
    plain = Chunks()
    assert [*plain.feed(raw), *plain.end()] == pieces[:3]


def test_opaque_data_has_a_limit() -> None:
    details = [{"type": "reasoning.encrypted", "data": "x" * 1_000_000}]
    assert read(events(*[piece_of({"reasoning_details": details})] * 5)) == ([], "too_long")
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    assert read(events(piece_of({"extra_content": deep}))) == ([], "failed")
