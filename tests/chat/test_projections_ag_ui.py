"""AG-UI without a server: what who was there from the start is sent, and that whoever joins has the same.

`tests.support.ag_ui` does what the protocol's client does; the client itself reads the same golden files in
test_client_ag_ui.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statestream.chat.approvals import Approval
from statestream.chat.messages import path
from statestream.chat.models import CallPiece
from statestream.chat.protocols.ag_ui.messages import MAX_SNAPSHOT, snapshots
from statestream.chat.protocols.ag_ui.projection import StateEvents, ThreadProjection, check_size
from statestream.chat.shared_state import SharedState
from statestream.chat.slices import conversation as chat
from statestream.chat.viewing.projection import Beside, Look, SlicesBeside
from statestream.chat.viewing.response import event_stream as frames_of
from statestream.core.change import START, Cause, Change, Position, SliceState, Snapshot
from statestream.core.draft import produce
from statestream.core.errors import TooLarge
from statestream.core.principal import Scope
from statestream.core.selection import EVERYTHING, Selection, bounded
from statestream.store.grant import Grant
from statestream.store.notifier import Notifier
from tests.dialogues import DIALOGUES, KEY, REPLY, Dialogue, check_golden, look_at, reply_in
from tests.support.ag_ui import Client, events_of

every_dialogue = pytest.mark.parametrize("name", DIALOGUES)


def viewer(*, follow: bool = False, reply: str | None = REPLY) -> ThreadProjection:
    view = ThreadProjection(KEY, "run0", follow=follow)
    view.show(reply)
    return view


def look(view: ThreadProjection, state: Any, beside: Beside | None = None, *, last: bool = False) -> list[Any]:
    return events_of(frames_of(view.new(Look(state=state, beside=beside, last=last))))


def messages(state: Any) -> list[Any]:
    """The messages as somebody has them who sees the state for the first time."""
    return orjson.loads(orjson.dumps(snapshots(state)[-1]["messages"]))


@every_dialogue
def test_the_stream_of_who_was_there_from_the_start(name: str) -> None:
    view = viewer()
    check_golden(f"{name}.agui", b"".join(frames_of(view.new(look_at(state))) for state in DIALOGUES[name]()))
    assert view.over


@every_dialogue
def test_a_client_before_1_0_is_sent_an_outcome_that_it_knows(name: str) -> None:
    """Its schemas are strict there: a run that ends otherwise is an error for it. CopilotKit brings such a client."""
    view = ThreadProjection(KEY, "run0", early=True)
    view.show(REPLY)
    last = [event for state in DIALOGUES[name]() for event in look(view, state)][-1]
    if last["type"] == "RUN_FINISHED":
        assert last["outcome"] == {"type": "success"} or last["outcome"].keys() == {"type", "interrupts"}
        assert (last["outcome"]["type"] == "interrupt") == (name == "waiting")


def assert_same_after_a_cut(states: list[Any]) -> None:
    """Wherever the stream is cut, and whenever one runs again: at the end, the messages are in the order of the chat.

    Like the protocol's client, one posts all messages that one holds but activities.
    """
    looks = [look(view, state) for view in [viewer()] for state in states]
    for cut in range(len(states)):
        for frames in range(len(looks[cut])):
            for back in sorted({cut, min(cut + 1, len(states) - 1), len(states) - 1}):
                client = Client()
                client.take([event for events in looks[:cut] for event in events] + looks[cut][:frames])
                client.cut()
                held = [message["id"] for message in client.messages if message["role"] != "activity"]
                again = ThreadProjection(KEY, "run1", held=held)
                again.show(REPLY)
                for state in states[back:]:
                    client.take(look(again, state))
                    assert client.messages == messages(state), (cut, frames, back)


def assert_same_for_everybody(states: list[Any]) -> None:
    """Whenever one joins, and how often one looks: what one has is what the state has, and at the end all is closed."""
    assert_same_after_a_cut(states)
    for start, every in product(range(len(states)), (1, 2, 5)):
        client, view = Client(), viewer()
        for state in [*states[start:-1:every], states[-1]]:
            client.take(look(view, state))
            assert client.messages == messages(state)
        assert view.over
        assert not client.running
        assert look(view, states[-1]) == []
        assert not client.open


@every_dialogue
def test_who_joins_late_has_the_same_messages(name: str) -> None:
    assert_same_for_everybody(DIALOGUES[name]())


words = st.sampled_from(["a", "Größe ", "👩‍👩‍👧", '{"x": ', "\n\n"])
pieces = st.one_of(
    st.tuples(st.just("say"), words),
    st.tuples(st.just("think"), words),
    st.tuples(st.just("call"), st.integers(0, 2), words),
    st.just(("look",)),
)
ends = st.sampled_from(["complete", "stopped", "error"])


@given(st.lists(st.tuples(st.lists(pieces, max_size=8), st.randoms(use_true_random=False)), max_size=3), ends)
def test_who_joins_late_has_the_same_messages_whatever_the_model_does(answers: list[Any], end: str) -> None:
    one = Dialogue()
    for answer, random in answers:
        known: set[int] = set()
        for kind, *what in answer:
            if kind == "look":
                one.look()
            elif kind == "call":
                index, arguments = what
                new = {"id": "call_0", "name": f"tool{index}"} if index not in known else {}
                one.builder.call(CallPiece(index=index, arguments=arguments, **new))
                known.add(index)
            else:
                one.builder.text("text" if kind == "say" else "reasoning", what[0])
        tools = list(one.builder.calls)
        one.builder.called({})
        random.shuffle(tools)
        for part in tools[: len(tools) if random.random() < 0.8 else 1]:
            one.look()
            one.builder.returned(part, {"result": part} if random.random() < 0.5 else {"error": "No."})
    error = {"error": {"kind": "failed", "message": "It failed."}} if end == "error" else {}
    reason = {"finish_reason": "stop"} if end == "complete" else {}
    assert_same_for_everybody(one.end(status=end, **error, **reason))


def test_who_follows_has_an_outcome_of_the_wait_where_it_belongs() -> None:
    """The outcome comes before the next look, while the client has a thought behind the call."""
    one, client, view = Dialogue(), Client(), viewer(follow=True)
    one.call(0, "{}", id="call_1", name="order")
    one.think("Now I wait.")
    one.called({0: Approval()})
    for state in one.wait():
        client.take(look(view, state))
    one.decide({"part": 0, "approved": True})
    one.returned(0, {"result": "ordered"})
    one.say("Done.")
    end = one.complete()[-1]
    client.take(look(view, end))
    assert client.messages == messages(end)
    assert [message["role"] for message in client.messages] == ["user", "assistant", "tool", "reasoning", "assistant"]


@every_dialogue
def test_a_run_ends_as_its_reply_does(name: str) -> None:
    states = DIALOGUES[name]()
    last = look(viewer(), states[-1])[-1]
    reply = reply_in(states[-1])
    if reply["status"] == "error":
        assert last["type"] == "RUN_ERROR"
        assert (last["code"], last["message"]) == (reply["error"]["kind"], reply["error"]["message"])
    else:
        outcomes = {"complete": "success", "waiting": "interrupt", "stopped": "cancelled"}
        assert last["outcome"]["type"] == outcomes[reply["status"]]
    if "usage" in reply:
        names = {"input": "inputTokens", "output": "outputTokens", "reasoning": "reasoningTokens"}
        counts = {wire: reply["usage"][name] for name, wire in (names | {"cached": "cachedInputTokens"}).items()}
        assert last["usage"] == [{"model": reply["model"], **counts}]


NEW = {"id": "q3", "role": "user", "content": "Question 3?"}


@given(st.lists(st.sampled_from(range(7)), unique=True), st.booleans(), st.booleans())
def test_a_client_that_is_behind_has_its_question_at_the_end(places: list[int], thinks: bool, asks: bool) -> None:
    """Whatever it holds, in the order of the chat, and other people's words between.

    Thoughts are kept by a client where it has them, until a snapshot has thoughts: what it holds has no holes then.
    """
    one = Chat()
    for number in (1, 2):
        if number > 1:
            one.ask(number)
        if thinks:
            begin = {"type": "reasoning", "text": "", "chunks": ["Hmm."]}
            one.act(chat.grew(KEY, reply=f"r{number}", pieces=[{"part": 0, "begin": begin}]))
        one.answer(number, f"{number}.", part=int(thinks))
        one.ended(number)
    held = [
        message
        for place, message in enumerate(messages(one.state))
        if (place < len(places) if thinks else place in places)
    ]
    if asks:
        one.ask(3)
        held.append(NEW)
    client = Client()
    client.messages = held
    view = ThreadProjection(KEY, "run0", held=[message["id"] for message in held])
    events = look(view, one.state)
    client.take(events)
    assert client.messages == messages(one.state)
    if held == messages(one.state)[: len(held)]:
        assert [event["type"] for event in events].count("MESSAGES_SNAPSHOT") == 1


def test_a_message_of_pictures_and_files_says_so() -> None:
    def file(media: str, url: str) -> Any:
        return {"type": "file", "mediaType": media, "url": url}

    parts = [
        {"type": "text", "text": "See "},
        file("image/png", "data:image/png;base64,AAAA"),
        file("video/mp4", "https://x.example/v"),
        file("text/plain", "data:,plain"),
        {"type": "data-note", "data": {"x": 1}},
    ]
    [said] = messages(Dialogue(parts).state)[:1]
    assert said["content"] == [
        {"type": "text", "text": "See "},
        {"type": "image", "source": {"type": "data", "value": "AAAA", "mimeType": "image/png"}},
        {"type": "video", "source": {"type": "url", "value": "https://x.example/v", "mimeType": "video/mp4"}},
        {"type": "document", "source": {"type": "url", "value": "data:,plain", "mimeType": "text/plain"}},
    ]


def test_a_snapshot_is_never_larger_than_the_client_takes() -> None:
    long = "x" * (MAX_SNAPSHOT // 4)
    state = {"messages": [], "leaf": "m9"}
    for number in range(10):
        message = {"id": f"m{number}", "role": "user", "parts": [{"type": "text", "text": long}]}
        state["messages"].append(message | ({"parent": f"m{number - 1}"} if number else {}))
    assert len(path(state)) == 10
    assert [message["id"] for message in messages(state)] == ["m7", "m8", "m9"]


# a stream that follows


class Chat(Dialogue):
    """A chat of several replies."""

    def ask(self, number: int, **more: Any) -> None:
        question = {"id": f"q{number}", "parts": [{"type": "text", "text": f"Question {number}?"}], **more}
        reply = {"id": f"r{number}", "run": f"run{number}", "node": "node1", "model": "test-model"}
        self.act(chat.asked(KEY, question=question, reply=reply))

    def answer(self, number: int, text: str, part: int = 0) -> None:
        begin = {"type": "text", "text": "", "chunks": [text]}
        self.act(chat.grew(KEY, reply=f"r{number}", pieces=[{"part": part, "begin": begin}]))

    def ended(self, number: int) -> None:
        self.act(chat.ended(KEY, reply=f"r{number}", status="complete", finish_reason="stop"))


def run_ids(client: Client) -> list[str]:
    return [run[0]["runId"] for run in client.runs]


def test_each_further_reply_is_a_run_whoever_asked() -> None:
    one, client, view = Chat(), Client(), viewer(follow=True)
    client.take(look(view, one.state))
    one.answer(1, "One.")
    one.ended(1)
    client.take(look(view, one.state))
    assert look(view, one.state) == []
    one.ask(2)
    client.take(look(view, one.state))
    assert client.messages[-1] == {"id": "q2", "role": "user", "content": "Question 2?"}
    one.answer(2, "Two.")
    one.ended(2)
    client.take(look(view, one.state))
    assert client.messages == messages(one.state)
    assert run_ids(client) == ["run0", "run2"]
    assert not view.over


def test_replies_that_came_and_went_between_two_looks_are_not_lost() -> None:
    one, client, view = Chat(), Client(), viewer(follow=True)
    one.answer(1, "One ")
    client.take(look(view, one.state))
    one.ended(1)
    for number in (2, 3, 4):
        one.ask(number)
        one.answer(number, f"{number}.")
        one.ended(number)
    one.ask(5)
    client.take(look(view, one.state))
    assert client.messages == messages(one.state)
    assert run_ids(client) == ["run0", "run5"]
    assert client.running


def test_another_branch_is_shown_to_who_follows() -> None:
    one, client, view = Chat(), Client(), viewer(follow=True)
    one.answer(1, "One.")
    one.ended(1)
    client.take(look(view, one.state))
    one.ask(2, edits="q1")
    one.ended(2)
    client.take(look(view, one.state))
    assert [message["id"] for message in client.messages] == ["q2"]
    one.act(chat.branched(KEY, message="q1"))
    client.take(look(view, one.state))
    assert [message["id"] for message in client.messages] == ["q1", "r1"]


def test_who_was_refused_follows_all_the_same() -> None:
    one, client = Chat(), Client()
    view = ThreadProjection(KEY, "run0", follow=True)
    view.refuse("busy", "Wait.")
    client.take(look(view, one.state))
    assert client.running
    assert run_ids(client) == ["run1"]
    assert client.messages == messages(one.state)


def test_who_was_refused_is_told_so_once() -> None:
    view = ThreadProjection(KEY, "run0")
    view.refuse("busy", "Wait.")
    assert look(view, Chat().state) == [{"type": "RUN_ERROR", "message": "Wait.", "code": "busy"}]
    assert view.over


def test_a_chat_without_messages_is_followed() -> None:
    client, view = Client(), viewer(follow=True, reply=None)
    client.take(look(view, chat.chat_slice.initial))
    assert client.messages == []
    client.take(look(view, Chat().state))
    assert run_ids(client) == ["run0", "run1"]


def test_a_history_that_was_replaced_ends_the_run_and_begins_another() -> None:
    client, view = Client(), viewer(follow=True)
    client.take(look(view, Chat().state))
    client.take(look(view, chat.chat_slice.initial))
    assert client.runs[0][-1]["code"] == "unknown_message"
    assert client.messages == []
    assert len(client.runs) == 2
    assert not client.running


def test_a_server_that_stops_says_so_where_a_run_is_under_way() -> None:
    one, client, view = Chat(), Client(), viewer(follow=True)
    client.take(look(view, one.state))
    client.take(look(view, one.state, last=True))
    assert client.runs[-1][-1]["code"] == "unavailable"
    assert look(view, one.state, last=True) == []


# slices


class Slices:
    """Slices as a view of a store gives them, changed by drafts or set."""

    def __init__(self, **values: Any) -> None:
        self.seq = 0
        self.held: dict[str, SliceState] = {}
        self.changed: set[str] = set()
        for name, value in values.items():
            self.set(name, value)

    def set(self, name: str, value: Any) -> None:
        self.seq += 1
        self.changed.add(name)
        if value is None:
            del self.held[name]
        else:
            self.held[name] = SliceState(value, Position(seq=self.seq, tag="t"))

    def edit(self, name: str, recipe: Any) -> None:
        self.set(name, produce(self.held[name].value, recipe)[0])

    def names(self) -> set[str]:
        names, self.changed = self.changed, set()
        return names

    def grant(self, asked: Selection) -> Grant:
        return Grant(selection=asked, scope=Scope())

    def states(self, names: Iterable[str]) -> dict[str, SliceState]:
        return {name: self.held[name] for name in names if name in self.held}

    def snapshot(self, selection: Selection) -> Snapshot:
        return Snapshot(position=START, slices=bounded((n, s) for n, s in self.held.items() if selection.matches(n)))

    @property
    def values(self) -> Any:
        return {name: state.value for name, state in self.held.items()}


def beside_of(slices: Any) -> SlicesBeside:
    return SlicesBeside(slices, EVERYTHING)


def test_slices_are_the_state_and_what_happens_to_them_are_deltas() -> None:
    slices, client = Slices(board={"tasks": [], "n": 1}, counter=0), Client()
    one, view, beside = Chat(), viewer(follow=True), beside_of(slices)

    def see() -> list[str]:
        events = look(view, one.state, beside.look(slices.names()))
        client.take(events)
        assert client.state == slices.values
        return [event["type"] for event in events]

    assert see() == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT"]
    slices.edit("board", lambda board: board["tasks"].append({"id": "a/b~c", "done": False}))
    slices.edit("board", lambda board: board["tasks"].append({"id": "2"}))
    slices.set("room/a~b%2F", {"members": []})
    slices.set("counter", 5)
    assert see() == ["STATE_DELTA"]
    slices.edit("room/a~b%2F", lambda room: room["members"].append("ana"))
    assert see() == ["STATE_DELTA"]
    slices.set("room/a~b%2F", None)
    one.ended(1)
    assert see() == ["STATE_DELTA", "RUN_FINISHED"]
    assert see() == []
    slices.set("counter", 6)
    assert see() == ["RUN_STARTED", "STATE_DELTA", "RUN_FINISHED"]
    assert run_ids(client) == ["run0", "run0:1"]
    slices.set("counter", 7)
    one.ask(2)
    assert see() == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_DELTA"]


def test_a_slice_that_came_and_went_between_two_looks_is_not_told_of() -> None:
    slices = Slices(board=1)
    beside, events = beside_of(slices), StateEvents(SharedState())
    events.new(beside.look(slices.names()))
    slices.set("room/1", {})
    slices.set("room/1", None)
    assert events.new(beside.look(slices.names())) == []


def test_what_cannot_be_told_as_changes_is_told_as_a_whole() -> None:
    slices = Slices(board=1)
    beside, events = beside_of(slices), StateEvents(SharedState())
    events.new(beside.look(slices.names()))
    slices.set("board", 2)
    [event] = orjson.loads(orjson.dumps(events.new(beside.look(None))))
    assert event == {"type": "STATE_SNAPSHOT", "snapshot": {"board": 2}}
    assert events.new(beside.look(slices.names())) == []


def test_a_signal_names_the_slices_for_which_it_was_set() -> None:
    def change(name: str) -> Change:
        cause = Cause(type="x", id="1", actor=None, payload=b"{}")
        return Change(position=START, slice=name, from_version=0, kind="value", data=b"1", cause=cause, at=0)

    notifier = Notifier()
    with notifier.on(["board", "room/*"]) as signal, notifier.on(["*"]) as every:
        notifier.changed([change("board"), change("room/1"), change("rooms/1"), change("roo")])
        assert signal.names() == {"board", "room/1"}
        assert every.names() == {"board", "room/1", "rooms/1", "roo"}
        assert signal.names() == set()
        notifier.changed([change("board")])
        notifier.reset("forked")
        notifier.changed([change("board")])
        assert signal.names() is None
        assert signal.names() == set()


def test_slices_that_the_client_would_not_take_are_refused() -> None:
    slices = {"board": SliceState("x" * MAX_SNAPSHOT, START)}
    with pytest.raises(TooLarge):
        check_size(slices)
    with pytest.raises(TooLarge):
        StateEvents(SharedState()).new(Beside(slices=slices, whole=True))
