"""A stream of AG-UI: the run that was asked for, and where it is followed, every further one.

A stream that follows shows each reply as a run, whoever asked, and what changes between replies as a short run with
nothing else in it, because the protocol has no events outside of runs.

Invariants: the next run is begun where the chat shows another message than the last run did. A reply that came and went
between two looks is in the messages with which that run begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statestream.chat.messages import State, find, streaming
from statestream.chat.projections.ag_ui.messages import Event
from statestream.chat.projections.ag_ui.run import SUCCESS, VERSION, RunProjection, error


class ThreadProjection:
    """One viewer of one chat, who holds messages of the ids `held`. `new` may be asked until it is `over`."""

    def __init__(self, thread: str, run: str, *, held: Sequence[str] = (), follow: bool = False) -> None:
        self._thread, self._asked, self._held, self._follow = thread, run, held, follow
        self._reply: str | None = None
        self._refusal: list[Event] = []
        self._run: RunProjection | None = None
        self._begun = False
        self._shown: str | None = None
        self._short_runs = 0

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._begun and self._run is None and not self._follow

    def show(self, reply: str | None) -> None:
        """The run that was asked for is that reply; where it is None, the one that is being made, if there is one."""
        self._reply = reply

    def refuse(self, code: str, sentence: str) -> None:
        """There is no run that was asked for. Who follows sees what else there is."""
        self._refusal = [error(code, sentence)]

    def broken_off(self) -> list[Event]:
        """The stream has to end now: a run that is under way says so."""
        run, self._run = self._run, None
        return [] if run is None else [run.failed("unavailable", "The server is stopping; join again in a moment.")]

    def new(self, state: State, beside: list[Event]) -> list[Event]:
        """The events behind what was given before; `beside` is what is new of the slices."""
        events, self._refusal = self._refusal, []
        if events:
            self._begun = True
        elif not self._begun:
            making = streaming(state)
            reply = self._reply if self._reply is not None or making is None else making["id"]
            events = self._begin(self._asked, reply, state)
        if self._run is not None:
            events += self._go_on(state, beside)
            beside = []
        while self._run is None and self._follow and state.get("leaf") != self._shown:
            leaf = find(state, state.get("leaf"))
            run = self._short_id() if leaf is None or "run" not in leaf else leaf["run"]["id"]
            events += [*self._begin(run, state.get("leaf"), state), *self._go_on(state, beside)]
            beside = []
        if beside and self._run is None:
            events += self._short_run(beside)
        return events

    def _begin(self, run: str, reply: str | None, state: State) -> list[Event]:
        self._begun, self._shown = True, state.get("leaf")
        self._run = RunProjection(self._thread, run, reply)
        held, self._held = self._held, ()
        return self._run.begin(state, held)

    def _go_on(self, state: State, beside: list[Event]) -> list[Event]:
        """What is new of the run; the slices before it, because it may end."""
        run = self._run
        if run is None:
            return []
        events = [*beside, *run.new(state)]
        if run.over:
            self._run = None
        return events

    def _short_id(self) -> str:
        self._short_runs += 1
        return f"{self._asked}:{self._short_runs}"

    def _short_run(self, events: list[Event]) -> Iterator[Event]:
        ids = {"threadId": self._thread, "runId": self._short_id()}
        yield {"type": "RUN_STARTED", **ids, "protocolVersion": VERSION}
        yield from events
        yield {"type": "RUN_FINISHED", **ids, "outcome": SUCCESS}
