"""The three-phase protocol without a server: what a viewer is sent from the start, and from any place in the middle.

Golden files `<dialogue>.phases` stand in tests/dialogues, a frame a line; a client in JavaScript reads them too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statestream.chat.messages import find, path, streaming
from statestream.chat.protocols.phases.projection import PhaseItem, PhasesProjection, content_of, refusal
from statestream.chat.replies.reply_builder import ReplyBuilder
from statestream.chat.slices import conversation as chat
from tests.dialogues import DIALOGUES, HERE, KEY, QUESTION, REPLY, Dialogue, check_golden, look_at, reply_in
from tests.support import ROOT
from tests.support.often import often
from tests.support.phases import Fold

every_dialogue = pytest.mark.parametrize("name", DIALOGUES)
every_end = pytest.mark.parametrize("name", [name for name in DIALOGUES if name != "waiting"])


def seen(states: list[Any], position: str | None = None) -> Iterator[tuple[int, PhaseItem]]:
    """The frames of one viewer, each with the number of the state that it was made of."""
    view = PhasesProjection(KEY, position)
    for number, state in enumerate(states):
        for frame in view.new(look_at(state)):
            assert view.position is not None
            yield number, frame


def folded(frames: list[PhaseItem], client: Fold | None = None) -> Fold:
    client = client or Fold()
    for frame in frames:
        client.take(frame)
    return client


@every_dialogue
def test_the_frames_of_who_was_there_from_the_start(name: str) -> None:
    frames = [frame for _, frame in seen(DIALOGUES[name]())]
    check_golden(f"{name}.phases", b"".join(orjson.dumps(frame) + b"\n" for frame in frames))


@every_end
def test_a_reply_begins_once_grows_and_ends_once(name: str) -> None:
    states = DIALOGUES[name]()
    frames = [frame for _, frame in seen(states)]
    client = folded(frames)
    positions = [frame["metadata"]["position"] for frame in frames]
    assert client.texts[REPLY] == content_of(reply_in(states[-1]))
    assert [frame["type"] for frame in frames[:2]] == ["message", "message_stream"]
    assert (client.open, client.again) == ({}, [])
    assert len(set(positions)) == len(positions)
    assert frames[0]["metadata"]["author"] == "ana"
    assert frames[1]["metadata"]["reply_to"] == QUESTION


@every_dialogue
def test_how_a_reply_ended_is_said_in_the_phases(name: str) -> None:
    states = DIALOGUES[name]()
    reply = reply_in(states[-1])
    last = [frame for _, frame in seen(states)][-2:]
    complete = PhasesProjection(KEY).new(look_at(states[-1]))[-1]
    assert (complete["sender"], complete["timestamp"]) == ("ai", reply["created_at"])
    for name in ("stopped", "error", "reply_to"):
        assert complete["metadata"].get(name) == last[1]["metadata"].get(name)
    assert last[1]["metadata"].get("stopped", False) is (reply["status"] == "stopped")
    assert last[1]["metadata"].get("error") == reply.get("error", {}).get("kind")
    assert last[0]["metadata"].get("error") == reply.get("error", {}).get("kind")
    if reply["status"] == "error":
        assert last[0]["chunk"].endswith(reply["error"]["message"])


@every_end
def test_cut_at_any_frame_and_back_at_any_later_state_the_missing_text_comes_and_nothing_else(name: str) -> None:
    states = DIALOGUES[name]()
    frames = list(seen(states))
    whole = folded([frame for _, frame in frames])
    for count, (at, _) in enumerate(frames, start=1):
        for back in range(at, len(states)):
            client = folded([frame for _, frame in frames[:count]])
            more = [frame for _, frame in seen(states[back:], client.positions[KEY])]
            folded(more, client)
            assert client.texts == whole.texts
            assert (client.open, client.again) == ({}, []), (count, back)
            assert len(more) <= len(frames) - count


def test_a_reply_that_waits_for_approval_is_in_progress() -> None:
    states = DIALOGUES["waiting"]()
    for start in range(len(states)):
        client = folded([frame for _, frame in seen(states[start:])])
        assert client.texts[REPLY] == "I order. "
        assert list(client.open) == [REPLY]


@every_end
def test_who_joins_late_gets_what_there_is_as_one(name: str) -> None:
    states = DIALOGUES[name]()
    for start in range(len(states)):
        frames = [frame for _, frame in seen(states[start:])]
        client = folded(frames)
        assert client.texts[REPLY] == content_of(reply_in(states[-1]))
        assert client.again == []
        assert (frames[1]["type"] == "message") is (start == len(states) - 1)
        first = list(PhasesProjection(KEY).new(look_at(states[start])))
        assert sum(frame.get("stream_chunk", False) for frame in first) <= 1


UNKNOWN = [
    "", ":", "r1", "r1:", ":end", "r1:-1", "r1:+1", "r1:1e3", "r1:0x1", "r1: 1", "r1:²", "r1:999", "r1:" + "9" * 5_000,
    "r1:END", "q1:0", "q1:3", "r2:0", "r2:end", "\x00:1", "r1:1:1",
]  # fmt: skip


@pytest.mark.parametrize("position", UNKNOWN)
def test_a_position_that_the_state_does_not_know_begins_from_the_start(position: str) -> None:
    for state in DIALOGUES["text"]():
        assert PhasesProjection(KEY, position).new(look_at(state)) == PhasesProjection(KEY).new(look_at(state))


def test_a_position_that_the_state_does_not_know_is_not_said_again() -> None:
    view = PhasesProjection(KEY, "r9:3")
    assert view.new(look_at({"messages": []})) == []
    assert view.position is None


def test_the_end_of_a_reply_that_has_not_ended_here_is_unknown() -> None:
    first, *_ = DIALOGUES["text"]()
    assert PhasesProjection(KEY, f"{REPLY}:end").new(look_at(first)) == PhasesProjection(KEY).new(look_at(first))


def test_a_message_id_may_hold_what_separates_it_in_a_position() -> None:
    one = Dialogue()
    one.complete()
    ask(one, "a:1:end", "b:2")
    frames = [frame for _, frame in seen(one.states)]
    for count in range(1, len(frames) + 1):
        client = folded(frames[:count])
        folded(PhasesProjection(KEY, client.positions[KEY]).new(look_at(one.states[-1])), client)
        assert (sorted(client.texts), client.again) == (["a:1:end", "b:2", QUESTION, REPLY], [])


def test_a_reply_that_is_gone_ends_all_the_same() -> None:
    states = DIALOGUES["text"]()
    view = PhasesProjection(KEY)
    client = folded(view.new(look_at(states[2])))
    folded(view.new(look_at({"messages": []})), client)
    assert client.open == {}
    assert client.ended[REPLY]["metadata"]["error"] == "lost"


def test_a_refusal_is_three_phases() -> None:
    frames = refusal("x1", "No.", "busy", at=1_795_274_036_624, session_id="42", reply_to="q9", position="r1:3")
    client = folded(frames)
    assert (client.texts, client.open, client.positions) == ({"x1": "No."}, {}, {"42": "r1:3"})
    assert [frame["metadata"]["error"] for frame in frames] == ["busy"] * 3
    assert [frame["metadata"]["reply_to"] for frame in frames] == ["q9"] * 3


@every_dialogue
def test_a_client_in_javascript_ends_with_the_same_text(name: str) -> None:
    command = ["node", str(ROOT / "tests/node/phases.mjs"), str(HERE / f"{name}.phases")]
    done = subprocess.run(command, capture_output=True, check=True)
    states = DIALOGUES[name]()
    assert orjson.loads(done.stdout) == {message["id"]: content_of(message) for message in path(states[-1])}


# whatever happens in a chat, and however often one is cut


def ask(one: Dialogue, question: str, reply: str, edits: str | None = None) -> None:
    more = {"edits": edits} if edits else {}
    place = {"id": reply, "run": "run", "node": "node", "model": "test-model"}
    one.act(
        chat.asked(KEY, question={"id": question, "parts": [{"type": "text", "text": question}], **more}, reply=place)
    )
    one.builder = ReplyBuilder(KEY, reply, "provider")
    one.states.append(one.state)


class Happening:
    """A chat to which things happen; what cannot happen now is skipped."""

    def __init__(self) -> None:
        self.one = Dialogue()
        self.number = 0

    def do(self, what: str, which: int) -> None:
        one = self.one
        self.number += 1
        making = streaming(one.state)
        people = [message["id"] for message in one.state["messages"] if message["role"] == "user"]
        if what in ("say", "think") and making:
            one.builder.text("text" if what == "say" else "reasoning", f"{self.number}é, ")
            one.look()
        elif what == "tool" and making:
            one.call(0, "{}", id=f"c{self.number}", name="t")
            one.called()
            one.returned(len(find(one.state, making["id"])["parts"]) - 1, {"result": 1})
        elif what in ("complete", "stopped", "error") and making:
            how = {"error": {"kind": "failed", "message": "It broke."}} if what == "error" else {}
            reason = {"finish_reason": "stop"} if what == "complete" else {}
            one.act(chat.ended(KEY, reply=making["id"], status=what, **how, **reason))
            one.states.append(one.state)
        elif what in ("ask", "edit") and not making:
            edits = people[which % len(people)] if what == "edit" else None
            ask(one, f"q{self.number}", f"a{self.number}", edits)
        elif what == "regenerate" and not making:
            place = {"id": f"a{self.number}", "run": "run", "node": "node", "model": "test-model"}
            one.act(chat.regenerated(KEY, question=people[which % len(people)], reply=place))
            one.builder = ReplyBuilder(KEY, place["id"], "provider")
            one.states.append(one.state)
        elif what == "branch" and not making:
            messages = one.state["messages"]
            one.act(chat.branched(KEY, message=messages[which % len(messages)]["id"]))
            one.states.append(one.state)


THINGS = ["say", "say", "say", "think", "tool", "complete", "stopped", "error", "ask", "edit", "regenerate", "branch"]
happenings = st.lists(st.tuples(st.sampled_from(THINGS), st.integers(0, 20)), max_size=30)


@settings(max_examples=often(75))
@given(happenings, st.data())
def test_whatever_happens_and_however_often_one_is_cut_all_that_is_shown_is_had(
    things: list[tuple[str, int]], data: st.DataObject
) -> None:
    happening = Happening()
    for what, which in things:
        happening.do(what, which)
    *states, last = happening.one.states
    client, view = Fold(), PhasesProjection(KEY)
    for state in states:
        does = data.draw(st.sampled_from(["is away", "looks", "is cut"]))
        if does == "is away":
            continue
        frames = view.new(look_at(state))
        if does == "is cut":
            frames = frames[: data.draw(st.integers(0, len(frames)))]
        folded(frames, client)
        if does == "is cut":
            view = PhasesProjection(KEY, client.positions.get(KEY))
    folded(view.new(look_at(last)), client)
    making = streaming(last)
    for message in path(last):
        assert client.texts[message["id"]] == content_of(message)
    assert set(client.open) == ({making["id"]} if making else set())
    if not {"branch", "edit", "regenerate"} & {what for what, _ in things}:
        assert client.again == []


@settings(max_examples=often(60))
@given(happenings)
def test_on_one_connection_nothing_comes_twice(things: list[tuple[str, int]]) -> None:
    happening = Happening()
    for what, which in things:
        happening.do(what, which)
    client = folded([frame for _, frame in seen(happening.one.states)])
    assert client.again == []
    for message in path(happening.one.state):
        assert client.texts[message["id"]] == content_of(message)
