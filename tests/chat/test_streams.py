"""The streams of the APIs as pieces, whatever bytes come: any events, any bytes, any split of them.

What each API means by its events is in `test_chunks.py` for chat completions, and here for the two others.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from statestream.chat.models import CallPiece, Finish, Opaque, Piece, Reasoning, Refusal, Usage
from statestream.chat.models.anthropic_stream import AnthropicStream
from statestream.chat.models.chunks import Chunks
from statestream.chat.models.endpoint import Parser
from statestream.chat.models.responses_stream import ResponsesStream
from tests.support.often import often
from tests.support.pieces import anything, counts, events, members, pieces_from, texts

PARSERS: dict[str, Callable[[], Parser]] = {
    "chat": lambda: Chunks(thoughts=True),
    "messages": AnthropicStream,
    "responses": ResponsesStream,
}


def kinds(*names: str) -> Any:
    return st.sampled_from(names)


numbers = st.integers(0, 3)
blocks = members(
    type=kinds("text", "thinking", "redacted_thinking", "tool_use", "new"),
    text=texts,
    thinking=texts,
    signature=texts,
    data=texts,
    id=texts,
    name=texts,
    input=anything,
)
deltas = members(
    type=kinds("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "new"),
    text=texts,
    thinking=texts,
    signature=texts,
    partial_json=texts,
    stop_reason=kinds("end_turn", "tool_use", "refusal", "new"),
    stop_details=members(explanation=texts),
)
used = members(
    input_tokens=counts,
    output_tokens=counts,
    cache_read_input_tokens=counts,
    cache_creation_input_tokens=counts,
    input_tokens_details=members(cached_tokens=counts),
    output_tokens_details=members(thinking_tokens=counts, reasoning_tokens=counts),
)
items = members(
    type=kinds("message", "reasoning", "function_call", "new"),
    call_id=texts,
    name=texts,
    arguments=texts,
    phase=texts,
    summary=anything,
    encrypted_content=texts,
)
EVENTS: dict[str, Any] = {
    "chat": members(
        choices=st.lists(members(delta=members(content=texts, reasoning=texts), finish_reason=texts), max_size=2),
        usage=used,
        error=anything,
    ),
    "messages": members(
        type=kinds(
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
            "ping",
            "error",
        ),
        index=numbers,
        message=members(usage=used),
        content_block=blocks,
        delta=deltas,
        usage=used,
        error=members(type=kinds("overloaded_error", "new")),
    ),
    "responses": members(
        type=kinds(
            *(
                f"response.{name}"
                for name in (
                    "output_text.delta",
                    "reasoning_summary_text.delta",
                    "reasoning_summary_part.added",
                    "function_call_arguments.delta",
                    "refusal.delta",
                    "output_item.added",
                    "output_item.done",
                    "completed",
                    "incomplete",
                    "failed",
                )
            ),
            "error",
        ),
        output_index=numbers,
        summary_index=numbers,
        delta=texts,
        item=items,
        response=members(usage=used, incomplete_details=members(reason=texts), error=members(code=texts)),
    ),
}
streams = st.sampled_from(sorted(PARSERS)).flatmap(
    lambda api: st.tuples(st.just(api), st.lists(st.one_of(EVENTS[api], EVENTS[api], anything), max_size=6))
)
apis = pytest.mark.parametrize("api", PARSERS)


def read(api: str, *parts: bytes) -> tuple[list[Piece], str | None]:
    """The pieces, and the kind of failure that ended them."""
    return pieces_from(PARSERS[api](), *parts)


def assert_typed(piece: Piece) -> None:
    match piece:
        case str() | Reasoning(text=str()) | Refusal(text=str()) | Finish(reason=str()):
            pass
        case CallPiece(index=int() | None, id=str(), name=str(), arguments=str(), opaque=str()):
            pass
        case Opaque(data=str()):
            assert type(json.loads(piece.data)) is dict
        case Usage():
            assert all(0 <= count < 2**55 for count in (piece.input, piece.output, piece.reasoning, piece.cached))
        case _:
            raise AssertionError(piece)


@settings(max_examples=often(200))
@given(streams)
def test_whatever_events_come_the_pieces_are_what_they_say(stream: tuple[str, list[Any]]) -> None:
    api, values = stream
    for piece in read(api, events(*values))[0]:
        assert_typed(piece)


@given(streams, st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_the_split_of_the_bytes_does_not_matter(stream: tuple[str, list[Any]], splits: list[int], done: bool) -> None:
    api, values = stream
    late = {
        "chat": {"choices": [{"delta": {"content": "too late"}}]},
        "messages": {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "too late"}},
        "responses": {"type": "response.output_text.delta", "delta": "too late"},
    }
    raw = events(*values) + (b"data: [DONE]\n\n" + events(late[api]) if done else b"")
    ends = [0, *sorted(min(split, len(raw)) for split in splits), len(raw)]
    parts = [raw[start:end] for start, end in pairwise(ends)]
    whole = repr(read(api, raw))
    assert "too late" not in whole
    assert repr(read(api, *parts)) == whole
    assert repr(read(api, *(bytes([byte]) for byte in raw))) == whole


@apis
@given(raw=st.binary(max_size=60))
@example(raw=b"data: " + b"[" * 100_000 + b"\n\n")
@example(raw=b"data: " + b"9" * 10_000 + b"\n\n")
@example(raw=b"data: NaN\n\n")
@example(raw=b"data: \xff\xfe\n\n")
@example(raw=b'data: "\\ud800"\n\n')
def test_no_bytes_are_more_than_a_failure(api: str, raw: bytes) -> None:
    read(api, raw)
    read(api, b"data: " + raw + b"\n\n")
    read(api, b"event: error\ndata: " + raw + b"\n\n")


@apis
def test_an_event_has_a_limit(api: str) -> None:
    assert read(api, *[b"data: x\n"] * 10, *[b"data: " + b"x" * (1 << 20)] * 5) == ([], "failed")
    assert read(api, *[b": " + b"x" * 1000 + b"\n"] * 10_000) == ([], None)


# Anthropic's Messages API


def block(content: Any, *deltas: Any, index: int = 0) -> list[Any]:
    grown = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *grown,
        {"type": "content_block_stop", "index": index},
    ]


def stopped(reason: str, **more: Any) -> Any:
    return {"type": "message_delta", "delta": {"stop_reason": reason, **more}, "usage": {"output_tokens": 7}}


def test_a_thought_is_kept_as_it_was_with_the_place_where_it_was() -> None:
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    pieces, failure = read(
        "messages",
        events(
            *block({"type": "text", "text": "So. "}),
            *block(
                thought,
                {"type": "thinking_delta", "thinking": "A "},
                {"type": "thinking_delta", "thinking": "B"},
                {"type": "signature_delta", "signature": "s"},
            ),
            *block({"type": "redacted_thinking", "data": "hidden"}),
            *block({"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "ü"}}),
            *block({**thought, "thinking": "C"}),
            stopped("tool_use"),
        ),
    )
    kept = [json.loads(piece.data) for piece in pieces if isinstance(piece, Opaque)]
    assert (failure, kept) == (
        None,
        [
            {"text": 4, "calls": 0, "item": {"type": "thinking", "thinking": "A B", "signature": "s"}},
            {"text": 4, "calls": 0, "item": {"type": "redacted_thinking", "data": "hidden"}},
            {"text": 4, "calls": 1, "item": {"type": "thinking", "thinking": "C", "signature": ""}},
        ],
    )
    assert [piece for piece in pieces if isinstance(piece, CallPiece)] == [
        CallPiece(index=0, id="t1", name="look", arguments='{"at":"ü"}')
    ]


def test_a_thought_that_is_broken_off_is_not_kept() -> None:
    begun = block({"type": "thinking"}, {"type": "thinking_delta", "thinking": "A "})[:-1]
    assert read("messages", events(*begun)) == ([Reasoning(text="A ")], None)


def test_a_thought_has_a_limit() -> None:
    endless = {"type": "content_block_delta", "delta": {"type": "signature_delta", "signature": "x" * 1_000_000}}
    assert read("messages", events({"type": "content_block_start"}, *[endless] * 5)) == ([], "too_long")


def test_counts_of_later_events_replace_earlier_ones_and_the_cache_is_part_of_the_input() -> None:
    usage = {"input_tokens": 3, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 5, "output_tokens": 1}
    begun = {"type": "message_start", "message": {"usage": usage}}
    later = {**stopped("end_turn"), "usage": {"input_tokens": 4, "cache_read_input_tokens": None, "output_tokens": 9}}
    assert read("messages", events(begun, later)) == (
        [Usage(input=29, output=9, cached=20), Finish(reason="stop")],
        None,
    )


REASONS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "pause_turn": "pause_turn"}


@pytest.mark.parametrize("reason", REASONS)
def test_the_reason_has_the_word_of_all_models(reason: str) -> None:
    assert read("messages", events(stopped(reason)))[0][-1] == Finish(reason=REASONS[reason])


def test_the_explanation_of_a_refusal_stands_apart_from_the_text_before_it() -> None:
    end = stopped("refusal", stop_details={"type": "refusal", "explanation": "It is forbidden."})
    assert read("messages", events(end))[0][0] == Refusal(text="It is forbidden.")
    pieces, _ = read("messages", events(*block({"type": "text", "text": "Well, "}), end))
    assert pieces[:2] == ["Well, ", Refusal(text="\n\nIt is forbidden.")]
    assert read("messages", events(stopped("refusal")))[0][0] == Refusal(text="")


# OpenAI's Responses API


def item(kind: str, index: int = 0, *, done: bool = True, **more: Any) -> Any:
    event = "response.output_item.done" if done else "response.output_item.added"
    return {"type": event, "output_index": index, "item": {"type": kind, **more}}


ULM = '{"city":"Ulm"}'
CALL = {"call_id": "c1", "name": "weather"}


@pytest.mark.parametrize(
    "sent",
    [
        [item("function_call", done=False, **CALL, arguments=""), item("function_call", **CALL, arguments=ULM)],
        [item("function_call", done=False, **CALL, arguments=ULM), item("function_call", **CALL, arguments=ULM)],
        [item("function_call", **CALL, arguments=ULM)],
        [
            item("function_call", done=False, **CALL, arguments=""),
            {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": ULM},
            item("function_call", **CALL, arguments=ULM),
        ],
    ],
    ids=["at its end", "at its beginning", "whole", "in pieces"],
)
def test_the_arguments_of_a_call_are_read_once_whenever_they_come(sent: list[Any]) -> None:
    completed = {"type": "response.completed", "response": {}}
    begun, arguments, finish = read("responses", events(*sent, completed))[0]
    assert begun == CallPiece(index=0, id="c1", name="weather")
    assert arguments == CallPiece(index=0, arguments=ULM)
    assert finish == Finish(reason="tool_calls")


def test_reasoning_is_kept_if_it_is_encrypted_and_without_what_the_provider_rejects() -> None:
    summary = [{"type": "summary_text", "text": "Hm."}]
    reasoning = {"id": "rs_1", "summary": summary, "encrypted_content": "gAAA", "status": None, "content": None}
    pieces, _ = read("responses", events(item("reasoning", **reasoning), item("reasoning", id="rs_2", summary=[])))
    [kept] = [json.loads(piece.data) for piece in pieces if isinstance(piece, Opaque)]
    assert kept["item"] == {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "gAAA"}


def test_paragraphs_of_a_summary_stand_apart() -> None:
    def part(index: int, text: str) -> list[Any]:
        added = {"type": "response.reasoning_summary_part.added", "summary_index": index}
        return [added, {"type": "response.reasoning_summary_text.delta", "summary_index": index, "delta": text}]

    pieces, _ = read("responses", events(*part(0, "One."), *part(1, "Two.")))
    assert "".join(piece.text for piece in pieces if isinstance(piece, Reasoning)) == "One.\n\nTwo."


def test_a_message_keeps_its_phase_and_the_place_where_it_began() -> None:
    text = {"type": "response.output_text.delta", "delta": "I look. "}
    pieces, _ = read(
        "responses",
        events(item("message", done=False), text, item("message", phase="commentary"), item("message", done=False)),
    )
    assert pieces == [
        "I look. ",
        Opaque(data='{"text":0,"calls":0,"item":{"phase":"commentary"}}'),
    ]


CODES = {"rate_limit_exceeded": "rate_limited", "invalid_prompt": "bad_request", "server_error": "failed", "": "failed"}


@pytest.mark.parametrize("code", CODES)
def test_an_error_is_a_failure_of_its_kind(code: str) -> None:
    failed = {"type": "response.failed", "response": {"error": {"code": code, "message": "canary"}}}
    assert read("responses", events(failed)) == ([], CODES[code])
    assert read("responses", events({"type": "error", "code": code, "message": "canary"})) == ([], CODES[code])
    assert read("responses", events({"type": "error", "error": {"code": code}})) == ([], CODES[code])


def test_an_answer_that_is_incomplete_says_why() -> None:
    for reason, word in (("max_output_tokens", "length"), ("content_filter", "content_filter")):
        incomplete = {"type": "response.incomplete", "response": {"incomplete_details": {"reason": reason}}}
        assert read("responses", events(incomplete)) == ([Finish(reason=word)], None)
