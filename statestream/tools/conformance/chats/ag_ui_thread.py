"""The messages that AG-UI's client makes of the events of a thread, and how the last run ended.

Written after the client's own `verify` and `apply`. What the client drops with a warning is a violation here.

Invariants: pure. A client that comes back posts the messages that it holds and runs again; the snapshot at the
beginning of the run leaves the messages that it knows where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from statestream.tools.conformance.chats.event_blocks import data_of, object_of
from statestream.tools.conformance.violation import Violation, expect

TEXT: Final = "TEXT_MESSAGE"
THOUGHT: Final = "REASONING_MESSAGE"
CALL: Final = "TOOL_CALL"
SPAN: Final = "REASONING"
STEP: Final = "STEP"
KEPT: Final = ("reasoning", "activity")
"""The roles of messages that a client keeps if a snapshot has none of them."""
DECLARED: Final = "@ag-ui/client"
"""Metadata of a snapshot, which may say that no activities are missing."""
ROLES: Final = {TEXT: "assistant", THOUGHT: "reasoning"}
ENDING: Final = ("outcome", "message", "code", "usage")

AGEvent = dict[str, Any]


class ThreadReader:
    """`over`: the last run has ended; `waits`: because its reply waits for somebody. At first, it holds a question."""

    def __init__(self, question: dict[str, Any]) -> None:
        self.messages: list[dict[str, Any]] = [question]
        self._own: set[str] = set()
        self.ending: AGEvent = {}
        self.runs = 0
        self.over = False
        self._running: str | None = None
        self._open: set[tuple[str, str]] = set()

    def begin(self) -> None:
        """A stream begins."""
        self._running, self.runs, self.over, self._open = None, 0, False, set()

    def add_result(self, id: str, call: str, content: str) -> None:
        """The client has run a tool. The server's message with that result takes the place of this one."""
        self._own.add(id)
        self.messages.append({"id": id, "role": "tool", "toolCallId": call, "content": content})

    def held(self) -> dict[str, Any]:
        return {"messages": self.messages, "ending": self.ending}

    def texts(self) -> dict[str, str]:
        """The contents of all messages, and the arguments of tools."""
        found = {}
        for message in self.messages:
            if isinstance(message.get("content"), str) and message["id"] not in self._own:
                found[f"the {message['role']} message {message['id']}"] = message["content"]
            for call in message.get("toolCalls", ()):
                found[f"the arguments of {call['id']}"] = call["function"]["arguments"]
        return found

    @property
    def waits(self) -> bool:
        outcome = self.ending.get("outcome", {})
        return outcome.get("type") == "interrupt" or "pendingToolCallIds" in outcome

    @property
    def interrupts(self) -> list[str]:
        """The ids of what the last run has asked."""
        return [interrupt["id"] for interrupt in self.ending.get("outcome", {}).get("interrupts", ())]

    def take(self, block: bytes) -> None:
        """Raises Violation."""
        event = object_of(data_of(block))
        kind = str(event["type"])
        self._check_order(kind)
        apply = APPLY.get(kind)
        if apply is None:
            raise Violation(f"expected an event of the protocol, got {kind}")
        try:
            apply(self, event)
        except KeyError as missing:
            raise Violation(f"expected {missing} in {kind}, got none") from None

    def _check_order(self, kind: str) -> None:
        if kind == "RUN_STARTED":
            expect(self._running is None, "expected a run to end before another one, got RUN_STARTED")
        elif kind != "RUN_ERROR":
            expect(self._running is not None, f"expected events in a run only, got {kind}")
        else:
            expect(self._running is not None or not self.runs, "expected one end of a run, got RUN_ERROR")

    # runs

    def started(self, event: AGEvent) -> None:
        self._running, self.over, self._open = event["runId"], False, set()
        self.runs, self.ending = self.runs + 1, {}

    def ended(self, event: AGEvent) -> None:
        if event["type"] == "RUN_FINISHED":
            names = ", ".join(sorted(name for _, name in self._open))
            expect(not self._open, f"expected everything to be closed at RUN_FINISHED, got {names} open")
            expect(event["runId"] == self._running, f"expected {self._running} to finish, got {event['runId']}")
        self._running, self.over = None, True
        self.ending = {"type": event["type"], **{name: event[name] for name in ENDING if name in event}}

    def snapshot(self, event: AGEvent) -> None:
        new = {message["id"]: message for message in event["messages"]}
        expect(len(new) == len(event["messages"]), "expected different ids in MESSAGES_SNAPSHOT, got one twice")
        missing = set(KEPT) - {message["role"] for message in event["messages"]}
        declared = event.get("metadata", {}).get(DECLARED, {})
        if declared.get("authoritativeActivityTypes", ()) is None:
            missing -= {"activity"}
        kept = [message for message in self.messages if message["id"] in new or message["role"] in missing]
        self.messages = [new.pop(message["id"], message) for message in kept]
        self.messages += new.values()

    # what grows

    def opened(self, event: AGEvent) -> None:
        kind, id = _span(event, "_STARTED" if event["type"] == "STEP_STARTED" else "_START")
        expect((kind, id) not in self._open, f"expected {id} to be opened once, got another {event['type']}")
        self._open.add((kind, id))
        if kind in ROLES:
            role = event["role"] if kind == THOUGHT else event.get("role", ROLES[kind])
            self._message(id, role)
        elif kind == CALL:
            self._call(id, event)

    def grew(self, event: AGEvent) -> None:
        kind, id = _span(event, "_ARGS" if event["type"] == "TOOL_CALL_ARGS" else "_CONTENT")
        expect((kind, id) in self._open, f"expected {id} to be opened before {event['type']}")
        if kind == CALL:
            _, call = self._owner(id)
            call["function"]["arguments"] += event["delta"]
        else:
            message = self._find(id)
            message["content"] = message.get("content", "") + event["delta"]

    def closed(self, event: AGEvent) -> None:
        span = _span(event, "_FINISHED" if event["type"] == "STEP_FINISHED" else "_END")
        expect(span in self._open, f"expected {span[1]} to be opened before {event['type']}")
        self._open.discard(span)

    def _message(self, id: str, role: str) -> None:
        if any(message["id"] == id for message in self.messages):
            found = self._find(id)["role"]
            expect(found == role, f"expected {id} to stay a message of {found}, got {role}")
        else:
            self.messages.append({"id": id, "role": role, "content": ""})

    def _find(self, id: str) -> dict[str, Any]:
        found = next((message for message in self.messages if message["id"] == id), None)
        if found is None:
            raise Violation(f"expected a message {id}, got none")
        return found

    # tools

    def _call(self, id: str, event: AGEvent) -> None:
        if any(call["id"] == id for message in self.messages for call in message.get("toolCalls", ())):
            return  # the snapshot has it
        parent = event.get("parentMessageId", id)
        if not any(message["id"] == parent for message in self.messages):
            self.messages.append({"id": parent, "role": "assistant"})
        message = self._find(parent)
        expect(message["role"] == "assistant", f"expected {parent} to be an assistant's, it is {message['role']}'s")
        function = {"name": event["toolCallName"], "arguments": ""}
        message.setdefault("toolCalls", []).append({"id": id, "type": "function", "function": function})

    def _owner(self, id: str) -> tuple[int, dict[str, Any]]:
        """Where the message with that call is, and the call."""
        for index, message in enumerate(self.messages):
            for call in message.get("toolCalls", ()):
                if call["id"] == id:
                    return index, call
        raise Violation(f"expected a tool call {id}, got none")

    def returned(self, event: AGEvent) -> None:
        """The client puts a result behind the results that the message with the call already has."""
        id, call = event["messageId"], event["toolCallId"]
        known = any(message["id"] == id for message in self.messages)
        expect(not known, f"expected the result {id} once, got it again")
        index = self._owner(call)[0] + 1
        while index < len(self.messages) and self.messages[index]["role"] == "tool":
            index += 1
        self.messages.insert(index, {"id": id, "role": "tool", "toolCallId": call, "content": event["content"]})

    def activity(self, event: AGEvent) -> None:
        """An activity with a known id takes the place of the earlier one."""
        content = {"activityType": event["activityType"], "content": event["content"]}
        activity = {"id": event["messageId"], "role": "activity", **content}
        known = [message["id"] for message in self.messages]
        if activity["id"] in known:
            self.messages[known.index(activity["id"])] = activity
        else:
            self.messages.append(activity)

    def custom(self, event: AGEvent) -> None:
        """Something for the program alone."""
        expect(event["name"], "expected a name in CUSTOM")


def _span(event: AGEvent, suffix: str) -> tuple[str, str]:
    kind = str(event["type"]).removesuffix(suffix)
    name = {CALL: "toolCallId", STEP: "stepName"}.get(kind, "messageId")
    return kind, event[name]


APPLY: Final[dict[str, Callable[[ThreadReader, AGEvent], None]]] = {
    "RUN_STARTED": ThreadReader.started,
    "RUN_FINISHED": ThreadReader.ended,
    "RUN_ERROR": ThreadReader.ended,
    "MESSAGES_SNAPSHOT": ThreadReader.snapshot,
    **{f"{kind}_START": ThreadReader.opened for kind in (TEXT, THOUGHT, CALL, SPAN)},
    **{f"{kind}_CONTENT": ThreadReader.grew for kind in (TEXT, THOUGHT)},
    "TOOL_CALL_ARGS": ThreadReader.grew,
    **{f"{kind}_END": ThreadReader.closed for kind in (TEXT, THOUGHT, CALL, SPAN)},
    "STEP_STARTED": ThreadReader.opened,
    "STEP_FINISHED": ThreadReader.closed,
    "TOOL_CALL_RESULT": ThreadReader.returned,
    "ACTIVITY_SNAPSHOT": ThreadReader.activity,
    "CUSTOM": ThreadReader.custom,
}
