"""The turns that a model receives, in process: whatever the history of a chat, every provider accepts them.

The rules are written down twice: in `chat/replies/turns.py`, and here as a grammar, by other means.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.chat.messages import path
from statestream.chat.models import ToolCall, Turn
from statestream.chat.replies.turns import turns_of
from statestream.chat.slices import conversation
from statestream.chat.slices.provider import Sent
from statestream.core.change import Action
from statestream.core.draft import produce
from statestream.core.errors import Refused
from tests.support.often import often

WHOLE = re.compile(r"(u(ct+)*a)*u(ct+)*")
"""A conversation: u(ser), a(ssistant), c(alls of the assistant), t(he outcome of one)."""


def grammar(turns: Sequence[Turn]) -> str:
    letters = {"user": "u", "tool": "t", "assistant": "a"}
    return "".join("c" if turn.calls else letters[turn.role] for turn in turns)


def check(turns: Sequence[Turn]) -> None:
    assert WHOLE.fullmatch(grammar(turns)), grammar(turns)
    expected: list[str] = []
    seen: set[str] = set()
    for turn in turns:
        if turn.role == "tool":
            assert turn.answers == expected.pop(0)
        else:
            assert not expected
        assert turn.text.strip() or turn.images or (turn.calls and not turn.text)
        for call in turn.calls:
            assert call.id not in seen
            assert re.fullmatch("[a-zA-Z0-9_-]{1,64}", call.name)
            assert type(json.loads(call.arguments)) is dict
            seen.add(call.id)
        expected += [call.id for call in turn.calls]
    assert not expected


class History:
    """One chat, changed by the actions that really change one."""

    def __init__(self) -> None:
        self.state: Any = conversation.chat_slice.initial
        self.handlers = {handler.action_type: handler for handler in conversation.chat_slice.handlers}
        self.count = 0

    def do(self, action: Action) -> None:
        handler = self.handlers[action.type]
        arguments = dict(action.payload) | ({"action": action} if handler.signature.wants_action else {})
        self.state, _ = produce(self.state, lambda draft: handler.function(draft, **arguments))

    def try_to(self, action: Action) -> bool:
        try:
            self.do(action)
        except Refused:
            return False
        return True

    def reply(self, model: str) -> Any:
        self.count += 1
        return {"id": f"r{self.count}", "run": f"run{self.count}", "node": "n", "model": model}

    def messages(self, role: str) -> list[str]:
        return [message["id"] for message in self.state["messages"] if message["role"] == role]

    def make(self, steps: Sequence[Any], end: str) -> None:
        """Lets the reply in progress grow by steps, and ends it; checks the turns for the model in between."""
        reply = self.state["leaf"]
        at = 0
        for step, (said, calls) in enumerate(steps):
            begins = [{"type": kind, "text": "", "chunks": [text], "step": step} for kind, text in said]
            tools = [
                {
                    "type": "tool",
                    "call": id,
                    "name": name,
                    "arguments": "",
                    "chunks": [arguments],
                    "status": "streaming",
                }
                for id, name, arguments in calls
            ]
            begins += [{**tool, "step": step} for tool in tools]
            pieces = [{"part": at + number, "begin": part} for number, part in enumerate(begins)]
            self.do(conversation.grew("c", reply=reply, pieces=pieces))
            at += len(begins)
            run = list(range(at - len(tools), at))
            if not run or (end == "cut" and step == len(steps) - 1):
                break
            self.do(conversation.called("c", reply=reply, parts=run))
            if end == "in a tool" and step == len(steps) - 1:
                run = run[1:]
            for part in run:
                outcome = {"result": ["", "  ", {"a": 1}, None][part % 4]} if part % 5 else {"error": "It failed."}
                self.do(conversation.returned("c", reply=reply, part=part, outcome=outcome))  # type: ignore[arg-type]
            if end != "in a tool":
                check(sent(self.state))
        status: Any = {"whole": "complete", "stopped": "stopped"}.get(end, "error")
        error = (
            {"error": {"kind": "failed", "message": "The model stopped with an error."}} if status == "error" else {}
        )
        self.do(conversation.ended("c", reply=reply, status=status, **error))


def sent(state: Any, window: int = 20, model: str = "one") -> list[Turn]:
    return turns_of(path(state), window, model, {})


texts = st.sampled_from(["Yes. ", "", " ", "\n", "Words"])
said = st.lists(st.tuples(st.sampled_from(["text", "reasoning"]), texts.filter(bool)), max_size=3)
calls = st.lists(
    st.tuples(
        st.sampled_from(["c1", "c2", "c3", "functions.look:0"]),
        st.sampled_from(["look", "a name!", "x" * 80]),
        st.sampled_from(['{"a": 1}', "", "{", "[1]", "null"]),
    ),
    max_size=3,
    unique_by=lambda call: call[0],
)
steps = st.lists(st.tuples(said, calls), max_size=3)
files = st.sampled_from(
    [
        {"type": "file", "mediaType": "image/png", "url": "https://example.org/a.png"},
        {"type": "file", "mediaType": "text/csv", "url": "https://example.org/a.csv"},
        {"type": "data-place", "data": {"city": "Ulm"}},
    ]
)
parts = st.lists(st.one_of(st.builds(lambda text: {"type": "text", "text": text}, texts), files), max_size=3)
ends = st.sampled_from(["whole", "whole", "stopped", "failed", "cut", "in a tool"])
events = st.tuples(
    st.sampled_from(["ask", "ask", "ask", "edit", "regenerate", "branch", "trim"]),
    parts,
    st.integers(0, 20),
    st.sampled_from(["one", "two"]),
    steps,
    ends,
)


@settings(max_examples=often(60))
@given(st.lists(events, max_size=12), st.integers(1, 8), st.sampled_from(["one", "two"]))
def test_whatever_has_happened_in_a_chat_the_model_is_sent_a_conversation(
    happened: list[Any], window: int, model: str
) -> None:
    history = History()
    for what, said_parts, number, made_by, made, end in happened:
        questions = history.messages("user")
        everything = [message["id"] for message in history.state["messages"]]
        one = questions[number % len(questions)] if questions else "none"
        reply = history.reply(made_by)
        question = {"id": f"q{history.count}", "parts": said_parts}
        if what == "branch":
            history.try_to(
                conversation.branched("c", message=everything[number % len(everything)] if everything else "x")
            )
            continue
        if what == "trim":
            if questions and (gone := everything[: number % len(everything)]) and history.state["leaf"] not in gone:
                history.do(conversation.trimmed("c", ids=gone))
            continue
        if what == "regenerate":
            begun = history.try_to(conversation.regenerated("c", question=one, reply=reply))
        else:
            edits = {"edits": one} if what == "edit" else {}
            begun = history.try_to(conversation.asked("c", question={**question, **edits}, reply=reply))  # type: ignore[typeddict-item]
        if not begun:
            continue
        shown = path(history.state)
        turns = sent(history.state, window, model)
        check(turns)
        assert turns[-1].role == "user"
        assert turns[-1].text.endswith(newest_text(shown[-2]))
        assert len(turns) <= 4 * 3 * window
        history.make(made, end)


def newest_text(question: Any) -> str:
    texts = [part["text"] for part in question["parts"] if part["type"] == "text"]
    return (
        "".join(texts) if all(part["type"] == "text" for part in question["parts"]) and "".join(texts).strip() else ""
    )


def asked(id: str, text: str, **more: Any) -> Any:
    return {"id": id, "role": "user", "status": "complete", "parts": [{"type": "text", "text": text}], **more}


def replied(id: str, *parts: Any, status: str = "complete", **more: Any) -> Any:
    return {"id": id, "role": "assistant", "status": status, "parts": list(parts), "model": "one", **more}


def says(text: str, **more: Any) -> Any:
    return {"type": "text", "text": text, **more}


def ran(call: str, result: Any = "20", **more: Any) -> Any:
    tool = {"type": "tool", "call": call, "name": "look", "arguments": '{"a":1}', "status": "complete"}
    return {**tool, "result": result, **more}


FAILED = {"status": "error", "error": {"kind": "connection", "message": "The connection to the model was lost."}}


def turns_for(*messages: Any, window: int = 20, model: str = "one", sent: Any = None) -> list[Turn]:
    return turns_of(messages, window, model, sent or {})


def test_a_window_that_would_begin_in_the_middle_of_an_exchange_begins_at_the_next_question() -> None:
    exchanges = [(asked(f"q{n}", f"Question {n}"), replied(f"r{n}", says(f"Answer {n}"))) for n in range(15)]
    history = [message for exchange in exchanges for message in exchange]
    turns = turns_for(*history, asked("now", "And now?"), replied("r", status="streaming"))
    assert grammar(turns) == "ua" * 9 + "u"
    assert turns[0].text == "Question 6"


def test_questions_whose_replies_said_nothing_are_one_turn_with_the_next() -> None:
    thought = {"type": "reasoning", "text": "Hm. "}
    turns = turns_for(
        asked("q1", "One?"), replied("r1", thought, status="stopped"), asked("q2", "Two?"), replied("r2", **FAILED),
        asked("q3", "Three?"), replied("r3", status="streaming"),
    )  # fmt: skip
    assert turns == [Turn(role="user", text="One?\n\nTwo?\n\nThree?")]


@pytest.mark.parametrize("window", [1, 2, 3])
def test_the_newest_question_is_sent_however_small_the_window(window: int) -> None:
    growing = replied("r2", ran("c1"), ran("c2", step=1), status="streaming")
    turns = turns_for(asked("q1", "Old"), replied("r1", says("Yes.")), asked("q2", "New"), growing, window=window)
    assert grammar(turns) == "uctct"
    assert turns[0].text == "New"


def test_a_reply_that_ended_before_the_model_answered_its_tools_is_ended_by_a_sentence() -> None:
    for status, end in (
        (FAILED, "[The connection to the model was lost.]"),
        ({"status": "stopped"}, "[The reply was stopped.]"),
        ({"status": "complete"}, "[Nothing more was said.]"),
    ):
        turns = turns_for(
            asked("q1", "Order it."), replied("r1", ran("c1"), **status),
            asked("q2", "Well?"), replied("r2", status="streaming"),
        )  # fmt: skip
        assert grammar(turns) == "uctau"
        assert turns[3].text == end


def test_a_call_that_was_never_run_is_left_out_and_one_that_was_running_is_not() -> None:
    history = History()
    for id, end in (("q1", "cut"), ("q2", "in a tool")):
        history.do(conversation.asked("c", question={"id": id, "parts": [says("Go.")]}, reply=history.reply("one")))
        history.make([([("text", "I look. ")], [("c1", "look", "{"), ("c2", "look", "{}")])], end)
    history.do(conversation.asked("c", question={"id": "q3", "parts": [says("Go.")]}, reply=history.reply("one")))
    turns = sent(history.state)
    assert grammar(turns) == "uaucttau"
    assert turns[1] == Turn(role="assistant", text="I look. ")
    assert turns[4].text == "The reply ended before this was done."


def test_calls_of_another_model_have_ids_that_every_provider_takes_and_no_two_are_the_same() -> None:
    history = (
        asked("q1", "One"), replied("r1", ran("functions.look:0"), says("A", step=1), model="another"),
        asked("q2", "Two"), replied("r2", ran("c1"), ran("c2"), says("B", step=1)),
        asked("q3", "Three"), replied("r3", ran("c1"), says("C", step=1)),
        asked("q4", "Four"), replied("r4", status="streaming"),
    )  # fmt: skip
    turns = turns_for(*history)
    check(turns)
    ids = [call.id for turn in turns for call in turn.calls]
    assert re.fullmatch("[a-z0-9]{9}", ids[0])
    assert ids[1:3] == ["c1", "c2"]
    assert turns_for(*history) == turns, "a provider may look at the ids of a conversation that it knows"


def test_opaque_data_is_in_the_turns_that_it_came_with() -> None:
    growing = replied("r", says("Hm"), ran("c1"), ran("c2"), ran("c3", step=1), status="streaming")
    data = {"r": Sent(answers={0: ("thought", "more"), 1: ("later",)}, calls={1: ("one",), 3: ("three",)})}
    turns = turns_for(asked("q", "Go"), growing, sent=data)
    assert [turn.opaque for turn in turns] == [(), ("thought", "more"), (), (), ("later",), ()]
    assert [[call.opaque for call in turn.calls] for turn in turns if turn.calls] == [[("one",), ()], [("three",)]]


def test_a_message_without_text_says_what_it_has() -> None:
    place = {"type": "data-place", "data": {"city": "Ulm"}}
    turns = turns_for({"id": "q", "role": "user", "status": "complete", "parts": [place, place]})
    assert turns == [Turn(role="user", text="[data-place]")]
    assert turns_for({"id": "q", "role": "user", "status": "complete", "parts": []})[0].text == "[nothing]"


def test_what_was_called_is_sent_in_a_form_that_can_be_parsed() -> None:
    odd = ran("c1", result=" ", name="a name!", arguments='{"a": ')
    turns = turns_for(asked("q", "Go"), replied("r", odd, status="streaming"))
    assert turns[1].calls == (ToolCall(id="c1", name="a_name_", arguments="{}"),)
    assert turns[2].text == '""'
