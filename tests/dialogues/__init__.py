"""Replies as they come to be, and how each protocol shows them: read by the tests in Python and by those in Node.

`DIALOGUES[name]()` gives the states of a chat, oldest first: an empty reply, then one state for each look of a viewer,
until the reply is over, or waits. `<name>.<protocol>` is a file with what a viewer is sent who was there from the
start, in the protocol's own bytes.

Invariants: the states come from the chat's own handlers. A golden file changes only when a protocol's bytes are meant
to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from statestream.chat.agents import AgentPiece, Data, Source, Speaker, Status, StoredFile, ToolResult, ToolUse
from statestream.chat.approvals import Approval
from statestream.chat.messages import find
from statestream.chat.models import CallPiece, Reasoning
from statestream.chat.replies.pieces import add
from statestream.chat.replies.reply_builder import ReplyBuilder
from statestream.chat.slices import approvals, continuations, data
from statestream.chat.slices import conversation as chat
from statestream.chat.slices.approvals import DecisionPayload
from statestream.chat.viewing.projection import Look
from statestream.core.change import Action
from statestream.core.draft import produce

HERE = Path(__file__).parent
KEY, QUESTION, REPLY = "42", "q1", "r1"
FILE = f"/api/chats/{KEY}/files/{'0' * 32}"
AT = 1_795_274_036_624
USAGE = {"input": 12, "output": 34, "reasoning": 5, "cached": 0}


class Dialogue:
    """Builds the states of one chat, one reply."""

    def __init__(
        self, question: Sequence[dict[str, Any]] = ({"type": "text", "text": "What is it?"},), reply: str = REPLY
    ) -> None:
        self.state: Any = chat.chat_slice.initial
        self.states: list[Any] = []
        self.reply, self.builder = reply, ReplyBuilder(KEY, reply, "provider")
        self.act(
            chat.asked(
                KEY,
                question={"id": QUESTION, "parts": list(question), "author": "ana"},
                reply={"id": reply, "run": "run1", "node": "node1", "model": "test-model"},
            )
        )
        self.look()

    def act(self, action: Action) -> None:
        handler = next(handler for handler in chat.chat_slice.handlers if handler.action_type == action.type)
        arguments: dict[str, Any] = dict(action.payload)
        if handler.signature.wants_action:
            arguments["action"] = Action(type=action.type, key=KEY, at=AT + len(self.states))
        self.state, _ = produce(self.state, lambda draft: handler.function(draft, **arguments))

    def look(self) -> None:
        """What was said so far is written, and a viewer looks."""
        for action in self.builder.take():
            self.act(action)
        self.states.append(self.state)

    def say(self, *texts: str) -> None:
        for text in texts:
            self.builder.text("text", text)
            self.look()

    def think(self, *texts: str) -> None:
        for text in texts:
            self.builder.text("reasoning", text)
            self.look()

    def call(self, index: int, *arguments: str, id: str = "", name: str = "") -> None:
        for number, more in enumerate(arguments):
            named = {"id": id, "name": name} if number == 0 else {}
            self.builder.call(CallPiece(index=index, arguments=more, **named))
            self.look()

    def called(self, needed: Mapping[int, Approval] | None = None) -> None:
        self.builder.called(needed or {})
        self.look()

    def wait(self) -> list[Any]:
        """The run has nothing left to do before people decide."""
        self.look()
        self.act(approvals.paused(KEY, reply=REPLY, figures={"duration_ms": 900, "pieces": 2}, usage=USAGE))
        self.states.append(self.state)
        return self.states

    def decide(self, *decisions: DecisionPayload) -> None:
        """People have decided, and viewers who look now see that another run continues."""
        self.act(approvals.decided(KEY, reply=REPLY, decisions=list(decisions), run={"id": "run2", "node": "node2"}))
        self.builder = ReplyBuilder.continuing(KEY, reply_in(self.state), "provider", 0)
        self.states = [self.state]

    def carry_on(self) -> None:
        """The reply has ended, and another one, which viewers see, continues it."""
        cut_off, self.reply = find(self.state, self.reply), REPLY
        place: chat.ReplyPayload = {"id": REPLY, "run": "run2", "node": "node2", "model": "test-model"}
        self.act(continuations.continued(KEY, message=cut_off["id"], reply=place))
        parts = [*continuations.copied(cut_off, REPLY).values()]
        self.builder = ReplyBuilder.beginning_with(KEY, REPLY, parts, "provider", 0)
        self.states = [self.state]

    def returned(self, part: int, outcome: chat.ToolOutcome) -> None:
        self.builder.returned(part, outcome)
        self.look()

    def agent_does(self, *pieces: AgentPiece) -> None:
        """What an agent yields, with a look after each piece."""
        for piece in pieces:
            add(self.builder, piece)
            self.look()

    def end(self, **how: Any) -> list[Any]:
        for action in self.builder.take():
            self.act(action)
        self.act(chat.ended(KEY, reply=self.reply, figures={"duration_ms": 1_200, "pieces": 3}, **how))
        self.states.append(self.state)
        return self.states

    def complete(self) -> list[Any]:
        return self.end(status="complete", finish_reason="stop", usage=USAGE)


def _text() -> list[Any]:
    one = Dialogue()
    one.say("It is ", "a thing — ", "größer 👩‍👩‍👧, and \n\ndone.")
    return one.complete()


def _reasoning() -> list[Any]:
    one = Dialogue()
    one.think("Hmm, ", "let me see.")
    one.say("A", "nswer.")
    return one.complete()


def _tool() -> list[Any]:
    one = Dialogue()
    one.say("I look. ")
    one.call(0, '{"ci', 'ty": "Ulm"}', id="call_1", name="weather")
    one.called()
    one.returned(1, {"result": {"celsius": [20, 21]}})
    one.say("It is ", "20 degrees.")
    return one.complete()


def _tools() -> list[Any]:
    """Two calls at once, whose arguments come interleaved, one of which fails; then another step with a third."""
    one = Dialogue()
    one.think("Two cities.")
    one.call(0, '{"city"', id="call_1", name="weather")
    one.call(1, '{"city": "At', id="call_2", name="weather")
    one.call(0, ': "Ulm"}')
    one.call(1, 'lantis"}')
    one.called()
    one.returned(2, {"error": "There is no weather in Atlantis."})
    one.returned(1, {"result": [20]})
    one.call(0, "{}", id="call_3", name="now")
    one.called()
    one.returned(3, {"result": "noon"})
    one.say("Done.")
    return one.complete()


def _bad_arguments() -> list[Any]:
    one = Dialogue()
    one.call(0, '{"city": Ulm', id="call_1", name="weather")
    one.called()
    one.returned(0, {"error": "The arguments or the result of weather are no JSON."})
    one.say("Sorry.")
    return one.complete()


def _agent() -> list[Any]:
    """An agent with tools of its own, data, files and sources, in two steps."""
    one = Dialogue()
    one.agent_does(
        Status(text="Looking at your orders"),
        Reasoning(text="Which ones?"),
        "I look. ",
        ToolUse(id="a", name="orders", arguments={"of": "ana"}),
        ToolUse(id="b", name="stock"),
        Data(name="progress", data={"done": 0.5}),
        ToolResult(id="b", error="The stock is closed."),
        ToolResult(id="a", result=[{"order": 7}]),
        Status(text="Writing"),
        Source(url="https://example.org/orders/7", title="Order 7"),
        "You have ",
        Data(name="orders", data=[7]),
        "one order.",
        StoredFile(
            part={"type": "file", "mediaType": "application/pdf", "url": FILE, "filename": "Rechnung für ana.pdf"},
            actions=[],
        ),
        StoredFile(part={"type": "file", "mediaType": "image/png", "url": FILE}, actions=[]),
        Source(url="https://example.org/"),
    )
    return one.complete()


def _handed_over() -> list[Any]:
    """An agent hands over to another one, whose framework has agents of its own."""
    one = Dialogue()
    one.agent_does("I look. ", ToolUse(id="a", name="orders"), ToolResult(id="a", result=7))
    one.builder.hand_over("billing", "test-model", "Order 7.")
    one.look()
    one.agent_does("It is ", "paid.", Speaker(agent="refunds"), Reasoning(text="Hm."), "No refund.")
    return one.complete()


def _nested() -> list[Any]:
    """Two agents that work for another one at the same time, one of them with a tool, and a third within the second."""
    one = Dialogue()
    one.agent_does(Reasoning(text="Whom? "), "I ask. ")
    first, second = (one.builder.begin_run(name, "Write.", None) for name in ("writer", "critic"))
    inner, other = one.builder.nested(first), one.builder.nested(second)
    for builder, piece in (
        (inner, Reasoning(text="Well")),
        (other, "Too "),
        (inner, Reasoning(text=", well.")),
        (inner, "A draft. "),
        (other, "lo"),
        (inner, ToolUse(id="a", name="look")),
        (other, "ng. "),
        (inner, ToolResult(id="a", result=1)),
        (inner, Data(name="words", data=3)),
        (inner, "Done."),
    ):
        add(builder, piece)
        one.look()
    third = other.begin_run("checker", "Check.", None)
    add(other.nested(third), "Fine")
    one.look()
    other.end_run(third, {"result": "Fine"})
    add(other, "So be it.")
    one.look()
    one.builder.end_run(second, {"error": "It is too long."})
    one.look()
    one.builder.end_run(first, {"result": "Done."})
    one.look()
    one.agent_does("They ", "say: Done.")
    return one.complete()


def _data() -> list[Any]:
    """Data that is replaced, and data that passes."""
    one = Dialogue()
    one.agent_does(
        Data(name="progress", data={"done": 0}, id="p"),
        Data(name="hint", data="Wait.", transient=True),
        "I count. ",
        Data(name="progress", data=[1], id="q"),
        Data(name="progress", data={"done": 1}, id="p"),
        Data(name="hint", data={"n": 2}, id="h", transient=True),
        Data(name="progress", data=[2], id="q"),
        "Done.",
    )
    one.act(data.untold(KEY, reply=REPLY))
    return one.complete()


def _waiting() -> list[Any]:
    """Two calls that need approval, and one that does not."""
    one = Dialogue()
    one.say("I order. ")
    one.call(0, '{"city": "Ulm"}', id="call_1", name="weather")
    one.call(1, '{"id": 7}', id="call_2", name="order")
    one.call(2, '{"id": 8}', id="call_3", name="order")
    one.called({2: Approval(role="buyer", seconds=60), 3: Approval()})
    one.returned(1, {"result": "fine"})
    return one.wait()


def _approved() -> list[Any]:
    """What comes after somebody has approved one of the calls, with other arguments, and denied the other one."""
    one = Dialogue()
    one.say("I order. ")
    one.call(0, '{"id": 7}', id="call_1", name="order")
    one.call(1, '{"id": 8}', id="call_2", name="order")
    one.called({1: Approval(), 2: Approval()})
    one.wait()
    one.decide(
        {"part": 1, "approved": True, "arguments": '{"id": 70}'}, {"part": 2, "approved": False, "reason": "Too dear."}
    )
    one.returned(1, {"result": "ordered"})
    one.say("Seventy it ", "is.")
    return one.complete()


def _stopped() -> list[Any]:
    one = Dialogue()
    one.say("As far ", "as it got")
    return one.end(status="stopped")


def _continued() -> list[Any]:
    """A reply that begins with what another one had said and done when it was stopped."""
    one = Dialogue(reply="r0")
    one.think("Hmm.")
    one.call(0, "{}", id="call_1", name="weather")
    one.called()
    one.returned(1, {"result": "fine"})
    one.say("It is ", "as fi")
    one.call(0, '{"ci', id="call_2", name="weather")
    one.end(status="stopped")
    one.carry_on()
    one.say("ne as ", "ever.")
    return one.complete()


def _stopped_in_a_tool() -> list[Any]:
    one = Dialogue()
    one.say("I look. ")
    one.call(0, '{"city": "Ulm"}', id="call_1", name="weather")
    one.called()
    return one.end(status="stopped")


def _failed() -> list[Any]:
    one = Dialogue()
    one.say("As far ", "as it got")
    return one.end(status="error", error={"kind": "connection", "message": "The connection to the model was lost."})


def _failed_at_once() -> list[Any]:
    error = {"kind": "rate_limited", "message": "The model is asked too often just now. Try again in a while."}
    return Dialogue().end(status="error", error=error)


def _at_once() -> list[Any]:
    """All of a reply between two looks."""
    one = Dialogue()
    one.builder.text("reasoning", "Quick.")
    one.builder.text("text", "All at once.")
    return one.complete()


def _file() -> list[Any]:
    picture = {
        "type": "file",
        "mediaType": "image/png",
        "url": "data:image/png;base64,iVBORw0KGgo=",
        "filename": "p.png",
    }
    one = Dialogue([{"type": "text", "text": "What is this?"}, picture])
    one.say("A picture.")
    return one.complete()


DIALOGUES: dict[str, Callable[[], list[Any]]] = {
    "text": _text,
    "reasoning": _reasoning,
    "tool": _tool,
    "tools": _tools,
    "bad_arguments": _bad_arguments,
    "stopped": _stopped,
    "stopped_in_a_tool": _stopped_in_a_tool,
    "failed": _failed,
    "failed_at_once": _failed_at_once,
    "at_once": _at_once,
    "file": _file,
    "agent": _agent,
    "waiting": _waiting,
    "approved": _approved,
    "continued": _continued,
    "handed_over": _handed_over,
    "nested": _nested,
    "data": _data,
}


def reply_in(state: Any) -> Any:
    return find(state, REPLY)


def look_at(state: Any) -> Look:
    """What a viewer of the chat alone sees."""
    return Look(state=state)


def check_golden(name: str, sent: bytes) -> None:
    """The file `name` holds these bytes. GOLDEN=write makes it so, where a protocol is meant to say something else."""
    path = HERE / name
    if os.environ.get("GOLDEN") == "write":
        path.write_bytes(sent)
    assert sent == path.read_bytes()
