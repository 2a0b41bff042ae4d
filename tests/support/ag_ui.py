"""What AG-UI's client makes of events, in Python: the same order, the same list of messages, the same refusals.

Invariants: written after the client's own `verify` and `apply`, and shares no code with the product. What it does not
know it refuses.
"""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
from ag_ui.core import Event
from pydantic import TypeAdapter

MODEL: TypeAdapter[Any] = TypeAdapter(Event)
TEXT, CALL, SPAN, THOUGHT = "TEXT_MESSAGE", "TOOL_CALL", "REASONING", "REASONING_MESSAGE"


def events_of(stream: bytes) -> list[Any]:
    """The events of a stream, each a frame of its own, which the protocol's models accept without anything unknown."""
    assert b"\r" not in stream
    frames = stream.split(b"\n\n")
    assert frames.pop() == b""
    events = []
    for frame in frames:
        assert frame.startswith(b"data: ")
        events.append(json.loads(frame.removeprefix(b"data: ")))
        check(MODEL.validate_python(events[-1]), events[-1])
    return events


def check(model: Any, event: Any) -> None:
    assert model.model_dump(mode="json", by_alias=True, exclude_none=True) == event, "something is null or unknown"
    assert not model.model_extra, model.model_extra


class Client:
    """The messages and the state that one stream leads to."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.state: Any = None
        self.runs: list[Any] = []
        self.open: set[tuple[str, str]] = set()
        self.running = False

    def cut(self) -> None:
        """The connection is lost."""
        self.running, self.open = False, set()

    def take(self, events: list[Any]) -> None:
        for event in events:
            self.apply(event)

    def apply(self, event: Any) -> None:
        kind = event["type"]
        if kind == "RUN_STARTED":
            assert not self.running
            self.running, self.open = True, set()
            self.runs.append([event])
            return
        if kind == "RUN_ERROR":
            assert self.running or not self.runs or self.runs[-1][-1]["type"] != "RUN_ERROR"
        else:
            assert self.running, f"{kind} outside of a run"
        if self.runs:
            self.runs[-1].append(event)
        getattr(self, f"on_{kind.lower()}")(event)

    def on_run_finished(self, event: Any) -> None:
        assert not self.open, f"{self.open} still open"
        assert event["runId"] == self.runs[-1][0]["runId"]
        self.running = False

    def on_run_error(self, event: Any) -> None:
        self.running = False

    def on_messages_snapshot(self, event: Any) -> None:
        new = {message["id"]: message for message in event["messages"]}
        assert len(new) == len(event["messages"])
        missing = {"reasoning", "activity"} - {message["role"] for message in event["messages"]}
        if event.get("metadata", {}).get("@ag-ui/client", {}).get("authoritativeActivityTypes", ()) is None:
            missing -= {"activity"}
        kept = [m for m in self.messages if m["id"] in new or m["role"] in missing]
        self.messages = [new.pop(message["id"], message) for message in kept]
        self.messages += new.values()

    def on_custom(self, event: Any) -> None:
        assert event["name"] == "status" or event["name"].startswith("data-")

    def on_activity_snapshot(self, event: Any) -> None:
        shown = {"activityType": event["activityType"], "content": event["content"]}
        message = {"id": event["messageId"], "role": "activity", **shown}
        known = [each["id"] for each in self.messages]
        if event["messageId"] in known:
            assert event["replace"]
            self.messages[known.index(event["messageId"])] = message
        else:
            self.messages.append(message)

    # text and reasoning

    def on_text_message_start(self, event: Any) -> None:
        self.begin(TEXT, event["messageId"])
        self.message(event["messageId"], event["role"])

    def on_text_message_content(self, event: Any) -> None:
        self.grow(TEXT, event)

    def on_text_message_end(self, event: Any) -> None:
        self.open.remove((TEXT, event["messageId"]))

    def on_reasoning_start(self, event: Any) -> None:
        self.begin(SPAN, event["messageId"])

    def on_reasoning_message_start(self, event: Any) -> None:
        self.begin(THOUGHT, event["messageId"])
        self.message(event["messageId"], event["role"])

    def on_reasoning_message_content(self, event: Any) -> None:
        self.grow(THOUGHT, event)

    def on_reasoning_message_end(self, event: Any) -> None:
        self.open.remove((THOUGHT, event["messageId"]))

    def on_reasoning_end(self, event: Any) -> None:
        self.open.remove((SPAN, event["messageId"]))

    def begin(self, kind: str, name: str) -> None:
        assert (kind, name) not in self.open
        self.open.add((kind, name))

    def grow(self, kind: str, event: Any) -> None:
        assert (kind, event["messageId"]) in self.open
        message = self.find(event["messageId"])
        message["content"] = message.get("content", "") + event["delta"]

    def find(self, message_id: str) -> Any:
        return next((message for message in self.messages if message["id"] == message_id), None)

    def message(self, message_id: str, role: str) -> None:
        found = self.find(message_id)
        assert found is None or found["role"] == role
        if found is None:
            self.messages.append({"id": message_id, "role": role, "content": ""})

    # tools

    def owner(self, call: str) -> Any:
        return next((m for m in self.messages if any(c["id"] == call for c in m.get("toolCalls", ()))), None)

    def on_tool_call_start(self, event: Any) -> None:
        self.begin(CALL, event["toolCallId"])
        if self.owner(event["toolCallId"]) is not None:
            return
        parent = self.find(event["parentMessageId"])
        if parent is None:
            parent = {"id": event["parentMessageId"], "role": "assistant"}
            self.messages.append(parent)
        assert parent["role"] == "assistant"
        function = {"name": event["toolCallName"], "arguments": ""}
        parent.setdefault("toolCalls", []).append({"id": event["toolCallId"], "type": "function", "function": function})

    def on_tool_call_args(self, event: Any) -> None:
        assert (CALL, event["toolCallId"]) in self.open
        calls = self.owner(event["toolCallId"])["toolCalls"]
        call = next(call for call in calls if call["id"] == event["toolCallId"])
        call["function"]["arguments"] += event["delta"]

    def on_tool_call_end(self, event: Any) -> None:
        self.open.remove((CALL, event["toolCallId"]))

    def on_tool_call_result(self, event: Any) -> None:
        assert self.find(event["messageId"]) is None
        said = {"id": event["messageId"], "role": "tool", "toolCallId": event["toolCallId"]}
        index = self.messages.index(self.owner(event["toolCallId"])) + 1
        while index < len(self.messages) and self.messages[index]["role"] == "tool":
            index += 1
        self.messages.insert(index, {**said, "content": event["content"]})

    # state

    def on_state_snapshot(self, event: Any) -> None:
        self.state = event["snapshot"]

    def on_state_delta(self, event: Any) -> None:
        self.state = jsonpatch.apply_patch(self.state, event["delta"])
