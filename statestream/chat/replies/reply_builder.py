"""Turns a model's pieces into the parts of a reply, and these into actions on the chat.

Consecutive text of one kind becomes one part. Each tool call is a part of its own, which may grow alternately with
others. Whatever gathers between two calls of `take` becomes as few actions as its order allows, see `growth`.

Invariants: pure. Actions that `take` has returned count as dispatched: the caller must dispatch them in one request,
in that order, until it has succeeded. Opaque data is in no action on the chat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, Self

import orjson

from statestream.chat.approvals import Approval
from statestream.chat.messages import Message, Part, full_text
from statestream.chat.models import CallPiece, ModelFailed
from statestream.chat.replies.calls import Call, Calls, part_of
from statestream.chat.replies.growth import PART_SIZE, Growth, cleaned
from statestream.chat.slices import approvals, conversation, provider, queueing
from statestream.chat.slices.conversation import ToolOutcome
from statestream.chat.slices.provider import Entry
from statestream.core.change import Action
from statestream.core.values import plain

Offer = Literal["offer"]
OFFER: Final = "offer"
"""What a call needs that a window runs."""
MAX_CALLS: Final = 32
"""Tool calls in one answer of the model."""
MAX_NAME: Final = 256
MAX_STATUS: Final = 200
MAX_NOTE: Final = 2_000


class ReplyBuilder:
    """The parts of one reply, as far as the model has produced them.

    The reply has steps, one more after each round of tools. `_open` is the part that further text of its kind
    continues. `_calls` are the calls of this step, and `_running` the parts of those that an agent runs, by its ids for
    them; `_noted` are all parts that were ever in `_running`. `_answered`: one of them has ended, so what follows
    belongs to the next step, unless that part is older than `_first`, the first part that this run may add. `waiting`:
    a call needs approval or a window to run it. `_entries` is the opaque data gathered so far, `_sent` the number of
    entries before it, and `_opaque` the newest data of each call. `_speaker` is the agent that speaks, as the last part
    that says so has it. `_continued` is the text that new text continues. `_data` are the parts of data with an id.
    `_mark` are the members that mark the parts of a nested run. `_nested` are the calls of nested runs in this one, by
    their ids: the part, and whether it is no tool that has begun the run.

    `provider` is where the opaque data comes from; None if it is not to be kept.
    """

    def __init__(self, key: str, reply: str, provider: str | None) -> None:
        self._provider = provider
        self._growth = Growth(key, reply)
        self._open: tuple[str, int] | None = None
        self._calls = Calls()
        self._running: dict[str, int] = {}
        self._noted: set[int] = set()
        self._answered = False
        self._first = 0
        self.waiting = False
        self._halves: dict[str | int, str] = {}
        self._entries: list[Entry] = []
        self._sent = 0
        self._opaque: dict[int, str] = {}
        self._continued = ""
        self._data: dict[tuple[str, str], int] = {}
        self._speaker: str | None = None
        self._mark: dict[str, str] = {}
        self._nested: dict[str, tuple[int, bool]] = {}

    @classmethod
    def continuing(cls, key: str, message: Message, provider: str | None, entries: int) -> Self:
        """The builder of a reply that has waited. New pieces belong to its next step.

        `message` is the reply so far, `entries` the number of its entries of opaque data.
        """
        builder = cls(key, message["id"], provider)
        builder._resume(message["parts"], entries)
        builder._growth.step += 1
        return builder

    @classmethod
    def beginning_with(cls, key: str, reply: str, parts: Sequence[Part], provider: str | None, entries: int) -> Self:
        """The builder of a reply that begins with these parts of another one. New text continues the last part.

        `entries` is the number of its entries of opaque data.
        """
        builder, last = cls(key, reply, provider), len(parts) - 1
        builder._resume(parts, entries)
        if parts[last]["type"] == "tool" or "of" in parts[last]:  # the model answers the outcome of a call
            builder._growth.step += 1
        elif parts[last]["type"] == "text":
            builder._open, builder._continued = ("text", last), full_text(parts[last])
        return builder

    def _resume(self, parts: Sequence[Part], entries: int) -> None:
        """Takes over the parts so far, in their last step."""
        self._growth.resume(parts)
        self._first, self._sent = len(parts), entries
        tools = {part["call"]: index for index, part in enumerate(parts) if part["type"] == "tool"}
        self._running = {id: index for id, index in tools.items() if parts[index]["status"] == "running"}
        self._noted = set(tools.values())
        own = ((index, part) for index, part in enumerate(parts) if "of" not in part)
        self._data = {(part["type"], part["id"]): index for index, part in own if "id" in part}
        self._speaker = next((part["name"] for part in reversed(parts) if part["type"] == "agent"), None)

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._growth or self._entries)

    @property
    def empty(self) -> bool:
        """Whether the reply has no part yet."""
        return not len(self._growth)

    @property
    def step(self) -> int:
        """The number of the step, counted from 0 over all runs of the reply."""
        return self._growth.step

    def continued_text(self) -> str:
        """The text that the first answer continues. It is returned once."""
        text, self._continued = self._continued, ""
        return text

    @property
    def calling(self) -> bool:
        """Whether the model has called tools in this step."""
        return bool(self._calls)

    def text(self, kind: Literal["text", "reasoning"], text: str) -> None:
        """Adds text of a kind. Raises ModelFailed if the reply is too long."""
        text = self._whole(kind, text)
        if not text:
            return
        self._follow()
        if self._open is not None and self._open[0] == kind:
            self._growth.grow(self._open[1], text)
        else:
            self._open = (kind, self._growth.begin({"type": kind, "text": "", **self._mark}, text))

    def call(self, piece: CallPiece) -> None:
        """Begins a tool call, or adds to its arguments. Raises ModelFailed if it cannot be one, or is one too many."""
        self._follow()
        name = cleaned(piece.name)[:MAX_NAME]
        part = self._calls.continued_by(piece, name)
        if part is None:
            part = self._begin_call(piece, name)
        elif arguments := self._whole(part, self._calls.adds(piece, part)):
            self._growth.grow(part, arguments)
            self._calls.by_part[part].texts.append(cleaned(arguments))
        if piece.opaque and self._opaque.get(part) != piece.opaque:  # some providers repeat it with every piece
            self._opaque[part] = piece.opaque
            self._keep({"step": self.step, "part": part, "data": piece.opaque})

    def _begin_call(self, piece: CallPiece, name: str) -> int:
        if not name:
            raise ModelFailed("failed", "A tool was called without a name.")
        if len(self._calls) == MAX_CALLS:
            raise ModelFailed("failed", "Too many tools were called at once.")
        self._open = None
        index = len(self._growth)
        call = Call(id=self._growth.unique_id(cleaned(piece.id)[:MAX_NAME]), name=name)
        self._calls.begin(index, piece, call)
        if arguments := self._whole(index, piece.arguments):
            call.texts.append(cleaned(arguments))
        return self._growth.begin(part_of(call.id, name, self._mark), arguments)

    def opaque(self, data: str) -> None:
        """Keeps data that the provider wants back with this answer. Raises ModelFailed if it is too long."""
        self._keep({"step": self.step, "data": data})

    def _keep(self, entry: Entry) -> None:
        if self._provider is not None:
            self._growth.count(PART_SIZE + len(entry["data"]))
            self._entries.append(entry)

    def _whole(self, stream: str | int, text: str) -> str:
        """The text without a trailing half of a surrogate pair, which waits for the other half in the next piece."""
        text = self._halves.pop(stream, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._halves[stream] = text[:-1], text[-1]
        return text

    @property
    def calls(self) -> Mapping[int, Call]:
        """The tool calls of this step so far, by their parts."""
        return self._calls.by_part

    def called(self, needed: Mapping[int, Approval], offered: Sequence[int] = ()) -> None:
        """Ends the step: its tool calls are complete. They run now, except for those that need approval or run in a
        window.
        """
        running = [part for part in self._calls if part not in needed and part not in offered]
        if running:
            self._act(conversation.called, parts=running)
        self._request(needed)
        self._offer(offered)
        self._next_step()

    def _act(self, action: Callable[..., Action], **payload: Any) -> None:
        self._growth.act(action(self._growth.key, reply=self._growth.reply, **payload))

    def _request(self, needed: Mapping[int, Approval]) -> None:
        if needed:
            self.waiting = True
            self._act(
                approvals.requested,
                requests=[approvals.request_of(part, approval) for part, approval in needed.items()],
            )

    def _offer(self, parts: Sequence[int]) -> None:
        if parts:
            self.waiting = True
            self._act(approvals.offered, parts=list(parts))

    def _wait_for(self, part: int, needs: Approval | Offer) -> None:
        if needs == OFFER:
            self._offer([part])
        else:
            self._request({part: needs})

    def _next_step(self) -> None:
        self._calls, self._answered = Calls(), False
        self._open = None
        self._halves.clear()
        if not self._mark:
            self._growth.step += 1

    def _follow(self) -> None:
        """Before a piece of an agent: what follows the outcome of a call belongs to the next step, unless a nested run
        is still in this one.
        """
        if self._answered and (self._mark or not self._growth.running):
            self._note_calls()
            self._next_step()

    # what an agent does itself

    def use(self, id: str, name: str, arguments: Mapping[str, Any], needs: Approval | Offer | None = None) -> None:
        """The agent runs a tool, or will run it once somebody has approved the call, or a window runs it.

        A call that is already running may turn out to need approval, or a window. Raises ModelFailed, NotJSON.
        """
        if needs is not None:
            if self._mark:
                raise ModelFailed("failed", "An agent that works for another one cannot wait for people or windows.")
            self._note_calls()
        if needs is not None and id in self._running:
            self._wait_for(self._running.pop(id), needs)
            return
        if needs is not None and self._growth.knows(id):  # nobody could tell which call was meant
            raise ModelFailed("failed", "The agent asked for approval, or a window, under the id of another call.")
        if id in self._running:
            raise ModelFailed("failed", "The agent called two tools under one id.")
        self._follow()
        text = orjson.dumps(plain(arguments)).decode()
        part = self._begin_call(CallPiece(id=id, name=name, arguments=text), cleaned(name)[:MAX_NAME])
        self._noted.add(part)
        if needs is not None:
            self._wait_for(part, needs)
            return
        self._act(conversation.called, parts=[part])
        self._running[id] = part

    def result(self, id: str, outcome: ToolOutcome) -> None:
        """A tool that the agent runs has ended: one of `use`, or one that a model has called. Raises ModelFailed."""
        self._note_calls()
        part = self._running.pop(id, None)
        if part is None:
            raise ModelFailed("failed", "The agent gave a result for a tool call that is not running.")
        self._growth.count(len(orjson.dumps(outcome)))
        self._act(conversation.called, parts=[part])
        self.returned(part, outcome)
        self._answered = self._answered or part >= self._first

    def _note_calls(self) -> None:
        """The calls of a model that the agent may have run: their results may come in later steps."""
        for id, part in self._calls.named.items():
            if part not in self._noted:
                self._noted.add(part)
                self._running[id] = part

    def whole(self, part: Mapping[str, Any], with_it: Sequence[Action] = ()) -> None:
        """Adds a part that does not grow, and actions that belong to it. Raises ModelFailed, NotJSON."""
        self._follow()
        self._open = None
        self._growth.whole({**part, **self._mark})
        for action in with_it:
            self._growth.act(action)

    def queued(self) -> None:
        """The run waits for its turn."""
        self._act(queueing.queued)

    def began(self) -> None:
        """The run has waited, and begins now."""
        self._act(queueing.began)

    def data(self, part: Mapping[str, Any]) -> None:
        """Adds data, or replaces data of the same type and id. Raises ModelFailed, NotJSON."""
        known = self._data.get((part["type"], part.get("id", "")))
        if known is not None:
            self._growth.replace(known, part["data"])
            return
        self.whole(part)
        if "id" in part:
            self._data[part["type"], part["id"]] = len(self._growth) - 1

    def tell(self, part: Mapping[str, Any]) -> None:
        """Adds transient data. Raises ModelFailed, NotJSON."""
        self._growth.tell(part)

    @property
    def told(self) -> int:
        """How many transient data there have been in this run."""
        return self._growth.told

    def status(self, text: str) -> None:
        """Says what the agent is doing. Raises ModelFailed if it says so too often."""
        self._growth.count(PART_SIZE)
        told = conversation.progressed(self._growth.key, reply=self._growth.reply, status=cleaned(text)[:MAX_STATUS])
        self._growth.act(told, replaces=True)  # nobody has seen the last one

    def returned(self, part: int, outcome: ToolOutcome) -> None:
        """Adds the outcome of a tool call."""
        self._act(conversation.returned, part=part, outcome=outcome)

    # other agents

    def nested(self, call: str) -> ReplyBuilder:
        """The builder of a nested run, whose parts belong to that call."""
        builder = ReplyBuilder(self._growth.key, self._growth.reply, None)
        builder._growth, builder._mark = self._growth, {"of": call}
        return builder

    def begin_run(self, agent: str, text: str, call: str | None) -> str:
        """Begins a nested run, within a call of a tool if there is one. Returns the id of its own call.

        Raises ModelFailed if the reply is too long.
        """
        mark = self._mark if call is None else {"of": call}
        if call is None:
            self._follow()
            self._open = None
        id = self._growth.unique_id("")
        part = self._growth.begin(part_of(id, agent, mark), orjson.dumps({"task": cleaned(text)}).decode())
        self._act(conversation.called, parts=[part])
        self._nested[id] = (part, call is None)
        self._growth.running += 1
        return id

    def end_run(self, id: str, outcome: ToolOutcome) -> None:
        """A nested run has ended. Raises ModelFailed if the reply is too long."""
        part, own = self._nested.pop(id)
        self._growth.running -= 1
        self.returned(part, outcome)
        self._answered = self._answered or own
        self._growth.count(len(orjson.dumps(outcome)))

    def speak(self, agent: str) -> None:
        """Another agent of a framework speaks from here on. Raises ModelFailed if the reply is too long."""
        name = cleaned(agent)[:MAX_NAME]
        if name != self._speaker:
            self._speaker = name
            self._begin_agent()
            self._growth.whole({"type": "agent", "name": name, **self._mark})

    def hand_over(self, agent: str, by: str, note: str) -> None:
        """The agent `agent` continues the reply from here on, instead of `by`. Raises ModelFailed."""
        if self.waiting:
            raise ModelFailed("failed", "The agent handed over although one of its calls waits for approval.")
        if self._growth.running:
            raise ModelFailed("failed", "The agent handed over although another agent still works for it.")
        self._begin_agent()
        told = {"note": cleaned(note)[:MAX_NOTE]} if note else {}
        self._speaker = agent
        self._growth.whole({"type": "agent", "name": agent, "by": by, **told})
        self._act(conversation.handed_over, agent=agent)

    def _begin_agent(self) -> None:
        """What another agent says belongs to another step."""
        self._note_calls()
        if len(self._growth) and not self._growth.running:
            self._next_step()
        self._open = None

    def take(self) -> list[Action]:
        """The actions that have gathered, in order. They count as dispatched from now on."""
        actions = self._growth.take()
        if self._entries and self._provider is not None:
            entries, self._entries = self._entries, []
            key, reply = self._growth.key, self._growth.reply
            actions.append(provider.sent(key, reply=reply, provider=self._provider, first=self._sent, entries=entries))
            self._sent += len(entries)
        return actions
