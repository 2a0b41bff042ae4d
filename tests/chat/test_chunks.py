"""A provider's bytes as pieces: any JSON, any bytes, any split of them."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statestream.chat.models import CallPiece, Finish, ModelFailed, Piece, Reasoning, Refusal, Usage
from statestream.chat.models.chunks import Chunks, pieces_of

texts = st.text(alphabet=st.characters(), max_size=6)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.just("\ud83d")),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)


def members(**known: Any) -> Any:
    """An object that has some of these members, each of its type or of any other."""
    return st.fixed_dictionaries({}, optional={name: st.one_of(value, anything) for name, value in known.items()})


functions = members(name=texts, arguments=texts)
calls = st.lists(members(index=st.integers(-1, 3), id=texts, function=functions), max_size=3)
deltas = members(content=texts, reasoning=texts, reasoning_content=texts, refusal=texts, tool_calls=calls)
choices = st.lists(members(index=st.integers(0, 2), delta=deltas, finish_reason=texts), max_size=3)
counts = st.integers(-1, 2**70)
details = members(reasoning_tokens=counts, cached_tokens=counts)
usages = members(
    prompt_tokens=counts, completion_tokens=counts, prompt_tokens_details=details, completion_tokens_details=details
)
chunks = st.one_of(members(choices=choices, usage=usages), members(choices=choices, error=texts), anything)


def read(*parts: bytes) -> tuple[list[Piece], str | None]:
    """The pieces, and the kind of failure that ended them."""
    stream, pieces = Chunks(), list[Piece]()
    try:
        for part in parts:
            pieces += stream.feed(part)
    except ModelFailed as failure:
        return pieces, failure.kind
    return pieces + list(stream.end()), None


def events(*values: Any) -> bytes:
    return "".join(f"data: {json.dumps(value)}\n\n" for value in values).encode()


@settings(max_examples=500)
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
        case CallPiece(index=int(), id=str(), name=str(), arguments=str()):
            pass
        case Usage():
            assert all(0 <= count < 2**53 for count in (piece.input, piece.output, piece.reasoning, piece.cached))
        case _:
            raise AssertionError(piece)


@given(st.lists(chunks, max_size=4), st.lists(st.integers(0, 200), max_size=6), st.booleans())
def test_the_split_of_the_bytes_does_not_matter(values: list[Any], splits: list[int], done: bool) -> None:
    raw = events(*values) + (b"data: [DONE]\n\n" + events(piece_of({"content": "too late"})) if done else b"")
    ends = [0, *sorted(min(split, len(raw)) for split in splits), len(raw)]
    parts = [raw[start:end] for start, end in pairwise(ends)]
    whole = repr(read(raw))
    assert "too late" not in whole
    assert repr(read(*parts)) == whole
    assert repr(read(*(bytes([byte]) for byte in raw))) == whole


@given(st.binary(max_size=60))
@example(b"data: " + b"[" * 100_000 + b"\n\n")
@example(b"data: " + b"9" * 10_000 + b"\n\n")
@example(b"data: NaN\n\n")
@example(b"data: \xff\xfe\n\n")
@example(b'data: "\\ud800"\n\n')
def test_no_bytes_are_more_than_a_failure(raw: bytes) -> None:
    read(raw)
    read(b"data: " + raw + b"\n\n")
    read(b"event: error\ndata: " + raw + b"\n\n")


def test_an_event_has_a_limit() -> None:
    assert read(*[b"data: x\n"] * 10, *[b"data: " + b"x" * (1 << 20)] * 5) == ([], "failed")
    assert read(*[b": " + b"x" * 1000 + b"\n"] * 10_000) == ([], None)


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
    }
    chunk = piece_of(delta, finish_reason="stop") | {"usage": {"prompt_tokens": 1}}
    assert list(pieces_of(chunk)) == [
        Reasoning(text="why"),
        "text",
        Refusal(text="no"),
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
