"""The message that the AI SDK's client makes of a UI message stream.

Written after the SDK's `processUIMessageStream`, majors 6 and 7, but stricter: what the SDK ignores or repairs is a
violation here.

Invariants: pure. A client that resumes begins the message again, and must be given the same id: the SDK would show
another message. The text of a tool's arguments is held apart until they are complete.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from statestream.core.values import canonical
from statestream.tools.conformance.chats.event_blocks import data_of, object_of, text_of
from statestream.tools.conformance.violation import Violation, expect

DONE: Final = b"[DONE]"
WRITTEN: Final = ("text", "reasoning")
SETTLED: Final = ("output-available", "output-error", "output-denied")
WAITING: Final = ("approval-requested", "approval-responded", "input-available")
METADATA: Final = "providerMetadata"
EXECUTED: Final = "providerExecuted"
ENDS: Final = ("finish", "abort", "error")

Chunk = dict[str, Any]
UIPart = dict[str, Any]


class UIMessageReader:
    """`take` reads a block of an event stream, `chunk` a chunk. `over`: the stream has said how it ended."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {}
        self.error: str | None = None
        self.over = False
        self._id: str | None = None
        self._settled: set[str] = set()
        """The calls whose outcomes have arrived."""
        self._begin_stream()

    def begin(self) -> None:
        """A stream begins. It shows the reply from its beginning."""
        self.message, self._settled = {"role": "assistant", "parts": []}, set()
        self._begin_stream()

    def go_on(self) -> None:
        """A stream begins that continues the message."""
        self._begin_stream()

    def load(self, message: Mapping[str, Any]) -> None:
        """The page is loaded with the message."""
        self._check_id(message["id"])
        self.message, self.over = copy.deepcopy(dict(message)), True
        self._settled = {part["toolCallId"] for part in message["parts"] if part.get("state") in SETTLED}

    def _begin_stream(self) -> None:
        self.over, self._done, self._started = False, False, False
        self.error = None
        self._open: dict[tuple[str, str], UIPart] = {}
        self._arguments: dict[str, str] = {}

    # what it holds

    def held(self) -> dict[str, Any]:
        """The message, without the decisions about calls that have ended: a stream has no chunk for these."""
        return {**self.message, "parts": [_without_decision(part) for part in self.message.get("parts", ())]}

    def texts(self) -> dict[str, str]:
        """The texts of all parts, the arguments and the outcomes of tools."""
        found = {}
        for index, part in enumerate(self.message.get("parts", ())):
            if part["type"] in WRITTEN:
                found[f"{part['type']} part {index}"] = part["text"]
            elif "toolCallId" in part:
                call = part["toolCallId"]
                found |= {f"the {name} of {call}": _json(part[name]) for name in ("input", "output") if name in part}
        return found

    @property
    def waits(self) -> bool:
        """Whether a tool call waits for somebody."""
        parts = self.message.get("parts", ())
        return any(part.get("state") in WAITING and not part.get(EXECUTED) for part in parts)

    # what it reads

    def take(self, block: bytes) -> None:
        """Raises Violation."""
        data = data_of(block)
        expect(not self._done, f"expected nothing after [DONE], got {text_of(data)[:80]!r}")
        if data == DONE:
            expect(self.over, "expected finish, abort or error before [DONE]")
            self._done = True
            return
        self.chunk(object_of(data))

    def chunk(self, chunk: Chunk) -> None:
        """Raises Violation."""
        kind = str(chunk["type"])
        expect(not self.over, f"expected nothing after the end of the message, got {kind}")
        expect(self._started or kind == "start", f"expected start as the first chunk, got {kind}")
        name, _, what = kind.rpartition("-")
        try:
            if name in WRITTEN:
                self._written(name, what, chunk)
            elif kind.startswith("tool-"):
                self._tool(kind, chunk)
            else:
                self._other(kind, chunk)
        except KeyError as missing:
            raise Violation(f"expected {missing} in a {kind} chunk, got none") from None

    def _written(self, kind: str, what: str, chunk: Chunk) -> None:
        key = (kind, chunk["id"])
        if what == "start":
            expect(key not in self._open, f"expected {kind} {chunk['id']} to begin once, got another {kind}-start")
            numbered = {"id": chunk["id"]} if kind == "reasoning" else {}
            self._open[key] = {"type": kind, **numbered, **_also(chunk, METADATA), "text": "", "state": "streaming"}
            self._parts.append(self._open[key])
            return
        expect(key in self._open, f"expected {kind}-start before {kind}-{what} of {chunk['id']}")
        if what == "delta":
            self._open[key]["text"] += chunk["delta"]
        else:
            expect(what == "end", f"expected a chunk of the protocol, got {kind}-{what}")
            self._open.pop(key)["state"] = "done"

    def _tool(self, kind: str, chunk: Chunk) -> None:
        call = chunk["toolCallId"]
        part = next((part for part in reversed(self._parts) if part.get("toolCallId") == call), None)
        if kind == "tool-input-start":
            expect(part is None, f"expected call {call} to begin once, got another tool-input-start")
            self._arguments[call] = ""
            begun = {"type": f"tool-{chunk['toolName']}", "toolCallId": call, "state": "input-streaming"}
            self._parts.append({**begun, **_also(chunk, EXECUTED)})
            return
        if part is None:
            raise Violation(f"expected tool-input-start before {kind} of {call}")
        expect(call not in self._settled, f"expected nothing after the outcome of {call}, got {kind}")
        if kind == "tool-input-delta":
            expect(part["state"] == "input-streaming", f"expected no more arguments of {call}, got {kind}")
            self._arguments[call] += chunk["inputTextDelta"]
            return
        part |= {**_news(kind, chunk), **_also(chunk, EXECUTED)}
        if part["state"] in SETTLED:
            self._settled.add(call)

    def _other(self, kind: str, chunk: Chunk) -> None:
        match kind:
            case "start":
                expect(not self._started, "expected one start in a stream, got another one")
                self._started = True
                self._check_id(chunk["messageId"])
                self.message["id"] = chunk["messageId"]
            case "start-step":
                self._parts.append({"type": "step-start"})
            case "finish-step" | "message-metadata" | "finish" | "abort":
                pass
            case "error":
                self.error = chunk["errorText"]
            case "source-url" | "file":
                self._parts.append(chunk)
            case _:
                expect(kind.startswith("data-"), f"expected a chunk of the protocol, got {kind}")
                if not chunk.get("transient"):
                    self._data(chunk)
        self._merge(chunk.get("messageMetadata", {}))
        self.over = kind in ENDS

    def _data(self, chunk: Chunk) -> None:
        """Data with the id of earlier data takes its place."""
        same = (part for part in self._parts if part["type"] == chunk["type"] and part.get("id") == chunk.get("id"))
        earlier = next(same, None) if "id" in chunk else None
        if earlier is None:
            self._parts.append(chunk)
        else:
            earlier["data"] = chunk["data"]

    def _merge(self, more: Mapping[str, Any]) -> None:
        if more:
            self.message["metadata"] = _merged(self.message.get("metadata", {}), more)

    def _check_id(self, id: str) -> None:
        known = self._id is None or id == self._id
        expect(known, f"expected the message {self._id} again, got {id}: a client would show the reply twice")
        self._id = id

    @property
    def _parts(self) -> list[UIPart]:
        parts: list[UIPart] = self.message["parts"]
        return parts


def _also(chunk: Chunk, name: str) -> UIPart:
    """A member that a part takes over from its chunks."""
    return {name: chunk[name]} if name in chunk else {}


def _news(kind: str, chunk: Chunk) -> UIPart:
    """What a chunk changes in the part of its tool call. Raises Violation."""
    match kind:
        case "tool-input-available":
            return {"state": "input-available", "input": chunk["input"]}
        case "tool-input-error":
            return {"state": "output-error", "input": chunk["input"], "errorText": chunk["errorText"]}
        case "tool-approval-request":
            return {"state": "approval-requested", "approval": {"id": chunk["approvalId"]}}
        case "tool-output-available":
            return {"state": "output-available", "output": chunk["output"]}
        case "tool-output-error":
            return {"state": "output-error", "errorText": chunk["errorText"]}
        case "tool-output-denied":
            return {"state": "output-denied"}
    raise Violation(f"expected a chunk of the protocol, got {kind}")


def _merged(before: Any, more: Any) -> Any:
    if not isinstance(before, dict) or not isinstance(more, dict):
        return more
    return {**before, **{name: _merged(before.get(name), value) for name, value in more.items()}}


def _without_decision(part: UIPart) -> UIPart:
    if part.get("state") == "approval-requested":
        return part
    return {name: value for name, value in part.items() if name != "approval"}


def _json(value: Any) -> str:
    return canonical(value).decode()
