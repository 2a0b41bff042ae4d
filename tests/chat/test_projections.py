"""Projections, without a server: what each protocol says of a reply, from the start and from the middle.

Golden files stand in tests/dialogues; the protocols' own clients read the same files in test_clients_*.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest

from statestream.chat.approvals import Approval
from statestream.chat.messages import text_of
from statestream.chat.protocols.ai_sdk.messages import ui_message
from statestream.chat.protocols.ai_sdk.projection import Held, UIMessageProjection
from statestream.chat.protocols.ai_sdk.routes import DONE
from statestream.chat.protocols.ai_socket.projection import UISocketProjection
from statestream.chat.protocols.text.routes import TextProjection
from statestream.chat.viewing.response import event_stream
from tests.dialogues import DIALOGUES, REPLY, Dialogue, check_golden, look_at, reply_in

every_dialogue = pytest.mark.parametrize("name", DIALOGUES)


def ui_stream(states: list[Any]) -> bytes:
    view = UIMessageProjection(REPLY)
    return b"".join(event_stream(view.new(look_at(state))) for state in states) + DONE


@every_dialogue
def test_the_ui_message_stream_of_who_was_there_from_the_start(name: str) -> None:
    check_golden(f"{name}.ui", ui_stream(DIALOGUES[name]()))


@every_dialogue
def test_the_frames_of_who_was_there_from_the_start_over_a_websocket(name: str) -> None:
    view = UISocketProjection("request", REPLY)
    frames = [frame for state in DIALOGUES[name]() for frame in view.new(look_at(state))]
    check_golden(f"{name}.socket", b"".join(orjson.dumps(frame) + b"\n" for frame in frames))
    assert view.over
    assert view.new(look_at(DIALOGUES[name]()[-1])) == []


@every_dialogue
def test_calls_of_two_replies_have_different_ids(name: str) -> None:
    """Providers and agents may use an id again in their next answer. A front end may take it for the same call."""
    states = DIALOGUES[name]()
    reply = reply_in(states[-1])
    ids = [
        {part["toolCallId"] for part in ui_message({**reply, "id": id})["parts"] if "toolCallId" in part}
        for id in (REPLY, "another")
    ]
    streamed = set(re.findall(r'"toolCallId":"([^"]+)"', ui_stream(states).decode()))
    assert ids[0] == streamed
    assert ids[0].isdisjoint(ids[1])


@every_dialogue
def test_a_ui_message_stream_ends_once(name: str) -> None:
    states = DIALOGUES[name]()
    view = UIMessageProjection(REPLY)
    for state in states:
        view.new(look_at(state))
    assert view.over
    assert view.new(look_at(states[-1])) == []


def test_a_page_that_decides_gets_each_outcome_once() -> None:
    one = Dialogue()
    one.call(0, '{"city": "Ulm"}', id="call_1", name="weather")
    one.call(1, '{"id": 7}', id="call_2", name="order")
    one.called({1: Approval()})
    one.returned(0, {"result": "fine"})
    one.wait()
    one.decide({"part": 1, "approved": True})
    one.returned(1, {"result": "ordered"})
    view = UIMessageProjection(REPLY, Held(parts=2, outcomes=frozenset({"call_1"})))
    chunks = [chunk for state in one.complete() for chunk in view.new(look_at(state))]
    assert [chunk["type"] for chunk in chunks] == ["start", "tool-output-available", "finish"]
    assert chunks[1]["toolCallId"] == "r1:call-1"


@every_dialogue
def test_the_text_of_who_was_there_from_the_start(name: str) -> None:
    view = TextProjection(REPLY)
    check_golden(
        f"{name}.text", "".join(text for state in DIALOGUES[name]() for text in view.new(look_at(state))).encode()
    )


@every_dialogue
def test_text_is_the_same_whenever_one_begins_to_look(name: str) -> None:
    states = DIALOGUES[name]()
    for start in range(len(states)):
        view = TextProjection(REPLY)
        assert "".join(text for state in states[start:] for text in view.new(look_at(state))) == text_of(
            reply_in(states[-1])
        )


@every_dialogue
def test_no_member_of_a_ui_chunk_is_null(name: str) -> None:
    states = DIALOGUES[name]()
    view = UIMessageProjection(REPLY)
    for state in states:
        for chunk in view.new(look_at(state)):
            assert None not in chunk.values()
            assert None not in chunk.get("messageMetadata", {}).values()
        assert None not in ui_message(reply_in(state)).values()
