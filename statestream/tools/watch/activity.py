"""What a server has sent: the newest frames, how many per second, and what changed where.

Invariants: it receives frames as they arrive, so it does little for each and never draws. What it keeps is bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from msgspec import Struct

from statestream.client.replica import Replica, Update
from statestream.core.patch import Op, diff
from statestream.protocol.sse import Event
from statestream.tools.watch.change_marks import Marks

LOG_SIZE: Final = 200
RATE_SECONDS: Final = 2.0
STEP_SECONDS: Final = 0.1
MAX_COMPARED: Final = 8_192
"""Bytes of a frame up to which a new value is compared with the old one, to mark what is new in it."""
QUIET_EVENTS: Final = ("heartbeat",)
FIRST_EVENTS: Final = ("state.initial", "state.resumed")


class LogEntry(Struct, frozen=True, kw_only=True):
    """A frame in the log. `what` describes it unless it is a patch of one slice."""

    at: int
    position: str
    slice: str
    cause: Mapping[str, Any] | None
    size: int
    what: str = ""
    patches: Sequence[Op] = ()
    value: Any = None


class Rate:
    """Changes and bytes per second, over the last two seconds."""

    def __init__(self) -> None:
        self._steps: deque[list[float]] = deque()

    def add(self, now: float, count: int, size: int) -> None:
        if self._steps and now - self._steps[-1][0] < STEP_SECONDS:
            self._steps[-1][1] += count
            self._steps[-1][2] += size
        else:
            self._steps.append([now, count, size])
        self._drop(now)

    def at(self, now: float) -> tuple[float, float]:
        """Returns (changes, bytes) per second."""
        self._drop(now)
        return sum(s[1] for s in self._steps) / RATE_SECONDS, sum(s[2] for s in self._steps) / RATE_SECONDS

    def _drop(self, now: float) -> None:
        while self._steps and self._steps[0][0] <= now - RATE_SECONDS:
            self._steps.popleft()


class Activity:
    """`opened_with` is how the last stream began: `start`, `resumed`, `lagged` …; `log` has the newest frame first."""

    def __init__(self, replica: Replica) -> None:
        self.marks, self.rate = Marks(), Rate()
        self.log: deque[LogEntry] = deque(maxlen=LOG_SIZE)
        self.opened_with, self.received_at = "", 0.0
        self._replica, self._before = replica, replica.state

    def received(self, event: Event, updates: Sequence[Update], now: float) -> None:
        """The replica has just applied this frame."""
        before, self._before = self._before, self._replica.state
        if event.event in QUIET_EVENTS:
            return
        size = len(event.data) if event.data.isascii() else len(event.data.encode())
        self.received_at = now
        if event.event in FIRST_EVENTS:
            self.opened_with = next((update.reason for update in updates if update.reason), "resumed")
        for update in updates:
            self._mark(update, before, size, now)
        changes = sum(update.kind != "initial" for update in updates)
        self.rate.add(now, changes, size)
        self._note(event, updates, size)

    def _mark(self, update: Update, before: Mapping[str, Any], size: int, now: float) -> None:
        name = update.slice
        if name is None:
            self.marks = Marks()
        elif update.kind == "removed":
            self.marks.drop([name])
        elif name not in before:
            self.marks.touch([name], "added", now)
        elif update.kind == "patches":
            self.marks.patched(name, self._replica.state.get(name), update.patches, now)
        elif size > MAX_COMPARED:
            self.marks.touch([name], "changed", now)
        else:
            after = self._replica.state.get(name)
            self.marks.patched(name, after, diff(before[name], after), now)

    def _note(self, event: Event, updates: Sequence[Update], size: int) -> None:
        first = updates[0] if updates else None
        stamp = first.timestamp if first else _stamp(event)
        if event.event == "state.update" and first is not None and first.slice is not None:
            value = self._replica.state.get(first.slice) if first.kind == "value" else None
            self.log.appendleft(
                LogEntry(
                    at=stamp,
                    position=first.position,
                    slice=first.slice,
                    cause=first.cause,
                    size=size,
                    what="" if first.kind == "patches" else first.kind,
                    patches=first.patches,
                    value=value,
                )
            )
            return
        if event.event == "state.update":
            return  # the replica had it already
        self.log.appendleft(
            LogEntry(
                at=stamp, position=event.last_id, slice="", cause=None, size=size, what=self._describe(event, updates)
            )
        )

    def _describe(self, event: Event, updates: Sequence[Update]) -> str:
        if event.event == "state.initial":
            return f"the whole state: {self.opened_with}"
        if event.event == "state.resumed":
            return "resumed where it was interrupted"
        if event.event == "stream.end" and self._replica.end is not None:
            return f"the server ended the stream: {self._replica.end.reason}"
        if event.event == "state.catchup":
            return f"caught up on changes of {len(updates):,} slices"
        return event.event


def _stamp(event: Event) -> int:
    """When it was sent, in Unix ms; 0 if it does not contain that."""
    stamp = orjson.loads(event.data).get("timestamp")
    return stamp if isinstance(stamp, int) else 0
