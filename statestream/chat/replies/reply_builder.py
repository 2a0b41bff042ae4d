"""Turns a model's pieces into the parts of a reply, and these into actions on the chat.

Consecutive text of one kind becomes one part. Each tool call is a part of its own, which may grow alternately with
others. Whatever gathers between two calls of `take` becomes as few actions as its order allows.

Invariants: pure. Actions that `take` has returned count as dispatched: the caller must dispatch them in one request,
in that order, until it has succeeded. Opaque data is in no action on the chat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Self

import orjson
from msgspec import Struct

from statestream.chat.approvals import Approval
from statestream.chat.messages import KEPT_DEPTH, Message, Part, full_text, short_id
from statestream.chat.models import CallPiece, ModelFailed
from statestream.chat.replies.calls import Call, Calls
from statestream.chat.slices import approvals, conversation, provider, queueing
from statestream.chat.slices.approvals import RequestPayload
from statestream.chat.slices.conversation import PiecePayload, ToolOutcome
from statestream.chat.slices.provider import Entry
from statestream.core.change import Action
from statestream.core.values import plain

MAX_CALLS: Final = 32
"""Tool calls in one answer of the model."""
MAX_SIZE: Final = 2_000_000
"""Characters of a reply, plus PART_SIZE for each of its parts. Whoever exceeds this would never end.

Opaque data and its entries count, too, and so do the status and the results of an agent's tools.
"""
PART_SIZE: Final = 100
MAX_NAME: Final = 256
MAX_STATUS: Final = 200
GROWING: Final = ("text", "reasoning", "tool")
"""The types of parts that have text, or arguments, which grow."""


class _Stretch(Struct, kw_only=True):
    """Text that has gathered for one part: with `begin`, the start of a new part, otherwise its chunk `chunk`.

    `grows`: the part may get chunks.
    """

    part: int
    texts: list[str]
    begin: dict[str, Any] | None = None
    chunk: int = 0
    grows: bool = True

    def payload(self) -> PiecePayload:
        text = "".join(self.texts)
        if self.begin is not None and not self.grows:
            return {"part": self.part, "begin": self.begin}
        if self.begin is not None:
            return {"part": self.part, "begin": {**self.begin, "chunks": [text] if text else []}}
        return {"part": self.part, "chunk": self.chunk, "text": text}


class ReplyBuilder:
    """The parts of one reply, as far as the model has produced them.

    The reply has steps, one more after each round of tools. `_open` is the part that further text of its kind
    continues. `_calls` are the calls of this step, and `_running` the parts of those that an agent runs, by its ids for
    them; `_noted` are all parts that were ever in `_running`. `_answered`: one of them has ended, so what follows
    belongs to the next step, unless that part is older than `_first`, the first part that this run may add. `waiting`:
    a call needs approval or a window to run it. `_chunks` counts the chunks of each part. `_entries` is the opaque data
    gathered so far, `_sent` the number of entries before it, and `_opaque` the newest data of each call.

    `provider` is where the opaque data comes from; None if it is not to be kept.
    """

    def __init__(self, key: str, reply: str, provider: str | None) -> None:
        self._key, self._reply, self._provider = key, reply, provider
        self._step = 0
        self._open: tuple[str, int] | None = None
        self._calls = Calls()
        self._running: dict[str, int] = {}
        self._noted: set[int] = set()
        self._answered = False
        self._first = 0
        self.waiting = False
        self._ids: set[str] = set()
        self._halves: dict[str | int, str] = {}
        self._chunks: list[int] = []
        self._entries: list[Entry] = []
        self._sent = 0
        self._opaque: dict[int, str] = {}
        self._stretches: list[_Stretch] = []
        self._actions: list[Action] = []
        self._size = 0

    @classmethod
    def continuing(cls, key: str, message: Message, provider: str | None, entries: int) -> Self:
        """The builder of a reply that has waited. New pieces belong to its next step.

        `message` is the reply so far, `entries` the number of its entries of opaque data.
        """
        builder = cls(key, message["id"], provider)
        builder._resume(message["parts"], entries)
        builder._step += 1
        return builder

    @classmethod
    def beginning_with(cls, key: str, reply: str, parts: Sequence[Part], provider: str | None, entries: int) -> Self:
        """The builder of a reply that begins with these parts of another one. New text continues the last part.

        `entries` is the number of its entries of opaque data.
        """
        builder, last = cls(key, reply, provider), len(parts) - 1
        builder._resume(parts, entries)
        if parts[last]["type"] == "tool":  # the model answers its outcome
            builder._step += 1
        if parts[last]["type"] == "text":
            builder._open = ("text", last)
        return builder

    def _resume(self, parts: Sequence[Part], entries: int) -> None:
        """Takes over the parts so far, in their last step."""
        self._chunks, self._first, self._sent = [0] * len(parts), len(parts), entries
        self._step = max((part.get("step", 0) for part in parts), default=-1)
        tools = {part["call"]: index for index, part in enumerate(parts) if part["type"] == "tool"}
        self._ids = set(tools)
        self._running = {id: index for id, index in tools.items() if parts[index]["status"] == "running"}
        self._noted = set(tools.values())
        grown = (part for part in parts if part["type"] in GROWING)
        self._size = PART_SIZE * len(parts) + sum(len(full_text(part)) for part in grown)

    def __bool__(self) -> bool:
        """Whether there is something to take."""
        return bool(self._stretches or self._actions or self._entries)

    @property
    def empty(self) -> bool:
        """Whether the reply has no part yet."""
        return not self._chunks

    @property
    def step(self) -> int:
        """The number of the step, counted from 0 over all runs of the reply."""
        return self._step

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
            self._continue(self._open[1], text)
        else:
            self._open = (kind, self._begin({"type": kind, "text": ""}, text))

    def call(self, piece: CallPiece) -> None:
        """Begins a tool call, or adds to its arguments. Raises ModelFailed if it cannot be one, or is one too many."""
        self._follow()
        name = cleaned(piece.name)[:MAX_NAME]
        part = self._calls.continued_by(piece, name)
        if part is None:
            part = self._begin_call(piece, name)
        elif arguments := self._whole(part, self._calls.adds(piece, part)):
            self._continue(part, arguments)
        if piece.opaque and self._opaque.get(part) != piece.opaque:  # some providers repeat it with every piece
            self._opaque[part] = piece.opaque
            self._keep({"step": self._step, "part": part, "data": piece.opaque})

    def _begin_call(self, piece: CallPiece, name: str) -> int:
        if not name:
            raise ModelFailed("failed", "A tool was called without a name.")
        if len(self._calls) == MAX_CALLS:
            raise ModelFailed("failed", "Too many tools were called at once.")
        self._open = None
        index = len(self._chunks)
        call = Call(id=self._unique_id(cleaned(piece.id)[:MAX_NAME]), name=name)
        self._calls.begin(index, piece, call)
        part = {"type": "tool", "call": call.id, "name": call.name, "arguments": "", "status": "streaming"}
        return self._begin(part, self._whole(index, piece.arguments))

    def opaque(self, data: str) -> None:
        """Keeps data that the provider wants back with this answer. Raises ModelFailed if it is too long."""
        self._keep({"step": self._step, "data": data})

    def _keep(self, entry: Entry) -> None:
        if self._provider is not None:
            self._count(PART_SIZE + len(entry["data"]))
            self._entries.append(entry)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > MAX_SIZE:
            raise ModelFailed("too_long", "The reply is too long.")

    def _whole(self, stream: str | int, text: str) -> str:
        """The text without a trailing half of a surrogate pair, which waits for the other half in the next piece."""
        text = self._halves.pop(stream, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self._halves[stream] = text[:-1], text[-1]
        return text

    def _unique_id(self, given: str) -> str:
        """The given id, unless it is empty or taken: some providers send no ids, or the same ones in each step."""
        id = given if given and given not in self._ids else short_id(self._reply, len(self._chunks))
        self._ids.add(id)
        return id

    @property
    def calls(self) -> Mapping[int, Call]:
        """The tool calls of this step so far, by their parts."""
        return self._calls.by_part

    def called(self, needed: Mapping[int, Approval], offered: Sequence[int] = ()) -> None:
        """Ends the step: its tool calls are complete. They run now, except for those that need approval or run in a
        window.
        """
        running = [part for part in self._calls if part not in needed and part not in offered]
        self._settle()
        if running:
            self._actions.append(conversation.called(self._key, reply=self._reply, parts=running))
        self._request(needed)
        if offered:
            self.waiting = True
            self._actions.append(approvals.offered(self._key, reply=self._reply, parts=list(offered)))
        self._next_step()

    def _request(self, needed: Mapping[int, Approval]) -> None:
        if needed:
            self.waiting = True
            requests = [_request(part, approval) for part, approval in needed.items()]
            self._actions.append(approvals.requested(self._key, reply=self._reply, requests=requests))

    def _next_step(self) -> None:
        self._calls, self._answered = Calls(), False
        self._step, self._open = self._step + 1, None
        self._halves.clear()

    def _follow(self) -> None:
        """Before a piece of an agent: what follows the outcome of a call belongs to the next step."""
        if self._answered:
            self._note_calls()
            self._next_step()

    # what an agent does itself

    def use(self, id: str, name: str, arguments: Mapping[str, Any], approval: Approval | None = None) -> None:
        """The agent runs a tool, or will run it once somebody has approved the call. Raises ModelFailed, NotJSON.

        A call that is already running may turn out to need approval.
        """
        if approval is not None:
            self._note_calls()
        if approval is not None and id in self._running:
            self._settle()
            self._request({self._running.pop(id): approval})
            return
        if approval is not None and id in self._ids:  # nobody could tell which call was approved
            raise ModelFailed("failed", "The agent asked for approval under the id of another call.")
        if id in self._running:
            raise ModelFailed("failed", "The agent called two tools under one id.")
        self._follow()
        text = orjson.dumps(plain(arguments)).decode()
        part = self._begin_call(CallPiece(id=id, name=name, arguments=text), cleaned(name)[:MAX_NAME])
        self._noted.add(part)
        self._settle()
        if approval is not None:
            self._request({part: approval})
            return
        self._actions.append(conversation.called(self._key, reply=self._reply, parts=[part]))
        self._running[id] = part

    def result(self, id: str, outcome: ToolOutcome) -> None:
        """A tool that the agent runs has ended: one of `use`, or one that a model has called. Raises ModelFailed."""
        self._note_calls()
        part = self._running.pop(id, None)
        if part is None:
            raise ModelFailed("failed", "The agent gave a result for a tool call that is not running.")
        self._count(len(orjson.dumps(outcome)))
        self._settle()
        self._actions.append(conversation.called(self._key, reply=self._reply, parts=[part]))
        self.returned(part, outcome)
        self._answered = self._answered or part >= self._first

    def _note_calls(self) -> None:
        """The calls of a model that the agent may have run: their results may come in later steps."""
        for id, part in self._calls.named.items():
            if part not in self._noted:
                self._noted.add(part)
                self._running[id] = part

    def whole(self, part: Mapping[str, Any]) -> None:
        """Adds a part that does not grow. Raises ModelFailed, NotJSON."""
        self._follow()
        self._open = None
        step = {"step": self._step} if self._step else {}
        made = {**plain(part, KEPT_DEPTH - 1), **step}
        index = len(self._chunks)
        self._chunks.append(0)
        size = PART_SIZE + len(orjson.dumps(made))
        self._add(size, _Stretch(part=index, begin=made, texts=[], grows=False), "")

    def queued(self) -> None:
        """The run waits for its turn."""
        self._actions.append(queueing.queued(self._key, reply=self._reply))

    def began(self) -> None:
        """The run has waited, and begins now."""
        self._actions.append(queueing.began(self._key, reply=self._reply))

    def status(self, text: str) -> None:
        """Says what the agent is doing. Raises ModelFailed if it says so too often."""
        self._count(PART_SIZE)
        self._settle()
        told = conversation.progressed(self._key, reply=self._reply, status=cleaned(text)[:MAX_STATUS])
        if self._actions and self._actions[-1].type == told.type:  # nobody has seen the last one
            self._actions.pop()
        self._actions.append(told)

    def returned(self, part: int, outcome: ToolOutcome) -> None:
        """Adds the outcome of a tool call."""
        self._settle()
        self._actions.append(conversation.returned(self._key, reply=self._reply, part=part, outcome=outcome))

    def take(self) -> list[Action]:
        """The actions that have gathered, in order. They count as dispatched from now on."""
        self._settle()
        actions, self._actions = self._actions, []
        if self._entries and self._provider is not None:
            entries, self._entries = self._entries, []
            actions.append(
                provider.sent(self._key, reply=self._reply, provider=self._provider, first=self._sent, entries=entries)
            )
            self._sent += len(entries)
        return actions

    def _settle(self) -> None:
        """Makes one action of the text that has gathered, so that other actions can follow it."""
        if self._stretches:
            pieces = [stretch.payload() for stretch in self._stretches]
            self._actions.append(conversation.grew(self._key, reply=self._reply, pieces=pieces))
            self._stretches = []

    def _begin(self, part: dict[str, Any], first: str) -> int:
        index = len(self._chunks)
        self._chunks.append(1 if first else 0)
        step = {"step": self._step} if self._step else {}
        self._add(PART_SIZE, _Stretch(part=index, begin={**part, **step}, texts=[]), first)
        return index

    def _continue(self, part: int, text: str) -> None:
        """Adds to a part: to the newest stretch if that belongs to it, otherwise as a new chunk."""
        last = self._stretches[-1] if self._stretches else None
        if last is not None and last.part == part and last.texts:
            self._add(0, last, text)
        else:
            self._add(0, _Stretch(part=part, chunk=self._chunks[part], texts=[]), text)
            self._chunks[part] += 1

    def _add(self, size: int, stretch: _Stretch, text: str) -> None:
        self._count(size + len(text))
        if not self._stretches or self._stretches[-1] is not stretch:
            self._stretches.append(stretch)
        if text:
            text = cleaned(text)
            stretch.texts.append(text)
            if (call := self._calls.by_part.get(stretch.part)) is not None:
                call.texts.append(text)


def _request(part: int, approval: Approval) -> RequestPayload:
    request: RequestPayload = {"part": part}
    if approval.role is not None:
        request["role"] = approval.role
    if approval.seconds is not None:
        request["seconds"] = approval.seconds
    return request


def cleaned(text: str) -> str:
    """Text without lone halves of surrogate pairs, which the state cannot hold; two halves become one character."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
