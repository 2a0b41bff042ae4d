"""A chat as a stream of AG-UI: the run that was asked for and, if the client follows the chat, every further one.

A stream that follows shows each reply as a run, whoever asked for it. Changes between replies become a short run with
nothing else in it, because the protocol has no events outside of runs. The slices beside the chat are the protocol's
state: one object, with a member for each slice, by its full name.

Invariants: the next run begins when the chat shows a different message than at the last run, or when a reply that has
waited continues or ends. A reply that came and went between two looks is in the messages with which that run begins. A
viewer's place in the state is the slices that were shown last, which share everything unchanged with those of today.
What is new is their difference, however many changes have led to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from statestream.chat.messages import State, find, is_queued, reply_to, unfinished
from statestream.chat.protocols.ag_ui.messages import MAX_SNAPSHOT, Event, Held
from statestream.chat.protocols.ag_ui.run_events import SUCCESS, RunEvents, error_event, started
from statestream.chat.questions import REMOVED
from statestream.chat.shared_state import MARKS, SharedState, mark
from statestream.chat.viewing.projection import Beside, Item, Look
from statestream.core.change import SliceState
from statestream.core.errors import TooLarge
from statestream.core.patch import Op, diff
from statestream.core.values import escape

STOPPING: Final = "The server is stopping; join again in a moment."


class StateEvents:
    """The state of one viewer. The slices that are `shared` have marks, which the viewer sends back."""

    def __init__(self, shared: SharedState) -> None:
        self._shared = shared
        self._shown: dict[str, SliceState] = {}

    def new(self, beside: Beside) -> list[Event]:
        """The events for slices of one look. Raises TooLarge."""
        if beside.whole:
            self._shown = {name: state for name, state in beside.slices.items() if state is not None}
            check_size(self._shown)
            members: dict[str, Any] = {name: orjson.Fragment(state.encoded()) for name, state in self._shown.items()}
            if self._shared:
                members[MARKS] = {name: mark(state) for name, state in self._shown.items() if self._shared.has(name)}
            return [{"type": "STATE_SNAPSHOT", "snapshot": members}]
        delta = [op for name in sorted(beside.slices) for op in self._difference(name, beside.slices[name])]
        return [{"type": "STATE_DELTA", "delta": delta}] if delta else []

    def _difference(self, name: str, after: SliceState | None) -> list[Op]:
        before = self._shown.pop(name, None)
        path = f"/{escape(name)}"
        paths = [path, f"/{MARKS}{path}"] if self._shared.has(name) else [path]
        if after is None:
            return [] if before is None else [{"op": "remove", "path": each} for each in paths]
        self._shown[name] = after
        marked: list[Op] = [{"op": "add", "path": each, "value": mark(after)} for each in paths[1:]]
        if before is None:
            return [{"op": "add", "path": path, "value": after.value}, *marked]
        return [*diff(before.value, after.value, path), *marked]


def check_size(slices: Mapping[str, SliceState]) -> None:
    """Raises TooLarge if the protocol's client would reject so much at once."""
    if sum(len(state.encoded()) for state in slices.values()) > MAX_SNAPSHOT:
        raise TooLarge(f"the slices exceed {MAX_SNAPSHOT >> 20} MiB in all; select fewer")


class ThreadProjection:
    """One viewer of one chat, who holds messages of the ids `held`. `early`: they speak a version before 1.0.

    `shared` are the slices that the viewer may set.
    """

    truncated = False  # a run that cannot be finished says so itself

    def __init__(
        self,
        thread: str,
        run: str,
        *,
        held: Sequence[str] = (),
        follow: bool = False,
        early: bool = False,
        shared: SharedState | None = None,
    ) -> None:
        self._thread, self._asked, self._follow, self._early = thread, run, follow, early
        self._held = Held(ids=held)
        self._left: State | None = None
        """What the client has after the last run."""
        self._reply: str | None = None
        self._question: str | None = None
        """The question of the requested run, as long as it is queued."""
        self._kept: list[Event] = []
        """What is new of the slices since then."""
        self._refusal: list[Event] = []
        self._run: RunEvents | None = None
        self._slices = StateEvents(shared or SharedState())
        self._conflict: tuple[str, str] | None = None
        self._begun = self._late = False
        self._shown: _Made = (None, None, False)
        """What the chat showed when the last run began or ended."""
        self._short_runs = 0

    @property
    def over(self) -> bool:
        return self._begun and self._run is None and not self._follow

    def show(self, reply: str | None, *, late: bool = False) -> None:
        """Sets the reply of the requested run. None stands for the reply that is in progress or waiting, if there is
        one. `late`: the reply was begun by somebody else, or before.
        """
        self._reply, self._late = reply, late

    def wait_for(self, question: str) -> None:
        """The requested run begins once a question is asked that is queued now."""
        self._question = question

    def refuse(self, code: str, sentence: str) -> None:
        """The run that was asked for is refused. A client that follows is shown everything else."""
        self._refusal = [error_event(code, sentence)]

    def contradict(self, code: str, sentence: str) -> None:
        """The run that was asked for is refused because of the client's state. The client gets that of the server."""
        self._conflict = code, sentence

    def new(self, look: Look) -> list[Item]:
        """The events that follow those of the last look."""
        beside = [] if look.beside is None else self._slices.new(look.beside)
        if self._is_queued(look.state):
            self._kept += beside
            return [error_event("unavailable", STOPPING)] if look.last else []
        self._kept, beside = [], [*self._kept, *beside]
        events = self._events(look.state, beside)
        if look.last and self._run is not None:
            run, self._run = self._run, None
            events.append(run.failed("unavailable", STOPPING))
        return [*events]

    def _is_queued(self, state: State) -> bool:
        """Whether the requested run cannot begin yet. If its question was removed, the run is refused."""
        if self._question is None:
            return False
        if is_queued(state, self._question):
            return True
        reply = reply_to(state, self._question)
        self._question = None
        if reply is None:
            self.refuse(*REMOVED)
        else:
            self.show(str(reply["id"]))
        return False

    def _events(self, state: State, beside: list[Event]) -> list[Event]:
        """`beside` are the events of the slices, which belong into a run."""
        events, self._refusal = self._refusal, []
        if self._conflict is not None:
            (code, sentence), self._conflict = self._conflict, None
            events, beside = [started(self._thread, self._asked), *beside, error_event(code, sentence)], []
        if events:
            self._begun = True
        elif not self._begun:
            current = unfinished(state)
            reply = self._reply if self._reply is not None or current is None else current["id"]
            events = self._begin(self._asked, reply, state)
        if self._run is not None:
            events += self._continue(self._run, state, beside)
            beside = []
        while self._run is None and self._follow and _made(state) != self._shown:
            leaf = find(state, state.get("leaf"))
            known = leaf is None or "run" not in leaf or leaf["run"]["id"] == self._shown[1]
            run_id = self._short_id() if leaf is None or known else leaf["run"]["id"]
            events += self._begin(run_id, state.get("leaf"), state)
            events += self._continue(self._run, state, beside)
            beside = []
        return [*events, *self._short_run(beside)] if beside and self._run is None else events

    def _begin(self, run_id: str, reply: str | None, state: State) -> list[Event]:
        self._begun, self._shown = True, _made(state)
        self._run, self._late = RunEvents(self._thread, run_id, reply, early=self._early, late=self._late), False
        return self._run.begin(state, self._held if self._left is None else Held.all_of(self._left))

    def _continue(self, run: RunEvents | None, state: State, beside: list[Event]) -> list[Event]:
        """What is new of the run; first the slices, because the run may end."""
        if run is None:
            return []
        events = [*beside, *run.new(state)]
        if run.over:
            self._run, self._left, now = None, state, _made(state)
            if now[:2] == self._shown[:2]:  # it may wait by now, which this run has said
                self._shown = now
        return events

    def _short_id(self) -> str:
        self._short_runs += 1
        return f"{self._asked}:{self._short_runs}"

    def _short_run(self, events: list[Event]) -> list[Event]:
        ids = {"threadId": self._thread, "runId": self._short_id()}
        return [
            started(self._thread, ids["runId"]),
            *events,
            {"type": "RUN_FINISHED", **ids, "outcome": SUCCESS},
        ]


_Made = tuple[str | None, str | None, bool]


def _made(state: State) -> _Made:
    """The leaf of the chat, the run that makes or has made it, and whether it waits."""
    leaf = find(state, state.get("leaf"))
    run = None if leaf is None or "run" not in leaf else leaf["run"]["id"]
    return state.get("leaf"), run, leaf is not None and leaf["status"] == "waiting"
