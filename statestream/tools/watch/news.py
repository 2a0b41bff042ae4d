"""What has been heard from a server: the newest frames, how many a second, and what changed where.

Invariants: it takes frames in as they come, so it does little for each and never draws. What it keeps is bounded.
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
from statestream.tools.watch.marks import Marks

KEPT: Final = 200
RATE_SECONDS: Final = 2.0
STEP: Final = 0.1
WORTH_COMPARING: Final = 8_192
"""Characters of a value up to which it is compared with the one before, to say what in it is new."""
QUIET: Final = ("heartbeat",)
OPENINGS: Final = ("state.initial", "state.resumed")


class Entry(Struct, frozen=True, kw_only=True):
    """A frame of the log. `what` says what it did where it is no change of a single slice."""

    at: int
    position: str
    slice: str
    cause: Mapping[str, Any] | None
    size: int
    what: str = ""
    patches: Sequence[Op] = ()
    value: Any = None


class Rate:
    """How many a second, over the last two."""

    def __init__(self) -> None:
        self._steps: deque[list[float]] = deque()

    def add(self, now: float, count: int, size: int) -> None:
        if self._steps and now - self._steps[-1][0] < STEP:
            self._steps[-1][1] += count
            self._steps[-1][2] += size
        else:
            self._steps.append([now, count, size])
        self._drop(now)

    def at(self, now: float) -> tuple[float, float]:
        """(changes, bytes) a second."""
        self._drop(now)
        return sum(s[1] for s in self._steps) / RATE_SECONDS, sum(s[2] for s in self._steps) / RATE_SECONDS

    def _drop(self, now: float) -> None:
        while self._steps and self._steps[0][0] <= now - RATE_SECONDS:
            self._steps.popleft()


class News:
    """`opening` says how the last stream began: `start`, `resumed`, `lagged` …; `log` has the newest frame first."""

    def __init__(self, replica: Replica) -> None:
        self.marks, self.rate = Marks(), Rate()
        self.log: deque[Entry] = deque(maxlen=KEPT)
        self.opening, self.heard_at = "", 0.0
        self._replica, self._before = replica, replica.state

    def heard(self, event: Event, updates: Sequence[Update], now: float) -> None:
        """A frame that the replica has just applied."""
        before, self._before = self._before, self._replica.state
        if event.event in QUIET:
            return
        size = len(event.data) if event.data.isascii() else len(event.data.encode())
        self.heard_at = now
        if event.event in OPENINGS:
            self.opening = next((update.reason for update in updates if update.reason), "resumed")
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
        elif size > WORTH_COMPARING:
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
                Entry(
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
            return  # it was known already
        self.log.appendleft(
            Entry(at=stamp, position=event.last_id, slice="", cause=None, size=size, what=self._said(event, updates))
        )

    def _said(self, event: Event, updates: Sequence[Update]) -> str:
        if event.event == "state.initial":
            return f"the whole state: {self.opening}"
        if event.event == "state.resumed":
            return "resumed where it was lost"
        if event.event == "stream.end" and self._replica.end is not None:
            return f"the server ended the stream: {self._replica.end.reason}"
        if event.event == "state.catchup":
            return f"caught up with what was missed in {len(updates):,} slices"
        return event.event


def _stamp(event: Event) -> int:
    """When it was sent; 0 where it does not say."""
    stamp = orjson.loads(event.data).get("timestamp")
    return stamp if isinstance(stamp, int) else 0
